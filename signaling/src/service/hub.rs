//! A sans-IO core behind its lock, and the queues to the sockets.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;

use super::{core::Core, frame::CloseCode, mailbox::Mailbox};
#[cfg(feature = "redis")]
use crate::cluster::redis::Outbound;
use crate::{
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
    mailboxes: HashMap<ConnectionId, Arc<Mailbox>>,
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
            mailboxes: HashMap::new(),
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
    pub(super) fn open(&self, now: Millis, client: Client) -> (ConnectionId, Arc<Mailbox>) {
        let mailbox = Arc::default();
        let mut state = lock(&self.state);
        let id = state.core.open(now, client);
        state.mailboxes.insert(id, Arc::clone(&mailbox));
        self.metrics.connections.inc();
        self.reschedule(&mut state);
        (id, mailbox)
    }

    /// It has closed.
    pub(super) fn close(&self, now: Millis, id: ConnectionId, clean: bool) {
        let mut state = lock(&self.state);
        if state.mailboxes.remove(&id).is_some() {
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
        for mailbox in lock(&self.state).mailboxes.values() {
            mailbox.close(code, reason);
        }
    }

    /// Looks at the core, and at the number of its connections.
    pub(super) fn look<T>(&self, at: impl FnOnce(&C, usize) -> T) -> T {
        let state = lock(&self.state);
        at(&state.core, state.mailboxes.len())
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
            let Some(mailbox) = state.mailboxes.get(&send.to) else { continue };
            if mailbox.text(send.text, send.relayed.then_some(received)) {
                count(&mut state.counters, &self.metrics, Direction::Out, send.kind);
            } else {
                self.metrics.reject("slow-reader");
            }
        }
        for (id, reason) in out.closes {
            let (code, text, label) = match reason {
                CloseReason::Abuse => (CloseCode::POLICY_VIOLATION, "too many wrong messages", "closed-abuse"),
                CloseReason::Idle => (CloseCode::NORMAL, "in no video", "closed-idle"),
            };
            self.metrics.reject(label);
            if let Some(mailbox) = state.mailboxes.get(&id) {
                mailbox.close(code, text);
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
