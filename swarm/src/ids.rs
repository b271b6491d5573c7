//! Names: what an object, a piece and a video are called, on the wire and between host and core.

use std::fmt;

/// Milliseconds of the host's monotonic clock. Only differences have a meaning.
pub type Millis = u64;

/// Bytes in a piece. The last piece of an object is shorter (never empty).
pub const PIECE_SIZE: u32 = 65_536;

/// Largest object that is exchanged, in bytes (design C4).
pub const MAX_OBJECT_SIZE: u64 = 256 * 1024 * 1024;

/// Largest playlist that is read, in bytes.
pub const MAX_PLAYLIST_SIZE: usize = 16 * 1024 * 1024;

/// Most segments that are read from one playlist.
pub const MAX_SEGMENTS: usize = 100_000;

/// The hash of a whole object, by BLAKE3 (what `b3sum` shows) unless [`HashKind`] says otherwise: its identity.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Root(pub [u8; 32]);

/// Which hash a [`Root`] is, and so what proves an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HashKind {
    /// BLAKE3, of a playlist's tag: the piece list merges to it, and then each piece is proven alone.
    Blake3,
    /// SHA-256, of a hash list beside playlists without tags: it proves nothing less than the whole object.
    Sha256,
}

/// The first 8 bytes of a [`Root`]: the object's name on the wire. The full root always comes from the receiver's own
/// playlist, so a colliding oid can waste bytes but never pass verification.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Oid(pub [u8; 8]);

impl Root {
    /// The wire name of this object.
    pub fn oid(&self) -> Oid {
        let mut oid = [0; 8];
        oid.copy_from_slice(&self.0[..8]);
        Oid(oid)
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({})", data_encoding::HEXLOWER.encode(&self.0[..4]))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oid({})", data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// Number of pieces of an object of `size` bytes: 0 for an empty one.
pub fn piece_count(size: u64) -> u32 {
    u32::try_from(size.div_ceil(u64::from(PIECE_SIZE))).unwrap_or(u32::MAX)
}

/// Bytes in piece `piece` of an object of `size` bytes: 0 beyond its end.
pub fn piece_len(size: u64, piece: u32) -> u32 {
    let start = u64::from(piece) * u64::from(PIECE_SIZE);
    u32::try_from(size.saturating_sub(start).min(u64::from(PIECE_SIZE))).unwrap_or(PIECE_SIZE)
}

/// The announce id: what signaling calls a video (design C6). 32 bytes of `derive_key("marea announce 1", video id)`,
/// so that signaling never learns the video id. `video` is taken as written, never decoded.
pub fn announce_id(video: &str) -> [u8; 32] {
    blake3::derive_key("marea announce 1", video.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_an_object_exactly() {
        for size in [0, 1, 65_535, 65_536, 65_537, 1_000_003, MAX_OBJECT_SIZE] {
            let total: u64 = (0..piece_count(size)).map(|piece| u64::from(piece_len(size, piece))).sum();
            assert_eq!(total, size);
            assert_eq!(piece_len(size, piece_count(size)), 0);
        }
    }
}
