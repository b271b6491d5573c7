use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use marea_seeder::{
    Config, Expected, KeyRing, Mirror, MirrorPlan, Mode, Outcome, PublicKey, SignatureError, annotate, name, revoke,
    verify,
};
use marea_swarm::playlist::Playlist;

use crate::support::{Edge, clip, folder, noise, parse, tree, write};

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

fn video_of(text: &str) -> String {
    text.split("VIDEO=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

/// Checks `text` as the playlist `name`; its SEQ and remaining life in ms.
fn check(text: &str, name: &str, key: PublicKey) -> Result<(u64, u64), SignatureError> {
    let (keys, now) = ([key], now());
    let video = video_of(text);
    let tag = verify(text, &Expected { video: &video, name, keys: &keys, now, highest: None })?;
    Ok((tag.seq, tag.expires - now))
}

#[tokio::test]
async fn what_is_served_is_signed_and_a_reload_changes_the_key() {
    let root = folder();
    clip(root.path(), "ladder", "film");
    let path = root.path().join(".site.key");
    let mut ring = KeyRing::create(&path).unwrap();
    let first = ring.signer().public();
    let edge = Edge::with(root.path(), |config| config.key = Some(path.clone())).await;
    let list = edge.media("/videos/film/0/index.m3u8").await;
    assert_eq!(edge.verify(&list).await, list.segments.len() + 1, "tags are as without a key");
    let master = edge.text("/videos/film/master.m3u8").await;
    let media = edge.text("/videos/film/0/index.m3u8").await;
    let days = Duration::from_secs(24 * 3600).as_millis() as u64;
    let (seq, life) = check(&master, "", first).unwrap();
    assert!(life > 29 * days && life <= 30 * days && now() - seq < 60_000);
    check(&media, "0/index.m3u8", first).unwrap();
    assert_eq!(check(&media, "1/index.m3u8", first), Err(SignatureError::Wrong), "a rendition is not another one");
    assert_eq!(edge.text("/videos/film/master.m3u8").await, master, "it is signed once, not for each who asks");

    let keys = edge.text("/.well-known/marea").await;
    assert!(keys.contains(&first.to_string()) && keys.contains("\"version\": 1") && !keys.contains("secret"), "{keys}");
    let second = ring.rotate().unwrap();
    let mut config = Config::new(root.path(), edge.addr);
    config.key = Some(path.clone());
    edge.control.reload(&config);
    let (later, _) = check(&edge.text("/videos/film/master.m3u8").await, "", second).unwrap();
    assert!(later > seq);
    let keys = edge.text("/.well-known/marea").await;
    assert!(keys.contains(&second.to_string()) && keys.contains("former"), "{keys}");
    // A key file that went bad changes nothing.
    fs::write(&path, "{").unwrap();
    edge.control.reload(&config);
    check(&edge.text("/videos/film/0/index.m3u8").await, "0/index.m3u8", second).unwrap();
    edge.stop().await;
}

#[tokio::test]
async fn sequence_numbers_rise_over_restarts_wherever_the_clock_goes() {
    let root = folder();
    clip(root.path(), "ts", "film");
    let path = root.path().join(".site.key");
    let key = KeyRing::create(&path).unwrap().signer().public();
    let mut last = 0;
    for _ in 0..2 {
        let edge = Edge::with(root.path(), |config| config.key = Some(path.clone())).await;
        let (seq, _) = check(&edge.text("/videos/film/film.m3u8").await, "", key).unwrap();
        assert!(seq > last);
        edge.stop().await;
        // As if the clock had been ahead while it ran.
        let note = root.path().join(".marea/sequence");
        let noted: u64 = fs::read_to_string(&note).unwrap().trim().parse().unwrap();
        assert!(noted >= seq);
        last = noted + 3_600_000;
        fs::write(&note, last.to_string()).unwrap();
    }
}

#[tokio::test]
async fn a_long_live_window_and_its_delta_update_are_signed_for_a_short_time() {
    let root = folder();
    let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n".to_owned();
    for number in 0..150 {
        write(root.path(), &format!("s{number}.ts"), noise(number, 500));
        text += &format!("#EXTINF:4,\ns{number}.ts\n");
    }
    write(root.path(), "live.m3u8", text);
    let path = root.path().join(".site.key");
    let key = KeyRing::create(&path).unwrap().signer().public();
    let edge = Edge::with(root.path(), |config| config.key = Some(path)).await;
    edge.media("/videos/live.m3u8").await;
    let (whole, delta) = (edge.text("/videos/live.m3u8").await, edge.text("/videos/live.m3u8?_HLS_skip=YES").await);
    assert!(delta.contains("#EXT-X-SKIP:") && delta.len() < whole.len());
    let (seq, life) = check(&whole, "", key).unwrap();
    assert!(life > 50_000 && life <= 60_000, "{life}");
    assert_eq!(check(&delta, "", key).unwrap().0, seq);
    edge.stop().await;
}

#[test]
fn annotating_signs_once_and_takes_the_signatures_out_without_a_trace() {
    let root = folder();
    clip(root.path(), "ladder", "film");
    // Its last line has no end.
    write(root.path(), "lone/s.ts", noise(1, 1000));
    write(root.path(), "lone/list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\ns.ts");
    let original = tree(root.path());
    let keys = folder();
    let signer = KeyRing::create(&keys.path().join("k")).unwrap().signer();
    let run = |signer, mode| annotate(root.path(), None, signer, mode, &|_| {}).unwrap().changes;
    assert!(run(Some(&signer), Mode::Write) > 0);
    let signed = tree(root.path());
    let mut lists = 0;
    for (path, bytes) in signed.iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "m3u8")) {
        let text = std::str::from_utf8(bytes).unwrap();
        let rel = path.strip_prefix(root.path()).unwrap().to_str().unwrap();
        let main = if rel.starts_with("film/") { "film/master.m3u8" } else { rel };
        check(text, &name(main, rel), signer.public()).unwrap_or_else(|error| panic!("{rel}: {error}\n{text}"));
        if let Playlist::Media(list) = parse(text, "http://x.example/") {
            hls_m3u8::MediaPlaylist::try_from(text).expect("strict parsers read it");
            assert!(list.segments.iter().all(|segment| segment.object.is_some()));
        }
        lists += 1;
    }
    assert!(lists >= 5, "{lists}");
    assert_eq!(run(Some(&signer), Mode::Check), 0, "nothing is signed twice");
    assert_eq!(run(Some(&signer), Mode::Write), 0);
    assert_eq!(run(None, Mode::Write), 0, "forgetting --key loses no signature");
    let other = KeyRing::create(&keys.path().join("other")).unwrap().signer();
    assert_eq!(run(Some(&other), Mode::Check), lists, "another key signs all anew");

    // A changed segment needs a new signature, and only there.
    let list = root.path().join("lone/list.m3u8");
    let (seq, _) = check(&fs::read_to_string(&list).unwrap(), "", signer.public()).unwrap();
    write(root.path(), "lone/s.ts", noise(2, 1000));
    assert_eq!(run(Some(&signer), Mode::Write), 1);
    let (later, _) = check(&fs::read_to_string(&list).unwrap(), "", signer.public()).unwrap();
    assert!(later > seq);
    write(root.path(), "lone/s.ts", noise(1, 1000));
    assert!(run(None, Mode::Write) > 0);
    let text = fs::read_to_string(&list).unwrap();
    assert_eq!(check(&text, "", signer.public()), Err(SignatureError::Missing), "one that no longer fits goes");
    run(Some(&signer), Mode::Write);
    run(None, Mode::Remove);
    assert!(tree(root.path()) == original);
}

#[test]
fn keys_are_made_shown_rotated_and_retired_from_the_command_line() {
    let folder = folder();
    let path = folder.path().join("site.key");
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_marea-seeder"));
        let output = command.args(args).arg("--key").arg(&path).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, _, stderr) = run(&["key", "show"]);
    assert!(code == 1 && stderr.contains("key new") && stderr.contains("site.key"), "{stderr}");
    let (code, shown, stderr) = run(&["key", "new"]);
    assert!(code == 0 && shown.contains(" signing since ") && stderr.contains("data-public-key"), "{shown}{stderr}");
    let first = shown.split(' ').next().unwrap().to_owned();
    assert!(run(&["key", "new"]).1.contains(" standby since "));
    let (code, shown, _) = run(&["key", "rotate"]);
    assert!(code == 0 && shown.contains(&format!("{first} former")), "{shown}");
    let (code, _, stderr) = run(&["key", "retire", "nonsense"]);
    assert!(code == 2 && stderr.contains("ed25519:"), "{stderr}");
    assert_eq!(run(&["key", "retire", &first]).0, 0);
    let (code, _, stderr) = run(&["key", "retire", &first]);
    assert!(code == 1 && stderr.contains("key show"), "{stderr}");
    assert!(!fs::read_to_string(&path).unwrap().is_empty());

    let root = tempfile::tempdir().unwrap();
    clip(root.path(), "ts", "film");
    assert_eq!(run(&["annotate", root.path().to_str().unwrap()]).0, 0);
    let text = fs::read_to_string(root.path().join("film/film.m3u8")).unwrap();
    assert!(text.lines().last().unwrap().starts_with("#EXT-X-MAREA-SIGNATURE:KEY="), "{text}");
    fs::remove_file(&path).unwrap();
    let serve = ["serve", "--root", root.path().to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let (code, stdout, stderr) = run(&serve);
    assert!(code == 1 && stdout.is_empty() && stderr.contains("key new"), "it never serves unsigned: {stderr}");
    assert!(Path::new(root.path()).exists());
}

#[tokio::test]
async fn a_withdrawn_video_is_gone_everywhere_and_for_good() {
    let root = folder();
    clip(root.path(), "ts", "film");
    clip(root.path(), "single", "other");
    let path = root.path().join(".site.key");
    let signer = KeyRing::create(&path).unwrap().signer();
    let serve = || Edge::with(root.path(), |config| config.key = Some(path.clone()));
    let edge = serve().await;
    edge.media("/videos/film/film.m3u8").await;
    edge.media("/videos/other/film.m3u8").await;
    let video = video_of(&edge.text("/videos/film/film.m3u8").await);
    let copy = folder();
    let url = format!("http://{}/videos/film/film.m3u8", edge.addr).parse().unwrap();
    let plan = MirrorPlan { urls: vec![url], root: copy.path().to_owned(), keys: Vec::new(), disk: None };
    let mut mirror = Mirror::new(plan).unwrap();
    assert!(matches!(mirror.run().await[0].1, Ok(Outcome::Whole { .. })));

    let error = revoke(root.path(), None, "flim/film.m3u8", Some(&signer)).unwrap_err().to_string();
    assert!(error.contains("flim"), "{error}");
    let id = revoke(root.path(), None, "film/film.m3u8", None).unwrap();
    assert_eq!(revoke(root.path(), None, &video, Some(&signer)).unwrap(), id, "by its id too, and now signed");
    edge.control.rescan();
    let started = Instant::now();
    while edge.get("/videos/film/film.m3u8").await.status != 410 {
        assert!(started.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let gone = async |edge: &Edge| {
        for file in ["film.m3u8", "film0.ts", "film0.ts.pieces"] {
            assert_eq!(edge.get(&format!("/videos/film/{file}")).await.status, 410, "{file}");
        }
        assert_eq!(edge.get("/videos/other/film.m3u8").await.status, 200);
    };
    gone(&edge).await;
    let known = edge.text("/.well-known/marea").await;
    assert!(known.contains(&id.to_string()) && !known.contains(&video), "{known}");
    assert_eq!(mirror.run().await.remove(0).1.unwrap(), Outcome::Dropped);
    assert!(tree(copy.path()).is_empty());
    edge.stop().await;

    let edge = serve().await;
    gone(&edge).await;
    edge.stop().await;
}
