use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

use hls_m3u8::MediaPlaylist;

use crate::support::{Edge, ffmpeg, folder, noise, write};

#[tokio::test]
async fn a_folder_that_ffmpeg_writes_is_tagged_while_it_grows() {
    let root = folder();
    let edge = Edge::of(root.path()).await;
    let mut encoder = ffmpeg(
        &root.path().join("live"),
        true,
        "-hls_time 1 -hls_list_size 3 -hls_segment_type fmp4 -hls_flags delete_segments -hls_segment_filename s%d.m4s \
         live.m3u8",
    );
    let target = "/videos/live/live.m3u8";
    let started = Instant::now();
    // What was listed when, and the tags it had: a segment must never be listed without, nor change.
    let mut seen = HashMap::new();
    let mut lists = 0;
    loop {
        assert!(started.elapsed() < Duration::from_secs(30), "ffmpeg does not end");
        if encoder.try_wait().unwrap().is_some() {
            break;
        }
        let reply = edge.get(target).await;
        if reply.status == 200 {
            lists += 1;
            let list = edge.media_now(target).await;
            MediaPlaylist::try_from(reply.text().as_str()).expect("strict parsers read it");
            if list.ended {
                // From here on it is VOD, which waits for no hash.
                continue;
            }
            assert_eq!(reply.header("cache-control"), "public, max-age=1");
            for segment in &list.segments {
                let object = segment.object.unwrap_or_else(|| panic!("listed without a tag: {segment:?}"));
                assert_eq!(*seen.entry(segment.msn).or_insert(object), object);
            }
            assert!(list.tag.as_ref().unwrap().complete && list.maps[0].object.is_some());
            if lists % 4 == 0 {
                // Whatever is listed can be fetched: ffmpeg deletes a segment only some time after it left the list.
                assert_eq!(edge.verify(&list).await, list.segments.len() + 1);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(seen.len() >= 4, "only {} segments were seen live", seen.len());
    let list = edge.media(target).await;
    assert!(list.ended);
    edge.verify(&list).await;
    edge.stop().await;
}

/// A live playlist of the segments from `first` to before `end`.
fn playlist(first: usize, end: usize) -> String {
    let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
    for segment in first..end {
        text += &format!("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:{:02}Z\n#EXTINF:4,\ns{segment}.ts\n", 4 * segment);
    }
    text
}

#[tokio::test]
async fn the_newest_segments_are_held_back_until_they_are_hashed() {
    let root = folder();
    for segment in 0..4 {
        write(root.path(), &format!("s{segment}.ts"), noise(segment, 100_000));
    }
    write(root.path(), "live.m3u8", playlist(0, 4));
    let edge = Edge::of(root.path()).await;
    assert_eq!(edge.media("/videos/live.m3u8").await.segments.len(), 4);
    // So much to hash that it takes longer than a request waits: sparse files of 256 MiB.
    for segment in 4..12 {
        let path = write(root.path(), &format!("s{segment}.ts"), "");
        fs::File::options().write(true).open(path).unwrap().set_len((256 << 20) - segment as u64).unwrap();
    }
    write(root.path(), "next", playlist(1, 12));
    fs::rename(root.path().join("next"), root.path().join("live.m3u8")).unwrap();
    let reply = edge.get("/videos/live.m3u8").await;
    let text = reply.text();
    let list = edge.media_now("/videos/live.m3u8").await;
    assert!(list.segments.len() >= 3);
    assert!(list.segments.iter().all(|segment| segment.object.is_some()), "{text}");
    assert!(text.trim_end().ends_with(".ts"), "nothing is left of a segment that is held back: {text}");
    let started = Instant::now();
    while edge.media_now("/videos/live.m3u8").await.segments.len() < 11 {
        assert!(started.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    edge.stop().await;
}

#[tokio::test]
async fn byte_ranges_of_a_growing_file_keep_their_hashes_and_offsets() {
    let root = folder();
    let bytes = noise(7, 900_000);
    let text = |first: usize, end: usize| {
        let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
        for segment in first..end {
            text += &format!("#EXTINF:4,\n#EXT-X-BYTERANGE:150000@{}\nall.ts\n", 150_000 * segment);
        }
        text
    };
    let append = |end: usize| {
        use std::io::Write;
        let path = root.path().join("all.ts");
        let old = fs::metadata(&path).map_or(0, |metadata| metadata.len() as usize);
        let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
        file.write_all(&bytes[old..end]).unwrap();
    };
    append(300_000);
    write(root.path(), "live.m3u8", text(0, 2));
    let edge = Edge::of(root.path()).await;
    let first = edge.media("/videos/live.m3u8").await;
    assert_eq!(edge.verify(&first).await, 2);
    append(600_000);
    write(root.path(), "live.m3u8", text(1, 4));
    let second = edge.media("/videos/live.m3u8").await;
    assert_eq!(second.segments[0].object, first.segments[1].object, "root and offset stay");
    assert_eq!(edge.verify(&second).await, 3);
    // Each byte was hashed once, and the last segment known was looked at again: it shows that the file only grew.
    assert_eq!(edge.metric("marea_seeder_hashed_bytes_total").await, 600_000 + 150_000);
    append(900_000);
    write(root.path(), "live.m3u8", text(0, 6) + "#EXT-X-ENDLIST\n");
    let list = edge.media("/videos/live.m3u8").await;
    assert_eq!(edge.verify(&list).await, 6);
    edge.stop().await;
}
