//! Peers that are no viewers: scripts that speak the wire by the core's codec and want harm, or just do not help.
//!
//! A script sees the same playlists as everybody (it has the video id) and announces whatever they list.

use marea_swarm::{
    Millis, PIECE_SIZE,
    ids::Oid,
    proof,
    swarm::{Peer, PeerSetup},
    wire::{
        Control, FRAME_PAYLOAD, Frame, Hello, MAX_LIST_ITEMS, PeerKind, PieceSet, decode_control, encode_control,
        encode_frame,
    },
};

use super::{
    film::VIDEO,
    scenario::Role,
    viewer::Packet,
    world::{Event, World},
};

/// How often a script looks for new segments, in milliseconds.
const STEP_MS: Millis = 500;
/// How often a grinder comes back with a fresh id, in milliseconds.
const GRIND_MS: Millis = 20_000;
/// What a trickler sends, in bytes per second.
const TRICKLE: f64 = 1_000.0;

/// State of a script.
#[derive(Debug)]
pub struct Script {
    role: Role,
    /// One past the last segment that it has announced.
    announced: usize,
    /// What a trickler owes: neighbour, request, object, piece, size of the object.
    owed: Vec<(Peer, u32, Oid, u32, u32)>,
    credit: f64,
    ground: Millis,
    nonce: u32,
}

impl Script {
    /// A script that has met nobody.
    pub fn new(role: Role) -> Self {
        Self { role, announced: 0, owed: Vec::new(), credit: 0.0, ground: 0, nonce: 0 }
    }
}

impl World {
    /// A connection of a script is open: it says HELLO, what it can, and what it claims to have.
    pub(super) fn script_open(&mut self, index: usize, peer: Peer, setup: &PeerSetup) {
        let key = proof::swarm_key(VIDEO);
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&self.rng.seed()[..16]);
        let proof = proof::proof(&key, setup.role, &nonce, &setup.local_fingerprint, &setup.remote_fingerprint);
        let hello = Hello { versions: (1, 1), kind: PeerKind::Viewer, nonce, proof };
        self.script_say(index, peer, &Control::Hello(hello));
        self.script_say(index, peer, &Control::Status { uploads: true, uplink: 0 });
        let end = self.film.edge(self.now);
        let first = self.film.spec.window.map_or(0, |window| end.saturating_sub(window));
        for number in first..end {
            self.script_boast(index, Some(peer), number);
        }
    }

    fn script_say(&mut self, index: usize, peer: Peer, message: &Control) {
        self.send_control(index, peer, encode_control(message));
    }

    fn script_role(&self, index: usize) -> Option<Role> {
        self.viewers[index].script.as_ref().map(|script| script.role)
    }

    /// Announces or claims a segment, to one or to all.
    fn script_boast(&mut self, index: usize, to: Option<Peer>, number: usize) {
        let Some(role) = self.script_role(index) else { return };
        let rendition = self.film.spec.bitrates.len() / 2;
        let segment = &self.film.segments[self.film.segment(rendition, number)];
        let (oid, pieces) = (segment.oid(), segment.list.len() as u32);
        let message = if role == Role::FalseClaimer {
            let Some(script) = &mut self.viewers[index].script else { return };
            script.nonce += 1;
            let nonce = (index as u32) << 12 | script.nonce;
            Control::Claim { oid, first: 0, count: pieces as u16, nonce, ttl_ms: 60_000, hops: 0 }
        } else {
            Control::Have { oid, pieces: PieceSet::All }
        };
        let peers: Vec<Peer> = match to {
            Some(peer) => vec![peer],
            None => self.viewers[index].ends.iter().map(|end| end.peer).collect(),
        };
        for peer in peers {
            self.script_say(index, peer, &message);
        }
    }

    /// The script's clock.
    pub(super) fn script_timeout(&mut self, index: usize) {
        let now = self.now;
        if !self.viewers[index].alive || self.viewers[index].script.is_none() {
            return;
        }
        self.queue.push(now + STEP_MS, Event::Script(index));
        let end = self.film.edge(now);
        let Some(script) = &mut self.viewers[index].script else { return };
        let from = std::mem::replace(&mut script.announced, end);
        let role = script.role;
        if from > 0 {
            for number in from..end {
                self.script_boast(index, None, number);
            }
        }
        if role == Role::Trickler {
            self.trickle(index);
        }
        self.tell_want(index);
        if role == Role::Sybil
            && let Some(script) = &mut self.viewers[index].script
            && now > script.ground + GRIND_MS
        {
            // A fresh id by a fresh socket; its connections stay.
            let first_time = std::mem::replace(&mut script.ground, now) == 0;
            if !first_time && let Some(socket) = self.viewers[index].socket.take() {
                self.queue.push(now + 10, Event::SocketClosed(socket, true));
                self.queue.push(now + 100, Event::Socket(index));
            }
        }
    }

    fn trickle(&mut self, index: usize) {
        let Some(script) = &mut self.viewers[index].script else { return };
        script.credit = (script.credit + TRICKLE * STEP_MS as f64 / 1000.0).min(f64::from(FRAME_PAYLOAD));
        if script.credit < f64::from(FRAME_PAYLOAD) || script.owed.is_empty() {
            return;
        }
        script.credit = 0.0;
        let (peer, request, oid, piece, size) = script.owed.remove(0);
        let len = (size - piece * PIECE_SIZE).min(FRAME_PAYLOAD);
        let header = encode_frame(&Frame { request, oid, piece, offset: 0 });
        self.send_packet(index, peer, Packet { header, len, wrong: false });
    }

    /// A control message for a script.
    pub(super) fn script_control(&mut self, index: usize, peer: Peer, bytes: &[u8]) {
        let Some(role) = self.script_role(index) else { return };
        match decode_control(bytes) {
            Ok(Some(Control::Ping { nonce, reply: false })) => {
                self.script_say(index, peer, &Control::Ping { nonce, reply: true });
            }
            Ok(Some(Control::ListGet { oid })) if matches!(role, Role::Polluter | Role::Trickler) => {
                let Some(segment) = self.film.by_oid(oid) else { return };
                let list = self.film.segments[segment].list.clone();
                let total = list.len() as u32;
                for (part, first) in list.chunks(MAX_LIST_ITEMS).zip((0u32..).step_by(MAX_LIST_ITEMS)) {
                    self.script_say(index, peer, &Control::List { oid, total, first, values: part.to_vec() });
                }
            }
            Ok(Some(Control::Request { id, oid, first, count, .. })) => {
                let Some(segment) = self.film.by_oid(oid) else { return };
                let size = self.film.segments[segment].size;
                match role {
                    Role::Polluter => self.pollute(index, peer, id, oid, first..first + count, size),
                    Role::Trickler => {
                        if let Some(script) = &mut self.viewers[index].script {
                            script.owed.extend((first..first + count).map(|piece| (peer, id, oid, piece, size)));
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn pollute(&mut self, index: usize, peer: Peer, request: u32, oid: Oid, pieces: std::ops::Range<u32>, size: u32) {
        for piece in pieces {
            let len = size.saturating_sub(piece * PIECE_SIZE).min(PIECE_SIZE);
            for offset in (0..len).step_by(FRAME_PAYLOAD as usize) {
                let header = encode_frame(&Frame { request, oid, piece, offset });
                let len = (len - offset).min(FRAME_PAYLOAD);
                self.send_packet(index, peer, Packet { header, len, wrong: true });
            }
        }
    }
}
