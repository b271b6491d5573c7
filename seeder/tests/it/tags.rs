use std::{
    fs,
    time::{Duration, Instant},
};

use hls_m3u8::{MasterPlaylist, MediaPlaylist};
use marea_swarm::{playlist::Playlist, tags::MareaTag};

use crate::support::{Edge, clip, folder, noise, parse, tree, write};

async fn tag_of(edge: &Edge, target: &str) -> MareaTag {
    match parse(&edge.text(target).await, "http://x/") {
        Playlist::Multivariant(list) => list.tag,
        Playlist::Media(list) => list.tag,
    }
    .unwrap_or_else(|| panic!("{target} has no tag"))
}

#[tokio::test]
async fn every_playlist_of_a_ladder_is_tagged_and_the_folder_stays_as_it_is() {
    let root = folder();
    clip(root.path(), "ladder", "film");
    let before = tree(root.path());
    let edge = Edge::of(root.path()).await;
    let master = edge.text("/videos/film/master.m3u8").await;
    MasterPlaylist::try_from(master.as_str()).expect("strict parsers read it");
    let video = tag_of(&edge, "/videos/film/master.m3u8").await.video;
    assert_eq!(data_encoding::BASE64URL_NOPAD.decode(video.as_bytes()).unwrap().len(), 16);
    assert!(!master.contains("SIGNALING"));
    for rendition in 0..3 {
        let target = format!("/videos/film/{rendition}/index.m3u8");
        let list = edge.media(&target).await;
        assert_eq!(list.tag.as_ref().unwrap().video, video, "all of one video carry its id");
        assert!(list.segments.iter().all(|segment| segment.object.is_some()));
        assert!(list.maps.iter().all(|map| map.object.is_some()));
        assert_eq!(edge.verify(&list).await, list.segments.len() + list.maps.len());
        MediaPlaylist::try_from(edge.text(&target).await.as_str()).expect("strict parsers read it");
    }
    let mut after = tree(root.path());
    let id = after.remove(&root.path().join("film/marea.json")).expect("the id is kept");
    assert!(String::from_utf8(id).unwrap().contains(&video));
    assert!(after == before, "no file of the operator changed");
    let (init, _) = edge.sent("init").await;
    assert!(init > 0, "init sections count as such");
    edge.stop().await;
}

#[tokio::test]
async fn byte_ranges_share_one_list_file_at_offsets() {
    let root = folder();
    clip(root.path(), "single", "film");
    clip(root.path(), "ts", "ts");
    let edge = Edge::of(root.path()).await;
    let list = edge.media("/videos/film/film.m3u8").await;
    assert!(list.segments.len() >= 3 && list.segments.iter().all(|segment| segment.locator.range.is_some()));
    assert_eq!(edge.verify(&list).await, list.segments.len() + 1);
    let offsets: Vec<u64> = list.segments.iter().map(|segment| segment.object.unwrap().list_at).collect();
    assert!(offsets.is_sorted() && offsets.iter().any(|at| *at > 0), "{offsets:?}");
    let text = edge.text("/videos/film/film.m3u8").await;
    MediaPlaylist::try_from(text.as_str()).expect("strict parsers read it");

    let ts = edge.media("/videos/ts/film.m3u8").await;
    assert_eq!(edge.verify(&ts).await, ts.segments.len());
    MediaPlaylist::try_from(edge.text("/videos/ts/film.m3u8").await.as_str()).expect("strict parsers read it");
    edge.stop().await;
}

#[tokio::test]
async fn a_playlist_is_not_delayed_by_hashing_and_gets_its_tags_later() {
    let root = folder();
    let edge = Edge::of(root.path()).await;
    // Sparse: quick to make, as slow to hash as any.
    let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n".to_owned();
    for segment in 0..8 {
        let path = write(root.path(), &format!("new/s{segment}.ts"), "");
        fs::File::options().write(true).open(path).unwrap().set_len((200 << 20) + segment).unwrap();
        text += &format!("#EXTINF:4,\ns{segment}.ts\n");
    }
    write(root.path(), "new/film.m3u8", text + "#EXT-X-ENDLIST\n");
    let started = Instant::now();
    let first = edge.get("/videos/new/film.m3u8").await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(first.text().contains("COMPLETE=NO"), "{}", first.text());
    assert_eq!(first.header("cache-control"), "public, max-age=1");
    MediaPlaylist::try_from(first.text().as_str()).expect("strict parsers read it");
    assert_eq!(edge.text("/readyz").await.lines().next(), Some("ready"));
    let list = edge.media("/videos/new/film.m3u8").await;
    assert!(list.segments.iter().all(|segment| segment.object.is_some()));
    let etag = edge.get("/videos/new/film.m3u8").await.header("etag").to_owned();
    let again = edge.ask("GET", "/videos/new/film.m3u8", &[("If-None-Match", &etag)]).await;
    assert_eq!(again.status, 304);
    edge.stop().await;
}

#[tokio::test]
async fn a_replaced_segment_gets_the_tag_of_its_new_content() {
    let root = folder();
    write(root.path(), "a.ts", noise(1, 100_000));
    write(root.path(), "b.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.ts\n#EXT-X-ENDLIST\n");
    let edge = Edge::of(root.path()).await;
    let before = edge.media("/videos/b.m3u8").await.segments[0].object.unwrap();
    write(root.path(), "a.ts", noise(2, 100_000));
    // The request notices it.
    edge.get("/videos/a.ts").await;
    let list = edge.media("/videos/b.m3u8").await;
    assert_ne!(list.segments[0].object.unwrap().root, before.root);
    assert_eq!(edge.verify(&list).await, 1);
    // So does the next walk, without a request.
    write(root.path(), "a.ts", noise(3, 90_000));
    edge.control.reload(&marea_seeder::Config::new(root.path(), edge.addr));
    let started = Instant::now();
    while edge.media_now("/videos/b.m3u8").await.segments[0].object.is_none_or(|object| object.size != 90_000) {
        assert!(started.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    edge.stop().await;
}

#[tokio::test]
async fn ids_and_hashes_outlive_a_restart_and_nothing_is_hashed_twice() {
    let root = folder();
    clip(root.path(), "ladder", "film");
    let edge = Edge::of(root.path()).await;
    let first = edge.media("/videos/film/0/index.m3u8").await;
    // Saved a moment after the last of a playlist is hashed: two renditions of the picture, one of the sound.
    let saved = || {
        let entries = fs::read_dir(root.path().join(".marea/hashes")).into_iter().flatten().flatten();
        entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count()
    };
    while saved() < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    edge.stop().await;
    let edge = Edge::of(root.path()).await;
    let second = edge.media_now("/videos/film/0/index.m3u8").await;
    assert_eq!(second.tag, first.tag);
    assert_eq!(edge.verify(&second).await, second.segments.len() + 1, "lists too");
    assert_eq!(edge.metric("marea_seeder_hashed_bytes_total").await, 0);
    edge.stop().await;

    // A damaged store costs work, nothing else.
    for entry in fs::read_dir(root.path().join(".marea/hashes")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let edge = Edge::of(root.path()).await;
    let list = edge.media_now("/videos/film/0/index.m3u8").await;
    for segment in &list.segments {
        edge.get(url::Url::parse(&segment.locator.list_url()).unwrap().path()).await;
    }
    let list = edge.media("/videos/film/0/index.m3u8").await;
    edge.verify(&list).await;
    edge.stop().await;
}

#[tokio::test]
async fn signaling_is_named_only_when_it_is_given_and_may_change() {
    let root = folder();
    clip(root.path(), "ladder", "film");
    let url = Some("wss://s.example/signal".to_owned());
    let edge = Edge::with(root.path(), |config| config.signaling.clone_from(&url)).await;
    assert_eq!(tag_of(&edge, "/videos/film/master.m3u8").await.signaling, url);
    assert_eq!(edge.media("/videos/film/0/index.m3u8").await.tag.unwrap().signaling, url);
    let refused = edge.get("/signal").await;
    assert_eq!(refused.status, 404);
    let mut config = marea_seeder::Config::new(root.path(), edge.addr);
    config.signaling = Some("wss://t.example/signal".to_owned());
    edge.control.reload(&config);
    assert_eq!(tag_of(&edge, "/videos/film/master.m3u8").await.signaling, config.signaling);
    edge.stop().await;
}

#[tokio::test]
async fn tags_that_are_there_already_are_replaced_not_doubled() {
    let root = folder();
    let film = clip(root.path(), "ladder", "film");
    marea_seeder::annotate(root.path(), Some("wss://old.example/"), None, marea_seeder::Mode::Write, &|_| {}).unwrap();
    // As a folder that was copied without it.
    let video = fs::read_to_string(film.join("marea.json")).unwrap();
    fs::remove_file(film.join("marea.json")).unwrap();
    write(root.path(), "film/0/s1.m4s", noise(9, 70_000));
    let edge = Edge::of(root.path()).await;
    let list = edge.media("/videos/film/0/index.m3u8").await;
    let tag = list.tag.clone().unwrap();
    assert_eq!(tag.signaling, None);
    edge.verify(&list).await;
    let text = edge.text("/videos/film/0/index.m3u8").await;
    assert_eq!(text.matches("#EXT-X-MAREA:").count(), 1);
    assert_eq!(text.matches("#EXT-X-MAREA-SEGMENT:").count(), list.segments.len());
    let master = tag_of(&edge, "/videos/film/master.m3u8").await;
    assert!(video.contains(&master.video), "the id that it carried is kept");
    assert_eq!(tag.video, master.video);
    edge.stop().await;
}

#[tokio::test]
async fn what_is_no_playlist_is_served_as_it_is() {
    let root = folder();
    let cases: [(&str, &[u8]); 6] = [
        ("page.m3u8", b"<html>not found</html>"),
        ("empty.m3u8", b""),
        ("header.m3u8", b"#EXTM3U\n"),
        ("binary.m3u8", b"\xff\xfe\x00#EXTM3U"),
        ("cut.m3u8", b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1"),
        ("iframes.m3u8", b"#EXTM3U\n#EXT-X-I-FRAMES-ONLY\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n"),
    ];
    for (name, bytes) in cases {
        write(root.path(), name, bytes);
    }
    // Names what is not there, what is elsewhere, what is outside, and itself.
    let odd = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nmissing.ts\n#EXTINF:4,\nhttps://cdn.example/a.ts\n\
               #EXTINF:4,\n../../../etc/passwd\n#EXTINF:4,\nodd.m3u8\n#EXTINF:4,\nfolder\n#EXT-X-ENDLIST\n";
    write(root.path(), "odd.m3u8", odd);
    fs::create_dir(root.path().join("folder")).unwrap();
    let edge = Edge::of(root.path()).await;
    for (name, bytes) in cases {
        let reply = edge.get(&format!("/videos/{name}")).await;
        assert_eq!((reply.status, reply.body.as_slice()), (200, bytes), "{name}");
    }
    let list = edge.media("/videos/odd.m3u8").await;
    assert_eq!(list.segments.len(), 5);
    assert!([0, 1, 2, 4].iter().all(|index| list.segments[*index].object.is_none()));
    edge.stop().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_served_with_ids_kept_in_the_state_folder() {
    let (root, state) = (folder(), folder());
    write(root.path(), "film/a.ts", noise(1, 100_000));
    let film = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.ts\n#EXT-X-ENDLIST\n";
    write(root.path(), "film/b.m3u8", film);
    // Tests may run as root, whom no mode stops: a folder in the file's place stops everybody.
    fs::create_dir(root.path().join("film/marea.json")).unwrap();
    let before = tree(root.path());
    let mut ids = Vec::new();
    for _ in 0..2 {
        let edge = Edge::with(root.path(), |config| config.state = Some(state.path().to_owned())).await;
        let list = edge.media("/videos/film/b.m3u8").await;
        edge.verify(&list).await;
        ids.push(list.tag.unwrap().video);
        edge.stop().await;
    }
    assert_eq!(ids[0], ids[1]);
    assert!(tree(root.path()) == before && !root.path().join(".marea").exists());

    // No state folder either: it serves, and says so.
    let blocked = write(state.path(), "file", "");
    let edge = Edge::with(root.path(), |config| config.state = Some(blocked.join("state"))).await;
    edge.media("/videos/film/b.m3u8").await;
    assert!(edge.text("/readyz").await.contains("degraded"));
    edge.stop().await;
}

#[tokio::test]
async fn a_state_folder_that_would_be_served_is_refused() {
    let root = folder();
    let mut config = marea_seeder::Config::new(root.path(), ([127, 0, 0, 1], 0).into());
    config.state = Some(root.path().join("state"));
    let error = marea_seeder::Seeder::bind(config).await.err().unwrap();
    assert!(error.to_string().contains("--state"), "{error}");
}

#[tokio::test]
async fn playlists_of_one_folder_are_one_video_and_folders_are_apart() {
    let root = folder();
    for name in ["a/one.m3u8", "a/two.m3u8", "b/one.m3u8"] {
        write(root.path(), name, "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\ns.ts\n#EXT-X-ENDLIST\n");
    }
    let edge = Edge::of(root.path()).await;
    let one = tag_of(&edge, "/videos/a/one.m3u8").await.video;
    assert_eq!(tag_of(&edge, "/videos/a/two.m3u8").await.video, one);
    assert_ne!(tag_of(&edge, "/videos/b/one.m3u8").await.video, one);
    edge.stop().await;
}

#[tokio::test]
async fn long_playlists_are_compressed_for_who_takes_it() {
    use std::io::Read;
    let root = folder();
    let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n".to_owned();
    for segment in 0..200 {
        write(root.path(), &format!("s{segment}.ts"), [segment as u8; 50]);
        text += &format!("#EXTINF:4,\ns{segment}.ts\n");
    }
    write(root.path(), "film.m3u8", text + "#EXT-X-ENDLIST\n");
    let edge = Edge::of(root.path()).await;
    edge.media("/videos/film.m3u8").await;
    let plain = edge.get("/videos/film.m3u8").await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "Accept-Encoding"));
    let packed = edge.ask("GET", "/videos/film.m3u8", &[("Accept-Encoding", "br, gzip;q=0.5")]).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.body.len() < plain.body.len() && packed.header("etag") != plain.header("etag"));
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
    assert!(unpacked == plain.body);
    let again = [("Accept-Encoding", "gzip"), ("If-None-Match", packed.header("etag"))];
    assert_eq!(edge.ask("GET", "/videos/film.m3u8", &again).await.status, 304);
    let refused = edge.ask("GET", "/videos/film.m3u8", &[("Accept-Encoding", "gzip;q=0")]).await;
    assert_eq!(refused.header("content-encoding"), "");
    edge.stop().await;
}
