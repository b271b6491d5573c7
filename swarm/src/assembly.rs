//! Received bytes into whole, hashed pieces. For hosts: the core itself never touches media bytes.
//!
//! Bytes lie here from their arrival until the core says [`crate::Action::Keep`] (then [`Assembly::take`] hands the
//! piece over) or [`crate::Action::Discard`]. Bytes of one piece never mix: everything is filed under its [`Source`]. A
//! buffer grows with what arrived and never from a number that somebody stated.

use crate::{
    ids::{piece_count, piece_len},
    map::Map,
    pieces::{Cv, hash_piece},
    swarm::{Fetch, Peer, Source},
    wire::{FRAME_PAYLOAD, Frame},
};

/// Frames of a full piece.
const FRAMES: usize = (crate::ids::PIECE_SIZE / FRAME_PAYLOAD) as usize;

/// Bytes that arrived and are not verified yet.
#[derive(Debug, Default)]
pub struct Assembly {
    fetches: Map<Fetch, Cursor>,
    pieces: Map<(Source, u32), Piece>,
    /// Sum of the bytes in `pieces`.
    held: usize,
}

/// Where a transfer is.
#[derive(Debug)]
struct Cursor {
    /// Bytes of the object.
    size: u64,
    /// The piece that the next byte belongs to.
    piece: u32,
}

#[derive(Debug)]
enum Piece {
    /// Bytes from its start, of an HTTP transfer.
    Prefix(Vec<u8>),
    /// Frames of a neighbour, in any order; the empty ones are missing.
    Frames([Vec<u8>; FRAMES]),
    /// All of it, hashed.
    Whole(Vec<u8>),
}

/// What [`Assembly::fetch_data`] made of the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct FetchProgress {
    /// Pieces that became whole, in order, with their hashes: for [`crate::Swarm::fetch_piece`].
    pub pieces: Vec<(u32, Cv)>,
    /// Bytes beyond the object's end, thrown away. If there are any, the body is not this object: the host cancels the
    /// transfer and reports it as failed.
    pub excess: usize,
}

impl Assembly {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.held
    }

    /// An HTTP transfer begins, whose body will start at piece `first_piece` of an object of `size` bytes.
    pub fn begin_fetch(&mut self, fetch: Fetch, size: u64, first_piece: u32) {
        self.discard(Source::Fetch(fetch), None);
        self.fetches.insert(fetch, Cursor { size, piece: first_piece });
    }

    /// The server answered with the whole object (200) instead of the asked range: its body starts at piece 0.
    pub fn restart_fetch(&mut self, fetch: Fetch) {
        if let Some(size) = self.fetches.get(&fetch).map(|cursor| cursor.size) {
            self.begin_fetch(fetch, size, 0);
        }
    }

    /// The next bytes of a transfer's body, of any length. Nothing happens for a transfer that was not begun or was
    /// discarded as a whole.
    pub fn fetch_data(&mut self, fetch: Fetch, mut data: &[u8]) -> FetchProgress {
        let mut progress = FetchProgress::default();
        let Some(cursor) = self.fetches.get_mut(&fetch) else {
            return progress;
        };
        while !data.is_empty() {
            let target = piece_len(cursor.size, cursor.piece) as usize;
            if target == 0 {
                progress.excess = data.len();
                break;
            }
            let key = (Source::Fetch(fetch), cursor.piece);
            let piece = self.pieces.get_or_insert_with(key, || Piece::Prefix(Vec::new()));
            let Piece::Prefix(bytes) = piece else {
                break; // Cannot be: the cursor passes a piece when it is whole.
            };
            let (now, rest) = data.split_at(data.len().min(target - bytes.len()));
            append(bytes, now, target);
            self.held += now.len();
            data = rest;
            if bytes.len() == target {
                let cv = hash_piece(bytes, cursor.piece, piece_count(cursor.size));
                *piece = Piece::Whole(std::mem::take(bytes));
                progress.pieces.push((cursor.piece, cv));
                cursor.piece += 1;
            }
        }
        progress
    }

    /// A frame of a neighbour that [`crate::Swarm::frame`] placed, for an object of `size` bytes. The hash of the piece
    /// when this frame makes it whole: for [`crate::Swarm::peer_piece`].
    ///
    /// Frames of a piece may come in any order. One that came before, or whose payload is not exactly what belongs at
    /// its offset (16,384 bytes, or what is left of the piece), is ignored.
    pub fn frame(&mut self, peer: Peer, size: u64, frame: &Frame, payload: &[u8]) -> Option<Cv> {
        let target = piece_len(size, frame.piece);
        let expected = target.saturating_sub(frame.offset).min(FRAME_PAYLOAD) as usize;
        if payload.is_empty() || payload.len() != expected || !frame.offset.is_multiple_of(FRAME_PAYLOAD) {
            return None;
        }
        let key = (Source::Peer(peer, frame.request), frame.piece);
        let piece = self.pieces.get_or_insert_with(key, || Piece::Frames(Default::default()));
        let Piece::Frames(frames) = piece else {
            return None;
        };
        let slot = frames.get_mut((frame.offset / FRAME_PAYLOAD) as usize)?;
        if !slot.is_empty() {
            return None;
        }
        *slot = payload.to_vec();
        self.held += payload.len();
        // Each slot is empty or exactly full, so the sum says whether any is missing.
        if frames.iter().map(Vec::len).sum::<usize>() < target as usize {
            return None;
        }
        let bytes = frames.concat();
        let cv = hash_piece(&bytes, frame.piece, piece_count(size));
        *piece = Piece::Whole(bytes);
        Some(cv)
    }

    /// Hands over a whole piece. `None` if it is not here or not whole.
    pub fn take(&mut self, source: Source, piece: u32) -> Option<Vec<u8>> {
        let key = (source, piece);
        match self.pieces.remove(&key)? {
            Piece::Whole(bytes) => {
                self.held -= bytes.len();
                Some(bytes)
            }
            unfinished => {
                self.pieces.insert(key, unfinished);
                None
            }
        }
    }

    /// Forgets what a source brought: one piece, or everything and the transfer itself.
    pub fn discard(&mut self, source: Source, piece: Option<u32>) {
        let range = piece.map_or(0..=u32::MAX, |piece| piece..=piece);
        let keys = (source, *range.start())..=(source, *range.end());
        while let Some((&key, _)) = self.pieces.range(keys.clone()).next() {
            if let Some(gone) = self.pieces.remove(&key) {
                self.held -= gone.len();
            }
        }
        if let (Source::Fetch(fetch), None) = (source, piece) {
            self.fetches.remove(&fetch);
        }
    }
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Prefix(bytes) | Self::Whole(bytes) => bytes.len(),
            Self::Frames(frames) => frames.iter().map(Vec::len).sum(),
        }
    }
}

/// Appends to a buffer that will never exceed `target` bytes: grows by doubling, as `Vec` does, but never past it.
fn append(bytes: &mut Vec<u8>, more: &[u8], target: usize) {
    let needed = bytes.len() + more.len();
    if needed > bytes.capacity() {
        let capacity = needed.max((bytes.capacity() * 2).min(target));
        bytes.reserve_exact(capacity - bytes.len());
    }
    bytes.extend_from_slice(more);
}

#[cfg(test)]
mod tests;
