//! The tracker in virtual time.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::*;

const START: Millis = 1_800_000_000_000;

struct Bed {
    tracker: Tracker,
    now: Millis,
    inboxes: HashMap<ConnectionId, Vec<Value>>,
    closed: Vec<(ConnectionId, CloseReason)>,
    rejects: Vec<&'static str>,
}

/// An id as clients write it: every byte a character.
fn id(name: &str) -> String {
    let mut bytes: Vec<u8> = name.bytes().collect();
    bytes.resize(18, b'-');
    bytes.extend([0xff, 0x00]);
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn offers(count: usize) -> Vec<Value> {
    let offer =
        |index: usize| json!({"offer": {"type": "offer", "sdp": "v=0\r\n"}, "offer_id": id(&format!("o{index}"))});
    (0..count).map(offer).collect()
}

impl Bed {
    fn new() -> Self {
        let tracker = Tracker::new(&[3; 32]);
        Self { tracker, now: START, inboxes: HashMap::new(), closed: Vec::new(), rejects: Vec::new() }
    }

    fn open(&mut self) -> ConnectionId {
        let last = u8::try_from(self.tracker.next_connection % 250).unwrap();
        self.open_at([198, 51, 100, last])
    }

    fn open_at(&mut self, address: [u8; 4]) -> ConnectionId {
        self.tracker.open(self.now, &Client { address: Some(address.into()), ..Client::default() })
    }

    fn run(&mut self, act: impl FnOnce(&mut Tracker, Millis, &mut Outbox)) {
        let mut out = Outbox::default();
        act(&mut self.tracker, self.now, &mut out);
        for send in out.sends {
            let message: Value = serde_json::from_slice(&send.text).unwrap();
            assert!(message["action"] == "announce" || message["action"] == "scrape", "{message}");
            self.inboxes.entry(send.to).or_default().push(message);
        }
        self.closed.extend(out.closes);
        self.rejects.extend(out.rejects);
        self.check_invariants();
    }

    fn send(&mut self, connection: ConnectionId, message: &Value) {
        self.send_text(connection, &message.to_string());
    }

    fn send_text(&mut self, connection: ConnectionId, text: &str) {
        self.run(|tracker, now, out| tracker.handle(now, connection, text, out));
    }

    fn close(&mut self, connection: ConnectionId) {
        self.run(|tracker, _, out| tracker.close(connection, out));
    }

    fn advance(&mut self, ms: Millis) {
        let end = self.now + ms;
        while let Some(at) = self.tracker.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.run(Tracker::timeout);
        }
        self.now = end;
    }

    fn take(&mut self, connection: ConnectionId) -> Vec<Value> {
        self.inboxes.remove(&connection).unwrap_or_default()
    }

    /// The only message that a client was sent.
    fn one(&mut self, connection: ConnectionId) -> Value {
        let mut messages = self.take(connection);
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages.remove(0)
    }

    fn announce(&mut self, connection: ConnectionId, hash: &str, peer: &str, more: &Value) {
        let mut message = json!({"action": "announce", "info_hash": id(hash), "peer_id": id(peer), "numwant": 50,
            "uploaded": 0, "downloaded": 0, "offers": []});
        for (key, value) in more.as_object().unwrap() {
            message[key] = value.clone();
        }
        self.send(connection, &message);
    }

    fn join(&mut self, hash: &str, peer: &str) -> ConnectionId {
        let connection = self.open();
        self.announce(connection, hash, peer, &json!({"event": "started"}));
        self.take(connection);
        connection
    }

    fn answer(&mut self, connection: ConnectionId, from: &str, to: &str, offer_id: &Value) {
        self.send(
            connection,
            &json!({"action": "announce", "info_hash": id("tide"), "peer_id": id(from), "to_peer_id": id(to),
                "answer": {"type": "answer", "sdp": "v=0\r\n"}, "offer_id": offer_id}),
        );
    }

    fn scrape(&mut self, connection: ConnectionId, info_hash: &Value) -> Value {
        self.send(connection, &json!({"action": "scrape", "info_hash": info_hash}));
        self.one(connection)
    }

    fn check_invariants(&self) {
        let tracker = &self.tracker;
        let mut members = 0;
        for (info_hash, swarm) in &tracker.swarms {
            swarm.check_invariants();
            assert!(!swarm.is_empty());
            let Numbers { complete, incomplete, .. } = swarm.numbers();
            members += (complete + incomplete) as usize;
            let held: usize = tracker
                .connections
                .iter()
                .map(|(id, connection)| {
                    let own = connection.memberships.iter().filter(|(hash, _)| hash == info_hash);
                    own.map(|(_, peer)| assert!(swarm.get(*peer, *id).is_some(), "a membership without a member"))
                        .count()
                })
                .sum();
            assert_eq!(held, (complete + incomplete) as usize, "a member without a connection");
        }
        assert_eq!(members, tracker.peers);
        assert_eq!(tracker.checks.len(), tracker.connections.len());
        assert!(tracker.offers.keys().all(|key| tracker.offer_ends.iter().any(|(_, end)| end == key)));
    }
}

use super::message::Numbers;

#[test]
fn offers_go_to_others_and_answers_come_back_to_who_offered() {
    let mut bed = Bed::new();
    let (a, b) = (bed.join("tide", "a"), bed.join("tide", "b"));
    let elsewhere = bed.join("moon", "c");
    let c = bed.open();
    bed.announce(c, "tide", "c", &json!({"offers": offers(5), "event": "started"}));
    let reply = bed.one(c);
    assert_eq!((&reply["action"], &reply["info_hash"]), (&json!("announce"), &json!(id("tide"))));
    assert_eq!((&reply["complete"], &reply["incomplete"]), (&json!(0), &json!(3)));
    assert!(reply["interval"].as_u64().unwrap() >= 20);
    let mut ids = Vec::new();
    for other in [a, b] {
        let offer = bed.one(other);
        let expected = json!({"action": "announce", "offer": {"type": "offer", "sdp": "v=0\r\n"},
            "offer_id": offer["offer_id"], "peer_id": id("c"), "info_hash": id("tide")});
        assert_eq!(offer, expected);
        ids.push(offer["offer_id"].clone());
    }
    assert_ne!(ids[0], ids[1]);
    assert_eq!(bed.take(elsewhere), Vec::<Value>::new());
    bed.answer(a, "a", "c", &ids[0]);
    let expected = json!({"action": "announce", "answer": {"type": "answer", "sdp": "v=0\r\n"}, "offer_id": ids[0],
        "peer_id": id("a"), "info_hash": id("tide")});
    assert_eq!(bed.one(c), expected);
    assert_eq!(bed.take(a), Vec::<Value>::new(), "nothing back to the sender");
}

#[test]
fn only_who_was_offered_answers_once_and_in_time() {
    let mut bed = Bed::new();
    let (a, b) = (bed.join("tide", "a"), bed.open());
    let offer = |bed: &mut Bed| {
        bed.announce(b, "tide", "b", &json!({"offers": offers(1)}));
        bed.take(b);
        bed.one(a)["offer_id"].clone()
    };
    let offer_id = offer(&mut bed);
    let stranger = bed.join("moon", "a");
    bed.answer(stranger, "a", "b", &offer_id);
    bed.answer(a, "x", "b", &offer_id);
    bed.answer(a, "a", "x", &offer_id);
    bed.answer(a, "a", "b", &json!("other"));
    assert_eq!(bed.take(b), Vec::<Value>::new());
    assert_eq!(bed.rejects, ["tracker-unknown-offer"; 4]);
    bed.answer(a, "a", "b", &offer_id);
    bed.answer(a, "a", "b", &offer_id);
    assert_eq!(bed.take(b).len(), 1);
    let offer_id = offer(&mut bed);
    bed.advance(defaults::TRACKER_OFFER_MS);
    bed.answer(a, "a", "b", &offer_id);
    assert_eq!(bed.take(b), Vec::<Value>::new());
    assert!(bed.tracker.offers.is_empty());
    // An answer of somebody who has left makes no member.
    let offer_id = offer(&mut bed);
    bed.announce(a, "tide", "a", &json!({"event": "stopped"}));
    bed.answer(a, "a", "b", &offer_id);
    assert_eq!(bed.take(b).len(), 1);
    let files = bed.scrape(b, &json!(id("tide")))["files"].clone();
    assert_eq!(files[id("tide")]["incomplete"], 1);
}

#[test]
fn the_id_of_an_offer_may_be_any_json_and_be_escaped_differently() {
    let mut bed = Bed::new();
    let (a, b) = (bed.join("tide", "a"), bed.open());
    for offer_id in [json!(7), json!({"x": [1]}), json!("é\u{1}\"\\")] {
        let one = json!([{"offer": {"type": "offer", "sdp": "v=0"}, "offer_id": offer_id}]);
        bed.announce(b, "tide", "b", &json!({"offers": one}));
        bed.take(b);
        assert_eq!(bed.one(a)["offer_id"], offer_id);
        let text = json!({"action": "announce", "info_hash": id("tide"), "peer_id": id("a"), "to_peer_id": id("b"),
            "answer": {"type": "answer", "sdp": "v=0"}, "offer_id": offer_id})
        .to_string();
        bed.send_text(a, &text.replace('é', "\\u00e9"));
        assert_eq!(bed.one(b)["offer_id"], offer_id);
    }
    let long = json!([{"offer": {"type": "offer", "sdp": "v=0"}, "offer_id": "x".repeat(200)}]);
    bed.announce(b, "tide", "b", &json!({"offers": long}));
    assert_eq!(bed.take(a), Vec::<Value>::new());
}

#[test]
fn as_many_offers_are_passed_on_as_are_wanted_and_others_are_there() {
    let mut bed = Bed::new();
    let others: Vec<ConnectionId> = (0..30).map(|number| bed.join("tide", &format!("p{number}"))).collect();
    let a = bed.open();
    for (numwant, count, expected) in [
        (json!(50), 5, 5),
        (json!(2), 5, 2),
        (json!(0), 5, 0),
        (json!(-1), 5, 5),
        (json!("many"), 5, 5),
        (json!(null), 5, 5),
        (json!(1000), 40, defaults::MAX_TRACKER_OFFERS),
    ] {
        bed.announce(a, "tide", "a", &json!({"numwant": numwant, "offers": offers(count)}));
        let relayed: usize = others.iter().map(|other| bed.take(*other).len()).sum();
        assert_eq!(relayed, expected, "{numwant} {count}");
        bed.advance(1000);
    }
}

#[test]
fn nobody_is_preferred() {
    let mut bed = Bed::new();
    let others: Vec<ConnectionId> = (0..11).map(|number| bed.join("tide", &format!("p{number}"))).collect();
    let a = bed.join("tide", "a");
    for _ in 0..600 {
        bed.announce(a, "tide", "a", &json!({"offers": offers(5)}));
        bed.advance(2000);
    }
    // Until the others are forgotten, after ten minutes and some.
    let counts: Vec<usize> = others.iter().map(|other| bed.take(*other).len()).collect();
    let all: usize = counts.iter().sum();
    let mean = all as f64 / 11.0;
    assert!(mean > 120.0, "{counts:?}");
    let deviation = 5.0 * (mean * 6.0 / 11.0).sqrt();
    assert!(counts.iter().all(|count| (*count as f64 - mean).abs() < deviation), "{counts:?}");
}

#[test]
fn a_scrape_tells_one_many_and_unknown_but_not_all() {
    let mut bed = Bed::new();
    let a = bed.join("tide", "a");
    let b = bed.open();
    bed.announce(b, "tide", "b", &json!({"left": 0}));
    bed.announce(b, "moon", "b", &json!({"left": 10}));
    bed.announce(b, "moon", "b", &json!({"left": 0, "event": "completed"}));
    bed.announce(b, "moon", "b", &json!({"left": 0, "event": "completed"}));
    bed.take(b);
    let tide = json!({"complete": 1, "incomplete": 1, "downloaded": 0});
    let moon = json!({"complete": 1, "incomplete": 0, "downloaded": 1});
    let none = json!({"complete": 0, "incomplete": 0, "downloaded": 0});
    assert_eq!(bed.scrape(a, &json!(id("tide"))), json!({"action": "scrape", "files": {id("tide"): tide}}));
    let many = bed.scrape(a, &json!([id("tide"), id("moon"), id("unknown")]));
    let expected = json!({id("tide"): tide, id("moon"): moon, id("unknown"): none});
    assert_eq!(many, json!({"action": "scrape", "files": expected}));
    for wrong in [json!(null), json!([]), json!("short"), json!([1]), json!(vec![id("x"); 65])] {
        let failure = bed.scrape(a, &wrong);
        assert!(failure["failure reason"].is_string(), "{failure}");
    }
}

#[test]
fn peers_leave_by_word_with_their_socket_or_when_they_are_silent() {
    let mut bed = Bed::new();
    let (a, b) = (bed.join("tide", "a"), bed.open());
    for (peer, hash) in [("b", "tide"), ("b", "moon"), ("b2", "tide")] {
        bed.announce(b, hash, peer, &json!({}));
    }
    assert_eq!(bed.tracker.peers(), 4);
    bed.take(b);
    bed.announce(b, "tide", "b", &json!({"event": "stopped"}));
    let reply = bed.one(b);
    assert_eq!((&reply["info_hash"], &reply["incomplete"]), (&json!(id("tide")), &json!(2)));
    // Who stops what it is not in is answered too, and a stranger stops nobody.
    bed.announce(a, "tide", "b2", &json!({"event": "stopped"}));
    assert_eq!(bed.tracker.peers(), 3);
    bed.close(b);
    assert_eq!((bed.tracker.peers(), bed.tracker.swarms.len()), (1, 1));
    bed.advance(defaults::TRACKER_PEER_MS - 1);
    bed.announce(a, "moon", "a", &json!({}));
    bed.advance(defaults::TRACKER_IDLE_MS);
    assert_eq!(bed.tracker.swarms.len(), 1, "the one is forgotten, the other not");
    bed.advance(defaults::TRACKER_PEER_MS + defaults::TRACKER_IDLE_MS);
    assert_eq!(bed.closed, [(a, CloseReason::Idle)]);
}

#[test]
fn a_page_that_comes_back_takes_its_place_and_a_stranger_with_its_id_does_not() {
    let mut bed = Bed::new();
    let a = bed.open_at([198, 51, 100, 1]);
    bed.announce(a, "tide", "a", &json!({}));
    let again = bed.open_at([198, 51, 100, 1]);
    bed.announce(again, "tide", "a", &json!({}));
    assert_eq!(bed.tracker.peers(), 1);
    bed.take(a);
    let stranger = bed.open_at([203, 0, 113, 1]);
    bed.announce(stranger, "tide", "a", &json!({}));
    bed.take(again);
    let b = bed.open();
    bed.announce(b, "tide", "b", &json!({"offers": offers(5)}));
    assert_eq!((bed.take(again).len(), bed.take(a).len()), (1, 0));
    bed.close(stranger);
    assert_eq!(bed.tracker.peers(), 2);
    // Two of one page on one socket meet each other, as in npm's own tests.
    let mut bed = Bed::new();
    let shared = bed.join("tide", "a");
    bed.announce(shared, "tide", "b", &json!({"offers": offers(5)}));
    let messages = bed.take(shared);
    assert_eq!((messages.len(), &messages[1]["peer_id"]), (2, &json!(id("b"))));
}

#[test]
fn failures_name_action_and_info_hash_and_many_of_them_close() {
    let mut bed = Bed::new();
    let a = bed.open();
    let good = json!({"action": "announce", "info_hash": id("tide"), "peer_id": id("a")});
    let changed = |key: &str, value: Value| {
        let mut message = good.clone();
        message[key] = value;
        message
    };
    for message in [
        changed("action", json!("dance")),
        changed("action", json!(null)),
        changed("peer_id", json!("short")),
        changed("peer_id", json!(id("a") + "x")),
        changed("peer_id", json!(id("a").replace('a', "€"))),
        changed("event", json!("dance")),
        changed("event", json!(7)),
        changed("offers", json!(7)),
        changed("answer", json!({"type": "answer", "sdp": "v=0"})),
    ] {
        let a = bed.open();
        bed.send(a, &message);
        let failure = bed.one(a);
        assert!(failure["failure reason"].is_string(), "{message}: {failure}");
        assert_eq!((&failure["action"], &failure["info_hash"]), (&json!("announce"), &json!(id("tide"))));
    }
    for text in
        ["", "null", "[]", "1", "\"announce\"", "{", "{}", "{\"action\":1}", "[\"announce\"]", &"[".repeat(60_000)]
    {
        let a = bed.open();
        bed.send_text(a, text);
        assert!(bed.one(a)["failure reason"].is_string());
    }
    assert_eq!(bed.tracker.peers(), 0);
    for _ in 0..20 {
        bed.send_text(a, "null");
    }
    assert_eq!(bed.closed, [(a, CloseReason::Abuse)]);
    assert_eq!(bed.take(a).len(), 11);
}

#[test]
fn wrong_offers_do_not_spoil_the_announce() {
    let mut bed = Bed::new();
    let others: Vec<ConnectionId> = (0..5).map(|number| bed.join("tide", &format!("p{number}"))).collect();
    let a = bed.open();
    let sdp = |sdp: Value| json!({"offer": {"type": "offer", "sdp": sdp}, "offer_id": "x"});
    let list = json!([null, 1, [], {}, {"offer": null, "offer_id": "x"}, sdp(json!(7)), sdp(json!("x".repeat(30_000))),
        {"offer": {"type": "answer", "sdp": "v=0"}, "offer_id": "x"}, ["offer", "x"], sdp(json!("v=0"))]);
    bed.announce(a, "tide", "a", &json!({"offers": list}));
    assert_eq!(bed.one(a)["incomplete"], 6);
    assert_eq!(others.iter().map(|other| bed.take(*other).len()).sum::<usize>(), 1);
    assert_eq!(bed.rejects, ["tracker-bad-offer"; 9]);
}

#[test]
fn a_flood_of_announces_is_told_once_and_then_closed() {
    let mut bed = Bed::new();
    let a = bed.open();
    for _ in 0..600 {
        bed.announce(a, "tide", "a", &json!({}));
    }
    let messages = bed.take(a);
    let failures: Vec<&Value> = messages.iter().filter(|message| message["failure reason"].is_string()).collect();
    assert_eq!((messages.len(), failures.len()), (65, 1));
    assert_eq!(failures[0]["info_hash"], id("tide"));
    assert_eq!(bed.closed, [(a, CloseReason::Abuse)]);
    let mut bed = Bed::new();
    let a = bed.open();
    for number in 0..=defaults::MAX_TRACKER_SWARMS {
        bed.advance(1000);
        bed.announce(a, &format!("h{number}"), "a", &json!({}));
    }
    assert_eq!(bed.tracker.peers(), defaults::MAX_TRACKER_SWARMS);
}

#[test]
fn small_swarms_announce_more_often_than_large_ones() {
    let mut bed = Bed::new();
    let interval = |bed: &mut Bed, peer: &str| {
        let connection = bed.open();
        bed.announce(connection, "tide", peer, &json!({}));
        bed.one(connection)["interval"].as_u64().unwrap()
    };
    let first = interval(&mut bed, "first");
    assert!((20..=22).contains(&first), "{first}");
    for number in 0..300 {
        interval(&mut bed, &format!("p{number}"));
    }
    let last = interval(&mut bed, "last");
    assert!((110..=132).contains(&last), "{last}");
}

/// One thing that happens to one of a few sockets.
#[derive(Clone, Debug)]
enum Step {
    Announce { client: usize, hash: usize, peer: usize, offers: usize, left: Option<u8>, stop: bool },
    Answer { client: usize, last: bool },
    Break { client: usize },
    Wait { ms: Millis },
    Junk { client: usize, text: String },
}

const CLIENTS: usize = 5;

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        8 => (client.clone(), 0..2usize, 0..4usize, 0..4usize, proptest::option::of(0..2u8), proptest::bool::weighted(0.2))
            .prop_map(|(client, hash, peer, offers, left, stop)| Step::Announce { client, hash, peer, offers, left, stop }),
        4 => (client.clone(), any::<bool>()).prop_map(|(client, last)| Step::Answer { client, last }),
        1 => client.clone().prop_map(|client| Step::Break { client }),
        2 => (0..700_000u64).prop_map(|ms| Step::Wait { ms }),
        1 => (client, "\\PC{0,40}|[{}\\[\\]\":,a-z0-9]{0,40}").prop_map(|(client, text)| Step::Junk { client, text }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    /// Against a model that only knows who announced what on which socket, and when.
    #[test]
    fn histories_keep_the_promises(steps in vec(step(), 1..80)) {
        let mut bed = Bed::new();
        let mut sockets: Vec<ConnectionId> = (0..CLIENTS).map(|_| bed.open()).collect();
        // By socket, hash and peer: when announced, whether complete.
        let mut model: BTreeMap<(ConnectionId, usize, usize), (Millis, bool)> = BTreeMap::new();
        let mut offered: HashMap<ConnectionId, Vec<Value>> = HashMap::new();
        for step in steps {
            match step {
                Step::Announce { client, hash, peer, offers: count, left, stop } => {
                    let socket = sockets[client];
                    let mut more = json!({"offers": offers(count)});
                    if let Some(left) = left { more["left"] = left.into(); }
                    if stop { more["event"] = "stopped".into(); }
                    bed.announce(socket, &format!("h{hash}"), &format!("p{peer}"), &more);
                    let messages = bed.take(socket);
                    let refused = messages.first().is_none_or(|message| message["failure reason"].is_string());
                    if !refused {
                        let key = (socket, hash, peer);
                        if stop {
                            model.remove(&key);
                        } else {
                            let before = model.get(&key).is_some_and(|(_, complete)| *complete);
                            model.insert(key, (bed.now, left.map_or(before, |left| left == 0)));
                        }
                        let members = || model.iter().filter(|((_, other, _), _)| *other == hash);
                        let complete = members().filter(|(_, (_, complete))| *complete).count();
                        prop_assert_eq!(&messages[0]["complete"], complete);
                        prop_assert_eq!(&messages[0]["incomplete"], members().count() - complete);
                        let others = members().filter(|((_, _, other), _)| *other != peer).count();
                        let mut relayed = messages.len() - 1;
                        offered.entry(socket).or_default().extend(messages[1..].iter().cloned());
                        for other in sockets.iter().filter(|other| **other != socket) {
                            let offers = bed.take(*other);
                            relayed += offers.len();
                            for offer in &offers {
                                prop_assert_eq!(&offer["peer_id"], &id(&format!("p{peer}")));
                                prop_assert!(members().any(|((member, _, _), _)| member == other));
                            }
                            offered.entry(*other).or_default().extend(offers);
                        }
                        prop_assert_eq!(relayed, if stop { 0 } else { count.min(others) });
                    }
                }
                Step::Answer { client, last } => {
                    let socket = sockets[client];
                    let list = offered.entry(socket).or_default();
                    let Some(offer) = (if last { list.pop() } else { (!list.is_empty()).then(|| list.remove(0)) }) else { continue };
                    // As whom it was offered is not told: one of its own ids fits at most.
                    for peer in 0..4 {
                        let answer = json!({"action": "announce", "info_hash": offer["info_hash"], "peer_id": id(&format!("p{peer}")),
                            "to_peer_id": offer["peer_id"], "answer": {"type": "answer", "sdp": "v=0"}, "offer_id": offer["offer_id"]});
                        bed.send(socket, &answer);
                    }
                    let answers: usize = sockets.iter().map(|socket| bed.take(*socket).iter().filter(|message| message["answer"].is_object()).count()).sum();
                    prop_assert!(answers <= 1);
                }
                Step::Break { client } => {
                    bed.close(sockets[client]);
                    model.retain(|(socket, _, _), _| *socket != sockets[client]);
                    sockets[client] = bed.open();
                }
                Step::Wait { ms } => {
                    bed.advance(ms);
                    // When exactly the silent are forgotten is not promised: ask the tracker which of those are left.
                    let now = bed.now;
                    let tracker = &bed.tracker;
                    model.retain(|(socket, hash, peer), (at, _)| {
                        let member = |text: &str| serde_json::from_value::<Id20>(json!(id(text))).unwrap();
                        let key = (member(&format!("h{hash}")), member(&format!("p{peer}")));
                        let here = tracker.connections.get(socket).is_some_and(|connection| connection.memberships.contains(&key));
                        assert!(here || *at + defaults::TRACKER_PEER_MS <= now, "forgotten too soon");
                        assert!(!here || now < *at + defaults::TRACKER_PEER_MS + defaults::TRACKER_IDLE_MS, "not forgotten");
                        here
                    });
                }
                Step::Junk { client, text } => bed.send_text(sockets[client], &text),
            }
            for (closed, _) in std::mem::take(&mut bed.closed) {
                if let Some(client) = sockets.iter().position(|socket| *socket == closed) {
                    bed.close(closed);
                    model.retain(|(socket, _, _), _| *socket != closed);
                    sockets[client] = bed.open();
                }
            }
            for socket in &sockets {
                bed.take(*socket);
            }
            prop_assert_eq!(bed.tracker.peers(), model.len());
        }
        for socket in sockets {
            bed.close(socket);
        }
        prop_assert_eq!((bed.tracker.peers(), bed.tracker.swarms.len()), (0, 0));
    }
}
