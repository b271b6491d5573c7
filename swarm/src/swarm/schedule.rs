//! What is wanted, by when, and who brings it: peers while it is safe, HTTP for what they cannot bring in time.

use std::ops::Range;

use super::{
    Swarm,
    action::{Object, Peer},
    bitfield::Bitfield,
    neighbour::Neighbour,
    object::{List, Origin},
};
use crate::{
    config,
    ids::Millis,
    map::{Map, sort},
    wire::Control,
};

/// An object that is not whole and is, or soon will be, asked for.
#[derive(Clone, Copy, Debug)]
struct Want {
    object: Object,
    /// When the playhead reaches it, in milliseconds of the clock.
    deadline: f64,
    /// When its turn by HTTP began: when the player asked for it; on live when it was listed, for what is listed there is
    /// within every player's buffer. `None`: by peers alone.
    since: Option<Millis>,
}

impl Swarm {
    /// Everything that depends on time or on what is missing. Cheap enough for ten times a second.
    pub(super) fn schedule(&mut self) {
        self.reload_if_due();
        self.look_after_neighbours();
        for want in self.wants() {
            if self.entry(want.object).shared() {
                self.ensure_list(want.object, self.list_worth_fetching(want));
            }
            if want.since.is_some() {
                self.use_http(want);
            }
            if self.entry(want.object).shared() {
                self.ask_peers(want);
            }
        }
        self.announce();
        self.pump = true;
        self.make_room();
    }

    /// When the playhead reaches this point of the player's timeline, in milliseconds of the clock.
    fn due(&self, start_ms: f64) -> f64 {
        let rate = if self.playback.rate > 0.0 { self.playback.rate } else { 1.0 };
        self.now as f64 + ((start_ms - self.playback.position_ms) / rate).max(0.0)
    }

    /// When the playhead reaches an object that the player waits for.
    pub(super) fn deadline(&self, object: Object) -> Option<f64> {
        let starts = self.entry(object).requests.iter().filter_map(|request| self.requests.get(request));
        starts.map(|wanted| self.due(wanted.start_ms)).min_by(f64::total_cmp)
    }

    /// What the player waits for, then what it will ask for next, each by deadline.
    fn wants(&self) -> Vec<Want> {
        let due = |start_ms: f64| self.due(start_ms);
        let mut wants: Vec<Want> = Vec::new();
        for &object in &self.objects.wanted {
            let deadline = self.deadline(object).unwrap_or(f64::INFINITY);
            wants.push(Want { object, deadline, since: self.entry(object).wanted_since });
        }
        by_deadline(&mut wants);
        let requested = wants.len();
        // Without neighbours there is nobody to fetch ahead from; with memory nearly full there is no room.
        let room = self.held < self.config.memory_limit / 10 * 9;
        if room && self.neighbours.values().any(|n| n.open && n.uploads) {
            for track in self.objects.tracks.values() {
                let Some((anchor, start_ms)) = track.anchor else { continue };
                if self.now > track.active + config::RENDITION_IDLE_MS {
                    continue;
                }
                let segments = &track.playlist.segments;
                let Some(base) = segments.get(anchor).map(|segment| segment.start_ms) else { continue };
                for (segment, object) in segments.iter().zip(&track.objects).skip(anchor + 1) {
                    let start = start_ms + segment.start_ms - base;
                    if start > self.playback.position_ms + self.config.prefetch_ms as f64 {
                        break;
                    }
                    let Some(object) = *object else { continue };
                    if !self.entry(object).whole() && !self.objects.wanted.contains(&object) {
                        let live = !track.playlist.ended && self.playback.playing;
                        let since = live.then(|| self.entry(object).listed);
                        wants.push(Want { object, deadline: due(start), since });
                    }
                }
            }
            by_deadline(&mut wants[requested..]);
        }
        wants
    }

    /// A list by HTTP pays when neighbours are there to share pieces before the object is whole.
    fn list_worth_fetching(&self, want: Want) -> bool {
        want.since.is_some() && self.neighbours.values().any(|n| n.open)
    }

    /// Starts HTTP for what must not or need not wait for peers.
    fn use_http(&mut self, want: Want) {
        let now = self.now;
        let object = want.object;
        let entry = self.entry(object);
        let count = entry.count;
        if entry.whole() {
            return; // The host is checking it.
        }
        if entry.origin != Origin::Fits {
            if !self.transfers.values().any(|transfer| transfer.object == object) {
                self.start_transfer(object, 0..count, None);
            }
            return;
        }
        if let Some((at, status, times)) = entry.http_failed
            && now < at + (config::HTTP_RETRY_MS << (times - 1).min(3))
        {
            if !self.peers_may_bring(object) {
                self.fail(object, status);
            }
            return;
        }
        let covered = self.covered(object);
        let open: Vec<&Neighbour> = self.neighbours.values().filter(|n| n.open).collect();
        let gap = |piece: u32| !entry.have.contains(piece) && !covered.contains(piece);
        let missing = (0..count).filter(|&piece| gap(piece)).count() as u32;
        if missing == 0 {
            return;
        }
        let time = self.http.time(missing);
        let jitter = config::GUARD_SPREAD_MS * self.draw(object, u32::MAX, self.draw_key);
        let guard = (config::GUARD_MS as f64).max(2.0 * time) + jitter;
        let slack = want.deadline - now as f64;
        if slack > guard && now < self.expecting {
            return;
        }
        if open.is_empty() || slack <= guard {
            // What neighbours bring in time, or sooner than HTTP could, is left to them; the rest is raced.
            let in_time = slack.max(self.http.time(1));
            let mut taken = covered;
            for neighbour in open {
                neighbour.bringing(object, now, in_time).for_each(|piece| {
                    taken.insert(piece);
                });
            }
            self.fill_by_http(object, &taken);
            return;
        }
        self.claim_groups(want, &covered, guard);
    }

    /// One transfer over the first gap among the pieces that nobody is bringing.
    fn fill_by_http(&mut self, object: Object, taken: &Bitfield) {
        let entry = self.entry(object);
        let busy = self.transfers.values().filter(|transfer| transfer.claim.is_none()).count();
        if busy >= config::MAX_URGENT_FETCHES {
            return;
        }
        if entry.known_list().is_none() {
            // Pieces can only be judged together.
            if taken.is_empty() {
                let count = entry.count;
                self.start_transfer(object, 0..count, None);
            }
            return;
        }
        let gap = |piece: &u32| !entry.have.contains(*piece) && !taken.contains(*piece);
        let Some(first) = (0..entry.count).find(gap) else { return };
        let end = (first..entry.count).find(|piece| !gap(piece)).unwrap_or(entry.count);
        // One at a time per object: the rest is looked at again when this one is done or met by peers.
        let sequential = self.transfers.values().any(|t| t.object == object && t.claim.is_none());
        if !sequential {
            self.start_transfer(object, first..end, None);
        }
    }

    /// Claims the groups that nobody near has, claims or brings, when their time has come.
    fn claim_groups(&mut self, want: Want, covered: &Bitfield, guard: f64) {
        let (now, object) = (self.now, want.object);
        if self.transfers.values().filter(|transfer| transfer.claim.is_some()).count() >= config::MAX_CLAIM_FETCHES {
            return;
        }
        let entry = self.entry(object);
        let Some(since) = want.since else { return };
        let free = |pieces: Range<u32>| {
            let mut missing = pieces.filter(|&piece| !entry.have.contains(piece)).peekable();
            missing.peek().is_some()
                && missing.all(|piece| {
                    !covered.contains(piece)
                        && !self.neighbours.values().any(|n| n.open && n.uploads && n.has_piece(object, piece))
                })
        };
        match &entry.list {
            List::Known(_) => {}
            // With a list on its way groups can be shared out in a moment.
            List::Asked { .. } | List::Fetching(_) => return,
            List::Missing { .. } => {
                let claimed = (0..entry.groups()).any(|group| entry.claimed(group, now));
                let nobody = !self.neighbours.values().any(|n| n.open && n.has_any(object));
                if !claimed
                    && nobody
                    && free(0..entry.count)
                    && now >= self.claim_time(object, 0, since, want.deadline, guard)
                {
                    let count = entry.count;
                    self.claim(object, 0, count);
                }
                return;
            }
        }
        let ready: Vec<u32> = (0..entry.groups())
            .filter(|&group| !entry.claimed(group, now) && free(entry.group(group)))
            .filter(|&group| now >= self.claim_time(object, group, since, want.deadline, guard))
            .collect();
        // Neighbouring groups go in one range.
        let mut runs: Vec<Range<u32>> = Vec::new();
        for group in ready {
            let pieces = entry.group(group);
            match runs.last_mut() {
                Some(run) if run.end == pieces.start => run.end = pieces.end,
                _ => runs.push(pieces),
            }
        }
        for run in runs {
            self.claim(object, run.start, run.end);
        }
    }

    /// Asks neighbours for missing pieces that they hold, each of whoever would bring it first.
    fn ask_peers(&mut self, want: Want) {
        let now = self.now;
        let object = want.object;
        let entry = self.entry(object);
        if entry.known_list().is_none() || entry.whole() {
            return;
        }
        let holders: Vec<Peer> =
            self.neighbours.iter().filter(|(_, n)| n.ready(now) && n.has_any(object)).map(|(&peer, _)| peer).collect();
        if holders.is_empty() {
            return;
        }
        let mut under_way = Bitfield::default();
        for neighbour in self.neighbours.values() {
            for asked in neighbour.asked.values().filter(|asked| asked.object == object) {
                asked.pieces.keys().for_each(|&piece| {
                    under_way.insert(piece);
                });
            }
        }
        let covered = self.covered(object);
        let mut pieces: Vec<u32> = entry.missing().filter(|&piece| !under_way.contains(piece)).collect();
        if covered.is_empty() {
            // An object is of use when it is whole, so order counts only between objects. Rarest first, ties by chance, so
            // that neighbours can trade.
            let mut order: Vec<(usize, u64, u32)> = pieces
                .iter()
                .map(|&piece| {
                    let copies =
                        holders.iter().filter(|p| self.neighbours.get(p).is_some_and(|n| n.has_piece(object, piece)));
                    (copies.count(), (self.draw(object, !piece, self.draw_key) * 1e9) as u64, piece)
                })
                .collect();
            sort(&mut order, |a, b| a < b);
            pieces = order.into_iter().map(|(.., piece)| piece).collect();
        } else {
            // HTTP comes from the front, peers from the end, but not where HTTP will be first anyway.
            pieces = self.beyond_http(object, pieces, &holders);
        }
        let lifetime = (want.deadline - now as f64).clamp(f64::from(config::MIN_REQUEST_MS), 30_000.0) as u32;
        let mut runs: Vec<(Peer, u32, u32)> = Vec::new();
        let mut more = Map::<Peer, u32>::new();
        for piece in pieces {
            let best = holders
                .iter()
                .filter_map(|peer| Some((*peer, self.neighbours.get(peer)?)))
                .filter(|(peer, n)| {
                    n.has_piece(object, piece) && n.outstanding() + more.get(peer).copied().unwrap_or(0) < n.window()
                })
                .min_by(|(a, m), (b, n)| {
                    let load =
                        |peer: &Peer, n: &Neighbour| n.eta() * f64::from(1 + more.get(peer).copied().unwrap_or(0));
                    load(a, m).total_cmp(&load(b, n))
                });
            let Some((peer, _)) = best else { continue };
            *more.get_or_insert_with(peer, || 0) += 1;
            match runs.iter_mut().find(|(other, first, end)| {
                *other == peer && end - *first < config::REQUEST_PIECES && (*end == piece || *first == piece + 1)
            }) {
                Some((_, _, end)) if *end == piece => *end += 1,
                Some((_, first, _)) => *first = piece,
                None => runs.push((peer, piece, piece + 1)),
            }
        }
        for (peer, first, end) in runs {
            self.ask(peer, object, first..end, lifetime);
        }
    }

    /// Missing pieces from the end backwards, without those that HTTP reaches sooner than a neighbour could bring them.
    fn beyond_http(&self, object: Object, pieces: Vec<u32>, holders: &[Peer]) -> Vec<u32> {
        let soonest = holders.iter().filter_map(|peer| self.neighbours.get(peer)).map(Neighbour::eta);
        let head_start = (soonest.fold(f64::INFINITY, f64::min) / self.http.per_piece().max(1.0)).ceil();
        let reached = |piece: u32| {
            self.transfers
                .values()
                .any(|t| t.object == object && t.covers(piece) && f64::from(piece - t.next) < head_start.min(1e6))
        };
        pieces.into_iter().rev().filter(|&piece| !reached(piece)).collect()
    }

    /// HAVE for what was verified since.
    fn announce(&mut self) {
        for (object, pieces) in std::mem::take(&mut self.news) {
            let entry = self.entry(object);
            if !entry.given() {
                continue;
            }
            let pieces = if entry.whole() { entry.have.to_set(entry.count) } else { pieces.to_set(entry.count) };
            self.broadcast(&Control::Have { oid: entry.oid, pieces }, None);
        }
    }

    /// Over the memory limit: what was used longest ago goes first.
    fn make_room(&mut self) {
        while self.held > self.config.memory_limit {
            let oldest = self
                .objects
                .iter()
                .filter(|(object, entry)| !entry.have.is_empty() && !self.objects.wanted.contains(object))
                .min_by_key(|(_, entry)| entry.used);
            let Some((object, _)) = oldest else { break };
            self.evict(object);
        }
    }
}

/// Soonest first. They are few and nearly in order, for which insertion is as quick as the library's sort and 8 kB of wasm
/// smaller.
fn by_deadline(wants: &mut [Want]) {
    for end in 1..wants.len() {
        let mut at = end;
        while at > 0 && wants[at].deadline < wants[at - 1].deadline {
            wants.swap(at, at - 1);
            at -= 1;
        }
    }
}
