//! HTTP transfers: their progress, their pieces, and what happens when the origin's bytes miss their hash.

use std::ops::Range;

use super::{
    Swarm,
    action::{Action, Fetch, Object, Refused, Source},
    bitfield::Bitfield,
    estimate::MIN_SAMPLE_BYTES,
    object::{List, Origin},
};
use crate::{
    config,
    ids::{Millis, PIECE_SIZE},
    pieces::{Cv, ListCheck, check_list},
    wire::Control,
};

/// One HTTP transfer of media (piece lists are in [`List::Fetching`]).
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) object: Object,
    /// Piece that is arriving.
    pub(super) next: u32,
    /// One past the last piece.
    pub(super) end: u32,
    pub(super) started: Millis,
    first_byte: Option<Millis>,
    bytes: u64,
    /// Of them, what came first: an adopted transfer's were there before it was ours to measure.
    at_once: u64,
    pub(super) kept: u64,
    /// Nonce and first piece of the claim that it answers.
    pub(super) claim: Option<(u32, u32)>,
    /// The second try after a miss: nothing of it is kept before all of it fits.
    trial: bool,
    /// The host began it before the swarm was there.
    adopted: bool,
    /// A mirror answers it, whose word counts for nothing.
    mirror: bool,
}

impl Transfer {
    /// Bytes that arrived and are not kept (yet).
    pub(super) fn unkept(&self) -> u64 {
        self.bytes.saturating_sub(self.kept)
    }

    /// Bytes that its pace goes by, and milliseconds that they took, once that can be told.
    fn measured(&self, now: Millis) -> Option<(u64, f64)> {
        let elapsed = now.saturating_sub(self.first_byte.unwrap_or(self.started));
        (elapsed >= config::HTTP_SAMPLE_MS).then(|| (self.bytes - self.at_once, elapsed as f64))
    }

    /// Milliseconds that a piece of it takes, and whether enough came to go by. One that brought next to nothing only says that
    /// it takes longer than until now: what held it up may be over in a moment.
    fn pace(&self, now: Millis) -> Option<(f64, bool)> {
        let (bytes, ms) = self.measured(now)?;
        Some((ms * f64::from(PIECE_SIZE) / bytes.max(MIN_SAMPLE_BYTES) as f64, bytes >= MIN_SAMPLE_BYTES))
    }

    /// Column of [`Entry::brought`](super::object::Entry::brought).
    pub(super) fn column(&self) -> usize {
        if self.mirror { 2 } else { 0 }
    }

    pub(super) fn covers(&self, piece: u32) -> bool {
        (self.next..self.end).contains(&piece)
    }
}

impl Swarm {
    /// A whole-object transfer (from piece 0) that the host began before the swarm was there; `fetch` counts from
    /// [`Fetch::ADOPTED`].
    pub fn adopt(&mut self, now: Millis, fetch: Fetch, object: Object) {
        self.touch(now);
        let entry = self.objects.get_mut(object);
        entry.asked = true;
        entry.used = now;
        let end = entry.count;
        self.transfers.insert(fetch, Transfer::new(object, 0..end, now, true));
    }

    /// Headers are in. `first_piece` is where the body begins: the asked one for a 206, 0 for a 200 (the host restarts
    /// its assembly). A 200 for a byte range of a larger resource is a failure for the host to report (`no-range`).
    pub fn fetch_response(&mut self, now: Millis, fetch: Fetch, first_piece: u32) {
        self.touch(now);
        if let Some(transfer) = self.transfers.get_mut(&fetch) {
            if first_piece == 0 && transfer.next != 0 {
                // The whole resource comes: what lies before the asked piece is wasted unless it is missing too.
                transfer.end = self.objects.get(transfer.object).count;
            }
            transfer.next = first_piece;
        }
    }

    /// A mirror answers this transfer, not the playlist's own host: say so before its bytes. If they miss their hash, they are
    /// asked for again, which the host is to do elsewhere (it hears [`Action::Refused`]).
    pub fn fetch_mirrored(&mut self, fetch: Fetch) {
        if let Some(transfer) = self.transfers.get_mut(&fetch) {
            transfer.mirror = true;
        }
    }

    /// Payload bytes arrived.
    pub fn fetch_progress(&mut self, now: Millis, fetch: Fetch, bytes: u32) {
        self.now = self.now.max(now);
        let Some(transfer) = self.transfers.get_mut(&fetch) else {
            self.bytes.http += u64::from(bytes);
            self.bytes.wasted += u64::from(bytes);
            return;
        };
        if transfer.first_byte.is_none() {
            self.http_failures = 0;
            transfer.first_byte = Some(now);
            transfer.at_once = u64::from(bytes);
            if !transfer.adopted {
                self.http.first_byte(now.saturating_sub(transfer.started));
            }
        }
        transfer.bytes += u64::from(bytes);
        let column = if transfer.mirror { &mut self.bytes.mirrors } else { &mut self.bytes.http };
        *column += u64::from(bytes);
    }

    /// A whole piece arrived; `cv` is its hash by [`crate::pieces::hash_piece`].
    pub fn fetch_piece(&mut self, now: Millis, fetch: Fetch, piece: u32, cv: Cv) {
        self.now = self.now.max(now);
        self.soon();
        let Some(transfer) = self.transfers.get_mut(&fetch) else { return };
        transfer.next = piece + 1;
        let (object, trial) = (transfer.object, transfer.trial);
        let source = Source::Fetch(fetch);
        let entry = self.objects.get_mut(object);
        match entry.known_list().map(|list| list.get(piece as usize) == Some(&cv)) {
            _ if trial => {
                entry.pending.insert((source, piece), cv);
            }
            None => {
                entry.pending.insert((source, piece), cv);
            }
            Some(true) => self.keep(source, object, piece),
            Some(false) => {
                self.origin_missed(fetch);
                return;
            }
        }
        self.stop_if_met(object);
    }

    /// The body ended.
    pub fn fetch_end(&mut self, now: Millis, fetch: Fetch) {
        self.touch(now);
        let Some(transfer) = self.transfers.get(&fetch) else { return };
        let object = transfer.object;
        if let (Some(first), false) = (transfer.first_byte, transfer.adopted) {
            self.http.body(now, transfer.bytes, now.saturating_sub(first) as f64);
        }
        let short = transfer.next < transfer.end;
        let (source, trial) = (Source::Fetch(fetch), transfer.trial);
        if trial && !short {
            self.contradicted(object, None);
        }
        let entry = self.objects.get_mut(object);
        let cvs: Vec<(u32, Cv)> = entry.pending_of(source);
        let fits = match &entry.list {
            _ if short => false,
            List::Known(list) => cvs.iter().all(|(piece, cv)| list.get(*piece as usize) == Some(cv)),
            // Its first pieces went with the list that they hung on: there is nothing to be had of the rest.
            _ if entry.unproven.is_some() && cvs.len() < entry.count as usize => {
                self.drop_transfer(fetch);
                return;
            }
            // The whole object came without a list: its own pieces are the list if they merge to the root, or until the
            // host has checked the whole.
            _ => {
                let list: Vec<Cv> = cvs.iter().map(|&(_, cv)| cv).collect();
                let fits = match &mut entry.unproven {
                    Some(unproven) => {
                        unproven.giver = Some(source);
                        true
                    }
                    None => check_list(&list, entry.size, entry.root) == ListCheck::Fits,
                };
                if fits {
                    entry.list = List::Known(list);
                }
                fits
            }
        };
        if !fits {
            self.origin_missed(fetch);
            return;
        }
        if entry.unproven.is_none() {
            entry.origin = Origin::Fits;
        }
        entry.http_failed = None;
        for (piece, _) in cvs {
            self.objects.get_mut(object).pending.remove(&(source, piece));
            self.keep(source, object, piece);
        }
        self.drop_transfer(fetch);
    }

    /// The body is longer than the object: the origin's bytes are not those of the hash.
    pub fn fetch_overrun(&mut self, now: Millis, fetch: Fetch) {
        self.touch(now);
        // A trial goes on to its end: its body may have to be played.
        if let Some(transfer) = self.transfers.get_mut(&fetch) {
            if transfer.trial {
                transfer.end = u32::MAX;
            } else {
                self.origin_missed(fetch);
            }
        }
    }

    /// The transfer failed; `status` is 0 for a network error.
    pub fn fetch_failed(&mut self, now: Millis, fetch: Fetch, status: u16) {
        let Some(object) = self.transfers.get(&fetch).map(|transfer| transfer.object) else { return };
        self.fetch_lost(now, fetch);
        self.http_failures += 1;
        let entry = self.objects.get_mut(object);
        let times = entry.http_failed.map_or(0, |(_, _, times)| times) + 1;
        entry.http_failed = Some((now, status, times));
        if entry.origin == Origin::Suspect {
            entry.origin = Origin::Fits;
        }
        if !self.may_yet_come(object) {
            self.fail(object, status);
        }
    }

    /// The transfer ended early, but the host knows another place to fetch from: what is missing is asked for again.
    pub fn fetch_lost(&mut self, now: Millis, fetch: Fetch) {
        self.touch(now);
        self.unclaim(fetch);
        self.drop_transfer(fetch);
    }

    /// Gives up the claim that a transfer answers.
    fn unclaim(&mut self, fetch: Fetch) {
        if let Some((transfer, (nonce, first))) = self.transfers.get(&fetch).and_then(|t| Some((t, t.claim?))) {
            let oid = self.entry(transfer.object).oid;
            self.broadcast(&Control::Unclaim { oid, first, nonce, hops: 0 }, None);
        }
    }

    /// Tells the player that an object is not to be had.
    pub(super) fn fail(&mut self, object: Object, status: u16) {
        let entry = self.objects.get_mut(object);
        entry.http_failed = None;
        for request in std::mem::take(&mut entry.requests) {
            self.requests.remove(&request);
            self.actions.push_back(Action::Fail { request, status });
        }
        self.unwant(object);
    }

    /// Whether the server has failed to give this object, or all that was asked of it lately: what it would be asked for is then
    /// asked of edges too.
    pub(super) fn server_fails(&self, object: Object) -> bool {
        self.http_failures >= config::HTTP_FAILURES || self.entry(object).http_failed.is_some()
    }

    /// Whether every piece that is missing is held by a neighbour that answers, or first neighbours are on their way.
    pub(super) fn may_yet_come(&self, object: Object) -> bool {
        let entry = self.entry(object);
        let open = || self.neighbours.values().filter(|n| n.open && n.uploads);
        let held = |piece| open().any(|n| n.has_piece(object, piece));
        let expected = self.now < self.expecting;
        entry.origin != Origin::Differs && (expected || open().next().is_some() && entry.missing().all(held))
    }

    /// Starts a transfer of `pieces`.
    pub(super) fn start_transfer(&mut self, object: Object, pieces: Range<u32>, claim: Option<u32>) -> Fetch {
        let fetch = self.new_fetch();
        let entry = self.objects.get_mut(object);
        let trial = entry.origin != Origin::Fits;
        let whole = pieces == (0..entry.count);
        let place = &entry.place.locator;
        let base = place.range.map_or(0, |range| range.start);
        let offset = |piece: u32| base + (u64::from(piece) * u64::from(PIECE_SIZE)).min(entry.size);
        self.actions.push_back(Action::Fetch {
            fetch,
            object,
            url: place.url.clone(),
            start: offset(pieces.start),
            end: offset(pieces.end),
            ranged: !whole || place.range.is_some(),
            reload: trial,
            first_piece: pieces.start,
        });
        let claim = claim.map(|nonce| (nonce, pieces.start));
        let mut transfer = Transfer::new(object, pieces, self.now, false);
        (transfer.trial, transfer.claim) = (trial, claim);
        self.transfers.insert(fetch, transfer);
        fetch
    }

    pub(super) fn new_fetch(&mut self) -> Fetch {
        let fetch = Fetch(self.next_fetch);
        self.next_fetch = (self.next_fetch + 1) % Fetch::ADOPTED;
        fetch
    }

    /// Cancels transfers whose remaining pieces the neighbours have brought meanwhile.
    pub(super) fn stop_if_met(&mut self, object: Object) {
        let entry = self.objects.get(object);
        let met = |transfer: &Transfer| {
            transfer.object == object
                && !transfer.trial
                && transfer.next < transfer.end
                && (transfer.next..transfer.end).all(|piece| entry.have.contains(piece))
        };
        // Without a request behind it an adopted transfer feeds the player directly: not ours to cancel.
        let ours = |transfer: &Transfer| !transfer.adopted || !entry.requests.is_empty() || entry.whole();
        let met: Vec<Fetch> =
            self.transfers.iter().filter(|(_, t)| met(t) && ours(t)).map(|(&fetch, _)| fetch).collect();
        for fetch in met {
            self.abort(fetch);
        }
    }

    /// The player no longer wants an object: its transfers end, its claims are given up.
    pub(super) fn abort_transfers_of(&mut self, object: Object) {
        let fetches: Vec<Fetch> =
            self.transfers.iter().filter(|(_, t)| t.object == object && !t.adopted).map(|(&fetch, _)| fetch).collect();
        for fetch in fetches {
            self.unclaim(fetch);
            self.abort(fetch);
        }
    }

    /// Milliseconds that a piece of this object takes by HTTP, as it is now, else as it was lately; and whether enough came to go
    /// by.
    pub(super) fn http_pace(&self, object: Object) -> Option<(f64, bool)> {
        let paces = self.transfers.values().filter(|t| t.object == object).filter_map(|t| t.pace(self.now));
        paces.max_by(|a, b| a.0.total_cmp(&b.0)).or_else(|| self.http.lately(self.now))
    }

    /// Whether HTTP is too slow to play this object from.
    pub(super) fn http_is_slow(&self, object: Object) -> bool {
        let entry = self.entry(object);
        let slow = |pace: f64| pace * f64::from(entry.count) > config::HTTP_PACE * entry.duration_ms;
        entry.duration_ms > 0.0 && self.http_pace(object).is_some_and(|(pace, _)| slow(pace))
    }

    /// Gives up transfers that bring what neighbours have or are fetching: a slow server's line is for what nobody has.
    pub(super) fn yield_line(&mut self, object: Object) {
        let entry = self.entry(object);
        let elsewhere = |piece: u32| entry.have.contains(piece) || self.claimed_or_held(object, piece);
        // Others wait for what was claimed, until a neighbour has it.
        let held = |piece: u32| entry.have.contains(piece) || self.held_near(object, piece);
        let redundant = |t: &Transfer| {
            t.object == object
                && !t.trial
                && (!t.adopted || !entry.requests.is_empty())
                && t.next < t.end.min(entry.count)
                && if t.claim.is_none() { elsewhere(t.next) } else { (t.next..t.end).all(held) }
        };
        let fetches: Vec<Fetch> =
            self.transfers.iter().filter(|(_, t)| redundant(t)).map(|(&fetch, _)| fetch).collect();
        for fetch in fetches {
            // One of a few that brought nothing was held up by something else than a crowd: a place that is dead, for one.
            if let Some(transfer) = self.transfers.get(&fetch)
                && let Some((bytes, ms)) = transfer.measured(self.now)
                && (bytes >= MIN_SAMPLE_BYTES || self.population > config::HTTP_TRIAL_PEERS)
            {
                self.http.cut(self.now, bytes, ms);
            }
            self.abort(fetch);
        }
    }

    fn abort(&mut self, fetch: Fetch) {
        self.actions.push_back(Action::AbortFetch { fetch });
        self.drop_transfer(fetch);
    }

    /// Forgets a transfer and what it left in the assembly.
    fn drop_transfer(&mut self, fetch: Fetch) {
        if let Some(transfer) = self.transfers.remove(&fetch) {
            self.bytes.wasted += transfer.unkept();
            self.objects.get_mut(transfer.object).forget(Source::Fetch(fetch));
            self.actions.push_back(Action::Discard { source: Source::Fetch(fetch), piece: None });
        }
    }

    /// The origin's bytes are not those that its playlist hashes. One more copy is asked for past the caches; if that
    /// misses too, the playlist's own origin has the last word for this viewer, and nothing of it is shared.
    fn origin_missed(&mut self, fetch: Fetch) {
        let Some(transfer) = self.transfers.get(&fetch) else { return };
        let (object, trial) = (transfer.object, transfer.trial);
        let source = Source::Fetch(fetch);
        if transfer.mirror {
            // Only its own lie: the origin has said nothing.
            self.refused += 1;
            self.actions.push_back(Action::Refused { source, object, what: Refused::Object });
            self.unclaim(fetch);
            self.abort(fetch);
            self.due = self.now;
            return;
        }
        let entry = self.entry(object);
        if entry.unproven.as_ref().is_some_and(|unproven| unproven.giver.is_some()) {
            // Word against word: the whole copy that is fetched now decides.
            self.contradicted(object, None);
        } else {
            self.refused += 1;
            self.actions.push_back(Action::Refused { source, object, what: Refused::Object });
        }
        let entry = self.objects.get_mut(object);
        if !trial {
            entry.origin = Origin::Suspect;
            self.abort(fetch);
            let others: Vec<Fetch> =
                self.transfers.iter().filter(|(_, t)| t.object == object).map(|(&fetch, _)| fetch).collect();
            for other in others {
                self.abort(other);
            }
            let count = self.entry(object).count;
            self.start_transfer(object, 0..count, None);
            return;
        }
        if entry.place.own_origin
            && let Some(transfer) = self.transfers.get_mut(&fetch)
        {
            transfer.kept = transfer.bytes; // played, not wasted
        }
        self.origin_differs(object, Some(fetch));
        if !self.entry(object).have.is_empty() {
            self.evict(object);
        }
        self.drop_transfer(fetch);
    }

    /// The second copy missed, too. The playlist's own origin has the last word: its bytes are played, as `fetch` brought
    /// them, else as they are kept.
    pub(super) fn origin_differs(&mut self, object: Object, fetch: Option<Fetch>) {
        let entry = self.objects.get_mut(object);
        entry.origin = Origin::Differs;
        if entry.place.own_origin {
            for request in std::mem::take(&mut entry.requests) {
                self.requests.remove(&request);
                self.actions.push_back(match fetch {
                    Some(fetch) => Action::DeliverUnverified { request, fetch },
                    None => Action::Deliver { request, object },
                });
            }
            self.unwant(object);
        } else {
            self.fail(object, 0);
        }
        self.actions.push_back(Action::OriginDiffers { object });
    }

    /// Pieces that HTTP transfers of this object are to bring, or have brought and that wait for the list.
    pub(super) fn covered(&self, object: Object) -> Bitfield {
        let mut covered = Bitfield::default();
        let count = self.entry(object).count;
        for (_, piece) in self.entry(object).pending.keys() {
            covered.insert(*piece);
        }
        for transfer in self.transfers.values().filter(|transfer| transfer.object == object) {
            for piece in transfer.next..transfer.end.min(count) {
                covered.insert(piece);
            }
        }
        covered
    }
}

impl Transfer {
    fn new(object: Object, pieces: Range<u32>, now: Millis, adopted: bool) -> Self {
        Self {
            object,
            next: pieces.start,
            end: pieces.end,
            started: now,
            first_byte: None,
            bytes: 0,
            at_once: 0,
            kept: 0,
            claim: None,
            trial: false,
            adopted,
            mirror: false,
        }
    }
}
