//! Answers to neighbours' requests: limits, turns, and no more in the channel than control traffic can bear.

use std::ops::Range;

use super::{
    Swarm,
    action::{Action, CloseReason, Peer},
    neighbour::Upload,
};
use crate::{
    config,
    ids::{Millis, Oid},
    wire::{Control, FRAME_PAYLOAD, Frame, encode_frame},
};

impl Swarm {
    /// Bytes that lie unsent in a neighbour's `data` channel (its `bufferedAmount`): after each frame that was sent, and
    /// whenever it fell low.
    pub fn buffered(&mut self, now: Millis, peer: Peer, bytes: u32) {
        self.now = self.now.max(now);
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.unsent = bytes;
            // Only a queue that waits makes this worth a look at the schedule.
            self.dirty |= !neighbour.uploads_queued.is_empty();
        }
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
        let bearable = (neighbour.up.get(now) * config::UPLOAD_QUEUE_MS as f64 / 1_000.0) as u64;
        if neighbour.queued_bytes() > bearable.max(config::UPLOAD_QUEUE_BYTES) {
            self.send(peer, &Control::Busy { id, retry_ms: config::UPLOAD_QUEUE_MS as u32 });
            return;
        }
        neighbour.uploads_queued.push_back(Upload {
            id,
            object,
            piece: pieces.start,
            end: pieces.end,
            offset: 0,
            until: now + Millis::from(deadline_ms),
        });
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

    fn may_upload(&self) -> bool {
        let received = self.bytes.http + self.bytes.viewers + self.bytes.mirrors + self.bytes.edge;
        let limit = self.config.max_upload_ratio.map(|ratio| (received as f64 * ratio) as u64);
        self.config.upload && limit.is_none_or(|limit| self.bytes.uploaded < limit.max(self.config.upload_allowance))
    }

    /// Sends what limits and channels allow, a frame per neighbour in turn.
    pub(super) fn pump_uploads(&mut self) {
        let now = self.now;
        let limit = self.config.upload_limit.map_or(f64::INFINITY, |limit| limit as f64);
        let gained = limit * now.saturating_sub(self.upload_at) as f64 / 1_000.0;
        // At most a quarter second's worth at once, so that a call or a game beside us never waits behind a burst.
        let burst = (limit / 4.0).max(f64::from(FRAME_PAYLOAD));
        self.upload_tokens = (self.upload_tokens + gained).min(burst);
        self.upload_at = now;
        let mut waiting: Vec<Peer> =
            self.neighbours.iter().filter(|(_, n)| !n.uploads_queued.is_empty()).map(|(&peer, _)| peer).collect();
        // Begin after whoever was served last.
        let turn = waiting.iter().position(|&peer| Some(peer) > self.upload_turn).unwrap_or(0);
        waiting.rotate_left(turn);
        while self.upload_tokens > 0.0 && !waiting.is_empty() {
            waiting.retain(|&peer| {
                let sent = self.upload_tokens > 0.0 && self.send_frame(peer);
                if sent {
                    self.upload_turn = Some(peer);
                }
                sent
            });
        }
    }

    /// Sends the next frame of a neighbour's queue; false if there is none or no room for it.
    fn send_frame(&mut self, peer: Peer) -> bool {
        let now = self.now;
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return false };
        loop {
            let Some(upload) = neighbour.uploads_queued.front_mut() else { return false };
            let entry = self.objects.get(upload.object);
            if now > upload.until || !entry.have.contains(upload.piece) {
                neighbour.uploads_queued.pop_front();
                continue;
            }
            let piece_len = entry.piece_len(upload.piece);
            let len = (piece_len - upload.offset).min(FRAME_PAYLOAD);
            if neighbour.unsent + len > config::UNSENT_BYTES {
                return false;
            }
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
            }
            if upload.piece >= upload.end {
                neighbour.uploads_queued.pop_front();
            }
            neighbour.unsent += len;
            neighbour.up.add(now, u64::from(len));
            self.upload_tokens -= f64::from(len);
            self.bytes.uploaded += u64::from(len);
            return true;
        }
    }
}
