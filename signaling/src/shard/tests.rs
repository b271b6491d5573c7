//! The shard in virtual time.

mod access;
mod limits;
mod matching;
mod membership;
mod model;
mod nodes;
mod relaying;

use std::net::IpAddr;

use serde_json::{Value, json};

use super::*;
use crate::access::Catalogue;

const START: Millis = 1_800_000_000_000;

/// A shard, its clock, and what each client has been sent.
struct Bed {
    shard: Shard,
    now: Millis,
    inboxes: HashMap<ConnectionId, Vec<Value>>,
    closed: Vec<(ConnectionId, CloseReason)>,
    rejects: Vec<&'static str>,
    nodes: Vec<(NodeId, NodeMessage)>,
    changed: Vec<(SwarmId, Numbers)>,
}

impl Bed {
    fn new() -> Self {
        Self::with(Access::Any, 7)
    }

    fn with(access: Access, secret: u8) -> Self {
        let shard = Shard::new(access, &[secret; 32], &[secret + 1; 32]);
        Self {
            shard,
            now: START,
            inboxes: HashMap::new(),
            closed: Vec::new(),
            rejects: Vec::new(),
            nodes: Vec::new(),
            changed: Vec::new(),
        }
    }

    fn open(&mut self) -> ConnectionId {
        // Addresses in different networks, unless a test says otherwise.
        let number = self.shard.next_connection;
        self.open_at(&format!("198.{}.{}.7", 18 + number / 200, number % 200))
    }

    fn open_at(&mut self, address: &str) -> ConnectionId {
        let address: IpAddr = address.parse().unwrap();
        let client =
            Client { address: Some(address), trusted: true, asn: None, stun: Some("stun:a.example:4080".into()) };
        self.shard.open(self.now, client)
    }

    fn run(&mut self, act: impl FnOnce(&mut Shard, Millis, &mut Outbox)) {
        let mut out = Outbox::default();
        act(&mut self.shard, self.now, &mut out);
        for send in out.sends {
            let message: Value = serde_json::from_slice(&send.text).unwrap();
            assert_eq!(message["type"], send.kind);
            self.inboxes.entry(send.to).or_default().push(message);
        }
        self.closed.extend(out.closes);
        self.rejects.extend(out.rejects);
        self.nodes.extend(out.nodes);
        self.changed.extend(out.changed);
        self.check_invariants();
    }

    fn send(&mut self, id: ConnectionId, message: &Value) {
        self.send_text(id, &message.to_string());
    }

    fn send_text(&mut self, id: ConnectionId, text: &str) {
        self.run(|shard, now, out| shard.handle(now, id, text, out));
    }

    fn close(&mut self, id: ConnectionId, clean: bool) {
        self.run(|shard, now, out| shard.close(now, id, clean, out));
    }

    /// Lets time pass, with every timer at its time.
    fn advance(&mut self, ms: Millis) {
        let end = self.now + ms;
        while let Some(at) = self.shard.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.run(Shard::timeout);
        }
        self.now = end;
    }

    /// What a client was sent since it was last asked.
    fn take(&mut self, id: ConnectionId) -> Vec<Value> {
        self.inboxes.remove(&id).unwrap_or_default()
    }

    fn take_kind(&mut self, id: ConnectionId, kind: &str) -> Vec<Value> {
        self.take(id).into_iter().filter(|message| message["type"] == kind).collect()
    }

    /// Peers that a client was matched with since it was last asked.
    fn matches(&mut self, id: ConnectionId) -> Vec<String> {
        let matches = self.take_kind(id, "match");
        let peers = matches.iter().flat_map(|message| message["peers"].as_array().unwrap());
        peers.map(|peer| peer["peer"].as_str().unwrap().to_owned()).collect()
    }

    fn errors(&mut self, id: ConnectionId) -> Vec<String> {
        let errors = self.take_kind(id, "error");
        errors.iter().map(|message| message["code"].as_str().unwrap().to_owned()).collect()
    }

    /// Joins and returns what `joined` says.
    fn join(&mut self, id: ConnectionId, name: &str, want: u32) -> Value {
        self.join_with(id, name, want, &json!({}))
    }

    fn join_with(&mut self, id: ConnectionId, name: &str, want: u32, more: &Value) -> Value {
        let mut message = json!({"type": "join", "v": 1, "video": video(name), "kind": "viewer", "want": want});
        for (key, value) in more.as_object().unwrap() {
            message[key] = value.clone();
        }
        self.send(id, &message);
        let inbox = self.inboxes.get_mut(&id).unwrap();
        let index = inbox.iter().position(|message| message["type"] == "joined").unwrap();
        inbox.remove(index)
    }

    fn viewer(&mut self, name: &str, want: u32) -> (ConnectionId, String) {
        let id = self.open();
        let joined = self.join(id, name, want);
        (id, peer_of(&joined))
    }

    fn update(&mut self, id: ConnectionId, name: &str, want: u32) {
        self.send(id, &json!({"type": "update", "video": video(name), "want": want, "pos": 1}));
    }

    fn relay(&mut self, id: ConnectionId, name: &str, kind: &str, to: &str, conn: &str, more: &Value) {
        let mut message = json!({"type": kind, "video": video(name), "to": to, "conn": conn});
        for (key, value) in more.as_object().unwrap() {
            message[key] = value.clone();
        }
        self.send(id, &message);
    }

    fn check_invariants(&self) {
        let shard = &self.shard;
        let mut counts = Counts::default();
        for (video, swarm) in &shard.swarms {
            swarm.check_invariants();
            for (peer, member) in &swarm.members {
                *counts.of(member.kind) += 1;
                if let Some(id) = member.connection {
                    assert_eq!(shard.connections[&id].videos.get(video), Some(peer));
                }
                let timers = [
                    member.retry_at.map(|at| (at, Timer::Retry(*video, *peer))),
                    member.grace_at.map(|at| (at, Timer::Grace(*video, *peer))),
                ];
                assert!(timers.iter().flatten().all(|timer| shard.timers.contains(timer)));
            }
            assert!(swarm.viewers_timer.is_none_or(|at| shard.timers.contains(&(at, Timer::Viewers(*video)))));
        }
        assert_eq!(counts, shard.counts);
        for (id, connection) in &shard.connections {
            for (video, peer) in &connection.videos {
                assert_eq!(shard.swarms[video].members[peer].connection, Some(*id));
            }
        }
        // No timer is for something that is gone.
        for (at, timer) in &shard.timers {
            match timer {
                Timer::Retry(video, peer) => assert_eq!(shard.swarms[video].members[peer].retry_at, Some(*at)),
                Timer::Grace(video, peer) => assert_eq!(shard.swarms[video].members[peer].grace_at, Some(*at)),
                Timer::Viewers(video) => assert_eq!(shard.swarms[video].viewers_timer, Some(*at)),
                Timer::Idle(id) => assert_eq!(shard.connections[id].idle_at, *at),
            }
        }
    }
}

fn video(name: &str) -> String {
    AnnounceId::of_video(name).to_string()
}

fn peer_of(joined: &Value) -> String {
    joined["peer"].as_str().unwrap().to_owned()
}
