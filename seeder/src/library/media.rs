//! Media playlists with their tags: what is listed, what waits.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use marea_swarm::{
    playlist::MediaPlaylist,
    tags::{MareaTag, ObjectKind, ObjectTag},
};

use super::{Library, finish, sealed};
use crate::{
    catalogue::{Built, Listed, Lookup, Text},
    config::{LATE_SEGMENT, LIVE_CHECK, LIVE_EDGE, VOD_PLAYLIST_AGE},
    delta,
    files::{FileKey, Keys},
    hasher::Urgency,
    index::{self, Indexed, Item, Span},
    sign::Stamp,
};

/// A file that a playlist names, as it is now.
enum State {
    /// Hashed: the tags of its parts, and its content.
    Hashed(HashMap<Span, ObjectTag>, FileKey),
    /// Being hashed.
    Pending,
    /// Not there yet.
    Late,
    /// Not there, or not readable: a player will find out by itself.
    Unusable,
}

impl Library {
    /// Puts tags into a media playlist, `head` first, and signs it by `stamp`. On live, a segment is listed only when it has its tag.
    pub(super) fn build_media(
        &self,
        rel: &str,
        indexed: &Indexed,
        list: &MediaPlaylist,
        head: MareaTag,
        stamp: Option<&Stamp<'_>>,
    ) -> Built {
        let items = index::items(list, &self.site);
        let before = self.listed_before(rel, list);
        let late = if list.ended { 0.0 } else { LATE_SEGMENT * list.target_duration_ms };
        let late = Duration::from_secs_f64(late / 1_000.0);
        let mut keys = Keys::new(&self.root);
        // Many items may lie in one file.
        let mut files: HashMap<&str, State> = HashMap::new();
        let mut objects = Vec::with_capacity(items.len());
        let (mut waiting, mut absent): (Vec<&Item>, bool) = (Vec::new(), false);
        for item in &items {
            let state = files.entry(&item.file).or_insert_with(|| self.state_of(&item.file, &mut keys, late));
            match state {
                State::Hashed(tags, _) => objects.extend(tags.get(&item.span).map(|tag| (item.line, item.kind, *tag))),
                State::Pending => waiting.push(item),
                State::Late => {
                    waiting.push(item);
                    absent = true;
                }
                State::Unusable => absent = true,
            }
        }
        let new = if list.ended { None } else { first_new(list, before.as_deref(), &waiting) };
        // If nothing were left, playing comes first.
        let shown = new.filter(|shown| *shown > 0).unwrap_or(list.segments.len());
        let end = if shown < list.segments.len() { index::first_line(&indexed.text, list, shown) } else { usize::MAX };
        let held_back = new.is_some() || !list.ended && waiting.iter().any(|item| item.kind == ObjectKind::Map);
        let complete = !waiting.iter().any(|item| item.line < end);
        let mut pending: Vec<String> = Vec::new();
        // The newest first: there the viewers are.
        for item in waiting.iter().rev() {
            if matches!(files.get(item.file.as_str()), Some(State::Pending)) && pending.last() != Some(&item.file) {
                self.hasher.submit(&item.file, if list.ended { Urgency::Asked } else { Urgency::Live });
                pending.push(item.file.clone());
            }
        }
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
            keys: files
                .iter()
                .filter_map(|(file, state)| match state {
                    State::Hashed(_, key) => Some(((*file).to_owned(), *key)),
                    _ => None,
                })
                .collect(),
        };
        let listed = (!list.ended).then(|| Arc::new(listed()));
        Built { delta, pending, absent, held_back, listed, ..finish(sealed(stamp, text), signaling, max_age) }
    }

    /// What `rel` listed when it was built last. None if it is new here; nothing if another run of an encoder writes it.
    fn listed_before(&self, rel: &str, list: &MediaPlaylist) -> Option<Arc<Listed>> {
        let before = self.read().entry(rel)?.listed.clone()?;
        let end = list.media_sequence.saturating_add(list.segments.len() as u64);
        if list.media_sequence >= before.first && end >= before.end {
            return Some(before);
        }
        self.write().restarted(rel);
        Some(Arc::default())
    }

    fn state_of(&self, file: &str, keys: &mut Keys<'_>, late: Duration) -> State {
        let Ok(key) = keys.of(file) else {
            return if !late.is_zero() && self.write().missing_for(file) < late {
                State::Late
            } else {
                State::Unusable
            };
        };
        if self.read().is_missing(file) {
            self.write().found(file);
        }
        match self.read().look_up(file, key) {
            Lookup::Hashed(hashes) => State::Hashed(hashes.tags(), key),
            Lookup::Pending => State::Pending,
            Lookup::Refused => State::Unusable,
        }
    }

    /// Whether the files of a live playlist are not those any more for which it has tags. Looked at now and then.
    pub(super) fn is_stale(&self, built: &Built) -> bool {
        let Some(listed) = &built.listed else { return false };
        {
            let mut checked = built.checked.lock().unwrap_or_else(PoisonError::into_inner);
            if checked.elapsed() < LIVE_CHECK {
                return false;
            }
            *checked = Instant::now();
        }
        let mut keys = Keys::new(&self.root);
        let mut changed = |(file, known): &&(String, FileKey)| {
            let Ok(key) = keys.of(file) else { return false };
            key != *known && self.read().known(file, key, None).changed
        };
        let changed: Vec<_> = listed.keys.iter().filter(&mut changed).collect();
        for (file, _) in &changed {
            self.write().invalidate(file);
        }
        !changed.is_empty()
    }
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
