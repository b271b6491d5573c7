//! The network: who reaches whom, how far apart they are, and how peers' flows share an uplink.
//!
//! A fluid model. Each connection has a rate; it is reckoned anew when a flow of the same uplink begins or ends. Flows
//! share an uplink max-min fairly, each below what its losses allow by the square-root law of Reno (Mathis et al., 1997:
//! rate = MSS / RTT · √1.5 / √p), below what slow start allows so soon (an initial window of 10 packets, then a window
//! that grows by what was sent), and below its share of the receiver's downlink.

use marea_swarm::{Millis, swarm::Peer, wire::FRAME_PAYLOAD};

use super::{
    viewer::{Chunk, NO_UDP, Packet, Viewer},
    world::{Event, World},
};

/// Payload of a packet, in bytes.
const MSS: f64 = 1_200.0;
/// Initial window, in bytes (RFC 6928).
pub const INITIAL_WINDOW: f64 = 10.0 * MSS;
/// A connection that was idle for so long starts slowly again, in milliseconds (RFC 5681 §4.1: one RTO).
pub const IDLE_MS: Millis = 1_000;
/// Longest run of frames that leaves at once, in bytes and in milliseconds.
const CHUNK_BYTES: f64 = 65_536.0;
const CHUNK_MS: f64 = 100.0;
/// Delay of control messages behind data in a full uplink, in milliseconds: a router's queue that Reno keeps half full.
const QUEUE_MS: f64 = 25.0;
/// Jitter of a message, in milliseconds.
const JITTER_MS: f64 = 3.0;

/// Bytes per millisecond that loss `p` allows over a round trip of `rtt` ms.
pub fn reno(rtt: f64, p: f64) -> f64 {
    if p <= 0.0 { f64::INFINITY } else { MSS / rtt.max(0.1) * 1.5f64.sqrt() / p.sqrt() }
}

/// What slow start allows after `sent` bytes, in bytes per millisecond.
pub fn slow_start(rtt: f64, sent: f64) -> f64 {
    (INITIAL_WINDOW + sent) / rtt.max(0.1)
}

/// Whether two routers let a connection through with STUN alone (RFC 4787 §4, §5; kinds as in [`Viewer::nat`]).
pub fn reachable(a: &Viewer, b: &Viewer) -> bool {
    let symmetric = |viewer: &Viewer| viewer.nat == 2;
    let restricted = |viewer: &Viewer| viewer.nat >= 1;
    a.nat != NO_UDP && b.nat != 3 && !(symmetric(a) && restricted(b)) && !(symmetric(b) && restricted(a))
}

/// Splits `capacity` max-min fairly: no flow gets more than its cap. `order` is scratch.
pub fn share(capacity: f64, caps: &[f64], rates: &mut Vec<f64>, order: &mut Vec<usize>) {
    rates.clear();
    rates.resize(caps.len(), 0.0);
    order.clear();
    order.extend(0..caps.len());
    order.sort_unstable_by(|&a, &b| caps[a].total_cmp(&caps[b]));
    let mut left = capacity;
    for (done, &flow) in order.iter().enumerate() {
        rates[flow] = caps[flow].min(left / (caps.len() - done) as f64);
        left -= rates[flow];
    }
}

impl World {
    /// Round trip between two peers, in milliseconds.
    pub(super) fn rtt(&self, a: usize, b: usize) -> f64 {
        let (a, b) = (&self.viewers[a], &self.viewers[b]);
        let (x, y) = (a.place.0 - b.place.0, a.place.1 - b.place.1);
        a.access + b.access + (x * x + y * y).sqrt() * self.scenario.network.rtt.1
    }

    /// Round trip between a peer and the server.
    pub(super) fn server_rtt(&self, viewer: usize) -> f64 {
        self.viewers[viewer].access + self.scenario.server_rtt
    }

    /// A control message leaves.
    pub(super) fn send_control(&mut self, from: usize, peer: Peer, bytes: Vec<u8>) {
        let jitter = self.rng.range(0.0, JITTER_MS);
        let lost = self.rng.unit();
        let now = self.now;
        let viewer = &mut self.viewers[from];
        let (loss, crowded) = (viewer.loss, viewer.crowded);
        let Some(end) = viewer.ends.iter_mut().find(|end| end.peer == peer) else { return };
        let mut delay = end.delay + jitter.min(end.delay);
        if crowded {
            delay += QUEUE_MS;
        }
        if lost < loss {
            // Noticed by the acknowledgement of what came after it.
            delay += 2.0 * end.delay + QUEUE_MS;
        }
        let at = (now + (delay.ceil() as Millis).max(1)).max(end.last_control);
        end.last_control = at;
        let (to, to_peer) = (end.other, end.other_peer);
        viewer.counters.controls += 1;
        viewer.counters.control_bytes += bytes.len() as u64;
        self.queue.push(at, Event::Control { to, peer: to_peer, bytes });
    }

    /// A frame goes into a channel.
    pub(super) fn send_packet(&mut self, from: usize, peer: Peer, packet: Packet) {
        let now = self.now;
        let viewer = &mut self.viewers[from];
        let Some(end) = viewer.end(peer) else { return };
        end.queue.push_back(packet);
        end.queued += packet.len;
        let idle = end.chunk.is_none();
        if idle && now > end.idle_since + IDLE_MS {
            end.ramp = 0.0;
        }
        viewer.counters.frames += 1;
        if idle {
            self.uplink(from);
        }
    }

    /// An uplink's turn: what has left is on its way, what waits begins, rates are shared anew.
    pub(super) fn uplink(&mut self, from: usize) {
        let now = self.now;
        let viewer = &mut self.viewers[from];
        let elapsed = (now - viewer.uplink_at) as f64;
        viewer.uplink_at = now;
        let mut arrivals = Vec::new();
        for end in &mut viewer.ends {
            let mut credit = 0.0;
            if let Some(chunk) = &mut end.chunk {
                chunk.left -= chunk.rate * elapsed;
                if chunk.left > 0.5 {
                    continue;
                }
                // What the millisecond's grain has left over goes to the next one.
                credit = chunk.left.min(0.0);
                end.ramp += chunk.bytes;
                let rate = chunk.rate;
                if let Some(chunk) = end.chunk.take() {
                    let at = now + (end.delay.ceil() as Millis).max(1);
                    arrivals.push((at, end.other, end.other_peer, chunk.packets, rate));
                }
                end.idle_since = now;
            }
            if end.queue.is_empty() {
                continue;
            }
            let rate = arrivals.last().map_or(viewer.up / 4.0, |&(.., rate)| rate);
            let most = (rate * CHUNK_MS).clamp(f64::from(FRAME_PAYLOAD), CHUNK_BYTES);
            let (mut packets, mut bytes) = (Vec::new(), 0.0);
            while let Some(packet) = end.queue.front() {
                if !packets.is_empty() && bytes + f64::from(packet.len) > most {
                    break;
                }
                bytes += f64::from(packet.len);
                end.queued -= packet.len;
                packets.extend(end.queue.pop_front());
            }
            end.chunk = Some(Chunk { packets, bytes, left: bytes + credit, rate: 0.0 });
            arrivals.push((now, end.other, end.other_peer, Vec::new(), rate));
            let (peer, queued) = (end.peer, end.queued);
            if let Some(core) = &mut viewer.core {
                core.buffered(now, peer, queued);
            }
        }
        let mut woken = false;
        for (at, to, peer, packets, _) in arrivals {
            if packets.is_empty() {
                self.viewers[to].incoming += 1;
                woken = true;
            } else {
                self.viewers[to].incoming -= 1;
                self.queue.push(at, Event::Data { to, peer, packets });
            }
        }
        self.share_uplink(from);
        if woken {
            self.touch(from);
        }
    }

    fn share_uplink(&mut self, from: usize) {
        let mut caps = std::mem::take(&mut self.scratch.0);
        caps.clear();
        for end in &self.viewers[from].ends {
            if end.chunk.is_some() {
                let receiver = &self.viewers[end.other];
                let downlink = receiver.down / f64::from(receiver.incoming.max(1));
                caps.push(end.most.min(downlink).min(slow_start(2.0 * end.delay, end.ramp)));
            }
        }
        let (rates, order) = (&mut self.scratch.1, &mut self.scratch.2);
        let viewer = &mut self.viewers[from];
        share(viewer.up, &caps, rates, order);
        viewer.crowded = caps.iter().sum::<f64>() > viewer.up;
        let mut soonest = f64::INFINITY;
        for (chunk, &rate) in viewer.ends.iter_mut().filter_map(|end| end.chunk.as_mut()).zip(rates.iter()) {
            chunk.rate = rate.max(1e-6);
            soonest = soonest.min(chunk.left / chunk.rate);
        }
        viewer.uplink_turn = viewer.uplink_turn.wrapping_add(1);
        if soonest.is_finite() {
            let at = self.now + (soonest.ceil() as Millis).max(1);
            self.queue.push(at, Event::Uplink { viewer: from, turn: viewer.uplink_turn });
        }
        self.scratch.0 = caps;
    }

    /// Both ends of a connection are made.
    pub(super) fn connect(&mut self, a: usize, b: usize) -> (Peer, Peer) {
        let rtt = self.rtt(a, b).max(0.2);
        let (at_a, at_b) = (self.viewers[a].name_peer(), self.viewers[b].name_peer());
        for (me, other, peer, other_peer) in [(a, b, at_a, at_b), (b, a, at_b, at_a)] {
            let loss = self.viewers[me].loss + self.viewers[other].loss;
            self.viewers[me].ends.push(super::viewer::End {
                peer,
                other,
                other_peer,
                delay: rtt / 2.0,
                most: reno(rtt, loss),
                queue: std::collections::VecDeque::new(),
                queued: 0,
                chunk: None,
                last_control: 0,
                ramp: 0.0,
                idle_since: 0,
            });
            self.viewers[me].counters.opened += 1;
        }
        (at_a, at_b)
    }

    /// One end is gone; the other side hears of it after `after` ms.
    pub(super) fn hang_up(&mut self, me: usize, peer: Peer, after: Millis) {
        let viewer = &mut self.viewers[me];
        let Some(at) = viewer.ends.iter().position(|end| end.peer == peer) else { return };
        let end = viewer.ends.remove(at);
        if end.chunk.is_some() {
            self.viewers[end.other].incoming -= 1;
            self.share_uplink_later(me);
        }
        self.queue.push(self.now + after.max(1), Event::HungUp { to: end.other, peer: end.other_peer });
    }

    fn share_uplink_later(&mut self, me: usize) {
        let turn = self.viewers[me].uplink_turn;
        self.queue.push(self.now, Event::Uplink { viewer: me, turn });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shared_fairly_below_each_cap() {
        let (mut rates, mut order) = (Vec::new(), Vec::new());
        share(90.0, &[10.0, 100.0, 100.0], &mut rates, &mut order);
        assert_eq!(rates, [10.0, 40.0, 40.0]);
        share(90.0, &[10.0, 20.0], &mut rates, &mut order);
        assert_eq!(rates, [10.0, 20.0]);
    }

    #[test]
    fn loss_and_distance_cost_rate() {
        // 1 % of loss over 100 ms: about 1.2 Mbit/s.
        let mbit = reno(100.0, 0.01) * 8.0 / 1000.0;
        assert!((1.0..1.4).contains(&mbit), "{mbit}");
        assert!(reno(100.0, 0.0001) > 9.0 * reno(100.0, 0.01));
    }
}
