//! One swarm: everything that viewers of one video exchange.
//!
//! # How a host runs it
//! Call a method with the time, then drain [`Swarm::poll_action`] until `None`, then sleep until [`Swarm::next_timeout`]
//! (and call [`Swarm::timeout`] then) or until something happens. Hidden tabs clamp timers to a second, so deadlines are
//! checked on every call, not only on `timeout`.
//!
//! The host owns bytes: it assembles what arrives into pieces ([`crate::assembly::Assembly`]), reports the hash of each
//! whole piece, and keeps exactly those that come back as [`Action::Keep`].
//!
//! | file | what it decides |
//! |---|---|
//! | `schedule.rs` | what is wanted, when, and whether peers or HTTP bring it |
//! | `http.rs` | transfers, and what happens when the origin's bytes miss their hash |
//! | `peers.rs` | the control channel, requests to neighbours, blame |
//! | `uploads.rs` | answers to neighbours' requests |
//! | `claims.rs` | who fetches the first copy |
//! | `lists.rs` | piece lists |
//! | `texts.rs` | signed playlists |
//! | `disk.rs` | objects that the host has without fetching them |
//! | `whole.rs` | objects that only the hash of all their bytes proves |

mod action;
mod bitfield;
mod claims;
mod disk;
mod estimate;
mod http;
mod lists;
mod neighbour;
mod object;
mod peers;
mod schedule;
mod texts;
mod uploads;
mod whole;

use std::collections::VecDeque;

pub use action::{
    Action, Bytes, CloseReason, Fetch, Object, Peer, PeerSetup, PeerStats, Placement, Playback, Refused, Request,
    Source,
};

use self::{
    bitfield::Bitfield,
    estimate::{HttpSpeed, Spread, Uplink},
    http::Transfer,
    neighbour::Neighbour,
    object::{Entry, Objects, Place, Track},
};
use crate::{
    config::{self, Config},
    ids::Millis,
    map::Map,
    playlist::{self, Locator, MediaPlaylist, ObjectRef},
    proof,
    rng::Rng,
    wire::{Control, PeerKind, encode_control},
};

/// One swarm. See the module's page for how to run it.
#[derive(Debug)]
pub struct Swarm {
    config: Config,
    kind: PeerKind,
    key: [u8; 32],
    rng: Rng,
    now: Millis,
    /// When the schedule is to be looked at again.
    due: Millis,
    actions: VecDeque<Action>,

    /// Our id at signaling; empty before `joined`.
    me: String,
    salt: Vec<u8>,
    /// What fixes our rank among claimers.
    draw_key: u64,
    population: u32,

    objects: Objects,
    requests: Map<Request, Wanted>,
    playback: Playback,
    /// Where the player will begin: the first point that it asked for since it has nothing to play. A live stream begins
    /// far from 0, where the playhead stands until the first segment is there.
    beginning: Option<f64>,
    /// Pieces to announce.
    news: Map<Object, Bitfield>,
    reloaded: Millis,
    /// When the playlist is to be re-read because a neighbour is ahead of it.
    reload_at: Option<Millis>,

    transfers: Map<Fetch, Transfer>,
    next_fetch: u32,
    http: HttpSpeed,
    /// Transfers that failed since one brought a byte.
    http_failures: u32,

    neighbours: Map<Peer, Neighbour>,
    /// Until when first neighbours are expected, and then word of what they have: what is not urgent waits for them.
    expecting: Millis,
    next_request: u32,
    /// When a neighbour was let go for somebody new last.
    replaced: Millis,
    /// Claims heard lately, by nonce.
    claims_heard: VecDeque<u32>,
    /// Claims on objects that no playlist names yet.
    unknown_claims: Vec<claims::Heard>,
    /// Playlists that are looked for.
    texts: Vec<texts::WantedText>,
    /// Until when claims are doubted: one came to nothing.
    doubting: Millis,
    /// Until when a server is raced however slow it is: neighbours were slower, or nobody knows how slow it is now.
    racing: Millis,
    /// How much sooner than planned HTTP takes what is missing, in milliseconds: pieces came late of late.
    margin: f64,
    /// Time after the last measurement of a slow server after which it is tried again, in milliseconds.
    http_trial_after: Millis,
    /// From "claim heard" to "group held here", in milliseconds.
    spread: Spread,
    uplink: Uplink,
    /// What neighbours were told of it, in bytes per second.
    told_uplink: u32,
    /// Uploads may go on.
    pump: bool,
    /// Neighbour whose turn it is.
    upload_turn: Option<Peer>,

    bytes: Bytes,
    held: u64,
    verified: u64,
    refused: u64,
    next_check: u32,
}

/// A load of the player.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    object: Object,
    /// Where it starts on the player's timeline, in milliseconds.
    start_ms: f64,
    /// How long after it was asked for the playhead was to reach it, in milliseconds.
    slack_ms: f64,
}

impl Swarm {
    /// A swarm of the video with this id (as written). `seed` must be secret and fresh.
    pub fn new(video: &str, kind: PeerKind, config: Config, seed: &[u8; 32], now: Millis) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            config,
            kind,
            key: proof::swarm_key(video),
            objects: Objects::new(u64::from_le_bytes(rng.bytes())),
            rng,
            now,
            due: Millis::MAX,
            actions: VecDeque::new(),
            me: String::new(),
            salt: Vec::new(),
            draw_key: 0,
            population: 1,
            requests: Map::new(),
            playback: Playback { rate: 1.0, ..Playback::default() },
            beginning: None,
            news: Map::new(),
            reloaded: 0,
            reload_at: None,
            transfers: Map::new(),
            next_fetch: 0,
            http: HttpSpeed::new(),
            http_failures: 0,
            neighbours: Map::new(),
            expecting: now + config::JOIN_MS,
            next_request: 0,
            replaced: now,
            claims_heard: VecDeque::new(),
            unknown_claims: Vec::new(),
            texts: Vec::new(),
            doubting: 0,
            racing: 0,
            margin: 0.0,
            http_trial_after: config::HTTP_TRIAL_AFTER_MS,
            spread: Spread::new(config::SPREAD_MS),
            uplink: Uplink::new(now, kind == PeerKind::Edge),
            told_uplink: 0,
            pump: false,
            upload_turn: None,
            bytes: Bytes::default(),
            held: 0,
            verified: 0,
            refused: 0,
            next_check: 0,
        }
    }

    /// What signaling said: our peer id, the salt of claims, viewers and seeders in all.
    pub fn joined(&mut self, now: Millis, peer_id: &str, salt: &[u8], population: u32) {
        self.touch(now);
        self.me = peer_id.to_owned();
        self.salt = salt.to_vec();
        self.draw_key = self.draw_key(peer_id);
        let keys: Vec<(Peer, u64)> = self.neighbours.iter().map(|(&p, n)| (p, self.draw_key(&n.setup.id))).collect();
        for (peer, key) in keys {
            if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                neighbour.draw_key = key;
            }
        }
        self.population = 0;
        self.population(now, population);
    }

    /// The number of peers changed.
    pub fn population(&mut self, now: Millis, population: u32) {
        self.touch(now);
        if population <= 1 {
            self.expecting = now;
        } else if population > self.population && !self.neighbours.values().any(Neighbour::is_peer) {
            self.expecting = now + config::CONNECT_MS;
        }
        self.population = population;
    }

    /// Changes limits while running.
    pub fn set_config(&mut self, now: Millis, config: Config) {
        self.touch(now);
        let uploads = config.upload;
        let changed = uploads != self.config.upload;
        self.config = config;
        if changed {
            self.broadcast(&self.status(), None);
            if !uploads {
                self.refuse_queued();
            }
        }
    }

    /// Indexes a media playlist; replaces the earlier one of the same URL.
    pub fn playlist(&mut self, now: Millis, playlist: &MediaPlaylist) {
        self.touch(now);
        for (locator, object) in playlist.locators() {
            let place = Place {
                locator: locator.clone(),
                list_at: object.list_at,
                own_origin: origin(&locator.url) == origin(&playlist.url),
            };
            self.objects.add(now, object, place);
        }
        let find = |object: &ObjectRef| self.objects.find(object);
        let objects: Vec<Option<Object>> =
            playlist.segments.iter().map(|segment| segment.object.as_ref().and_then(find)).collect();
        for (segment, object) in playlist.segments.iter().zip(&objects) {
            if let Some(object) = *object {
                self.objects.get_mut(object).duration_ms = segment.duration_ms;
            }
        }
        let old = self.objects.tracks.remove(&playlist.url);
        // The anchor follows its segment: a live window slides.
        let anchor = old.as_ref().and_then(|track| {
            let (index, start) = track.anchor?;
            let msn = track.playlist.segments.get(index)?.msn;
            Some((playlist.segments.iter().position(|segment| segment.msn == msn)?, start))
        });
        let active = old.map_or(0, |track| track.active);
        let track = Track { playlist: playlist.clone(), objects, anchor, active };
        self.objects.tracks.insert(playlist.url.clone(), track);
        self.resolve_unknown();
        self.resolve_claims();
    }

    /// The media playlist of this URL, as it was given last: what a delta update leaves out is there.
    pub fn playlist_of(&self, url: &str) -> Option<&MediaPlaylist> {
        self.objects.tracks.get(url).map(|track| &track.playlist)
    }

    /// The object that a player's request names.
    pub fn object(&self, locator: &Locator) -> Option<Object> {
        let playlists = self.objects.tracks.values().map(|track| &track.playlist);
        self.objects.find(playlist::find(playlists, &locator.url, locator.range)?)
    }

    /// Bytes of an object.
    pub fn size(&self, object: Object) -> u64 {
        self.objects.get(object).size
    }

    /// Bytes of an object that are here: kept, or on their way in an HTTP transfer.
    pub fn arrived(&self, object: Object) -> u64 {
        let entry = self.objects.get(object);
        let transfers = self.transfers.values().filter(|transfer| transfer.object == object);
        let pending: u64 = transfers.map(Transfer::unkept).sum();
        (entry.held_bytes() + pending).min(entry.size)
    }

    /// Where the kept bytes of an object came from: HTTP, viewers, mirrors, edge.
    pub fn sources(&self, object: Object) -> [u64; 4] {
        self.objects.get(object).brought
    }

    /// The player asks for an object that starts at `media_start_ms` on its timeline; negative infinity for an init
    /// section, which has no place there and is wanted now. False if no playlist names it with a hash: the host loads it
    /// plainly.
    pub fn request(&mut self, now: Millis, request: Request, locator: &Locator, media_start_ms: f64) -> bool {
        self.touch(now);
        let Some(object) = self.object(locator) else { return false };
        for track in self.objects.tracks.values_mut() {
            let segments = || track.objects.iter().zip(&track.playlist.segments);
            let here = |locator_fits: bool| {
                segments().position(|(&other, segment)| {
                    other == Some(object) && (!locator_fits || segment.locator == *locator)
                })
            };
            // Equal bytes may stand in several renditions: the one whose locator was asked for is the one that plays.
            if let Some(index) = here(true).or_else(|| here(false)) {
                track.anchor = Some((index, media_start_ms));
                track.active = now;
            }
        }
        if self.playback.buffered_ms <= 0.0 && media_start_ms.is_finite() {
            self.beginning = Some(self.beginning.map_or(media_start_ms, |first| first.min(media_start_ms)));
        }
        let slack_ms = self.due(media_start_ms) - now as f64;
        self.requests.insert(request, Wanted { object, start_ms: media_start_ms, slack_ms });
        let entry = self.objects.get_mut(object);
        entry.asked = true;
        entry.used = now;
        if entry.ready() {
            self.actions.push_back(Action::Deliver { request, object });
            self.requests.remove(&request);
            return true;
        }
        entry.requests.push(request);
        entry.wanted_since.get_or_insert(now);
        self.objects.wanted.insert(object);
        true
    }

    /// The player takes it back. Verified pieces stay.
    pub fn cancel(&mut self, now: Millis, request: Request) {
        self.touch(now);
        let Some(wanted) = self.requests.remove(&request) else { return };
        let entry = self.objects.get_mut(wanted.object);
        entry.requests.retain(|&other| other != request);
        if entry.requests.is_empty() {
            self.unwant(wanted.object);
            self.abort_transfers_of(wanted.object);
        }
    }

    /// The player's state; several times a second and at every seek, pause and change of rate.
    pub fn playback(&mut self, now: Millis, playback: Playback) {
        let elapsed = now.saturating_sub(self.now) as f64;
        self.now = self.now.max(now);
        // What moves as foreseen changes no deadline.
        let moved = playback.position_ms - self.playback.position_ms;
        let as_foreseen = (-config::SEEK_MS..elapsed.max(config::SEEK_MS) + config::SEEK_MS).contains(&moved);
        if !as_foreseen || playback.playing != self.playback.playing || playback.rate != self.playback.rate {
            self.due = self.now;
        }
        if !as_foreseen || playback.buffered_ms > 0.0 {
            self.beginning = None;
        }
        self.playback = playback;
    }

    /// What to do next; `None` when all is said.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() && self.now >= self.due {
            self.due = Millis::MAX;
            self.schedule();
        }
        if self.actions.is_empty() && std::mem::take(&mut self.pump) {
            self.pump_uploads();
        }
        self.actions.pop_front()
    }

    /// When [`Swarm::timeout`] is to be called.
    pub fn next_timeout(&self) -> Option<Millis> {
        let next = self.next_pump().map_or(self.due, |pump| pump.min(self.due));
        (next < Millis::MAX).then_some(next)
    }

    /// The time has come.
    pub fn timeout(&mut self, now: Millis) {
        self.now = self.now.max(now);
        self.pump = true;
    }

    /// New neighbours wanted from signaling now, those that are connecting not counted. While there is room at all it is
    /// at least 1: signaling names nobody to a newcomer who wants nobody, and in a full swarm the newcomer needs us.
    pub fn want(&self) -> u32 {
        let held = self.neighbours.len();
        let room = held < self.config.neighbours * 3 / 2 && !self.starved();
        u32::from(room) * u32::try_from(self.config.neighbours.saturating_sub(held)).unwrap_or(0).max(1)
    }

    /// Byte counters.
    pub fn bytes(&self) -> Bytes {
        let unasked = self.objects.iter().filter(|(_, entry)| !entry.asked);
        Bytes { prefetched: unasked.map(|(_, entry)| entry.held_bytes()).sum(), ..self.bytes }
    }

    /// Media bytes kept.
    pub fn memory(&self) -> u64 {
        self.held
    }

    /// Pieces that were verified, and things that were refused.
    pub fn integrity(&self) -> (u64, u64) {
        (self.verified, self.refused)
    }

    /// The neighbours.
    pub fn peers(&self, now: Millis) -> Vec<PeerStats> {
        let stats = |(&peer, n): (&Peer, &Neighbour)| PeerStats {
            peer,
            id: n.setup.id.clone(),
            kind: n.kind,
            open: n.open,
            rtt_ms: if n.rtt.known() { n.rtt.mean() } else { 0.0 },
            download_rate: n.down.get(now),
            upload_rate: n.up.get(now),
            pieces: n.verified,
        };
        self.neighbours.iter().map(stats).collect()
    }

    /// Says BYE to every neighbour and lets them go.
    pub fn leave(&mut self, now: Millis) {
        self.touch(now);
        let peers: Vec<Peer> = self.neighbours.keys().copied().collect();
        for peer in peers {
            self.send(peer, &Control::Bye { reason: 0 });
            self.close(peer, CloseReason::Left);
        }
    }

    /// Moves the clock; the schedule is looked at next.
    fn touch(&mut self, now: Millis) {
        self.now = self.now.max(now);
        self.due = self.now;
    }

    /// Something came that may be acted on: the schedule is looked at in a moment, so that what comes with it is taken
    /// together.
    fn soon(&mut self) {
        self.wake(self.now + config::COALESCE_MS);
    }

    /// The schedule is to be looked at then, if not before. Hosts' timers may be late: every call looks at the clock.
    fn wake(&mut self, at: Millis) {
        self.due = self.due.min(at);
    }

    fn send(&mut self, peer: Peer, message: &Control) {
        self.actions.push_back(Action::SendControl { peer, bytes: encode_control(message) });
    }

    /// To every open neighbour but one.
    fn broadcast(&mut self, message: &Control, except: Option<Peer>) {
        let bytes = encode_control(message);
        for (&peer, neighbour) in &self.neighbours {
            if neighbour.open && Some(peer) != except {
                self.actions.push_back(Action::SendControl { peer, bytes: bytes.clone() });
            }
        }
    }

    fn unwant(&mut self, object: Object) {
        self.objects.wanted.remove(&object);
        let entry = self.objects.get_mut(object);
        (entry.wanted_since, entry.urgent) = (None, None);
    }

    /// A piece is verified: keep it, tell the neighbours, deliver what is whole.
    fn keep(&mut self, source: Source, object: Object, piece: u32) {
        let now = self.now;
        let entry = self.objects.get_mut(object);
        let len = u64::from(entry.piece_len(piece));
        if !entry.have.insert(piece) {
            // What a transfer brought in vain is counted when it ends.
            if matches!(source, Source::Peer(..)) {
                self.bytes.wasted += len;
            }
            self.actions.push_back(Action::Discard { source, piece: Some(piece) });
            return;
        }
        entry.used = now;
        let column = match source {
            Source::Fetch(fetch) => self.transfers.get(&fetch).map_or(0, Transfer::column),
            Source::Peer(peer, _) => match self.neighbours.get(&peer).map(|n| n.kind) {
                Some(PeerKind::Mirror) => 2,
                Some(PeerKind::Edge) => 3,
                _ => 1,
            },
        };
        entry.brought[column] += len;
        self.held += len;
        // Without a proof of the whole, neither count nor word to anybody.
        if entry.unproven.is_none() {
            self.verified += 1;
            self.news.get_or_insert_with(object, Bitfield::default).insert(piece);
            self.soon();
        }
        if let Source::Fetch(fetch) = source
            && let Some(transfer) = self.transfers.get_mut(&fetch)
        {
            transfer.kept += len;
        }
        self.actions.push_back(Action::Keep { source, object, piece });
        self.claim_fulfilled(object, piece);
        self.call_off(object, piece);
        self.deliver(object);
    }

    /// Hands a whole object to whoever waits for it.
    fn deliver(&mut self, object: Object) {
        let entry = self.objects.get_mut(object);
        if !entry.ready() {
            if entry.whole() {
                self.ask_for_check(object);
            }
            return;
        }
        entry.claims.clear();
        for request in std::mem::take(&mut entry.requests) {
            if let Some(wanted) = self.requests.remove(&request) {
                self.came(wanted);
            }
            self.actions.push_back(Action::Deliver { request, object });
        }
        self.unwant(object);
    }

    /// A load is complete. One that was asked for in good time and came just before the playhead, or after it, says that what
    /// is believed about speeds is not to be relied on, whatever the reason.
    fn came(&mut self, wanted: Wanted) {
        let slack = self.due(wanted.start_ms) - self.now as f64;
        if !self.playback.playing || wanted.slack_ms < 2.0 * config::GUARD_MS as f64 {
            return;
        }
        if slack < config::NEAR_MISS_MS {
            self.margin = (2.0 * self.margin).clamp(config::MARGIN_MS, config::MAX_MARGIN_MS);
        } else if slack > self.margin + config::GUARD_MS as f64 {
            self.margin *= config::MARGIN_DECAY;
        }
    }

    /// Takes an object's pieces back from memory and from the neighbours' tables.
    fn evict(&mut self, object: Object) {
        let entry = self.objects.get_mut(object);
        self.held -= entry.held_bytes();
        entry.have.clear();
        if let Some(unproven) = &mut entry.unproven {
            unproven.check = None;
        }
        let oid = entry.oid;
        self.news.remove(&object);
        self.actions.push_back(Action::Evict { object });
        self.broadcast(&Control::Drop { oid }, None);
    }

    fn entry(&self, object: Object) -> &Entry {
        self.objects.get(object)
    }
}

/// Scheme, host and port of an absolute URL.
fn origin(url: &str) -> &str {
    let after = url.find("://").map_or(0, |at| at + 3);
    let end = url[after..].find(['/', '?', '#']).map_or(url.len(), |at| after + at);
    &url[..end]
}

#[cfg(test)]
mod tests {
    use super::origin;

    #[test]
    fn an_origin_ends_before_the_path() {
        assert_eq!(origin("https://a.example:8443/v/x.m3u8?y"), "https://a.example:8443");
        assert_eq!(origin("https://a.example?x=/"), "https://a.example");
        assert_ne!(origin("https://a.example/"), origin("https://a.example.evil/"));
    }
}
