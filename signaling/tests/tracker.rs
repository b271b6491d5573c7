//! WebTorrent's tracker protocol over real sockets, as the npm client writes it.

#[expect(dead_code, reason = "what the other test files use")]
mod common;

use common::{Client, Running, http, text};
use marea_signaling::service::Policy;
use serde_json::{Value, json};
use tokio_websockets::{CloseCode, Message};

/// 20 bytes as a binary string, the last of them 0xff and 0x00.
fn id(name: &str) -> String {
    format!("{name:-<18}\u{ff}\u{0}")
}

fn announce(peer: &str, offers: usize) -> Value {
    let sdp = format!("v=0\r\n{}", "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n".repeat(200));
    let offer = |n: usize| json!({"offer": {"type": "offer", "sdp": sdp}, "offer_id": id(&format!("offer{n}"))});
    let offers: Vec<Value> = (0..offers).map(offer).collect();
    json!({"numwant": offers.len(), "uploaded": 0, "downloaded": 0, "left": null, "event": "started", "action": "announce",
        "info_hash": id("tide"), "peer_id": id(peer), "offers": offers})
}

async fn announced(client: &mut Client) -> Value {
    client.until("a reply", |message| message["interval"].is_number()).await
}

#[tokio::test]
async fn peers_of_every_path_meet_and_shake_hands() {
    let server = Running::start(Policy::default()).await;
    let mut a = Client::connect_to(server.address, "/", &[]).await;
    let mut b = Client::connect_to(server.address, "/tracker/socket?x=1", &[]).await;
    let mut c = Client::connect_to(server.address, "/announce", &[("origin", "http://localhost:1")]).await;
    a.send(&announce("a", 0)).await;
    assert_eq!(announced(&mut a).await["incomplete"], 1);
    // Some clients send text as binary.
    b.raw(Message::binary(announce("b", 0).to_string())).await;
    assert_eq!(announced(&mut b).await["incomplete"], 2);
    // 45 KB.
    c.send(&announce("c", 5)).await;
    assert_eq!(announced(&mut c).await["incomplete"], 3);
    for (client, name) in [(&mut a, "a"), (&mut b, "b")] {
        let offer = client.until("an offer", |message| message["offer"].is_object()).await;
        assert_eq!((text(&offer["peer_id"]), text(&offer["info_hash"])), (id("c"), id("tide")));
        assert!(text(&offer["offer"]["sdp"]).len() > 8000);
        let answer = json!({"action": "announce", "info_hash": id("tide"), "peer_id": id(name), "to_peer_id": id("c"),
            "answer": {"type": "answer", "sdp": "v=0\r\n"}, "offer_id": offer["offer_id"]});
        client.send(&answer).await;
        let answer = c.until("an answer", |message| message["answer"].is_object()).await;
        assert_eq!((text(&answer["peer_id"]), &answer["offer_id"]), (id(name), &offer["offer_id"]));
    }
    assert_eq!(server.signaling.stats().tracker_peers, 3);
    a.close().await;
    b.send(&json!({"action": "scrape", "info_hash": [id("tide"), id("none")]})).await;
    let files = b.until("files", |message| message["files"].is_object()).await["files"].clone();
    assert_eq!(files[id("tide")]["incomplete"], 2);
    assert_eq!(files[id("none")]["incomplete"], 0);
    let (_, metrics) = http(server.admin.unwrap(), "GET /metrics HTTP/1.1").await;
    for line in [
        "marea_signaling_peers{kind=\"tracker\"} 2",
        "marea_signaling_messages_total{kind=\"tracker-announce\",direction=\"in\"} 3",
        "marea_signaling_messages_total{kind=\"tracker-offer\",direction=\"out\"} 2",
        "marea_signaling_relay_seconds_count 4",
    ] {
        assert!(metrics.contains(line), "{line} is missing in {metrics}");
    }
}

#[tokio::test]
async fn no_offer_crosses_between_the_dialects() {
    let server = Running::start(Policy::default()).await;
    let mut viewer = server.client().await;
    let joined = viewer.join("tide", 8).await;
    let mut tracker = Client::connect_to(server.address, "/announce", &[]).await;
    // Every name that the viewer is known by, as far as it fits.
    for name in [text(&joined["video"]), text(&joined["peer"])] {
        let mut message = announce("x", 5);
        message["info_hash"] = name[..20].into();
        tracker.send(&message).await;
        assert_eq!(announced(&mut tracker).await["incomplete"], 1);
    }
    tracker.send(&json!({"type": "join", "v": 1, "video": joined["video"], "kind": "viewer", "want": 8})).await;
    let failure = tracker.until("a failure", |message| message["failure reason"].is_string()).await;
    assert_eq!(failure["action"], "announce");
    viewer.send(&announce("viewer", 5)).await;
    viewer.expect_error("bad-message").await;
    tracker.expect_silence().await;
    viewer.expect_silence().await;
}

#[tokio::test]
async fn hostile_frames_end_their_own_connection_only() {
    let server = Running::start(Policy::default()).await;
    let mut bystander = Client::connect_to(server.address, "/announce", &[]).await;
    bystander.send(&announce("bystander", 0)).await;
    announced(&mut bystander).await;
    let mut a = Client::connect_to(server.address, "/announce", &[]).await;
    for wrong in ["null", "[]", "{}", "{\"action\":\"announce\",\"offers\":[null]}", "\u{0}"] {
        a.raw(Message::text(wrong)).await;
        let failure = a.until("a failure", |_| true).await;
        assert_eq!(failure["action"], "announce", "{failure}");
        assert!(failure["failure reason"].is_string());
    }
    a.raw(Message::text("x".repeat(200_000))).await;
    assert_eq!(a.expect_close().await.0, CloseCode::MESSAGE_TOO_BIG);
    let policy = Policy {
        origins: marea_signaling::Origins::new(vec!["https://video.example".parse().unwrap()]),
        ..Policy::default()
    };
    server.signaling.set_policy(policy);
    let mut other = Client::connect_to(server.address, "/announce", &[("origin", "https://other.example")]).await;
    let failure = other.until("a failure", |_| true).await;
    assert!(text(&failure["failure reason"]).contains("origin"), "{failure}");
    assert_eq!(other.expect_close().await.0, CloseCode::POLICY_VIOLATION);
    bystander.send(&announce("bystander", 0)).await;
    announced(&mut bystander).await;
}

#[tokio::test]
async fn draining_closes_trackers_clients_at_once() {
    let mut server = Running::start(Policy::default()).await;
    let mut a = Client::connect_to(server.address, "/announce", &[]).await;
    a.send(&announce("a", 0)).await;
    announced(&mut a).await;
    server.stop();
    assert_eq!(a.expect_close().await.0, CloseCode::GOING_AWAY);
    drop(a);
    server.ended().await;
}

#[tokio::test]
async fn without_an_upgrade_the_paths_say_what_they_are() {
    let server = Running::start(Policy::default()).await;
    for (path, status) in [("/", 200), ("/announce", 426), ("/tracker/socket", 426)] {
        assert_eq!(http(server.address, &format!("GET {path} HTTP/1.1")).await.0, status, "{path}");
    }
}
