//! What is known of a neighbour, and what is under way with it in both directions.

use std::collections::VecDeque;

use super::{
    action::{Object, PeerSetup},
    bitfield::Bitfield,
    estimate::{Rate, Spread},
};
use crate::{
    config,
    ids::{Millis, Oid, PIECE_SIZE},
    map::Map,
    wire::{FRAME_PAYLOAD, PeerKind, PieceSet},
};

/// A REQUEST that we made: a run of pieces of one object.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) object: Object,
    /// Pieces still to come, with the frames of each that are in (bit `i`: offset `i * FRAME_PAYLOAD`).
    pub(crate) pieces: Map<u32, u8>,
    pub(crate) since: Millis,
    /// Another was asked for the same before.
    pub(crate) again: bool,
}

/// A REQUEST that we answer.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) id: u32,
    pub(crate) object: Object,
    pub(crate) piece: u32,
    pub(crate) end: u32,
    pub(crate) offset: u32,
    pub(crate) until: Millis,
}

/// A budget per second, of which some seconds' worth may be used at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    per_second: u32,
    most: f64,
    left: f64,
    at: Millis,
}

impl Allowance {
    pub(crate) fn new(per_second: u32, seconds: u32, now: Millis) -> Self {
        let most = f64::from(per_second) * f64::from(seconds);
        Self { per_second, most, left: most, at: now }
    }

    /// Takes `amount`; false if it was not there.
    pub(crate) fn take(&mut self, now: Millis, amount: u32) -> bool {
        let gained = f64::from(self.per_second) * now.saturating_sub(self.at) as f64 / 1_000.0;
        self.left = (self.left + gained).min(self.most) - f64::from(amount);
        self.at = now;
        self.left >= 0.0
    }

    /// What was taken does not count.
    pub(crate) fn give_back(&mut self, amount: u32) {
        self.left += f64::from(amount);
    }
}

/// One neighbour.
#[derive(Debug)]
pub(crate) struct Neighbour {
    pub(crate) setup: PeerSetup,
    pub(crate) kind: PeerKind,
    pub(crate) since: Millis,
    /// HELLO came with a right proof.
    pub(crate) open: bool,
    /// It answers requests.
    pub(crate) uploads: bool,
    /// Its uplink by its own word, in bytes per second; 0 if unknown.
    pub(crate) uplink: u32,
    pub(crate) has: Map<Object, Bitfield>,
    /// What it has of objects that no playlist names yet.
    pub(crate) unknown: Map<Oid, Vec<PieceSet>>,
    pub(crate) heard: Millis,
    pub(crate) rtt: Spread,
    /// Smallest round trips of this span and of the one before, and when this one began.
    rtt_min: (f64, f64, Millis),
    /// When a round trip was measured last, and how far it was above the minimum.
    pub(crate) rtt_at: Millis,
    pub(crate) delay: f64,
    pub(crate) ping: Option<(u32, Millis)>,
    pub(crate) pinged: Millis,

    pub(crate) asked: Map<u32, Asked>,
    /// Last frame of media.
    pub(crate) frame_at: Millis,
    /// Last whole piece that was right.
    pub(crate) piece_at: Millis,
    pub(crate) down: Rate,
    /// Best rate lately while it was asked for something, in bytes per second; 0 before the first piece.
    pub(crate) capacity: f64,
    pub(crate) busy_until: Millis,
    /// Times in a row that it fell silent while something was asked of it.
    pub(crate) silent: u32,
    pub(crate) verified: u64,
    /// When its current run of deliveries began, and bytes since.
    pub(crate) burst: (Millis, u64),

    pub(crate) uploads_queued: VecDeque<Upload>,
    /// Bytes unsent in its `data` channel.
    pub(crate) unsent: u32,
    /// When bytes left it last, or came into it when it was empty.
    pub(crate) drained_at: Millis,
    /// Stretch of our uplink's work in which its channel was filled first; 0 for none.
    pub(crate) filled: u32,
    pub(crate) up: Rate,
    /// Bytes sent to it in all.
    pub(crate) given: u64,

    pub(crate) requests_allowed: Allowance,
    pub(crate) control_allowed: Allowance,
    /// Claims that are news.
    pub(crate) claims_allowed: Allowance,
    /// Bytes of playlists that it gets from us.
    pub(crate) texts_allowed: Allowance,
    /// Our HELLO's nonce.
    pub(crate) nonce: [u8; 16],
    /// What fixes its rank among claimers.
    pub(crate) draw_key: u64,
}

impl Neighbour {
    pub(crate) fn new(now: Millis, setup: PeerSetup, nonce: [u8; 16], draw_key: u64) -> Self {
        Self {
            setup,
            kind: PeerKind::Viewer,
            since: now,
            open: false,
            uploads: false,
            uplink: 0,
            has: Map::new(),
            unknown: Map::new(),
            heard: now,
            rtt: Spread::new(100.0),
            rtt_min: (f64::INFINITY, f64::INFINITY, now),
            rtt_at: 0,
            delay: 0.0,
            ping: None,
            pinged: now,
            asked: Map::new(),
            frame_at: now,
            piece_at: now,
            down: Rate::default(),
            capacity: 0.0,
            busy_until: 0,
            silent: 0,
            verified: 0,
            burst: (now, 0),
            uploads_queued: VecDeque::new(),
            unsent: 0,
            drained_at: now,
            filled: 0,
            up: Rate::default(),
            given: 0,
            requests_allowed: Allowance::new(config::MAX_REQUESTS_PER_SECOND, 2, now),
            control_allowed: Allowance::new(config::MAX_CONTROL_BYTES_PER_SECOND, 2, now),
            claims_allowed: Allowance::new(config::MAX_CLAIMS_PER_SECOND, 2, now),
            texts_allowed: Allowance::new(config::TEXT_BYTES_PER_SECOND, config::TEXT_BURST_SECONDS, now),
            nonce,
            draw_key,
        }
    }

    /// A round trip took `ms`.
    pub(crate) fn round_trip(&mut self, now: Millis, ms: f64) {
        self.rtt.add(ms);
        let (this, before, since) = &mut self.rtt_min;
        if now >= *since + config::RTT_MIN_MS {
            (*before, *this, *since) = (*this, f64::INFINITY, now);
        }
        *this = this.min(ms);
        (self.rtt_at, self.delay) = (now, ms - this.min(*before));
    }

    pub(crate) fn has_piece(&self, object: Object, piece: u32) -> bool {
        self.has.get(&object).is_some_and(|have| have.contains(piece))
    }

    pub(crate) fn has_any(&self, object: Object) -> bool {
        self.has.get(&object).is_some_and(|have| !have.is_empty())
    }

    /// Pieces asked for and not yet here.
    pub(crate) fn outstanding(&self) -> u32 {
        self.asked.values().map(|asked| asked.pieces.len() as u32).sum()
    }

    /// How many pieces may be outstanding: the bandwidth-delay product and a half, so that the sender never idles.
    pub(crate) fn window(&self) -> u32 {
        if self.verified == 0 {
            return config::STRANGER_PIECES;
        }
        let product = 1.5 * self.capacity * (self.rtt.high() + 50.0) / 1_000.0 / f64::from(PIECE_SIZE);
        (product.ceil() as u32).clamp(4, config::MAX_OUTSTANDING_PIECES)
    }

    /// Whether it is open and no edge. An edge is the server by another way: no reason not to ask the server, and asked only where
    /// that fails.
    pub(crate) fn is_peer(&self) -> bool {
        self.open && self.kind != PeerKind::Edge
    }

    /// Whether it is a peer that answers requests.
    pub(crate) fn gives(&self) -> bool {
        self.is_peer() && self.uploads
    }

    /// Whether it can be asked for a piece now.
    pub(crate) fn ready(&self, now: Millis) -> bool {
        self.open && self.uploads && now >= self.busy_until && self.outstanding() < self.window()
    }

    /// Milliseconds until a piece asked for now would be here.
    pub(crate) fn eta(&self) -> f64 {
        self.rtt.mean() + f64::from(self.outstanding() + 1) * self.piece_ms()
    }

    /// Milliseconds per piece at its rate.
    pub(crate) fn piece_ms(&self) -> f64 {
        let rate = if self.capacity > 0.0 { self.capacity } else { config::STRANGER_RATE };
        f64::from(PIECE_SIZE) * 1_000.0 / rate
    }

    /// Pieces of `object` that were asked of it and that it can bring within `within_ms`, as far as its rate tells. One that
    /// should have been here for as long is not among them.
    pub(crate) fn bringing(&self, object: Object, now: Millis, within_ms: f64) -> impl Iterator<Item = u32> + '_ {
        let (rtt, each) = (self.rtt.mean(), self.piece_ms());
        let late = within_ms.max(config::LATE_MS);
        let silent = move |asked: &&Asked| now >= asked.since.max(self.frame_at) + self.patience() / 2;
        let queue = self.asked.values().filter(move |asked| !silent(asked));
        let pieces = queue.flat_map(|asked| asked.pieces.keys().map(move |&piece| (asked, piece)));
        pieces.enumerate().filter_map(move |(turn, (asked, piece))| {
            let takes = (turn + 1) as f64 * each;
            let elapsed = now.saturating_sub(asked.since.max(self.piece_at)) as f64;
            (asked.object == object && takes <= within_ms && elapsed <= rtt + takes + late).then_some(piece)
        })
    }

    /// How long it may be silent while something is asked of it, in milliseconds.
    pub(crate) fn patience(&self) -> Millis {
        ((4.0 * self.rtt.high()) as Millis).max(config::SILENCE_MS) + config::UPLOAD_QUEUE_MS
    }

    /// Some of a piece went to it, and the rest is still to go.
    pub(crate) fn upload_begun(&self) -> bool {
        self.uploads_queued.front().is_some_and(|upload| upload.offset > 0)
    }

    /// Bytes waiting in its upload queue.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.uploads_queued
            .iter()
            .map(|upload| u64::from(upload.end - upload.piece) * u64::from(PIECE_SIZE) - u64::from(upload.offset))
            .sum()
    }
}

/// Bits of the frames of a piece of `len` bytes.
pub(crate) fn all_frames(len: u32) -> u8 {
    ((1u16 << len.div_ceil(FRAME_PAYLOAD)) - 1) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_noticed_and_a_burst_is_not() {
        let mut allowance = Allowance::new(10, 2, 0);
        assert!((0..20).all(|_| allowance.take(0, 1)));
        assert!(!allowance.take(0, 1));
        assert!(allowance.take(1_000, 1));
    }

    #[test]
    fn frames_of_a_piece() {
        assert_eq!(all_frames(1), 0b1);
        assert_eq!(all_frames(FRAME_PAYLOAD), 0b1);
        assert_eq!(all_frames(FRAME_PAYLOAD + 1), 0b11);
        assert_eq!(all_frames(PIECE_SIZE), 0b1111);
    }
}
