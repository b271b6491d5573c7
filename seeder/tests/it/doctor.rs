//! Each fault that `doctor` names, made by a proxy in front of a real seeder that spoils its answers.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use marea_seeder::{Checkup, KeyRing, Report, doctor};
use tokio::net::TcpListener;
use url::Url;

use crate::support::{Client, Edge, clip, folder};

/// What a proxy sees and may change: path, request headers, the answer.
type Spoil = dyn Fn(&Method, &str, &HeaderMap, &mut Response<Bytes>) + Send + Sync;

/// Passes requests on to a seeder and spoils the answers. It upgrades nothing, like a proxy that nobody told to.
struct Proxy {
    addr: SocketAddr,
    spoil: Arc<Mutex<Arc<Spoil>>>,
}

impl Proxy {
    async fn before(edge: &Edge) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let spoil: Arc<Mutex<Arc<Spoil>>> = Arc::new(Mutex::new(Arc::new(|_, _, _, _| {})));
        let (held, client) = (Arc::clone(&spoil), edge.at(edge.addr));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let held = Arc::clone(&held);
                let service = service_fn(move |request| {
                    let spoil = Arc::clone(&held.lock().unwrap());
                    async move { Ok::<_, Infallible>(pass(client, request, &*spoil).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { addr, spoil }
    }

    fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.addr).parse().unwrap()
    }

    /// What is found at `path` with answers spoiled so; that the proxy passes no upgrades is left out.
    async fn findings(
        &self,
        path: &str,
        spoil: impl Fn(&Method, &str, &HeaderMap, &mut Response<Bytes>) + Send + Sync + 'static,
    ) -> Vec<(&'static str, String)> {
        *self.spoil.lock().unwrap() = Arc::new(spoil);
        let report = look(&self.url(path)).await;
        let changes = report.changes().filter(|change| change.check != "signaling");
        let mut found: Vec<_> = changes.map(|change| (change.check, change.says.clone())).collect();
        found.sort();
        found.dedup();
        found
    }
}

async fn pass(client: Client, request: Request<Incoming>, spoil: &Spoil) -> Response<Full<Bytes>> {
    let hop = |name: &header::HeaderName| matches!(name.as_str(), "host" | "connection" | "upgrade");
    let headers = request.headers().iter().filter(|(name, _)| !hop(name));
    let headers: Vec<_> = headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let target = request.uri().path_and_query().unwrap().as_str();
    let reply = client.ask(request.method().as_str(), target, &headers).await;
    let mut response = Response::new(Bytes::from(reply.body.clone()));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap();
    for (name, value) in reply.headers().filter(|(name, _)| !matches!(*name, "content-length" | "connection")) {
        let name: header::HeaderName = name.parse().unwrap();
        response.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    spoil(request.method(), request.uri().path(), request.headers(), &mut response);
    response.map(Full::new)
}

async fn look(url: &Url) -> Report {
    doctor(url, &Checkup { origin: None, idle: Duration::from_millis(200) }).await.unwrap()
}

const FILM: &str = "/videos/film/master.m3u8";

/// A seeder with a film that is hashed, and what keeps it.
async fn edge() -> (tempfile::TempDir, Edge) {
    let root = folder();
    clip(root.path(), "ladder", "film");
    let edge = Edge::with(root.path(), |config| config.list_videos = true).await;
    for rendition in ["0", "1"] {
        edge.media(&format!("/videos/film/{rendition}/index.m3u8")).await;
    }
    // The third is the sound; its name is ffmpeg's.
    let master = edge.text(FILM).await;
    for list in master.lines().filter_map(|line| line.split("URI=\"").nth(1)?.split('"').next()) {
        edge.media(&format!("/videos/film/{list}")).await;
    }
    (root, edge)
}

#[tokio::test]
async fn a_correct_edge_has_nothing_to_change() {
    let (_root, edge) = edge().await;
    for path in [FILM, "/"] {
        let report = look(&format!("http://{}{path}", edge.addr).parse().unwrap()).await;
        // The engine need not be built where only native tests run.
        let changes: Vec<_> = report.changes().filter(|change| change.check != "engine").collect();
        assert!(changes.is_empty(), "{path}: {changes:?}");
        let seen: Vec<&str> = report.findings.iter().map(|finding| finding.check).collect();
        for check in [
            "clock",
            "cors",
            "cors-exposed",
            "preflight",
            "content-type",
            "cache",
            "compression",
            "tags",
            "hash",
            "piece-list",
            "range",
            "range-outside",
            "signaling",
            "join",
            "stun",
            "idle-socket",
        ] {
            assert!(seen.contains(&check), "{check} was not looked at: {seen:?}");
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn each_fault_of_a_server_is_named() {
    let (_root, edge) = edge().await;
    let proxy = Proxy::before(&edge).await;
    let is_list = |path: &str| path.ends_with(".m3u8");
    let is_segment = |path: &str| path.ends_with(".m4s");
    assert_eq!(proxy.findings(FILM, |_, _, _, _| {}).await, [], "the proxy alone spoils nothing");

    let upgrade = look(&proxy.url(FILM)).await;
    let upgrade = upgrade.changes().find(|change| change.check == "signaling").expect("it passes no upgrades");
    assert!(upgrade.says.contains("does not upgrade"), "{upgrade:?}");

    /// Looks at the film with one fault, and wants exactly one kind of finding that says so.
    macro_rules! names {
        ($check:literal, $says:literal, $spoil:expr) => {
            let found = proxy.findings(FILM, $spoil).await;
            let fits = !found.is_empty() && found.iter().all(|(check, says)| *check == $check && says.contains($says));
            assert!(fits, "{} {}: {found:?}", $check, $says);
        };
    }
    names!("cors", "has no Access-Control-Allow-Origin", move |method, _, _, answer| {
        if *method == Method::GET {
            answer.headers_mut().remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        }
    });
    names!("cors", "2 times", move |method, _, _, answer| {
        if *method == Method::GET {
            answer.headers_mut().append(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
    });
    names!("cors", "https://other.example", move |_, path, _, answer| {
        if path.ends_with(".pieces") {
            let other = HeaderValue::from_static("https://other.example");
            answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, other);
        }
    });
    names!("cors-exposed", "may not read Content-Range", |_, _, _, answer| {
        answer.headers_mut().remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
    });
    names!("preflight", "405", |method, _, _, answer| {
        if *method == Method::OPTIONS {
            *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        }
    });
    names!("preflight", "does not allow the header Range", |method, _, _, answer| {
        if *method == Method::OPTIONS {
            let others = HeaderValue::from_static("Content-Type");
            answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_HEADERS, others);
        }
    });
    names!("range", "answered with 200", |_, _, asked, answer| {
        if asked.contains_key(header::RANGE) && answer.status() == StatusCode::PARTIAL_CONTENT {
            *answer.status_mut() = StatusCode::OK;
        }
    });
    names!("range", "Content-Range is \"\"", |_, _, _, answer| {
        answer.headers_mut().remove(header::CONTENT_RANGE);
    });
    names!("range", "other bytes than the whole", |_, _, _, answer| {
        if answer.status() == StatusCode::PARTIAL_CONTENT {
            *answer.body_mut() = vec![7; answer.body().len()].into();
        }
    });
    names!("range-outside", "answered with 200", |_, _, _, answer| {
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            *answer.status_mut() = StatusCode::OK;
        }
    });
    names!("content-type", "text/plain", move |_, path, _, answer| {
        if is_list(path) {
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
    });
    names!("content-type", "text/vnd.trolltech.linguist", move |_, path, _, answer| {
        if is_segment(path) {
            let linguist = HeaderValue::from_static("text/vnd.trolltech.linguist");
            answer.headers_mut().insert(header::CONTENT_TYPE, linguist);
        }
    });
    names!("cache", "no Cache-Control", |_, _, _, answer| {
        answer.headers_mut().remove(header::CACHE_CONTROL);
    });
    names!("cache", "keep the playlist for 86400 s", move |_, path, _, answer| {
        if is_list(path) {
            answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=86400"));
        }
    });
    names!("cache", "not kept by caches", move |_, path, _, answer| {
        if is_segment(path) {
            answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    });
    names!("compression", "the segment is sent compressed", move |_, path, asked, answer| {
        let packed = asked.get(header::ACCEPT_ENCODING).is_some_and(|coding| coding != "identity");
        if is_segment(path) && packed {
            answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    });
    names!("compression", "sent uncompressed", move |_, path, _, answer| {
        if is_list(path) {
            let text = unpacked(answer) + &format!("#{}\n", "-".repeat(2000));
            *answer.body_mut() = text.into();
        }
    });
    names!("clock", "s behind this machine", |_, _, _, answer| {
        let late = SystemTime::now() - Duration::from_secs(600);
        answer.headers_mut().insert(header::DATE, httpdate::fmt_http_date(late).parse().unwrap());
    });
    names!("tags", "no EXT-X-MAREA tag", move |_, path, _, answer| {
        if is_list(path) {
            let text = unpacked(answer);
            let bare = text.lines().filter(|line| !line.starts_with("#EXT-X-MAREA")).collect::<Vec<_>>();
            *answer.body_mut() = (bare.join("\n") + "\n").into();
        }
    });
    names!("tags", "COMPLETE=NO", move |_, path, _, answer| {
        if is_list(path) && !path.ends_with("master.m3u8") {
            *answer.body_mut() = unpacked(answer).replacen("PIECE=65536,", "PIECE=65536,COMPLETE=NO,", 1).into();
        }
    });
    names!("tags", "1 of 3 segments have no tag", move |_, path, _, answer| {
        if path.ends_with("/0/index.m3u8") {
            let text = unpacked(answer);
            let tag = text.lines().find(|line| line.starts_with("#EXT-X-MAREA-SEGMENT")).unwrap();
            *answer.body_mut() = text.replacen(&format!("{tag}\n"), "", 1).into();
        }
    });
    names!("tags", "1 tags of its segments cannot be used", move |_, path, _, answer| {
        if path.ends_with("/0/index.m3u8") {
            *answer.body_mut() =
                unpacked(answer).replacen("#EXT-X-MAREA-SEGMENT:SIZE=", "#EXT-X-MAREA-SEGMENT:SIZE=x", 1).into();
        }
    });
    names!("video-id", "never meet", move |_, path, _, answer| {
        if path.ends_with("/1/index.m3u8") {
            *answer.body_mut() = unpacked(answer).replacen("VIDEO=\"", "VIDEO=\"x", 1).into();
        }
    });
    names!("hash", "do not have the hash", move |method, path, asked, answer| {
        if *method == Method::GET && path.ends_with("/0/s1.m4s") && !asked.contains_key(header::RANGE) {
            let mut bytes = answer.body().to_vec();
            bytes[70_000] ^= 1;
            *answer.body_mut() = bytes.into();
        }
    });
    names!("hash", "and its tag says", move |_, path, asked, answer| {
        if path.ends_with("/0/s1.m4s") && !asked.contains_key(header::RANGE) {
            *answer.body_mut() = answer.body().slice(1..);
        }
    });
    names!("piece-list", "404", |_, path, _, answer| {
        if path.ends_with(".pieces") {
            *answer.status_mut() = StatusCode::NOT_FOUND;
        }
    });
    names!("piece-list", "not the list of this segment", |_, path, _, answer| {
        if path.ends_with(".pieces") {
            *answer.body_mut() = vec![0; answer.body().len()].into();
        }
    });
    names!("segment", "answered with 404", |_, path, _, answer| {
        if path.ends_with("/0/s2.m4s") {
            *answer.status_mut() = StatusCode::NOT_FOUND;
        }
    });
    names!("playlist", "no HLS playlist", |_, path, _, answer| {
        if path.ends_with("/0/index.m3u8") {
            answer.headers_mut().remove(header::CONTENT_ENCODING);
            *answer.body_mut() = "<html>".into();
        }
    });
    edge.stop().await;
}

/// The text of an answer, which it says no more is packed.
fn unpacked(answer: &mut Response<Bytes>) -> String {
    use std::io::Read;
    let mut text = String::new();
    if answer.headers_mut().remove(header::CONTENT_ENCODING).is_some() {
        flate2::read::GzDecoder::new(&answer.body()[..]).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(answer.body().to_vec()).unwrap();
    }
    text
}

#[tokio::test]
async fn a_page_is_looked_at_with_its_policy() {
    let (_root, edge) = edge().await;
    let proxy = Proxy::before(&edge).await;
    let base = format!("http://{}", edge.addr);
    let html = format!(
        "<script src='{base}/marea.js' defer></script><video src={base}{FILM} data-marea-signaling='ws://{}/signal'></video>",
        edge.addr
    );
    let page = move |policy: &'static str, html: String| {
        move |_: &Method, path: &str, _: &HeaderMap, answer: &mut Response<Bytes>| {
            if path == "/page" {
                *answer = Response::new(html.clone().into());
                let headers = answer.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
                headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
            }
        }
    };
    let without_engine = |found: Vec<(&'static str, String)>| -> Vec<_> {
        found.into_iter().filter(|(check, _)| *check != "engine").collect()
    };
    let good = "default-src *; script-src * 'wasm-unsafe-eval'; media-src * blob:";
    assert_eq!(without_engine(proxy.findings("/page", page(good, html.clone())).await), []);
    for (policy, says) in [
        ("script-src * ; media-src * blob:", "WebAssembly"),
        ("script-src 'self' 'wasm-unsafe-eval'", "marea.js run"),
        ("connect-src 'self'", "ask ws://"),
        ("connect-src ws:", "master.m3u8"),
        ("media-src *", "MSE"),
        ("trusted-types default", "Trusted Types"),
    ] {
        let found = without_engine(proxy.findings("/page", page(policy, html.clone())).await);
        let fits = !found.is_empty() && found.iter().all(|(check, _)| *check == "csp");
        assert!(fits && found.iter().any(|(_, text)| text.contains(says)), "{policy}: {found:?}");
    }
    let meta = format!("<meta http-equiv=Content-Security-Policy content=\"media-src 'none'\">{html}");
    let found = without_engine(proxy.findings("/page", page(good, meta)).await);
    assert!(found.len() == 1 && found[0].1.contains("MSE"), "{found:?}");

    let none = proxy.findings("/page", page(good, "<video src=a.m3u8></video>".to_owned())).await;
    assert!(none.len() == 1 && none[0].0 == "script", "{none:?}");

    let gone = html.replace("master.m3u8", "gone.m3u8");
    assert_ne!(gone, html, "the page names the playlist");
    let found = without_engine(proxy.findings("/page", page(good, gone)).await);
    assert!(found.len() == 1 && found[0].0 == "video" && found[0].1.contains("404"), "{found:?}");

    let other = KeyRing::create(&folder().path().join("key")).unwrap().signer().public();
    let pinned = html.replace("defer", &format!("defer data-public-key={other}"));
    let found = without_engine(proxy.findings("/page", page(good, pinned)).await);
    assert!(
        !found.is_empty() && found.iter().all(|(check, says)| *check == "signature" && says.contains("not signed")),
        "{found:?}"
    );
    edge.stop().await;
}

#[tokio::test]
async fn signatures_are_checked_against_text_and_site() {
    let root = folder();
    clip(root.path(), "ladder", "film");
    let path = root.path().join(".site.key");
    KeyRing::create(&path).unwrap();
    let edge = Edge::with(root.path(), |config| config.key = Some(path)).await;
    for rendition in ["0", "1"] {
        edge.media(&format!("/videos/film/{rendition}/index.m3u8")).await;
    }
    let proxy = Proxy::before(&edge).await;
    let report = look(&proxy.url(FILM)).await;
    assert!(report.findings.iter().any(|finding| finding.check == "signature" && finding.remedy.is_none()), "{report}");
    let found = proxy.findings(FILM, |_, path, _, answer| {
        if path.ends_with("/1/index.m3u8") {
            *answer.body_mut() = unpacked(answer).replacen("#EXTM3U\n", "#EXTM3U\n# by a proxy\n", 1).into();
        }
    });
    let found = found.await;
    assert!(found.len() == 1 && found[0].0 == "signature" && found[0].1.contains("does not fit"), "{found:?}");
    let found = proxy.findings(FILM, |_, path, _, answer| {
        if path == "/.well-known/marea" {
            let other = KeyRing::create(&folder().path().join("key")).unwrap().signer().public();
            let keys = format!(r#"{{"version":1,"keys":[{{"key":"{other}","state":"signing","since":1}}]}}"#);
            answer.headers_mut().remove(header::CONTENT_ENCODING);
            *answer.body_mut() = keys.into();
        }
    });
    let found = found.await;
    let fits = found.iter().all(|(check, says)| *check == "signature" && says.contains("does not name"));
    assert!(fits && !found.is_empty(), "{found:?}");
    edge.stop().await;
}

#[tokio::test]
async fn signaling_that_refuses_cuts_off_or_has_no_stun_is_named() {
    let (_root, edge) = edge().await;
    let master = edge.text(FILM).await;
    let video = master.split("VIDEO=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    edge.stop().await;
    assert!(!video.is_empty());

    // Its own server: takes the socket, names a STUN server that is not there, hangs up after 100 ms of silence.
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let stun = silent.local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let signaling = listener.local_addr().unwrap();
    let answers = [
        serde_json::json!({ "type": "error", "code": "origin-refused" }),
        serde_json::json!({ "type": "joined", "viewers": 1, "ice": [{ "urls": format!("stun:{stun}") }] }),
        serde_json::json!({ "type": "joined", "viewers": 1, "ice": [] }),
    ];
    tokio::spawn(async move {
        use futures_util::{SinkExt, StreamExt};
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let (_, mut socket) = tokio_websockets::ServerBuilder::new().accept(stream).await.unwrap();
            socket.next().await.unwrap().unwrap();
            socket.send(tokio_websockets::Message::text(answer.to_string())).await.unwrap();
            let _ = tokio::time::timeout(Duration::from_millis(100), socket.next()).await;
        }
    });
    let root = folder();
    clip(root.path(), "ts", "film");
    let edge = Edge::with(root.path(), |config| config.signaling = Some(format!("ws://{signaling}/signal"))).await;
    edge.media("/videos/film/film.m3u8").await;
    let url: Url = format!("http://{}/videos/film/film.m3u8", edge.addr).parse().unwrap();
    for expected in [&["join"][..], &["stun", "idle-socket"], &["stun", "idle-socket"]] {
        let report = look(&url).await;
        let found: Vec<&str> = report.changes().map(|change| change.check).collect();
        assert_eq!(found, expected, "{report}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn the_program_exits_by_what_it_found() {
    let (_root, edge) = edge().await;
    let proxy = Proxy::before(&edge).await;
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (url, code) in [
        (format!("http://{}{FILM}", edge.addr), 0),
        (proxy.url(FILM).into(), 1),
        (format!("http://{}/videos/none.m3u8", edge.addr), 2),
        (format!("http://{}/metrics", edge.addr), 2),
        (format!("http://{nowhere}/"), 2),
    ] {
        let program = env!("CARGO_BIN_EXE_marea-seeder");
        let run = tokio::process::Command::new(program).args(["doctor", &url, "--json", "--idle", "1"]).output();
        let output = run.await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{url}: {output:?}");
        if code < 2 {
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let changes = report["findings"].as_array().unwrap().iter().filter(|found| found["verdict"] == "change");
            assert_eq!(changes.count(), usize::from(code == 1), "{report}");
        } else {
            assert!(output.stdout.is_empty() && !output.stderr.is_empty());
        }
    }
    edge.stop().await;
}
