use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Mutex,
};

use hls_m3u8::{MasterPlaylist, MediaPlaylist};
use marea_seeder::{Event, Mode, annotate};
use marea_swarm::playlist::Playlist;

use crate::support::{Edge, clip, folder, noise, parse, tree, verify_list, write};

fn run(root: &Path, mode: Mode) -> (usize, Vec<Event>) {
    let events = Mutex::new(Vec::new());
    let report = |event: &Event| {
        if !matches!(event, Event::Hashed { .. }) {
            events.lock().unwrap().push(event.clone());
        }
    };
    let summary = annotate(root, None, None, mode, &report).unwrap();
    (summary.changes, events.into_inner().unwrap())
}

/// Inode and modification time of every file.
fn stamps(root: &Path) -> HashMap<PathBuf, (u64, i64, i64)> {
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).unwrap();
        (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
    };
    tree(root).into_keys().map(|path| (path.clone(), stamp(&path))).collect()
}

#[test]
fn a_folder_is_tagged_once_checked_and_taken_back_byte_for_byte() {
    let root = folder();
    clip(root.path(), "ladder", "a/film");
    clip(root.path(), "single", "single");
    clip(root.path(), "ts", "ts");
    let original = tree(root.path());
    let (changes, events) = run(root.path(), Mode::Check);
    assert!(
        changes > 0
            && events.iter().any(|event| matches!(event, Event::Changed(path) if path.ends_with("master.m3u8")))
    );
    assert!(tree(root.path()) == original, "a check changes nothing");

    run(root.path(), Mode::Write);
    let written = stamps(root.path());
    assert_eq!(run(root.path(), Mode::Check).0, 0);
    assert_eq!(run(root.path(), Mode::Write).0, 0);
    assert_eq!(stamps(root.path()), written, "nothing is written twice");

    let mut lists = 0;
    for (path, bytes) in tree(root.path()).iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "m3u8"))
    {
        let text = std::str::from_utf8(bytes).unwrap();
        let base = url::Url::from_file_path(path).unwrap();
        match parse(text, base.as_str()) {
            Playlist::Multivariant(list) => {
                MasterPlaylist::try_from(text).expect("strict parsers read it");
                assert!(list.tag.is_some());
            }
            Playlist::Media(list) => {
                MediaPlaylist::try_from(text).expect("strict parsers read it");
                assert!(list.segments.iter().all(|segment| segment.object.is_some()));
                for (locator, object) in list.locators() {
                    let file = url::Url::parse(&locator.url).unwrap().to_file_path().unwrap();
                    let whole = fs::read(&file).unwrap();
                    let range = locator.range.map_or(0..whole.len(), |r| r.start as usize..(r.start + r.len) as usize);
                    let bytes = &whole[range];
                    assert_eq!(blake3::hash(bytes), blake3::Hash::from(object.root.0));
                    let pieces = PathBuf::from(format!("{}.pieces", file.display()));
                    if object.size > 65_536 {
                        verify_list(&fs::read(pieces).unwrap(), bytes, object.list_at);
                    } else if locator.range.is_none() {
                        assert!(!pieces.exists(), "one piece needs no list");
                    }
                }
                lists += 1;
            }
        }
    }
    assert_eq!(lists, 5);

    run(root.path(), Mode::Remove);
    assert!(tree(root.path()) == original);
    assert_eq!(run(root.path(), Mode::Remove).0, 0);
}

#[test]
fn a_replaced_segment_is_named_and_written_anew_with_the_same_id() {
    let root = folder();
    let film = clip(root.path(), "ladder", "film");
    run(root.path(), Mode::Write);
    let id = fs::read(film.join("marea.json")).unwrap();
    write(root.path(), "film/0/s1.m4s", noise(1, 30_000));
    let (changes, events) = run(root.path(), Mode::Check);
    let pieces = film.join("0/s1.m4s.pieces").canonicalize().unwrap();
    let index = film.join("0/index.m3u8").canonicalize().unwrap();
    assert_eq!(events, [Event::Removed(pieces.clone()), Event::Changed(index)], "{changes}");
    run(root.path(), Mode::Write);
    assert!(!pieces.exists());
    assert_eq!(fs::read(film.join("marea.json")).unwrap(), id);
    assert_eq!(run(root.path(), Mode::Check).0, 0);
}

#[test]
fn modes_are_kept_and_what_cannot_be_read_is_told_and_left() {
    let root = folder();
    let text = "#EXTM3U\r\n#EXT-X-TARGETDURATION:4\r\n#EXTINF:4,\r\na.ts\r\n#EXTINF:4,\r\nmissing.ts\r\n#EXT-X-ENDLIST";
    let list = write(root.path(), "list.m3u8", text);
    write(root.path(), "a.ts", noise(2, 100_000));
    let page = write(root.path(), "page.m3u8", "<html>");
    write(root.path(), "mine.pieces", "not ours");
    fs::set_permissions(&list, fs::Permissions::from_mode(0o640)).unwrap();
    let (_, events) = run(root.path(), Mode::Write);
    let skipped: Vec<&PathBuf> =
        events.iter().filter_map(|event| if let Event::Skipped(path, _) = event { Some(path) } else { None }).collect();
    assert_eq!(skipped.len(), 2, "{events:?}");
    assert!(skipped[0].ends_with("page.m3u8") && skipped[1].ends_with("missing.ts"));
    assert_eq!(fs::metadata(&list).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read(page).unwrap(), b"<html>");
    let tagged = fs::read_to_string(&list).unwrap();
    assert_eq!(tagged.matches("\r\n").count(), tagged.matches('\n').count(), "line ends stay as they are");
    run(root.path(), Mode::Remove);
    assert_eq!(fs::read_to_string(&list).unwrap(), text);
    assert_eq!(fs::read(root.path().join("mine.pieces")).unwrap(), b"not ours");
}

#[test]
fn an_id_file_that_is_not_ours_stops_it_and_a_missing_folder_is_named() {
    let root = folder();
    clip(root.path(), "ts", "film");
    write(root.path(), "film/marea.json", "{\"version\": 9}");
    let before = tree(root.path());
    let error = annotate(root.path(), None, None, Mode::Write, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("marea.json"), "{error}");
    assert!(
        tree(root.path()).get(&root.path().join("film/film.m3u8")) == before.get(&root.path().join("film/film.m3u8"))
    );
    let error = annotate(&root.path().join("none"), None, None, Mode::Write, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("none"), "{error}");
}

#[tokio::test]
async fn an_annotated_folder_is_served_with_the_very_same_bytes() {
    let root = folder();
    clip(root.path(), "ladder", "film");
    clip(root.path(), "single", "single");
    run(root.path(), Mode::Write);
    let files = tree(root.path());
    let edge = Edge::of(root.path()).await;
    edge.media("/videos/film/0/index.m3u8").await;
    edge.media("/videos/single/film.m3u8").await;
    for (path, bytes) in files.iter().filter(|(path, _)| !path.ends_with("marea.json")) {
        let rel = path.strip_prefix(root.path()).unwrap().display().to_string();
        assert!(edge.get(&format!("/videos/{rel}")).await.body == *bytes, "{rel}");
    }
    edge.stop().await;
}
