//! `serve` as a peer of kind edge.

use std::{
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, VerifyingKey};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue};
use marea_seeder::KeyRing;
use marea_swarm::ids::announce_id;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, MaybeTlsStream, Message, WebSocketStream};

use crate::support::{Edge, clip, folder};

/// What a viewer offers who gives these candidates for his own.
fn offer(candidates: &[String]) -> String {
    let fingerprint = vec!["5A"; 32].join(":");
    let lines = [
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
    ];
    let candidates = candidates.iter().map(|candidate| format!("a={candidate}"));
    lines.map(str::to_owned).into_iter().chain(candidates).map(|line| line + "\r\n").collect()
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Joins as a viewer (as one who comes by a proxy from `address`), offers to the edge, and gives its answer.
async fn meet(edge: &Edge, id: &str, address: Option<&str>, sdp: &str) -> (Socket, String) {
    let uri = format!("ws://{}/signal", edge.addr).parse().unwrap();
    let mut client = ClientBuilder::from_uri(uri);
    if let Some(address) = address {
        let name = HeaderName::from_static("x-forwarded-for");
        client = client.add_header(name, HeaderValue::from_str(address).unwrap()).unwrap();
    }
    let (mut socket, _) = client.connect().await.unwrap();
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
                    let offer = json!({"type": "offer", "video": id, "to": to, "conn": "c", "sdp": sdp});
                    socket.send(Message::text(offer.to_string())).await.unwrap();
                }
                Some("answer") => return value["sdp"].as_str().unwrap().to_owned(),
                Some("offer" | "reject") => panic!("{value}"),
                _ => {}
            }
        }
    });
    let answer = answer.await.expect("an answer");
    (socket, answer)
}

/// Sockets of somebody who wants nothing, and candidates that name them.
struct Victim {
    sockets: Vec<UdpSocket>,
    candidates: Vec<String>,
}

impl Victim {
    /// At this address, on more ports than are taken of one neighbour.
    fn at(ip: IpAddr) -> Self {
        let sockets: Vec<UdpSocket> = (0..30).map(|_| UdpSocket::bind((ip, 0)).unwrap()).collect();
        let candidate = |(at, socket): (usize, &UdpSocket)| {
            socket.set_nonblocking(true).unwrap();
            let (port, priority) = (socket.local_addr().unwrap().port(), (1u32 << 30) + at as u32);
            format!("candidate:{at} 1 udp {priority} {ip} {port} typ host")
        };
        let candidates = sockets.iter().enumerate().map(candidate).collect();
        Self { sockets, candidates }
    }

    /// Datagrams that have come since it was asked last.
    fn packets(&self) -> usize {
        let all = |socket: &UdpSocket| {
            std::iter::repeat_with(|| socket.recv(&mut [0; 2_048])).take_while(Result::is_ok).count()
        };
        self.sockets.iter().map(all).sum()
    }
}

/// Our address in the network that we are in, if it is a private one. Nothing is sent.
fn private() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    matches!(ip, IpAddr::V4(ip) if ip.is_private()).then_some(ip)
}

#[tokio::test]
async fn whom_a_viewer_gives_for_himself_gets_nothing_or_four_packets() {
    let roots = [folder(), folder()];
    let (mut edges, mut ids) = (Vec::new(), Vec::new());
    for (root, proxy) in roots.iter().zip([true, false]) {
        clip(root.path(), "ladder", "film");
        let edge = Edge::with(root.path(), |config| {
            config.edge_port = Some(0);
            config.trusted_proxy = proxy.then(|| "127.0.0.1".parse().unwrap()).into_iter().collect();
        })
        .await;
        let video = edge.media("/videos/film/0/index.m3u8").await.tag.unwrap().video;
        ids.push(BASE64URL_NOPAD.encode(&announce_id(&video)));
        edges.push(edge);
    }

    // From afar: nothing goes to addresses of the machine, of its network or of its link.
    let inside: Vec<Victim> = [Some([127, 0, 0, 1].into()), Some([127, 0, 0, 2].into()), private()]
        .into_iter()
        .flatten()
        .map(Victim::at)
        .collect();
    let mut candidates = vec!["candidate:9 1 udp 9 169.254.1.1 9 typ host".to_owned()];
    candidates.extend(inside.iter().flat_map(|victim| victim.candidates[..9].to_vec()));
    let (_afar, _) = meet(&edges[0], &ids[0], Some("198.51.100.7"), &offer(&candidates)).await;

    // From where the edge itself is, where such addresses are tried: each is somebody who does not answer.
    let near = [Victim::at([127, 0, 0, 3].into()), Victim::at([127, 0, 0, 4].into())];
    let candidates: Vec<String> = near.iter().flat_map(|victim| victim.candidates[..10].to_vec()).collect();
    let (_near, _) = meet(&edges[1], &ids[1], None, &offer(&candidates)).await;

    // Checks go every 50 ms, and are repeated after 250 ms, then ever more rarely: by now there would be dozens.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for victim in &near {
        let packets = victim.packets();
        assert!((1..=4).contains(&packets), "{packets} packets to {}", victim.candidates[0]);
    }
    for victim in &inside {
        assert_eq!(victim.packets(), 0, "packets to {}", victim.candidates[0]);
    }
    for edge in edges {
        edge.stop().await;
    }
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

    let (socket, answer) = meet(&edge, &id, None, &offer(&[])).await;
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
