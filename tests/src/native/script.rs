//! Honest or not: what a peer does beside the protocol, and what bytes it makes of a piece.

use std::sync::Arc;

use bytes::Bytes;
use marea_swarm::{
    PIECE_SIZE,
    pieces::Cv,
    wire::{FRAME_PAYLOAD, Frame, encode_frame},
};

use super::library::{Item, Library};

/// How a peer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Script {
    /// By the book.
    Honest,
    /// Every payload byte is inverted.
    WrongPieces,
    /// Piece lists of the right length that do not merge to the root.
    ForgedList,
    /// The bytes of another piece of the same object.
    WrongPlace,
    /// Playlists with one letter changed.
    ForgedText,
    /// Frames without payload.
    ZeroLength,
    /// The bytes of another object.
    OtherObject,
    /// Half the frames of the first piece that has more than one, then no data ever again.
    HalfPieceThenSilence,
    /// A thousand requests a second, and nothing to give.
    Flood,
    /// Random bytes on both channels.
    Garbage,
    /// A proof with one bit bent.
    WrongProof,
    /// Knows the announce id, as signaling does, but not the video id; asks for pieces without waiting for anything.
    AnnounceOnly,
}

impl Script {
    /// The chaining values that it says an object has.
    pub(super) fn list(self, item: &Item) -> Vec<Cv> {
        let mut list = item.list.clone();
        if self == Self::ForgedList {
            for value in &mut list {
                value[0] ^= 1;
            }
        }
        list
    }

    /// What it says a playlist is.
    pub(super) fn text(self, library: &Library, name: &str) -> Option<String> {
        let text = library.text(name)?;
        Some(if self == Self::ForgedText {
            text.replacen("#EXTINF:", "#EXTINF:1", 1).replacen("BANDWIDTH=", "BANDWIDTH=1", 1)
        } else {
            text.to_owned()
        })
    }

    /// The bytes that it sends as a piece.
    pub(super) fn bytes(self, library: &Library, item: &Arc<Item>, piece: u32, true_bytes: &Bytes) -> Bytes {
        match self {
            Self::WrongPieces => true_bytes.iter().map(|byte| !byte).collect(),
            Self::WrongPlace => {
                // The next piece, or the one before where that is too short.
                let at = (piece + 1) as usize * PIECE_SIZE as usize;
                let at = if at + true_bytes.len() <= item.bytes.len() {
                    Some(at)
                } else {
                    at.checked_sub(2 * PIECE_SIZE as usize)
                };
                at.map_or_else(|| true_bytes.clone(), |at| item.bytes.slice(at..at + true_bytes.len()))
            }
            Self::OtherObject => {
                let fits = |other: &&Arc<Item>| other.root != item.root && other.bytes.len() >= true_bytes.len();
                let other = library.items().find(fits);
                other.map_or_else(|| true_bytes.clone(), |other| other.bytes.slice(..true_bytes.len()))
            }
            _ => true_bytes.clone(),
        }
    }

    /// The messages for the `data` channel that carry a piece.
    pub(super) fn frames(self, request: u32, item: &Item, piece: u32, bytes: &Bytes) -> Vec<Vec<u8>> {
        let frames = bytes.chunks(FRAME_PAYLOAD as usize).zip(0u32..).map(|(payload, at)| {
            let frame = Frame { request, oid: item.root.oid(), piece, offset: at * FRAME_PAYLOAD };
            let payload = if self == Self::ZeroLength { &[] } else { payload };
            [&encode_frame(&frame)[..], payload].concat()
        });
        let count = bytes.len().div_ceil(FRAME_PAYLOAD as usize);
        // A piece of one frame has no half: it is given whole, and silence begins with the next one.
        let halved = self == Self::HalfPieceThenSilence && count > 1;
        frames.take(if halved { count / 2 } else { count }).collect()
    }
}

/// Random bytes of the operating system.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    // A machine without a random source runs no WebRTC either; zeros only make ids collide.
    let _ = getrandom::fill(&mut out);
    out
}
