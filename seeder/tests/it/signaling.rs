use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use futures_util::{SinkExt, StreamExt};
use marea_swarm::ids::announce_id;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UdpSocket};
use tokio_websockets::{ClientBuilder, MaybeTlsStream, Message, WebSocketStream};

use crate::support::{Edge, clip, folder};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(edge: &Edge) -> Socket {
    let uri = format!("ws://{}/signal", edge.addr).parse().unwrap();
    ClientBuilder::from_uri(uri).connect().await.unwrap().0
}

async fn send(socket: &mut Socket, message: &Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

async fn receive(socket: &mut Socket, kind: &str) -> Value {
    let next = async {
        loop {
            let message = socket.next().await.expect("the socket was closed").unwrap();
            let Some(text) = message.as_text() else { continue };
            let value: Value = serde_json::from_str(text).unwrap();
            if value["type"] == kind {
                return value;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), next).await.unwrap_or_else(|_| panic!("no {kind} came"))
}

async fn join(socket: &mut Socket, video: &str) {
    let video = BASE64URL_NOPAD.encode(&announce_id(video));
    let join = json!({"type": "join", "v": 1, "video": video, "kind": "viewer", "want": 4, "connected": []});
    send(socket, &join).await;
}

#[tokio::test]
async fn viewers_of_its_own_videos_meet_and_others_are_turned_away() {
    let root = folder();
    clip(root.path(), "ts", "film");
    let edge = Edge::of(root.path()).await;
    let video = edge.media("/videos/film/film.m3u8").await.tag.unwrap().video;
    let (mut a, mut b) = (connect(&edge).await, connect(&edge).await);
    join(&mut a, &video).await;
    assert_eq!(receive(&mut a, "joined").await["viewers"], 1);
    join(&mut b, &video).await;
    let joined = receive(&mut b, "joined").await;
    assert_eq!(joined["viewers"], 2);
    // The server names its own STUN first, at the host that was asked for.
    let stun = joined["ice"][0]["urls"].to_string();
    assert!(stun.contains(&format!("stun:127.0.0.1:{}", edge.addr.port())), "{stun}");
    let matched = tokio::select! {
        message = receive(&mut a, "match") => message,
        message = receive(&mut b, "match") => message,
    };
    assert_eq!(matched["peers"].as_array().unwrap().len(), 1, "{matched}");
    join(&mut a, "a video of somebody else").await;
    assert_eq!(receive(&mut a, "error").await["code"], "video-unknown");
    assert_eq!(edge.metric("marea_signaling_connections").await, 2);
    drop((a, b));
    edge.stop().await;

    // After a restart they may join at once, before anybody asked for the playlist again.
    let edge = Edge::of(root.path()).await;
    let mut again = connect(&edge).await;
    join(&mut again, &video).await;
    receive(&mut again, "joined").await;
    let started = Instant::now();
    let stopping = tokio::spawn(edge.stop());
    receive(&mut again, "drain").await;
    drop(again);
    stopping.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn stun_answers_at_the_port_of_http() {
    let root = folder();
    let edge = Edge::of(root.path()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // A Binding request without attributes (RFC 8489 §5).
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend_from_slice(b"transaction1");
    socket.send_to(&request, edge.addr).await.unwrap();
    let mut reply = [0; 512];
    let len = tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut reply)).await.unwrap().unwrap();
    assert!(len >= 32 && reply[..2] == [1, 1] && reply[8..20] == request[8..20]);
    let addr = edge.addr;
    edge.stop().await;
    assert!(UdpSocket::bind(addr).await.is_ok(), "the port is free again");
}

#[tokio::test]
async fn what_is_no_websocket_is_told_so() {
    let root = folder();
    let edge = Edge::of(root.path()).await;
    let reply = edge.get("/signal").await;
    assert_eq!(reply.status, 426, "{}", reply.text());
    assert_eq!(edge.ask("POST", "/signal", &[]).await.status, 405);
    edge.stop().await;
}
