//! The browser's engine: [`marea_swarm::Swarm`] and [`marea_swarm::assembly::Assembly`] bound to JavaScript.
//!
//! The binding is thin and holds no policy. `web/src/host.ts` calls a method of [`Engine`] for whatever happens, with
//! `performance.now()`; the engine drains the core's actions into the methods of [`host::Host`] before it returns.
//! Unfinished pieces are put together and hashed here, in wasm memory; verified ones are copied out and kept by the page.

#![allow(unsafe_code)] // what `#[wasm_bindgen]` expands to; nothing here is written by hand

pub mod host;
mod neighbours;

use marea_swarm::{
    Action, Millis, Root, Swarm,
    assembly::Assembly,
    base64url,
    config::Config,
    ids, pieces,
    playlist::{self, ByteRange, Locator, Playlist},
    swarm::{CloseReason, Fetch, Object, Peer, PeerSetup, Playback, Refused, Request, Source},
    tags::{MareaTag, TagError},
    wire::{self, PeerKind},
};
use wasm_bindgen::prelude::*;

use host::Host;
use neighbours::Neighbours;

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

/// What signaling calls a video: unpadded base64url of its announce id.
#[wasm_bindgen(js_name = announceId)]
pub fn announce_id(video: &str) -> String {
    base64url::encode(&ids::announce_id(video))
}

/// BLAKE3 of a text, which a signature is made over.
#[wasm_bindgen]
pub fn hash(text: &str) -> Vec<u8> {
    pieces::hash_piece(text.as_bytes(), 0, 1).to_vec()
}

/// Checks the core's golden vectors; the text says what differs, empty if nothing does.
#[cfg(feature = "self-test")]
#[wasm_bindgen(js_name = selfTest)]
pub fn self_test() -> String {
    marea_swarm::vectors::check().err().unwrap_or_default()
}

/// One swarm in one page. Times are `performance.now()`, in milliseconds.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Engine {
    host: Host,
    swarm: Swarm,
    assembly: Assembly,
    neighbours: Neighbours,
    config: Config,
}

#[wasm_bindgen]
impl Engine {
    /// A swarm of the video with this id (as written). `seed`: 32 fresh random bytes. `memory_limit` in bytes.
    #[wasm_bindgen(constructor)]
    pub fn new(host: Host, video: &str, seed: &[u8], memory_limit: f64, now: f64) -> Self {
        let mut secret = [0; 32];
        for (to, from) in secret.iter_mut().zip(seed) {
            *to = *from;
        }
        let config = Config { memory_limit: memory_limit as u64, ..Config::default() };
        let swarm = Swarm::new(video, PeerKind::Viewer, config.clone(), &secret, millis(now));
        Self { host, swarm, assembly: Assembly::new(), neighbours: Neighbours::default(), config }
    }

    /// What signaling said: our peer id, the salt (as written), viewers and seeders in all.
    pub fn joined(&mut self, now: f64, peer_id: &str, salt: &str, population: u32) {
        self.swarm.joined(millis(now), peer_id, salt.as_bytes(), population);
        self.drain(now);
    }

    /// The number of peers changed.
    pub fn population(&mut self, now: f64, population: u32) {
        self.swarm.population(millis(now), population);
        self.drain(now);
    }

    /// What the page or the viewer decided. `memory_limit` in bytes. `upload_limit` in bits per second and
    /// `max_upload_ratio`: negative leaves the default.
    #[wasm_bindgen(js_name = setLimits)]
    pub fn set_limits(&mut self, now: f64, memory_limit: f64, upload_limit: f64, max_upload_ratio: f64, upload: bool) {
        let defaults = Config::default();
        self.config.memory_limit = memory_limit as u64;
        self.config.upload_limit =
            if upload_limit < 0.0 { defaults.upload_limit } else { Some((upload_limit / 8.0) as u64) };
        self.config.max_upload_ratio =
            if max_upload_ratio < 0.0 { defaults.max_upload_ratio } else { Some(max_upload_ratio) };
        self.config.upload = upload;
        self.swarm.set_config(millis(now), self.config.clone());
        self.drain(now);
    }

    /// Indexes a playlist; answers by [`Host::indexed`].
    pub fn playlist(&mut self, now: f64, url: &str, text: &str) {
        let resolve = |base: &str, reference: &str| self.host.resolve(base, reference);
        match playlist::parse(text, url, &resolve) {
            Ok(Playlist::Multivariant(list)) => {
                self.indexed(1, list.tag.as_ref(), list.tag_error.as_ref(), 0, (0, 0, false));
            }
            Ok(Playlist::Media(mut list)) => {
                // A delta update leaves out what the playlist before it listed.
                let known = || self.swarm.playlist_of(&list.url);
                let complete = list.skipped == 0 || known().is_some_and(|known| list.fill_skipped(known));
                list.add_digests(|locator| {
                    // The size of a whole file is not known before it is here.
                    let ByteRange { start, len } = locator.range?;
                    let digest = self.host.digest(&locator.url, start as f64, (start + len) as f64)?;
                    Some((Root(digest.try_into().ok()?), len))
                });
                let objects = list.locators().count() as u32;
                let counts = (objects, list.segments.len() as u32, list.ended);
                self.indexed(
                    if complete { 2 } else { 3 },
                    list.tag.as_ref(),
                    list.tag_error.as_ref(),
                    list.unusable_tags,
                    counts,
                );
                if complete {
                    self.swarm.playlist(millis(now), &list);
                }
                self.drain(now);
            }
            Err(_) => self.indexed(0, None, None, 0, (0, 0, false)),
        }
    }

    /// The object that a player's request names, -1 if no playlist gives it a hash. `end < 0`: the whole resource.
    pub fn object(&self, url: &str, start: f64, end: f64) -> i32 {
        self.swarm.object(&locator(url, start, end)).map_or(-1, |object| object.0 as i32)
    }

    /// Bytes of an object.
    pub fn size(&self, object: u32) -> f64 {
        self.swarm.size(Object(object)) as f64
    }

    /// Bytes of an object that are here: kept, or on their way by HTTP.
    pub fn arrived(&self, object: u32) -> f64 {
        self.swarm.arrived(Object(object)) as f64
    }

    /// Where the kept bytes of an object came from: HTTP, viewers, mirrors, edge.
    pub fn sources(&self, object: u32) -> Vec<f64> {
        self.swarm.sources(Object(object)).map(|bytes| bytes as f64).into()
    }

    /// The player asks for an object; false if its locator is unknown.
    pub fn request(&mut self, now: f64, request: u32, url: &str, start: f64, end: f64, media_start_ms: f64) -> bool {
        let known = self.swarm.request(millis(now), Request(request), &locator(url, start, end), media_start_ms);
        self.drain(now);
        known
    }

    /// The player takes a request back.
    pub fn cancel(&mut self, now: f64, request: u32) {
        self.swarm.cancel(millis(now), Request(request));
        self.drain(now);
    }

    /// The player's state.
    pub fn playback(&mut self, now: f64, position_ms: f64, rate: f64, playing: bool, buffered_ms: f64, late_ms: f64) {
        self.swarm.playback(millis(now), Playback { position_ms, rate, playing, buffered_ms, late_ms });
        self.drain(now);
    }

    /// Takes over a transfer of a whole object that the page began by itself; returns its name.
    pub fn adopt(&mut self, now: f64, number: u32, object: u32) -> u32 {
        let fetch = Fetch(Fetch::ADOPTED | number);
        self.assembly.begin_fetch(fetch, self.swarm.size(Object(object)), 0);
        self.swarm.adopt(millis(now), fetch, Object(object));
        self.drain(now);
        fetch.0
    }

    /// Headers are in. `restart`: the server sends the whole object though a part was asked. `mirror`: the server is not the
    /// playlist's own.
    #[wasm_bindgen(js_name = fetchResponse)]
    pub fn fetch_response(&mut self, now: f64, fetch: u32, first_piece: u32, restart: bool, mirror: bool) {
        if mirror {
            self.swarm.fetch_mirrored(Fetch(fetch));
        }
        if restart {
            self.assembly.restart_fetch(Fetch(fetch));
        }
        self.swarm.fetch_response(millis(now), Fetch(fetch), first_piece);
        self.drain(now);
    }

    /// Bytes of a body.
    #[wasm_bindgen(js_name = fetchData)]
    pub fn fetch_data(&mut self, now: f64, fetch: u32, bytes: &[u8]) {
        let (at, fetch) = (millis(now), Fetch(fetch));
        let progress = self.assembly.fetch_data(fetch, bytes);
        self.swarm.fetch_progress(at, fetch, bytes.len() as u32);
        for (piece, cv) in progress.pieces {
            self.swarm.fetch_piece(at, fetch, piece, cv);
        }
        if progress.excess > 0 {
            self.swarm.fetch_overrun(at, fetch);
        }
        self.drain(now);
    }

    /// A body ended.
    #[wasm_bindgen(js_name = fetchEnd)]
    pub fn fetch_end(&mut self, now: f64, fetch: u32) {
        self.swarm.fetch_end(millis(now), Fetch(fetch));
        self.drain(now);
    }

    /// A transfer failed; `status` 0 is a network error. `elsewhere`: there is another place to fetch it from.
    #[wasm_bindgen(js_name = fetchFailed)]
    pub fn fetch_failed(&mut self, now: f64, fetch: u32, status: u16, elsewhere: bool) {
        if elsewhere {
            self.swarm.fetch_lost(millis(now), Fetch(fetch));
        } else {
            self.swarm.fetch_failed(millis(now), Fetch(fetch), status);
        }
        self.drain(now);
    }

    /// The SHA-256 of the object that [`Host::check`] named.
    pub fn checked(&mut self, now: f64, check: u32, digest: &[u8]) {
        self.swarm.checked(millis(now), check, digest);
        self.drain(now);
    }

    /// A piece list arrived; an empty one stands for none. False if it is a wrong one.
    #[wasm_bindgen(js_name = listFetched)]
    pub fn list_fetched(&mut self, now: f64, fetch: u32, list: &[u8]) -> bool {
        let fits = self.swarm.list_fetched(millis(now), Fetch(fetch), (!list.is_empty()).then_some(list));
        self.drain(now);
        fits
    }

    /// A neighbour's description, checked and without the candidates that may not be tried; `undefined` if it is
    /// refused. `near`: signaling saw it behind our own public address.
    #[wasm_bindgen(js_name = checkSdp)]
    pub fn check_sdp(&mut self, peer: u32, near: bool, sdp: &str) -> Option<String> {
        self.neighbours.check_sdp(peer, near, sdp)
    }

    /// Whether a candidate that trickled in may be tried.
    #[wasm_bindgen(js_name = checkCandidate)]
    pub fn check_candidate(&mut self, peer: u32, near: bool, candidate: &str) -> bool {
        self.neighbours.check_candidate(peer, near, candidate)
    }

    /// Both channels of a neighbour are open. False (and nothing happened) if one of the two descriptions does not name
    /// exactly one certificate.
    #[wasm_bindgen(js_name = peerOpen)]
    pub fn peer_open(
        &mut self,
        now: f64,
        peer: u32,
        id: String,
        offerer: bool,
        local_sdp: &str,
        remote_sdp: &str,
    ) -> bool {
        use marea_swarm::{proof::Role, sdp::check_sdp};
        let (Ok(local_fingerprint), Ok(remote_fingerprint)) = (check_sdp(local_sdp), check_sdp(remote_sdp)) else {
            return false;
        };
        let role = if offerer { Role::Offerer } else { Role::Answerer };
        let setup = PeerSetup { id, role, local_fingerprint, remote_fingerprint };
        self.swarm.peer_open(millis(now), Peer(peer), setup);
        self.drain(now);
        true
    }

    /// A neighbour's connection is gone, or was never made.
    #[wasm_bindgen(js_name = peerClosed)]
    pub fn peer_closed(&mut self, now: f64, peer: u32) {
        self.neighbours.forget(peer);
        self.swarm.peer_closed(millis(now), Peer(peer));
        self.drain(now);
    }

    /// A message of the `control` channel.
    pub fn control(&mut self, now: f64, peer: u32, bytes: &[u8]) {
        self.swarm.control(millis(now), Peer(peer), bytes);
        self.drain(now);
    }

    /// A message of the `data` channel.
    pub fn data(&mut self, now: f64, peer: u32, bytes: &[u8]) {
        let (at, peer) = (millis(now), Peer(peer));
        match wire::decode_frame(bytes) {
            Ok((frame, payload)) => {
                if let Some(placement) = self.swarm.frame(at, peer, &frame, payload.len() as u32)
                    && let Some(cv) = self.assembly.frame(peer, placement.size, &frame, payload)
                {
                    self.swarm.peer_piece(at, peer, frame.request, frame.piece, cv);
                }
            }
            Err(_) => self.swarm.garbage(at, peer),
        }
        self.drain(now);
    }

    /// Bytes that lie unsent in the `data` channel, when they have become few.
    pub fn buffered(&mut self, now: f64, peer: u32, bytes: u32) {
        self.swarm.buffered(millis(now), Peer(peer), bytes);
        self.drain(now);
    }

    /// Looks for a signed playlist at the neighbours; again: what they gave is of no use.
    #[wasm_bindgen(js_name = wantText)]
    pub fn want_text(&mut self, now: f64, name: &str) {
        self.swarm.want_text(millis(now), name);
        self.drain(now);
    }

    /// It is here, or not wanted any more.
    #[wasm_bindgen(js_name = settleText)]
    pub fn settle_text(&mut self, name: &str) {
        self.swarm.settle_text(name);
    }

    /// What the neighbour asked for that [`Host::text_asked`] named; empty if there is none.
    #[wasm_bindgen(js_name = giveText)]
    pub fn give_text(&mut self, now: f64, peer: u32, name: &str, text: &str) {
        self.swarm.give_text(millis(now), Peer(peer), name, Some(text.as_bytes()));
        self.drain(now);
    }

    /// When [`Engine::timeout`] is to be called; negative for never.
    #[wasm_bindgen(js_name = nextTimeout)]
    pub fn next_timeout(&self) -> f64 {
        self.swarm.next_timeout().map_or(-1.0, |at| at as f64)
    }

    /// The time has come.
    pub fn timeout(&mut self, now: f64) {
        self.swarm.timeout(millis(now));
        self.drain(now);
    }

    /// New neighbours wanted now.
    pub fn want(&self) -> u32 {
        self.swarm.want()
    }

    /// Counters: http, viewers, mirrors, edge, uploaded, wasted, prefetched (bytes); pieces verified, things refused;
    /// bytes of unfinished pieces.
    pub fn counters(&self) -> Vec<f64> {
        let bytes = self.swarm.bytes();
        let (verified, rejected) = self.swarm.integrity();
        [
            bytes.http,
            bytes.viewers,
            bytes.mirrors,
            bytes.edge,
            bytes.uploaded,
            bytes.wasted,
            bytes.prefetched,
            verified,
            rejected,
            self.assembly.bytes() as u64,
        ]
        .map(|count| count as f64)
        .into()
    }

    /// The neighbours, each told by [`Host::peer`].
    pub fn peers(&self, now: f64) {
        for peer in self.swarm.peers(millis(now)) {
            let kind = match peer.kind {
                PeerKind::Viewer => 0,
                PeerKind::Mirror => 1,
                PeerKind::Edge => 2,
            };
            self.host.peer(
                peer.peer.0,
                kind,
                peer.open,
                peer.rtt_ms,
                peer.download_rate,
                peer.upload_rate,
                peer.pieces as f64,
            );
        }
    }

    /// Says BYE to every neighbour; the page closes the connections afterwards.
    pub fn leave(&mut self, now: f64) {
        self.swarm.leave(millis(now));
        self.drain(now);
    }
}

impl Engine {
    fn indexed(
        &self,
        kind: u32,
        tag: Option<&MareaTag>,
        error: Option<&TagError>,
        unusable: u32,
        (objects, segments, ended): (u32, u32, bool),
    ) {
        let problem = match error {
            Some(TagError::PlaylistVersion) => 2,
            Some(_) => 1,
            None => u32::from(unusable > 0),
        };
        let video = tag.map(|tag| tag.video.clone());
        let signaling = tag.and_then(|tag| tag.signaling.clone());
        let complete = tag.is_none_or(|tag| tag.complete);
        self.host.indexed(kind, video, signaling, complete, problem, objects, segments, ended);
    }

    fn drain(&mut self, now: f64) {
        while let Some(action) = self.swarm.poll_action() {
            self.perform(millis(now), action);
        }
    }

    fn perform(&mut self, now: Millis, action: Action) {
        let host = &self.host;
        match action {
            Action::Fetch { fetch, object, url, start, end, ranged, reload, first_piece } => {
                let size = self.swarm.size(object);
                self.assembly.begin_fetch(fetch, size, first_piece);
                let (start, end, size) = (start as f64, end as f64, size as f64);
                host.fetch(fetch.0, object.0, &url, start, end, ranged, reload, first_piece, size);
            }
            Action::FetchList { fetch, url, start, len, ranged, .. } => {
                host.fetch_list(fetch.0, &url, start as f64, len, ranged);
            }
            Action::AbortFetch { fetch } => host.abort_fetch(fetch.0),
            Action::SendControl { peer, bytes } => host.send_control(peer.0, &bytes),
            Action::SendFrame { peer, header, object, piece, offset, len } => {
                let unsent = host.send_frame(peer.0, &header, object.0, piece, offset, len);
                self.swarm.buffered(now, peer, unsent);
            }
            Action::Keep { source, object, piece } => {
                if let Some(bytes) = self.assembly.take(source, piece) {
                    host.keep(object.0, piece, bytes);
                }
            }
            Action::Discard { source, piece } => self.assembly.discard(source, piece),
            Action::Evict { object } => host.evict(object.0),
            Action::Deliver { request, object } => host.deliver(request.0, object.0),
            Action::DeliverUnverified { request, fetch } => host.deliver_unverified(request.0, fetch.0),
            Action::OriginDiffers { object } => host.origin_differs(object.0),
            Action::Check { object, size, check } => host.check(object.0, size as f64, check),
            Action::Fail { request, status } => host.fail(request.0, status.into()),
            Action::Close { peer, reason } => host.close(peer.0, reason.banned(), close_reason(reason)),
            Action::ReloadPlaylist { url } => host.reload_playlist(&url),
            Action::Text { name, text } => host.text(&name, &text),
            Action::TextAsked { peer, name } => host.text_asked(peer.0, &name),
            Action::Refused { source, object, what } => {
                let what = match what {
                    Refused::Piece => 0,
                    Refused::List => 1,
                    Refused::Object => 2,
                };
                host.refused(what, object.0, peer_of(source));
            }
            // The core's enum is open for later editions; what this binding does not know, it does not do.
            _ => {}
        }
    }
}

/// Clock readings are never negative; a fraction of a millisecond does not matter.
fn millis(now: f64) -> Millis {
    now as u64
}

fn locator(url: &str, start: f64, end: f64) -> Locator {
    let range = (end >= start).then_some(ByteRange { start: start as u64, len: (end - start) as u64 });
    Locator { url: url.to_owned(), range }
}

/// A peer, or -1 less the number of a transfer.
fn peer_of(source: Source) -> f64 {
    match source {
        Source::Fetch(fetch) => -1.0 - f64::from(fetch.0),
        Source::Peer(peer, _) => f64::from(peer.0),
    }
}

/// For people and logs.
fn close_reason(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Left => "left",
        CloseReason::Dead => "dead",
        CloseReason::Surplus => "surplus",
        CloseReason::NoHello => "no-hello",
        CloseReason::WrongProof => "wrong-proof",
        CloseReason::Garbage => "garbage",
        CloseReason::Flood => "flood",
        CloseReason::WrongPiece => "wrong-piece",
        CloseReason::WrongList => "wrong-list",
        CloseReason::Version => "version",
        _ => "other",
    }
}
