//! A map and a set over sorted vectors, with the part of `BTreeMap`'s interface that is used here; and a sort.
//!
//! Each `BTreeMap<K, V>` costs 8 to 15 kB of wasm for its nodes' rebalancing; ten of them were a third of the browser's
//! engine. What the core keeps in order is small (neighbours, requests, pieces under way), or grows at its end.

use std::{borrow::Borrow, ops::RangeInclusive};

/// Keys in order, each with a value.
#[derive(Clone, Debug)]
pub(crate) struct Map<K, V>(Vec<(K, V)>);

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> Map<K, V> {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    pub(crate) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// The value that `key` had before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    /// The value of `key`, made by `value` if there is none.
    pub(crate) fn get_or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        let at = match self.find(&key) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (key, value()));
                at
            }
        };
        &mut self.0[at].1
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| keep(key, value));
    }

    pub(crate) fn iter(&self) -> Iter<'_, K, V> {
        Iter(self.0.iter())
    }

    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(crate) fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    pub(crate) fn into_keys(self) -> impl Iterator<Item = K> {
        self.0.into_iter().map(|(key, _)| key)
    }

    /// Keys from the range's start to its end, both included.
    pub(crate) fn range(&self, keys: RangeInclusive<K>) -> Iter<'_, K, V> {
        let start = self.0.partition_point(|(key, _)| key < keys.start());
        let end = self.0.partition_point(|(key, _)| key <= keys.end());
        Iter(self.0.get(start..end).unwrap_or_default().iter())
    }

    fn find<Q: Ord + ?Sized>(&self, wanted: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(key, _)| key.borrow().cmp(wanted))
    }
}

/// Entries in order.
#[derive(Debug)]
pub(crate) struct Iter<'a, K, V>(std::slice::Iter<'a, (K, V)>);

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key, value))
    }
}

/// Entries in order, values to be changed.
#[derive(Debug)]
pub(crate) struct IterMut<'a, K, V>(std::slice::IterMut<'a, (K, V)>);

impl<'a, K, V> Iterator for IterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (&*key, value))
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a Map<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a mut Map<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        IterMut(self.0.iter_mut())
    }
}

impl<K, V> IntoIterator for Map<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

/// Items in order.
#[derive(Clone, Debug)]
pub(crate) struct Set<K>(Vec<K>);

impl<K> Default for Set<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord> Set<K> {
    pub(crate) fn contains(&self, item: &K) -> bool {
        self.0.binary_search(item).is_ok()
    }

    /// False if it was there.
    pub(crate) fn insert(&mut self, item: K) -> bool {
        let place = self.0.binary_search(&item);
        if let Err(at) = place {
            self.0.insert(at, item);
        }
        place.is_err()
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, item: &K) -> bool {
        let place = self.0.binary_search(item);
        if let Ok(at) = place {
            self.0.remove(at);
        }
        place.is_ok()
    }
}

impl<'a, K> IntoIterator for &'a Set<K> {
    type Item = &'a K;
    type IntoIter = std::slice::Iter<'a, K>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// Sorts in place by heap. Never quadratic, and a tenth of what each use of the library's sorts weighs in wasm.
pub(crate) fn sort<T>(items: &mut [T], less: impl Fn(&T, &T) -> bool) {
    let mut start = items.len() / 2;
    let mut end = items.len();
    while end > 1 {
        // First the heap is made, from its last parent to its top; then its top, the largest, is taken off until none is left.
        if start > 0 {
            start -= 1;
        } else {
            end -= 1;
            items.swap(0, end);
        }
        let mut parent = start;
        loop {
            let mut child = 2 * parent + 1;
            if child + 1 < end && less(&items[child], &items[child + 1]) {
                child += 1;
            }
            if child >= end || !less(&items[parent], &items[child]) {
                break;
            }
            items.swap(parent, child);
            parent = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_is_a_btree_map_to_its_users() {
        let (mut map, mut model) = (Map::new(), BTreeMap::new());
        let mut state = 1u32;
        for step in 0..2_000u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let key = state >> 27;
            match state % 5 {
                0 => assert_eq!(map.remove(&key), model.remove(&key)),
                1 => *map.get_or_insert_with(key, || 0) += step,
                _ => assert_eq!(map.insert(key, step), model.insert(key, step)),
            }
            if state % 5 == 1 {
                *model.entry(key).or_insert(0) += step;
            }
            assert_eq!(map.get(&key), model.get(&key));
            assert!(map.iter().eq(model.iter()));
            assert!(map.range(5..=key.max(5)).eq(model.range(5..=key.max(5))));
        }
        map.retain(|key, _| key % 2 == 0);
        model.retain(|key, _| key % 2 == 0);
        assert!(map.keys().eq(model.keys()));
        assert!(map.values().eq(model.values()));
    }

    #[test]
    fn sorting_is_what_the_library_does() {
        let mut state = 1u32;
        for len in 0..200 {
            let mut items: Vec<u32> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state >> 25
                })
                .collect();
            let mut model = items.clone();
            model.sort_unstable();
            sort(&mut items, |a, b| a < b);
            assert_eq!(items, model);
        }
    }

    #[test]
    fn a_set_holds_each_item_once() {
        let mut set = Set::default();
        assert!(set.insert(3) && set.insert(1) && !set.insert(3));
        assert!(set.into_iter().eq(&[1, 3]));
        assert!(set.remove(&3) && !set.remove(&3) && set.contains(&1));
    }
}
