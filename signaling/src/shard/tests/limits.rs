//! What ends a connection or is refused.

use super::*;

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
fn a_network_of_many_connections_meets_no_more_strangers_than_one_may() {
    let mut bed = Bed::new();
    let strangers: Vec<String> = (0..40)
        .map(|number| {
            let id = bed.open_at(&format!("198.18.{number}.1"));
            bed.join(id, "tide", 12)["peer"].as_str().unwrap().to_owned()
        })
        .collect();
    let mut pairings = 0;
    // Each comes with a new socket and without its ticket, over and over.
    for _ in 0..3 {
        for number in 0..100 {
            let id = bed.open_at(&format!("203.0.113.{number}"));
            bed.join(id, "tide", 12);
            let matched = bed.matches(id);
            pairings += matched.iter().filter(|peer| strangers.contains(peer)).count();
            bed.close(id, true);
        }
        // Nobody's turn: that would be a hundred thousand of them.
        bed.now += 3_600_000;
    }
    assert!((300..=120 + 3 * 120).contains(&pairings), "{pairings}");
    // Those of the network itself are still matched with each other.
    let (a, b) = (bed.open_at("203.0.113.7"), bed.open_at("203.0.113.8"));
    for _ in 0..40 {
        let id = bed.open_at("203.0.113.9");
        bed.join(id, "tide", 12);
        bed.close(id, true);
    }
    let a_id = bed.join(a, "other", 4)["peer"].clone();
    bed.join(b, "other", 4);
    assert_eq!(bed.matches(b), [a_id.as_str().unwrap()]);
}
