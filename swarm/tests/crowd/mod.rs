//! Many viewers in virtual time over the real core, without media bytes: partial views, uplinks of different width, live
//! playlists that each viewer polls at its own phase. Counts what the server sends. Deterministic.
//!
//! [`crate::bed`] is the one for liars and wrong bytes; here hashes are taken from the film's own lists.

#![allow(dead_code, missing_docs, unreachable_pub)] // every test file uses a part of it

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use marea_swarm::{
    Action, Millis, Swarm,
    config::Config,
    pieces::{Cv, ObjectHasher, list_to_bytes},
    playlist::{Locator, MediaPlaylist, Playlist, parse},
    proof::Role,
    swarm::{Fetch, Object, Peer, PeerSetup, Playback, Request},
    tags::{MareaTag, ObjectKind, ObjectTag, Tag},
    wire::{PeerKind, decode_frame},
};

pub const VIDEO: &str = "AAAAAAAAAAAAAAAAAAAAAA";
const URL: &str = "https://edge.example/v/index.m3u8";
pub const SEGMENT_MS: u64 = 4_000;
const PIECE: usize = 65_536;
/// The player asks for more while it has less than this ahead.
const PLAYER_BUFFER_MS: f64 = 30_000.0;
/// Segments of a live playlist.
const WINDOW: usize = 8;

enum Event {
    Join(usize),
    Connect(usize, usize),
    Poll(usize),
    Play(usize),
    Wake(usize),
    Http { viewer: usize, fetch: Fetch, object: Object, piece: u32, end: u32 },
    List { viewer: usize, fetch: Fetch, segment: usize },
    Control { from: usize, to: usize, bytes: Vec<u8> },
    Data { from: usize, to: usize, header: Vec<u8>, len: u32 },
    Drained { from: usize, to: usize, len: u32 },
    Gone { from: usize, to: usize },
}

pub struct Viewer {
    pub swarm: Swarm,
    pub alive: bool,
    pub peers: BTreeMap<usize, Peer>,
    links: BTreeMap<Peer, usize>,
    next_peer: u32,
    fetches: BTreeMap<Fetch, ()>,
    /// Per object, the segment whose bytes it is.
    segments: Vec<usize>,
    held: BTreeMap<(Object, u32), ()>,
    unsent: BTreeMap<usize, u32>,
    uplink_free: f64,
    /// Bytes per millisecond.
    pub uplink: f64,
    wake: Option<Millis>,
    // The player.
    next: Option<usize>,
    waiting: Option<Request>,
    requests: u32,
    buffered_end: f64,
    pub position: f64,
    pub started_at: Option<Millis>,
    pub joined_at: Millis,
    pub stalled_ms: f64,
    seen: Millis,
    pub delivered: usize,
    pub reloads: u32,
    /// When each segment was whole here.
    pub whole: BTreeMap<usize, Millis>,
}

pub struct Crowd {
    pub now: Millis,
    queue: BinaryHeap<Reverse<(Millis, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    sequence: u64,
    pub viewers: Vec<Viewer>,
    playlist: MediaPlaylist,
    lists: Vec<Vec<Cv>>,
    sizes: Vec<usize>,
    pub live: bool,
    pub config: Config,
    pub links: usize,
    pub latency: Millis,
    pub http_latency: Millis,
    /// Bytes per millisecond of one transfer.
    pub http_rate: f64,
    pub uplinks: fn(usize) -> f64,
    /// Media bytes that left the server.
    pub sent: u64,
    /// The same by segment.
    pub sent_of: Vec<u64>,
    pub messages: u64,
    /// Calls of [`Swarm::timeout`].
    pub wakes: u64,
    random: u64,
}

impl Crowd {
    /// A film of `segments` segments of `pieces` pieces each. On live one is listed every 4 s.
    pub fn new(segments: usize, pieces: usize, live: bool) -> Self {
        let tag = Tag::Marea(MareaTag { video: VIDEO.to_owned(), signaling: None, complete: true });
        let mut text = format!("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n{tag}\n");
        let (mut lists, mut sizes) = (Vec::new(), Vec::new());
        for index in 0..segments {
            let size = pieces * PIECE - 1_000;
            let mut bytes = vec![0; size];
            blake3::Hasher::new().update(&index.to_le_bytes()).finalize_xof().fill(&mut bytes);
            let mut hasher = ObjectHasher::new();
            hasher.update(&bytes);
            let hashed = hasher.finish();
            let object = ObjectTag { size: hashed.size, root: hashed.root, at: None };
            text += &format!("{}\n#EXTINF:4,\ns{index}.m4s\n", Tag::Object(ObjectKind::Segment, object));
            assert_eq!(list_to_bytes(&hashed.list).len(), pieces * 32);
            lists.push(hashed.list);
            sizes.push(size);
        }
        if !live {
            text += "#EXT-X-ENDLIST\n";
        }
        let resolve = |_: &str, relative: &str| Some(format!("https://edge.example/v/{relative}"));
        let Ok(Playlist::Media(playlist)) = parse(&text, URL, &resolve) else { panic!("no media playlist") };
        Self {
            now: 100_000,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            viewers: Vec::new(),
            playlist,
            lists,
            sizes,
            live,
            config: Config::default(),
            links: 10,
            latency: 25,
            http_latency: 40,
            http_rate: 2_500.0,
            uplinks: |_| 625.0,
            sent: 0,
            sent_of: vec![0; segments],
            messages: 0,
            wakes: 0,
            random: 0x9E37_79B9_7F4A_7C15,
        }
    }

    /// A viewer that arrives in `after` milliseconds.
    pub fn join(&mut self, after: Millis) -> usize {
        let index = self.viewers.len();
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&index.to_le_bytes());
        self.viewers.push(Viewer {
            swarm: Swarm::new(VIDEO, PeerKind::Viewer, self.config.clone(), &seed, self.now),
            alive: false,
            peers: BTreeMap::new(),
            links: BTreeMap::new(),
            next_peer: 0,
            fetches: BTreeMap::new(),
            segments: Vec::new(),
            held: BTreeMap::new(),
            unsent: BTreeMap::new(),
            uplink_free: 0.0,
            uplink: (self.uplinks)(index),
            wake: None,
            next: None,
            waiting: None,
            requests: 0,
            buffered_end: 0.0,
            position: 0.0,
            started_at: None,
            joined_at: self.now + after,
            stalled_ms: 0.0,
            seen: self.now + after,
            delivered: 0,
            reloads: 0,
            whole: BTreeMap::new(),
        });
        self.push(after, Event::Join(index));
        index
    }

    pub fn run(&mut self, span: Millis) {
        let until = self.now + span;
        while self.queue.peek().is_some_and(|Reverse((at, ..))| *at <= until) {
            let Some(Reverse((at, _, slot))) = self.queue.pop() else { break };
            self.now = self.now.max(at);
            let event = self.events[slot].take();
            self.free.push(slot);
            if let Some(event) = event {
                self.happen(event);
            }
        }
        self.now = until;
    }

    /// A viewer closes its tab.
    pub fn leave(&mut self, index: usize) {
        self.viewers[index].alive = false;
        let others: Vec<usize> = self.viewers[index].peers.keys().copied().collect();
        for to in others {
            self.push(50, Event::Gone { from: index, to });
        }
    }

    /// Copies of the segments `range` that the server sent.
    pub fn copies(&self, range: std::ops::Range<usize>) -> f64 {
        let size: usize = self.sizes[range.clone()].iter().sum();
        self.sent_of[range].iter().sum::<u64>() as f64 / size as f64
    }

    /// Milliseconds from the listing of each of the segments `range` until it was whole at each viewer.
    pub fn spread(&self, range: std::ops::Range<usize>) -> Vec<Millis> {
        let listed = |segment: usize| 100_000 + (segment + 1 - WINDOW) as u64 * SEGMENT_MS;
        let whole = self.viewers.iter().flat_map(|viewer| viewer.whole.range(range.clone()));
        whole.map(|(&segment, &at)| at.saturating_sub(listed(segment))).collect()
    }

    /// The newest segment that is listed.
    pub fn edge(&self) -> usize {
        (((self.now - 100_000) / SEGMENT_MS) as usize + WINDOW - 1).min(self.sizes.len() - 1)
    }

    pub fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    fn push(&mut self, after: Millis, event: Event) {
        self.sequence += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[slot] = Some(event);
        self.queue.push(Reverse((self.now + after, self.sequence, slot)));
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Join(index) => self.arrive(index),
            Event::Connect(a, b) => {
                if self.viewers[a].alive && self.viewers[b].alive && !self.viewers[a].peers.contains_key(&b) {
                    self.connect(a, b);
                }
            }
            Event::Poll(index) => {
                if self.viewers[index].alive {
                    let edge = self.edge();
                    let fresh = self.load_playlist(index);
                    // As hls.js: a target duration after a list that grew, else half of it.
                    let after = if fresh || edge + 1 == self.sizes.len() { SEGMENT_MS } else { SEGMENT_MS / 2 };
                    let population = self.viewers.iter().filter(|v| v.alive).count() as u32;
                    self.viewers[index].swarm.population(now, population);
                    self.drain(index);
                    self.push(after, Event::Poll(index));
                }
            }
            Event::Play(index) => {
                if self.viewers[index].alive {
                    self.play(index);
                    self.drain(index);
                    self.push(250, Event::Play(index));
                }
            }
            Event::Wake(index) => {
                let viewer = &mut self.viewers[index];
                if viewer.alive && viewer.wake == Some(now) {
                    viewer.wake = None;
                    viewer.swarm.timeout(now);
                    self.wakes += 1;
                    self.drain(index);
                }
            }
            Event::List { viewer, fetch, segment } => {
                self.viewers[viewer].swarm.list_fetched(now, fetch, Some(&list_to_bytes(&self.lists[segment])));
                self.sent += self.lists[segment].len() as u64 * 32;
                self.drain(viewer);
            }
            Event::Http { viewer, fetch, object, piece, end } => self.http(viewer, fetch, object, piece, end),
            Event::Control { from, to, bytes } => {
                let viewer = &mut self.viewers[to];
                if let (true, Some(&peer)) = (viewer.alive, viewer.peers.get(&from)) {
                    self.messages += 1;
                    viewer.swarm.control(now, peer, &bytes);
                    self.drain(to);
                }
            }
            Event::Data { from, to, header, len } => {
                let viewer = &mut self.viewers[to];
                if let (true, Some(&peer)) = (viewer.alive, viewer.peers.get(&from)) {
                    let message = [&header[..], &vec![0; len as usize]].concat();
                    let Ok((frame, _)) = decode_frame(&message) else { panic!("the core sends frames") };
                    if let Some(place) = viewer.swarm.frame(now, peer, &frame, len)
                        && place.complete
                    {
                        let cv = self.lists[viewer.segments[place.object.0 as usize]][frame.piece as usize];
                        viewer.swarm.peer_piece(now, peer, frame.request, frame.piece, cv);
                    }
                    self.drain(to);
                }
            }
            Event::Drained { from, to, len } => {
                let viewer = &mut self.viewers[from];
                if let (true, Some(&peer)) = (viewer.alive, viewer.peers.get(&to)) {
                    let unsent = viewer.unsent.entry(to).or_default();
                    *unsent = unsent.saturating_sub(len);
                    viewer.swarm.buffered(now, peer, *unsent);
                    self.drain(from);
                }
            }
            Event::Gone { from, to } => {
                let viewer = &mut self.viewers[to];
                if let Some(peer) = viewer.peers.remove(&from) {
                    viewer.links.remove(&peer);
                    viewer.swarm.peer_closed(now, peer);
                    self.drain(to);
                }
            }
        }
    }

    fn arrive(&mut self, index: usize) {
        let now = self.now;
        let alive: Vec<usize> = (0..self.viewers.len()).filter(|&other| self.viewers[other].alive).collect();
        let viewer = &mut self.viewers[index];
        viewer.alive = true;
        viewer.swarm.joined(now, &format!("viewer-{index}"), b"salt", alive.len() as u32 + 1);
        self.load_playlist(index);
        let mut candidates = alive;
        for _ in 0..self.links {
            candidates.retain(|&other| self.viewers[other].peers.len() < self.links * 3 / 2);
            if candidates.is_empty() {
                break;
            }
            let at = (self.chance() * candidates.len() as f64) as usize;
            let other = candidates.swap_remove(at);
            self.push(300, Event::Connect(index, other));
        }
        let phase = (self.chance() * SEGMENT_MS as f64) as Millis;
        if self.live {
            self.push(phase, Event::Poll(index));
        }
        self.push(0, Event::Play(index));
    }

    /// True if it grew.
    fn load_playlist(&mut self, index: usize) -> bool {
        let edge = if self.live { self.edge() } else { self.sizes.len() - 1 };
        let first = if self.live { edge + 1 - WINDOW } else { 0 };
        let viewer = &mut self.viewers[index];
        let mut playlist = self.playlist.clone();
        playlist.segments = playlist.segments[first..=edge].to_vec();
        viewer.swarm.playlist(self.now, &playlist);
        let known = viewer.segments.len();
        for segment in first..=edge {
            let locator = &self.playlist.segments[segment].locator;
            if let Some(object) = viewer.swarm.object(locator)
                && object.0 as usize == viewer.segments.len()
            {
                viewer.segments.push(segment);
            }
        }
        if viewer.next.is_none() {
            let start = if self.live { edge - 2 } else { 0 };
            viewer.next = Some(start);
            viewer.position = (start as u64 * SEGMENT_MS) as f64;
            viewer.buffered_end = viewer.position;
        }
        viewer.segments.len() > known
    }

    fn connect(&mut self, a: usize, b: usize) {
        for (me, other, role) in [(a, b, Role::Offerer), (b, a, Role::Answerer)] {
            let now = self.now;
            let viewer = &mut self.viewers[me];
            let peer = Peer(viewer.next_peer);
            viewer.next_peer += 1;
            viewer.links.insert(peer, other);
            viewer.peers.insert(other, peer);
            let print = |n: usize| {
                let mut print = [0; 32];
                print[..8].copy_from_slice(&n.to_le_bytes());
                print
            };
            let setup = PeerSetup {
                id: format!("viewer-{other}"),
                role,
                local_fingerprint: print(me),
                remote_fingerprint: print(other),
            };
            viewer.swarm.peer_open(now, peer, setup);
        }
        self.drain(a);
        self.drain(b);
    }

    fn play(&mut self, index: usize) {
        let now = self.now;
        let listed = if self.live { self.edge() } else { self.sizes.len() - 1 };
        let viewer = &mut self.viewers[index];
        let elapsed = (now - viewer.seen) as f64;
        viewer.seen = now;
        let end = (self.sizes.len() as u64 * SEGMENT_MS) as f64;
        if viewer.started_at.is_some() && viewer.position < end {
            let moved = elapsed.min(viewer.buffered_end - viewer.position).max(0.0);
            viewer.position += moved;
            viewer.stalled_ms += elapsed - moved.max(elapsed.min(end - viewer.position));
        }
        let buffered_ms = viewer.buffered_end - viewer.position;
        let position_ms = viewer.position;
        viewer.swarm.playback(now, Playback { position_ms, rate: 1.0, playing: true, buffered_ms, late_ms: 0.0 });
        self.ask(index, listed);
    }

    fn ask(&mut self, index: usize, listed: usize) {
        let now = self.now;
        let viewer = &mut self.viewers[index];
        let Some(next) = viewer.next else { return };
        let hungry = viewer.buffered_end - viewer.position < PLAYER_BUFFER_MS;
        // What the viewer's own playlist lists.
        let known = viewer.segments.contains(&next);
        if viewer.waiting.is_none() && next <= listed && known && hungry {
            let request = Request(viewer.requests);
            viewer.requests += 1;
            viewer.waiting = Some(request);
            let locator = Locator { url: format!("https://edge.example/v/s{next}.m4s"), range: None };
            assert!(viewer.swarm.request(now, request, &locator, (next as u64 * SEGMENT_MS) as f64));
        }
    }

    fn drain(&mut self, index: usize) {
        while let Some(action) = self.viewers[index].swarm.poll_action() {
            self.act(index, action);
        }
        let now = self.now;
        let viewer = &mut self.viewers[index];
        if let Some(at) = viewer.swarm.next_timeout() {
            let at = at.max(now + 1);
            if viewer.wake.is_none_or(|wake| at < wake) {
                viewer.wake = Some(at);
                self.push(at - now, Event::Wake(index));
            }
        }
    }

    fn act(&mut self, index: usize, action: Action) {
        let (now, latency) = (self.now, self.latency);
        let viewer = &mut self.viewers[index];
        match action {
            Action::Fetch { fetch, object, end, first_piece, .. } => {
                viewer.fetches.insert(fetch, ());
                let end = (end as usize).div_ceil(PIECE) as u32;
                let event = Event::Http { viewer: index, fetch, object, piece: first_piece, end };
                self.push(self.http_latency + (PIECE as f64 / self.http_rate) as Millis, event);
            }
            Action::FetchList { fetch, object, .. } => {
                let segment = viewer.segments[object.0 as usize];
                self.push(self.http_latency, Event::List { viewer: index, fetch, segment });
            }
            Action::AbortFetch { fetch } => {
                viewer.fetches.remove(&fetch);
            }
            Action::SendControl { peer, bytes } => {
                let Some(&to) = viewer.links.get(&peer) else { return };
                let wait = viewer.send(now, bytes.len());
                self.push(wait + latency, Event::Control { from: index, to, bytes });
            }
            Action::SendFrame { peer, header, object, piece, len, .. } => {
                assert!(viewer.held.contains_key(&(object, piece)), "sent what it does not hold");
                let Some(&to) = viewer.links.get(&peer) else { return };
                let wait = viewer.send(now, len as usize);
                let unsent = viewer.unsent.entry(to).or_default();
                *unsent += len;
                viewer.swarm.buffered(now, peer, *unsent);
                self.push(wait, Event::Drained { from: index, to, len });
                self.push(wait + latency, Event::Data { from: index, to, header: header.to_vec(), len });
            }
            Action::Keep { object, piece, .. } => {
                assert!(viewer.held.insert((object, piece), ()).is_none(), "kept twice");
                let segment = viewer.segments[object.0 as usize];
                let count = viewer.held.range((object, 0)..=(object, u32::MAX)).count();
                if count == self.lists[segment].len() {
                    viewer.whole.insert(segment, now);
                }
            }
            Action::Evict { object } => viewer.held.retain(|(other, _), ()| *other != object),
            Action::Deliver { request, object } => {
                assert_eq!(viewer.waiting.take(), Some(request));
                let segment = viewer.segments[object.0 as usize];
                assert_eq!(viewer.next, Some(segment));
                viewer.next = Some(segment + 1);
                viewer.delivered += 1;
                viewer.buffered_end += SEGMENT_MS as f64;
                viewer.started_at.get_or_insert(now - viewer.joined_at);
            }
            Action::Close { peer, .. } => {
                if let Some(other) = viewer.links.remove(&peer) {
                    viewer.peers.remove(&other);
                    self.push(30, Event::Gone { from: index, to: other });
                }
            }
            Action::ReloadPlaylist { .. } => {
                viewer.reloads += 1;
                self.load_playlist(index);
            }
            Action::Discard { .. } => {}
            other => panic!("{other:?}: nothing goes wrong here"),
        }
    }

    fn http(&mut self, index: usize, fetch: Fetch, object: Object, piece: u32, end: u32) {
        let now = self.now;
        let viewer = &mut self.viewers[index];
        if !viewer.alive || !viewer.fetches.contains_key(&fetch) {
            return;
        }
        let segment = viewer.segments[object.0 as usize];
        let len = (self.sizes[segment] - piece as usize * PIECE).min(PIECE);
        self.sent += len as u64;
        self.sent_of[segment] += len as u64;
        viewer.swarm.fetch_progress(now, fetch, len as u32);
        viewer.swarm.fetch_piece(now, fetch, piece, self.lists[segment][piece as usize]);
        if piece + 1 == end {
            viewer.fetches.remove(&fetch);
            viewer.swarm.fetch_end(now, fetch);
        } else {
            let event = Event::Http { viewer: index, fetch, object, piece: piece + 1, end };
            self.push((PIECE as f64 / self.http_rate) as Millis, event);
        }
        self.drain(index);
    }
}

impl Viewer {
    /// Puts bytes on the uplink; milliseconds until the last is on its way.
    fn send(&mut self, now: Millis, bytes: usize) -> Millis {
        let begin = self.uplink_free.max(now as f64);
        self.uplink_free = begin + bytes as f64 / self.uplink;
        (self.uplink_free - now as f64) as Millis
    }
}

/// Uplinks of 1, 5 and 20 Mbit/s for 20, 50 and 30 % of the viewers.
pub fn mixed(index: usize) -> f64 {
    [125.0, 625.0, 625.0, 2_500.0, 625.0, 125.0, 2_500.0, 625.0, 2_500.0, 625.0][index % 10]
}
