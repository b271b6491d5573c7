//! Objects that the host has in a place of its own, such as a mirror's disk: held without having been fetched.

use super::{
    Swarm,
    action::Object,
    object::{List, Origin},
};
use crate::{
    ids::Millis,
    pieces::{Cv, ListCheck, check_list},
};

impl Swarm {
    /// The host has all pieces of an object, checked against `list` (one value for an object of one piece), and can read them
    /// whenever [`super::Action::SendFrame`] names one. False if the list is not the object's: then nothing is held.
    ///
    /// Hosts of such objects set [`crate::config::Config::memory_limit`] to `u64::MAX`, else they are told to evict them.
    pub fn hold(&mut self, now: Millis, object: Object, list: Vec<Cv>) -> bool {
        self.touch(now);
        let entry = self.objects.get_mut(object);
        if entry.unproven.is_some()
            || entry.origin != Origin::Fits
            || check_list(&list, entry.size, entry.root) != ListCheck::Fits
        {
            return false;
        }
        let before = entry.held_bytes();
        entry.list = List::Known(list);
        let (count, size) = (entry.count, entry.size);
        let fresh: Vec<u32> = (0..count).filter(|&piece| entry.have.insert(piece)).collect();
        self.held += size - before;
        if !fresh.is_empty() {
            let news = self.news.get_or_insert_with(object, Default::default);
            for piece in fresh {
                news.insert(piece);
            }
        }
        self.deliver(object);
        true
    }

    /// The host cannot read an object any more, or not as it was: neighbours are told that it is not here.
    pub fn lost(&mut self, now: Millis, object: Object) {
        self.touch(now);
        if !self.entry(object).have.is_empty() {
            self.evict(object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        pieces::ObjectHasher,
        playlist::{self, Playlist},
        wire::PeerKind,
    };

    #[test]
    fn what_lies_on_disk_is_held_with_its_own_list_only() {
        let mut hasher = ObjectHasher::new();
        hasher.update(&[7; 150_000]);
        let hashed = hasher.finish();
        let root = crate::base64url::encode(&hashed.root.0);
        let text = format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAREA:VERSION=1,PIECE=65536,VIDEO=\"v\"\n\
             #EXT-X-MAREA-SEGMENT:SIZE=150000,BLAKE3={root}\n#EXTINF:4,\na.ts\n#EXT-X-ENDLIST\n"
        );
        let resolve = |_: &str, reference: &str| Some(format!("http://m.example/{reference}"));
        let Ok(Playlist::Media(media)) = playlist::parse(&text, "http://m.example/p.m3u8", &resolve) else {
            panic!("no media playlist")
        };
        let mut swarm = Swarm::new("v", PeerKind::Mirror, Config::default(), &[1; 32], 0);
        swarm.playlist(0, &media);
        let object = swarm.object(&media.segments[0].locator).unwrap();
        let mut wrong = hashed.list.clone();
        wrong[1][0] ^= 1;
        for list in [Vec::new(), wrong] {
            assert!(!swarm.hold(1, object, list));
            assert_eq!(swarm.memory(), 0);
        }
        for _ in 0..2 {
            assert!(swarm.hold(1, object, hashed.list.clone()));
            assert_eq!(swarm.memory(), 150_000);
        }
        swarm.lost(2, object);
        assert_eq!(swarm.memory(), 0);
        assert!(swarm.hold(3, object, hashed.list));
        assert_eq!(swarm.memory(), 150_000);
    }
}
