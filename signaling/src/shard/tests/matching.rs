//! Who is told of whom.

use super::*;

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
fn two_who_are_alone_try_again_soon_after_a_refusal_and_ever_more_rarely() {
    let mut bed = Bed::new();
    let (a, _) = bed.viewer("tide", 8);
    let (b, _) = bed.viewer("tide", 8);
    let mut gaps = Vec::new();
    let mut matched_at = bed.now;
    let mut ends = (b, a);
    while gaps.len() < 3 {
        // Who was matched offers; the other refuses.
        let other = bed.matches(ends.0).pop().unwrap();
        let conn = format!("c{}", gaps.len());
        bed.relay(ends.0, "tide", "offer", &other, &conn, &json!({"sdp": "v=0"}));
        let from = bed.take_kind(ends.1, "offer")[0]["from"].as_str().unwrap().to_owned();
        bed.relay(ends.1, "tide", "reject", &from, &conn, &json!({"code": "full"}));
        ends = loop {
            bed.advance(100);
            let told =
                |bed: &Bed, id| bed.inboxes.get(&id).is_some_and(|inbox| inbox.iter().any(|m| m["type"] == "match"));
            if told(&bed, a) {
                break (a, b);
            }
            if told(&bed, b) {
                break (b, a);
            }
        };
        gaps.push(bed.now - matched_at);
        matched_at = bed.now;
    }
    for (gap, expected) in gaps.iter().zip([5_000, 10_000, 20_000]) {
        assert!((expected..expected + 1_000).contains(gap), "{gaps:?}");
    }
}

#[test]
fn strangers_come_before_those_with_whom_it_failed() {
    let mut bed = Bed::new();
    let (a, a_peer) = bed.viewer("tide", 8);
    let (b, _) = bed.viewer("tide", 8);
    bed.take(b);
    bed.relay(b, "tide", "offer", &a_peer, "c", &json!({"sdp": "v=0"}));
    let from = bed.take_kind(a, "offer")[0]["from"].as_str().unwrap().to_owned();
    bed.relay(a, "tide", "reject", &from, "c", &json!({"code": "full"}));
    let (_, c_peer) = bed.viewer("tide", 8);
    bed.update(b, "tide", 8);
    assert_eq!(bed.matches(b), Vec::<String>::new(), "c was told of both: nobody is left for now");
    bed.advance(20_000);
    // c's link is not a failed one: only a is tried again.
    let again: Vec<String> = [bed.matches(a), bed.matches(b)].concat();
    assert!(!again.is_empty() && again.iter().all(|peer| *peer != c_peer), "{again:?}");
}

#[test]
fn who_meets_edges_only_is_told_of_them_and_nobody_is_told_of_it() {
    let mut bed = Bed::new();
    let only = json!({"peers": "edge"});
    let edge = |bed: &mut Bed| {
        let id = bed.open();
        let joined = bed.join_with(id, "tide", 8, &json!({"kind": "edge"}));
        (id, peer_of(&joined))
    };
    let (_, first) = edge(&mut bed);
    let mirror = bed.open();
    bed.join_with(mirror, "tide", 8, &json!({"kind": "mirror"}));
    let (viewer, _) = bed.viewer("tide", 8);
    let shy = bed.open();
    let shy_peer = peer_of(&bed.join_with(shy, "tide", 8, &only));
    assert_eq!(bed.matches(shy), [first], "no viewer and no mirror");
    let (late, _) = bed.viewer("tide", 8);
    let (edge_late, second) = edge(&mut bed);
    assert_eq!(bed.matches(shy), [second], "at once, since the edge is not told of it");
    bed.advance(120_000);
    for id in [viewer, late, mirror, edge_late] {
        bed.update(id, "tide", 8);
        assert!(!bed.matches(id).contains(&shy_peer));
    }
}

#[test]
fn a_relay_is_told_to_those_alone_who_meet_edges_only() {
    let mut bed = Bed::new();
    let turn = crate::turn::Turn::new(&["turn:turn.example:3478".to_owned()], &[7; 32]).unwrap();
    let rules = Rules { turn: Some(turn), ..Rules::default() };
    bed.run(|shard, now, out| shard.set_rules(now, rules, out));
    let mut ice = |more: Value| {
        let id = bed.open();
        let joined = bed.join_with(id, "tide", 8, &more);
        (joined["ice"].clone(), joined["iceTtl"].as_u64().unwrap())
    };
    let stun = json!([{"urls": "stun:a.example:4080"}]);
    for other in [json!({}), json!({"kind": "mirror"}), json!({"peers": "all"})] {
        assert_eq!(ice(other), (stun.clone(), 86_400));
    }
    let mut names = BTreeSet::new();
    for mut told in [json!({"peers": "edge"}), json!({"kind": "edge"})].map(&mut ice) {
        assert_eq!((&told.0[0], told.1), (&stun[0], 7_200));
        assert_eq!(told.0[1]["urls"], json!(["turn:turn.example:3478"]));
        let username = told.0[1]["username"].take();
        let (until, name) = username.as_str().unwrap().split_once(':').unwrap();
        assert_eq!(until.parse::<u64>().unwrap(), START / 1_000 + 7_200);
        assert!(names.insert(name.to_owned()), "each has its own");
        assert_eq!(told.0[1]["credential"].as_str().unwrap().len(), 28);
    }
}
