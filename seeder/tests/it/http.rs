use std::{
    os::unix::fs::symlink,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Edge, Reply, folder, noise, write};

#[tokio::test]
async fn ranges_and_conditions_follow_the_rfc() {
    let root = folder();
    let bytes = noise(1, 300_000);
    write(root.path(), "a/film.m4s", &bytes);
    let edge = Edge::of(root.path()).await;
    let whole = edge.get("/videos/a/film.m4s").await;
    assert_eq!((whole.status, whole.body == bytes), (200, true));
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("content-type"), "video/mp4");
    let (etag, date) = (whole.header("etag").to_owned(), whole.header("last-modified").to_owned());
    assert!(etag.starts_with('"') && date.ends_with("GMT"), "{etag} {date}");

    for (range, status, from, to) in [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=65536-131071", 206, 65_536, 131_072),
        ("bytes=299999-", 206, 299_999, 300_000),
        ("bytes=-1000", 206, 299_000, 300_000),
        ("bytes=-400000", 206, 0, 300_000),
        ("bytes=200000-999999", 206, 200_000, 300_000),
        ("bytes=0-1,5-6", 200, 0, 300_000),
        ("bytes=nonsense", 200, 0, 300_000),
        ("lines=0-1", 200, 0, 300_000),
    ] {
        let reply = edge.ask("GET", "/videos/a/film.m4s", &[("Range", range)]).await;
        assert_eq!(reply.status, status, "{range}");
        assert!(reply.body == bytes[from..to], "{range}");
        let expected = if status == 206 { format!("bytes {from}-{}/300000", to - 1) } else { String::new() };
        assert_eq!(reply.header("content-range"), expected, "{range}");
        assert_eq!(reply.header("content-length"), (to - from).to_string(), "{range}");
    }
    for range in ["bytes=300000-", "bytes=5-1", "bytes=-0"] {
        let reply = edge.ask("GET", "/videos/a/film.m4s", &[("Range", range)]).await;
        assert_eq!((reply.status, reply.header("content-range")), (416, "bytes */300000"), "{range}");
    }
    for (condition, status) in [(etag.as_str(), 206), ("\"other\"", 200), (&format!("W/{etag}"), 200), (&date, 200)] {
        let reply = edge.ask("GET", "/videos/a/film.m4s", &[("Range", "bytes=0-9"), ("If-Range", condition)]).await;
        assert_eq!(reply.status, status, "If-Range: {condition}");
    }
    for (name, value, status) in [
        ("If-None-Match", etag.as_str(), 304),
        ("If-None-Match", &format!("\"x\", W/{etag}"), 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", "\"x\"", 200),
        ("If-Modified-Since", &date, 304),
        ("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT", 200),
    ] {
        let reply = edge.ask("GET", "/videos/a/film.m4s", &[(name, value)]).await;
        assert_eq!(reply.status, status, "{name}: {value}");
        assert_eq!(reply.header("etag"), etag);
        assert_eq!(reply.body.is_empty(), status == 304);
    }
    let head = edge.ask("HEAD", "/videos/a/film.m4s", &[("Range", "bytes=0-9")]).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "300000", 0));
    edge.stop().await;
}

#[tokio::test]
async fn an_empty_file_is_served_and_has_no_range() {
    let root = folder();
    write(root.path(), "empty.ts", "");
    let edge = Edge::of(root.path()).await;
    assert_eq!(edge.get("/videos/empty.ts").await.status, 200);
    let reply = edge.ask("GET", "/videos/empty.ts", &[("Range", "bytes=0-")]).await;
    assert_eq!((reply.status, reply.header("content-range")), (416, "bytes */0"));
    edge.stop().await;
}

#[tokio::test]
async fn nothing_outside_the_folder_and_nothing_hidden_is_served() {
    let outside = folder();
    let secret = write(outside.path(), "secret.ts", "secret");
    let root = folder();
    write(root.path(), "in/a b.ts", "inside");
    write(root.path(), ".hidden/x.ts", "secret");
    write(root.path(), "in/.x.ts", "secret");
    write(root.path(), "in/marea.json", "{}");
    symlink(&secret, root.path().join("out.ts")).unwrap();
    symlink(outside.path(), root.path().join("out")).unwrap();
    symlink(root.path().join(".hidden"), root.path().join("shown")).unwrap();
    symlink(root.path().join("in/a b.ts"), root.path().join("link.ts")).unwrap();
    let edge = Edge::of(root.path()).await;
    let up = format!("/videos/../{}", secret.display());
    for target in [
        "/videos/",
        "/videos/in",
        "/videos/in/",
        "/videos/in/../in/a%20b.ts",
        "/videos/in/%2e%2e/in/a%20b.ts",
        "/videos/../Cargo.toml",
        "/videos/..%2f..%2fetc/passwd",
        "/videos//etc/passwd",
        "/videos/%2fetc%2fpasswd",
        "/videos/in/a%20b.ts%00",
        "/videos/in\\a%20b.ts",
        "/videos/in/a%20b.ts/",
        "/videos/in/marea.json",
        "/videos/in/.x.ts",
        "/videos/.hidden/x.ts",
        "/videos/shown/x.ts",
        "/videos/.marea/videos.json",
        "/videos/out.ts",
        "/videos/out/secret.ts",
        "/videos/%ff.ts",
        "/etc/passwd",
        &up,
    ] {
        let reply = edge.get(target).await;
        assert!(matches!(reply.status, 400 | 404), "{target}: {}", reply.status);
        assert!(!reply.text().contains("secret") && !reply.text().contains("root:"), "{target}");
    }
    assert_eq!(edge.text("/videos/in/a%20b.ts").await, "inside");
    assert_eq!(edge.text("/videos/in%2fa%20b.ts").await, "inside");
    assert_eq!(edge.text("/videos/link.ts").await, "inside");
    assert_eq!(edge.text("/videos/in/a%20b.ts?token=1").await, "inside");
    edge.stop().await;
}

#[tokio::test]
async fn pages_of_any_origin_may_read_and_measure_unless_origins_are_listed() {
    let root = folder();
    write(root.path(), "s.ts", "segment");
    let edge = Edge::of(root.path()).await;
    let reply = edge.ask("GET", "/videos/s.ts", &[("Origin", "https://page.example")]).await;
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    assert_eq!(reply.header("timing-allow-origin"), "*");
    assert_eq!(reply.header("cross-origin-resource-policy"), "cross-origin");
    assert!(reply.header("access-control-expose-headers").contains("Content-Range"));
    let missing = edge.ask("GET", "/videos/none.ts", &[("Origin", "https://page.example")]).await;
    assert_eq!((missing.status, missing.header("access-control-allow-origin")), (404, "*"));
    let preflight = edge.ask("OPTIONS", "/videos/s.ts", &[("Access-Control-Request-Headers", "range")]).await;
    assert_eq!((preflight.status, preflight.header("access-control-max-age")), (204, "7200"));
    assert!(preflight.header("access-control-allow-headers").contains("Range"));
    assert!(preflight.header("access-control-allow-methods").contains("GET"));
    edge.stop().await;

    let listed = |config: &mut marea_seeder::Config| config.allow_origin = vec!["https://a.example".parse().unwrap()];
    let edge = Edge::with(root.path(), listed).await;
    let ours = edge.ask("GET", "/videos/s.ts", &[("Origin", "https://a.example")]).await;
    assert_eq!(ours.header("access-control-allow-origin"), "https://a.example");
    assert_eq!(ours.header("vary"), "Origin");
    let other = edge.ask("GET", "/videos/s.ts", &[("Origin", "https://b.example")]).await;
    assert_eq!((other.header("access-control-allow-origin"), other.header("vary")), ("", "Origin"));
    edge.stop().await;
}

#[tokio::test]
async fn types_are_right_and_nothing_runs_in_our_origin() {
    let root = folder();
    let edge = Edge::of(root.path()).await;
    for (name, expected) in [
        ("a.m3u8", "application/vnd.apple.mpegurl"),
        ("a.m4s", "video/mp4"),
        ("a.MP4", "video/mp4"),
        ("a.ts", "video/mp2t"),
        ("a.aac", "audio/aac"),
        ("a.vtt", "text/vtt; charset=utf-8"),
        ("a.key", "application/octet-stream"),
        ("a.pieces", "application/octet-stream"),
        ("a.html", "application/octet-stream"),
        ("a.svg", "application/octet-stream"),
        ("a.js", "application/octet-stream"),
    ] {
        write(root.path(), name, "x");
        let reply = edge.get(&format!("/videos/{name}")).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, expected), "{name}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
    }
    edge.stop().await;
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let root = folder();
    let edge = Edge::of(root.path()).await;
    let long = format!("/videos/{}", "a".repeat(9_000));
    for (method, target, status, hint) in [
        ("GET", "/videos/none.m3u8", 404, "--root"),
        ("GET", "/nothing", 404, "/videos/"),
        ("POST", "/videos/a.ts", 405, "GET"),
        ("GET", long.as_str(), 414, "Shorten"),
    ] {
        let reply = edge.ask(method, target, &[]).await;
        assert_eq!(reply.status, status, "{target}");
        assert!(reply.text().contains(hint), "{}", reply.text());
        assert!(reply.header("content-type").starts_with("text/plain"));
    }
    for name in ["marea.js", "marea.wasm", "marea-hls.js"] {
        let reply = edge.get(&format!("/{name}")).await;
        match reply.status {
            200 => assert!(!reply.body.is_empty() && reply.header("etag").starts_with('"')),
            503 => assert!(reply.text().contains("cargo xtask build")),
            status => panic!("{name}: {status}"),
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn health_is_for_all_and_metrics_are_for_this_machine_and_the_admin_address() {
    let root = folder();
    let listen = |config: &mut marea_seeder::Config| config.admin_listen = Some(([127, 0, 0, 1], 0).into());
    let mut config = marea_seeder::Config::new(root.path(), ([127, 0, 0, 1], 0).into());
    listen(&mut config);
    let seeder = marea_seeder::Seeder::bind(config).await.unwrap();
    let admin = seeder.admin_addr().unwrap();
    let edge = Edge::run(seeder);
    assert_eq!(edge.text("/healthz").await, "ok\n");
    assert!(edge.text("/readyz").await.starts_with("ready"));
    assert!(edge.text("/").await.contains("/videos/"));
    assert!(edge.text("/metrics").await.contains("marea_build_info{version="));
    for header in ["X-Forwarded-For", "Forwarded", "Via"] {
        let reply = edge.ask("GET", "/metrics", &[(header, "203.0.113.7")]).await;
        assert_eq!(reply.status, 403, "{header}");
    }
    let admin = edge.at(admin);
    assert!(admin.ask("GET", "/metrics", &[("Via", "x")]).await.text().ends_with("# EOF\n"));
    assert_eq!(admin.get("/readyz").await.status, 200);
    assert_eq!(admin.get("/videos/").await.status, 404);
    edge.stop().await;
}

#[tokio::test]
async fn who_sends_no_request_or_takes_no_bytes_is_cut_off() {
    let root = folder();
    write(root.path(), "big.ts", noise(2, 16 << 20));
    let edge = Edge::with(root.path(), |config| {
        config.header_timeout = Duration::from_millis(300);
        config.stall_timeout = Duration::from_millis(500);
    })
    .await;
    let started = Instant::now();
    let mut slow = TcpStream::connect(edge.addr).await.unwrap();
    slow.write_all(b"GET /videos/big.ts HT").await.unwrap();
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest).await;
    assert!(started.elapsed() < Duration::from_secs(5));

    let mut stalled = TcpStream::connect(edge.addr).await.unwrap();
    stalled.write_all(b"GET /videos/big.ts HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut got = Vec::new();
    let _ = stalled.read_to_end(&mut got).await;
    assert!(got.len() < 16 << 20, "the whole file came through a reader that stalled");
    let (complete, cancelled) = edge.sent("segment").await;
    assert_eq!(complete, 0);
    assert!(cancelled > 0 && cancelled < 16 << 20);
    edge.stop().await;
}

#[tokio::test]
async fn a_running_answer_ends_well_when_the_server_leaves() {
    let root = folder();
    let bytes = noise(3, 8 << 20);
    write(root.path(), "big.ts", &bytes);
    let edge = Edge::of(root.path()).await;
    let addr = edge.addr;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"GET /videos/big.ts HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut got = vec![0; 1024];
    stream.read_exact(&mut got).await.unwrap();
    let stopping = tokio::spawn(edge.stop());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(TcpStream::connect(addr).await.is_err(), "new connections are refused");
    stream.read_to_end(&mut got).await.unwrap();
    assert!(Reply::parse(&got).body == bytes);
    stopping.await.unwrap();
}

#[tokio::test]
async fn more_clients_than_places_wait_for_their_turn() {
    let root = folder();
    write(root.path(), "s.ts", "segment");
    let edge = Edge::with(root.path(), |config| config.max_connections = 2).await;
    let idle = [TcpStream::connect(edge.addr).await.unwrap(), TcpStream::connect(edge.addr).await.unwrap()];
    let client = edge.at(edge.addr);
    let waiting = tokio::spawn(async move { client.get("/videos/s.ts").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    drop(idle);
    assert_eq!(waiting.await.unwrap().status, 200);
    edge.stop().await;
}
