use std::{io::Read, ops::Range, path::Path};

use flate2::read::GzDecoder;
use marea_swarm::playlist::{MediaPlaylist, Playlist, Segment};

use crate::support::{Client, Edge, folder, noise, parse, write};

/// A live window of fMP4 segments with what makes updates hard: keys that change, a discontinuity with another init section,
/// date ranges, tags that nobody knows.
fn window(numbers: Range<usize>) -> String {
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:{}\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:{}\n#EXT-X-DEFINE:NAME=\"d\",VALUE=\"m\"\n",
        numbers.start,
        numbers.start.div_ceil(60)
    );
    for number in numbers.clone() {
        let run = number / 60;
        if number % 60 == 0 {
            text += "#EXT-X-DISCONTINUITY\n";
        }
        if number % 60 == 0 || number == numbers.start {
            text += &format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{run}.key\"\n#EXT-X-MAP:URI=\"m/init{run}.mp4\"\n");
        }
        if number % 50 == 7 {
            text += &format!("#EXT-X-DATERANGE:ID=\"{number}\",START-DATE=\"2026-01-01T00:00:00Z\"\n");
        }
        text += &format!("#EXT-X-SOMETHING:{number}\n#EXTINF:4.000,\n{{$d}}/s{number}.m4s\n");
    }
    text
}

fn media(root: &Path, numbers: Range<usize>) {
    for number in numbers {
        write(root, &format!("m/s{number}.m4s"), noise(number as u8, 300 + number));
        write(root, &format!("m/init{}.mp4", number / 60), noise((number / 60) as u8, 50));
    }
}

fn index(text: &str, url: &str) -> MediaPlaylist {
    match parse(text, url) {
        Playlist::Media(list) => list,
        Playlist::Multivariant(_) => panic!("multivariant"),
    }
}

/// A body that may be compressed.
async fn packed(client: &Client, target: &str) -> (usize, String) {
    let reply = client.ask("GET", target, &[("Accept-Encoding", "gzip")]).await;
    let mut text = String::new();
    match reply.header("content-encoding") {
        "gzip" => GzDecoder::new(&reply.body[..]).read_to_string(&mut text).map(drop).unwrap(),
        _ => text = reply.text(),
    }
    (reply.body.len(), text)
}

/// Segments as a player sees them: number, place, object, init section, discontinuity.
fn segments(list: &MediaPlaylist) -> Vec<impl PartialEq + std::fmt::Debug + use<>> {
    let map = |map: usize| (list.maps[map].locator.clone(), list.maps[map].object);
    let row = |segment: &Segment| {
        let Segment { msn, locator, object, discontinuity, .. } = segment.clone();
        (msn, locator, object, segment.map.map(map), discontinuity, segment.start_ms as u64)
    };
    list.segments.iter().map(row).collect()
}

#[tokio::test]
async fn who_has_read_a_long_window_reads_only_its_end_and_knows_all() {
    let root = folder();
    media(root.path(), 0..330);
    write(root.path(), "live.m3u8", window(10..290));
    let edge = Edge::of(root.path()).await;
    let mut known = edge.media("/videos/live.m3u8").await;
    assert!(known.segments.iter().all(|segment| segment.object.is_some()), "the scan hashes what is there");
    for slide in 1..40 {
        write(root.path(), "live.m3u8", window(10 + slide..290 + slide));
        let whole = edge.text("/videos/live.m3u8").await;
        let delta = edge.text("/videos/live.m3u8?x=1&_HLS_skip=YES").await;
        assert!(whole.contains("#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=24\n") && !whole.contains("EXT-X-SKIP"));
        assert!(whole.contains("#EXT-X-VERSION:6\n") && delta.contains("#EXT-X-VERSION:9\n"), "{delta}");
        assert_eq!(delta.matches("#EXT-X-VERSION").count(), 1);
        // Six target durations stay, and one segment that lies across.
        assert!(delta.contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=274\n"), "{delta}");
        assert_eq!(delta.matches("#EXTINF").count(), 6);
        // Players keep the key of no segment that is left out, so it is said again; date ranges are never left out.
        assert!(delta.matches("#EXT-X-KEY").count() >= 1 && delta.matches("#EXT-X-MAP").count() >= 1);
        assert_eq!(delta.matches("#EXT-X-DATERANGE").count(), whole.matches("#EXT-X-DATERANGE").count());
        assert!(delta.matches("#EXT-X-SOMETHING").count() == 6);
        let whole = index(&whole, &known.url);
        let mut update = index(&delta, &known.url);
        assert_eq!(update.skipped, 274);
        assert!(update.fill_skipped(&known));
        assert_eq!(segments(&update), segments(&whole));
        assert!(update.maps.len() <= whole.maps.len() + 1, "init sections do not pile up");
        known = update;
    }
    edge.stop().await;
}

#[tokio::test]
async fn short_windows_and_films_have_no_delta_updates() {
    let root = folder();
    media(root.path(), 0..200);
    write(root.path(), "short.m3u8", window(0..100));
    write(root.path(), "film.m3u8", window(0..200) + "#EXT-X-ENDLIST\n");
    let edge = Edge::of(root.path()).await;
    for name in ["short", "film"] {
        edge.media(&format!("/videos/{name}.m3u8")).await;
        let whole = edge.text(&format!("/videos/{name}.m3u8")).await;
        assert!(!whole.contains("SERVER-CONTROL"), "{whole}");
        assert_eq!(edge.text(&format!("/videos/{name}.m3u8?_HLS_skip=YES")).await, whole);
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_range_that_went_on_from_one_that_is_left_out_says_where_it_begins() {
    let root = folder();
    write(root.path(), "all.ts", noise(1, 150 * 100));
    let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-SERVER-CONTROL:HOLD-BACK=6.0\n#EXTINF:2,\n\
                    #EXT-X-BYTERANGE:100@0\nall.ts\n"
        .to_owned();
    for _ in 1..150 {
        text += "#EXTINF:2,\n#EXT-X-BYTERANGE:100\nall.ts\n";
    }
    write(root.path(), "live.m3u8", text);
    let edge = Edge::of(root.path()).await;
    let whole = edge.media("/videos/live.m3u8").await;
    let text = edge.text("/videos/live.m3u8?_HLS_skip=v2").await;
    assert!(text.contains("#EXT-X-SERVER-CONTROL:HOLD-BACK=6.0,CAN-SKIP-UNTIL=12\n"), "{text}");
    let mut update = index(&text, &whole.url);
    assert_eq!(update.segments.len(), 6);
    assert_eq!(update.segments[0].locator.range.unwrap().start, 144 * 100);
    assert!(update.fill_skipped(&whole));
    edge.stop().await;
}

/// The figures of docs/operations.md.
#[tokio::test]
async fn an_hour_of_window_costs_little_per_reload() {
    let root = folder();
    media(root.path(), 0..1801);
    write(root.path(), "live.m3u8", window(0..1800));
    let edge = Edge::of(root.path()).await;
    edge.media("/videos/live.m3u8").await;
    write(root.path(), "live.m3u8", window(1..1801));
    let plain = edge.text("/videos/live.m3u8").await.len();
    let (whole, _) = packed(&edge, "/videos/live.m3u8").await;
    let (delta, text) = packed(&edge, "/videos/live.m3u8?_HLS_skip=YES").await;
    println!("1800 segments: {plain} bytes, gzip {whole}, delta update {}, gzip {delta}", text.len());
    // 32 bytes of hash per segment do not compress; everything else does.
    assert!(whole < 1800 * 75 && whole < plain / 2, "{whole} of {plain}");
    assert!(delta * 20 < whole && text.len() * 20 < plain, "{delta} of {whole}, {} of {plain}", text.len());
    edge.stop().await;
}
