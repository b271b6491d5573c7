//! Objects that only the hash of all their bytes proves (SHA-256 lists such as PeerTube's).
//!
//! Pieces are exchanged as ever, but their list comes without a proof: from a neighbour, or made of what HTTP brought. It is
//! relied on *for now*. Nothing is announced, given away or delivered before the host has found that the whole object has
//! the right SHA-256; from then on the list is the truth, and the object is like any other.
//!
//! Blame stays certain. Pieces that all fit a list whose whole is wrong prove that the list was a lie. Where word stands against
//! word before that (a piece misses the list: which of them is wrong?), everything that hangs on the list is dropped, what each
//! side said is written down, and judged when another copy has brought the truth.

use super::{
    Swarm,
    action::{Action, CloseReason, Object, Peer, Refused, Source},
    bitfield::Bitfield,
    object::{List, Origin},
};
use crate::{config, ids::Millis, pieces::Cv};

/// State of an object while nothing proves it.
#[derive(Debug, Default)]
pub(crate) struct Unproven {
    /// Who gave the list that is relied on: a neighbour, or the transfer that brought the whole.
    pub(crate) giver: Option<Source>,
    /// The question to the host that is open.
    pub(crate) check: Option<u32>,
    /// What neighbours said that was contradicted.
    said: Vec<Said>,
}

/// Hashes that a neighbour gave (a list) or sent the bytes of (a piece).
#[derive(Debug)]
struct Said {
    peer: Peer,
    what: Refused,
    first: u32,
    hashes: Vec<Cv>,
}

impl Swarm {
    /// The SHA-256 (32 bytes) of the object that [`Action::Check`] asked for by the name `check`.
    pub fn checked(&mut self, now: Millis, check: u32, digest: &[u8]) {
        self.touch(now);
        let asked =
            |entry: &super::Entry| entry.unproven.as_ref().is_some_and(|unproven| unproven.check == Some(check));
        // None if its pieces are not held any more.
        let Some((object, entry)) = self.objects.iter().find(|(_, entry)| asked(entry)) else { return };
        if entry.root.0 == digest {
            self.proven(object);
        } else {
            self.disproved(object);
        }
    }

    /// All pieces are here.
    pub(super) fn ask_for_check(&mut self, object: Object) {
        let check = self.next_check;
        let entry = self.objects.get_mut(object);
        let size = entry.size;
        if let Some(unproven) = &mut entry.unproven
            && unproven.check.is_none()
        {
            unproven.check = Some(check);
            self.next_check = check.wrapping_add(1);
            self.actions.push_back(Action::Check { object, size, check });
        }
    }

    fn proven(&mut self, object: Object) {
        let entry = self.objects.get_mut(object);
        let Some(unproven) = entry.unproven.take() else { return };
        entry.origin = Origin::Fits;
        self.verified += u64::from(entry.count);
        self.news.get_or_insert_with(object, Bitfield::default);
        self.deliver(object);
        for said in unproven.said {
            let list = self.entry(object).known_list().unwrap_or_default();
            let right = list.get(said.first as usize..).is_some_and(|rest| rest.starts_with(&said.hashes));
            if !right {
                self.blame(said.peer, object, said.what);
            }
        }
    }

    /// The whole has another hash, though every piece fits the list.
    fn disproved(&mut self, object: Object) {
        let entry = self.entry(object);
        let (suspect, own_origin) = (entry.origin == Origin::Suspect, entry.place.own_origin);
        let giver = entry.unproven.as_ref().and_then(|unproven| unproven.giver);
        match giver {
            Some(Source::Peer(peer, _)) => {
                self.take_back(object);
                self.blame(peer, object, Refused::List);
            }
            Some(source @ Source::Fetch(_)) => {
                self.refused += 1;
                self.actions.push_back(Action::Refused { source, object, what: Refused::Object });
                if suspect {
                    // The second copy, past the caches: as with any other hash, the playlist's own origin has the last word.
                    self.origin_differs(object, None);
                } else {
                    self.objects.get_mut(object).origin = Origin::Suspect;
                }
                let wasted = self.bytes.wasted;
                self.take_back(object);
                if suspect && own_origin {
                    self.bytes.wasted = wasted; // played
                }
            }
            None => {}
        }
    }

    /// HTTP, or the piece of a neighbour, misses a list that nothing proves.
    pub(super) fn contradicted(&mut self, object: Object, by: Option<(Peer, u32, Cv)>) {
        let entry = self.entry(object);
        let giver = entry.unproven.as_ref().and_then(|unproven| unproven.giver);
        if let Some((peer, piece, cv)) = by {
            self.write_down(object, Said { peer, what: Refused::Piece, first: piece, hashes: vec![cv] });
        }
        // What HTTP brought whole is about to be checked.
        if let Some(Source::Peer(peer, _)) = giver {
            if by.is_some() {
                self.abort_transfers_of(object);
            }
            let hashes = self.take_back(object);
            self.write_down(object, Said { peer, what: Refused::List, first: 0, hashes });
        }
    }

    /// Whoever is contradicted is not asked for this object any more.
    fn write_down(&mut self, object: Object, said: Said) {
        if let Some(neighbour) = self.neighbours.get_mut(&said.peer) {
            neighbour.has.remove(&object);
        }
        if let Some(unproven) = &mut self.objects.get_mut(object).unproven
            && unproven.said.len() < config::MAX_SAID
        {
            unproven.said.push(said);
        }
    }

    /// Forgets a list that nothing proves, and every piece that hangs on it: here, and on its way from neighbours.
    fn take_back(&mut self, object: Object) -> Vec<Cv> {
        let entry = self.objects.get_mut(object);
        if let Some(unproven) = &mut entry.unproven {
            unproven.giver = None;
        }
        self.bytes.wasted += entry.held_bytes();
        entry.brought = [0; 4];
        let list = std::mem::replace(&mut entry.list, List::Missing { http_failed: true });
        let count = entry.count;
        self.evict(object);
        for piece in 0..count {
            self.call_off(object, piece);
        }
        match list {
            List::Known(list) => list,
            _ => Vec::new(),
        }
    }

    /// Bans a neighbour for what it is proven to have said.
    pub(super) fn blame(&mut self, peer: Peer, object: Object, what: Refused) {
        let reason = if what == Refused::List { CloseReason::WrongList } else { CloseReason::WrongPiece };
        self.refused += 1;
        self.actions.push_back(Action::Refused { source: Source::Peer(peer, 0), object, what });
        self.close(peer, reason);
    }
}
