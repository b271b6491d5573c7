//! What the origin's playlists name: which queries mean something, and which byte ranges are objects.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{PoisonError, RwLock},
};

use marea_swarm::tags::ObjectKind;

use crate::{config::ORIGIN_PLAYLISTS, hashes::list_len, index::Item};

/// What is known of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Name {
    /// First byte and length.
    spans: BTreeSet<(u64, u64)>,
    init: bool,
}

type Names = HashMap<String, Name>;

#[derive(Default)]
struct Known {
    /// Target to the playlists that name it.
    targets: HashMap<String, HashMap<String, Name>>,
    /// Playlist to what it named when it was read last and the time before: players ask a while for what has left it.
    lists: HashMap<String, [BTreeSet<String>; 2]>,
}

#[derive(Default)]
pub(super) struct Index(RwLock<Known>);

impl Index {
    /// Takes over what `playlist` names now.
    pub(super) fn set(&self, playlist: &str, items: &[Item]) {
        let mut names = Names::new();
        for item in items {
            let name = names.entry(item.file.clone()).or_default();
            name.spans.extend(item.span);
            name.init |= item.kind == ObjectKind::Map;
        }
        let now: BTreeSet<String> = names.keys().cloned().collect();
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // More than any site has: somebody makes them up.
        if known.lists.len() >= ORIGIN_PLAYLISTS && !known.lists.contains_key(playlist) {
            *known = Known::default();
        }
        let [last, older] = known.lists.remove(playlist).unwrap_or_default();
        let (kept, gone) = if last == now { (older, BTreeSet::new()) } else { (last, older) };
        for target in gone.iter().filter(|target| !now.contains(*target) && !kept.contains(*target)) {
            if let Some(users) = known.targets.get_mut(target) {
                users.remove(playlist);
                if users.is_empty() {
                    known.targets.remove(target);
                }
            }
        }
        for (target, name) in names {
            let users = known.targets.entry(target).or_default();
            let user = users.entry(playlist.to_owned()).or_default();
            user.init |= name.init;
            // Those of before keep their place in the piece list.
            user.spans.extend(name.spans);
        }
        known.lists.insert(playlist.to_owned(), [now, kept]);
    }

    fn read<T>(&self, target: &str, map: impl FnOnce(&HashMap<String, Name>) -> T) -> Option<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).targets.get(target).map(map)
    }

    /// Whether a playlist names `target`.
    pub(super) fn has(&self, target: &str) -> bool {
        self.read(target, |_| ()).is_some()
    }

    /// Whether `target` is an init section.
    pub(super) fn is_init(&self, target: &str) -> bool {
        self.read(target, |users| users.values().any(|name| name.init)).unwrap_or(false)
    }

    /// The parts of `target` that are objects, in order.
    pub(super) fn spans(&self, target: &str) -> BTreeSet<(u64, u64)> {
        self.read(target, |users| users.values().flat_map(|name| &name.spans).copied().collect()).unwrap_or_default()
    }

    /// Where in the `.pieces` file of `target` the list of each part begins: one after the other.
    pub(super) fn list_offsets(&self, target: &str) -> BTreeMap<(u64, u64), u64> {
        let mut at = 0;
        let offset = |(start, len)| {
            let here = at;
            at += list_len(len);
            ((start, len), here)
        };
        self.spans(target).into_iter().map(offset).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(file: &str, span: Option<(u64, u64)>) -> Item {
        Item { kind: ObjectKind::Segment, line: 0, file: file.to_owned(), span, segment: None }
    }

    #[test]
    fn what_left_a_playlist_is_known_for_one_more_reading() {
        let index = Index::default();
        index.set("a.m3u8", &[item("1.ts?t=1", None), item("2.ts?t=1", None)]);
        index.set("b.m3u8", &[item("2.ts?t=1", None)]);
        index.set("a.m3u8", &[item("3.ts?t=1", None)]);
        assert!(index.has("1.ts?t=1") && index.has("3.ts?t=1") && !index.has("4.ts?t=1"));
        // The same again is no other reading.
        index.set("a.m3u8", &[item("3.ts?t=1", None)]);
        assert!(index.has("1.ts?t=1"));
        index.set("a.m3u8", &[item("4.ts?t=1", None)]);
        assert!(!index.has("1.ts?t=1") && index.has("2.ts?t=1") && index.has("3.ts?t=1"));
    }

    #[test]
    fn lists_of_byte_ranges_lie_one_after_the_other() {
        let index = Index::default();
        let spans = [(0, 900), (900, 200_000), (200_900, 70_000)];
        index.set("a.m3u8", &spans.map(|span| item("film.mp4", Some(span))));
        let offsets: Vec<u64> = index.list_offsets("film.mp4").into_values().collect();
        assert_eq!(offsets, [0, 0, 4 * 32]);
    }
}
