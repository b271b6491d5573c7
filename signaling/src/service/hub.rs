//! The shard behind its lock, and the queues to the sockets.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_websockets::CloseCode;

use super::{Stats, handshake::Refusal};
use crate::{
    address, defaults,
    ids::{ConnectionId, Millis},
    metrics::Metrics,
    shard::{Client, CloseReason, Outbox, Shard},
};

/// All that sockets share. One lock is held for microseconds at a time; sends only go into queues under it, so that
/// messages leave in the order in which the shard decided them.
#[derive(Debug)]
pub(super) struct Hub {
    state: Mutex<State>,
    seats: Arc<Mutex<Seats>>,
    metrics: Metrics,
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    shard: Shard,
    queues: HashMap<ConnectionId, Queue>,
    /// When [`Hub::timeout`] will be called.
    scheduled: Option<Millis>,
}

/// The way to one socket.
#[derive(Debug)]
struct Queue {
    sender: mpsc::UnboundedSender<Queued>,
    /// Bytes in it.
    bytes: Arc<AtomicUsize>,
    /// Ends the socket without a word.
    cut: CancellationToken,
}

/// Something to write to a socket.
#[derive(Debug)]
pub(super) enum Queued {
    /// A message; when it was received, if it is a relayed one.
    Text { text: Bytes, relayed: Option<Instant> },
    /// The end.
    Close(CloseCode, &'static str),
}

/// The socket's end of its queue.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) queue: mpsc::UnboundedReceiver<Queued>,
    pub(super) bytes: Arc<AtomicUsize>,
    pub(super) cut: CancellationToken,
}

#[derive(Debug, Default)]
struct Seats {
    taken: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Room for one connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Mutex<Seats>>,
    address: Option<IpAddr>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = lock(&self.seats);
        seats.taken -= 1;
        if let Some(address) = self.address
            && let Some(count) = seats.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                seats.by_address.remove(&address);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(super) fn new(shard: Shard, metrics: Metrics, wake: Arc<Notify>) -> Self {
        let state = State { shard, queues: HashMap::new(), scheduled: None };
        Self { state: Mutex::new(state), seats: Arc::default(), metrics, wake }
    }

    /// Takes room for a connection from this address.
    pub(super) fn seat(&self, address: Option<IpAddr>) -> Result<Seat, Refusal> {
        let address = address.map(address::subscriber);
        let mut seats = lock(&self.seats);
        if seats.taken >= defaults::MAX_CONNECTIONS {
            return Err(Refusal::Full);
        }
        if let Some(address) = address {
            let count = seats.by_address.entry(address).or_default();
            if *count >= defaults::MAX_CONNECTIONS_PER_ADDRESS {
                return Err(Refusal::AddressFull);
            }
            *count += 1;
        }
        seats.taken += 1;
        Ok(Seat { seats: Arc::clone(&self.seats), address })
    }

    /// A WebSocket has opened.
    pub(super) fn open(&self, now: Millis, client: Client) -> (ConnectionId, Receiver) {
        let (sender, queue) = mpsc::unbounded_channel();
        let (bytes, cut) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let receiver = Receiver { queue, bytes: Arc::clone(&bytes), cut: cut.clone() };
        let mut state = lock(&self.state);
        let id = state.shard.open(now, client);
        state.queues.insert(id, Queue { sender, bytes, cut });
        self.metrics.connections.inc();
        self.reschedule(&mut state);
        (id, receiver)
    }

    /// It has closed.
    pub(super) fn close(&self, now: Millis, id: ConnectionId, clean: bool) {
        let mut state = lock(&self.state);
        if state.queues.remove(&id).is_some() {
            self.metrics.connections.dec();
        }
        let mut out = Outbox::default();
        state.shard.close(now, id, clean, &mut out);
        self.finish(&mut state, out, Instant::now());
    }

    /// Lets the shard do something about a message that came at `received`.
    pub(super) fn run(&self, received: Instant, act: impl FnOnce(&mut Shard, &mut Outbox)) {
        let mut out = Outbox::default();
        let mut state = lock(&self.state);
        act(&mut state.shard, &mut out);
        self.finish(&mut state, out, received);
    }

    /// Does what is due; returns when the next is.
    pub(super) fn timeout(&self, now: Millis) -> Option<Millis> {
        let mut out = Outbox::default();
        let mut state = lock(&self.state);
        state.shard.timeout(now, &mut out);
        // The caller sleeps until then: nobody has to wake it for this.
        state.scheduled = state.shard.next_timeout();
        self.finish(&mut state, out, Instant::now());
        state.scheduled
    }

    /// Ends every connection.
    pub(super) fn close_all(&self, code: CloseCode, reason: &'static str) {
        for queue in lock(&self.state).queues.values() {
            let _ = queue.sender.send(Queued::Close(code, reason));
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let state = lock(&self.state);
        let counts = state.shard.counts();
        Stats {
            connections: state.queues.len(),
            videos: state.shard.videos(),
            viewers: counts.viewers,
            mirrors: counts.mirrors,
            edges: counts.edges,
        }
    }

    fn finish(&self, state: &mut State, out: Outbox, received: Instant) {
        if let Some(kind) = out.received {
            self.metrics.message(kind, "in");
        }
        for reason in out.rejects {
            self.metrics.reject(reason);
        }
        for send in out.sends {
            let Some(queue) = state.queues.get(&send.to) else { continue };
            let waiting = queue.bytes.fetch_add(send.text.len(), Ordering::Relaxed);
            // A single message always fits: the limit is about those who do not read.
            if waiting > 0 && waiting + send.text.len() > defaults::MAX_QUEUE {
                self.metrics.reject("slow-reader");
                queue.cut.cancel();
                continue;
            }
            self.metrics.message(send.kind, "out");
            let relayed = send.relayed.then_some(received);
            // It fails if the socket has just ended; its task will say so.
            let _ = queue.sender.send(Queued::Text { text: send.text, relayed });
        }
        for (id, reason) in out.closes {
            let (code, text, label) = match reason {
                CloseReason::Abuse => (CloseCode::POLICY_VIOLATION, "too many wrong messages", "closed-abuse"),
                CloseReason::Idle => (CloseCode::NORMAL_CLOSURE, "in no video", "closed-idle"),
            };
            self.metrics.reject(label);
            if let Some(queue) = state.queues.get(&id) {
                let _ = queue.sender.send(Queued::Close(code, text));
            }
        }
        self.metrics.set_peers(state.shard.counts());
        self.reschedule(state);
    }

    fn reschedule(&self, state: &mut State) {
        let next = state.shard.next_timeout();
        if next.is_some_and(|next| state.scheduled.is_none_or(|scheduled| next < scheduled)) {
            state.scheduled = next;
            self.wake.notify_one();
        }
    }
}
