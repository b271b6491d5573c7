//! Which pieces are held, and which are asked for.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;
use marea_swarm::{
    Oid, PIECE_SIZE,
    ids::{piece_count, piece_len},
    pieces::{Cv, ListCheck, check_list, hash_piece},
    wire::PieceSet,
};

use super::library::{Item, Library};

/// Most pieces in one of our requests.
const RUN: u32 = 4;

/// The pieces of every object of the library.
pub(super) struct Store {
    slots: BTreeMap<Oid, Slot>,
}

struct Slot {
    item: Arc<Item>,
    /// Known at once for one-piece objects: the root.
    list: Option<Vec<Cv>>,
    pieces: Vec<Option<Bytes>>,
    asked: Vec<bool>,
}

/// What a piece turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Wrong,
    Piece,
    LastPiece,
}

impl Store {
    /// Full, or empty if everything is to be fetched.
    pub(super) fn new(library: &Library, fetch: bool) -> Self {
        let slot = |item: &Arc<Item>| {
            let count = item.list.len();
            let whole = |at: usize| {
                let start = at * PIECE_SIZE as usize;
                item.bytes.slice(start..item.bytes.len().min(start + PIECE_SIZE as usize))
            };
            let slot = Slot {
                item: Arc::clone(item),
                list: (!fetch || count == 1).then(|| item.list.clone()),
                pieces: (0..count).map(|at| (!fetch).then(|| whole(at))).collect(),
                asked: vec![false; count],
            };
            (item.root.oid(), slot)
        };
        Self { slots: library.items().map(slot).collect() }
    }

    /// Everything that is held, for a new neighbour.
    pub(super) fn held(&self) -> Vec<(Oid, PieceSet)> {
        self.slots
            .iter()
            .filter(|(_, slot)| slot.pieces.iter().any(Option::is_some))
            .map(|(&oid, slot)| (oid, slot.set()))
            .collect()
    }

    /// A held piece.
    pub(super) fn piece(&self, oid: Oid, piece: u32) -> Option<Bytes> {
        self.slots.get(&oid)?.pieces.get(piece as usize)?.clone()
    }

    /// Whether the piece list of an object is known.
    pub(super) fn has_list(&self, oid: Oid) -> bool {
        self.slots.get(&oid).is_some_and(|slot| slot.list.is_some())
    }

    /// Pieces of the object with this oid, if it is one of ours.
    pub(super) fn count(&self, oid: Oid) -> Option<u32> {
        self.slots.get(&oid).map(|slot| piece_count(slot.item.bytes.len() as u64))
    }

    /// Length of a piece.
    pub(super) fn piece_len(&self, oid: Oid, piece: u32) -> u32 {
        self.slots.get(&oid).map_or(0, |slot| piece_len(slot.item.bytes.len() as u64, piece))
    }

    /// The next run of pieces to ask a neighbour for, marked as asked.
    pub(super) fn next(&mut self, has: &BTreeMap<Oid, Vec<bool>>) -> Option<(Oid, Range<u32>)> {
        has.iter().find_map(|(&oid, theirs)| {
            let slot = self.slots.get_mut(&oid)?;
            slot.list.as_ref()?;
            let wanted =
                |slot: &Slot, at: usize| theirs.get(at) == Some(&true) && slot.pieces[at].is_none() && !slot.asked[at];
            let first = (0..slot.pieces.len()).find(|&at| wanted(slot, at))?;
            let count = (first..slot.pieces.len()).take(RUN as usize).take_while(|&at| wanted(slot, at)).count();
            slot.asked[first..first + count].fill(true);
            Some((oid, first as u32..(first + count) as u32))
        })
    }

    /// These pieces will not come from whom they were asked of.
    pub(super) fn release(&mut self, oid: Oid, pieces: Range<u32>) {
        if let Some(slot) = self.slots.get_mut(&oid) {
            slot.asked[pieces.start as usize..pieces.end as usize].fill(false);
        }
    }

    /// A neighbour gave a piece list; false if it is not the object's.
    pub(super) fn list(&mut self, oid: Oid, list: Vec<Cv>) -> bool {
        let Some(slot) = self.slots.get_mut(&oid) else { return true };
        let fits = check_list(&list, slot.item.bytes.len() as u64, slot.item.root) == ListCheck::Fits;
        if fits {
            slot.list = Some(list);
        }
        fits
    }

    /// A neighbour gave a piece.
    pub(super) fn keep(&mut self, oid: Oid, piece: u32, bytes: Bytes) -> Kept {
        let Some(slot) = self.slots.get_mut(&oid) else { return Kept::Wrong };
        let count = slot.pieces.len() as u32;
        let expected = slot.list.as_ref().and_then(|list| list.get(piece as usize));
        if expected != Some(&hash_piece(&bytes, piece, count)) {
            return Kept::Wrong;
        }
        slot.pieces[piece as usize] = Some(bytes);
        if slot.pieces.iter().all(Option::is_some) { Kept::LastPiece } else { Kept::Piece }
    }

    /// Whether a whole object equals its file.
    pub(super) fn equals_file(&self, oid: Oid) -> bool {
        self.slots.get(&oid).is_some_and(|slot| {
            let held: Vec<u8> = slot.pieces.iter().flatten().flatten().copied().collect();
            slot.item.bytes == held
        })
    }

    /// Whether every object is whole.
    pub(super) fn is_full(&self) -> bool {
        self.slots.values().all(|slot| slot.pieces.iter().all(Option::is_some))
    }
}

impl Slot {
    fn set(&self) -> PieceSet {
        if self.pieces.iter().all(Option::is_some) {
            return PieceSet::All;
        }
        let bits = self.pieces.chunks(8).map(|eight| {
            eight.iter().enumerate().fold(0, |byte, (at, piece)| byte | (u8::from(piece.is_some()) << at))
        });
        PieceSet::Some { first: 0, bits: bits.collect() }
    }
}
