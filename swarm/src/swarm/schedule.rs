//! What is wanted, by when, and who brings it: peers while it is safe, HTTP for what they cannot bring in time.

use std::ops::Range;

use super::{
    Swarm,
    action::{Object, Peer},
    bitfield::Bitfield,
    http::Transfer,
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

/// A neighbour that can be asked for pieces of an object.
struct Holder<'a> {
    peer: Peer,
    has: &'a Bitfield,
    /// Pieces that may be asked of it now.
    room: u32,
    /// Milliseconds until the next piece asked of it would be here, and for each after that.
    eta: f64,
    each: f64,
}

impl Swarm {
    /// Everything that depends on time or on what is missing. Each part says when it is to be looked at again.
    pub(super) fn schedule(&mut self) {
        self.reload_if_due();
        self.look_after_neighbours();
        self.replace_worst();
        self.ask_for_texts();
        if !self.neighbours.is_empty() {
            self.wake(self.now + config::IDLE_TICK_MS);
        }
        for want in self.wants() {
            if self.entry(want.object).shared() {
                self.ensure_list(want.object, self.list_worth_fetching(want));
            }
            if want.since.is_some() {
                self.use_http(want);
            }
            // Who has no time for it does not fetch ahead.
            let worth = want.since.is_some() || !self.starved();
            if worth && self.entry(want.object).shared() && self.neighbours.values().any(|n| n.ready(self.now)) {
                self.ask_peers(want);
            }
        }
        self.announce();
        self.pump = true;
        self.make_room();
    }

    /// Where the player plays, or will begin to, in milliseconds of its timeline.
    fn playhead(&self) -> f64 {
        self.playback.position_ms.max(self.beginning.unwrap_or(0.0))
    }

    /// When the playhead reaches this point of the player's timeline, in milliseconds of the clock.
    pub(super) fn due(&self, start_ms: f64) -> f64 {
        let rate = if self.playback.rate > 0.0 { self.playback.rate } else { 1.0 };
        self.now as f64 + ((start_ms - self.playhead()) / rate).max(0.0)
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
        // Without neighbours there is nobody to fetch ahead from; and what is ahead must fit beside what is just played.
        let mut room = self.config.memory_limit / 4 * 3;
        if self.neighbours.values().any(Neighbour::gives) {
            for track in self.objects.tracks.values() {
                let Some((anchor, start_ms)) = track.anchor else { continue };
                if self.now > track.active + config::RENDITION_IDLE_MS {
                    continue;
                }
                let segments = &track.playlist.segments;
                let Some(base) = segments.get(anchor).map(|segment| segment.start_ms) else { continue };
                for (segment, object) in segments.iter().zip(&track.objects).skip(anchor + 1) {
                    let start = start_ms + segment.start_ms - base;
                    if start > self.playhead() + self.config.prefetch_ms as f64 {
                        break;
                    }
                    let Some(object) = *object else { continue };
                    let Some(left) = room.checked_sub(self.entry(object).size) else { break };
                    room = left;
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
        want.since.is_some() && self.neighbours.values().any(Neighbour::is_peer)
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
            if !self.may_yet_come(object) {
                self.fail(object, status);
            }
            self.wake(at + (config::HTTP_RETRY_MS << (times - 1).min(3)));
            return;
        }
        if want.deadline <= now as f64 + config::GUARD_MS as f64 {
            self.compare_with_http(object);
        }
        let crowded = self.crowded(object);
        if crowded {
            self.yield_line(object);
        }
        let entry = self.entry(object);
        let covered = self.covered(object);
        let gap = |piece: u32| !entry.have.contains(piece) && !covered.contains(piece);
        let missing = (0..count).filter(|&piece| gap(piece)).count() as u32;
        if missing == 0 {
            return;
        }
        let margin = if self.starved() {
            config::MAX_MARGIN_MS
        } else if self.http_is_slow(object) {
            0.0
        } else {
            self.margin
        };
        // Whoever has much buffered leaves a slow server to those who have not, however slow it is.
        let guard = (2.0 * self.http.time(missing)).clamp(config::GUARD_MS as f64, config::MAX_GUARD_MS as f64)
            + config::GUARD_SPREAD_MS * self.draw(object, u32::MAX, self.draw_key)
            + margin;
        let slack = want.deadline - now as f64;
        if slack > guard && now < self.expecting {
            self.wake(self.expecting.min((want.deadline - guard) as Millis));
            return;
        }
        if crowded {
            self.claim_groups(want, &covered, guard);
            self.wake(now + config::TICK_MS);
            return;
        }
        if slack <= guard || !self.neighbours.values().any(Neighbour::gives) {
            // What neighbours bring in time, or sooner than HTTP could, is left to them; the rest is raced.
            let sooner = if now < self.racing { config::GUARD_MS as f64 } else { self.http.time(1) };
            let in_time = (slack - margin).max(sooner);
            let mut taken = covered;
            for neighbour in self.neighbours.values().filter(|n| n.open) {
                neighbour.bringing(object, now, in_time).for_each(|piece| {
                    taken.insert(piece);
                });
            }
            self.fill_by_http(object, &taken);
            self.wake(now + config::TICK_MS);
            return;
        }
        self.wake((want.deadline - guard).min(1e15) as Millis + 1);
        self.claim_groups(want, &covered, guard);
    }

    /// Whether the server is too slow to play from while neighbours have pieces and bring them: then HTTP is for what
    /// nobody has or claims, however near the deadline is.
    pub(super) fn crowded(&self, object: Object) -> bool {
        self.now >= self.racing
            && !self.starved()
            && self.now < self.entry(object).used + self.claim_life()
            && self.neighbours.values().any(Neighbour::gives)
            && self.http_is_slow(object)
    }

    /// Whether the machine has no time to spare.
    pub(super) fn starved(&self) -> bool {
        self.playback.late_ms > config::STARVED_MS
    }

    /// The playhead waits for this object, or soon will. Neighbours who bring less of it than the server would are no reason
    /// to leave a slow server to others: nobody's playback is worse for them.
    fn compare_with_http(&mut self, object: Object) {
        let (now, pace) = (self.now, self.http_pace(object));
        let entry = self.objects.get_mut(object);
        let have = entry.have.len();
        let (since, had) = *entry.urgent.get_or_insert((now, have));
        let (waited, came) = (now.saturating_sub(since) as f64, have.saturating_sub(had));
        let Some((pace, sure)) = pace else { return };
        if !self.http_is_slow(object) {
            self.http_trial_after = config::HTTP_TRIAL_AFTER_MS;
        }
        // All that a crowd asks for makes a slow server slower: of many, few do at a time.
        let crowd = (f64::from(self.population) / f64::from(config::HTTP_TRIAL_PEERS)).max(1.0);
        // By now the server would have brought one more.
        if sure && f64::from(came + 1) * pace * crowd < waited {
            self.racing = now + config::HTTP_MEMORY_MS;
            return;
        }
        // What was slow may long be fast, and nobody would notice.
        let since = self.http.measured().max(self.racing);
        if now.saturating_sub(since) as f64 >= self.http_trial_after as f64 * crowd {
            self.racing = now + config::HTTP_TRIAL_MS;
            self.http_trial_after = (2 * self.http_trial_after).min(config::HTTP_MEMORY_MS);
        }
    }

    /// Whether a neighbour has a piece, or somebody claims it.
    pub(super) fn claimed_or_held(&self, object: Object, piece: u32) -> bool {
        self.entry(object).claimed(piece, self.now) || self.held_near(object, piece)
    }

    /// Whether a neighbour has a piece and gives it.
    pub(super) fn held_near(&self, object: Object, piece: u32) -> bool {
        self.neighbours.values().any(|n| n.gives() && n.has_piece(object, piece))
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
        // Whoever waits for a claim waits for its pieces: who gives none must not claim.
        let claiming = self.transfers.values().filter(|transfer| transfer.claim.is_some()).count();
        let crowded = self.crowded(object);
        // From a slow server many viewers bring a piece each sooner than one brings a group, and what they have others can pass on.
        let (unit, most) = if crowded { (1, 1) } else { (config::GROUP_PIECES, config::MAX_CLAIM_FETCHES) };
        if !self.may_upload() || claiming >= most {
            return;
        }
        let entry = self.entry(object);
        let Some(since) = want.since else { return };
        let due = want.deadline - guard;
        let mut near = covered.clone();
        for n in self.neighbours.values().filter(|n| n.gives()) {
            if let Some(has) = n.has.get(&object) {
                near.add(has);
            }
        }
        let free = |pieces: Range<u32>| {
            let mut missing = pieces.filter(|&piece| !entry.have.contains(piece)).peekable();
            missing.peek().is_some() && missing.all(|piece| !near.contains(piece))
        };
        let odds = self.odds();
        match &entry.list {
            List::Known(_) => {}
            // With a list on its way groups can be shared out in a moment.
            List::Asked { .. } | List::Fetching(_) => return,
            List::Missing { .. } => {
                let nobody = !self.neighbours.values().any(|n| n.is_peer() && n.has_any(object));
                let whole = 0..entry.count;
                let lapsed = entry.claims.values().map(|claim| claim.expires).max().unwrap_or(0);
                let at = self.claim_time(object, &whole, unit, since, due, odds).max(lapsed);
                if nobody && free(whole.clone()) {
                    if now >= at {
                        self.claim(object, whole);
                    } else {
                        self.wake(at);
                    }
                }
                return;
            }
        }
        // Neighbouring groups go in one range.
        let mut runs: Vec<Range<u32>> = Vec::new();
        let mut next = Millis::MAX;
        for first in (0..entry.count).step_by(unit as usize) {
            let pieces = first..(first + unit).min(entry.count);
            if !free(pieces.clone()) {
                continue;
            }
            let at = self.claim_time(object, &pieces, unit, since, due, odds);
            if now < at {
                next = next.min(at);
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == pieces.start => run.end = pieces.end,
                _ => runs.push(pieces),
            }
            if crowded {
                break;
            }
        }
        self.wake(next);
        for run in runs {
            self.claim(object, run);
        }
    }

    /// Asks neighbours for missing pieces that they hold, each of whoever would bring it first.
    fn ask_peers(&mut self, want: Want) {
        let (now, object) = (self.now, want.object);
        let entry = self.entry(object);
        if entry.known_list().is_none() || entry.whole() {
            return;
        }
        let edges = want.since.is_some() && self.server_fails(object);
        let mut holders: Vec<Holder<'_>> = Vec::new();
        for (&peer, n) in self.neighbours.iter().filter(|(_, n)| edges || n.gives()) {
            let Some(has) = n.has.get(&object).filter(|has| !has.is_empty()) else { continue };
            let room = n.window().saturating_sub(n.outstanding());
            if n.ready(now) && room > 0 {
                holders.push(Holder { peer, has, room, eta: n.eta(), each: n.piece_ms() });
            }
        }
        if holders.is_empty() {
            return;
        }
        let covered = self.covered(object);
        let mut under_way = Bitfield::default();
        let few = entry.count - entry.have.len() <= config::END_GAME_PIECES;
        for asked in self.neighbours.values().flat_map(|n| n.asked.values()).filter(|asked| asked.object == object) {
            // The last pieces are asked twice if the first answer takes long: whoever comes second is called off.
            if few && !asked.again && now >= asked.since + config::END_GAME_MS {
                continue;
            }
            asked.pieces.keys().for_each(|&piece| {
                under_way.insert(piece);
            });
        }
        let mut pieces: Vec<(u32, f64, u32)> = Vec::new();
        for piece in entry.missing().filter(|&piece| !under_way.contains(piece)) {
            let copies = holders.iter().filter(|holder| holder.has.contains(piece)).count() as u32;
            if copies > 0 {
                pieces.push((copies, self.draw(object, !piece, self.draw_key), piece));
            }
        }
        if covered.is_empty() {
            // An object is of use when it is whole, so order counts only between objects. Rarest first, ties by chance, so
            // that neighbours can trade.
            sort(&mut pieces, |a, b| (a.0, a.1) < (b.0, b.1));
        } else {
            // HTTP comes from the front, peers from the end, but not where HTTP will be first anyway.
            let soonest = holders.iter().map(|holder| holder.eta).fold(f64::INFINITY, f64::min);
            pieces.retain(|&(.., piece)| !self.http_is_sooner(object, piece, soonest));
            pieces.reverse();
        }
        let lifetime = (want.deadline - now as f64).clamp(f64::from(config::MIN_REQUEST_MS), 30_000.0) as u32;
        let mut runs: Vec<(Peer, u32, u32)> = Vec::new();
        for (.., piece) in pieces {
            let asked = |n: &Neighbour| n.asked.values().any(|a| a.object == object && a.pieces.contains_key(&piece));
            let able = holders.iter_mut().filter(|holder| {
                let another = !few || !self.neighbours.get(&holder.peer).is_some_and(asked);
                holder.room > 0 && holder.has.contains(piece) && another
            });
            let Some(best) = able.min_by(|a, b| a.eta.total_cmp(&b.eta)) else { continue };
            best.room -= 1;
            best.eta += best.each;
            let peer = best.peer;
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

    /// Whether an HTTP transfer reaches a piece before a neighbour could bring it, which takes `soonest` milliseconds.
    fn http_is_sooner(&self, object: Object, piece: u32, soonest: f64) -> bool {
        let head_start = (soonest / self.http.per_piece().max(1.0)).ceil().min(1e6);
        let reaches = |t: &Transfer| t.object == object && t.covers(piece) && f64::from(piece - t.next) < head_start;
        self.transfers.values().any(reaches)
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

    /// Over the memory limit: what lies behind the playhead goes first, longest unused before the rest; then what lies
    /// farthest ahead.
    fn make_room(&mut self) {
        while self.held > self.config.memory_limit {
            let ahead = self.ahead();
            let candidates = self
                .objects
                .iter()
                .filter(|(object, entry)| !entry.have.is_empty() && !self.objects.wanted.contains(object));
            let first = candidates.min_by_key(|(object, entry)| match ahead.get(object) {
                None => (false, entry.used),
                Some(&start_ms) => (true, Millis::MAX - start_ms),
            });
            let Some((object, _)) = first else { break };
            self.evict(object);
        }
    }

    /// Objects that will be played within the time that is fetched ahead, by where they begin on the player's timeline, in
    /// milliseconds.
    fn ahead(&self) -> Map<Object, Millis> {
        let position = self.playhead();
        let mut ahead = Map::new();
        for track in self.objects.tracks.values() {
            let Some((anchor, start_ms)) = track.anchor else { continue };
            let segments = &track.playlist.segments;
            let base = segments.get(anchor).map_or(0.0, |segment| segment.start_ms);
            for (segment, object) in segments.iter().zip(&track.objects) {
                let start = start_ms + segment.start_ms - base;
                if let Some(object) = object
                    && (position..position + self.config.prefetch_ms as f64).contains(&start)
                {
                    ahead.insert(*object, start as Millis);
                }
            }
        }
        ahead
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
