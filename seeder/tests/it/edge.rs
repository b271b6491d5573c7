//! `serve` as a peer of kind edge.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, VerifyingKey};
use futures_util::{SinkExt, StreamExt};
use marea_seeder::KeyRing;
use marea_swarm::ids::announce_id;
use serde_json::{Value, json};
use tokio_websockets::{ClientBuilder, Message};

use crate::support::{Edge, clip, folder};

/// What an edge-only viewer offers: no address.
fn offer() -> String {
    let fingerprint = vec!["5A"; 32].join(":");
    [
        "v=0",
        "o=- 1 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:abcdefghijklmnopqrstuvwx",
        "a=ice-options:trickle",
        &format!("a=fingerprint:sha-256 {fingerprint}"),
        "a=setup:actpass",
        "a=mid:0",
        "a=sctp-port:5000",
        "",
    ]
    .join("\r\n")
}

#[tokio::test]
async fn it_joins_by_itself_and_the_site_signs_what_it_answers() {
    let root = folder();
    clip(root.path(), "ladder", "film");
    let keys = folder();
    let path = keys.path().join("site.key");
    let key = KeyRing::create(&path).unwrap().signer().public();
    let edge = Edge::with(root.path(), |config| {
        config.key = Some(path.clone());
        config.edge_port = Some(0);
    })
    .await;
    let video = edge.media("/videos/film/0/index.m3u8").await.tag.unwrap().video;
    let id = BASE64URL_NOPAD.encode(&announce_id(&video));

    let uri = format!("ws://{}/signal", edge.addr).parse().unwrap();
    let (mut socket, _) = ClientBuilder::from_uri(uri).connect().await.unwrap();
    let join =
        json!({"type": "join", "v": 1, "video": id, "kind": "viewer", "want": 4, "connected": [], "peers": "edge"});
    socket.send(Message::text(join.to_string())).await.unwrap();
    // Whether it was there before or comes later: the viewer is told of it.
    let answer = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let message = socket.next().await.expect("the socket was closed").unwrap();
            let Some(text) = message.as_text() else { continue };
            let value: Value = serde_json::from_str(text).unwrap();
            match value["type"].as_str() {
                Some("match") => {
                    assert_eq!(value["peers"][0]["kind"], "edge", "{value}");
                    let to = &value["peers"][0]["peer"];
                    let offer = json!({"type": "offer", "video": id, "to": to, "conn": "c", "sdp": offer()});
                    socket.send(Message::text(offer.to_string())).await.unwrap();
                }
                Some("answer") => return value["sdp"].as_str().unwrap().to_owned(),
                Some("offer" | "reject") => panic!("{value}"),
                _ => {}
            }
        }
    });
    let answer = answer.await.expect("an answer");
    assert!(answer.contains("\r\na=candidate:"), "its addresses are in its answer: {answer}");
    let (lines, last) = answer.split_at(answer.rfind("a=marea-edge:").expect("a signature"));
    let (said, signature) = last.trim_end().strip_prefix("a=marea-edge:").unwrap().split_once('.').unwrap();
    assert_eq!(BASE64URL_NOPAD.decode(said.as_bytes()).unwrap(), key.0);
    let message = [format!("marea-edge-1\n{video}\n").as_bytes(), &[0x5a; 32], lines.as_bytes()].concat();
    let signature = Signature::from_slice(&BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap()).unwrap();
    VerifyingKey::from_bytes(&key.0).unwrap().verify_strict(&message, &signature).unwrap();

    assert_eq!(edge.metric("marea_signaling_peers{kind=\"edge\"}").await, 1);
    let counted = "marea_seeder_sent_bytes_total{kind=\"segment\",via=\"webrtc\",outcome=\"complete\"}";
    assert_eq!(edge.metric(counted).await, 0);
    let started = std::time::Instant::now();
    drop(socket);
    edge.stop().await;
    assert!(started.elapsed() < Duration::from_secs(8), "it waits for nobody");
}

#[tokio::test]
async fn by_default_it_is_none() {
    let root = folder();
    clip(root.path(), "ts", "film");
    let edge = Edge::of(root.path()).await;
    edge.media("/videos/film/film.m3u8").await;
    assert_eq!(edge.metric("marea_signaling_peers{kind=\"edge\"}").await, 0);
    assert!(!edge.text("/metrics").await.contains("webrtc"));
    edge.stop().await;
}
