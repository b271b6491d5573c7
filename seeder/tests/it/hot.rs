//! The hot path: HTTP/2, files sent by the kernel, and clients that mean no good.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::support::{Client, Edge, Reply, folder, noise, write};

type Sender = http2::SendRequest<Empty<Bytes>>;

async fn h2(
    io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> (Sender, tokio::task::JoinHandle<hyper::Result<()>>) {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn get(uri: String) -> Request<Empty<Bytes>> {
    Request::get(uri).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn http2_serves_many_at_once_and_counts_them() {
    let root = folder();
    let files: Vec<Vec<u8>> = (0..20).map(|seed| noise(seed, 300_000 + usize::from(seed))).collect();
    for (number, bytes) in files.iter().enumerate() {
        write(root.path(), &format!("{number}.ts"), bytes);
    }
    let edge = Edge::of(root.path()).await;
    let (sender, _connection) = h2(TcpStream::connect(edge.addr).await.unwrap()).await;
    let requests = (0..20).map(|number| {
        let (mut sender, uri) = (sender.clone(), format!("http://x/videos/{number}.ts"));
        async move { sender.send_request(get(uri)).await.unwrap().into_body().collect().await.unwrap().to_bytes() }
    });
    for (body, bytes) in futures_util::future::join_all(requests).await.into_iter().zip(&files) {
        assert!(body == bytes[..]);
    }
    let mut sender = sender;
    let mut request = get("http://x/videos/3.ts".to_owned());
    request.headers_mut().insert("range", "bytes=100-199".parse().unwrap());
    let part = sender.send_request(request).await.unwrap();
    assert_eq!(
        (part.status(), part.headers()["content-range"].to_str().unwrap()),
        (StatusCode::PARTIAL_CONTENT, "bytes 100-199/300003")
    );
    assert!(part.into_body().collect().await.unwrap().to_bytes() == files[3][100..200]);
    for path in ["../Cargo.toml", "%2e%2e/Cargo.toml", ".marea/secret"] {
        let status = sender.send_request(get(format!("http://x/videos/{path}"))).await.unwrap().status();
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
    let total: usize = files.iter().map(Vec::len).sum::<usize>() + 100;
    let started = Instant::now();
    while edge.sent("segment").await != (total as u64, 0) {
        assert!(started.elapsed() < Duration::from_secs(5), "{:?} of {total}", edge.sent("segment").await);
        sleep(Duration::from_millis(20)).await;
    }
    edge.stop().await;
}

#[tokio::test]
async fn an_http2_client_that_opens_no_window_or_says_nothing_is_cut_off() {
    let root = folder();
    write(root.path(), "big.ts", noise(1, 8 << 20));
    let edge = Edge::with(root.path(), |config| {
        config.stall_timeout = Duration::from_millis(300);
        config.header_timeout = Duration::from_millis(300);
    })
    .await;
    let (mut sender, connection) = h2(TcpStream::connect(edge.addr).await.unwrap()).await;
    let response = sender.send_request(get("http://x/videos/big.ts".to_owned())).await.unwrap();
    // Its body is not read, so no window is opened.
    timeout(Duration::from_secs(10), connection).await.expect("it is kept").unwrap().unwrap_err();
    drop(response);
    let (complete, cancelled) = edge.sent("segment").await;
    assert!(complete == 0 && cancelled < 8 << 20, "{complete} {cancelled}");
    let (_sender, connection) = h2(TcpStream::connect(edge.addr).await.unwrap()).await;
    let _ = timeout(Duration::from_secs(10), connection).await.expect("an idle one is kept");
    edge.stop().await;
}

#[tokio::test]
async fn answers_that_the_kernel_sends_come_in_order_and_whole_or_not_at_all() {
    let root = folder();
    let (big, small) = (noise(2, 5_000_000), noise(3, 700));
    let path = write(root.path(), "big.ts", &big);
    write(root.path(), "small.ts", &small);
    let edge = Edge::of(root.path()).await;
    // All at once, on one connection.
    let mut stream = TcpStream::connect(edge.addr).await.unwrap();
    let mut requests = String::new();
    for (target, range) in
        [("big", ""), ("small", ""), ("big", "Range: bytes=1048570-3145740\r\n"), ("none", ""), ("big", "")]
    {
        requests += &format!("GET /videos/{target}.ts HTTP/1.1\r\nHost: x\r\n{range}\r\n");
    }
    stream
        .write_all((requests + "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let mut rest = &all[..];
    for expected in [&big[..], &small, &big[1_048_570..=3_145_740]] {
        let reply = Reply::parse(rest);
        let head = rest.len() - reply.body.len();
        assert!(reply.body.starts_with(expected));
        rest = &rest[head + expected.len()..];
    }
    assert!(rest.starts_with(b"HTTP/1.1 404") && rest.ends_with(b"ok\n"));
    // A file that is replaced is another one at once; one that is cut short ends the answer.
    fs::write(&path, &big[..1_000_000]).unwrap();
    assert!(edge.get("/videos/big.ts").await.body == big[..1_000_000]);
    write(root.path(), "cut.ts", noise(4, 64 << 20));
    let mut stream = TcpStream::connect(edge.addr).await.unwrap();
    stream.write_all(b"GET /videos/cut.ts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    stream.read_exact(&mut vec![0; 100_000]).await.unwrap();
    fs::File::options().write(true).open(root.path().join("cut.ts")).unwrap().set_len(200_000).unwrap();
    let mut left = Vec::new();
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut left)).await.expect("it is kept open");
    assert!(left.len() < 64 << 20);
    edge.stop().await;
}

#[tokio::test]
async fn bombs_in_the_head_are_refused_and_a_million_ranges_are_one() {
    let root = folder();
    write(root.path(), "s.ts", noise(5, 100_000));
    let edge = Edge::of(root.path()).await;
    let many: Vec<(String, String)> = (0..5_000).map(|number| (format!("X-{number}"), "x".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let long = "x".repeat(1_000_000);
    let ranges = format!("bytes={}", "0-0,".repeat(1_000_000));
    for headers in [&many[..], &[("X-Long", long.as_str())], &[("Range", ranges.as_str())]] {
        let mut stream = TcpStream::connect(edge.addr).await.unwrap();
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("GET /videos/s.ts HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
        // It is refused before all of it was sent.
        let (mut reader, mut writer) = stream.split();
        let mut answer = Vec::new();
        let (_, read) = tokio::join!(writer.write_all(request.as_bytes()), reader.read_to_end(&mut answer));
        assert!(read.is_err() || answer.starts_with(b"HTTP/1.1 431") || answer.is_empty(), "{}", answer.len());
    }
    // As many as fit in a head are answered with the whole, once.
    let ranges = format!("bytes={}0-0", "0-0,".repeat(10_000));
    let reply = edge.ask("GET", "/videos/s.ts", &[("Range", &ranges)]).await;
    assert_eq!((reply.status, reply.body.len()), (200, 100_000));
    assert_eq!(edge.text("/healthz").await, "ok\n");
    edge.stop().await;
}

#[tokio::test]
async fn out_of_file_handles_it_waits_and_serves_on() {
    let root = folder();
    write(root.path(), "s.ts", "segment");
    let serve = format!(
        "ulimit -n 40; exec {} serve --root {} --listen 127.0.0.1:0",
        env!("CARGO_BIN_EXE_marea-seeder"),
        root.path().display()
    );
    let mut child =
        Command::new("sh").args(["-c", &serve]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let addr: SocketAddr = line.trim().strip_prefix("listening on http://").unwrap().parse().unwrap();
    let held: Vec<_> = (0..80).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
    sleep(Duration::from_millis(500)).await;
    assert!(child.try_wait().unwrap().is_none(), "it has ended");
    drop(held);
    let reply =
        timeout(Duration::from_secs(10), Client { addr }.get("/videos/s.ts")).await.expect("it does not come back");
    assert_eq!(reply.text(), "segment");
    // It did not spin meanwhile.
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|text| text.parse().unwrap())
        .collect();
    assert!(fields.iter().sum::<u64>() < 150, "{fields:?} hundredths of a second of processor time");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[cfg(feature = "tls")]
mod tls {
    use std::sync::Arc;

    use tokio_rustls::{
        TlsConnector,
        rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
    };

    use super::*;

    /// A certificate for `localhost` in files, and who trusts it.
    fn certify(folder: &std::path::Path) -> rcgen::Certificate {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        made.cert
    }

    async fn connect(
        addr: SocketAddr,
        trusted: &rcgen::Certificate,
        protocol: &[u8],
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(addr).await?).await
    }

    #[tokio::test]
    async fn https_is_served_and_a_new_certificate_taken_up() {
        let (root, state) = (folder(), folder());
        let bytes = noise(6, 400_000);
        write(root.path(), "s.ts", &bytes);
        let first = certify(state.path());
        let files = (state.path().join("cert.pem"), state.path().join("key.pem"));
        let mut config = marea_seeder::Config::new(root.path(), ([127, 0, 0, 1], 0).into());
        config.tls = Some(files);
        config.admin_listen = Some(([127, 0, 0, 1], 0).into());
        config.header_timeout = Duration::from_millis(500);
        let edge = Edge::run(marea_seeder::Seeder::bind(config.clone()).await.unwrap());
        let mut stream = connect(edge.addr, &first, b"http/1.1").await.unwrap();
        stream.write_all(b"GET /videos/s.ts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got).await;
        assert!(Reply::parse(&got).body == bytes);
        let (mut sender, _connection) = h2(connect(edge.addr, &first, b"h2").await.unwrap()).await;
        let response = sender.send_request(get("https://localhost/videos/s.ts".to_owned())).await.unwrap();
        assert!(response.into_body().collect().await.unwrap().to_bytes() == bytes[..]);
        // A certificate that cannot be read leaves the old one; a new one is taken up, and open connections stay.
        fs::write(state.path().join("cert.pem"), "nonsense").unwrap();
        edge.control.reload(&config);
        connect(edge.addr, &first, b"h2").await.unwrap();
        let second = certify(state.path());
        edge.control.reload(&config);
        connect(edge.addr, &first, b"h2").await.unwrap_err();
        connect(edge.addr, &second, b"h2").await.unwrap();
        let response = sender.send_request(get("https://localhost/videos/s.ts".to_owned())).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        edge.stop().await;
    }
}
