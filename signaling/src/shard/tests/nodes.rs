//! Several shards, and a Redis that is a map: what nodes do for each other.

use std::collections::BTreeMap;

use super::*;
use crate::cluster::{Elsewhere, NodeEvent};

/// Nodes that reach each other at once.
struct Net {
    beds: Vec<Bed>,
    rows: BTreeMap<SwarmId, Elsewhere>,
    /// Frames that went from node to node.
    frames: usize,
}

const fn node(index: usize) -> NodeId {
    NodeId(index as u64 + 1)
}

impl Net {
    fn new(nodes: usize) -> Self {
        let beds = (0..nodes).map(|index| {
            let mut bed = Bed::new();
            bed.shard = Shard::new(Access::Any, &[7; 32], &[index as u8 + 1; 32]);
            bed.shard.set_nodes(Nodes::new(&[7; 32], b"one machine"), &mut Outbox::default());
            bed.run(|shard, now, out| shard.node_event(now, NodeEvent::Reachable(true), out));
            bed
        });
        Self { beds: beds.collect(), rows: BTreeMap::new(), frames: 0 }
    }

    /// Does what nodes have left for each other, until there is nothing more.
    fn settle(&mut self) {
        loop {
            let changed: Vec<_> = self.beds.iter_mut().map(|bed| std::mem::take(&mut bed.changed)).collect();
            let nodes: Vec<_> = self.beds.iter_mut().map(|bed| std::mem::take(&mut bed.nodes)).collect();
            if changed.iter().all(Vec::is_empty) && nodes.iter().all(Vec::is_empty) {
                return;
            }
            for (index, changed) in changed.into_iter().enumerate() {
                for (swarm, numbers) in changed {
                    let row = self.rows.entry(swarm).or_default();
                    row.insert(node(index), numbers);
                    row.retain(|_, numbers| *numbers != (0, 0));
                    let row = row.clone();
                    for (other, bed) in self.beds.iter_mut().enumerate() {
                        let mut elsewhere = row.clone();
                        elsewhere.remove(&node(other));
                        bed.run(|shard, now, out| {
                            shard.node_event(now, NodeEvent::Elsewhere(swarm, elsewhere), out);
                        });
                    }
                }
            }
            for (index, messages) in nodes.into_iter().enumerate() {
                for (to, message) in messages {
                    self.frames += 1;
                    let text = serde_json::to_string(&message).unwrap();
                    let message = serde_json::from_str(&text).unwrap();
                    let bed = &mut self.beds[to.0 as usize - 1];
                    bed.run(|shard, now, out| {
                        shard.node_event(now, NodeEvent::Message(node(index), message), out);
                    });
                }
            }
        }
    }

    fn open(&mut self, at: usize, address: &str) -> ConnectionId {
        self.beds[at].open_at(address)
    }

    fn join(&mut self, at: usize, id: ConnectionId, want: u32) -> String {
        self.join_with(at, id, want, &json!({}))
    }

    fn join_with(&mut self, at: usize, id: ConnectionId, want: u32, more: &Value) -> String {
        let joined = self.beds[at].join_with(id, "tide", want, more);
        self.settle();
        joined["peer"].as_str().unwrap().to_owned()
    }

    fn send(&mut self, at: usize, id: ConnectionId, message: &Value) {
        self.beds[at].send(id, message);
        self.settle();
    }

    fn advance(&mut self, ms: Millis) {
        for _ in 0..ms / 100 {
            self.beds.iter_mut().for_each(|bed| bed.advance(100));
            self.settle();
        }
    }

    fn kinds(&mut self, at: usize, id: ConnectionId) -> Vec<String> {
        let inbox = self.beds[at].take(id);
        inbox.iter().map(|message| message["type"].as_str().unwrap().to_owned()).collect()
    }
}

fn offer(to: &str) -> Value {
    json!({"type": "offer", "video": video("tide"), "to": to, "conn": "c1", "sdp": "v=0"})
}

#[test]
fn viewers_of_different_nodes_meet_and_talk() {
    let mut net = Net::new(2);
    let (a, b) = (net.open(0, "203.0.113.1"), net.open(1, "203.0.113.1"));
    let a_id = net.join(0, a, 0);
    let b_id = net.join(1, b, 0);
    // Both learn that they are two before either wants anybody.
    assert_eq!(net.beds[0].take_kind(a, "viewers")[0]["viewers"], 2);
    assert_eq!(net.beds[1].take_kind(b, "viewers")[0]["viewers"], 2);
    for (at, id) in [(0, a), (1, b)] {
        net.send(at, id, &json!({"type": "update", "video": video("tide"), "want": 4}));
    }
    assert!(net.beds[0].matches(a).is_empty());
    let matched = net.beds[1].take_kind(b, "match");
    assert_eq!(matched[0]["peers"], json!([{"peer": a_id, "kind": "viewer", "near": true}]));
    net.send(1, b, &offer(&a_id));
    let offered = net.beds[0].take_kind(a, "offer");
    assert_eq!((&offered[0]["from"], &offered[0]["near"]), (&json!(b_id), &json!(true)));
    let candidate = json!({"candidate": "candidate:1", "sdpMid": "0"});
    let to_b = |kind: &str, key: &str, value: Value| json!({"type": kind, "video": video("tide"), "to": b_id, "conn": "c1", key: value});
    net.send(0, a, &to_b("answer", "sdp", json!("v=0 b")));
    net.send(0, a, &to_b("candidate", "candidate", candidate.clone()));
    net.send(0, a, &to_b("candidate", "candidate", Value::Null));
    let inbox = net.beds[1].take(b);
    assert_eq!(inbox.iter().map(|message| &message["type"]).collect::<Vec<_>>(), ["answer", "candidate", "candidate"]);
    assert_eq!((&inbox[1]["candidate"], &inbox[2]["candidate"]), (&candidate, &Value::Null));
    // They are not matched again, and a departure is told.
    net.advance(60_000);
    assert!(net.beds[1].matches(b).is_empty());
    net.beds[0].close(a, true);
    net.settle();
    assert_eq!(net.beds[1].take_kind(b, "gone")[0]["peer"], a_id);
    assert!(net.beds[1].shard.swarms.values().all(|swarm| swarm.remotes.is_empty()));
}

#[test]
fn peers_are_drawn_from_all_nodes_alike() {
    let mut net = Net::new(3);
    let mut ids = Vec::new();
    for number in 0..60 {
        let (at, address) = (number % 3, format!("198.18.{number}.1"));
        let id = net.open(at, &address);
        ids.push((at, net.join(at, id, 12)));
    }
    let mut seen = [0; 3];
    for number in 0..40 {
        let id = net.open(0, &format!("198.19.{number}.1"));
        net.join(0, id, 4);
        for peer in net.beds[0].matches(id) {
            let at = ids.iter().find(|(_, known)| *known == peer).map(|(at, _)| *at);
            at.into_iter().for_each(|at| seen[at] += 1);
        }
        net.beds[0].close(id, true);
        net.settle();
    }
    let total: u32 = seen.iter().sum();
    assert!(total >= 100, "{seen:?}");
    assert!(seen.iter().all(|count| *count >= total / 6), "{seen:?}");
}

#[test]
fn without_the_others_local_matching_goes_on() {
    let mut net = Net::new(2);
    let (a, b, c) = (net.open(0, "203.0.113.1"), net.open(1, "203.0.113.2"), net.open(0, "203.0.113.3"));
    net.join(0, a, 4);
    let b_id = net.join(1, b, 4);
    for bed in &mut net.beds {
        bed.run(|shard, now, out| shard.node_event(now, NodeEvent::Reachable(false), out));
    }
    net.join(0, c, 4);
    assert_eq!(net.beds[0].matches(c).len(), 1);
    // To one who cannot be reached: no error, and nothing is sent.
    net.frames = 0;
    net.send(1, b, &offer(&net.beds[0].shard.swarms.values().next().unwrap().open[0].to_string()));
    net.send(0, a, &offer(&b_id));
    assert_eq!(net.frames, 0);
    assert!(net.beds[0].errors(a).is_empty() && net.beds[1].errors(b).is_empty());
}

#[test]
fn a_node_that_dies_takes_its_peers_out_of_the_counts_and_says_nothing_of_them() {
    let mut net = Net::new(2);
    let (a, b) = (net.open(0, "203.0.113.1"), net.open(1, "203.0.113.2"));
    net.join(0, a, 4);
    net.join(1, b, 4);
    net.advance(11_000);
    net.beds[0].take(a);
    net.beds[0].run(|shard, now, out| shard.node_event(now, NodeEvent::Lost(node(1)), out));
    let told = net.beds[0].take(a);
    assert_eq!(told.iter().map(|message| &message["type"]).collect::<Vec<_>>(), ["viewers"]);
    assert_eq!(told[0]["viewers"], 1);
}

#[test]
fn who_changes_nodes_by_ticket_keeps_id_and_links_and_nobody_is_told_that_it_left() {
    let mut net = Net::new(3);
    let (a, b, c) = (net.open(0, "203.0.113.1"), net.open(0, "203.0.113.2"), net.open(1, "203.0.113.3"));
    let joined = net.beds[0].join(a, "tide", 8);
    net.settle();
    let a_id = joined["peer"].as_str().unwrap().to_owned();
    let (b_id, c_id) = (net.join(0, b, 8), net.join(1, c, 8));
    net.settle();
    let linked = [b_id.clone(), c_id.clone()];
    // Its socket breaks, and the load balancer sends it to the third node.
    net.beds[0].close(a, false);
    net.settle();
    for (at, id) in [(0, b), (1, c)] {
        net.beds[at].take(id);
    }
    let again = net.open(2, "203.0.113.1");
    let more = json!({"resume": joined["resume"], "connected": linked});
    assert_eq!(net.join_with(2, again, 8, &more), a_id);
    assert!(net.beds[2].matches(again).is_empty(), "it is matched with whom it is connected to");
    net.advance(20_000);
    assert!(!net.kinds(0, b).contains(&"gone".to_owned()) && !net.kinds(1, c).contains(&"gone".to_owned()));
    // A restart of ICE finds its way.
    for (to, at, id) in [(&b_id, 0, b), (&c_id, 1, c)] {
        net.send(2, again, &offer(to));
        assert!(net.kinds(at, id).contains(&"offer".to_owned()));
    }
    let numbers: Vec<_> = net.beds.iter().map(|bed| bed.shard.swarms.values().next().unwrap().numbers()).collect();
    assert_eq!(numbers, [(3, 0); 3]);
}

#[test]
fn a_stolen_place_elsewhere_ends_the_old_socket() {
    let mut net = Net::new(2);
    let a = net.open(0, "203.0.113.1");
    let joined = net.beds[0].join(a, "tide", 8);
    net.settle();
    let again = net.open(1, "203.0.113.1");
    net.join_with(1, again, 8, &json!({"resume": joined["resume"]}));
    assert_eq!(net.beds[0].errors(a), ["replaced"]);
    assert_eq!(net.beds[0].shard.counts().viewers, 0);
}

#[test]
fn a_node_that_drains_tells_nobody_that_its_viewers_have_left() {
    let mut net = Net::new(2);
    let (a, b) = (net.open(0, "203.0.113.1"), net.open(1, "203.0.113.2"));
    net.join(0, a, 4);
    net.join(1, b, 4);
    net.beds[0].run(|shard, _, out| shard.drain(5000, out));
    net.beds[0].close(a, true);
    net.settle();
    assert!(!net.kinds(1, b).contains(&"gone".to_owned()));
}
