//! A sans-IO core behind its lock, and the queues to the sockets.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_websockets::CloseCode;

use super::core::Core;
#[cfg(feature = "redis")]
use crate::cluster::redis::Outbound;
use crate::{
    defaults,
    ids::{ConnectionId, Millis},
    metrics::Metrics,
    shard::{Client, CloseReason, Outbox},
};

/// All that sockets share. One lock is held for microseconds at a time; sends only go into queues under it, so that
/// messages leave in the order in which the shard decided them.
#[derive(Debug)]
pub(super) struct Hub<C> {
    state: Mutex<State<C>>,
    metrics: Metrics,
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct State<C> {
    core: C,
    queues: HashMap<ConnectionId, Queue>,
    /// When [`Hub::timeout`] will be called.
    scheduled: Option<Millis>,
    /// Counters of messages by type, in and out: a few, found faster than by their labels.
    counters: [Vec<(&'static str, Counter)>; 2],
    /// The way to other nodes.
    #[cfg(feature = "redis")]
    outbound: Option<Arc<Outbound>>,
}

#[derive(Clone, Copy)]
enum Direction {
    In,
    Out,
}

fn count(
    counters: &mut [Vec<(&'static str, Counter)>; 2],
    metrics: &Metrics,
    direction: Direction,
    kind: &'static str,
) {
    let known = &mut counters[direction as usize];
    if let Some((_, counter)) = known.iter().find(|(name, _)| std::ptr::eq(*name, kind)) {
        counter.inc();
        return;
    }
    let label = match direction {
        Direction::In => "in",
        Direction::Out => "out",
    };
    let counter = metrics.messages(kind, label);
    counter.inc();
    known.push((kind, counter));
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

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C> Drop for Hub<C> {
    fn drop(&mut self) {
        // Who keeps its time waits for this.
        self.wake.notify_one();
    }
}

impl<C: Core> Hub<C> {
    pub(super) fn new(core: C, metrics: Metrics) -> Self {
        let state = State {
            core,
            queues: HashMap::new(),
            scheduled: None,
            counters: [Vec::new(), Vec::new()],
            #[cfg(feature = "redis")]
            outbound: None,
        };
        Self { state: Mutex::new(state), metrics, wake: Arc::default() }
    }

    /// There are other nodes, and this is the way to them.
    #[cfg(feature = "redis")]
    pub(super) fn set_outbound(&self, outbound: Arc<Outbound>) {
        lock(&self.state).outbound = Some(outbound);
    }

    /// Told when the next timeout has come nearer, and at the end.
    pub(super) fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// A WebSocket has opened.
    pub(super) fn open(&self, now: Millis, client: Client) -> (ConnectionId, Receiver) {
        let (sender, queue) = mpsc::unbounded_channel();
        let (bytes, cut) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let receiver = Receiver { queue, bytes: Arc::clone(&bytes), cut: cut.clone() };
        let mut state = lock(&self.state);
        let id = state.core.open(now, client);
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
        state.core.close(now, id, clean, &mut out);
        self.finish(&mut state, out, Instant::now());
    }

    /// Lets the core do something about a message that came at `received`.
    pub(super) fn run(&self, received: Instant, act: impl FnOnce(&mut C, &mut Outbox)) {
        let mut out = Outbox::default();
        let mut state = lock(&self.state);
        act(&mut state.core, &mut out);
        self.finish(&mut state, out, received);
    }

    /// Does what is due; returns when the next is.
    pub(super) fn timeout(&self, now: Millis) -> Option<Millis> {
        let mut out = Outbox::default();
        let mut state = lock(&self.state);
        state.core.timeout(now, &mut out);
        // The caller sleeps until then: nobody has to wake it for this.
        state.scheduled = state.core.next_timeout();
        self.finish(&mut state, out, Instant::now());
        state.scheduled
    }

    /// Ends every connection.
    pub(super) fn close_all(&self, code: CloseCode, reason: &'static str) {
        for queue in lock(&self.state).queues.values() {
            let _ = queue.sender.send(Queued::Close(code, reason));
        }
    }

    /// Looks at the core, and at the number of its connections.
    pub(super) fn look<T>(&self, at: impl FnOnce(&C, usize) -> T) -> T {
        let state = lock(&self.state);
        at(&state.core, state.queues.len())
    }

    fn finish(&self, state: &mut State<C>, out: Outbox, received: Instant) {
        if let Some(kind) = out.received {
            count(&mut state.counters, &self.metrics, Direction::In, kind);
        }
        for reason in out.rejects {
            self.metrics.reject(reason);
        }
        #[cfg(feature = "redis")]
        if let Some(outbound) = &state.outbound {
            out.changed.into_iter().for_each(|(swarm, numbers)| outbound.change(swarm, numbers));
            for (node, message) in out.nodes {
                if !outbound.send(node, message) {
                    self.metrics.reject("node-queue-full");
                }
            }
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
            count(&mut state.counters, &self.metrics, Direction::Out, send.kind);
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
        state.core.measure(&self.metrics);
        self.reschedule(state);
    }

    fn reschedule(&self, state: &mut State<C>) {
        let next = state.core.next_timeout();
        if next.is_some_and(|next| state.scheduled.is_none_or(|scheduled| next < scheduled)) {
            state.scheduled = next;
            self.wake.notify_one();
        }
    }
}
