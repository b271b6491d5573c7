use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use crate::support::{Edge, folder, noise, write};

async fn ask(edge: &Edge, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(edge.addr).await.unwrap();
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    stream
}

/// Closes with a reset, as a browser does that aborts an answer.
fn abort(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

#[tokio::test]
async fn whole_answers_count_their_body_bytes_and_nothing_else() {
    let root = folder();
    write(root.path(), "s.ts", noise(1, 300_000));
    let edge = Edge::of(root.path()).await;
    edge.get("/videos/s.ts").await;
    edge.ask("GET", "/videos/s.ts", &[("Range", "bytes=100-199")]).await;
    edge.ask("HEAD", "/videos/s.ts", &[]).await;
    edge.ask("GET", "/videos/s.ts", &[("If-None-Match", "*")]).await;
    assert_eq!(edge.sent("segment").await, (300_100, 0));
    let requests = "marea_seeder_requests_total{kind=\"segment\",status=\"206\",cache=\"none\"}";
    assert_eq!(edge.metric(requests).await, 1);
    edge.stop().await;
}

#[tokio::test]
async fn an_aborted_answer_counts_what_was_written_as_cancelled() {
    let root = folder();
    let size = 64 << 20;
    write(root.path(), "big.ts", noise(2, size));
    let edge = Edge::of(root.path()).await;
    let mut stream = ask(&edge, "/videos/big.ts").await;
    let mut got = vec![0; 5_000_000];
    stream.read_exact(&mut got).await.unwrap();
    abort(stream);
    let received = got.len() as u64 - 1_000;
    for _ in 0..100 {
        if edge.sent("segment").await.1 > 0 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let (complete, cancelled) = edge.sent("segment").await;
    assert_eq!(complete, 0);
    assert!(cancelled >= received, "{cancelled} of {received} that arrived");
    assert!(cancelled < size as u64 / 2, "{cancelled}: far more than went through the socket");
    edge.stop().await;
}

#[tokio::test]
async fn an_answer_that_only_the_kernel_took_is_cancelled_when_the_client_resets() {
    let root = folder();
    write(root.path(), "small.ts", noise(3, 50_000));
    let edge = Edge::of(root.path()).await;
    let stream = ask(&edge, "/videos/small.ts").await;
    // Written whole by now, and read by nobody.
    stream.readable().await.unwrap();
    sleep(Duration::from_millis(100)).await;
    abort(stream);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(edge.sent("segment").await, (0, 50_000));
    edge.stop().await;
}

#[tokio::test]
async fn answers_on_one_connection_count_each_for_itself() {
    let root = folder();
    write(root.path(), "a.ts", noise(4, 200_000));
    write(root.path(), "b.key", noise(5, 100));
    let edge = Edge::of(root.path()).await;
    let mut stream = TcpStream::connect(edge.addr).await.unwrap();
    // Sent at once, answered in order.
    let requests = ["GET /videos/a.ts", "HEAD /videos/a.ts", "GET /videos/b.key", "GET /videos/a.ts"];
    for (number, request) in requests.iter().enumerate() {
        let connection = if number == 3 { "close" } else { "keep-alive" };
        let head = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
    }
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(edge.sent("segment").await, (400_000, 0));
    assert_eq!(edge.sent("other").await.1, 0);
    edge.stop().await;
}

#[tokio::test]
async fn an_idle_client_that_stays_has_read_its_answer() {
    let root = folder();
    write(root.path(), "a.ts", noise(6, 200_000));
    let edge = Edge::of(root.path()).await;
    let mut stream = ask(&edge, "/videos/a.ts").await;
    let mut bytes = vec![0; 200_000];
    stream.read_exact(&mut bytes).await.unwrap();
    sleep(marea_seeder::config::SETTLE_TIME + Duration::from_millis(200)).await;
    assert_eq!(edge.sent("segment").await, (200_000, 0));
    edge.stop().await;
}
