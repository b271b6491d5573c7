//! Real WebSocket clients, HTTP and UDP over loopback.

mod common;

use std::{net::SocketAddr, time::Duration};

use futures_util::StreamExt as _;
use marea_signaling::service::Policy;
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::UdpSocket, time::timeout};
use tokio_websockets::{CloseCode, Message};

use common::{Client, MOMENT, PATIENCE, Running, http, text, video};

#[tokio::test]
async fn two_viewers_meet_and_shake_hands() {
    let server = Running::start(Policy::default()).await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    let a_joined = a.join("tide", 0).await;
    assert_eq!((&a_joined["viewers"], &a_joined["video"]), (&json!(1), &json!(video("tide"))));
    let stun = format!("stun:127.0.0.1:{}", server.stun.unwrap().port());
    assert_eq!(a_joined["ice"], json!([{ "urls": stun }]));
    // Both wait below the gate until they learn of each other.
    let b_joined = b.join("tide", 0).await;
    assert_eq!(b_joined["viewers"], 2);
    assert_eq!(a.expect("viewers").await["viewers"], 2);
    let (a_id, b_id) = (text(&a_joined["peer"]), text(&b_joined["peer"]));
    a.send(&json!({"type": "update", "video": video("tide"), "want": 8, "pos": 3.5})).await;
    a.expect_silence().await;
    b.send(&json!({"type": "update", "video": video("tide"), "want": 8, "pos": 4})).await;
    let named = b.expect("match").await;
    assert_eq!(named["peers"], json!([{"peer": a_id, "kind": "viewer", "near": true}]));

    let sdp = format!("v=0\r\n{}", "a=x\r\n".repeat(3000));
    b.send(&json!({"type": "offer", "video": video("tide"), "to": a_id, "conn": "c-1", "sdp": sdp})).await;
    b.send(&json!({"type": "candidate", "video": video("tide"), "to": a_id, "conn": "c-1",
        "candidate": {"candidate": "candidate:1 1 udp 1 10.0.0.1 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0}}))
        .await;
    b.send(&json!({"type": "candidate", "video": video("tide"), "to": a_id, "conn": "c-1", "candidate": null})).await;
    let offer = a.expect("offer").await;
    assert_eq!((&offer["from"], &offer["near"], &offer["conn"]), (&json!(b_id), &json!(true), &json!("c-1")));
    assert_eq!(offer["sdp"], sdp);
    assert_eq!(a.expect("candidate").await["candidate"]["sdpMid"], "0");
    assert_eq!(a.expect("candidate").await["candidate"], json!(null));
    a.send(&json!({"type": "answer", "video": video("tide"), "to": b_id, "conn": "c-1", "sdp": "v=0"})).await;
    assert_eq!(b.expect("answer").await["from"], json!(a_id));
    a.send(&json!({"type": "reject", "video": video("tide"), "to": b_id, "conn": "c-1", "code": "full"})).await;
    assert_eq!(b.expect("reject").await["code"], "full");

    let stats = server.signaling.stats();
    assert_eq!((stats.connections, stats.videos, stats.viewers), (2, 1, 2));
    // A page that goes says so; its peer learns of it at once.
    a.close().await;
    assert_eq!(b.expect("gone").await["peer"], json!(a_id));
}

#[tokio::test]
async fn a_socket_that_breaks_comes_back_with_its_ticket_unnoticed() {
    let server = Running::start(Policy::default()).await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.join("tide", 8).await;
    let joined = b.join("tide", 8).await;
    b.expect("match").await;
    drop(b);
    let mut b = server.client().await;
    let again = b.join_with("tide", 8, json!({"resume": joined["resume"], "connected": []})).await;
    assert_eq!(again["peer"], joined["peer"]);
    assert_eq!(again["viewers"], 2);
    assert_eq!(a.expect("viewers").await["viewers"], 2);
    a.expect_silence().await;
}

#[tokio::test]
async fn want_0_is_counted_and_left_alone() {
    let server = Running::start(Policy::default()).await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.join("tide", 0).await;
    b.join("tide", 8).await;
    assert_eq!(a.expect("viewers").await["viewers"], 2);
    b.expect_silence().await;
    a.send(&json!({"type": "leave", "video": video("tide")})).await;
    a.send(&json!({"type": "update", "video": video("tide"), "want": 1})).await;
    assert_eq!(a.expect_error("not-joined").await["ref"], json!(video("tide")));
}

#[tokio::test]
async fn malformed_messages_are_answered_and_then_end_the_connection_and_nothing_else() {
    let server = Running::start(Policy::default()).await;
    let mut bystander = server.client().await;
    bystander.join("tide", 0).await;
    let mut a = server.client().await;
    for wrong in ["null", "[]", "[null]", "{}", "\"join\"", "{\"type\":\"join\",\"video\":null}", "{\"a\":"] {
        a.raw(Message::text(wrong)).await;
        a.expect_error("bad-message").await;
    }
    a.raw(Message::binary(&b"\x00\x01"[..])).await;
    a.expect_error("bad-message").await;
    a.send(&json!({"type": "dance", "video": video("tide")})).await;
    assert_eq!(a.expect_error("unknown-type").await["ref"], json!(video("tide")));
    let join = json!({"type": "join", "v": 9, "video": video("tide"), "kind": "viewer", "want": 0, "connected": []});
    a.send(&join).await;
    a.expect_error("version").await;
    a.raw(Message::text("null")).await;
    assert_eq!(a.expect_close().await.0, CloseCode::POLICY_VIOLATION);
    bystander.join("moon", 0).await;
}

#[tokio::test]
async fn messages_are_read_however_they_are_cut() {
    let server = Running::start(Policy::default()).await;
    let mut a = server.client().await;
    // Masked with zeros.
    let join = |name| {
        let text = json!({"type": "join", "v": 1, "video": video(name), "kind": "viewer", "want": 0, "connected": []});
        let text = text.to_string();
        let length = u8::try_from(text.len()).unwrap();
        assert!(length < 126, "it would stand in two more bytes");
        [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
    };
    for byte in join("tide") {
        a.socket.get_mut().write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(a.expect("joined").await["video"], video("tide"));
    // More than one socket's turn, the last in two pieces.
    let mut many = [0x89, 0x80, 0, 0, 0, 0].repeat(1000);
    many.extend(join("moon"));
    let (begin, rest) = many.split_at(many.len() - 10);
    a.socket.get_mut().write_all(begin).await.unwrap();
    let pong = timeout(PATIENCE, a.socket.next()).await.unwrap().unwrap().unwrap();
    assert!(pong.is_pong(), "{pong:?}");
    a.socket.get_mut().write_all(rest).await.unwrap();
    assert_eq!(a.expect("joined").await["video"], video("moon"));
}

#[tokio::test]
async fn huge_frames_and_broken_frames_end_the_connection() {
    let server = Running::start(Policy::default()).await;
    let mut a = server.client().await;
    a.join("tide", 0).await;
    a.raw(Message::text("x".repeat(100_000))).await;
    assert_eq!(a.expect_close().await.0, CloseCode::MESSAGE_TOO_BIG);
    // A large SDP is no malformed one, only too large; the connection stays.
    let mut a = server.client().await;
    let to = text(&a.join("tide", 0).await["peer"]);
    let sdp = "x".repeat(17_000);
    a.send(&json!({"type": "offer", "video": video("tide"), "to": to, "conn": "c", "sdp": sdp})).await;
    a.expect_error("bad-message").await;
    a.join("tide", 0).await;
    // No UTF-8.
    let mut b = server.client().await;
    b.join("tide", 0).await;
    let stream = b.socket.get_mut();
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]).await.unwrap();
    assert_eq!(b.expect_close().await.0, CloseCode::INVALID_FRAME_PAYLOAD_DATA);
    a.join("tide", 0).await;
}

#[tokio::test]
async fn a_flood_is_cut_and_does_not_disturb_others() {
    let server = Running::start(Policy::default()).await;
    let mut bystander = server.client().await;
    bystander.join("tide", 0).await;
    let mut a = server.client().await;
    a.join("moon", 0).await;
    let update = json!({"type": "update", "video": video("moon"), "want": 0}).to_string();
    let flood = async {
        use futures_util::SinkExt;
        while a.socket.feed(Message::text(update.clone())).await.is_ok() && a.socket.flush().await.is_ok() {}
    };
    timeout(PATIENCE, flood).await.expect("a flood ends the connection");
    bystander.join("tide", 0).await;
    let (_, metrics) = http(server.admin.unwrap(), "GET /metrics HTTP/1.1").await;
    assert!(metrics.contains("marea_signaling_rejects_total{reason=\"closed-abuse\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_dropped() {
    let server = Running::start(Policy::default()).await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    let a_id = text(&a.join("tide", 8).await["peer"]);
    b.join("tide", 8).await;
    b.expect("match").await;
    // More than loopback's own buffers hold and the queue allows: the burst of 300 messages at once, then at the rate.
    let sdp = "x".repeat(16_000);
    let flood = async {
        for sent in 0.. {
            b.send(&json!({"type": "offer", "video": video("tide"), "to": a_id, "conn": "c", "sdp": sdp})).await;
            tokio::time::sleep(Duration::from_millis(if sent < 290 { 2 } else { 60 })).await;
            if server.signaling.stats().connections < 2 {
                return;
            }
        }
    };
    timeout(PATIENCE, flood).await.expect("the slow reader is still there");
    let (_, metrics) = http(server.admin.unwrap(), "GET /metrics HTTP/1.1").await;
    assert!(metrics.contains("marea_signaling_rejects_total{reason=\"slow-reader\"}"), "{metrics}");
}

#[tokio::test]
async fn draining_tells_clients_refuses_new_ones_and_ends() {
    let mut server = Running::start(Policy::default()).await;
    let mut a = server.client().await;
    a.join("tide", 0).await;
    assert_eq!(http(server.address, "GET /readyz HTTP/1.1").await.0, 200);
    server.stop();
    assert_eq!(a.expect("drain").await["withinMs"], 5000);
    assert_eq!(http(server.address, "GET /readyz HTTP/1.1").await.0, 503);
    assert_eq!(http(server.address, "GET /healthz HTTP/1.1").await.0, 200);
    let handshake = "GET /signal HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    assert_eq!(http(server.address, handshake).await.0, 503);
    // With the last client gone there is nothing to wait for.
    a.close().await;
    let begun = std::time::Instant::now();
    server.ended().await;
    assert!(begun.elapsed() < Duration::from_secs(4), "it waited for nobody");
}

#[tokio::test]
async fn only_pages_of_listed_origins_are_served_and_the_others_are_told() {
    let origins = marea_signaling::Origins::new(vec!["https://video.example".parse().unwrap()]);
    let server = Running::start(Policy { origins, ..Policy::default() }).await;
    let mut good = Client::connect(server.address, &[("origin", "https://video.example")]).await;
    good.join("tide", 0).await;
    let mut program = server.client().await;
    program.join("tide", 0).await;
    let mut other = Client::connect(server.address, &[("origin", "https://other.example")]).await;
    other.expect_error("origin-refused").await;
    assert_eq!(other.expect_close().await.0, CloseCode::POLICY_VIOLATION);
    // A new list counts from the next connection on.
    server.signaling.set_policy(Policy::default());
    let mut other = Client::connect(server.address, &[("origin", "https://other.example")]).await;
    other.join("tide", 0).await;
}

#[tokio::test]
async fn nearness_comes_from_the_trusted_header_and_mirrors_from_this_machine_only() {
    let policy = Policy {
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        public_host: Some("signal.example".into()),
        ..Policy::default()
    };
    let server = Running::start(policy).await;
    let mut a = Client::connect(server.address, &[("x-forwarded-for", "198.51.100.7")]).await;
    let mut b = Client::connect(server.address, &[("x-forwarded-for", "203.0.113.9, 198.51.100.7")]).await;
    let mut c = Client::connect(server.address, &[("x-forwarded-for", "198.51.100.8")]).await;
    let joined = a.join("tide", 8).await;
    assert!(text(&joined["ice"][0]["urls"]).starts_with("stun:signal.example:"), "{joined}");
    b.join("tide", 8).await;
    assert_eq!(b.expect("match").await["peers"][0]["near"], true);
    c.join("moon", 0).await;
    let mut d = Client::connect(server.address, &[("x-forwarded-for", "198.51.100.7")]).await;
    d.join("moon", 8).await;
    c.send(&json!({"type": "update", "video": video("moon"), "want": 8})).await;
    assert_eq!(c.expect("match").await["peers"][0]["near"], false);
    let mirror = json!({"type": "join", "v": 1, "video": video("moon"), "kind": "mirror", "want": 1, "connected": []});
    c.send(&mirror).await;
    c.expect_error("kind-refused").await;

    let server = Running::start(Policy::default()).await;
    let mut mirror = server.client().await;
    let joined = mirror.join_with("tide", 1, json!({"kind": "mirror"})).await;
    assert_eq!((&joined["viewers"], &joined["seeders"]), (&json!(0), &json!(1)));
}

#[tokio::test]
async fn http_answers_what_operators_ask() {
    let server = Running::start(Policy::default()).await;
    let mut a = server.client().await;
    a.join("tide", 0).await;
    for (request, status) in [
        ("GET / HTTP/1.1", 200),
        ("HEAD / HTTP/1.1", 200),
        ("GET /healthz HTTP/1.1", 200),
        ("GET /nothing HTTP/1.1", 404),
        ("POST / HTTP/1.1\r\ncontent-length: 0", 405),
        ("GET /signal HTTP/1.1", 426),
        ("POST /signal HTTP/1.1\r\ncontent-length: 0", 405),
        ("GET /metrics HTTP/1.1\r\nx-forwarded-for: 198.51.100.7", 403),
        ("GET /metrics HTTP/1.1\r\norigin: https://other.example", 403),
    ] {
        assert_eq!(http(server.address, request).await.0, status, "{request}");
    }
    for address in [server.address, server.admin.unwrap()] {
        let (status, metrics) = http(address, "GET /metrics HTTP/1.1").await;
        assert_eq!(status, 200);
        for line in [
            "marea_signaling_connections 1",
            "marea_signaling_peers{kind=\"viewer\"} 1",
            "marea_signaling_messages_total{kind=\"join\",direction=\"in\"} 1",
            "marea_signaling_messages_total{kind=\"joined\",direction=\"out\"} 1",
            "marea_signaling_relay_seconds_count 0",
            "marea_build_info{program=\"marea-signaling\"",
        ] {
            assert!(metrics.contains(line), "{line} is missing in {metrics}");
        }
        assert!(!metrics.contains(&video("tide")) && !metrics.contains("127.0.0.1"));
    }
    assert_eq!(http(server.admin.unwrap(), "GET /signal HTTP/1.1").await.0, 404);
}

#[tokio::test]
async fn stun_tells_a_client_its_address() {
    let server = Running::start(Policy::default()).await;
    let stun: SocketAddr = server.stun.unwrap();
    assert_eq!(stun.port(), server.address.port());
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(stun).await.unwrap();
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend(*b"transaction!");
    // What is no request is not answered.
    client.send(b"hello").await.unwrap();
    client.send(&request[..19]).await.unwrap();
    let mut reply = [0; 100];
    assert!(timeout(MOMENT, client.recv(&mut reply)).await.is_err());
    client.send(&request).await.unwrap();
    let length = timeout(PATIENCE, client.recv(&mut reply)).await.unwrap().unwrap();
    assert_eq!(length, 32);
    assert_eq!(reply[..8], [1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42]);
    assert_eq!(&reply[8..20], b"transaction!");
    assert_eq!(reply[20..26], [0, 0x20, 0, 8, 0, 1]);
    let port = u16::from_be_bytes([reply[26] ^ 0x21, reply[27] ^ 0x12]);
    assert_eq!(port, client.local_addr().unwrap().port());
    let ip = [reply[28] ^ 0x21, reply[29] ^ 0x12, reply[30] ^ 0xa4, reply[31] ^ 0x42];
    assert_eq!(ip, [127, 0, 0, 1]);
    // A flood gets its burst and no more.
    for _ in 0..1000 {
        client.send(&request).await.unwrap();
    }
    let mut answers = 0;
    while timeout(MOMENT, client.recv(&mut reply)).await.is_ok() {
        answers += 1;
    }
    assert!((50..200).contains(&answers), "{answers} answers to 1000 requests");
}
