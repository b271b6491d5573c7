//! Answers to neighbours' requests: limits, turns, and no more in the channel than control traffic can bear.

use std::ops::Range;

use super::{
    Swarm,
    action::{Action, CloseReason, Peer},
    neighbour::{Neighbour, Upload},
};
use crate::{
    config,
    ids::{Millis, Oid, PIECE_SIZE},
    wire::{Control, FRAME_PAYLOAD, Frame, encode_frame},
};

impl Swarm {
    /// Bytes that lie unsent in a neighbour's `data` channel (its `bufferedAmount`): after each frame that was sent, and
    /// whenever it fell low.
    pub fn buffered(&mut self, now: Millis, peer: Peer, bytes: u32) {
        self.now = self.now.max(now);
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        let left = neighbour.unsent.saturating_sub(bytes);
        neighbour.unsent = bytes;
        if left > 0 {
            neighbour.drained_at = self.now;
        }
        let waiting = self.unsent() > 0;
        self.uplink.left(self.now, u64::from(left), waiting);
        self.pump = true;
    }

    /// A REQUEST.
    pub(super) fn upload_asked(&mut self, peer: Peer, id: u32, oid: Oid, pieces: Range<u32>, deadline_ms: u32) {
        let now = self.now;
        let object = self.objects.by_oid(oid);
        let held = object.is_some_and(|object| {
            let entry = self.entry(object);
            !pieces.is_empty() && entry.given() && pieces.clone().all(|piece| entry.have.contains(piece))
        });
        let (Some(object), true) = (object, held && self.may_upload()) else {
            self.send(peer, &Control::Busy { id, retry_ms: config::BUSY_MS as u32 });
            return;
        };
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        if neighbour.uploads_queued.iter().any(|upload| upload.id == id) {
            self.close(peer, CloseReason::Garbage);
            return;
        }
        // Whoever comes when the queue is long had better ask another. One request is always taken.
        let queued: u64 = self.neighbours.values().map(Neighbour::queued_bytes).sum();
        let asked = u64::from(pieces.end - pieces.start) * u64::from(PIECE_SIZE);
        let bearable = (self.uplink.rate() * config::UPLOAD_QUEUE_MS as f64 / 1_000.0) as u64;
        if queued > 0 && queued + asked > bearable {
            let wait = (queued as f64 * 1_000.0 / self.uplink.rate().max(1.0)) as u32;
            let retry_ms = wait.clamp(config::TICK_MS as u32, config::BUSY_MS as u32 * 2);
            self.send(peer, &Control::Busy { id, retry_ms });
            return;
        }
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        neighbour.uploads_queued.push_back(Upload {
            id,
            object,
            piece: pieces.start,
            end: pieces.end,
            offset: 0,
            until: now + Millis::from(deadline_ms),
        });
        self.pump = true;
    }

    /// A CANCEL.
    pub(super) fn upload_cancelled(&mut self, peer: Peer, id: u32) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.uploads_queued.retain(|upload| upload.id != id);
        }
    }

    /// Uploads were switched off: whoever waits is told.
    pub(super) fn refuse_queued(&mut self) {
        let mut refused = Vec::new();
        for (&peer, neighbour) in &mut self.neighbours {
            refused.extend(neighbour.uploads_queued.drain(..).map(|upload| (peer, upload.id)));
        }
        for (peer, id) in refused {
            self.send(peer, &Control::Busy { id, retry_ms: 4 * config::BUSY_MS as u32 });
        }
    }

    pub(super) fn may_upload(&self) -> bool {
        let received = self.bytes.http + self.bytes.viewers + self.bytes.mirrors + self.bytes.edge;
        let limit = self.config.max_upload_ratio.map(|ratio| (received as f64 * ratio) as u64);
        let needy = self.starved() && self.playback.buffered_ms < config::STARVED_BUFFER_MS;
        self.config.upload
            && !needy
            && limit.is_none_or(|limit| self.bytes.uploaded < limit.max(self.config.upload_allowance))
    }

    /// Bytes that wait in the channels of neighbours that take them. One whose channel is stuck does not hold up the others;
    /// and less than a frame is gone after its time, since hosts do not report so little.
    fn unsent(&self) -> u32 {
        let taking = |n: &&Neighbour| {
            let little = n.unsent <= FRAME_PAYLOAD;
            let time = f64::from(n.unsent) * 1_000.0 / self.uplink.rate().max(1.0);
            let patience = if little { (time as Millis).min(config::STUCK_MS) } else { config::STUCK_MS };
            self.now <= n.drained_at + patience
        };
        self.neighbours.values().filter(taking).map(|n| n.unsent).sum()
    }

    /// Sends what limits and channels allow, a piece per neighbour in turn: a whole piece can be passed on, four halves of
    /// four cannot.
    pub(super) fn pump_uploads(&mut self) {
        self.uplink.refill(self.now, self.config.upload_limit.map_or(f64::INFINITY, |limit| limit as f64));
        self.tell_uplink();
        // All channels share one line: what lies in them is what the next frame waits for.
        let most = self.uplink.unsent();
        while let Some((peer, begun)) = self.next_upload() {
            let unsent = self.unsent();
            if unsent >= most || !self.uplink.free(begun) {
                break;
            }
            self.send_frame(peer, unsent == 0);
        }
    }

    /// Whose turn it is: who was begun with (`true`), else the next that waits and has room.
    fn next_upload(&self) -> Option<(Peer, bool)> {
        let room = |n: &Neighbour| n.unsent + FRAME_PAYLOAD <= config::UNSENT_BYTES;
        let waiting = self.neighbours.iter().filter(|(_, n)| !n.uploads_queued.is_empty() && room(n));
        let turns = waiting.map(|(&peer, n)| (!n.upload_begun(), Some(peer) <= self.upload_turn, peer));
        turns.min().map(|(fresh, _, peer)| (peer, !fresh))
    }

    /// Sends the next frame of a neighbour's queue, if there is any that is still of use; `idle` as in
    /// [`super::estimate::Uplink::sent`].
    fn send_frame(&mut self, peer: Peer, idle: bool) {
        let now = self.now;
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        while let Some(upload) = neighbour.uploads_queued.front_mut() {
            let entry = self.objects.get(upload.object);
            if now > upload.until || !entry.have.contains(upload.piece) {
                neighbour.uploads_queued.pop_front();
                continue;
            }
            let piece_len = entry.piece_len(upload.piece);
            let len = (piece_len - upload.offset).min(FRAME_PAYLOAD);
            let frame = Frame { request: upload.id, oid: entry.oid, piece: upload.piece, offset: upload.offset };
            self.actions.push_back(Action::SendFrame {
                peer,
                header: encode_frame(&frame),
                object: upload.object,
                piece: upload.piece,
                offset: upload.offset,
                len,
            });
            upload.offset += len;
            if upload.offset >= piece_len {
                (upload.piece, upload.offset) = (upload.piece + 1, 0);
                self.upload_turn = Some(peer);
            }
            if upload.piece >= upload.end {
                neighbour.uploads_queued.pop_front();
            }
            if neighbour.unsent == 0 {
                neighbour.drained_at = now;
            }
            neighbour.unsent += len;
            neighbour.up.add(now, u64::from(len));
            neighbour.given += u64::from(len);
            self.uplink.sent(now, len, idle, &mut neighbour.filled);
            self.bytes.uploaded += u64::from(len);
            return;
        }
    }

    /// Says what the uplink bears when that has become known or has changed by half.
    fn tell_uplink(&mut self) {
        let rate = self.uplink.rate().min(f64::from(u32::MAX)) as u32;
        if self.uplink.measured() > 0.0 && rate.abs_diff(self.told_uplink) > self.told_uplink / 2 {
            self.told_uplink = rate;
            self.broadcast(&self.status(), None);
        }
    }

    pub(super) fn status(&self) -> Control {
        Control::Status { uploads: self.config.upload, uplink: self.told_uplink }
    }

    /// When more may be sent without anything else happening.
    pub(super) fn next_pump(&self) -> Option<Millis> {
        let queued = self.neighbours.values().any(|n| !n.uploads_queued.is_empty());
        let begun = self.neighbours.values().any(Neighbour::upload_begun);
        queued.then(|| self.now + self.uplink.wait(begun))
    }

    /// A round trip was measured. When most of those measured lately are above their minima it is our own line that is full,
    /// and whatever else uses it comes first.
    pub(super) fn delay_seen(&mut self) {
        let now = self.now;
        let lately = || self.neighbours.values().filter(|n| n.open && now < n.rtt_at + config::DELAY_WINDOW_MS);
        let late = lately().filter(|n| n.delay > config::DELAY_MS as f64).count();
        if late > 0 && 2 * late >= lately().count() {
            let sent = self.neighbours.values().map(|n| n.up.get(now)).sum();
            self.uplink.back_off(now, sent);
        }
    }
}
