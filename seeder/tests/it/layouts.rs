//! Playlists written to be hard: everything that players accept is tagged, and nothing else is touched.

use std::{collections::HashMap, fs, os::unix::fs::FileExt, path::Path};

use marea_seeder::{Mode, annotate};

use crate::support::{Edge, folder, noise, tree, write};

const MASTER: &str = r#"#EXTM3U
#EXT-X-VERSION:12
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-CONTENT-STEERING:SERVER-URI="/steering.json",PATHWAY-ID="a"
#EXT-X-SESSION-KEY:METHOD=AES-128,URI="k.key"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="lo",NAME="en",URI="audio-lo.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="hi",NAME="en",URI="audio-hi.m3u8"
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="s",NAME="en",URI="subtitles.m3u8"
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1000,URI="iframes.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=100000,AUDIO="lo",SUBTITLES="s",PATHWAY-ID="a"
video.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=200000,AUDIO="hi",SUBTITLES="s",PATHWAY-ID="a"
video.m3u8
"#;

/// A single file beyond 4 GiB, then separate ones; ranges with and without a start; parts, a gap, keys, variables.
const VIDEO: &str = r#"#EXTM3U
#EXT-X-VERSION:12
#EXT-X-TARGETDURATION:4
#EXT-X-DEFINE:NAME="n",VALUE="film"
#EXT-X-DATERANGE:ID="d",START-DATE="2026-01-01T00:00:00Z"
#EXT-X-KEY:METHOD=AES-128,URI="k.key"
#EXT-X-MAP:URI="{$n}.mp4",BYTERANGE="1000@0"
#EXTINF:4,
#EXT-X-BYTERANGE:70000@4300000000
{$n}.mp4
#EXTINF:4,
#EXT-X-BYTERANGE:80000
{$n}.mp4
#EXT-X-GAP
#EXTINF:4,
gone.m4s
#EXT-X-DISCONTINUITY
#EXT-X-KEY:METHOD=NONE
#EXT-X-MAP:URI="init2.mp4"
#EXT-X-PART:DURATION=2,URI="p0.m4s"
#EXT-X-PART:DURATION=2,URI="p1.m4s"
#EXTINF:4,
s.m4s
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p2.m4s"
#EXT-X-ENDLIST
"#;

const I_FRAMES: &str =
    "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-I-FRAMES-ONLY\n#EXTINF:4,\n#EXT-X-BYTERANGE:100@0\ns.m4s\n";

fn one(uri: &str) -> String {
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{uri}\n#EXT-X-ENDLIST\n")
}

fn make(root: &Path) {
    for (name, text) in [("master", MASTER.to_owned()), ("video", VIDEO.to_owned()), ("iframes", I_FRAMES.to_owned())] {
        write(root, &format!("{name}.m3u8"), text);
    }
    for (name, uri) in [("audio-lo", "lo.aac"), ("audio-hi", "hi.aac"), ("subtitles", "en.vtt")] {
        write(root, &format!("{name}.m3u8"), one(uri));
        write(root, uri, noise(uri.len() as u8 + uri.as_bytes()[0], 2_000));
    }
    for (seed, name) in (0..).zip(["init2.mp4", "p0.m4s", "p1.m4s", "s.m4s", "k.key"]) {
        write(root, name, noise(seed, 66_000));
    }
    let film = fs::File::options().write(true).open(write(root, "film.mp4", noise(9, 1_000))).unwrap();
    film.write_all_at(&noise(10, 150_000), 4_300_000_000).unwrap();
}

fn without_ours(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with("#EXT-X-MAREA")).collect()
}

#[tokio::test]
async fn everything_a_player_loads_is_tagged_and_the_rest_is_left_alone() {
    let root = folder();
    make(root.path());
    let edge = Edge::of(root.path()).await;
    let video = edge.media("/videos/video.m3u8").await;
    let start = |index: usize| video.segments[index].locator.range.unwrap().start;
    assert_eq!((start(0), start(1)), (4_300_000_000, 4_300_070_000));
    assert!(video.segments[2].object.is_none(), "nobody fetches a gap");
    // Two init sections, three segments, two parts.
    assert_eq!(edge.verify(&video).await, 7);
    assert_eq!(video.unusable_tags, 0);
    for name in ["audio-lo", "audio-hi", "subtitles"] {
        assert_eq!(edge.verify(&edge.media(&format!("/videos/{name}.m3u8")).await).await, 1, "{name}");
    }
    for (name, text) in [("master", MASTER), ("video", VIDEO)] {
        assert_eq!(without_ours(&edge.text(&format!("/videos/{name}.m3u8")).await), text);
    }
    assert_eq!(edge.text("/videos/iframes.m3u8").await, I_FRAMES);
    // Keys are nobody's object.
    assert_eq!(edge.get("/videos/k.key").await.body, noise(4, 66_000));
    assert_eq!(edge.get("/videos/k.key.pieces").await.status, 404);
    edge.stop().await;
}

#[tokio::test]
async fn annotate_writes_what_serve_serves_and_takes_it_back() {
    let root = folder();
    make(root.path());
    // Sparse and large: not compared byte for byte.
    let small = || -> HashMap<_, _> {
        fs::rename(root.path().join("film.mp4"), root.path().join(".film")).unwrap();
        let files = tree(root.path());
        fs::rename(root.path().join(".film"), root.path().join("film.mp4")).unwrap();
        files
    };
    let before = small();
    let summary = annotate(root.path(), None, None, Mode::Write, &|_| {}).unwrap();
    assert_eq!(summary.playlists, 5, "master, video, two of audio, subtitles");
    let written = fs::read_to_string(root.path().join("video.m3u8")).unwrap();
    assert_eq!(fs::read_to_string(root.path().join("iframes.m3u8")).unwrap(), I_FRAMES);
    assert!(!root.path().join("k.key.pieces").exists());
    let edge = Edge::of(root.path()).await;
    edge.media("/videos/video.m3u8").await;
    assert_eq!(edge.text("/videos/video.m3u8").await, written);
    edge.stop().await;
    annotate(root.path(), None, None, Mode::Remove, &|_| {}).unwrap();
    assert!(small() == before, "as it was");
}
