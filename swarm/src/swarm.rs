//! One swarm: everything that viewers of one video exchange.
//!
//! # How a host runs it
//! Call a method with the time, then drain [`Swarm::poll_action`] until `None`, then sleep until [`Swarm::next_timeout`]
//! (and call [`Swarm::timeout`] then) or until something happens. Hidden tabs clamp timers to a second, so deadlines are
//! checked on every call, not only on `timeout`.
//!
//! The host owns bytes: it assembles what arrives into pieces ([`crate::assembly::Assembly`]), reports the hash of each
//! whole piece, and keeps exactly those that come back as [`Action::Keep`].

mod action;

pub use action::{
    Action, Bytes, CloseReason, Fetch, Object, Peer, PeerSetup, PeerStats, Playback, Refused, Request, Source,
};

use crate::{
    config::Config,
    ids::Millis,
    pieces::Cv,
    playlist::{Locator, MediaPlaylist},
    wire::{Frame, PeerKind},
};

/// One swarm. See the module's page for how to run it.
#[derive(Debug)]
pub struct Swarm {}

#[allow(unused_variables)]
impl Swarm {
    /// A swarm of the video with this id (as written). `seed` must be secret and fresh.
    pub fn new(video: &str, kind: PeerKind, config: Config, seed: &[u8; 32], now: Millis) -> Self { todo!() }
    /// What signaling said: our peer id, the salt of claims, viewers and seeders in all.
    pub fn joined(&mut self, now: Millis, peer_id: &str, salt: &[u8], population: u32) { todo!() }
    /// The number of peers changed.
    pub fn population(&mut self, now: Millis, population: u32) { todo!() }
    /// Changes limits while running.
    pub fn set_config(&mut self, now: Millis, config: Config) { todo!() }
    /// Indexes a media playlist; replaces the earlier one of the same URL.
    pub fn playlist(&mut self, now: Millis, playlist: &MediaPlaylist) { todo!() }
    /// The object that a player's request names.
    pub fn object(&self, locator: &Locator) -> Option<Object> { todo!() }
    /// Bytes of an object.
    pub fn size(&self, object: Object) -> u64 { todo!() }
    /// Bytes of an object that are kept.
    pub fn held(&self, object: Object) -> u64 { todo!() }

    /// The player asks for an object that starts at `media_start_ms` on its timeline.
    pub fn request(&mut self, now: Millis, request: Request, locator: &Locator, media_start_ms: f64) -> bool { todo!() }
    /// The player takes it back. Verified pieces stay.
    pub fn cancel(&mut self, now: Millis, request: Request) { todo!() }
    /// The player's state; several times a second and at every seek, pause and change of rate.
    pub fn playback(&mut self, now: Millis, playback: Playback) { todo!() }

    /// A whole-object transfer (from piece 0) that the host began before the swarm was there.
    pub fn adopt(&mut self, now: Millis, fetch: Fetch, object: Object) { todo!() }
    /// Headers are in. `first_piece` is where the body begins: the asked one for a 206, 0 for a 200 (the host restarts
    /// its assembly). A 200 for a byte range of a larger resource is a failure for the host to report (`no-range`).
    pub fn fetch_response(&mut self, now: Millis, fetch: Fetch, first_piece: u32) { todo!() }
    /// Payload bytes arrived.
    pub fn fetch_progress(&mut self, now: Millis, fetch: Fetch, bytes: u32) { todo!() }
    /// A whole piece arrived; `cv` is its hash by [`crate::pieces::hash_piece`].
    pub fn fetch_piece(&mut self, now: Millis, fetch: Fetch, piece: u32, cv: Cv) { todo!() }
    /// The body ended.
    pub fn fetch_end(&mut self, now: Millis, fetch: Fetch) { todo!() }
    /// The transfer failed; `status` is 0 for a network error.
    pub fn fetch_failed(&mut self, now: Millis, fetch: Fetch, status: u16) { todo!() }
    /// A piece list arrived, or `None`.
    pub fn list_fetched(&mut self, now: Millis, fetch: Fetch, list: Option<&[u8]>) { todo!() }

    /// Both channels of a neighbour are open.
    pub fn peer_open(&mut self, now: Millis, peer: Peer, setup: PeerSetup) { todo!() }
    /// Its connection is gone.
    pub fn peer_closed(&mut self, now: Millis, peer: Peer) { todo!() }
    /// A message of its `control` channel.
    pub fn control(&mut self, now: Millis, peer: Peer, bytes: &[u8]) { todo!() }
    /// A message of its `data` channel, decoded by [`crate::wire::decode_frame`]; `len` payload bytes. `Some` if it
    /// belongs to a piece that we asked for and do not have: the host puts it into its assembly.
    pub fn frame(&mut self, now: Millis, peer: Peer, frame: &Frame, len: u32) -> Option<Placement> { todo!() }
    /// A message on the `data` channel that is no FRAME.
    pub fn garbage(&mut self, now: Millis, peer: Peer) { todo!() }
    /// All frames of a piece are in; `cv` is its hash.
    pub fn peer_piece(&mut self, now: Millis, peer: Peer, request: u32, piece: u32, cv: Cv) { todo!() }
    /// Bytes that lie unsent in the `data` channel (its `bufferedAmount`), when it fell low.
    pub fn buffered(&mut self, now: Millis, peer: Peer, bytes: u32) { todo!() }

    /// What to do next; `None` when all is said.
    pub fn poll_action(&mut self) -> Option<Action> { todo!() }
    /// When [`Swarm::timeout`] is to be called.
    pub fn next_timeout(&self) -> Option<Millis> { todo!() }
    /// The time has come.
    pub fn timeout(&mut self, now: Millis) { todo!() }

    /// New neighbours wanted from signaling now.
    pub fn want(&self) -> u32 { todo!() }
    /// Byte counters.
    pub fn bytes(&self) -> Bytes { todo!() }
    /// Pieces that were verified, and things that were refused.
    pub fn integrity(&self) -> (u64, u64) { todo!() }
    /// The neighbours.
    pub fn peers(&self, now: Millis) -> Vec<PeerStats> { todo!() }
    /// Says BYE to every neighbour; the host closes the connections afterwards.
    pub fn leave(&mut self, now: Millis) { todo!() }
}

/// Where a frame belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The object.
    pub object: Object,
    /// Whether this frame completes the piece.
    pub complete: bool,
}
