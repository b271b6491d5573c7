//! The server's line and the transfers over it.
//!
//! Each transfer moves in chunks of at most a piece or a tenth of a second. Its rate is below what losses, slow start, the
//! receiver's downlink and the server's cap per connection allow, and below the fair level of the line: that level is
//! reckoned anew when transfers begin or end, at most every [`LEVEL_MS`].

use marea_swarm::{Millis, PIECE_SIZE, swarm::Fetch};

use super::{
    net::{IDLE_MS, reno, slow_start},
    viewer::NO_UDP,
    world::{Event, World},
};

/// Least time between two reckonings of the fair level, in milliseconds.
const LEVEL_MS: Millis = 10;
/// Longest chunk, in milliseconds.
const CHUNK_MS: f64 = 100.0;
/// Shortest chunk, in bytes.
const CHUNK_BYTES: f64 = 4_096.0;
/// What a server takes to answer, in milliseconds.
const THINK_MS: f64 = 2.0;
/// Bytes of request and response headers: none of the figures counts them, but they take time.
const HEADERS: f64 = 700.0;

/// What a transfer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Media for the core.
    Media(Fetch),
    /// Media for the player alone; by number of the load.
    Plain,
    /// A piece list for the core.
    List(Fetch),
}

/// One GET.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// For whom.
    pub viewer: usize,
    /// What.
    pub kind: Kind,
    /// Segment, by its place in the film.
    pub segment: usize,
    /// Next byte of the object.
    pub at: u32,
    /// One past the last.
    pub end: u32,
    /// Bytes of the chunk that is on its way; 0 before the response.
    chunk: u32,
    begun: bool,
    alive: bool,
    turn: u32,
    cap: f64,
}

/// The server.
#[derive(Debug, Default)]
pub struct Server {
    /// All transfers; those that are over are used again.
    pub transfers: Vec<Transfer>,
    free: Vec<usize>,
    active: usize,
    level: f64,
    level_at: Millis,
    level_stale: bool,
    /// When the line is through with what it was given.
    busy: f64,
    /// Bytes of media that left it.
    pub media: u64,
    /// Bytes of piece lists.
    pub lists: u64,
    /// Bytes of playlists.
    pub playlists: u64,
    /// Requests for media and lists.
    pub requests: u64,
    /// Bytes of media per second of the run: to viewers who can reach others, and to those without UDP, for whom there
    /// is only the server.
    pub timeline: Vec<[u64; 2]>,
}

impl World {
    /// What one transfer of a viewer may take, before the line is shared.
    fn http_cap(&self, viewer: usize) -> f64 {
        let rtt = self.server_rtt(viewer);
        let peer = &self.viewers[viewer];
        reno(rtt, peer.loss)
            .min(slow_start(rtt, peer.http_ramp.0))
            .min(peer.down / f64::from(peer.incoming.max(1)))
            .min(self.scenario.server_each / 8_000.0)
    }

    /// The fair level of the line now, in bytes per millisecond.
    fn level(&mut self) -> f64 {
        let Some(line) = self.scenario.server_line else { return f64::INFINITY };
        if self.server.level_stale && self.now >= self.server.level_at + LEVEL_MS {
            let caps = &mut self.scratch.0;
            caps.clear();
            caps.extend(self.server.transfers.iter().filter(|t| t.alive && t.begun).map(|t| t.cap));
            caps.sort_unstable_by(f64::total_cmp);
            let mut left = line / 8_000.0;
            let mut level = f64::INFINITY;
            for (done, &cap) in caps.iter().enumerate() {
                let fair = left / (caps.len() - done) as f64;
                if cap >= fair {
                    level = fair;
                    break;
                }
                left -= cap;
            }
            self.server.level = level;
            self.server.level_at = self.now;
            self.server.level_stale = false;
        }
        // Before the first transfer the line is free.
        if self.server.level > 0.0 { self.server.level } else { f64::INFINITY }
    }

    /// Milliseconds that a small answer of `bytes` takes: playlists.
    pub(super) fn small_answer(&mut self, viewer: usize, bytes: u64) -> Millis {
        let rtt = self.server_rtt(viewer);
        let line = self.level();
        let rate = self.http_cap(viewer).min(line);
        let fresh = if self.viewers[viewer].http_warm { 0.0 } else { 2.0 * rtt };
        self.viewers[viewer].http_warm = true;
        (rtt + fresh + THINK_MS + (bytes as f64 + HEADERS) / rate).ceil() as Millis
    }

    /// A GET of bytes `at..end` of a segment (or of its list).
    pub(super) fn get(&mut self, viewer: usize, kind: Kind, segment: usize, at: u32, end: u32) -> usize {
        let rtt = self.server_rtt(viewer);
        let fresh = if self.viewers[viewer].http_warm { 0.0 } else { 2.0 * rtt };
        self.viewers[viewer].http_warm = true;
        let slot = self.server.free.pop().unwrap_or(self.server.transfers.len());
        let turn = self.server.transfers.get(slot).map_or(0, |t| t.turn + 1);
        let transfer = Transfer { viewer, kind, segment, at, end, chunk: 0, begun: false, alive: true, turn, cap: 0.0 };
        match self.server.transfers.get_mut(slot) {
            Some(old) => *old = transfer,
            None => self.server.transfers.push(transfer),
        }
        self.server.requests += 1;
        self.server.active += 1;
        let at = self.now + ((rtt + fresh + THINK_MS).ceil() as Millis).max(1);
        self.queue.push(at, Event::Http { slot, turn });
        slot
    }

    /// A transfer is not wanted any more. What is on its way has left the server.
    pub(super) fn drop_transfer(&mut self, slot: usize) {
        let transfer = &mut self.server.transfers[slot];
        if !transfer.alive {
            return;
        }
        transfer.alive = false;
        if transfer.begun {
            self.viewers[transfer.viewer].incoming -= 1;
        }
        let viewer = transfer.viewer;
        self.viewers[viewer].http_ramp.1 = self.now;
        self.server.level_stale = true;
        self.server.active -= 1;
        self.server.free.push(slot);
    }

    /// A chunk has arrived, or the response.
    pub(super) fn http_event(&mut self, slot: usize, turn: u32) {
        let now = self.now;
        let Some(transfer) = self.server.transfers.get_mut(slot).filter(|t| t.alive && t.turn == turn) else { return };
        let (viewer, kind) = (transfer.viewer, transfer.kind);
        if let Kind::List(fetch) = kind {
            let (segment, bytes) = (transfer.segment, transfer.end);
            self.server.lists += u64::from(bytes);
            self.drop_transfer(slot);
            self.list_arrived(viewer, fetch, segment);
            return;
        }
        if !transfer.begun {
            transfer.begun = true;
            let peer = &mut self.viewers[viewer];
            peer.incoming += 1;
            if now > peer.http_ramp.1 + IDLE_MS && peer.incoming == 1 {
                peer.http_ramp.0 = 0.0;
            }
            self.server.level_stale = true;
            if let Kind::Media(fetch) = kind {
                self.response_arrived(viewer, fetch, slot);
            }
        } else {
            let bytes = transfer.chunk;
            transfer.at += bytes;
            self.viewers[viewer].http_ramp.0 += f64::from(bytes);
            let (segment, at, end) = (transfer.segment, transfer.at, transfer.end);
            if at == end {
                self.drop_transfer(slot);
            }
            self.http_arrived(viewer, kind, segment, bytes, at, at == end);
        }
        self.http_chunk(slot, turn);
    }

    /// The next chunk leaves.
    fn http_chunk(&mut self, slot: usize, turn: u32) {
        let Some(transfer) = self.server.transfers.get(slot).filter(|t| t.alive && t.turn == turn) else { return };
        let (viewer, at, end) = (transfer.viewer, transfer.at, transfer.end);
        let cap = self.http_cap(viewer);
        self.server.transfers[slot].cap = cap;
        let rate = cap.min(self.level());
        let border = (at / PIECE_SIZE + 1) * PIECE_SIZE;
        let most = (rate * CHUNK_MS).max(CHUNK_BYTES) as u32;
        let bytes = most.min(border.min(end) - at);
        self.server.transfers[slot].chunk = bytes;
        self.server.media += u64::from(bytes);
        let second = (self.now / 1000) as usize;
        if self.server.timeline.len() <= second {
            self.server.timeline.resize(second + 1, [0; 2]);
        }
        let alone = usize::from(self.viewers[viewer].nat == NO_UDP);
        self.server.timeline[second][alone] += u64::from(bytes);
        let mut after = f64::from(bytes) / rate;
        if let Some(line) = self.scenario.server_line {
            // Rates that were fair when chunks left may be too much together by now: the line carries no more for that.
            self.server.busy = self.server.busy.max(self.now as f64) + f64::from(bytes) * 8_000.0 / line;
            after = after.max(self.server.busy - self.now as f64);
        }
        let after = (after.round() as Millis).max(1);
        self.queue.push(self.now + after, Event::Http { slot, turn });
    }
}
