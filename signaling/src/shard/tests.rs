//! The shard in virtual time.

mod model;

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
}

impl Bed {
    fn new() -> Self {
        Self::with(Access::Any, 7)
    }

    fn with(access: Access, secret: u8) -> Self {
        let shard = Shard::new(access, &[secret; 32], &[secret + 1; 32]);
        Self { shard, now: START, inboxes: HashMap::new(), closed: Vec::new(), rejects: Vec::new() }
    }

    fn open(&mut self) -> ConnectionId {
        // Addresses in different networks, unless a test says otherwise.
        let number = self.shard.next_connection;
        self.open_at(&format!("198.{}.{}.7", 18 + number / 200, number % 200))
    }

    fn open_at(&mut self, address: &str) -> ConnectionId {
        let address: IpAddr = address.parse().unwrap();
        let client = Client { address: Some(address), trusted: true, stun: Some("stun:a.example:4080".into()) };
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

#[test]
fn joined_has_the_fields_of_the_contract() {
    let mut bed = Bed::new();
    let id = bed.open();
    let joined = bed.join(id, "tide", 0);
    assert_eq!(joined["video"], video("tide"));
    assert_eq!(peer_of(&joined).len(), 22);
    assert_eq!((&joined["viewers"], &joined["seeders"]), (&json!(1), &json!(0)));
    assert_eq!(joined["ice"], json!([{"urls": "stun:a.example:4080"}]));
    assert_eq!(joined["iceTtl"], 86_400);
    assert_eq!(joined["policy"], json!({"p2p": "on"}));
    assert!(joined["saltUntil"].as_u64().unwrap() > START);
    assert!(joined["salt"].is_string() && joined["resume"].is_string());
    assert_eq!(bed.take(id).len(), 0);
}

#[test]
fn the_one_who_comes_second_gets_the_match() {
    let mut bed = Bed::new();
    let (a, a_id) = bed.viewer("tide", 8);
    let (b, _) = bed.viewer("tide", 8);
    assert_eq!(bed.matches(b), [a_id]);
    assert_eq!(bed.matches(a), [""; 0]);
    // Another video is another world.
    let (c, _) = bed.viewer("moon", 8);
    assert_eq!(bed.matches(c), [""; 0]);
}

#[test]
fn a_viewer_with_want_0_is_counted_and_never_matched() {
    let mut bed = Bed::new();
    let (a, _) = bed.viewer("tide", 0);
    let (b, _) = bed.viewer("tide", 8);
    bed.advance(120_000);
    assert_eq!(bed.matches(b), [""; 0]);
    let told = bed.take(a);
    assert_eq!(told, [json!({"type": "viewers", "video": video("tide"), "viewers": 2, "seeders": 0})]);
}

#[test]
fn two_who_wait_below_the_gate_are_told_and_find_each_other() {
    let mut bed = Bed::new();
    let (a, a_id) = bed.viewer("tide", 0);
    bed.advance(1000);
    let (b, _) = bed.viewer("tide", 0);
    // At once: there was nothing to wait for.
    assert_eq!(bed.take_kind(a, "viewers").len(), 1);
    bed.update(a, "tide", 8);
    assert_eq!(bed.matches(a), [""; 0]);
    bed.update(b, "tide", 8);
    assert_eq!(bed.matches(b), [a_id]);
}

#[test]
fn numbers_are_told_at_most_every_10_s_and_the_last_ones_always() {
    let mut bed = Bed::new();
    let (a, _) = bed.viewer("tide", 0);
    for _ in 0..5 {
        bed.viewer("tide", 0);
        bed.advance(1000);
    }
    let first = bed.take_kind(a, "viewers");
    assert_eq!(first.iter().map(|message| message["viewers"].as_u64().unwrap()).collect::<Vec<_>>(), [2]);
    bed.advance(4999);
    assert_eq!(bed.take_kind(a, "viewers").len(), 0);
    bed.advance(1);
    let second = bed.take_kind(a, "viewers");
    assert_eq!(second.iter().map(|message| message["viewers"].as_u64().unwrap()).collect::<Vec<_>>(), [6]);
    bed.advance(60_000);
    assert_eq!(bed.take(a).len(), 0);
}

#[test]
fn a_want_that_could_not_be_met_is_met_by_those_who_come() {
    let mut bed = Bed::new();
    let (a, a_id) = bed.viewer("tide", 3);
    let later: Vec<_> = (0..3).map(|_| bed.viewer("tide", 3).0).collect();
    for id in later {
        assert!(bed.matches(id).contains(&a_id));
    }
    assert_eq!(bed.matches(a), [""; 0], "only one of two is told, and offers");
}

#[test]
fn a_match_names_different_open_strangers_and_not_more_than_wanted() {
    let mut bed = Bed::new();
    let others: Vec<String> = (0..60).map(|_| bed.viewer("tide", 8).1).collect();
    let (a, a_id) = bed.viewer("tide", 5);
    let mut named = bed.matches(a);
    assert_eq!(named.len(), 5);
    assert!(named.iter().all(|peer| others.contains(peer) && *peer != a_id));
    named.sort();
    named.dedup();
    assert_eq!(named.len(), 5);
}

#[test]
fn raising_want_again_brings_others_than_before() {
    let mut bed = Bed::new();
    for _ in 0..20 {
        bed.viewer("tide", 8);
    }
    let (a, _) = bed.viewer("tide", 4);
    let mut named = bed.matches(a);
    bed.advance(100);
    bed.update(a, "tide", 4);
    named.extend(bed.matches(a));
    named.sort();
    named.dedup();
    assert_eq!(named.len(), 8);
}

#[test]
fn neighbours_that_a_join_names_are_not_matched_again() {
    let mut bed = Bed::new();
    let (_, a_id) = bed.viewer("tide", 8);
    let (_, b_id) = bed.viewer("tide", 8);
    let c = bed.open();
    bed.join_with(c, "tide", 8, &json!({"connected": [a_id]}));
    assert_eq!(bed.matches(c), [b_id]);
}

#[test]
fn all_find_neighbours_when_many_join_at_once_and_the_mesh_is_in_one_piece() {
    let mut bed = Bed::new();
    let mut peers: HashMap<String, BTreeSet<String>> = HashMap::new();
    for _ in 0..100 {
        let (id, me) = bed.viewer("tide", 4);
        peers.entry(me.clone()).or_default();
        for other in bed.matches(id) {
            peers.entry(me.clone()).or_default().insert(other.clone());
            peers.entry(other).or_default().insert(me.clone());
        }
    }
    let mut reached = BTreeSet::new();
    let mut next = vec![peers.keys().next().unwrap().clone()];
    while let Some(peer) = next.pop() {
        if reached.insert(peer.clone()) {
            next.extend(peers[&peer].iter().cloned());
        }
    }
    assert_eq!(reached.len(), 100);
}

#[test]
fn one_home_is_near_and_preferred_but_one_network_does_not_fill_a_match() {
    let mut bed = Bed::new();
    let home: Vec<String> = (0..8)
        .map(|_| {
            let id = bed.open_at("203.0.113.5");
            peer_of(&bed.join(id, "tide", 8))
        })
        .collect();
    for _ in 0..30 {
        bed.viewer("tide", 8);
    }
    let a = bed.open_at("203.0.113.5");
    bed.join(a, "tide", 8);
    let matches = bed.take_kind(a, "match");
    let named = matches[0]["peers"].as_array().unwrap();
    let near: Vec<bool> = named.iter().map(|peer| peer["near"].as_bool().unwrap()).collect();
    for (peer, near) in named.iter().zip(&near) {
        assert_eq!(home.contains(&peer["peer"].as_str().unwrap().to_owned()), *near);
    }
    let count = near.iter().filter(|near| **near).count();
    assert!((2..=4).contains(&count), "{count} of one home in 8");
    // With nobody else there, a home is enough.
    let mut bed = Bed::new();
    for _ in 0..5 {
        let id = bed.open_at("203.0.113.5");
        bed.join(id, "tide", 8);
    }
    let a = bed.open_at("203.0.113.5");
    bed.join(a, "tide", 8);
    assert_eq!(bed.matches(a).len(), 5);
}

#[test]
fn those_who_play_nearby_are_preferred() {
    let mut bed = Bed::new();
    let mut close = Vec::new();
    for index in 0..40 {
        let id = bed.open();
        let pos = if index % 2 == 0 { 1000.0 } else { 10.0 };
        let joined = bed.join_with(id, "tide", 8, &json!({ "pos": pos }));
        if index % 2 == 0 {
            close.push(peer_of(&joined));
        }
    }
    let mut hits = 0;
    for _ in 0..20 {
        let id = bed.open();
        bed.join_with(id, "tide", 4, &json!({ "pos": 1005.0 }));
        hits += bed.matches(id).iter().filter(|peer| close.contains(peer)).count();
        bed.close(id, true);
    }
    assert!((56..80).contains(&hits), "{hits} of 80: preferred, but never all");
}

#[test]
fn mirrors_and_edges_count_as_seeders_and_need_trust() {
    let mut bed = Bed::new();
    let (a, _) = bed.viewer("tide", 0);
    let m = bed.open();
    let joined = bed.join_with(m, "tide", 8, &json!({"kind": "mirror"}));
    assert_eq!((&joined["viewers"], &joined["seeders"]), (&json!(1), &json!(1)));
    assert_eq!(bed.take_kind(a, "viewers")[0]["seeders"], 1);
    bed.update(a, "tide", 8);
    assert_eq!(bed.take_kind(a, "match")[0]["peers"][0]["kind"], "mirror");
    assert_eq!(bed.shard.counts(), Counts { viewers: 1, mirrors: 1, edges: 0 });
    // Two of them have nothing to give each other.
    let e = bed.open();
    bed.join_with(e, "tide", 8, &json!({"kind": "edge"}));
    let named = bed.matches(e);
    assert_eq!(named.len(), 1);

    let stranger = bed.shard.open(bed.now, Client::default());
    bed.send(stranger, &json!({"type": "join", "v": 1, "video": video("tide"), "kind": "edge", "want": 1}));
    assert_eq!(bed.errors(stranger), ["kind-refused"]);
}

#[test]
fn a_handshake_is_relayed_both_ways_with_sender_and_nearness() {
    let mut bed = Bed::new();
    let a = bed.open_at("127.0.0.1");
    let a_id = peer_of(&bed.join(a, "tide", 8));
    let b = bed.open_at("::1");
    let b_id = peer_of(&bed.join(b, "tide", 8));
    bed.take(a);
    bed.relay(b, "tide", "offer", &a_id, "c1", &json!({"sdp": "v=0\r\n\"é"}));
    bed.relay(b, "tide", "candidate", &a_id, "c1", &json!({"candidate": {"candidate": "x", "sdpMid": "0"}}));
    bed.relay(a, "tide", "candidate", &b_id, "c1", &json!({"candidate": null}));
    bed.relay(a, "tide", "answer", &b_id, "c1", &json!({"sdp": "v=0"}));
    bed.relay(a, "tide", "reject", &b_id, "c1", &json!({"code": "full"}));
    let head = |kind: &str, from: &str| json!({"type": kind, "video": video("tide"), "from": from, "near": true, "conn": "c1"});
    let with = |mut message: Value, key: &str, value: Value| {
        message[key] = value;
        message
    };
    assert_eq!(
        bed.take(a),
        [
            with(head("offer", &b_id), "sdp", json!("v=0\r\n\"é")),
            with(head("candidate", &b_id), "candidate", json!({"candidate": "x", "sdpMid": "0"})),
        ]
    );
    let got: Vec<Value> = bed.take(b).into_iter().filter(|message| message["type"] != "match").collect();
    assert_eq!(
        got,
        [
            with(head("candidate", &a_id), "candidate", Value::Null),
            with(head("answer", &a_id), "sdp", json!("v=0")),
            with(head("reject", &a_id), "code", json!("full")),
        ]
    );
}

#[test]
fn only_peers_that_were_matched_reach_each_other() {
    let mut bed = Bed::new();
    let (a, a_id) = bed.viewer("tide", 0);
    let (b, _) = bed.viewer("tide", 0);
    bed.take(a);
    bed.relay(b, "tide", "offer", &a_id, "c1", &json!({"sdp": "v=0"}));
    assert_eq!(bed.errors(b), ["unknown-peer"]);
    assert_eq!(bed.take(a).len(), 0);
    let nobody = PeerId([0; 16]).to_string();
    bed.relay(b, "tide", "offer", &nobody, "c1", &json!({"sdp": "v=0"}));
    assert_eq!(bed.take(b), [json!({"type": "gone", "video": video("tide"), "peer": nobody})]);
    let (c, _) = bed.viewer("moon", 0);
    bed.relay(c, "tide", "offer", &a_id, "c1", &json!({"sdp": "v=0"}));
    assert_eq!(bed.errors(c), ["not-joined"]);
}

#[test]
fn answers_need_an_offer_that_is_alive_and_candidates_are_counted() {
    let mut bed = Bed::new();
    let (a, a_id) = bed.viewer("tide", 8);
    let (b, b_id) = bed.viewer("tide", 8);
    bed.take(a);
    let sdp = json!({"sdp": "v=0"});
    bed.relay(a, "tide", "answer", &b_id, "c1", &sdp);
    assert_eq!(bed.errors(a), ["unknown-conn"]);
    bed.relay(b, "tide", "offer", &a_id, "c1", &sdp);
    bed.relay(b, "tide", "answer", &a_id, "c1", &sdp);
    assert_eq!(bed.errors(b), ["unknown-conn"], "one does not answer oneself");
    bed.relay(a, "tide", "answer", &b_id, "c1", &sdp);
    bed.relay(a, "tide", "answer", &b_id, "c1", &sdp);
    assert_eq!(bed.errors(a), ["unknown-conn"], "once");
    for _ in 0..25 {
        bed.relay(b, "tide", "candidate", &a_id, "c1", &json!({"candidate": {"candidate": "x"}}));
    }
    assert_eq!(bed.take_kind(a, "candidate").len(), usize::from(defaults::MAX_CANDIDATES));
    // An ICE restart may come from the other side, and begins anew.
    bed.take(b);
    bed.relay(a, "tide", "offer", &b_id, "c1", &sdp);
    bed.relay(b, "tide", "candidate", &a_id, "c1", &json!({"candidate": {"candidate": "x"}}));
    bed.relay(b, "tide", "answer", &a_id, "c1", &sdp);
    assert_eq!(bed.take(a).len(), 2);
    // An offer dies after 30 s.
    bed.relay(b, "tide", "offer", &a_id, "c2", &sdp);
    bed.advance(defaults::OFFER_MS);
    bed.take(a);
    bed.relay(a, "tide", "answer", &b_id, "c2", &sdp);
    assert_eq!(bed.errors(a), ["unknown-conn"]);
}

#[test]
fn a_failed_handshake_is_tried_again_ever_more_rarely() {
    let mut bed = Bed::new();
    let (a, _) = bed.viewer("tide", 8);
    let (b, _) = bed.viewer("tide", 8);
    let mut at = Vec::new();
    let start = bed.now;
    bed.take(a);
    bed.take(b);
    while bed.now < start + 30 * 60_000 {
        bed.advance(1000);
        for id in [a, b] {
            at.extend(bed.matches(id).iter().map(|_| bed.now - start));
        }
    }
    let gaps: Vec<Millis> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((30_000..40_000).contains(&at[0]), "{at:?}");
    assert!(at.len() >= 4 && gaps[0] >= 60_000 && gaps[1] >= 120_000, "{at:?}");
}

#[test]
fn those_who_were_matched_learn_of_a_departure() {
    let mut bed = Bed::new();
    let (a, _) = bed.viewer("tide", 8);
    let (b, b_id) = bed.viewer("tide", 8);
    let (c, c_id) = bed.viewer("tide", 0);
    bed.take(a);
    bed.send(b, &json!({"type": "leave", "video": video("tide")}));
    assert_eq!(bed.take_kind(a, "gone"), [json!({"type": "gone", "video": video("tide"), "peer": b_id})]);
    bed.send(c, &json!({"type": "leave", "video": video("tide")}));
    assert_eq!(bed.take_kind(a, "gone").len(), 0, "{c_id} was a stranger");
    bed.send(c, &json!({"type": "leave", "video": video("tide")}));
    assert_eq!(bed.errors(c), ["not-joined"]);
    bed.close(a, true);
    assert_eq!((bed.shard.videos(), bed.shard.counts()), (0, Counts::default()));
}

#[test]
fn a_broken_socket_is_missed_only_after_the_grace_and_a_closed_one_at_once() {
    let mut bed = Bed::new();
    let (a, _) = bed.viewer("tide", 8);
    let (b, _) = bed.viewer("tide", 8);
    let (c, _) = bed.viewer("tide", 8);
    bed.take(a);
    bed.close(b, false);
    bed.close(c, true);
    assert_eq!(bed.take_kind(a, "gone").len(), 1);
    bed.advance(defaults::GRACE_MS - 1);
    assert_eq!(bed.take_kind(a, "gone").len(), 0);
    bed.advance(1);
    assert_eq!(bed.take_kind(a, "gone").len(), 1);
}

#[test]
fn a_ticket_keeps_the_peer_id_over_a_reconnect() {
    let mut bed = Bed::new();
    let (a, a_id) = bed.viewer("tide", 8);
    let b = bed.open();
    let joined = bed.join(b, "tide", 8);
    let b_id = peer_of(&joined);
    bed.take(a);
    bed.close(b, false);
    bed.advance(5000);
    let b2 = bed.open();
    let again = bed.join_with(b2, "tide", 8, &json!({"resume": joined["resume"], "connected": [a_id]}));
    assert_eq!(peer_of(&again), b_id);
    assert_eq!(again["viewers"], 2);
    bed.advance(60_000);
    assert_eq!(bed.take(a).len(), 0, "nobody noticed");
    assert_eq!(bed.matches(b2), [""; 0], "they are connected");
    // Long after the grace the id is still the same.
    bed.close(b2, false);
    bed.advance(3_600_000);
    let b3 = bed.open();
    let again = bed.join_with(b3, "tide", 8, &json!({"resume": again["resume"]}));
    assert_eq!(peer_of(&again), b_id);
    // Of another video the ticket proves nothing.
    let c = bed.open();
    let other = bed.join_with(c, "moon", 8, &json!({"resume": again["resume"]}));
    assert_ne!(peer_of(&other), b_id);
}

#[test]
fn the_newer_of_two_sockets_with_one_ticket_is_right() {
    let mut bed = Bed::new();
    let b = bed.open();
    let joined = bed.join(b, "tide", 8);
    let b2 = bed.open();
    let again = bed.join_with(b2, "tide", 8, &json!({"resume": joined["resume"]}));
    assert_eq!((peer_of(&again), &again["viewers"]), (peer_of(&joined), &json!(1)));
    assert_eq!(bed.errors(b), ["replaced"]);
    bed.close(b, true);
    assert_eq!(bed.shard.counts().viewers, 1);
    let (c, _) = bed.viewer("tide", 8);
    assert_eq!(bed.matches(c), [peer_of(&joined)]);
}

#[test]
fn joining_again_on_one_socket_keeps_the_peer_and_brings_the_next_salt() {
    let mut bed = Bed::new();
    let (a, a_id) = bed.viewer("tide", 8);
    let first = bed.join(a, "tide", 8);
    bed.advance(defaults::SALT_MS);
    let second = bed.join(a, "tide", 8);
    assert_eq!((peer_of(&first), peer_of(&second)), (a_id.clone(), a_id));
    assert_ne!(first["salt"], second["salt"]);
    assert_eq!(second["viewers"], 1);
}

#[test]
fn after_a_restart_connected_viewers_get_new_ids_and_are_not_matched_anew() {
    let mut bed = Bed::new();
    let a = bed.open();
    let a_joined = bed.join(a, "tide", 8);
    let b = bed.open();
    let b_joined = bed.join(b, "tide", 8);
    // Another process, another secret, the same two with their old tickets and ids.
    let mut bed = Bed::with(Access::Any, 99);
    let a = bed.open();
    let more = json!({"resume": a_joined["resume"], "connected": [peer_of(&b_joined)]});
    let a_again = bed.join_with(a, "tide", 8, &more);
    assert_ne!(peer_of(&a_again), peer_of(&a_joined));
    let b = bed.open();
    let more = json!({"resume": b_joined["resume"], "connected": [peer_of(&a_joined)]});
    bed.join_with(b, "tide", 8, &more);
    assert_eq!(bed.matches(b), [""; 0]);
    // With the secret kept, the ids are kept.
    let mut bed = Bed::new();
    let a = bed.open();
    let again = bed.join_with(a, "tide", 8, &json!({"resume": a_joined["resume"]}));
    assert_eq!(peer_of(&again), peer_of(&a_joined));
}

#[test]
fn only_videos_of_the_catalogue_are_served_and_revoked_ones_end() {
    let catalogue = Catalogue::from_iter([AnnounceId::of_video("tide")]);
    let mut bed = Bed::with(Access::Catalogue(catalogue.clone()), 1);
    let (a, _) = bed.viewer("tide", 8);
    let b = bed.open();
    let join = |name: &str| json!({"type": "join", "v": 1, "video": video(name), "kind": "viewer", "want": 1});
    bed.send(b, &join("moon"));
    let error = bed.take(b);
    assert_eq!((&error[0]["code"], &error[0]["ref"]), (&json!("video-unknown"), &json!(video("moon"))));
    catalogue.insert(AnnounceId::of_video("moon"));
    bed.join(b, "moon", 1);
    catalogue.remove(&AnnounceId::of_video("tide"));
    bed.run(|shard, _, out| shard.revoke(AnnounceId::of_video("tide"), out));
    assert_eq!(bed.take(a), [json!({"type": "revoked", "video": video("tide")})]);
    bed.send(a, &join("tide"));
    assert_eq!(bed.errors(a), ["video-unknown"]);
    assert_eq!(bed.shard.videos(), 1);
}

#[test]
fn one_socket_carries_several_videos_up_to_a_limit() {
    let mut bed = Bed::new();
    let a = bed.open();
    let names: Vec<String> = (0..=defaults::MAX_VIDEOS).map(|index| format!("video {index}")).collect();
    let mut peers = BTreeSet::new();
    for name in &names[1..] {
        peers.insert(peer_of(&bed.join(a, name, 8)));
    }
    assert_eq!(peers.len(), defaults::MAX_VIDEOS);
    bed.send(a, &json!({"type": "join", "v": 1, "video": video(&names[0]), "kind": "viewer", "want": 1}));
    assert_eq!(bed.errors(a), ["too-many-videos"]);
    let (b, _) = bed.viewer(&names[3], 8);
    assert_eq!(bed.matches(b).len(), 1);
    bed.close(a, true);
    assert_eq!(bed.take_kind(b, "gone").len(), 1);
}

#[test]
fn pairing_has_a_budget_that_comes_back() {
    let mut bed = Bed::new();
    for _ in 0..50 {
        bed.viewer("tide", 1);
    }
    let (a, _) = bed.viewer("tide", 12);
    let mut named = bed.matches(a).len();
    for _ in 0..20 {
        bed.advance(100);
        bed.update(a, "tide", 12);
        named += bed.matches(a).len();
    }
    assert_eq!(named, 30);
    bed.advance(600_000);
    bed.update(a, "tide", 12);
    let more = bed.matches(a).len();
    assert!((4..=6).contains(&more), "{more} within ten minutes");
}

#[test]
fn what_is_malformed_is_answered_and_repeated_it_ends_the_connection() {
    let mut bed = Bed::new();
    let a = bed.open();
    for text in ["null", "[]", "{}", "\u{0}", "{\"type\":\"join\"}"] {
        bed.send_text(a, text);
        assert_eq!(bed.errors(a), ["bad-message"], "{text}");
    }
    bed.run(|shard, now, out| shard.handle_binary(now, a, out));
    assert_eq!(bed.errors(a), ["bad-message"]);
    bed.send(a, &json!({"type": "dance"}));
    assert_eq!(bed.errors(a), ["unknown-type"]);
    bed.send(a, &json!({"type": "join", "v": 2, "video": video("tide"), "kind": "viewer", "want": 1}));
    assert_eq!(bed.errors(a), ["version"]);
    assert_eq!(bed.closed, []);
    for _ in 0..5 {
        bed.send_text(a, "null");
    }
    assert_eq!(bed.closed, [(a, CloseReason::Abuse)]);
    // Nothing is read any more.
    bed.take(a);
    bed.send_text(a, "null");
    assert_eq!(bed.take(a).len(), 0);
    // Now and then a wrong message is forgiven.
    let b = bed.open();
    bed.join(b, "tide", 0);
    for _ in 0..100 {
        bed.send_text(b, "null");
        bed.advance(10_000);
    }
    assert_eq!(bed.closed.len(), 1);
}

#[test]
fn a_flood_is_answered_once_and_then_ends_the_connection() {
    let mut bed = Bed::new();
    let (a, _) = bed.viewer("tide", 0);
    for _ in 0..=(defaults::MESSAGE_BURST as usize) {
        bed.update(a, "tide", 0);
    }
    assert_eq!(bed.errors(a), ["rate-limited"]);
    for _ in 0..250 {
        bed.update(a, "tide", 0);
    }
    assert_eq!(bed.errors(a), [""; 0]);
    assert_eq!(bed.closed, [(a, CloseReason::Abuse)]);
    // A little too fast is no crime.
    let (b, _) = bed.viewer("tide", 0);
    for _ in 0..500 {
        bed.update(b, "tide", 0);
        bed.advance(45);
    }
    assert_eq!(bed.closed.len(), 1);
}

#[test]
fn a_connection_without_a_video_is_closed() {
    let mut bed = Bed::new();
    let a = bed.open();
    let (b, _) = bed.viewer("tide", 0);
    bed.advance(defaults::IDLE_MS);
    assert_eq!(bed.closed, [(a, CloseReason::Idle)]);
    bed.send(b, &json!({"type": "leave", "video": video("tide")}));
    bed.advance(defaults::IDLE_MS - 1);
    assert_eq!(bed.closed.len(), 1);
    bed.advance(1);
    assert_eq!(bed.closed.len(), 2);
}

#[test]
fn draining_tells_everybody() {
    let mut bed = Bed::new();
    let (a, _) = bed.viewer("tide", 0);
    bed.run(|shard, _, out| shard.drain(5000, out));
    assert_eq!(bed.take(a), [json!({"type": "drain", "withinMs": 5000})]);
}
