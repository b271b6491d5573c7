//! What goes in and out of a [`super::Swarm`]: handles, actions, the player's state.

use crate::{
    proof::Role,
    wire::{FRAME_HEADER_LEN, PeerKind},
};

/// An object of this swarm: a dense index from 0, never reused. Equal bytes are one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object(pub u32);

/// A neighbour's connection, named by the host and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer(pub u32);

/// An HTTP transfer. The core counts up from 0; a host that adopts its own transfer counts from [`Fetch::ADOPTED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fetch(pub u32);

impl Fetch {
    /// First number of transfers that the host began by itself.
    pub const ADOPTED: u32 = 1 << 31;
}

/// A player's load, named by the host and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Request(pub u32);

/// Where a piece comes from. All frames of a piece have one source, so blame is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// An HTTP transfer.
    Fetch(Fetch),
    /// A neighbour's answer to the REQUEST of this id.
    Peer(Peer, u32),
}

/// A new neighbour: both data channels are open.
#[derive(Clone, Debug)]
pub struct PeerSetup {
    /// Its id at signaling.
    pub id: String,
    /// Which side of offer and answer *this* peer was.
    pub role: Role,
    /// SHA-256 fingerprint of our DTLS certificate, from our SDP.
    pub local_fingerprint: [u8; 32],
    /// The neighbour's, from its SDP.
    pub remote_fingerprint: [u8; 32],
}

/// The player's state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Playback {
    /// Playhead, in milliseconds of the player's timeline.
    pub position_ms: f64,
    /// Playback rate; 1.0 is normal.
    pub rate: f64,
    /// Whether the playhead moves (or would, if it had media).
    pub playing: bool,
    /// Media buffered ahead of the playhead, in milliseconds.
    pub buffered_ms: f64,
    /// How late the host's timers come of late, in milliseconds. Where the machine has no time, all that it measures is slow,
    /// and connections cost more of what it lacks than HTTP does.
    pub late_ms: f64,
}

/// Why a neighbour is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The host or the neighbour left.
    Left,
    /// No sign of life.
    Dead,
    /// Too many neighbours.
    Surplus,
    /// HELLO did not come in time.
    NoHello,
    /// Banned: HELLO with a wrong proof.
    WrongProof,
    /// Banned: a message that is none, or one that the protocol forbids.
    Garbage,
    /// Banned: more requests or control bytes than anybody needs.
    Flood,
    /// Banned: a piece that missed its hash.
    WrongPiece,
    /// Banned: a piece list that does not merge to the root.
    WrongList,
    /// No wire version in common.
    Version,
}

impl CloseReason {
    /// Whether the peer is not to be met again.
    pub fn banned(self) -> bool {
        matches!(self, Self::WrongProof | Self::Garbage | Self::Flood | Self::WrongPiece | Self::WrongList)
    }
}

/// What the host is to do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// GET bytes of an object. Report [`super::Swarm::fetch_response`], `fetch_progress`, `fetch_piece`, then `fetch_end`
    /// or `fetch_failed`. Begin an assembly at `first_piece`.
    Fetch {
        /// Its name.
        fetch: Fetch,
        /// The object.
        object: Object,
        /// Absolute URL.
        url: String,
        /// First byte of the resource (of the resource, not of the object).
        start: u64,
        /// One past the last byte.
        end: u64,
        /// Whether a `Range` header is needed; else the whole resource is wanted.
        ranged: bool,
        /// Bypass caches, and keep the body as it comes for [`Action::DeliverUnverified`]: an earlier copy missed its hash.
        reload: bool,
        /// Piece that begins at `start`.
        first_piece: u32,
    },
    /// GET a piece list: bytes `start..start + len` of `url` (the `.pieces` URL); the whole if not `ranged`.
    /// Report [`super::Swarm::list_fetched`].
    FetchList {
        /// Its name.
        fetch: Fetch,
        /// The object.
        object: Object,
        /// Absolute URL, `.pieces` appended to the path.
        url: String,
        /// First byte.
        start: u64,
        /// Bytes wanted.
        len: u32,
        /// Whether a `Range` header is needed.
        ranged: bool,
    },
    /// Cancel this transfer (media or list): what it brings is not wanted any more. Nothing more is reported of it.
    AbortFetch {
        /// The transfer.
        fetch: Fetch,
    },
    /// Send a message on the `control` channel.
    SendControl {
        /// To whom.
        peer: Peer,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Send a message on the `data` channel: `header`, then `len` bytes of the kept piece from `offset`.
    SendFrame {
        /// To whom.
        peer: Peer,
        /// FRAME header.
        header: [u8; FRAME_HEADER_LEN],
        /// The object.
        object: Object,
        /// The piece.
        piece: u32,
        /// Offset in the piece.
        offset: u32,
        /// Payload bytes.
        len: u32,
    },
    /// This piece is verified: move it from the assembly to the store.
    Keep {
        /// Who brought it.
        source: Source,
        /// The object.
        object: Object,
        /// The piece.
        piece: u32,
    },
    /// Forget what this source brought: one piece, or everything of that transfer or request.
    Discard {
        /// Who brought it.
        source: Source,
        /// The piece; `None` for all.
        piece: Option<u32>,
    },
    /// Free the kept pieces of this object.
    Evict {
        /// The object.
        object: Object,
    },
    /// Every piece of the object is kept: hand a copy to the player. (The origin's own word, if it missed a SHA-256 twice: then
    /// an `Evict` follows.)
    Deliver {
        /// The player's load.
        request: Request,
        /// The object.
        object: Object,
    },
    /// The playlist's own origin says these are the bytes although the hash differs, twice: hand the body of this transfer
    /// (begun with `reload`) to the player, as it came and however long. It is never shared. A `Discard` follows.
    DeliverUnverified {
        /// The player's load.
        request: Request,
        /// The transfer that brought the whole object.
        fetch: Fetch,
    },
    /// Every piece of the object is kept, but only its SHA-256 can say whether they are right: report
    /// [`super::Swarm::checked`] of the bytes that are kept now.
    Check {
        /// The object.
        object: Object,
        /// Bytes of it.
        size: u64,
        /// Name of this question.
        check: u32,
    },
    /// HTTP failed and no peer can help: the player decides by its own retry rules.
    Fail {
        /// The player's load.
        request: Request,
        /// HTTP status; 0 for a network error.
        status: u16,
    },
    /// Close this connection.
    Close {
        /// Whom.
        peer: Peer,
        /// Why; see [`CloseReason::banned`].
        reason: CloseReason,
    },
    /// Two copies from the origin missed the hash: from now on this object goes by HTTP alone (`origin-hash-mismatch`).
    OriginDiffers {
        /// The object.
        object: Object,
    },
    /// A neighbour named an object that no playlist names: the playlist has moved on. Re-read it (at most once a second).
    ReloadPlaylist {
        /// Its URL.
        url: String,
    },
    /// A playlist that [`super::Swarm::want_text`] asked for, as a neighbour gave it. If its signature fits, answer
    /// [`super::Swarm::settle_text`], else `want_text` again: the next neighbour is asked.
    Text {
        /// Its NAME.
        name: String,
        /// Whatever the neighbour says it is. Empty: no neighbour is left to be asked; newcomers will be.
        text: Vec<u8>,
    },
    /// A neighbour asks for a signed playlist: answer by [`super::Swarm::give_text`].
    TextAsked {
        /// Who asks.
        peer: Peer,
        /// The NAME.
        name: String,
    },
    /// Something missed its hash and was thrown away.
    Refused {
        /// Who brought it.
        source: Source,
        /// The object.
        object: Object,
        /// What was wrong.
        what: Refused,
    },
}

/// What missed its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// One piece.
    Piece,
    /// A piece list.
    List,
    /// The whole object, as the origin delivers it.
    Object,
}

/// Counters of payload bytes of media objects (design C3 `stats().bytes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// From the playlist's own host.
    pub http: u64,
    /// From viewers.
    pub viewers: u64,
    /// From mirrors.
    pub mirrors: u64,
    /// From the site's seeder over WebRTC.
    pub edge: u64,
    /// Sent to peers.
    pub uploaded: u64,
    /// Arrived but not used: duplicates, refused, cancelled.
    pub wasted: u64,
    /// Verified and not yet asked for by the player.
    pub prefetched: u64,
}

/// One neighbour, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerStats {
    /// The connection.
    pub peer: Peer,
    /// Its id at signaling.
    pub id: String,
    /// What it says it is.
    pub kind: PeerKind,
    /// HELLO was right.
    pub open: bool,
    /// Smoothed round trip, in milliseconds.
    pub rtt_ms: f64,
    /// Bytes per second from it, over the last seconds.
    pub download_rate: f64,
    /// Bytes per second to it.
    pub upload_rate: f64,
    /// Verified pieces that it brought.
    pub pieces: u64,
}

/// Where a frame belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The object.
    pub object: Object,
    /// Bytes of the object.
    pub size: u64,
    /// Whether this frame completes the piece.
    pub complete: bool,
}
