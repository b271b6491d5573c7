//! The queue of what is to happen: a ring of one-millisecond slots, so that an event costs the same however many wait.

use std::collections::BTreeMap;

use marea_swarm::Millis;

/// Slots of the ring, in milliseconds: what lies beyond waits in a tree.
const RING: u64 = 16_384;

/// Events by time; those of one millisecond in the order in which they were pushed.
#[derive(Debug)]
pub struct Wheel<E> {
    now: Millis,
    ring: Vec<Vec<E>>,
    far: BTreeMap<Millis, Vec<E>>,
    /// Events that wait.
    len: usize,
}

impl<E> Default for Wheel<E> {
    /// An empty queue that begins at time 0.
    fn default() -> Self {
        Self { now: 0, ring: (0..RING).map(|_| Vec::new()).collect(), far: BTreeMap::new(), len: 0 }
    }
}

impl<E> Wheel<E> {
    /// Adds an event; what is already past happens now.
    pub fn push(&mut self, at: Millis, event: E) {
        let at = at.max(self.now);
        self.len += 1;
        if at - self.now < RING {
            self.ring[(at % RING) as usize].push(event);
        } else {
            self.far.entry(at).or_default().push(event);
        }
    }

    /// The next millisecond at which something happens, not after `until`, with its events. Events pushed for that same
    /// millisecond come with the next call.
    pub fn next(&mut self, until: Millis) -> Option<(Millis, Vec<E>)> {
        while self.now <= until && self.len > 0 {
            let slot = &mut self.ring[(self.now % RING) as usize];
            if !slot.is_empty() {
                let events = std::mem::take(slot);
                self.len -= events.len();
                return Some((self.now, events));
            }
            self.now += 1;
            // What comes into reach goes into the slot that was left last.
            let horizon = self.now + RING - 1;
            if let Some(events) = self.far.remove(&horizon) {
                self.ring[(horizon % RING) as usize].extend(events);
            }
        }
        self.now = self.now.max(until);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_and_then_of_arrival() {
        let mut wheel = Wheel::default();
        for (at, name) in [(50_000, "far"), (3, "a"), (20_000, "mid"), (3, "b"), (0, "first"), (16_384, "edge")] {
            wheel.push(at, name);
        }
        let mut seen = Vec::new();
        while let Some((at, events)) = wheel.next(60_000) {
            seen.extend(events.into_iter().map(|name| (at, name)));
            if at == 3 && seen.len() == 3 {
                wheel.push(1, "late");
            }
        }
        let expected =
            [(0, "first"), (3, "a"), (3, "b"), (3, "late"), (16_384, "edge"), (20_000, "mid"), (50_000, "far")];
        assert_eq!(seen, expected);
    }
}
