//! The messages between peers (design §5, `docs/protocol.md`): their types. [`codec`] turns them into bytes and back.

mod codec;

pub use codec::{
    CONTROL_HEADER_LEN, DecodeError, FRAME_HEADER_LEN, decode_control, decode_frame, encode_control, encode_frame,
};

use crate::ids::{MAX_OBJECT_SIZE, Oid, PIECE_SIZE};

/// Highest wire version spoken here, and the lowest still understood.
pub const WIRE_VERSIONS: std::ops::RangeInclusive<u8> = 1..=1;

/// Most payload bytes in one FRAME: a piece is exactly four full frames.
pub const FRAME_PAYLOAD: u32 = 16_384;

/// Pieces of the largest object: no piece number reaches it.
pub const MAX_PIECES: u32 = (MAX_OBJECT_SIZE / PIECE_SIZE as u64) as u32;

/// Largest control message, in bytes, its header included. A list of the largest object (4,096 pieces, 128 KiB) and a signed playlist travel
/// in parts below this.
pub const MAX_CONTROL_LEN: usize = 65_536;

/// Most chaining values in one LIST message.
pub const MAX_LIST_ITEMS: usize = 1_024;

/// Longest bitmap of a HAVE, in bytes: every piece of the largest object.
pub const MAX_BITMAP_LEN: usize = MAX_PIECES as usize / 8;

/// Longest playlist name in TEXT_GET and TEXT, in bytes of UTF-8.
pub const MAX_NAME_LEN: usize = 1_024;

/// Most bytes of a playlist in one TEXT.
pub const MAX_TEXT_PART: usize = 32 * 1_024;

/// Most times that a claim is passed on: ten viewers are known to each, so 6 steps would reach a million.
pub const MAX_HOPS: u8 = 8;

/// Most pieces of one REQUEST.
pub const MAX_REQUEST_PIECES: u32 = 256;

/// What a peer is. A claim: it decides in which column its bytes are counted, never what is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// A browser that watches.
    Viewer,
    /// A volunteer's always-on seeder.
    Mirror,
    /// The site's own seeder.
    Edge,
}

/// First message of both sides; nothing else is read before it is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest and highest wire version the sender speaks; both use the highest common one.
    pub versions: (u8, u8),
    /// What the sender is.
    pub kind: PeerKind,
    /// Fresh random bytes of this connection.
    pub nonce: [u8; 16],
    /// See [`crate::proof`].
    pub proof: [u8; 32],
}

/// Which pieces of an object are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PieceSet {
    /// Every piece.
    All,
    /// Pieces `first + i` for every set bit `i` (bit 0 is the lowest bit of `bits[0]`).
    Some {
        /// Piece of bit 0.
        first: u32,
        /// The bitmap, 1 to [`MAX_BITMAP_LEN`] bytes; no set bit names a piece beyond [`MAX_PIECES`].
        bits: Vec<u8>,
    },
}

/// A message of the ordered `control` channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// See [`Hello`].
    Hello(Hello),
    /// What the sender can do now. Sent after HELLO and whenever it changes.
    Status {
        /// Whether requests will be answered.
        uploads: bool,
        /// The sender's own uplink in bytes per second, 0 if unknown: weighs claims, earns nothing.
        uplink: u32,
    },
    /// The sender has these pieces, verified, beyond what it said before.
    Have {
        /// The object.
        oid: Oid,
        /// Pieces that are now held.
        pieces: PieceSet,
    },
    /// The sender no longer has anything of this object.
    Drop {
        /// The object.
        oid: Oid,
    },
    /// The claimant is fetching these pieces by HTTP and will announce them: others wait.
    Claim {
        /// The object.
        oid: Oid,
        /// First piece.
        first: u32,
        /// Number of pieces.
        count: u16,
        /// Names the claim: random, so that a forwarded copy is known.
        nonce: u32,
        /// Time until it lapses, in milliseconds.
        ttl_ms: u32,
        /// 0 from the claimant itself, one more from each that passes it on, up to [`MAX_HOPS`].
        hops: u8,
    },
    /// A claim is given up: its fetch failed.
    Unclaim {
        /// The object.
        oid: Oid,
        /// First piece.
        first: u32,
        /// Nonce of the claim.
        nonce: u32,
        /// As in [`Control::Claim`].
        hops: u8,
    },
    /// Asks for the piece list of an object.
    ListGet {
        /// The object.
        oid: Oid,
    },
    /// Part of a piece list: chaining values `first..first + values.len()` of `total`.
    List {
        /// The object.
        oid: Oid,
        /// Number of pieces of the object; 0 says that the sender has no list.
        total: u32,
        /// Piece of the first value.
        first: u32,
        /// At most [`MAX_LIST_ITEMS`]; empty only if `total` is 0.
        values: Vec<[u8; 32]>,
    },
    /// Asks for pieces.
    Request {
        /// Chosen by the asker, unique among its open requests.
        id: u32,
        /// The object.
        oid: Oid,
        /// First piece.
        first: u32,
        /// Number of pieces, at most [`MAX_REQUEST_PIECES`].
        count: u32,
        /// Milliseconds after which the answer is of no use.
        deadline_ms: u32,
    },
    /// Takes a request back.
    Cancel {
        /// The request.
        id: u32,
    },
    /// A request that will not be answered (queue full, not held, uploads off).
    Busy {
        /// The request.
        id: u32,
        /// When asking again makes sense, in milliseconds.
        retry_ms: u32,
    },
    /// Asks for a signed playlist by its NAME (path relative to the multivariant playlist; empty for that itself).
    TextGet {
        /// At most [`MAX_NAME_LEN`] bytes.
        name: String,
    },
    /// Part of a signed playlist, as delivered.
    Text {
        /// As asked.
        name: String,
        /// Bytes of the whole text; 0 says that the sender has none.
        total: u32,
        /// Offset of `part`.
        offset: u32,
        /// At most [`MAX_TEXT_PART`] bytes; empty only if `total` is 0.
        part: Vec<u8>,
    },
    /// Round-trip probe.
    Ping {
        /// Echoed in the reply.
        nonce: u32,
        /// False for the question, true for its echo.
        reply: bool,
    },
    /// The sender leaves.
    Bye {
        /// Why; unknown values are plain leaving.
        reason: u8,
    },
}

/// The header of a message on the unordered `data` channel; the rest of the message is payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The request it answers.
    pub request: u32,
    /// The object.
    pub oid: Oid,
    /// The piece.
    pub piece: u32,
    /// Where in the piece the payload starts: a multiple of [`FRAME_PAYLOAD`].
    pub offset: u32,
}
