//! Tokens, kinds, and what the site asks of its viewers.

use super::*;
use crate::{
    access::Rules,
    message::Kind,
    sharing::{SharingRules, VideoRule},
    token::{Claims, TokenKey, TokenRules},
};

fn key() -> TokenKey {
    TokenKey::from_bytes(&[7; 40]).unwrap()
}

fn token(name: &str, kind: Kind, seconds: f64, prefix: Option<&str>) -> Value {
    let exp = START as f64 / 1000.0 + seconds;
    let claims = Claims { video: video(name), kind, exp, nbf: None, prefix: prefix.map(str::to_owned) };
    json!({"token": key().sign(&claims).unwrap(), "kind": kind})
}

fn tokens(required: bool) -> Rules {
    let tokens = TokenRules { keys: vec![key()], peer_keys: Vec::new(), required };
    Rules { tokens, ..Rules::default() }
}

impl Bed {
    fn with_rules(rules: Rules) -> Self {
        let mut bed = Self::new();
        bed.set(rules);
        bed
    }

    fn set(&mut self, rules: Rules) {
        self.run(|shard, now, out| shard.set_rules(now, rules, out));
    }

    /// A client of another machine.
    fn stranger(&mut self) -> ConnectionId {
        let id = self.open();
        self.shard.connections.get_mut(&id).unwrap().client.trusted = false;
        id
    }

    /// What a join is refused with.
    fn refused(&mut self, id: ConnectionId, more: &Value) -> String {
        let mut message = json!({"type": "join", "v": 1, "video": video("tide"), "kind": "viewer", "want": 1});
        for (key, value) in more.as_object().unwrap() {
            message[key] = value.clone();
        }
        self.send(id, &message);
        let sent = self.take(id);
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert_eq!(sent[0]["type"], "error", "{sent:?}");
        sent[0]["code"].as_str().unwrap().to_owned()
    }
}

fn off() -> Rules {
    let all = VideoRule { sharing: Sharing::Off, part: 1.0 };
    Rules { sharing: SharingRules { all, ..SharingRules::default() }, ..Rules::default() }
}

#[test]
fn where_tokens_are_required_only_the_right_one_opens() {
    let mut bed = Bed::with_rules(tokens(true));
    let id = bed.stranger();
    assert_eq!(bed.refused(id, &json!({})), "token-required");
    assert_eq!(bed.refused(id, &json!({"token": null})), "token-required");
    assert_eq!(bed.refused(id, &json!({"token": "a.b.c"})), "token-invalid");
    assert_eq!(bed.refused(id, &token("tide", Kind::Viewer, -61.0, None)), "token-expired");
    assert_eq!(bed.refused(id, &token("moon", Kind::Viewer, 60.0, None)), "token-invalid");
    assert_eq!(bed.refused(id, &token("tide", Kind::Viewer, 60.0, Some("10.0.0.0/8"))), "token-invalid");
    let mut wrong_kind = token("tide", Kind::Viewer, 60.0, None);
    wrong_kind["kind"] = "mirror".into();
    assert_eq!(bed.refused(id, &wrong_kind), "kind-refused");
    assert_eq!(bed.shard.counts(), Counts::default());
    bed.join_with(id, "tide", 1, &token("tide", Kind::Viewer, 60.0, Some("198.0.0.0/8")));
    // The next salt needs no further token.
    bed.advance(7_200_000);
    bed.join(id, "tide", 1);
    assert_eq!(bed.shard.counts().viewers, 1);
}

#[test]
fn a_ticket_stands_for_the_token_that_it_was_got_by_for_a_day() {
    let mut bed = Bed::with_rules(tokens(true));
    let id = bed.stranger();
    let joined = bed.join_with(id, "tide", 1, &token("tide", Kind::Viewer, 60.0, None));
    bed.close(id, true);
    bed.advance(80_000_000);
    let id = bed.stranger();
    let ticket = json!({"resume": joined["resume"]});
    let again = bed.join_with(id, "tide", 1, &ticket);
    assert_eq!(peer_of(&again), peer_of(&joined));
    bed.close(id, true);
    // Not for another kind or video, and not beyond the day.
    let id = bed.stranger();
    assert_eq!(bed.refused(id, &json!({"resume": joined["resume"], "kind": "edge"})), "kind-refused");
    assert_eq!(bed.refused(id, &json!({"resume": joined["resume"], "video": video("moon")})), "token-required");
    bed.advance(7_000_000);
    let id = bed.stranger();
    assert_eq!(bed.refused(id, &ticket), "token-required");
}

#[test]
fn a_ticket_of_before_tokens_were_required_or_of_a_bound_token_admits_nobody() {
    let mut bed = Bed::with_rules(tokens(false));
    let (a, b) = (bed.stranger(), bed.stranger());
    let open = bed.join(a, "tide", 1);
    let bound = bed.join_with(b, "tide", 1, &token("tide", Kind::Viewer, 60.0, Some("198.0.0.0/8")));
    bed.set(tokens(true));
    for joined in [open, bound] {
        let id = bed.stranger();
        assert_eq!(bed.refused(id, &json!({"resume": joined["resume"]})), "token-required");
    }
    // Who is in stays in.
    assert_eq!(bed.shard.counts().viewers, 2);
}

#[test]
fn mirrors_and_edges_of_other_machines_need_a_token_and_viewers_may_do_without() {
    let mut bed = Bed::with_rules(tokens(false));
    let id = bed.stranger();
    assert_eq!(bed.refused(id, &json!({"kind": "mirror"})), "kind-refused");
    bed.join_with(id, "tide", 1, &token("tide", Kind::Mirror, 60.0, None));
    let viewer = bed.stranger();
    // A wrong token is not taken for none.
    assert_eq!(bed.refused(viewer, &json!({"token": "x"})), "token-invalid");
    bed.join(viewer, "tide", 1);
    assert_eq!(bed.shard.counts(), Counts { viewers: 1, mirrors: 1, edges: 0 });
    // Without keys a page's token is for somebody else.
    let mut bed = Bed::new();
    let id = bed.open();
    bed.join_with(id, "tide", 1, &json!({"token": "x"}));
}

#[test]
fn the_kill_switch_ends_swarms_in_mid_film_and_answers_newcomers() {
    let mut bed = Bed::new();
    let (a, _) = bed.viewer("tide", 4);
    let (b, _) = bed.viewer("moon", 4);
    bed.take(b);
    bed.set(off());
    for (id, name) in [(a, "tide"), (b, "moon")] {
        let sent = bed.take(id);
        assert_eq!(sent, [json!({"type": "revoked", "video": video(name)})]);
    }
    assert_eq!((bed.shard.counts(), bed.shard.videos()), (Counts::default(), 0));
    let joined = bed.join(a, "tide", 4);
    assert_eq!((&joined["policy"]["p2p"], &joined["viewers"]), (&json!("off"), &json!(0)));
    assert_eq!(bed.shard.videos(), 0);
    bed.update(a, "tide", 4);
    assert_eq!(bed.errors(a), ["not-joined"]);
    // And back.
    bed.set(Rules::default());
    assert_eq!(bed.join(a, "tide", 4)["policy"]["p2p"], "on");
}

#[test]
fn a_revoked_video_is_left_and_others_go_on() {
    let mut bed = Bed::new();
    let (a, _) = bed.viewer("tide", 4);
    let (b, _) = bed.viewer("moon", 4);
    bed.take(b);
    let revoked = [AnnounceId::of_video("tide")].into();
    bed.set(Rules { sharing: SharingRules { revoked, ..SharingRules::default() }, ..Rules::default() });
    assert_eq!(bed.take_kind(a, "revoked").len(), 1);
    assert_eq!(bed.take(b).len(), 0);
    bed.send(a, &json!({"type": "join", "v": 1, "video": video("tide"), "kind": "viewer", "want": 1}));
    assert_eq!(bed.take(a), [json!({"type": "revoked", "video": video("tide")})]);
    assert_eq!(bed.shard.videos(), 1);
}

#[test]
fn a_part_takes_part_the_same_at_each_join_and_more_as_it_grows() {
    let part = |part: f64| {
        let all = VideoRule { sharing: Sharing::Ask, part };
        Rules { sharing: SharingRules { all, ..SharingRules::default() }, ..Rules::default() }
    };
    let mut bed = Bed::with_rules(part(0.3));
    let ids: Vec<ConnectionId> = (0..400).map(|_| bed.open()).collect();
    let asked = |bed: &mut Bed, id| bed.join(id, "tide", 0)["policy"]["p2p"] == "ask";
    let first: Vec<bool> = ids.iter().map(|id| asked(&mut bed, *id)).collect();
    let count = first.iter().filter(|asked| **asked).count();
    // 120 expected; five deviations are 46.
    assert!((74..166).contains(&count), "{count}");
    assert_eq!(bed.shard.counts().viewers, count);
    let second: Vec<bool> = ids.iter().map(|id| asked(&mut bed, *id)).collect();
    assert_eq!(first, second);
    bed.set(part(0.5));
    for (id, was) in ids.iter().zip(&first) {
        assert!(asked(&mut bed, *id) || !was);
    }
    bed.set(part(0.0));
    assert_eq!(bed.shard.counts().viewers, 0);
    // Mirrors are not drawn.
    let mirror = bed.open();
    assert_eq!(bed.join_with(mirror, "tide", 0, &json!({"kind": "mirror"}))["policy"]["p2p"], "off");
    bed.set(part(0.01));
    assert_eq!(bed.join_with(mirror, "tide", 0, &json!({"kind": "mirror"}))["policy"]["p2p"], "ask");
}
