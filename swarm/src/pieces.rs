//! Pieces of an object and their BLAKE3 chaining values.
//!
//! An object is cut into pieces of 64 KiB ([`PIECE_SIZE`]). Each piece is a complete subtree of the object's BLAKE3
//! tree, so the chaining values of all pieces, the *piece list*, merge to the plain BLAKE3 root of the object. A
//! receiver checks the list once against the root from its own playlist, and then each piece alone, in any order.
//!
//! A chaining value depends on where the piece lies in the object: the right bytes at a wrong place miss it.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::ids::{PIECE_SIZE, Root, piece_count};

/// What one piece hashes to: its BLAKE3 chaining value, or the root hash itself if the object has only one piece.
pub type Cv = [u8; 32];

/// Bytes of one [`Cv`].
const CV_LEN: usize = 32;

/// The hash of piece `piece` of an object of `count` pieces. `bytes` is the whole piece (1 to 65,536 bytes; more are
/// hashed too and just never fit a list).
pub fn hash_piece(bytes: &[u8], piece: u32, count: u32) -> Cv {
    // An empty or overlong subtree has no chaining value (`hazmat` would panic). The plain hash stands in: it is no
    // subtree's chaining value, so it never passes for a piece of a list.
    if count <= 1 || bytes.is_empty() || bytes.len() > PIECE_SIZE as usize {
        return *blake3::hash(bytes).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(u64::from(piece) * u64::from(PIECE_SIZE));
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// The root that a whole piece list merges to. `None` for an empty list; the value itself for a list of one.
pub fn merge(list: &[Cv]) -> Option<Root> {
    match list {
        [] => None,
        [only] => Some(Root(*only)),
        _ => Some(merge_several(list)),
    }
}

/// The same for at least two values.
fn merge_several(list: &[Cv]) -> Root {
    let (left, right) = list.split_at(left_len(list.len()));
    Root(*merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes())
}

/// Chaining value over the pieces of a non-empty part of a list. The recursion is as deep as the tree: at most 32.
fn subtree(list: &[Cv]) -> ChainingValue {
    if let [only] = list {
        return *only;
    }
    let (left, right) = list.split_at(left_len(list.len()));
    merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}

/// Leaves of the left half of a BLAKE3 tree of `leaves` (at least 2): the largest power of two below it.
fn left_len(leaves: usize) -> usize {
    1 << (leaves - 1).ilog2()
}

/// What [`check_list`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum ListCheck {
    /// The list is the object's: each piece may be checked against it.
    Fits,
    /// It has another length or merges to another root. Whoever sent it lied or serves other bytes.
    Refused,
}

/// Whether `list` is the piece list of the object with this size and root.
pub fn check_list(list: &[Cv], size: u64, root: Root) -> ListCheck {
    let length_fits = u32::try_from(list.len()) == Ok(piece_count(size));
    if length_fits && merge(list) == Some(root) { ListCheck::Fits } else { ListCheck::Refused }
}

/// Reads a piece list as it lies in a `.pieces` file: 32-byte values and nothing else. `None` for any other length.
pub fn list_from_bytes(bytes: &[u8]) -> Option<Vec<Cv>> {
    let (values, []) = bytes.as_chunks::<CV_LEN>() else {
        return None;
    };
    Some(values.to_vec())
}

/// Writes a piece list as it lies in a `.pieces` file.
pub fn list_to_bytes(list: &[Cv]) -> Vec<u8> {
    list.concat()
}

/// What [`ObjectHasher::finish`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashedObject {
    /// Bytes in all.
    pub size: u64,
    /// The BLAKE3 root, as `b3sum` shows it.
    pub root: Root,
    /// One value per piece. Empty for an empty object; for one of one piece it holds the root, and no `.pieces` file is
    /// written (design C4).
    pub list: Vec<Cv>,
}

/// Hashes an object that arrives in parts of any length, in order.
#[derive(Debug, Default)]
pub struct ObjectHasher {
    /// The piece that is being filled.
    piece: blake3::Hasher,
    /// Bytes in it, at most [`PIECE_SIZE`].
    filled: u32,
    /// Values of the full pieces before it.
    list: Vec<Cv>,
    size: u64,
}

impl ObjectHasher {
    /// A hasher that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // A full piece is closed only when more follows: the only piece of an object hashes as a root.
            if self.filled == PIECE_SIZE {
                self.list.push(self.piece.finalize_non_root());
                // Not `reset`, which keeps the offset.
                self.piece = blake3::Hasher::new();
                self.piece.set_input_offset(self.size);
                self.filled = 0;
            }
            let room = (PIECE_SIZE - self.filled) as usize;
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.piece.update(now);
            self.filled += now.len() as u32;
            self.size += now.len() as u64;
            bytes = rest;
        }
    }

    /// Closes the object.
    pub fn finish(self) -> HashedObject {
        let Self { piece, mut list, size, .. } = self;
        if list.is_empty() {
            let root = Root(*piece.finalize().as_bytes());
            return HashedObject { size, root, list: if size == 0 { Vec::new() } else { vec![root.0] } };
        }
        list.push(piece.finalize_non_root());
        HashedObject { size, root: merge_several(&list), list }
    }
}

#[cfg(test)]
mod tests;
