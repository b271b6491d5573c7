//! What is said over an open connection: HELLO, then serving and, if asked to, fetching.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Range,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use marea_swarm::{
    Oid,
    ids::announce_id,
    pieces::Cv,
    proof::{self, Role},
    wire::{
        Control, FRAME_PAYLOAD, Frame, Hello, MAX_LIST_ITEMS, MAX_PIECES, MAX_TEXT_PART, PieceSet, WIRE_VERSIONS,
        decode_control, decode_frame, encode_control,
    },
};
use tokio::{sync::mpsc, task::JoinSet, time};

use super::{
    Event, Shared,
    link::{Channel, Pipes, send},
    lock,
    script::{Script, random},
    store::Kept,
    uploads::{Counters, Upload, upload},
};

/// Requests in a second after which a neighbour is banned as a flood: an honest one asks for runs of pieces.
const MAX_REQUESTS_PER_SECOND: u64 = 200;

/// Requests of ours that may be open at one neighbour.
const MAX_OPEN_REQUESTS: usize = 4;

/// Silence of a neighbour after which its requests are given up and their pieces are asked for elsewhere.
const SILENCE: Duration = Duration::from_secs(2);

/// How often an otherwise idle connection is probed.
const PING: Duration = Duration::from_secs(4);

/// The uplink that it claims, in bytes per second: enough to be asked first.
const CLAIMED_UPLINK: u32 = 5_000_000;

/// One neighbour, from before its connection is open to its end.
pub(super) struct Session {
    shared: Arc<Shared>,
    peer: String,
    role: Role,
    pipes: Option<Pipes>,
    /// Our HELLO is sent.
    greeted: bool,
    /// Its HELLO was right.
    proven: bool,
    /// The pieces it says it has of objects that we know.
    has: BTreeMap<Oid, Vec<bool>>,
    /// Our open requests.
    asked: BTreeMap<u32, Ask>,
    next_request: u32,
    /// Lists asked for, as far as they have come.
    lists: BTreeMap<Oid, Vec<Cv>>,
    /// When its last FRAME came.
    heard: Instant,
    /// It was busy or silent: not asked before this.
    paused_until: Instant,
    uploads: Option<mpsc::UnboundedSender<Upload>>,
    cancelled: Arc<Mutex<HashSet<u32>>>,
    tasks: JoinSet<()>,
    second: Instant,
    requests_this_second: u64,
    pinged: Instant,
    counters: Arc<Counters>,
    reported: (u64, u64, u64),
}

/// One of our requests.
struct Ask {
    oid: Oid,
    pieces: Range<u32>,
    /// The frames of unfinished pieces, by offset.
    frames: BTreeMap<u32, BTreeMap<u32, Bytes>>,
    finished: BTreeSet<u32>,
    made: Instant,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, peer: String, role: Role) -> Self {
        let now = Instant::now();
        Self {
            shared,
            peer,
            role,
            pipes: None,
            greeted: false,
            proven: false,
            has: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_request: 1,
            lists: BTreeMap::new(),
            heard: now,
            paused_until: now,
            uploads: None,
            cancelled: Arc::default(),
            tasks: JoinSet::new(),
            second: now,
            requests_this_second: 0,
            pinged: now,
            counters: Arc::default(),
            reported: (0, 0, 0),
        }
    }

    fn script(&self) -> Script {
        self.shared.options.script
    }

    /// Both channels are open.
    pub(super) async fn open(&mut self, pipes: Pipes) -> Result<()> {
        let (uploads, queue) = mpsc::unbounded_channel();
        self.uploads = Some(uploads);
        self.tasks.spawn(upload(
            Arc::clone(&self.shared),
            Arc::clone(&pipes.data),
            queue,
            Arc::clone(&self.cancelled),
            Arc::clone(&self.counters),
        ));
        let speaks_first = pipes.speaks_first;
        self.pipes = Some(pipes);
        if speaks_first { self.say_hello().await } else { Ok(()) }
    }

    async fn say_hello(&mut self) -> Result<()> {
        let Some(pipes) = &self.pipes else { return Ok(()) };
        self.greeted = true;
        let video = &self.shared.options.video;
        let key = match self.script() {
            Script::AnnounceOnly => announce_id(video),
            _ => proof::swarm_key(video),
        };
        let nonce = random();
        let mut proof = proof::proof(&key, self.role, &nonce, &pipes.local, &pipes.remote);
        if self.script() == Script::WrongProof {
            proof[0] ^= 1;
        }
        let versions = (*WIRE_VERSIONS.start(), *WIRE_VERSIONS.end());
        let hello = Hello { versions, kind: self.shared.options.kind, nonce, proof };
        self.say(&Control::Hello(hello)).await?;
        if matches!(self.script(), Script::AnnounceOnly | Script::WrongProof) {
            self.welcome().await?;
            self.ask_blindly().await?;
        }
        Ok(())
    }

    /// A message arrived. `Some` with the reason if the connection is to be closed.
    pub(super) async fn message(&mut self, channel: Channel, bytes: Bytes) -> Result<Option<String>> {
        let verdict = match channel {
            Channel::Control => self.control(&bytes).await?,
            Channel::Data => self.frame(&bytes).await?,
        };
        Ok(match verdict {
            Verdict::Fine => None,
            Verdict::Left(reason) => Some(format!("bye {reason}")),
            Verdict::Refused(reason) => {
                lock(&self.shared.banned).push(self.peer.clone());
                self.shared.event(Event::Refused { peer: self.peer.clone(), reason: reason.to_owned() });
                Some(reason.to_owned())
            }
        })
    }

    /// A piece was verified, over whichever link: this neighbour is told.
    pub(super) async fn announce(&mut self, oid: Oid, piece: u32) -> Result<()> {
        if self.proven {
            let pieces = PieceSet::Some { first: piece, bits: vec![1] };
            self.say(&Control::Have { oid, pieces }).await?;
        }
        Ok(())
    }

    /// Looks at the timers.
    pub(super) async fn tick(&mut self) -> Result<()> {
        let now = Instant::now();
        if now - self.second >= Duration::from_secs(1) {
            self.second = now;
            self.requests_this_second = 0;
            self.report();
        }
        if !self.proven {
            return Ok(());
        }
        if now - self.pinged >= PING {
            self.pinged = now;
            self.say(&Control::Ping { nonce: u32::from_be_bytes(random()), reply: false }).await?;
        }
        let heard = self.heard;
        let silent = |ask: &Ask| now - ask.made.max(heard) > SILENCE;
        let silent: Vec<u32> = self.asked.iter().filter(|(_, ask)| silent(ask)).map(|(&id, _)| id).collect();
        for id in silent {
            self.say(&Control::Cancel { id }).await?;
            self.give_up(id, SILENCE * 2);
        }
        self.ask().await
    }

    /// The connection is over.
    pub(super) fn closed(&mut self, reason: String) -> Event {
        let open: Vec<u32> = self.asked.keys().copied().collect();
        for id in open {
            self.give_up(id, Duration::ZERO);
        }
        Event::Closed {
            peer: self.peer.clone(),
            reason,
            served: self.counters.served.load(Relaxed),
            received: self.counters.received.load(Relaxed),
            requests: self.counters.requests.load(Relaxed),
            messages: self.counters.messages.load(Relaxed),
        }
    }

    fn report(&mut self) {
        let counters = &self.counters;
        let now = (counters.served.load(Relaxed), counters.received.load(Relaxed), counters.requests.load(Relaxed));
        if now != self.reported {
            self.reported = now;
            let (served, received, requests) = now;
            self.shared.event(Event::Traffic { peer: self.peer.clone(), served, received, requests });
        }
    }

    async fn say(&self, message: &Control) -> Result<()> {
        match &self.pipes {
            Some(pipes) => send(&pipes.control, &encode_control(message)).await,
            None => Ok(()),
        }
    }

    async fn control(&mut self, bytes: &[u8]) -> Result<Verdict> {
        let message = match decode_control(bytes) {
            Ok(Some(message)) => message,
            Ok(None) if self.proven => return Ok(Verdict::Fine),
            Ok(None) => return Ok(Verdict::Refused("garbage")),
            Err(error) => {
                tracing::info!(peer = self.peer, %error, "garbage on control");
                return Ok(Verdict::Refused("garbage"));
            }
        };
        match message {
            Control::Hello(hello) if !self.proven => return self.hello(&hello).await,
            other if !self.proven => {
                tracing::info!(peer = self.peer, ?other, "before HELLO");
                return Ok(Verdict::Refused("garbage"));
            }
            _ => {}
        }
        self.counters.messages.fetch_add(1, Relaxed);
        match message {
            Control::Hello(_) => return Ok(Verdict::Refused("garbage")),
            Control::Have { oid, pieces } => {
                if let Some(count) = self.shared_count(oid) {
                    let theirs = self.has.entry(oid).or_insert_with(|| vec![false; count as usize]);
                    mark(theirs, &pieces);
                    self.ask().await?;
                }
            }
            Control::Drop { oid } => drop(self.has.remove(&oid)),
            Control::ListGet { oid } => {
                if self.floods() {
                    return Ok(Verdict::Refused("flood"));
                }
                self.give_list(oid).await?;
            }
            Control::List { oid, total, first, values } => return self.list(oid, total, first, &values).await,
            Control::Request { id, oid, first, count, deadline_ms } => {
                self.counters.requests.fetch_add(1, Relaxed);
                if self.floods() {
                    return Ok(Verdict::Refused("flood"));
                }
                let held = (first..first + count).all(|piece| lock(&self.shared.store).piece(oid, piece).is_some());
                if !held {
                    self.say(&Control::Busy { id, retry_ms: 1_000 }).await?;
                } else if let Some(uploads) = &self.uploads {
                    let deadline = Instant::now() + Duration::from_millis(u64::from(deadline_ms));
                    let _ = uploads.send(Upload { request: id, oid, pieces: first..first + count, deadline });
                }
            }
            Control::Cancel { id } => drop(lock(&self.cancelled).insert(id)),
            Control::Busy { id, retry_ms } => {
                self.give_up(id, Duration::from_millis(u64::from(retry_ms)));
            }
            Control::TextGet { name } => {
                if self.floods() {
                    return Ok(Verdict::Refused("flood"));
                }
                self.give_text(name).await?;
            }
            Control::Ping { nonce, reply: false } => self.say(&Control::Ping { nonce, reply: true }).await?,
            Control::Bye { reason } => return Ok(Verdict::Left(reason)),
            // Claims tell who fetches by HTTP: we never do. Texts are never asked for.
            Control::Status { .. }
            | Control::Claim { .. }
            | Control::Unclaim { .. }
            | Control::Text { .. }
            | Control::Ping { .. } => {}
        }
        Ok(Verdict::Fine)
    }

    async fn hello(&mut self, hello: &Hello) -> Result<Verdict> {
        if !self.greeted {
            self.say_hello().await?;
        }
        if self.script() == Script::AnnounceOnly {
            // It cannot check a proof any better than make one.
            self.proven = true;
            return Ok(Verdict::Fine);
        }
        let Some(pipes) = &self.pipes else { return Ok(Verdict::Refused("garbage")) };
        let key = proof::swarm_key(&self.shared.options.video);
        let right = proof::verify(&key, self.role.other(), &hello.nonce, &pipes.remote, &pipes.local, &hello.proof);
        if !right {
            return Ok(Verdict::Refused("wrong-proof"));
        }
        if hello.versions.0 > *WIRE_VERSIONS.end() || hello.versions.1 < *WIRE_VERSIONS.start() {
            return Ok(Verdict::Refused("version"));
        }
        self.proven = true;
        self.shared.event(Event::Open { peer: self.peer.clone(), offerer: self.role == Role::Offerer });
        match self.script() {
            Script::WrongProof => {}
            Script::Flood => self.flood(),
            Script::Garbage => self.garbage(),
            _ => self.welcome().await?,
        }
        Ok(Verdict::Fine)
    }

    /// STATUS, and what is held.
    async fn welcome(&self) -> Result<()> {
        self.say(&Control::Status { uploads: true, uplink: CLAIMED_UPLINK }).await?;
        let held = lock(&self.shared.store).held();
        for (oid, pieces) in held {
            self.say(&Control::Have { oid, pieces }).await?;
        }
        Ok(())
    }

    /// Whoever is refused tries all the same: nothing may come of it.
    async fn ask_blindly(&self) -> Result<()> {
        for (id, item) in (1..).zip(self.shared.library.items()) {
            let oid = item.root.oid();
            self.say(&Control::ListGet { oid }).await?;
            self.say(&Control::Request { id, oid, first: 0, count: 1, deadline_ms: 10_000 }).await?;
        }
        Ok(())
    }

    fn flood(&mut self) {
        let Some(control) = self.pipes.as_ref().map(|pipes| Arc::clone(&pipes.control)) else { return };
        let oids: Vec<Oid> = self.shared.library.items().map(|item| item.root.oid()).collect();
        self.tasks.spawn(async move {
            let mut tick = time::interval(Duration::from_millis(1));
            for (id, &oid) in (1u32 << 16..).zip(oids.iter().cycle()) {
                tick.tick().await;
                let request = Control::Request { id, oid, first: 0, count: 1, deadline_ms: 10_000 };
                if send(&control, &encode_control(&request)).await.is_err() {
                    break;
                }
            }
        });
    }

    fn garbage(&mut self) {
        let Some(pipes) = &self.pipes else { return };
        for channel in [Arc::clone(&pipes.data), Arc::clone(&pipes.control)] {
            self.tasks.spawn(async move {
                let mut tick = time::interval(Duration::from_millis(20));
                loop {
                    tick.tick().await;
                    if send(&channel, &random::<200>()).await.is_err() {
                        break;
                    }
                }
            });
        }
    }

    fn floods(&mut self) -> bool {
        self.requests_this_second += 1;
        self.requests_this_second > MAX_REQUESTS_PER_SECOND
    }

    fn shared_count(&self, oid: Oid) -> Option<u32> {
        lock(&self.shared.store).count(oid)
    }

    async fn give_list(&self, oid: Oid) -> Result<()> {
        let known = lock(&self.shared.store).has_list(oid);
        let list = match self.shared.library.get(oid) {
            Some(item) if known => self.script().list(item),
            _ => Vec::new(),
        };
        let total = list.len() as u32;
        if total == 0 {
            return self.say(&Control::List { oid, total: 0, first: 0, values: Vec::new() }).await;
        }
        for (values, at) in list.chunks(MAX_LIST_ITEMS).zip(0u32..) {
            let first = at * MAX_LIST_ITEMS as u32;
            self.say(&Control::List { oid, total, first, values: values.to_vec() }).await?;
        }
        Ok(())
    }

    async fn give_text(&self, name: String) -> Result<()> {
        let text = self.script().text(&self.shared.library, &name).unwrap_or_default().into_bytes();
        let total = u32::try_from(text.len())?;
        self.shared.event(Event::TextAsked { peer: self.peer.clone(), name: name.clone(), bytes: total });
        if total == 0 {
            return self.say(&Control::Text { name, total, offset: 0, part: Vec::new() }).await;
        }
        for (part, offset) in text.chunks(MAX_TEXT_PART).zip((0u32..).step_by(MAX_TEXT_PART)) {
            self.say(&Control::Text { name: name.clone(), total, offset, part: part.to_vec() }).await?;
        }
        Ok(())
    }

    async fn list(&mut self, oid: Oid, total: u32, first: u32, values: &[Cv]) -> Result<Verdict> {
        let Some(so_far) = self.lists.get_mut(&oid) else { return Ok(Verdict::Fine) };
        if total == 0 {
            self.lists.remove(&oid);
            self.paused_until = Instant::now() + Duration::from_secs(1);
            return Ok(Verdict::Fine);
        }
        if first as usize != so_far.len() {
            return Ok(Verdict::Refused("garbage"));
        }
        so_far.extend(values);
        if so_far.len() == total as usize {
            let list = self.lists.remove(&oid).unwrap_or_default();
            if !lock(&self.shared.store).list(oid, list) {
                return Ok(Verdict::Refused("wrong-list"));
            }
            self.ask().await?;
        }
        Ok(Verdict::Fine)
    }

    /// Asks for whatever this neighbour has and nobody was asked for.
    async fn ask(&mut self) -> Result<()> {
        if !self.shared.options.fetch || Instant::now() < self.paused_until {
            return Ok(());
        }
        let unlisted = {
            let store = lock(&self.shared.store);
            self.has.keys().find(|oid| !store.has_list(**oid) && !self.lists.contains_key(*oid)).copied()
        };
        if let Some(oid) = unlisted {
            self.lists.insert(oid, Vec::new());
            self.say(&Control::ListGet { oid }).await?;
        }
        while self.asked.len() < MAX_OPEN_REQUESTS {
            let Some((oid, pieces)) = lock(&self.shared.store).next(&self.has) else { break };
            let id = self.next_request;
            self.next_request += 1;
            let (first, count) = (pieces.start, pieces.len() as u32);
            let (frames, finished, made) = (BTreeMap::new(), BTreeSet::new(), Instant::now());
            self.asked.insert(id, Ask { oid, pieces, frames, finished, made });
            self.say(&Control::Request { id, oid, first, count, deadline_ms: 30_000 }).await?;
        }
        Ok(())
    }

    fn give_up(&mut self, id: u32, pause: Duration) {
        if let Some(ask) = self.asked.remove(&id) {
            let mut store = lock(&self.shared.store);
            for piece in ask.pieces.filter(|piece| !ask.finished.contains(piece)) {
                store.release(ask.oid, piece..piece + 1);
            }
            self.paused_until = self.paused_until.max(Instant::now() + pause);
        }
    }

    async fn frame(&mut self, bytes: &Bytes) -> Result<Verdict> {
        if !self.proven {
            return Ok(Verdict::Refused("garbage"));
        }
        let (frame, payload) = match decode_frame(bytes) {
            Ok(decoded) => decoded,
            Err(error) => {
                tracing::info!(peer = self.peer, %error, "garbage on data");
                return Ok(Verdict::Refused("garbage"));
            }
        };
        self.counters.received.fetch_add(payload.len() as u64, Relaxed);
        self.heard = Instant::now();
        // Frames of a request that was given up may still be under way.
        let Some(ask) = self.asked.get_mut(&frame.request) else { return Ok(Verdict::Fine) };
        let piece_len = lock(&self.shared.store).piece_len(ask.oid, frame.piece);
        if !ask.takes(&frame, payload.len() as u32, piece_len) {
            return Ok(Verdict::Refused("garbage"));
        }
        let frames = ask.frames.entry(frame.piece).or_default();
        frames.insert(frame.offset, bytes.slice(bytes.len() - payload.len()..));
        if frames.len() < piece_len.div_ceil(FRAME_PAYLOAD) as usize {
            return Ok(Verdict::Fine);
        }
        let whole: Bytes = frames.values().flatten().copied().collect();
        ask.frames.remove(&frame.piece);
        ask.finished.insert(frame.piece);
        let (oid, size) = (ask.oid, self.shared.library.get(ask.oid).map_or(0, |item| item.bytes.len()));
        if ask.finished.len() == ask.pieces.len() {
            self.asked.remove(&frame.request);
        }
        let (kept, full) = {
            let mut store = lock(&self.shared.store);
            let kept = store.keep(oid, frame.piece, whole);
            if kept == Kept::Wrong {
                store.release(oid, frame.piece..frame.piece + 1);
                return Ok(Verdict::Refused("wrong-piece"));
            }
            (kept, store.is_full())
        };
        let _ = self.shared.news.send((oid, frame.piece));
        if kept == Kept::LastPiece {
            let equal = lock(&self.shared.store).equals_file(oid);
            let object = self
                .shared
                .library
                .get(oid)
                .map_or_else(String::new, |item| data_encoding::HEXLOWER.encode(&item.root.0));
            self.shared.event(Event::Fetched { object, bytes: size as u64, equal });
        }
        if full {
            let items = self.shared.library.items();
            let objects = items.len();
            self.shared.event(Event::Done { objects, bytes: items.map(|item| item.bytes.len() as u64).sum() });
        }
        self.ask().await?;
        Ok(Verdict::Fine)
    }
}

/// What is to become of a neighbour after a message.
enum Verdict {
    Fine,
    Left(u8),
    Refused(&'static str),
}

impl Ask {
    /// Whether a frame belongs to this request and is new.
    fn takes(&self, frame: &Frame, len: u32, piece_len: u32) -> bool {
        let expected = piece_len.saturating_sub(frame.offset).min(FRAME_PAYLOAD);
        frame.oid == self.oid
            && self.pieces.contains(&frame.piece)
            && !self.finished.contains(&frame.piece)
            && len == expected
            && !self.frames.get(&frame.piece).is_some_and(|frames| frames.contains_key(&frame.offset))
    }
}

fn mark(theirs: &mut [bool], pieces: &PieceSet) {
    match pieces {
        PieceSet::All => theirs.fill(true),
        PieceSet::Some { first, bits } => {
            for at in 0..MAX_PIECES.min(bits.len() as u32 * 8) {
                if bits[at as usize / 8] >> (at % 8) & 1 == 1
                    && let Some(theirs) = theirs.get_mut((first + at) as usize)
                {
                    *theirs = true;
                }
            }
        }
    }
}
