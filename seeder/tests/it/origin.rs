//! Origin pull: in front of a scripted server, of nginx, and of nothing at all.

mod script;

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use marea_seeder::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::support::{Client, Edge, Reply, folder, noise};
pub(crate) use script::{Route, Script};

/// An edge that has nothing but an origin.
async fn pull(state: &Path, origin: url::Url, change: impl FnOnce(&mut Config)) -> Edge {
    Edge::with(state, |config| {
        config.root = None;
        config.state = Some(state.to_owned());
        config.origin = Some(origin);
        change(config);
    })
    .await
}

/// A request whose answer is read bit by bit.
async fn begin(edge: &Client, target: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(edge.addr).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Files that the cache keeps, and those that it left behind.
fn kept(state: &Path) -> (Vec<u64>, usize) {
    let files = |folder: &Path| -> Vec<u64> {
        let folders = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut sizes = Vec::new();
        for entry in folders {
            if entry.path().is_dir() {
                sizes.extend(fs::read_dir(entry.path()).unwrap().flatten().map(|file| file.metadata().unwrap().len()));
            } else {
                sizes.push(entry.metadata().unwrap().len());
            }
        }
        sizes
    };
    (files(&state.join("origin/objects")), files(&state.join("origin/fills")).len())
}

/// Waits for something to become so.
pub(crate) async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let started = Instant::now();
    while !check() {
        assert!(started.elapsed() < Duration::from_secs(15), "{what}: it does not come to that");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_make_one_and_whoever_began_it_may_leave() {
    let (state, script) = (folder(), Script::start().await);
    let bytes = noise(1, 1_000_000);
    script.set("/a/s.m4s", Route::Halves(bytes.clone()));
    script.close_gate();
    let edge = pull(state.path(), script.url(), |_| {}).await;
    let mut first = begin(&edge, "/videos/a/s.m4s", "").await;
    // What has come so far is passed on at once.
    let mut got = vec![0; 400_000];
    first.read_exact(&mut got).await.unwrap();
    let client = edge.at(edge.addr);
    let waiting: Vec<_> =
        (1..1_000).map(|_| tokio::spawn(async move { client.get("/videos/a/s.m4s").await })).collect();
    // Ranges of what is there, of what is not there yet, and across.
    let (early, late) = ("Range: bytes=1000-200999\r\n", "Range: bytes=400000-999999\r\n");
    let mut early = begin(&edge, "/videos/a/s.m4s", early).await;
    let mut late = begin(&edge, "/videos/a/s.m4s", late).await;
    let mut reply = Vec::new();
    early.read_to_end(&mut reply).await.unwrap();
    let early = Reply::parse(&reply);
    assert_eq!((early.status, early.header("content-range")), (206, "bytes 1000-200999/1000000"));
    assert!(early.body == bytes[1_000..201_000] && early.header("x-cache") == "COALESCED");
    drop(first);
    let started = Instant::now();
    loop {
        let coalesced = "marea_seeder_requests_total{kind=\"segment\",status=\"200\",cache=\"coalesced\"}";
        if edge.text("/metrics").await.contains(coalesced) && edge.metric(coalesced).await == 999 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "they do not come");
        sleep(Duration::from_millis(50)).await;
    }
    script.open_gate();
    for waiting in waiting {
        let reply = waiting.await.unwrap();
        assert!(reply.status == 200 && reply.body == bytes);
    }
    let mut reply = Vec::new();
    late.read_to_end(&mut reply).await.unwrap();
    assert!(Reply::parse(&reply).body == bytes[400_000..]);
    assert_eq!(script.asked("/a/s.m4s").len(), 1);
    let again = edge.get("/videos/a/s.m4s").await;
    assert!(again.body == bytes && again.header("x-cache") == "HIT");
    assert_eq!(script.asked("/a/s.m4s").len(), 1);
    edge.stop().await;
}

#[tokio::test]
async fn an_answer_without_a_length_is_passed_on_as_it_comes_and_counted() {
    let (state, script) = (folder(), Script::start().await);
    let bytes = noise(2, 300_000);
    script.set("/s.ts", Route::Chunks(bytes.clone()));
    script.close_gate();
    let edge = pull(state.path(), script.url(), |_| {}).await;
    let mut early = begin(&edge, "/videos/s.ts", "").await;
    let mut got = vec![0; 100_000];
    early.read_exact(&mut got).await.unwrap();
    assert!(String::from_utf8_lossy(&got[..2_000]).contains("transfer-encoding: chunked"));
    // Who cannot be told where chunks end waits, and is told a length.
    let mut old = TcpStream::connect(edge.addr).await.unwrap();
    old.write_all(b"GET /videos/s.ts HTTP/1.0\r\n\r\n").await.unwrap();
    script.open_gate();
    early.read_to_end(&mut got).await.unwrap();
    assert!(got.ends_with(b"\r\n0\r\n\r\n"));
    let mut reply = Vec::new();
    old.read_to_end(&mut reply).await.unwrap();
    let reply = Reply::parse(&reply);
    assert!(reply.body == bytes && reply.header("content-length") == "300000");
    let head = edge.ask("HEAD", "/videos/s.ts", &[]).await;
    assert_eq!((head.status, head.header("content-length")), (200, "300000"));
    assert_eq!(edge.sent("segment").await, (600_000, 0));
    assert_eq!(script.asked("/s.ts").len(), 1);
    edge.stop().await;
}

#[tokio::test]
async fn what_is_cut_short_is_an_error_and_is_never_kept() {
    let (state, script) = (folder(), Script::start().await);
    let bytes = noise(3, 400_000);
    let edge = pull(state.path(), script.url(), |_| {}).await;
    let shorts = [("/a.ts", Route::Short(bytes.clone())), ("/b.ts", Route::ShortChunks(bytes.clone()))];
    for (before, (path, short)) in shorts.into_iter().enumerate() {
        until("what is whole is kept", || kept(state.path()).0.len() == before).await;
        script.set(path, short);
        let target = format!("/videos{path}");
        let mut stream = begin(&edge, &target, "").await;
        let mut got = Vec::new();
        let ended = stream.read_to_end(&mut got).await;
        let text = String::from_utf8_lossy(&got);
        // In one way or another every client can tell: by the length, the missing last chunk, or the status.
        let whole = ended.is_ok() && (text.contains("content-length: 400000") || got.ends_with(b"\r\n0\r\n\r\n"));
        assert!(!whole, "{path}: {ended:?}");
        assert_eq!(kept(state.path()).0.len(), before);
        script.bytes(path, &bytes);
        let started = Instant::now();
        loop {
            let reply = edge.get(&target).await;
            if reply.status == 200 {
                assert!(reply.body == bytes);
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(5), "{path} stays away");
            sleep(Duration::from_millis(100)).await;
        }
    }
    // Neither length nor chunks: cut off, it would look the same.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let _ = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhalf of it").await.unwrap();
    });
    let other = folder();
    let edge_of_old = pull(other.path(), url, |_| {}).await;
    let reply = edge_of_old.get("/videos/s.ts").await;
    assert_eq!(reply.status, 502);
    assert!(reply.text().contains("neither how long"), "{}", reply.text());
    edge_of_old.stop().await;
    edge.stop().await;
}

#[tokio::test]
async fn a_failing_origin_is_asked_once_a_second_at_most() {
    let (state, script) = (folder(), Script::start().await);
    script.set("/bad.ts", Route::Answer("503 Service Unavailable", String::new(), Vec::new()));
    script.set("/gone.ts", Route::Answer("404 Not Found", String::new(), Vec::new()));
    script.set("/hang.ts", Route::Hang);
    let edge = pull(state.path(), script.url(), |_| {}).await;
    let started = Instant::now();
    for _ in 0..60 {
        assert_eq!(edge.get("/videos/bad.ts").await.status, 502);
        assert_eq!(edge.get("/videos/gone.ts").await.status, 404);
        assert_eq!(edge.get("/videos/hang.ts").await.status, 502);
    }
    let most = 1 + started.elapsed().as_secs() as usize;
    for path in ["/bad.ts", "/gone.ts", "/hang.ts"] {
        let asked = script.asked(path).len();
        assert!((1..=most).contains(&asked), "{path}: {asked} of {most}");
    }
    // Whatever is asked for: once it fails altogether, it is asked once a second in all.
    let before = script.asked.lock().unwrap().len();
    let started = Instant::now();
    for number in 0..200 {
        script.set(&format!("/{number}.ts"), Route::Hang);
        assert_eq!(edge.get(&format!("/videos/{number}.ts")).await.status, 502);
    }
    let most = 6 + started.elapsed().as_secs() as usize;
    let asked = script.asked.lock().unwrap().len() - before;
    assert!(asked <= most, "{asked} of {most}");
    assert!(edge.text("/readyz").await.contains("the origin does not answer"));
    // It comes back by itself.
    script.bytes("/good.ts", b"good");
    let started = Instant::now();
    while edge.get("/videos/good.ts").await.status != 200 {
        assert!(started.elapsed() < Duration::from_secs(5));
        sleep(Duration::from_millis(100)).await;
    }
    while edge.text("/readyz").await.contains("origin") {
        assert!(started.elapsed() < Duration::from_secs(5));
        sleep(Duration::from_millis(20)).await;
    }
    edge.stop().await;
}

#[tokio::test]
async fn made_up_queries_neither_fill_the_disk_nor_reach_the_origin() {
    let (state, script) = (folder(), Script::start().await);
    script.bytes("/s.ts", &noise(4, 10_000));
    script.bytes("/s.ts?part=2", b"two");
    let playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\ns.ts?part=2\n#EXT-X-ENDLIST\n";
    script.bytes("/p.m3u8", playlist.as_bytes());
    let edge = pull(state.path(), script.url(), |config| config.origin_query = vec!["key".to_owned()]).await;
    for number in 0..300 {
        assert_eq!(edge.get(&format!("/videos/s.ts?x={number}&part=2")).await.body.len(), 10_000);
    }
    until("it is kept", || kept(state.path()).0.len() == 1).await;
    assert_eq!(script.asked("/s.ts").len(), 1);
    // Those that a playlist names mean something, and so do those that the operator names.
    edge.media("/videos/p.m3u8").await;
    assert_eq!(edge.text("/videos/s.ts?part=2").await, "two");
    edge.get("/videos/s.ts?key=1&x=2").await;
    edge.get("/videos/s.ts?x=3&key=1").await;
    let targets: Vec<String> =
        script.asked("/s.ts").iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(targets, ["/s.ts", "/s.ts?part=2", "/s.ts?key=1"]);
    edge.stop().await;
}

#[tokio::test]
async fn the_disk_budget_holds_and_outlives_a_restart() {
    let (state, script) = (folder(), Script::start().await);
    for number in 0..20 {
        script.bytes(&format!("/{number}.ts"), &noise(number, 200_000));
    }
    let small = |config: &mut Config| config.cache_size = 1_000_000;
    let edge = pull(state.path(), script.url(), small).await;
    for number in 0..20 {
        assert_eq!(edge.get(&format!("/videos/{number}.ts")).await.body.len(), 200_000);
    }
    let sum = || kept(state.path()).0.iter().sum::<u64>();
    let started = Instant::now();
    while edge.metric("marea_seeder_cache_evictions_total").await < 15 {
        assert!(started.elapsed() < Duration::from_secs(5), "nothing makes room");
        sleep(Duration::from_millis(20)).await;
    }
    until("the budget", || (500_000..=1_000_000).contains(&sum())).await;
    assert!(edge.metric("marea_seeder_cache_bytes").await <= 1_000_000);
    edge.stop().await;
    let held = kept(state.path()).0.len();
    script.asked.lock().unwrap().clear();
    let edge = pull(state.path(), script.url(), small).await;
    let mut hits = 0;
    // Those that came last: asking for others pushes these out.
    for number in (0..20_u8).rev() {
        let target = format!("/videos/{number}.ts");
        let range = edge.ask("GET", &target, &[("Range", "bytes=0-9"), ("If-None-Match", "\"x\"")]);
        let reply = range.await;
        assert!(reply.body == noise(number, 200_000)[..10]);
        hits += usize::from(reply.header("x-cache") == "HIT");
    }
    assert!(hits >= 1 && hits <= held, "{hits} of {held}");
    assert_eq!(script.asked.lock().unwrap().len(), 20 - hits);
    // One folder is one server's.
    let mut config = Config::new(state.path(), ([127, 0, 0, 1], 0).into());
    (config.root, config.state, config.origin) = (None, Some(state.path().to_owned()), Some(script.url()));
    let error = marea_seeder::Seeder::bind(config).await.err().unwrap().to_string();
    assert!(error.contains("--state"), "{error}");
    edge.stop().await;
}

#[tokio::test]
async fn cookies_and_credentials_bypass_the_cache_and_private_answers_stay_private() {
    let (state, script) = (folder(), Script::start().await);
    script.bytes("/s.ts", b"public");
    script.set("/mine.ts", Route::Answer("200 OK", "Set-Cookie: a=b\r\n".to_owned(), b"mine".to_vec()));
    script.set("/no.ts", Route::Answer("200 OK", "Cache-Control: no-store\r\n".to_owned(), b"no".to_vec()));
    let edge = pull(state.path(), script.url(), |_| {}).await;
    for (name, value) in [("Cookie", "session=1"), ("Authorization", "Basic eA==")] {
        for _ in 0..2 {
            let reply = edge.ask("GET", "/videos/s.ts", &[(name, value)]).await;
            assert_eq!((reply.text().as_str(), reply.header("x-cache")), ("public", "BYPASS"));
            assert_eq!(reply.header("cache-control"), "private, no-store");
        }
    }
    let heads = script.asked("/s.ts");
    assert_eq!(heads.len(), 4);
    assert!(heads[0].contains("cookie: session=1") && heads[2].contains("authorization: Basic eA=="), "{heads:?}");
    assert_eq!(edge.get("/videos/s.ts").await.header("x-cache"), "MISS");
    for target in ["/videos/mine.ts", "/videos/no.ts"] {
        for _ in 0..3 {
            assert_eq!(edge.get(target).await.header("x-cache"), "BYPASS");
        }
    }
    until("the public one is kept", || kept(state.path()).0.len() == 1).await;
    edge.stop().await;
}

#[tokio::test]
async fn redirects_lead_to_the_origin_and_public_hosts_only() {
    let (state, script, inside) = (folder(), Script::start().await, Script::start().await);
    inside.bytes("/secret.ts", b"secret");
    let to = |location: String| Route::Answer("302 Found", format!("Location: {location}\r\n"), Vec::new());
    let port = inside.addr.port();
    script.set("/same.ts", to("/real.ts".to_owned()));
    script.bytes("/real.ts", b"real");
    script.set("/private.ts", to(format!("http://127.0.0.1:{port}/secret.ts")));
    script.set("/named.ts", to(format!("http://localhost:{port}/secret.ts")));
    script.set("/meta.ts", to("http://169.254.169.254/latest".to_owned()));
    script.set("/file.ts", to("file:///etc/passwd".to_owned()));
    script.set("/circle.ts", to("/circle.ts".to_owned()));
    // Even an operator who lets in such a host by its name or number does not open the machine's own network.
    let allow = |config: &mut Config| {
        config.origin_host = ["localhost", "127.0.0.1", "169.254.169.254"].map(str::to_owned).to_vec();
    };
    for (number, allowed) in [false, true].into_iter().enumerate() {
        let state = state.path().join(number.to_string());
        let edge = pull(&state, script.url(), |config| {
            if allowed {
                allow(config);
            }
        })
        .await;
        assert_eq!(edge.text("/videos/same.ts").await, "real");
        for path in ["private", "named", "meta", "file", "circle"] {
            let reply = edge.get(&format!("/videos/{path}.ts")).await;
            assert_eq!(reply.status, 502, "{path}");
            assert!(reply.text().contains("leads to"), "{path}: {}", reply.text());
            let mine = edge.ask("GET", &format!("/videos/{path}.ts"), &[("Cookie", "a=b")]).await;
            assert_eq!(mine.status, 502, "{path}");
            sleep(Duration::from_millis(1)).await;
        }
        edge.stop().await;
    }
    assert!(inside.asked("/secret.ts").is_empty());
}

#[tokio::test]
async fn what_is_old_is_served_while_it_is_asked_for_again_and_while_the_origin_fails() {
    let (state, script) = (folder(), Script::start().await);
    let route = |control: &str, body: &str| {
        Route::Answer("200 OK", format!("Cache-Control: {control}\r\nETag: \"{body}\"\r\n"), body.as_bytes().to_vec())
    };
    script.set("/swr.ts", route("max-age=0", "one"));
    script.set("/sie.ts", route("max-age=0, stale-while-revalidate=0", "one"));
    script.set("/strict.ts", route("max-age=0, must-revalidate", "one"));
    let edge = pull(state.path(), script.url(), |_| {}).await;
    for path in ["/videos/swr.ts", "/videos/sie.ts", "/videos/strict.ts"] {
        assert_eq!(edge.get(path).await.header("x-cache"), "MISS");
    }
    script.set("/swr.ts", route("max-age=60", "two"));
    let old = edge.get("/videos/swr.ts").await;
    assert_eq!(
        (old.text().as_str(), old.header("x-cache"), old.header("cache-control")),
        ("one", "STALE", "public, max-age=1")
    );
    until("the new one", || script.asked("/swr.ts").len() == 2).await;
    let started = Instant::now();
    while edge.text("/videos/swr.ts").await != "two" {
        assert!(started.elapsed() < Duration::from_secs(5));
        sleep(Duration::from_millis(20)).await;
    }
    // It is asked whether it still holds, and believed.
    script.set("/sie.ts", Route::Answer("304 Not Modified", String::new(), Vec::new()));
    let same = edge.get("/videos/sie.ts").await;
    assert_eq!((same.text().as_str(), same.header("x-cache")), ("one", "HIT"));
    assert!(script.asked("/sie.ts")[1].contains("if-none-match: \"one\""));
    for path in ["/sie.ts", "/strict.ts"] {
        script.set(path, Route::Answer("500 Internal Server Error", String::new(), Vec::new()));
    }
    sleep(Duration::from_millis(5)).await;
    let rescued = edge.get("/videos/sie.ts").await;
    assert_eq!((rescued.text().as_str(), rescued.header("x-cache")), ("one", "STALE"));
    assert_eq!(edge.get("/videos/strict.ts").await.status, 502);
    // What it takes back is gone.
    sleep(Duration::from_millis(1_050)).await;
    script.set("/sie.ts", Route::Answer("410 Gone", String::new(), Vec::new()));
    assert_eq!(edge.get("/videos/sie.ts").await.status, 410);
    edge.stop().await;
}

#[tokio::test]
async fn who_has_the_token_purges() {
    let (state, script) = (folder(), Script::start().await);
    for path in ["/a/1.ts", "/a/2.ts", "/b/1.ts"] {
        script.bytes(path, b"old");
    }
    let token = state.path().join("token");
    fs::write(&token, "0123456789abcdef\n").unwrap();
    let state = state.path().join("state");
    let edge = pull(&state, script.url(), |config| config.api_token = Some(token)).await;
    for path in ["/videos/a/1.ts", "/videos/a/2.ts", "/videos/b/1.ts"] {
        edge.get(path).await;
    }
    for headers in [&[][..], &[("Authorization", "Bearer wrong")], &[("Cookie", "token=0123456789abcdef")]] {
        assert_eq!(edge.ask("PURGE", "/videos/a/*", headers).await.status, 401);
    }
    let bearer = [("Authorization", "Bearer 0123456789abcdef")];
    let one = edge.ask("PURGE", "/videos/b/1.ts", &bearer).await;
    assert_eq!((one.status, one.text().as_str()), (200, "purged: 1 objects\n"));
    script.bytes("/a/1.ts", b"new");
    assert_eq!(edge.text("/videos/a/1.ts").await, "old");
    assert_eq!(edge.ask("PURGE", "/videos/a/*", &bearer).await.text(), "purged: 2 objects\n");
    assert_eq!(edge.text("/videos/a/1.ts").await, "new");
    until("the new one is kept", || kept(&state).0.len() == 1).await;
    edge.stop().await;
    let edge = pull(&state, script.url(), |_| {}).await;
    assert_eq!(edge.ask("PURGE", "/videos/a/1.ts", &bearer).await.status, 403);
    edge.stop().await;
}

/// nginx with a folder, on a port of its own.
struct Nginx {
    process: std::process::Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Nginx {
    async fn start(root: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = folder();
        let config = format!(
            "daemon off; master_process off; pid {0}/pid; error_log {0}/error.log; events {{}}\n\
             http {{ access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f;\n\
             uwsgi_temp_path {0}/u; scgi_temp_path {0}/s; server {{ listen 127.0.0.1:{port}; root {1}; }} }}\n",
            folder.path().display(),
            root.display()
        );
        let path = folder.path().join("nginx.conf");
        fs::write(&path, config).unwrap();
        let path = path.to_str().unwrap();
        let mut command = std::process::Command::new("/usr/sbin/nginx");
        let process = command
            .args(["-e", "stderr", "-c", path])
            .spawn()
            .expect("nginx is needed: `cargo xtask test` installs it");
        until("nginx", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        Self { process, port, _folder: folder }
    }

    fn url(&self, path: &str) -> url::Url {
        format!("http://127.0.0.1:{}/{path}", self.port).parse().unwrap()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn films_of_an_nginx_are_tagged_signed_and_outlive_it() {
    let (root, state) = (folder(), folder());
    for clip in ["ladder", "single", "ts"] {
        crate::support::clip(root.path(), clip, &format!("hls/{clip}"));
    }
    let key = state.path().join("site.key");
    let ring = marea_seeder::KeyRing::create(&key).unwrap();
    let nginx = Nginx::start(root.path()).await;
    // Below a path, and named from the server's top.
    let top = root.path().join("hls/ts/film.m3u8");
    let text = fs::read_to_string(&top).unwrap().replace("film0.ts", "/hls/ts/film0.ts");
    fs::write(&top, text).unwrap();
    let signed = |config: &mut Config| config.key = Some(key.clone());
    let state = state.path().join("state");
    let edge = pull(&state, nginx.url("hls"), signed).await;
    // The first answer does not wait for a hash.
    let master = edge.text("/videos/ladder/master.m3u8").await;
    let first = edge.media_now("/videos/ladder/0/index.m3u8").await;
    assert!(first.tag.as_ref().is_some_and(|tag| !tag.complete), "{:?}", first.tag);
    let lists = [
        "/videos/ladder/0/index.m3u8",
        "/videos/ladder/2/index.m3u8",
        "/videos/single/film.m3u8",
        "/videos/ts/film.m3u8",
    ];
    let mut roots = Vec::new();
    for target in lists {
        let list = edge.media(target).await;
        assert!(list.ended && edge.verify(&list).await >= 3, "{target}");
        roots.push(list.locators().map(|(_, object)| object.root).collect::<Vec<_>>());
        let text = edge.text(target).await;
        hls_m3u8::MediaPlaylist::try_from(text.as_str()).unwrap();
    }
    let video = |text: &str| text.split("VIDEO=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let child = edge.text(lists[0]).await;
    assert_eq!(video(&master), video(&child));
    let keys = ring.public().iter().map(|key| key.key).collect::<Vec<_>>();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let id = video(&master);
    let expected = |name| marea_seeder::Expected { video: &id, name, keys: &keys, now, highest: None };
    marea_seeder::verify(&master, &expected("")).unwrap();
    marea_seeder::verify(&child, &expected("0/index.m3u8")).unwrap();
    let origin = nginx.url("hls");
    drop(nginx);
    edge.stop().await;
    // It is gone, and the edge was restarted: the films are all there, with the same ids and hashes.
    let edge = pull(&state, origin, signed).await;
    for (target, roots) in lists.iter().zip(&roots) {
        let list = edge.media(target).await;
        assert_eq!(&list.locators().map(|(_, object)| object.root).collect::<Vec<_>>(), roots);
        assert!(edge.verify(&list).await >= 3, "{target}");
    }
    assert_eq!(video(&edge.text("/videos/ladder/master.m3u8").await), id);
    assert!(edge.text("/readyz").await.starts_with("ready"));
    edge.stop().await;
    // What one origin gave is never passed off as another's.
    let edge = pull(&state, "http://127.0.0.1:9/".parse().unwrap(), signed).await;
    assert_eq!(edge.get(lists[0]).await.status, 502);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_stream_lists_what_is_hashed() {
    let (root, state) = (folder(), folder());
    let nginx = Nginx::start(root.path()).await;
    let edge = pull(state.path(), nginx.url(""), |_| {}).await;
    let args =
        "-hls_time 1 -hls_list_size 4 -hls_flags delete_segments+temp_file -hls_segment_filename s%d.ts live.m3u8";
    let mut encoder = crate::support::ffmpeg(&root.path().join("live"), true, args);
    let mut seen = std::collections::BTreeSet::new();
    let started = Instant::now();
    while encoder.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(60), "ffmpeg does not end");
        let reply = edge.get("/videos/live/live.m3u8").await;
        if reply.status == 200 && reply.text().contains("#EXTINF") {
            let list = edge.index("/videos/live/live.m3u8", &reply.text());
            for segment in list.segments.iter().filter(|_| !list.ended) {
                assert!(segment.object.is_some(), "listed without a tag: {}", reply.text());
                seen.insert(segment.msn);
            }
            if let Some(newest) = list.segments.last() {
                let newest = marea_swarm::playlist::MediaPlaylist { segments: vec![newest.clone()], ..list.clone() };
                assert!(edge.holds(&newest).await);
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert!(seen.len() >= 3, "{seen:?}");
    edge.stop().await;
}

/// The program with an origin, in a mount namespace of its own that `prepare` sets up; its address comes when it is ready.
fn program(prepare: &str, state: &Path, origin: &Script) -> (std::process::Child, SocketAddr) {
    use std::io::{BufRead, BufReader};
    let script = format!(
        "{prepare}\nexec {} serve --origin {} --state {} --listen 127.0.0.1:0",
        env!("CARGO_BIN_EXE_marea-seeder"),
        origin.url(),
        state.display()
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-ec", &script]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("unshare (util-linux) is needed");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let addr = line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
    (child, addr)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_filling_it_starts_again_with_nothing_half_made() {
    let (state, script) = (folder(), Script::start().await);
    let bytes = noise(5, 500_000);
    script.bytes("/whole.ts", &bytes);
    script.set("/half.ts", Route::Halves(bytes.clone()));
    script.close_gate();
    let (mut child, addr) = program("", state.path(), &script);
    let client = Client { addr };
    assert!(client.get("/videos/whole.ts").await.body == bytes);
    let mut half = begin(&client, "/videos/half.ts", "").await;
    half.read_exact(&mut vec![0; 200_000]).await.unwrap();
    until("one is kept, one is coming", || kept(state.path()).0.len() == 1 && kept(state.path()).1 == 1).await;
    // A kill cannot be noticed; this is what a torn disk leaves.
    child.kill().unwrap();
    child.wait().unwrap();
    let torn = state.path().join("origin/objects/aa");
    fs::create_dir_all(&torn).unwrap();
    fs::write(torn.join("torn"), &bytes[..1_000]).unwrap();
    script.open_gate();
    let (mut child, addr) = program("", state.path(), &script);
    let client = Client { addr };
    assert_eq!((kept(state.path()).0.len(), kept(state.path()).1), (1, 0));
    let whole = client.get("/videos/whole.ts").await;
    assert!(whole.body == bytes && whole.header("x-cache") == "HIT");
    let half = client.get("/videos/half.ts").await;
    assert!(half.body == bytes && half.header("x-cache") == "MISS");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_and_on_one_that_can_only_be_read_it_serves_on() {
    let script = Script::start().await;
    for number in 0..12 {
        script.bytes(&format!("/{number}.ts"), &noise(number, 1_000_000));
    }
    for options in ["size=4m", "ro"] {
        let state = folder();
        let mount = format!("mount -t tmpfs -o {options} tmpfs {}", state.path().display());
        let (mut child, addr) = program(&mount, state.path(), &script);
        let client = Client { addr };
        for round in 0..2 {
            for number in 0..12 {
                let reply = client.get(&format!("/videos/{number}.ts")).await;
                assert!(reply.status == 200 && reply.body == noise(number, 1_000_000), "{options} {round} {number}");
            }
        }
        // What was had last is there, from disk or memory.
        let started = Instant::now();
        while client.get("/videos/11.ts").await.header("x-cache") != "HIT" {
            assert!(started.elapsed() < Duration::from_secs(5), "{options}: nothing is kept");
            sleep(Duration::from_millis(20)).await;
        }
        let ready = client.get("/readyz").await;
        assert_eq!(ready.status, 200);
        assert!(options != "ro" || ready.text().contains("degraded"), "{}", ready.text());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
