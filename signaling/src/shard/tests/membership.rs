//! Coming, going, coming back; what members are told.

use super::*;

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
fn draining_tells_everybody() {
    let mut bed = Bed::new();
    let (a, _) = bed.viewer("tide", 0);
    bed.run(|shard, _, out| shard.drain(5000, out));
    assert_eq!(bed.take(a), [json!({"type": "drain", "withinMs": 5000})]);
}
