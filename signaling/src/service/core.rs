//! What a hub drives: Marea's shard, or the tracker.

use bytes::Bytes;

use crate::{
    defaults,
    ids::{ConnectionId, Millis},
    message::{ErrorCode, ServerMessage},
    metrics::Metrics,
    shard::{Client, Outbox, Shard},
    tracker::Tracker,
};

/// A sans-IO core that speaks by text messages.
pub(super) trait Core: Send + 'static {
    /// Longest message that is read.
    const MAX_MESSAGE: usize;

    fn open(&mut self, now: Millis, client: Client) -> ConnectionId;
    fn text(&mut self, now: Millis, id: ConnectionId, text: &str, out: &mut Outbox);
    fn binary(&mut self, now: Millis, id: ConnectionId, bytes: &[u8], out: &mut Outbox);
    fn close(&mut self, now: Millis, id: ConnectionId, clean: bool, out: &mut Outbox);
    fn timeout(&mut self, now: Millis, out: &mut Outbox);
    fn next_timeout(&self) -> Option<Millis>;
    /// Sets the gauges that are its own.
    fn measure(&self, metrics: &Metrics);
    /// The only message to a page whose origin may not connect.
    fn origin_refusal() -> Bytes;
}

impl Core for Shard {
    const MAX_MESSAGE: usize = defaults::MAX_MESSAGE;

    fn open(&mut self, now: Millis, client: Client) -> ConnectionId {
        self.open(now, client)
    }

    fn text(&mut self, now: Millis, id: ConnectionId, text: &str, out: &mut Outbox) {
        self.handle(now, id, text, out);
    }

    fn binary(&mut self, now: Millis, id: ConnectionId, _: &[u8], out: &mut Outbox) {
        self.handle_binary(now, id, out);
    }

    fn close(&mut self, now: Millis, id: ConnectionId, clean: bool, out: &mut Outbox) {
        self.close(now, id, clean, out);
    }

    fn timeout(&mut self, now: Millis, out: &mut Outbox) {
        self.timeout(now, out);
    }

    fn next_timeout(&self) -> Option<Millis> {
        self.next_timeout()
    }

    fn measure(&self, metrics: &Metrics) {
        metrics.set_peers(self.counts());
    }

    fn origin_refusal() -> Bytes {
        ServerMessage::error(ErrorCode::OriginRefused, None).to_text()
    }
}

impl Core for Tracker {
    const MAX_MESSAGE: usize = defaults::MAX_TRACKER_MESSAGE;

    fn open(&mut self, now: Millis, client: Client) -> ConnectionId {
        self.open(now, &client)
    }

    fn text(&mut self, now: Millis, id: ConnectionId, text: &str, out: &mut Outbox) {
        self.handle(now, id, text, out);
    }

    fn binary(&mut self, now: Millis, id: ConnectionId, bytes: &[u8], out: &mut Outbox) {
        self.handle_binary(now, id, bytes, out);
    }

    fn close(&mut self, _: Millis, id: ConnectionId, _: bool, out: &mut Outbox) {
        self.close(id, out);
    }

    fn timeout(&mut self, now: Millis, out: &mut Outbox) {
        self.timeout(now, out);
    }

    fn next_timeout(&self) -> Option<Millis> {
        self.next_timeout()
    }

    fn measure(&self, metrics: &Metrics) {
        metrics.set_tracker_peers(self.peers());
    }

    fn origin_refusal() -> Bytes {
        Self::origin_refusal()
    }
}
