//! Playlists with their tags: what is listed, what waits.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use marea_swarm::{
    playlist::MediaPlaylist,
    tags::{MareaTag, ObjectKind, ObjectTag},
};

use crate::{
    catalogue::{Built, Listed, Text},
    config::{LIVE_EDGE, VOD_PLAYLIST_AGE},
    delta,
    index::{self, Indexed, Item},
    sign::Stamp,
};

/// What is known of something that a playlist names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Hashed; none if it is no object.
    Hashed(Option<ObjectTag>),
    /// Being hashed.
    Pending,
    /// Not there yet.
    Late,
    /// Not there, or not readable: a player will find out by itself.
    Unusable,
}

/// Puts tags into the media playlist `list` of `indexed`, `head` first, and signs it by `stamp`. `items` are what it names, each
/// with its state. On live, a segment that was not listed `before` is listed only when it has its tag.
pub(crate) fn compose(
    indexed: &Indexed,
    list: &MediaPlaylist,
    (items, states): (&[Item], &[State]),
    before: Option<&Listed>,
    head: MareaTag,
    stamp: Option<&Stamp<'_>>,
) -> Built {
    let mut objects = Vec::with_capacity(items.len());
    let (mut waiting, mut absent): (Vec<&Item>, bool) = (Vec::new(), false);
    // The newest first: there the viewers are.
    let mut pending: Vec<String> = Vec::new();
    for (item, state) in items.iter().zip(states).rev() {
        match state {
            State::Hashed(tag) => objects.extend(tag.map(|tag| (item.line, item.kind, tag))),
            State::Pending => {
                waiting.push(item);
                if pending.last() != Some(&item.file) {
                    pending.push(item.file.clone());
                }
            }
            State::Late => {
                waiting.push(item);
                absent = true;
            }
            State::Unusable => absent = true,
        }
    }
    let new = if list.ended { None } else { first_new(list, before, &waiting) };
    // If nothing were left, playing comes first.
    let shown = new.filter(|shown| *shown > 0).unwrap_or(list.segments.len());
    let end = if shown < list.segments.len() { index::first_line(&indexed.text, list, shown) } else { usize::MAX };
    let held_back = new.is_some() || !list.ended && waiting.iter().any(|item| item.kind == ObjectKind::Map);
    let complete = !waiting.iter().any(|item| item.line < end);
    let (head, signaling) = (MareaTag { complete, ..head.clone() }, head.signaling);
    let mut text = index::insert(&indexed.text, head, objects, end);
    let mut delta = None;
    // Who read one without all its tags reads it whole again.
    if complete && let Some((whole, update)) = delta::offer(&text, list, shown) {
        (text, delta) = (whole, Some(Text::new(sealed(stamp, update))));
    }
    let max_age = match (list.ended, pending.is_empty()) {
        (true, true) => VOD_PLAYLIST_AGE,
        (true, false) => 1,
        (false, _) => ((list.target_duration_ms / 2_000.0) as u64).clamp(1, VOD_PLAYLIST_AGE),
    };
    let listed = || Listed {
        first: list.media_sequence,
        end: list.media_sequence.saturating_add(shown as u64),
        segments: items.iter().filter(|item| item.segment.is_some_and(|at| at < shown)).map(Item::name).collect(),
        keys: Vec::new(),
    };
    let listed = (!list.ended).then(|| Arc::new(listed()));
    Built { delta, pending, absent, held_back, listed, ..finish(sealed(stamp, text), signaling, max_age) }
}

/// The first segment of a live playlist that waits and was not listed before: it and those after it are listed only when they
/// have their tags. In a playlist that is new here only the live edge counts as not listed.
fn first_new(list: &MediaPlaylist, before: Option<&Listed>, waiting: &[&Item]) -> Option<usize> {
    let edge = list.segments.len().saturating_sub(LIVE_EDGE);
    let is_new = |item: &&&Item| match (before, item.segment) {
        (_, None) => false,
        (None, Some(index)) => index >= edge,
        // Numbers alone do not tell: ffmpeg counts none of the segments that leave a single file's window (5.1).
        (Some(before), Some(index)) => {
            list.segments[index].msn >= before.end || !before.segments.contains(&item.name())
        }
    };
    waiting.iter().filter(is_new).filter_map(|item| item.segment).min()
}

/// `text` with its signature, if there is a key.
pub(crate) fn sealed(stamp: Option<&Stamp<'_>>, text: String) -> String {
    match stamp {
        Some(stamp) => stamp.sign(text),
        None => text,
    }
}

/// A playlist of which nothing is missing.
pub(crate) fn finish(text: String, signaling: Option<String>, max_age: u64) -> Built {
    let now = Instant::now();
    Built {
        whole: Text::new(text),
        delta: None,
        max_age,
        signaling,
        signed: None,
        pending: Vec::new(),
        absent: false,
        held_back: false,
        listed: None,
        at: now,
        checked: Mutex::new(now),
    }
}
