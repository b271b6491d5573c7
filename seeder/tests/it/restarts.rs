//! What happens to live folders: encoders that are killed and begin anew, files that come late or change, in place or not.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use hls_m3u8::MediaPlaylist as StrictPlaylist;
use marea_swarm::playlist::{MediaPlaylist, ObjectRef};

use crate::support::{Edge, ffmpeg, folder, noise, write};

/// Reads a live playlist over and over, as players do, and checks what must hold of each.
struct Watch<'a> {
    edge: &'a Edge,
    target: String,
    /// Object of each segment of this run.
    seen: HashMap<(u64, String), ObjectRef>,
    /// Number of the first segment listed last.
    first: u64,
    restarts: usize,
    verified: usize,
    /// The encoder writes over files that its last playlist still names: for a moment they have no tag, or one that ended
    /// with the answer.
    careless: bool,
    misses: usize,
}

impl<'a> Watch<'a> {
    fn new(edge: &'a Edge, target: &str, careless: bool) -> Self {
        let (seen, target) = (HashMap::new(), target.to_owned());
        let (first, restarts, verified, misses) = (0, 0, 0, 0);
        Self { edge, target, seen, first, restarts, verified, careless, misses }
    }

    /// Until `encoder` ends, or so many segments were seen, and it is killed.
    async fn run(&mut self, mut encoder: Child, enough: usize) {
        let started = Instant::now();
        while encoder.try_wait().unwrap().is_none() {
            if self.seen.len() >= enough {
                encoder.kill().unwrap();
                encoder.wait().unwrap();
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "ffmpeg does not end");
            self.look().await;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }

    async fn look(&mut self) {
        let reply = self.edge.get(&self.target).await;
        let text = reply.text();
        if reply.status != 200 || !text.contains("#EXTINF") || text.contains("#EXT-X-ENDLIST") {
            return;
        }
        StrictPlaylist::try_from(text.as_str()).unwrap_or_else(|error| panic!("{error}: {text}"));
        let list = self.edge.index(&self.target, &text);
        if list.media_sequence < self.first {
            self.seen.clear();
            self.restarts += 1;
        }
        self.first = list.media_sequence;
        for segment in &list.segments {
            let Some(object) = segment.object else {
                assert!(self.careless, "{}: listed without a tag: {text}", self.target);
                continue;
            };
            let name = format!("{:?}", segment.locator);
            let before = self.seen.insert((segment.msn, name), object);
            assert!(self.careless || before.is_none_or(|before| before == object), "{text}");
        }
        // The newest two are on disk for seconds to come, whatever the encoder deletes.
        let newest = list.segments.len().saturating_sub(2);
        let newest = MediaPlaylist { segments: list.segments[newest..].to_vec(), ..list };
        // Even a careful encoder writes its init section in place, under the feet of whoever has just read the playlist.
        if self.edge.holds(&newest).await {
            self.verified += newest.locators().count();
        } else {
            self.misses += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encoders_are_killed_and_begin_anew() {
    let root = folder();
    let edge = Edge::of(root.path()).await;
    let encode = |name: &str, filter: &str, flags: &str| {
        let (extension, kind) = if name.starts_with("ts") { ("ts", "mpegts") } else { ("m4s", "fmp4") };
        let segments = if flags.contains("single_file") {
            String::new()
        } else {
            format!("-hls_segment_filename s%d.{extension}")
        };
        let args = format!("-vf {filter} -hls_time 1 -hls_segment_type {kind} {flags} {segments} live.m3u8");
        ffmpeg(&root.path().join(name), true, &args)
    };
    // As ffmpeg's manual has it for encoders that may die; the careless way; and one growing file.
    let careful =
        "-hls_list_size 4 -hls_flags delete_segments+append_list+temp_file+independent_segments+program_date_time";
    let careless = "-hls_list_size 4 -hls_flags delete_segments";
    let single = "-hls_list_size 0 -hls_flags single_file";
    let kinds = [
        ("careful", careful),
        ("ts-careful", careful),
        ("careless", careless),
        ("ts-careless", careless),
        ("single", single),
    ];
    let watches = kinds.map(|(name, flags)| {
        let (edge, encode) = (&edge, &encode);
        async move {
            let mut watch = Watch::new(edge, &format!("/videos/{name}/live.m3u8"), !name.ends_with("careful"));
            watch.run(encode(name, "null", flags), 3).await;
            let before = watch.seen.len();
            assert!(before >= 3, "{name}: the first run was not seen");
            watch.run(encode(name, "negate", flags), usize::MAX).await;
            (name, before, watch)
        }
    });
    for (name, before, watch) in futures_util::future::join_all(watches).await {
        assert!(watch.verified >= 6, "{name}");
        assert!(watch.misses < watch.verified, "{name}: {} misses, {} hits", watch.misses, watch.verified);
        let list = edge.media(&watch.target).await;
        assert!(list.ended, "{name}");
        let end = list.media_sequence + list.segments.len() as u64;
        // About six segments in the second run, after the others or in their place.
        let fits = if name.ends_with("careful") { end >= before as u64 + 5 } else { (5..=7).contains(&end) };
        assert!(fits, "{name}: ends with {end} after {before}");
        assert!(watch.restarts <= usize::from(!name.ends_with("careful")), "{name}");
        edge.verify(&list).await;
    }
    edge.stop().await;
}

/// A live playlist of the segments from `first` to before `end`.
fn playlist(first: usize, end: usize) -> String {
    let segments: String = (first..end).map(|segment| format!("#EXTINF:1,\ns{segment}.ts\n")).collect();
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n{segments}")
}

fn segments(root: &Path, seed: u8, numbers: std::ops::Range<usize>) {
    for number in numbers {
        write(root, &format!("s{number}.ts"), noise(seed + number as u8, 70_000));
    }
}

const LIVE: &str = "/videos/live.m3u8";

/// Waits until `fits` holds of the playlist.
async fn until(edge: &Edge, fits: impl Fn(&MediaPlaylist) -> bool) -> MediaPlaylist {
    let started = Instant::now();
    loop {
        let list = edge.media_now(LIVE).await;
        if fits(&list) {
            return list;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{list:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn all_tagged(list: &MediaPlaylist) -> bool {
    list.segments.iter().all(|segment| segment.object.is_some())
}

#[tokio::test]
async fn a_segment_that_comes_late_is_listed_when_it_is_there_and_at_last_without() {
    let root = folder();
    segments(root.path(), 0, 0..5);
    write(root.path(), "live.m3u8", playlist(0, 5));
    let edge = Edge::of(root.path()).await;
    assert_eq!(edge.media(LIVE).await.segments.len(), 5);
    // 5 is not there yet, 6 is.
    segments(root.path(), 0, 6..7);
    write(root.path(), "live.m3u8", playlist(1, 7).replace("DURATION:1", "DURATION:5"));
    let list = edge.media_now(LIVE).await;
    assert_eq!((list.media_sequence, list.segments.len()), (1, 4), "cut before what is missing");
    assert!(all_tagged(&list) && list.tag.unwrap().complete);
    segments(root.path(), 0, 5..6);
    let list = until(&edge, |list| list.segments.len() == 6).await;
    assert!(all_tagged(&list));
    edge.verify(&list).await;
    // 7 never comes: playing goes on without it.
    segments(root.path(), 0, 8..9);
    write(root.path(), "live.m3u8", playlist(2, 9));
    let list = until(&edge, |list| list.segments.len() == 7).await;
    assert!(list.segments[5].object.is_none() && list.segments[6].object.is_some());
    // Unless it comes very late.
    segments(root.path(), 0, 7..8);
    let list = until(&edge, all_tagged).await;
    edge.verify(&list).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_segment_that_is_replaced_after_it_was_listed_loses_its_tag_at_once() {
    let root = folder();
    segments(root.path(), 0, 0..5);
    write(root.path(), "live.m3u8", playlist(0, 5));
    let edge = Edge::of(root.path()).await;
    let before = edge.media(LIVE).await;
    write(root.path(), "s3.ts", noise(99, 70_000));
    // Nobody asked for it, and the playlist is the same.
    let after = until(&edge, |list| all_tagged(list) && list.segments[3].object != before.segments[3].object).await;
    edge.verify(&after).await;
    edge.stop().await;
}

#[tokio::test]
async fn old_names_with_new_bytes_get_new_tags_wherever_the_numbers_go() {
    let root = folder();
    segments(root.path(), 0, 0..20);
    write(root.path(), "live.m3u8", playlist(3, 8));
    let edge = Edge::of(root.path()).await;
    edge.verify(&edge.media(LIVE).await).await;
    // Back, forth beyond all that was listed, to numbers that overlap, and back to one segment.
    for (run, (first, end)) in (1..).zip([(0, 2), (12, 17), (13, 18), (10, 18), (0, 1)]) {
        segments(root.path(), 20 * run, first..end);
        write(root.path(), "live.m3u8", playlist(first, end));
        let list = edge.media_now(LIVE).await;
        assert_eq!((list.media_sequence, list.segments.len()), (first as u64, end - first), "run {run}");
        assert_eq!(edge.verify(&list).await, if run == 3 { 5 } else { end - first }, "run {run}: {list:?}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_growing_file_that_is_begun_anew_gets_new_hashes() {
    let root = folder();
    let text = |first: usize, end: usize| {
        let ranges = (first..end).map(|n| format!("#EXTINF:1,\n#EXT-X-BYTERANGE:80000@{}\nall.ts\n", 80_000 * n));
        let head = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
        ranges.fold(head, |text, range| text + &range)
    };
    write(root.path(), "all.ts", noise(1, 400_000));
    write(root.path(), "live.m3u8", text(0, 5));
    let edge = Edge::of(root.path()).await;
    let before = edge.media(LIVE).await;
    edge.verify(&before).await;
    // In place, as ffmpeg does it: the same inode, and longer than before when we look again.
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let old = inode(&root.path().join("all.ts"));
    write(root.path(), "all.ts", noise(2, 480_000));
    assert_eq!(inode(&root.path().join("all.ts")), old);
    write(root.path(), "live.m3u8", text(0, 6));
    let list = until(&edge, |list| list.segments.len() == 6 && all_tagged(list)).await;
    assert_ne!(list.segments[0].object, before.segments[0].object);
    assert_eq!(edge.verify(&list).await, 6);
    // With ranges that were all there before, numbers tell.
    write(root.path(), "all.ts", noise(3, 480_000));
    write(root.path(), "live.m3u8", text(0, 2));
    let list = until(&edge, all_tagged).await;
    assert_eq!(edge.verify(&list).await, 2);
    edge.stop().await;
}
