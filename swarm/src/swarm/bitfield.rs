//! A set of pieces.

use crate::wire::PieceSet;

/// Pieces of one object: a bit each, growing with what is inserted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bitfield {
    words: Vec<u64>,
    len: u32,
}

impl Bitfield {
    pub(crate) fn contains(&self, piece: u32) -> bool {
        self.words.get(piece as usize / 64).is_some_and(|word| word >> (piece % 64) & 1 == 1)
    }

    /// Adds a piece; false if it was there.
    pub(crate) fn insert(&mut self, piece: u32) -> bool {
        let index = piece as usize / 64;
        if self.words.len() <= index {
            self.words.resize(index + 1, 0);
        }
        let bit = 1 << (piece % 64);
        let fresh = self.words[index] & bit == 0;
        self.words[index] |= bit;
        self.len += u32::from(fresh);
        fresh
    }

    /// Adds all that another has.
    pub(crate) fn add(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
        self.len = self.words.iter().map(|word| word.count_ones()).sum();
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn clear(&mut self) {
        self.words.clear();
        self.len = 0;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words
            .iter()
            .zip(0u32..)
            .flat_map(|(word, index)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit))
    }

    /// Adds what a HAVE says, of an object of `count` pieces; false if it names a piece beyond the end.
    pub(crate) fn extend(&mut self, set: &PieceSet, count: u32) -> bool {
        match set {
            PieceSet::All => (0..count).for_each(|piece| {
                self.insert(piece);
            }),
            PieceSet::Some { first, bits } => {
                for (index, byte) in (0u32..).zip(bits) {
                    for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                        match first.checked_add(index * 8 + bit) {
                            Some(piece) if piece < count => self.insert(piece),
                            _ => return false,
                        };
                    }
                }
            }
        }
        true
    }

    /// As a HAVE says it, for an object of `count` pieces.
    pub(crate) fn to_set(&self, count: u32) -> PieceSet {
        if self.len == count {
            return PieceSet::All;
        }
        let bytes = self.words.iter().flat_map(|word| word.to_le_bytes());
        let mut bits: Vec<u8> = bytes.collect();
        while bits.last() == Some(&0) {
            bits.pop();
        }
        PieceSet::Some { first: 0, bits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_survives_the_wire() {
        let mut set = Bitfield::default();
        for piece in [0, 7, 8, 64, 200] {
            assert!(set.insert(piece));
            assert!(!set.insert(piece));
        }
        let mut other = Bitfield::default();
        assert!(other.extend(&set.to_set(201), 201));
        assert_eq!(other, set);
        assert_eq!(other.iter().collect::<Vec<_>>(), [0, 7, 8, 64, 200]);
        assert!(!Bitfield::default().extend(&set.to_set(201), 200), "piece 200 is beyond the end");
    }

    #[test]
    fn a_full_set_is_all() {
        let mut set = Bitfield::default();
        assert!(set.extend(&PieceSet::All, 65));
        assert_eq!((set.len(), set.to_set(65)), (65, PieceSet::All));
    }
}
