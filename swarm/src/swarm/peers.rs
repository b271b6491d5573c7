//! Neighbours: the control channel, requests to them and what they bring, blame.

use std::ops::Range;

use super::{
    Swarm,
    action::{Action, CloseReason, Object, Peer, PeerSetup, Placement, Refused, Source},
    bitfield::Bitfield,
    claims::Heard,
    neighbour::{Asked, Neighbour, all_frames},
    object::Origin,
};
use crate::{
    config,
    ids::{Millis, Oid, PIECE_SIZE},
    pieces::Cv,
    proof,
    wire::{Control, FRAME_PAYLOAD, Frame, Hello, PeerKind, PieceSet, WIRE_VERSIONS, decode_control},
};

impl Swarm {
    /// Both channels of a neighbour are open.
    pub fn peer_open(&mut self, now: Millis, peer: Peer, setup: PeerSetup) {
        self.touch(now);
        let nonce = self.rng.bytes();
        let proof = proof::proof(&self.key, setup.role, &nonce, &setup.local_fingerprint, &setup.remote_fingerprint);
        let versions = (*WIRE_VERSIONS.start(), *WIRE_VERSIONS.end());
        let draw_key = self.draw_key(&setup.id);
        self.neighbours.insert(peer, Neighbour::new(self.now, setup, nonce, draw_key));
        self.send(peer, &Control::Hello(Hello { versions, kind: self.kind, nonce, proof }));
    }

    /// Its connection is gone.
    pub fn peer_closed(&mut self, now: Millis, peer: Peer) {
        self.touch(now);
        self.forget(peer);
    }

    /// A message on the `data` channel that is no FRAME.
    pub fn garbage(&mut self, now: Millis, peer: Peer) {
        self.touch(now);
        self.close(peer, CloseReason::Garbage);
    }

    /// A message of its `control` channel.
    pub fn control(&mut self, now: Millis, peer: Peer, bytes: &[u8]) {
        self.now = self.now.max(now);
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        if !neighbour.control_allowed.take(now, u32::try_from(bytes.len()).unwrap_or(u32::MAX)) {
            self.close(peer, CloseReason::Flood);
            return;
        }
        neighbour.heard = now;
        let open = neighbour.open;
        match decode_control(bytes) {
            Ok(Some(Control::Hello(hello))) if !open => self.hello(peer, &hello),
            Ok(Some(message)) if open => self.message(peer, message),
            Ok(None) if open => {}
            _ => self.close(peer, CloseReason::Garbage),
        }
    }

    fn hello(&mut self, peer: Peer, hello: &Hello) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        let setup = &neighbour.setup;
        let theirs = setup.role.other();
        let (remote, local) = (&setup.remote_fingerprint, &setup.local_fingerprint);
        let right = proof::verify(&self.key, theirs, &hello.nonce, remote, local, &hello.proof);
        // Our own nonce coming back is a reflection.
        if !right || hello.nonce == neighbour.nonce {
            self.close(peer, CloseReason::WrongProof);
            return;
        }
        if hello.versions.0 > *WIRE_VERSIONS.end() || hello.versions.1 < *WIRE_VERSIONS.start() {
            self.close(peer, CloseReason::Version);
            return;
        }
        neighbour.open = true;
        neighbour.kind = hello.kind;
        self.due = self.now;
        let open = self.neighbours.values().filter(|n| n.is_peer()).count();
        if open > self.config.neighbours * 3 / 2 {
            // A newcomer needs us more than the worst of the old ones does.
            let surplus = self.worst_neighbour().unwrap_or(peer);
            self.send(surplus, &Control::Bye { reason: 1 });
            self.close(surplus, CloseReason::Surplus);
            if surplus == peer {
                return;
            }
        }
        // Of edges nothing is to be expected, unless they are all that there is.
        let all = self.neighbours.values().filter(|n| n.open).count() + 1 >= self.population as usize;
        if (open == 1 || all) && self.now < self.expecting {
            self.expecting = self.now + config::FIRST_HAVE_MS;
        }
        self.send(peer, &self.status());
        let held: Vec<Control> = self
            .objects
            .iter()
            .filter(|(_, entry)| !entry.have.is_empty() && entry.given())
            .map(|(_, entry)| Control::Have { oid: entry.oid, pieces: entry.have.to_set(entry.count) })
            .collect();
        for have in held {
            self.send(peer, &have);
        }
        self.ping(peer);
    }

    fn message(&mut self, peer: Peer, message: Control) {
        match message {
            Control::Hello(_) => self.close(peer, CloseReason::Garbage),
            Control::Status { uploads, uplink } => {
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    (neighbour.uploads, neighbour.uplink) = (uploads, uplink);
                }
                self.soon();
            }
            Control::Have { oid, pieces } => self.have_heard(peer, oid, pieces),
            Control::Drop { oid } => {
                let object = self.objects.by_oid(oid);
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    neighbour.unknown.remove(&oid);
                    if let Some(object) = object {
                        neighbour.has.remove(&object);
                    }
                }
            }
            Control::Claim { oid, first, count, nonce, ttl_ms, hops } => {
                let at = self.now;
                self.claim_heard(peer, Heard { oid, first, count, nonce, ttl_ms, hops, at });
            }
            Control::Unclaim { oid, first, nonce, hops } => self.unclaim_heard(peer, oid, first, nonce, hops),
            Control::ListGet { oid } => {
                // The answer may be ten thousand times as long as the question, and is outside of the upload's limits.
                let answer =
                    self.list_to_give(oid).map_or(0, |list| size_of_val(list) as u32 / config::REQUEST_LIST_BYTES);
                if self.request_allowed(peer, 1 + answer) {
                    self.give_list(peer, oid);
                }
            }
            Control::List { oid, total, first, values } => self.list_part(peer, oid, total, first, &values),
            Control::Request { id, oid, first, count, deadline_ms } => {
                if self.request_allowed(peer, 1) {
                    self.upload_asked(peer, id, oid, first..first.saturating_add(count), deadline_ms);
                }
            }
            Control::Cancel { id } => self.upload_cancelled(peer, id),
            Control::Busy { id, retry_ms } => self.busy(peer, id, retry_ms),
            Control::TextGet { name } => {
                if self.request_allowed(peer, 1) {
                    self.actions.push_back(Action::TextAsked { peer, name });
                }
            }
            Control::Text { name, total, offset, part } => self.text_part(peer, &name, total, offset, &part),
            Control::Ping { nonce, reply: false } => self.send(peer, &Control::Ping { nonce, reply: true }),
            Control::Ping { nonce, reply: true } => {
                let now = self.now;
                if let Some(neighbour) = self.neighbours.get_mut(&peer)
                    && let Some((_, sent)) = neighbour.ping.take_if(|(asked, _)| *asked == nonce)
                {
                    neighbour.round_trip(now, now.saturating_sub(sent) as f64);
                    self.delay_seen();
                }
            }
            Control::Bye { .. } => self.close(peer, CloseReason::Left),
        }
    }

    fn request_allowed(&mut self, peer: Peer, cost: u32) -> bool {
        let now = self.now;
        let allowed = self.neighbours.get_mut(&peer).is_some_and(|n| n.requests_allowed.take(now, cost));
        if !allowed {
            self.close(peer, CloseReason::Flood);
        }
        allowed
    }

    fn have_heard(&mut self, peer: Peer, oid: Oid, pieces: PieceSet) {
        let Some(object) = self.objects.by_oid(oid) else {
            if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                let known = neighbour.unknown.contains_key(&oid);
                if known || neighbour.unknown.len() < config::MAX_UNKNOWN_OBJECTS {
                    let sets = neighbour.unknown.get_or_insert_with(oid, Vec::new);
                    // A neighbour that sends piece after piece of it is heard again once the playlist is here.
                    if sets.len() < config::MAX_UNKNOWN_SETS {
                        sets.push(pieces);
                    }
                }
            }
            self.unknown_object();
            return;
        };
        self.has(peer, object, &pieces);
    }

    fn has(&mut self, peer: Peer, object: Object, pieces: &PieceSet) {
        let count = self.entry(object).count;
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        let has = neighbour.has.get_or_insert_with(object, Bitfield::default);
        if !has.extend(pieces, count) {
            self.close(peer, CloseReason::Garbage);
            return;
        }
        // Whoever brought nothing yet may only boast.
        if neighbour.verified > 0 && neighbour.silent == 0 {
            self.objects.get_mut(object).bear_out_claims(self.now, has);
        }
        if neighbour.ready(self.now) && !self.objects.get(object).whole() {
            self.soon();
        }
    }

    /// A neighbour named an object that no playlist here names: the newest is re-read soon, at most once a second. Not at
    /// once, since the claim that named it reaches all viewers within a moment.
    pub(super) fn unknown_object(&mut self) {
        if self.reload_at.is_none() {
            let wait = u64::from(self.rng.bytes::<1>()[0]) * config::RELOAD_SPREAD_MS / 256;
            let at = self.now.max(self.reloaded + config::RELOAD_MS) + wait;
            self.reload_at = Some(at);
            self.wake(at);
        }
    }

    /// Re-reads the newest playlist if that is due.
    pub(super) fn reload_if_due(&mut self) {
        if self.reload_at.take_if(|at| *at <= self.now).is_none() {
            self.wake(self.reload_at.unwrap_or(Millis::MAX));
            return;
        }
        let live = self.objects.tracks.values().filter(|track| !track.playlist.ended);
        if let Some(url) = live.max_by_key(|track| track.active).map(|track| track.playlist.url.clone()) {
            self.reloaded = self.now;
            self.actions.push_back(Action::ReloadPlaylist { url });
        }
    }

    /// A playlist came: what neighbours said of objects then unknown may have a name now.
    pub(super) fn resolve_unknown(&mut self) {
        let mut found = Vec::new();
        for (&peer, neighbour) in &mut self.neighbours {
            neighbour.unknown.retain(|&oid, sets| {
                let object = self.objects.by_oid(oid);
                found.extend(object.map(|object| (peer, object, std::mem::take(sets))));
                object.is_none()
            });
        }
        if !found.is_empty() {
            self.reload_at = None; // the player's own poll was sooner
        }
        for (peer, object, sets) in found {
            for set in sets {
                self.has(peer, object, &set);
            }
        }
    }

    /// Asks a neighbour for a run of pieces.
    pub(super) fn ask(&mut self, peer: Peer, object: Object, pieces: Range<u32>, deadline_ms: u32) {
        let now = self.now;
        let id = self.next_request;
        self.next_request = self.next_request.wrapping_add(1);
        let oid = self.entry(object).oid;
        let twice = |asked: &Asked| asked.object == object && pieces.clone().any(|p| asked.pieces.contains_key(&p));
        let again = self.neighbours.values().any(|n| n.asked.values().any(twice));
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        if neighbour.asked.is_empty() {
            neighbour.burst = (now, 0);
        }
        let (first, count) = (pieces.start, pieces.end - pieces.start);
        let asked = Asked { object, pieces: pieces.map(|piece| (piece, 0)).collect(), since: now, again };
        neighbour.asked.insert(id, asked);
        self.send(peer, &Control::Request { id, oid, first, count, deadline_ms });
    }

    /// A message of its `data` channel, decoded by [`crate::wire::decode_frame`]; `len` payload bytes. `Some` if it
    /// belongs to a piece that we asked for and do not have: the host puts it into its assembly.
    pub fn frame(&mut self, now: Millis, peer: Peer, frame: &Frame, len: u32) -> Option<Placement> {
        self.now = self.now.max(now);
        let next_request = self.next_request;
        let neighbour = self.neighbours.get_mut(&peer)?;
        let column = match neighbour.kind {
            PeerKind::Viewer => &mut self.bytes.viewers,
            PeerKind::Mirror => &mut self.bytes.mirrors,
            PeerKind::Edge => &mut self.bytes.edge,
        };
        *column += u64::from(len);
        neighbour.heard = now;
        neighbour.frame_at = now;
        neighbour.down.add(now, u64::from(len));
        let Some(asked) = neighbour.asked.get_mut(&frame.request) else {
            self.bytes.wasted += u64::from(len);
            // Late frames of a cancelled request are no fault; frames of one that was never made are.
            if !neighbour.open || frame.request >= next_request {
                self.close(peer, CloseReason::Garbage);
            }
            return None;
        };
        let (object, entry) = (asked.object, self.objects.get(asked.object));
        let piece_len = entry.piece_len(frame.piece);
        let expected = piece_len.saturating_sub(frame.offset).min(FRAME_PAYLOAD);
        if frame.oid != entry.oid || !frame.offset.is_multiple_of(FRAME_PAYLOAD) || len == 0 || len != expected {
            self.bytes.wasted += u64::from(len);
            self.close(peer, CloseReason::Garbage);
            return None;
        }
        let bit = 1u8 << (frame.offset / FRAME_PAYLOAD);
        let Some(frames) = asked.pieces.get_mut(&frame.piece).filter(|frames| **frames & bit == 0) else {
            self.bytes.wasted += u64::from(len);
            return None;
        };
        *frames |= bit;
        Some(Placement { object, size: entry.size, complete: *frames == all_frames(piece_len) })
    }

    /// All frames of a piece are in; `cv` is its hash.
    pub fn peer_piece(&mut self, now: Millis, peer: Peer, request: u32, piece: u32, cv: Cv) {
        self.now = self.now.max(now);
        self.soon();
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        let Some(asked) = neighbour.asked.get_mut(&request) else { return };
        if asked.pieces.remove(&piece).is_none() {
            return;
        }
        let object = asked.object;
        if asked.pieces.is_empty() {
            neighbour.asked.remove(&request);
        }
        self.judge(peer, request, object, piece, cv);
    }

    /// A piece came from elsewhere: whoever was asked for it need not send it any more.
    pub(super) fn call_off(&mut self, object: Object, piece: u32) {
        let mut done = Vec::new();
        for (&peer, neighbour) in &mut self.neighbours {
            for (&id, asked) in &mut neighbour.asked {
                if asked.object == object && asked.pieces.remove(&piece).is_some() {
                    done.push((peer, id, asked.pieces.is_empty()));
                }
            }
            neighbour.asked.retain(|_, asked| !asked.pieces.is_empty());
        }
        for (peer, id, empty) in done {
            let source = Source::Peer(peer, id);
            self.actions.push_back(Action::Discard { source, piece: Some(piece) });
            if empty {
                self.send(peer, &Control::Cancel { id });
            }
        }
    }

    /// Keeps a neighbour's piece if it is right; a wrong one is proof against whoever sent it.
    pub(super) fn judge(&mut self, peer: Peer, request: u32, object: Object, piece: u32, cv: Cv) {
        let source = Source::Peer(peer, request);
        let entry = self.objects.get_mut(object);
        let len = u64::from(entry.piece_len(piece));
        match entry.known_list().map(|list| list.get(piece as usize) == Some(&cv)) {
            None => {
                entry.pending.insert((source, piece), cv);
            }
            Some(false) => {
                let unproven = entry.unproven.is_some();
                self.bytes.wasted += len;
                self.actions.push_back(Action::Discard { source, piece: Some(piece) });
                if unproven {
                    self.contradicted(object, Some((peer, piece, cv)));
                    return;
                }
                self.blame(peer, object, Refused::Piece);
            }
            Some(true) => {
                let now = self.now;
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    neighbour.delivered(now, len);
                }
                if self.entry(object).origin == Origin::Differs {
                    self.bytes.wasted += len;
                    self.actions.push_back(Action::Discard { source, piece: Some(piece) });
                    return;
                }
                self.keep(source, object, piece);
                self.stop_if_met(object);
            }
        }
    }

    fn busy(&mut self, peer: Peer, id: u32, retry_ms: u32) {
        let now = self.now;
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        if neighbour.asked.remove(&id).is_some() {
            neighbour.busy_until = now + Millis::from(retry_ms).clamp(config::TICK_MS, 4 * config::BUSY_MS);
            self.discard_request(peer, id);
            self.soon();
        }
    }

    /// Looks after every link: HELLO in time, signs of life, silence while something is asked.
    pub(super) fn look_after_neighbours(&mut self) {
        let now = self.now;
        let mut next = Millis::MAX;
        let mut late: Vec<(Peer, Late)> = Vec::new();
        for (&peer, neighbour) in &self.neighbours {
            let mut at = |time: Millis, what: Late| {
                if now >= time {
                    late.push((peer, what));
                }
                time
            };
            if !neighbour.open {
                next = next.min(at(neighbour.since + config::HELLO_MS, Late::Hello));
                continue;
            }
            next = next.min(at(neighbour.heard + config::DEAD_MS, Late::Life));
            if let Some(since) = neighbour.asked.values().map(|asked| asked.since).min() {
                next = next.min(at(since.max(neighbour.frame_at) + neighbour.patience(), Late::Answer));
            }
            if now < neighbour.busy_until {
                next = next.min(neighbour.busy_until);
            }
            let idle = neighbour.uploads_queued.is_empty();
            next =
                next.min(at(neighbour.pinged + if idle { config::PING_MS } else { config::BUSY_PING_MS }, Late::Ping));
        }
        self.wake(next.max(now + 1));
        for (peer, what) in late {
            match what {
                Late::Hello => self.close(peer, CloseReason::NoHello),
                Late::Life => self.close(peer, CloseReason::Dead),
                Late::Answer => self.passed_over(peer),
                Late::Ping => self.ping(peer),
            }
        }
    }

    /// The viewer that brought and took least since it came, of those that had time to show what they are worth.
    fn worst_neighbour(&self) -> Option<Peer> {
        let judged = |n: &Neighbour| n.open && n.kind == PeerKind::Viewer && self.now > n.since + config::TRIAL_MS;
        let worth = |n: &Neighbour| (n.verified + n.given / u64::from(PIECE_SIZE)) * 60_000 / (self.now - n.since);
        let viewers = self.neighbours.iter().filter(|(_, n)| judged(n) && n.asked.is_empty());
        viewers.min_by_key(|(_, n)| worth(n)).map(|(&peer, _)| peer)
    }

    /// Now and then the worst of a full neighbourhood makes room for somebody new, who may be better.
    pub(super) fn replace_worst(&mut self) {
        let open = self.neighbours.values().filter(|n| n.open).count();
        let others = (self.population as usize).saturating_sub(1);
        if self.now < self.replaced + config::REPLACE_MS || open < self.config.neighbours || others < 2 * open {
            return;
        }
        self.replaced = self.now;
        // Chance spares the worst one time in four: not all worth shows in bytes.
        let spared = self.rng.bytes::<1>()[0] < 64;
        if let Some(peer) = self.worst_neighbour().filter(|_| !spared) {
            self.send(peer, &Control::Bye { reason: 1 });
            self.close(peer, CloseReason::Surplus);
        }
    }

    fn ping(&mut self, peer: Peer) {
        if !self.neighbours.contains_key(&peer) {
            return;
        }
        let nonce = u32::from_le_bytes(self.rng.bytes());
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.pinged = self.now;
            neighbour.ping.get_or_insert((nonce, self.now));
        }
        self.send(peer, &Control::Ping { nonce, reply: false });
    }

    /// A silent neighbour: what it was asked for is asked elsewhere, and it waits longer each time.
    fn passed_over(&mut self, peer: Peer) {
        let now = self.now;
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        neighbour.capacity /= 2.0;
        neighbour.busy_until = now + ((2 * config::BUSY_MS) << neighbour.silent.min(4));
        neighbour.silent += 1;
        for id in std::mem::take(&mut neighbour.asked).into_keys() {
            self.send(peer, &Control::Cancel { id });
            self.discard_request(peer, id);
        }
    }

    fn discard_request(&mut self, peer: Peer, id: u32) {
        self.actions.push_back(Action::Discard { source: Source::Peer(peer, id), piece: None });
    }

    /// Lets a neighbour go.
    pub(super) fn close(&mut self, peer: Peer, reason: CloseReason) {
        if self.forget(peer) {
            self.actions.push_back(Action::Close { peer, reason });
        }
    }

    fn forget(&mut self, peer: Peer) -> bool {
        let Some(neighbour) = self.neighbours.remove(&peer) else { return false };
        for id in neighbour.asked.into_keys() {
            self.discard_request(peer, id);
        }
        for entry in &mut self.objects.entries {
            entry.pending.retain(|(source, _), _| !matches!(source, Source::Peer(other, _) if *other == peer));
        }
        self.forget_lists_of(peer);
        self.soon();
        if self.population > 1 && !self.neighbours.values().any(Neighbour::is_peer) {
            self.expecting = self.now + config::CONNECT_MS; // others are to be had
        }
        true
    }
}

/// What a neighbour owes.
enum Late {
    Hello,
    Life,
    Answer,
    Ping,
}

impl Neighbour {
    /// A piece of `len` bytes from it was right.
    fn delivered(&mut self, now: Millis, len: u64) {
        self.verified += 1;
        self.silent = 0;
        self.piece_at = now;
        self.burst.1 += len;
        let elapsed = now.saturating_sub(self.burst.0).max(1);
        let sample = self.burst.1 as f64 * 1_000.0 / elapsed as f64;
        if self.capacity == 0.0 {
            self.capacity = sample;
        } else if elapsed >= config::RATE_SAMPLE_MS {
            self.capacity = 0.7 * self.capacity + 0.3 * sample;
            self.burst = (now, 0);
        }
    }
}
