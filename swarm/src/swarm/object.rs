//! The objects that playlists name: what is held, what verifies it, who wants it.

use super::{
    action::{Fetch, Object, Peer, Request, Source},
    bitfield::Bitfield,
    whole::Unproven,
};
use crate::{
    config::GROUP_PIECES,
    ids::{HashKind, Millis, Oid, Root, piece_count, piece_len},
    map::{Map, Set},
    pieces::Cv,
    playlist::{Locator, MediaPlaylist, ObjectRef},
};

/// The piece list of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// Not here; `http_failed` once the `.pieces` URL gave none.
    Missing { http_failed: bool },
    /// A neighbour was asked.
    Asked { peer: Peer, since: Millis, parts: Vec<Cv>, http_failed: bool },
    /// An HTTP transfer brings it.
    Fetching(Fetch),
    /// Checked against the root (one item, the root, for an object of one piece), or relied on for now: see
    /// [`Entry::unproven`].
    Known(Vec<Cv>),
}

/// Whether the origin's bytes fit the hash in its own playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nothing speaks against it.
    Fits,
    /// One copy missed; one more is fetched past the caches.
    Suspect,
    /// Two copies missed: played from the origin, never shared.
    Differs,
}

/// A live claim on a piece.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) nonce: u32,
    pub(crate) heard: Millis,
    pub(crate) expires: Millis,
    /// Something of the group was seen while it lived: it came to something, however long the rest takes to get here.
    pub(crate) borne_out: bool,
}

/// Where the bytes of an object are by HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) locator: Locator,
    /// Where its part of the `.pieces` file starts.
    pub(crate) list_at: u64,
    /// Whether the resource is of the playlist's own origin: only then may bytes be played that miss their hash.
    pub(crate) own_origin: bool,
}

/// One object.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) root: Root,
    pub(crate) kind: HashKind,
    pub(crate) oid: Oid,
    pub(crate) size: u64,
    pub(crate) count: u32,
    /// What it plays, in milliseconds; 0 if it is no segment or that is not known.
    pub(crate) duration_ms: f64,
    pub(crate) place: Place,
    pub(crate) list: List,
    /// There while nothing but the SHA-256 of the whole object could prove anything of it. Once that fits, its list is
    /// as good as one that merges to a root.
    pub(crate) unproven: Option<Unproven>,
    pub(crate) have: Bitfield,
    /// Hashes of pieces that wait for the list, by who brought them.
    pub(crate) pending: Map<(Source, u32), Cv>,
    pub(crate) requests: Vec<Request>,
    /// When a playlist named it first.
    pub(crate) listed: Millis,
    /// Since when the player waits for it while it is not whole.
    pub(crate) wanted_since: Option<Millis>,
    /// When the playhead was about to wait for it, and how many pieces were here then.
    pub(crate) urgent: Option<(Millis, u32)>,
    /// The player asked for it at least once.
    pub(crate) asked: bool,
    pub(crate) origin: Origin,
    /// Claims of others by piece.
    pub(crate) claims: Map<u32, Claim>,
    /// When HTTP failed last, with its status, and how often in a row.
    pub(crate) http_failed: Option<(Millis, u16, u32)>,
    pub(crate) used: Millis,
    /// Verified bytes by origin: HTTP, viewers, mirrors, edge.
    pub(crate) brought: [u64; 4],
}

impl Entry {
    pub(crate) fn whole(&self) -> bool {
        self.have.len() == self.count
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        if self.whole() { self.size } else { self.have.iter().map(|piece| u64::from(self.piece_len(piece))).sum() }
    }

    pub(crate) fn piece_len(&self, piece: u32) -> u32 {
        piece_len(self.size, piece)
    }

    pub(crate) fn missing(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        (0..self.count).filter(|&piece| !self.have.contains(piece))
    }

    /// Hashes that wait in the assembly of `source`, by piece.
    pub(crate) fn pending_of(&self, source: Source) -> Vec<(u32, Cv)> {
        self.pending.range((source, 0)..=(source, u32::MAX)).map(|(&(_, piece), &cv)| (piece, cv)).collect()
    }

    /// Forgets what waits in the assembly of `source`.
    pub(crate) fn forget(&mut self, source: Source) {
        self.pending.retain(|&(other, _), _| other != source);
    }

    pub(crate) fn known_list(&self) -> Option<&[Cv]> {
        match &self.list {
            List::Known(list) => Some(list),
            _ => None,
        }
    }

    /// May be taken from peers.
    pub(crate) fn shared(&self) -> bool {
        self.origin == Origin::Fits
    }

    /// What is held may be announced and given to peers.
    pub(crate) fn given(&self) -> bool {
        self.shared() && self.unproven.is_none()
    }

    /// May be handed to the player.
    pub(crate) fn ready(&self) -> bool {
        self.whole() && self.unproven.is_none()
    }

    /// Pieces `start..end` of the group that a piece belongs to.
    pub(crate) fn group_of(&self, piece: u32) -> std::ops::Range<u32> {
        let start = piece / GROUP_PIECES * GROUP_PIECES;
        start..(start + GROUP_PIECES).min(self.count)
    }

    /// Somebody who can be relied on has these pieces: claims on them that live are no lies.
    pub(crate) fn bear_out_claims(&mut self, now: Millis, has: &Bitfield) {
        for (piece, claim) in &mut self.claims {
            if claim.expires > now && !claim.borne_out {
                let group = *piece / GROUP_PIECES * GROUP_PIECES;
                claim.borne_out = (group..group + GROUP_PIECES).any(|piece| has.contains(piece));
            }
        }
    }

    /// Whether somebody claims this piece.
    pub(crate) fn claimed(&self, piece: u32, now: Millis) -> bool {
        self.claims.get(&piece).is_some_and(|claim| claim.expires > now)
    }
}

/// One media playlist and the objects of its segments.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) playlist: MediaPlaylist,
    /// Per segment.
    pub(crate) objects: Vec<Option<Object>>,
    /// Segment asked for last, and where it starts on the player's timeline.
    pub(crate) anchor: Option<(usize, f64)>,
    /// When it was asked for.
    pub(crate) active: Millis,
}

/// All objects and playlists of a swarm.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) entries: Vec<Entry>,
    index: Index,
    pub(crate) tracks: Map<String, Track>,
    /// Objects that the player waits for and that are not whole.
    pub(crate) wanted: Set<Object>,
}

impl Objects {
    /// `secret` keeps whoever writes playlists from choosing roots that slow the index down.
    pub(crate) fn new(secret: u64) -> Self {
        Self { index: Index { slots: Vec::new(), factor: secret | 1 }, ..Self::default() }
    }

    pub(crate) fn get(&self, object: Object) -> &Entry {
        &self.entries[object.0 as usize]
    }

    pub(crate) fn get_mut(&mut self, object: Object) -> &mut Entry {
        &mut self.entries[object.0 as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Object, &Entry)> {
        (0u32..).map(Object).zip(&self.entries)
    }

    /// On a collision of 8 bytes the first keeps the name; the other goes by HTTP alone.
    pub(crate) fn by_oid(&self, oid: Oid) -> Option<Object> {
        self.index.find(&self.entries, oid, |_| true)
    }

    /// Equal digits of two kinds of hash are two objects.
    pub(crate) fn find(&self, object: &ObjectRef) -> Option<Object> {
        let same = |entry: &Entry| entry.root == object.root && entry.kind == object.kind;
        self.index.find(&self.entries, object.root.oid(), same)
    }

    /// The object of this root, made if new; its place is the newest that a playlist gave.
    pub(crate) fn add(&mut self, now: Millis, object: &ObjectRef, place: Place) -> Object {
        let ObjectRef { root, kind, size, .. } = *object;
        if let Some(object) = self.find(object) {
            let entry = self.get_mut(object);
            if entry.size == size {
                entry.place = place;
            }
            return object;
        }
        let object = Object(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        let count = piece_count(size);
        // Beside digests there are no `.pieces` files.
        let list = match kind {
            HashKind::Blake3 if count == 1 => List::Known(vec![root.0]),
            HashKind::Blake3 => List::Missing { http_failed: false },
            HashKind::Sha256 => List::Missing { http_failed: true },
        };
        self.entries.push(Entry {
            root,
            kind,
            oid: root.oid(),
            size,
            count,
            duration_ms: 0.0,
            place,
            list,
            unproven: (kind == HashKind::Sha256).then(Unproven::default),
            have: Bitfield::default(),
            pending: Map::new(),
            requests: Vec::new(),
            listed: now,
            wanted_since: None,
            urgent: None,
            asked: false,
            origin: Origin::Fits,
            claims: Map::new(),
            http_failed: None,
            used: now,
            brought: [0; 4],
        });
        self.index.add(&self.entries);
        object
    }
}

/// Finds entries by oid: a hash table with linear probing. Roots are hashes already; one multiplication with a secret spreads
/// those that somebody chose. (`HashMap` would cost 9 kB of wasm.)
#[derive(Debug, Default)]
struct Index {
    /// A power of two of them, at most half of them full: the entry's number, or `FREE`.
    slots: Vec<u32>,
    /// Odd.
    factor: u64,
}

impl Index {
    const FREE: u32 = u32::MAX;

    fn slot(&self, oid: Oid) -> usize {
        // The upper bits depend on all bits of the oid.
        (u64::from_le_bytes(oid.0).wrapping_mul(self.factor) >> (u64::BITS - self.slots.len().trailing_zeros()))
            as usize
    }

    /// The first entry with this oid for which `is` holds, in the order in which they were added.
    fn find(&self, entries: &[Entry], oid: Oid, is: impl Fn(&Entry) -> bool) -> Option<Object> {
        if self.slots.is_empty() {
            return None;
        }
        let mut slot = self.slot(oid);
        loop {
            let index = self.slots[slot];
            let entry = entries.get(index as usize)?; // none at a free slot
            if entry.oid == oid && is(entry) {
                return Some(Object(index));
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    /// Takes in the last entry.
    fn add(&mut self, entries: &[Entry]) {
        let mut first = entries.len() - 1;
        if entries.len() * 2 > self.slots.len() {
            self.slots = vec![Self::FREE; (entries.len() * 4).next_power_of_two()];
            first = 0;
        }
        for (index, entry) in (0u32..).zip(entries).skip(first) {
            let mut slot = self.slot(entry.oid);
            while self.slots[slot] != Self::FREE {
                slot = (slot + 1) & (self.slots.len() - 1);
            }
            self.slots[slot] = index;
        }
    }
}
