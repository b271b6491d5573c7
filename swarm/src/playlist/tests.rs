mod delta;
mod digests;
mod find;
mod hostile;
mod media;
mod multivariant;

use super::*;
use crate::tags::{ObjectKind, ObjectTag, Tag};

const URL: &str = "https://edge.example/videos/tide/360p.m3u8?token=a%20b&v=1";

const MAREA: &str = "#EXT-X-MAREA:VERSION=1,PIECE=65536,VIDEO=\"AAAAAAAAAAAAAAAAAAAAAA\"";

/// Enough of a resolver for the fixtures: absolute URLs, `/path`, `?query` and plain names; spaces are no URL.
fn resolve(base: &str, reference: &str) -> Option<String> {
    if reference.contains(' ') {
        return None;
    }
    if reference.contains("://") {
        return Some(reference.to_owned());
    }
    let base = base.split(['?', '#']).next()?;
    let host_end = base.match_indices('/').nth(2).map_or(base.len(), |(at, _)| at);
    Some(match reference.as_bytes().first() {
        Some(b'/') => format!("{}{reference}", &base[..host_end]),
        Some(b'?') => format!("{base}{reference}"),
        _ => format!("{}/{reference}", &base[..base.rfind('/')?]),
    })
}

fn media(text: &str) -> MediaPlaylist {
    match parse(text, URL, &resolve) {
        Ok(Playlist::Media(playlist)) => playlist,
        other => panic!("{other:?}"),
    }
}

/// The root of object `n`.
fn root(n: u8) -> Root {
    Root([n; 32])
}

/// A tag that gives object `n` this size.
fn tag(kind: ObjectKind, n: u8, size: u64) -> String {
    Tag::Object(kind, ObjectTag { size, root: root(n), at: None }).to_string()
}

fn segment_tag(n: u8, size: u64) -> String {
    tag(ObjectKind::Segment, n, size)
}

fn object(n: u8, size: u64) -> Option<ObjectRef> {
    Some(ObjectRef { root: root(n), kind: HashKind::Blake3, size, list_at: 0 })
}

fn range(start: u64, len: u64) -> Option<ByteRange> {
    Some(ByteRange { start, len })
}

/// URLs of the segments, without what all of them begin with.
fn names(playlist: &MediaPlaylist) -> Vec<&str> {
    playlist.segments.iter().map(|segment| name(&segment.locator)).collect()
}

fn name(locator: &Locator) -> &str {
    locator.url.strip_prefix("https://edge.example/videos/tide/").unwrap_or(&locator.url)
}
