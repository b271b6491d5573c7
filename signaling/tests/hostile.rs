//! Many who say nothing, do not read, or say far too much, and one pair beside them that only wants to watch.

#[expect(dead_code, reason = "what the other test files use")]
mod common;

use std::time::{Duration, Instant};

use futures_util::SinkExt as _;
use marea_signaling::service::Policy;
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::sleep};
use tokio_websockets::Message;

use common::{Client, Running, text, video};

/// Connections that never say a word: half of them have not even ended their handshake.
const SILENT: usize = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_is_served_at_once_beside_silence_and_floods() {
    let server = Running::start(Policy::default()).await;
    let address = server.address;
    let mut silent = Vec::new();
    for number in 0..SILENT {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /signal HTTP/1.1\r\nhost: x\r\n").await.unwrap();
        }
        silent.push(stream);
    }
    // They take what is sent to them, and send as fast as they can; those that are cut come again.
    let floods: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(async move {
                loop {
                    let mut client = Client::connect(address, &[]).await;
                    client.join("flood", 8).await;
                    let junk = Message::text(json!({"type": "update", "video": video("flood"), "want": 8}).to_string());
                    while client.socket.send(junk.clone()).await.is_ok() {}
                }
            })
        })
        .collect();

    let (mut a, mut b) = (server.client().await, server.client().await);
    let a_id = text(&a.join("tide", 8).await["peer"]);
    let b_id = text(&b.join("tide", 8).await["peer"]);
    b.expect("match").await;
    let mut times = Vec::new();
    for number in 0..40 {
        let message = |kind: &str, to: &str| json!({"type": kind, "video": video("tide"), "to": to, "conn": format!("c{number}"), "sdp": "v=0"});
        let begin = Instant::now();
        b.send(&message("offer", &a_id)).await;
        a.expect("offer").await;
        a.send(&message("answer", &b_id)).await;
        b.expect("answer").await;
        // Two relays.
        times.push(begin.elapsed() / 2);
        sleep(Duration::from_millis(20)).await;
    }
    floods.into_iter().for_each(|flood| flood.abort());
    times.sort_unstable();
    let median = times[times.len() / 2];
    assert!(median < Duration::from_millis(20), "a relay takes {median:?} beside a flood");
    drop(silent);
}
