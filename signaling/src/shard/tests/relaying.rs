//! Offers, answers, candidates, rejections.

use super::*;

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
