//! Media playlists of the folder: what their files are, and when they have changed.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use marea_swarm::{
    playlist::MediaPlaylist,
    tags::{MareaTag, ObjectTag},
};

use super::Library;
use crate::{
    catalogue::{Built, Listed, Lookup},
    compose::{State, compose},
    config::{LATE_SEGMENT, LIVE_CHECK},
    files::{FileKey, Keys},
    hasher::Urgency,
    index::{self, Indexed, Span},
    sign::Stamp,
};

/// A file that a playlist names, as it is now.
enum FileState {
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
        let mut files: HashMap<&str, FileState> = HashMap::new();
        let states = items.iter().map(|item| {
            match files.entry(&item.file).or_insert_with(|| self.state_of(&item.file, &mut keys, late)) {
                FileState::Hashed(tags, _) => State::Hashed(tags.get(&item.span).copied()),
                FileState::Pending => State::Pending,
                FileState::Late => State::Late,
                FileState::Unusable => State::Unusable,
            }
        });
        let states: Vec<State> = states.collect();
        let mut built = compose(indexed, list, (&items, &states), before.as_deref(), head, stamp);
        for file in &built.pending {
            self.hasher.submit(file, if list.ended { Urgency::Asked } else { Urgency::Live });
        }
        if let Some(listed) = built.listed.as_mut().and_then(Arc::get_mut) {
            let hashed = files.iter().filter_map(|(file, state)| match state {
                FileState::Hashed(_, key) => Some(((*file).to_owned(), *key)),
                _ => None,
            });
            listed.keys = hashed.collect();
        }
        built
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

    fn state_of(&self, file: &str, keys: &mut Keys<'_>, late: Duration) -> FileState {
        let Ok(key) = keys.of(file) else {
            return if !late.is_zero() && self.write().missing_for(file) < late {
                FileState::Late
            } else {
                FileState::Unusable
            };
        };
        if self.read().is_missing(file) {
            self.write().found(file);
        }
        match self.read().look_up(file, key) {
            Lookup::Hashed(hashes) => FileState::Hashed(hashes.tags(), key),
            Lookup::Pending => FileState::Pending,
            Lookup::Refused => FileState::Unusable,
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
