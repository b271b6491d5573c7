//! Signed playlists, asked of neighbours when the origin does not give them. The core carries them; whether a signature fits is
//! for the host to say, which knows the key that the page pins.

use super::{
    Swarm,
    action::{Action, Peer},
};
use crate::{
    config,
    ids::{MAX_PLAYLIST_SIZE, Millis},
    wire::{Control, MAX_NAME_LEN, MAX_TEXT_PART, PeerKind},
};

/// A playlist that is looked for.
#[derive(Debug)]
pub(super) struct WantedText {
    name: String,
    /// Who was asked last, and when.
    asked: Option<(Peer, Millis)>,
    /// Who was asked before: they have none, or none that is of use.
    tried: Vec<Peer>,
    parts: Vec<u8>,
    /// The host judges what came.
    whole: bool,
    /// The host was told that nobody is left to ask.
    told: bool,
}

impl Swarm {
    /// Looks for the signed playlist of this NAME: neighbours are asked one after another, mirrors and edges first, and those
    /// that come later, until [`Swarm::settle_text`]. Asked again while it is looked for: what came was of no use, and the
    /// next one is asked.
    pub fn want_text(&mut self, now: Millis, name: &str) {
        self.touch(now);
        if let Some(wanted) = self.texts.iter_mut().find(|wanted| wanted.name == name) {
            wanted.next();
        } else if name.len() <= MAX_NAME_LEN && self.texts.len() < config::MAX_TEXTS {
            let (name, tried, parts) = (name.to_owned(), Vec::new(), Vec::new());
            self.texts.push(WantedText { name, asked: None, tried, parts, whole: false, told: false });
        }
    }

    /// It is here, or not wanted any more.
    pub fn settle_text(&mut self, name: &str) {
        self.texts.retain(|wanted| wanted.name != name);
    }

    /// Answers [`Action::TextAsked`]; `None` if there is no such playlist here.
    pub fn give_text(&mut self, now: Millis, peer: Peer, name: &str, text: Option<&[u8]>) {
        self.now = self.now.max(now);
        let Some(neighbour) = self.neighbours.get_mut(&peer).filter(|n| n.open) else { return };
        // It is outside of the upload's limits, and far longer than the question.
        let allowed = neighbour.texts_allowed.take(now, 0);
        let text = text.filter(|text| allowed && text.len() <= MAX_PLAYLIST_SIZE).unwrap_or_default();
        neighbour.texts_allowed.take(now, text.len() as u32);
        let total = text.len() as u32;
        let mut say = |offset: u32, part: &[u8]| {
            self.send(peer, &Control::Text { name: name.to_owned(), total, offset, part: part.to_vec() });
        };
        if text.is_empty() {
            say(0, &[]);
        }
        for (part, offset) in text.chunks(MAX_TEXT_PART).zip((0u32..).step_by(MAX_TEXT_PART)) {
            say(offset, part);
        }
    }

    /// Asks whoever is next.
    pub(super) fn ask_for_texts(&mut self) {
        let now = self.now;
        let mut asks = Vec::new();
        let mut next_look = Millis::MAX;
        for wanted in &mut self.texts {
            if let Some((peer, since)) = wanted.asked {
                let until = since + config::TEXT_MS + wanted.parts.len() as Millis / config::TEXT_BYTES_PER_MS;
                if now < until && self.neighbours.contains_key(&peer) {
                    next_look = next_look.min(until);
                    continue;
                }
                wanted.next();
            }
            let left = self.neighbours.iter().filter(|(peer, n)| n.open && !wanted.tried.contains(peer));
            let next = left.min_by(|(_, a), (_, b)| {
                let order = |n: &super::Neighbour| (n.kind == PeerKind::Viewer, n.rtt.mean() as u64);
                order(a).cmp(&order(b))
            });
            if let Some((&peer, _)) = next {
                wanted.asked = Some((peer, now));
                wanted.told = false;
                next_look = next_look.min(now + config::TEXT_MS);
                asks.push((peer, wanted.name.clone()));
            } else if !std::mem::replace(&mut wanted.told, true) {
                self.actions.push_back(Action::Text { name: wanted.name.clone(), text: Vec::new() });
            }
        }
        for (peer, name) in asks {
            self.send(peer, &Control::TextGet { name });
        }
        self.wake(next_look);
    }

    /// Part of a text. Only what was asked for is taken, in order, and memory grows with what came.
    pub(super) fn text_part(&mut self, from: Peer, name: &str, total: u32, offset: u32, part: &[u8]) {
        let asked = |wanted: &&mut WantedText| {
            wanted.name == name && !wanted.whole && wanted.asked.is_some_and(|(peer, _)| peer == from)
        };
        let Some(wanted) = self.texts.iter_mut().find(asked) else { return };
        if total == 0 || wanted.parts.len() != offset as usize {
            wanted.next();
            self.soon();
            return;
        }
        wanted.parts.extend_from_slice(part);
        wanted.whole = wanted.parts.len() >= total as usize;
        if wanted.whole {
            let text = std::mem::take(&mut wanted.parts);
            self.actions.push_back(Action::Text { name: name.to_owned(), text });
        }
        // It was asked for: its bytes are no flood.
        if let Some(neighbour) = self.neighbours.get_mut(&from) {
            neighbour.control_allowed.give_back(part.len() as u32);
        }
    }
}

impl WantedText {
    /// Done with whoever was asked last.
    fn next(&mut self) {
        self.tried.extend(self.asked.take().map(|(peer, _)| peer));
        self.parts = Vec::new();
        self.whole = false;
    }
}
