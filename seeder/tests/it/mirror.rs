use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use marea_seeder::{
    KeyRing, Mirror, MirrorError, MirrorPlan, Mode, Outcome, PublicKey, SignatureError, Signer, Stamp, annotate,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use url::Url;

use crate::support::{Edge, clip, folder, noise, tree, write};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn mirror(root: &Path, url: &str, keys: &[PublicKey]) -> Mirror {
    let urls = vec![Url::parse(url).unwrap()];
    Mirror::new(MirrorPlan { urls, root: root.to_owned(), keys: keys.to_vec(), disk: None }).unwrap()
}

async fn run(mirror: &mut Mirror) -> Result<Outcome, MirrorError> {
    mirror.run().await.remove(0).1
}

/// Where a mirror keeps what it has from `edge`.
fn place(edge: &Edge) -> String {
    edge.addr.to_string().replace(':', "_")
}

/// What players load of it: file to bytes.
fn media(root: &Path) -> HashMap<PathBuf, Vec<u8>> {
    let is_media =
        |path: &PathBuf| !path.ends_with("marea.json") && path.extension().is_some_and(|end| end != "pieces");
    let files = tree(root).into_iter().filter(|(path, _)| is_media(path));
    files.map(|(path, bytes)| (path.strip_prefix(root).unwrap().to_owned(), bytes)).collect()
}

#[tokio::test]
async fn a_site_is_copied_checked_and_served_while_its_origin_is_dead() {
    let (root, copy) = (folder(), folder());
    clip(root.path(), "ladder", "film one");
    clip(root.path(), "single", "single");
    clip(root.path(), "ts", "ts");
    let path = root.path().join(".site.key");
    let key = KeyRing::create(&path).unwrap().signer().public();
    let origin = Edge::with(root.path(), |config| {
        config.key = Some(path);
        config.list_videos = true;
    })
    .await;
    let mut texts = HashMap::new();
    for list in [
        "film%20one/0/index.m3u8",
        "film%20one/1/index.m3u8",
        "film%20one/2/index.m3u8",
        "single/film.m3u8",
        "ts/film.m3u8",
    ] {
        origin.media(&format!("/videos/{list}")).await;
        texts.insert(list.replace("%20", " "), origin.text(&format!("/videos/{list}")).await);
    }
    let site = format!("http://{}", origin.addr);
    let mut copier = mirror(copy.path(), &site, &[]);
    let looked = copier.look().await;
    assert!(matches!(looked[0].1, Ok(Outcome::Wanted { bytes: 100_000.., .. })) && tree(copy.path()).is_empty());
    let outcomes = copier.run().await;
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    for (url, outcome) in &outcomes {
        assert!(matches!(outcome, Ok(Outcome::Whole { bytes, fetched, .. }) if bytes == fetched), "{url}: {outcome:?}");
    }
    let again = copier.run().await;
    assert!(again.iter().all(|(_, outcome)| matches!(outcome, Ok(Outcome::Whole { fetched: 0, .. }))), "{again:?}");

    let host = place(&origin);
    let here = copy.path().join(&host).join("videos");
    let copied = media(&here);
    for (file, bytes) in media(root.path()) {
        match texts.get(file.to_str().unwrap()) {
            Some(text) => assert_eq!(copied[&file], text.as_bytes(), "playlists are as they were signed"),
            None if file.extension().is_some_and(|end| end == "m3u8") => assert!(copied.contains_key(&file)),
            None => assert!(copied[&file] == bytes, "{}", file.display()),
        }
    }
    fs::rename(root.path().join("ts"), root.path().join(".ts")).unwrap();
    origin.control.rescan();
    let started = Instant::now();
    while origin.text("/.well-known/marea").await.contains("/ts/") {
        assert!(started.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let fewer = copier.run().await;
    let dropped = fewer.iter().filter(|(_, outcome)| matches!(outcome, Ok(Outcome::Dropped)));
    assert!(
        fewer.len() == 3 && dropped.count() == 1 && !here.join("ts").exists(),
        "what it lists no more is gone: {fewer:?}"
    );
    assert_eq!(copier.run().await.len(), 2);
    let copied = media(&here);

    origin.stop().await;
    let dead = copier.run().await;
    assert!(dead[0].1.is_err());
    // The mirror as viewers see it.
    let served = Edge::with(copy.path(), |config| config.verbatim = true).await;
    for list in ["film%20one/0/index.m3u8", "single/film.m3u8"] {
        let parsed = served.media(&format!("/videos/{host}/videos/{list}")).await;
        assert!(served.verify(&parsed).await > 2, "segments and piece lists");
    }
    let master = served.text(&format!("/videos/{host}/videos/film%20one/master.m3u8")).await;
    assert!(master.contains(&format!("KEY={}", &key.to_string()[8..])));
    served.stop().await;
    // Another start knows what is there, and who signs, without the origin.
    let mut next = mirror(copy.path(), &site, &[]);
    assert!(next.run().await[0].1.is_err());
    assert!(media(&here) == copied, "nothing is lost");
}

/// An annotated, signed folder behind a server that changes nothing.
struct Origin {
    root: TempDir,
    signer: Signer,
    edge: Edge,
}

impl Origin {
    async fn new() -> Self {
        let root = folder();
        clip(root.path(), "ladder", "film");
        let list = root.path().join("film/0/index.m3u8");
        let text = fs::read_to_string(&list).unwrap();
        fs::write(&list, text.replacen("#EXTINF", "#EXT-X-KEY:METHOD=NONE\n#EXTINF", 1)).unwrap();
        let signer = KeyRing::create(&root.path().join(".site.key")).unwrap().signer();
        let edge = Edge::with(root.path(), |config| config.verbatim = true).await;
        let origin = Self { root, signer, edge };
        origin.sign();
        origin
    }

    fn sign(&self) {
        annotate(self.root.path(), None, Some(&self.signer), Mode::Write, &|_| {}).unwrap();
    }

    fn url(&self) -> String {
        format!("http://{}/videos/film/master.m3u8", self.edge.addr)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root.path().join("film").join(name)).unwrap()
    }

    fn put(&self, name: &str, text: &str) {
        write(self.root.path(), &format!("film/{name}"), text);
    }

    /// `text` signed anew, for the same video and with the SEQ and end that are given.
    fn signed(&self, text: &str, name: &str, seq: u64, expires: u64) -> String {
        let video = text.split("VIDEO=\"").nth(1).unwrap().split('"').next().unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("#EXT-X-MAREA-SIGNATURE")).collect();
        Stamp { signer: &self.signer, video, name, seq, expires }.sign(lines.join("\n") + "\n")
    }
}

fn refusal(outcome: Result<Outcome, MirrorError>) -> SignatureError {
    match outcome {
        Err(MirrorError::Signature { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_not_signed_for_this_place_is_refused_and_what_is_here_stays() {
    let origin = Origin::new().await;
    let copy = folder();
    let mut copier = mirror(copy.path(), &origin.url(), &[origin.signer.public()]);
    assert!(matches!(run(&mut copier).await, Ok(Outcome::Whole { .. })));
    let good = tree(copy.path());
    let (master, media, other) = (origin.read("master.m3u8"), origin.read("0/index.m3u8"), origin.read("1/index.m3u8"));
    let later = now() + 60_000;

    origin.put("0/index.m3u8", &other);
    assert_eq!(refusal(run(&mut copier).await), SignatureError::Wrong, "a swapped rendition");
    origin.put("0/index.m3u8", &media.replace("METHOD=NONE", "METHOD=AES-128,URI=\"https://evil.example/k\""));
    assert_eq!(refusal(run(&mut copier).await), SignatureError::Wrong, "a changed KEY URI");
    origin.put("0/index.m3u8", &origin.signed(&media, "0/index.m3u8", 1_000, later));
    assert!(matches!(refusal(run(&mut copier).await), SignatureError::Older { .. }), "an older SEQ");
    origin.put("0/index.m3u8", &origin.signed(&media, "0/index.m3u8", now(), now() - 1_000));
    assert!(matches!(refusal(run(&mut copier).await), SignatureError::Expired(_)));
    origin.put("0/index.m3u8", media.rsplit_once("#EXT-X-MAREA-SIGNATURE").unwrap().0);
    assert_eq!(refusal(run(&mut copier).await), SignatureError::Missing);
    let stranger = Signer::new(&[5; 32]);
    let video = master.split("VIDEO=\"").nth(1).unwrap().split('"').next().unwrap();
    let stamp = Stamp { signer: &stranger, video, name: "0/index.m3u8", seq: now(), expires: later };
    origin.put("0/index.m3u8", &stamp.sign(media.rsplit_once("#EXT-X-MAREA-SIGNATURE").unwrap().0.to_owned()));
    assert_eq!(refusal(run(&mut copier).await), SignatureError::ForeignKey(stranger.public()));
    origin.put("0/index.m3u8", &media);

    // Another film of the same site, rightly signed, in the place of this one.
    let foreign = origin.signed(&master.replace(video, "AAAAAAAAAAAAAAAAAAAAAA"), "", now(), later);
    origin.put("master.m3u8", &foreign);
    assert_eq!(refusal(run(&mut copier).await), SignatureError::ForeignVideo, "a foreign multivariant playlist");
    // A media playlist in the place of the multivariant one.
    origin.put("master.m3u8", &media);
    assert_eq!(refusal(run(&mut copier).await), SignatureError::Wrong);
    assert!(tree(copy.path()) == good, "none of it touched the copy");
    origin.put("master.m3u8", &master);
    assert!(matches!(run(&mut copier).await, Ok(Outcome::Whole { fetched: 0, .. })));

    // A mirror that is started anew has forgotten nothing.
    origin.put("master.m3u8", &origin.signed(&master, "", 1_000, later));
    let mut next = mirror(copy.path(), &origin.url(), &[origin.signer.public()]);
    assert!(matches!(refusal(run(&mut next).await), SignatureError::Older { .. }));
    origin.edge.stop().await;
}

#[tokio::test]
async fn wrong_bytes_are_never_listed_and_right_ones_taken_when_they_come() {
    let origin = Origin::new().await;
    let copy = folder();
    let mut copier = mirror(copy.path(), &origin.url(), &[origin.signer.public()]);
    let name = "film/0/s1.m4s";
    let right = fs::read(origin.root.path().join(name)).unwrap();
    let mut wrong = right.clone();
    *wrong.last_mut().unwrap() ^= 1;
    for bytes in [&wrong[..], &right[..right.len() - 1], &[&right[..], b"x"].concat()] {
        write(origin.root.path(), name, bytes);
        assert!(run(&mut copier).await.is_err());
        let listed = tree(copy.path()).into_keys().filter(|path| path.extension().is_some_and(|end| end == "m3u8"));
        assert_eq!(listed.count(), 0, "nothing half-made is listed");
        assert!(!copy.path().join(place(&origin.edge)).join("videos").join(name).exists());
    }
    write(origin.root.path(), name, &right);
    let Ok(Outcome::Whole { bytes, fetched, .. }) = run(&mut copier).await else { panic!("it is right now") };
    assert!(fetched < bytes, "what was right stayed");
    // A disk that lies: what is damaged is fetched again at the next start.
    let here = copy.path().join(place(&origin.edge)).join("videos").join(name);
    fs::write(&here, &wrong).unwrap();
    let mut next = mirror(copy.path(), &origin.url(), &[origin.signer.public()]);
    assert!(matches!(run(&mut next).await, Ok(Outcome::Whole { fetched, .. }) if fetched == right.len() as u64));
    assert!(fs::read(&here).unwrap() == right);
    origin.edge.stop().await;
}

#[tokio::test]
async fn what_its_origin_withdraws_is_deleted_and_what_it_only_lost_is_kept_until_it_expires() {
    let root = folder();
    clip(root.path(), "ts", "film");
    let path = root.path().join(".site.key");
    KeyRing::create(&path).unwrap();
    let origin = Edge::with(root.path(), |config| config.key = Some(path)).await;
    origin.media("/videos/film/film.m3u8").await;
    let copy = folder();
    write(copy.path(), "mine/film.m3u8", "#EXTM3U\n#EXTINF:4,\ns.ts\n");
    let url = format!("http://{}/videos/film/film.m3u8", origin.addr);
    let mut copier = mirror(copy.path(), &url, &[]);
    assert!(matches!(run(&mut copier).await, Ok(Outcome::Whole { .. })));
    fs::rename(root.path().join("film"), root.path().join(".film")).unwrap();
    assert_eq!(run(&mut copier).await.unwrap(), Outcome::Dropped);
    let left: Vec<_> = tree(copy.path()).into_keys().collect();
    assert_eq!(left, [copy.path().join("mine/film.m3u8")], "all of it and nothing else is gone");
    assert!(!copy.path().join(place(&origin)).exists());
    origin.stop().await;

    // A server that has lost its disk says 404 to everything.
    let origin = Origin::new().await;
    let master = origin.read("master.m3u8");
    origin.put("master.m3u8", &origin.signed(&master, "", now(), now() + 1_500));
    let copy = folder();
    let mut copier = mirror(copy.path(), &origin.url(), &[origin.signer.public()]);
    assert!(matches!(run(&mut copier).await, Ok(Outcome::Whole { .. })));
    let url = origin.url();
    let (addr, host) = (origin.edge.addr, place(&origin.edge));
    origin.edge.stop().await;
    let lost = TcpListener::bind(addr).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = lost.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        }
    });
    let main = copy.path().join(host).join("videos/film/master.m3u8");
    assert!(run(&mut copier).await.is_err() && main.exists(), "{url}: lost, not withdrawn");
    let started = Instant::now();
    while main.exists() {
        assert!(started.elapsed() < Duration::from_secs(10), "an expired playlist is not served on");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(run(&mut copier).await.is_err());
    }
}

#[tokio::test]
async fn what_cannot_be_checked_or_does_not_fit_is_left_out_and_said() {
    let root = folder();
    clip(root.path(), "ts", "film");
    let unsigned = Edge::of(root.path()).await;
    unsigned.media("/videos/film/film.m3u8").await;
    let copy = folder();
    let url = format!("http://{}/videos/film/film.m3u8", unsigned.addr);
    let error = run(&mut mirror(copy.path(), &url, &[])).await.unwrap_err();
    assert!(matches!(error, MirrorError::NoKey { .. }) && error.to_string().contains("--public-key"), "{error}");
    let key = Signer::new(&[1; 32]).public();
    assert_eq!(refusal(run(&mut mirror(copy.path(), &url, &[key])).await), SignatureError::Missing);
    let site = format!("http://{}/", unsigned.addr);
    let error = run(&mut mirror(copy.path(), &site, &[key])).await.unwrap_err().to_string();
    assert!(error.contains("--list-videos"), "{error}");
    unsigned.stop().await;

    let origin = Origin::new().await;
    let urls = vec![Url::parse(&origin.url()).unwrap()];
    let keys = vec![origin.signer.public()];
    let plan = MirrorPlan { urls, root: copy.path().to_owned(), keys, disk: Some(10_000) };
    let error = run(&mut Mirror::new(plan).unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("--disk"), "{error}");
    for (from, to, hint) in [
        ("#EXT-X-ENDLIST", "#EXT-X-NOTHING", "live"),
        ("s1.m4s", "/videos/film/0/s1.m4s", "relative"),
        ("s1.m4s", "../../../../etc/s1.m4s", "relative"),
        ("s1.m4s", "http://other.example/s1.m4s", "relative"),
    ] {
        let text = origin.read("0/index.m3u8");
        let changed = origin.signed(&text.replacen(from, to, 1), "0/index.m3u8", now(), now() + 60_000);
        origin.put("0/index.m3u8", &changed);
        let error = run(&mut mirror(copy.path(), &origin.url(), &[origin.signer.public()])).await.unwrap_err();
        assert!(error.to_string().contains(hint), "{to}: {error}");
        origin.put("0/index.m3u8", &text);
    }
    assert!(tree(copy.path()).is_empty());
    origin.edge.stop().await;
}

/// A line to `to` that carries `budget` bytes of answers, then holds still.
async fn line(to: std::net::SocketAddr, budget: Arc<AtomicI64>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let budget = Arc::clone(&budget);
            tokio::spawn(async move {
                let server = TcpStream::connect(to).await.unwrap();
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let mut bytes = vec![0; 16 * 1024];
                while let Ok(len @ 1..) = from_server.read(&mut bytes).await {
                    while budget.load(Ordering::Relaxed) < 0 {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    budget.fetch_sub(len as i64, Ordering::Relaxed);
                    if to_client.write_all(&bytes[..len]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    addr
}

#[tokio::test]
async fn a_mirror_that_is_killed_goes_on_where_it_was() {
    let root = folder();
    let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n".to_owned();
    for number in 0..20 {
        write(root.path(), &format!("film/s{number}.ts"), noise(number, 100_000));
        text += &format!("#EXTINF:4,\ns{number}.ts\n");
    }
    // Byte ranges of one file too: it is in the making for long.
    write(root.path(), "film/all.ts", noise(99, 1_000_000));
    for part in 0..10 {
        text += &format!("#EXTINF:4,\n#EXT-X-BYTERANGE:100000@{}\nall.ts\n", part * 100_000);
    }
    write(root.path(), "film/film.m3u8", text + "#EXT-X-ENDLIST\n");
    let path = root.path().join(".site.key");
    KeyRing::create(&path).unwrap();
    let origin = Edge::with(root.path(), |config| config.key = Some(path)).await;
    origin.media("/videos/film/film.m3u8").await;
    let budget = Arc::new(AtomicI64::new(0));
    let addr = line(origin.addr, Arc::clone(&budget)).await;
    let copy = folder();
    let url = format!("http://{addr}/videos/film/film.m3u8");
    let here = copy.path().join(addr.to_string().replace(':', "_")).join("videos/film");
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_marea-seeder"));
        command.args(["mirror", &url, "--root", copy.path().to_str().unwrap()]).stdin(Stdio::null());
        command
    };
    let mut carried = 0;
    for until in [450_000, 900_000, 1_350_000] {
        budget.store(until, Ordering::Relaxed);
        let mut child = command().stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while budget.load(Ordering::Relaxed) >= 0 {
            assert!(started.elapsed() < Duration::from_secs(20) && child.try_wait().unwrap().is_none());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        carried += until;
        assert!(!here.join("film.m3u8").exists(), "nothing half-made is listed");
        for (path, bytes) in tree(&here).iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "ts")) {
            let name = path.file_name().unwrap();
            assert!(*bytes == fs::read(root.path().join("film").join(name)).unwrap(), "what has its name is whole");
        }
    }
    assert!(carried < 3_000_000);
    budget.store(i64::MAX, Ordering::Relaxed);
    let mut last = command();
    let output = tokio::task::spawn_blocking(move || last.output().unwrap()).await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && stderr.contains("21 files, 3000000 bytes"), "{stderr}");
    let fetched: u64 = stderr.split(" bytes, ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(fetched > 0 && fetched <= 1_500_000, "most of it was here: {stderr}");
    for (path, bytes) in
        tree(&root.path().join("film")).iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "ts"))
    {
        assert!(*bytes == fs::read(here.join(path.file_name().unwrap())).unwrap());
    }
    let hidden =
        fs::read_dir(&here).unwrap().flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0, "nothing half-made is left");
    origin.stop().await;
}

#[tokio::test]
async fn the_program_serves_what_it_has_while_the_origin_is_away_and_stops_when_asked() {
    let origin = Origin::new().await;
    let copy = folder();
    let url = origin.url();
    let mut command = Command::new(env!("CARGO_BIN_EXE_marea-seeder"));
    let key = origin.signer.public().to_string();
    let args = ["--listen", "127.0.0.1:0", "--dir", copy.path().to_str().unwrap(), "--public-key", &key];
    let mut child =
        command.arg("mirror").arg(&url).args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let addr = line.trim().strip_prefix("listening on http://").unwrap().parse().unwrap();
    let client = origin.edge.at(addr);
    let target = format!("/videos/{}/videos/film/master.m3u8", place(&origin.edge));
    let started = Instant::now();
    while client.get(&target).await.status != 200 {
        assert!(started.elapsed() < Duration::from_secs(10), "it is not copied");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let master = origin.read("master.m3u8");
    origin.edge.stop().await;
    assert_eq!(client.get(&target).await.text(), master);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn what_the_month_does_not_hold_is_left_for_the_next() {
    let origin = Origin::new().await;
    let copy = folder();
    let mut copier = mirror(copy.path(), &origin.url(), &[origin.signer.public()]);
    copier.allow(100_000);
    let error = run(&mut copier).await.unwrap_err();
    assert!(matches!(error, MirrorError::Month { .. }) && error.to_string().contains("--monthly"), "{error}");
    let fetched = copier.fetched();
    assert!(fetched > 0 && fetched <= 100_000, "{fetched}");
    assert!(!tree(copy.path()).keys().any(|path| path.ends_with("master.m3u8")), "half a video is listed");
    copier.allow(u64::MAX);
    let Ok(Outcome::Whole { bytes, fetched: rest, .. }) = run(&mut copier).await else { panic!("it is not copied") };
    assert_eq!(copier.fetched(), bytes);
    assert_eq!(fetched + rest, bytes, "what was here was fetched again");
    origin.edge.stop().await;
}

#[tokio::test]
async fn the_program_rests_outside_of_its_hours_and_when_the_month_is_used_up() {
    let origin = Origin::new().await;
    let hour = jiff::Zoned::now().hour();
    // Two hours from now on, for one.
    let (from, to) = ((hour + 2) % 24, (hour + 3) % 24);
    let cases = [
        (["--hours".to_owned(), format!("{from}-{to}")], "until its hours"),
        (["--monthly".to_owned(), "0".to_owned()], "until next month"),
    ];
    for (limit, said) in cases {
        let copy = folder();
        let mut command = Command::new(env!("CARGO_BIN_EXE_marea-seeder"));
        let key = origin.signer.public().to_string();
        let args = ["--listen", "127.0.0.1:0", "--dir", copy.path().to_str().unwrap(), "--public-key", &key];
        command.arg("mirror").arg(origin.url()).args(args).args(&limit).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = tokio::task::spawn_blocking(move || {
            lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("resting")))
        });
        let line = line.await.unwrap().unwrap().unwrap();
        assert!(line.contains(said), "{line}");
        assert!(tree(copy.path()).is_empty());
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap().success());
    }
    origin.edge.stop().await;
}
