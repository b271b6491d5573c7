//! A world in virtual time: viewers that run the real core over links with latency, rate and loss, a player each that
//! buffers and stalls as real ones do, and an HTTP server that can be slow, cut, or wrong. Deterministic.

// Every test file compiles this module anew and uses a part of it.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use marea_swarm::{
    Action, Millis, PIECE_SIZE, Root, Swarm,
    assembly::Assembly,
    config::Config,
    pieces::{ObjectHasher, list_to_bytes},
    playlist::{Locator, MediaPlaylist, Playlist, parse},
    proof::Role,
    swarm::{CloseReason, Fetch, Object, Peer, PeerSetup, Playback, Refused, Request},
    tags::{MareaTag, ObjectKind, ObjectTag, Tag},
    wire::{Control, PeerKind, decode_control, decode_frame, encode_control},
};
use sha2::{Digest, Sha256};

pub const VIDEO: &str = "AAAAAAAAAAAAAAAAAAAAAA";
const PLAYLIST_URL: &str = "https://edge.example/v/index.m3u8";
/// The player asks for more while it has less than this ahead.
const PLAYER_BUFFER_MS: f64 = 30_000.0;

/// What a viewer's outgoing messages become: the liars of the tests.
pub type Lie = Box<dyn FnMut(Outgoing) -> Vec<Outgoing>>;

#[derive(Clone, Debug)]
pub enum Outgoing {
    Control(Vec<u8>),
    Data(Vec<u8>),
}

#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub latency: Millis,
    /// Bytes per millisecond.
    pub rate: f64,
    /// Probability that a message needs one more round trip and a bit.
    pub loss: f64,
    /// Bytes that a connection takes from its channel before they are on the wire.
    pub window: u32,
}

pub struct Server {
    pub files: BTreeMap<String, Vec<u8>>,
    pub latency: Millis,
    /// Bytes per millisecond of one transfer.
    pub rate: f64,
    pub up: bool,
    /// Media bytes that left it.
    pub sent: u64,
    pub requests: u32,
}

#[derive(Debug)]
enum Event {
    Tick(usize),
    Join(usize),
    Connect(usize, usize),
    HttpStart {
        viewer: usize,
        fetch: Fetch,
        list: bool,
        url: String,
        start: u64,
        end: u64,
        ranged: bool,
    },
    HttpData {
        viewer: usize,
        fetch: Fetch,
        at: usize,
        body: std::rc::Rc<Vec<u8>>,
    },
    Message {
        from: usize,
        to: usize,
        bytes: Vec<u8>,
        data: bool,
    },
    /// Bytes of the `data` channel are on the wire.
    Drained {
        from: usize,
        to: usize,
        len: u32,
    },
    Gone {
        from: usize,
        to: usize,
    },
    Checked {
        viewer: usize,
        check: u32,
        digest: [u8; 32],
    },
}

pub struct Viewer {
    pub swarm: Swarm,
    assembly: Assembly,
    pub store: BTreeMap<(Object, u32), Vec<u8>>,
    links: BTreeMap<Peer, usize>,
    peers: BTreeMap<usize, Peer>,
    next_peer: u32,
    fetches: BTreeSet<Fetch>,
    trial_bodies: BTreeMap<Fetch, Vec<u8>>,
    /// Bytes per millisecond, if not those of [`World::link`].
    pub uplink: Option<f64>,
    uplink_free: f64,
    /// When each of the last frames to each other viewer is on the wire, and its bytes.
    leaving: BTreeMap<usize, VecDeque<(f64, u32)>>,
    /// Bytes of the `data` channel to each other viewer that are not on the wire yet.
    unsent: BTreeMap<usize, u32>,
    lie: Option<Lie>,
    pub alive: bool,
    pub closed: Vec<(usize, CloseReason)>,
    pub refused: Vec<Refused>,
    pub differs: u32,
    // The player.
    next_segment: usize,
    waiting: Option<Request>,
    buffered_end: f64,
    pub position: f64,
    pub started_at: Option<Millis>,
    joined_at: Millis,
    pub stalled_ms: f64,
    seen: Millis,
    pub paused: bool,
    /// How late the host says that its timers are.
    pub late_ms: f64,
    /// Per segment, what the player got.
    pub delivered: BTreeMap<usize, Vec<u8>>,
    pub failed: u32,
    is_edge: bool,
}

pub struct World {
    pub now: Millis,
    queue: BTreeMap<(Millis, u64), Event>,
    sequence: u64,
    pub viewers: Vec<Viewer>,
    pub server: Server,
    pub link: Link,
    pub playlist: MediaPlaylist,
    /// From a viewer's arrival until its links are open.
    pub connect_ms: Millis,
    /// How long a host takes for the SHA-256 of an object.
    pub check_ms: Millis,
    /// Where the first segment lies on the player's timeline, whose playhead stands at 0 until it is there: a live stream.
    pub begins_ms: f64,
    random: u64,
}

/// Segment `index` of the made-up film.
pub fn segment_bytes(index: usize, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&index.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub fn segment_url(index: usize) -> String {
    format!("https://edge.example/v/s{index}.m4s")
}

impl World {
    /// A VOD of `segments` segments of `size` bytes and 4 s each, on a server with piece lists.
    pub fn vod(segments: usize, size: usize) -> Self {
        let tag = Tag::Marea(MareaTag { video: VIDEO.to_owned(), signaling: None, complete: true });
        let mut text = format!("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n{tag}\n");
        let mut files = BTreeMap::new();
        for index in 0..segments {
            let bytes = segment_bytes(index, size - index * 97);
            let mut hasher = ObjectHasher::new();
            hasher.update(&bytes);
            let hashed = hasher.finish();
            let object = ObjectTag { size: hashed.size, root: hashed.root, at: None };
            let object = Tag::Object(ObjectKind::Segment, object);
            text += &format!("{object}\n#EXTINF:4,\ns{index}.m4s\n");
            if hashed.list.len() > 1 {
                files.insert(format!("{}.pieces", segment_url(index)), list_to_bytes(&hashed.list));
            }
            files.insert(segment_url(index), bytes);
        }
        text += "#EXT-X-ENDLIST\n";
        let resolve = |_: &str, relative: &str| Some(format!("https://edge.example/v/{relative}"));
        let Ok(Playlist::Media(playlist)) = parse(&text, PLAYLIST_URL, &resolve) else { panic!("no media playlist") };
        assert_eq!(playlist.segments.iter().filter(|segment| segment.object.is_some()).count(), segments);
        Self {
            now: 1_000,
            queue: BTreeMap::new(),
            sequence: 0,
            viewers: Vec::new(),
            server: Server { files, latency: 30, rate: 2_500.0, up: true, sent: 0, requests: 0 },
            link: Link { latency: 20, rate: 1_500.0, loss: 0.0, window: 0 },
            playlist,
            connect_ms: 300,
            check_ms: 5,
            begins_ms: 0.0,
            random: 0x9E37_79B9_7F4A_7C15,
        }
    }

    /// The same film without tags or piece lists: only the SHA-256 of each segment is known.
    pub fn digests(segments: usize, size: usize) -> Self {
        let mut world = Self::vod(segments, size);
        world.server.files.retain(|url, _| !url.ends_with(".pieces"));
        world.playlist.tag = None;
        for segment in &mut world.playlist.segments {
            segment.object = None;
        }
        let files = &world.server.files;
        world.playlist.add_digests(|locator| {
            let file = files.get(&locator.url)?;
            Some((Root(Sha256::digest(file).into()), file.len() as u64))
        });
        assert_eq!(world.playlist.locators().count(), segments);
        world
    }

    /// A viewer that arrives in `after` milliseconds.
    pub fn join(&mut self, after: Millis) -> usize {
        self.join_as(after, Config::default(), None)
    }

    pub fn join_as(&mut self, after: Millis, config: Config, lie: Option<Lie>) -> usize {
        self.add(after, PeerKind::Viewer, config, lie)
    }

    /// The server as a peer: it holds the film, and plays nothing.
    pub fn edge(&mut self, after: Millis) -> usize {
        let config = Config { memory_limit: u64::MAX, upload_limit: None, max_upload_ratio: None, ..Config::default() };
        let index = self.add(after, PeerKind::Edge, config, None);
        let now = self.now;
        let edge = &mut self.viewers[index];
        edge.is_edge = true;
        edge.swarm.playlist(now, &self.playlist);
        for (locator, _) in self.playlist.locators() {
            let object = edge.swarm.object(locator).unwrap();
            let bytes = &self.server.files[&locator.url];
            let mut hasher = ObjectHasher::new();
            hasher.update(bytes);
            assert!(edge.swarm.hold(now, object, hasher.finish().list));
            for (piece, bytes) in (0..).zip(bytes.chunks(PIECE_SIZE as usize)) {
                edge.store.insert((object, piece), bytes.to_vec());
            }
        }
        index
    }

    fn add(&mut self, after: Millis, kind: PeerKind, config: Config, lie: Option<Lie>) -> usize {
        let index = self.viewers.len();
        let swarm = Swarm::new(VIDEO, kind, config, &[index as u8 + 1; 32], self.now);
        self.viewers.push(Viewer {
            swarm,
            assembly: Assembly::new(),
            store: BTreeMap::new(),
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            next_peer: 0,
            fetches: BTreeSet::new(),
            trial_bodies: BTreeMap::new(),
            uplink: None,
            uplink_free: 0.0,
            leaving: BTreeMap::new(),
            unsent: BTreeMap::new(),
            lie,
            alive: false,
            closed: Vec::new(),
            refused: Vec::new(),
            differs: 0,
            next_segment: 0,
            waiting: None,
            buffered_end: 0.0,
            position: 0.0,
            started_at: None,
            joined_at: self.now + after,
            stalled_ms: 0.0,
            seen: self.now + after,
            paused: false,
            late_ms: 0.0,
            delivered: BTreeMap::new(),
            failed: 0,
            is_edge: false,
        });
        self.push(after, Event::Join(index));
        index
    }

    /// Runs until `until` milliseconds from now.
    pub fn run(&mut self, span: Millis) {
        let until = self.now + span;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = self.now.max(at);
            self.happen(event);
        }
        self.now = until;
    }

    /// A viewer is gone without a word (its tab was killed).
    pub fn vanish(&mut self, index: usize) {
        self.viewers[index].alive = false;
    }

    /// A viewer closes its tab: the others see it a moment later.
    pub fn leave(&mut self, index: usize) {
        self.vanish(index);
        let others: Vec<usize> = self.viewers[index].peers.keys().copied().collect();
        for to in others {
            self.push(50, Event::Gone { from: index, to });
        }
    }

    pub fn seek(&mut self, index: usize, segment: usize) {
        let now = self.now;
        let viewer = &mut self.viewers[index];
        if let Some(request) = viewer.waiting.take() {
            viewer.swarm.cancel(now, request);
        }
        viewer.next_segment = segment;
        viewer.position = segment as f64 * 4_000.0;
        viewer.buffered_end = viewer.position;
        self.drain(index);
    }

    /// Every byte that a player got is right, and its film is whole so far.
    pub fn assert_right(&self) {
        for (index, viewer) in self.viewers.iter().enumerate() {
            for (segment, bytes) in &viewer.delivered {
                assert_eq!(
                    Some(bytes),
                    self.server.files.get(&segment_url(*segment)),
                    "viewer {index} got a wrong segment {segment}"
                );
            }
        }
    }

    /// Media bytes from the server over the size of the film.
    pub fn copies(&self) -> f64 {
        let film: usize =
            self.server.files.iter().filter(|(url, _)| !url.ends_with(".pieces")).map(|(_, bytes)| bytes.len()).sum();
        self.server.sent as f64 / film as f64
    }

    fn push(&mut self, after: Millis, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Join(index) => {
                let others: Vec<usize> = (0..index).filter(|&other| self.viewers[other].alive).collect();
                let viewer = &mut self.viewers[index];
                viewer.alive = true;
                viewer.swarm.joined(self.now, &format!("viewer-{index}"), b"salt", others.len() as u32 + 1);
                viewer.swarm.playlist(self.now, &self.playlist);
                self.drain(index);
                for other in others {
                    self.push(self.connect_ms, Event::Connect(index, other));
                    let population = self.viewers.iter().filter(|v| v.alive).count() as u32;
                    self.viewers[other].swarm.population(self.now, population);
                    self.drain(other);
                }
                self.push(0, Event::Tick(index));
            }
            Event::Connect(a, b) => {
                if self.viewers[a].alive && self.viewers[b].alive {
                    self.connect(a, b);
                }
            }
            Event::Tick(index) => {
                if !self.viewers[index].alive {
                    return;
                }
                self.play(index);
                let now = self.now;
                let viewer = &mut self.viewers[index];
                if viewer.swarm.next_timeout().is_some_and(|at| at <= now) {
                    viewer.swarm.timeout(now);
                }
                self.drain(index);
                self.push(50, Event::Tick(index));
            }
            Event::HttpStart { viewer, fetch, list, url, start, end, ranged } => {
                self.serve(viewer, fetch, list, &url, start, end, ranged);
            }
            Event::HttpData { viewer, fetch, at, body } => self.http_data(viewer, fetch, at, body),
            Event::Message { from, to, bytes, data } => self.message(from, to, &bytes, data),
            Event::Checked { viewer, check, digest } => {
                if self.viewers[viewer].alive {
                    self.viewers[viewer].swarm.checked(self.now, check, &digest);
                    self.drain(viewer);
                }
            }
            Event::Drained { from, to, len } => {
                let now = self.now;
                let viewer = &mut self.viewers[from];
                let unsent = viewer.unsent.entry(to).or_default();
                *unsent = unsent.saturating_sub(len);
                if let (true, Some(&peer)) = (viewer.alive, viewer.peers.get(&to)) {
                    viewer.swarm.buffered(now, peer, *unsent);
                    self.drain(from);
                }
            }
            Event::Gone { from, to } => {
                let now = self.now;
                let viewer = &mut self.viewers[to];
                if let Some(peer) = viewer.peers.remove(&from) {
                    viewer.links.remove(&peer);
                    viewer.swarm.peer_closed(now, peer);
                    self.drain(to);
                }
            }
        }
    }

    fn connect(&mut self, a: usize, b: usize) {
        let now = self.now;
        for (me, other, role) in [(a, b, Role::Offerer), (b, a, Role::Answerer)] {
            let viewer = &mut self.viewers[me];
            let peer = Peer(viewer.next_peer);
            viewer.next_peer += 1;
            viewer.links.insert(peer, other);
            viewer.peers.insert(other, peer);
            let setup = PeerSetup {
                id: format!("viewer-{other}"),
                role,
                local_fingerprint: [me as u8; 32],
                remote_fingerprint: [other as u8; 32],
            };
            viewer.swarm.peer_open(now, peer, setup);
        }
        self.drain(a);
        self.drain(b);
    }

    fn play(&mut self, index: usize) {
        let now = self.now;
        let segments = self.playlist.segments.len();
        let viewer = &mut self.viewers[index];
        let elapsed = (now - viewer.seen) as f64;
        viewer.seen = now;
        let end = segments as f64 * 4_000.0;
        if viewer.started_at.is_some() && !viewer.paused && viewer.position < end {
            let wished = elapsed.min(end - viewer.position);
            let moved = wished.min(viewer.buffered_end - viewer.position).max(0.0);
            viewer.position += moved;
            viewer.stalled_ms += wished - moved;
        }
        viewer.swarm.playback(
            now,
            Playback {
                position_ms: viewer.started_at.map_or(0.0, |_| self.begins_ms + viewer.position),
                rate: 1.0,
                playing: !viewer.paused,
                buffered_ms: viewer.buffered_end - viewer.position,
                late_ms: viewer.late_ms,
            },
        );
        let hungry = viewer.buffered_end - viewer.position < PLAYER_BUFFER_MS;
        if !viewer.is_edge && viewer.waiting.is_none() && viewer.next_segment < segments && hungry {
            let request = Request(now as u32 * 64 + viewer.next_segment as u32);
            let locator = Locator { url: segment_url(viewer.next_segment), range: None };
            viewer.waiting = Some(request);
            let start_ms = self.begins_ms + viewer.next_segment as f64 * 4_000.0;
            if self.begins_ms > 0.0 && viewer.started_at.is_none() {
                // As for an init section, which tells nothing of where playback will begin.
                let init = Locator { url: segment_url(segments - 1), range: None };
                assert!(viewer.swarm.request(now, Request(u32::MAX), &init, f64::NEG_INFINITY));
                viewer.swarm.cancel(now, Request(u32::MAX));
            }
            assert!(viewer.swarm.request(now, request, &locator, start_ms));
        }
    }

    fn got(&mut self, index: usize, request: Request, bytes: Vec<u8>) {
        let now = self.now;
        let viewer = &mut self.viewers[index];
        assert_eq!(viewer.waiting.take(), Some(request));
        viewer.delivered.insert(viewer.next_segment, bytes);
        viewer.next_segment += 1;
        viewer.buffered_end += 4_000.0;
        viewer.started_at.get_or_insert(now - viewer.joined_at);
    }

    fn drain(&mut self, index: usize) {
        while let Some(action) = self.viewers[index].swarm.poll_action() {
            self.act(index, action);
        }
    }

    fn act(&mut self, index: usize, action: Action) {
        let now = self.now;
        let latency = self.server.latency;
        let viewer = &mut self.viewers[index];
        match action {
            Action::Fetch { fetch, object, url, start, end, ranged, reload, first_piece } => {
                viewer.assembly.begin_fetch(fetch, viewer.swarm.size(object), first_piece);
                viewer.fetches.insert(fetch);
                if reload {
                    viewer.trial_bodies.insert(fetch, Vec::new());
                }
                let event = Event::HttpStart { viewer: index, fetch, list: false, url, start, end, ranged };
                self.push(latency, event);
            }
            Action::FetchList { fetch, url, start, len, ranged, .. } => {
                viewer.fetches.insert(fetch);
                let end = start + u64::from(len);
                self.push(latency, Event::HttpStart { viewer: index, fetch, list: true, url, start, end, ranged });
            }
            Action::AbortFetch { fetch } => {
                viewer.fetches.remove(&fetch);
            }
            Action::SendControl { peer, bytes } => self.transmit(index, peer, Outgoing::Control(bytes)),
            Action::SendFrame { peer, header, object, piece, offset, len } => {
                let bytes = &viewer.store[&(object, piece)];
                let payload = &bytes[offset as usize..(offset + len) as usize];
                let message = [&header[..], payload].concat();
                self.transmit(index, peer, Outgoing::Data(message));
            }
            Action::Keep { source, object, piece } => {
                let bytes = viewer.assembly.take(source, piece).expect("a kept piece is in the assembly");
                assert!(viewer.store.insert((object, piece), bytes).is_none(), "kept twice");
            }
            Action::Discard { source, piece } => viewer.assembly.discard(source, piece),
            Action::Evict { object } => viewer.store.retain(|(other, _), _| *other != object),
            Action::Deliver { request, object } => {
                let pieces = viewer.store.range((object, 0)..=(object, u32::MAX));
                let bytes: Vec<u8> = pieces.flat_map(|(_, bytes)| bytes.iter().copied()).collect();
                self.got(index, request, bytes);
            }
            Action::Check { object, size, check } => {
                let mut hasher = Sha256::new();
                let pieces = viewer.store.range((object, 0)..=(object, u32::MAX));
                let held: usize = pieces.map(|(_, bytes)| (hasher.update(bytes), bytes.len()).1).sum();
                assert_eq!(held as u64, size, "only what is whole is checked");
                let digest = hasher.finalize().into();
                self.push(self.check_ms, Event::Checked { viewer: index, check, digest });
            }
            Action::DeliverUnverified { request, fetch } => {
                let bytes = viewer.trial_bodies.remove(&fetch).expect("only of a reload");
                self.got(index, request, bytes);
            }
            Action::Fail { request, .. } => {
                assert_eq!(viewer.waiting.take(), Some(request));
                viewer.failed += 1;
            }
            Action::Close { peer, reason } => {
                if let Some(other) = viewer.links.remove(&peer) {
                    viewer.peers.remove(&other);
                    viewer.closed.push((other, reason));
                    self.push(30, Event::Gone { from: index, to: other });
                }
            }
            Action::Refused { what, .. } => viewer.refused.push(what),
            Action::OriginDiffers { .. } => viewer.differs += 1,
            Action::ReloadPlaylist { .. } => viewer.swarm.playlist(now, &self.playlist),
            _ => panic!("an action that the bed does not know"),
        }
    }

    fn transmit(&mut self, from: usize, peer: Peer, message: Outgoing) {
        let mut messages = VecDeque::from([message]);
        if let Some(lie) = &mut self.viewers[from].lie {
            messages = messages.into_iter().flat_map(lie).collect();
        }
        let Some(&to) = self.viewers[from].links.get(&peer) else { return };
        for message in messages {
            let (bytes, data) = match message {
                Outgoing::Control(bytes) => (bytes, false),
                Outgoing::Data(bytes) => (bytes, true),
            };
            let link = self.link;
            let lost = self.chance() < link.loss;
            let viewer = &mut self.viewers[from];
            let begin = viewer.uplink_free.max(self.now as f64);
            viewer.uplink_free = begin + bytes.len() as f64 / viewer.uplink.unwrap_or(link.rate);
            let mut after = (viewer.uplink_free - self.now as f64) as Millis + link.latency;
            if lost {
                after += 2 * link.latency + 200;
            }
            if data {
                let len = bytes.len() as u32;
                let unsent = viewer.unsent.entry(to).or_default();
                *unsent += len;
                viewer.swarm.buffered(self.now, peer, *unsent);
                let leaving = viewer.leaving.entry(to).or_default();
                leaving.push_back((viewer.uplink_free, len));
                let mut leaves = self.now as f64;
                while leaving.iter().map(|(_, len)| len).sum::<u32>() > link.window {
                    let Some((on_wire, _)) = leaving.pop_front() else { break };
                    leaves = leaves.max(on_wire);
                }
                self.push(leaves as Millis - self.now, Event::Drained { from, to, len });
            }
            self.push(after, Event::Message { from, to, bytes, data });
        }
    }

    fn message(&mut self, from: usize, to: usize, bytes: &[u8], data: bool) {
        let now = self.now;
        // What a dead or dying tab sent before still arrives; to a dead one nothing does.
        if !self.viewers[to].alive {
            return;
        }
        let viewer = &mut self.viewers[to];
        let Some(&peer) = viewer.peers.get(&from) else { return };
        if data {
            match decode_frame(bytes) {
                Err(_) => viewer.swarm.garbage(now, peer),
                Ok((frame, payload)) => {
                    let len = payload.len() as u32;
                    if let Some(place) = viewer.swarm.frame(now, peer, &frame, len) {
                        let cv = viewer.assembly.frame(peer, place.size, &frame, payload);
                        assert_eq!(cv.is_some(), place.complete, "core and assembly agree on what is whole");
                        if let Some(cv) = cv {
                            viewer.swarm.peer_piece(now, peer, frame.request, frame.piece, cv);
                        }
                    }
                }
            }
        } else {
            viewer.swarm.control(now, peer, bytes);
        }
        self.drain(to);
    }

    #[allow(clippy::too_many_arguments)] // the fields of one event
    fn serve(&mut self, index: usize, fetch: Fetch, list: bool, url: &str, start: u64, end: u64, ranged: bool) {
        let now = self.now;
        let viewer = &mut self.viewers[index];
        if !viewer.fetches.contains(&fetch) || !viewer.alive {
            return;
        }
        self.server.requests += 1;
        let file = self.server.files.get(url).filter(|_| self.server.up);
        if list {
            viewer.fetches.remove(&fetch);
            let body = file.map(|file| if ranged { &file[start as usize..end as usize] } else { &file[..] });
            self.server.sent += body.map_or(0, <[u8]>::len) as u64;
            viewer.swarm.list_fetched(now, fetch, body);
        } else if let Some(file) = file {
            let body =
                if ranged { file[start as usize..(end as usize).min(file.len())].to_vec() } else { file.clone() };
            self.push(0, Event::HttpData { viewer: index, fetch, at: 0, body: body.into() });
        } else {
            viewer.fetches.remove(&fetch);
            viewer.swarm.fetch_failed(now, fetch, if self.server.up { 404 } else { 0 });
        }
        self.drain(index);
    }

    fn http_data(&mut self, index: usize, fetch: Fetch, at: usize, body: std::rc::Rc<Vec<u8>>) {
        let now = self.now;
        let up = self.server.up;
        let viewer = &mut self.viewers[index];
        if !viewer.fetches.contains(&fetch) || !viewer.alive {
            return;
        }
        if !up {
            viewer.fetches.remove(&fetch);
            viewer.swarm.fetch_failed(now, fetch, 0);
            self.drain(index);
            return;
        }
        if at == body.len() {
            viewer.fetches.remove(&fetch);
            viewer.swarm.fetch_end(now, fetch);
            self.drain(index);
            return;
        }
        let end = (at + 16_384).min(body.len());
        let chunk = &body[at..end];
        self.server.sent += chunk.len() as u64;
        viewer.swarm.fetch_progress(now, fetch, chunk.len() as u32);
        if let Some(trial) = viewer.trial_bodies.get_mut(&fetch) {
            trial.extend_from_slice(chunk);
        }
        let progress = viewer.assembly.fetch_data(fetch, chunk);
        for (piece, cv) in progress.pieces {
            viewer.swarm.fetch_piece(now, fetch, piece, cv);
        }
        if progress.excess > 0 {
            viewer.swarm.fetch_overrun(now, fetch);
        }
        let after = (chunk.len() as f64 / self.server.rate).ceil() as Millis;
        self.drain(index);
        self.push(after, Event::HttpData { viewer: index, fetch, at: end, body });
    }
}

/// A liar that changes control messages.
pub fn control_liar(mut change: impl FnMut(Control) -> Vec<Control> + 'static) -> Option<Lie> {
    Some(Box::new(move |outgoing| match outgoing {
        Outgoing::Control(bytes) => match decode_control(&bytes) {
            Ok(Some(message)) => {
                change(message).iter().map(|message| Outgoing::Control(encode_control(message))).collect()
            }
            _ => vec![Outgoing::Control(bytes)],
        },
        data => vec![data],
    }))
}

/// A liar that changes frames.
pub fn data_liar(mut change: impl FnMut(Vec<u8>) -> Vec<Vec<u8>> + 'static) -> Option<Lie> {
    Some(Box::new(move |outgoing| match outgoing {
        Outgoing::Data(bytes) => change(bytes).into_iter().map(Outgoing::Data).collect(),
        control => vec![control],
    }))
}
