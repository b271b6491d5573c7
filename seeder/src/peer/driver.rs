//! What drives all connections of all videos: datagrams, messages of signaling and time in; datagrams, messages and bytes from
//! disk out.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use data_encoding::BASE64URL_NOPAD;
use marea_signaling::AnnounceId;
use marea_swarm::{
    Action, Millis,
    proof::Role,
    swarm::{Peer, PeerSetup},
    wire::{FRAME_HEADER_LEN, decode_frame},
};
use str0m::{
    crypto::{dtls::DtlsCert, from_feature_flags},
    net::Transmit,
};
use tokio::{sync::mpsc, time::sleep_until};

use super::{
    Counts, Film, Order, PeerPlan,
    link::{Common, Happened, Link, Name},
    net::{Datagram, Net},
    random,
    room::Room,
    routes::Routes,
    signal::{self, Candidate, FromServer, News, ToServer},
};
use crate::config::{LINK_GOODBYE, MAX_LINKS, UPLOAD_BURST};

/// Datagrams that are taken together before anything is sent.
const BATCH: usize = 64;

/// The state of a peer.
pub(super) struct Driver {
    plan: PeerPlan,
    counts: Arc<Counts>,
    certificate: DtlsCert,
    started: Instant,
    net: Net,
    datagrams: mpsc::Receiver<Datagram>,
    out: mpsc::UnboundedSender<ToServer>,
    /// The other end, until signaling is started.
    outbox: Option<mpsc::UnboundedReceiver<ToServer>>,
    /// By announce id.
    rooms: HashMap<String, Room>,
    /// Withdrawn by their owners, as signaling said.
    revoked: HashSet<String>,
    links: HashMap<u32, Link>,
    /// Links by video and neighbour.
    names: HashMap<(String, String), u32>,
    /// Links by where their datagrams come from.
    routes: Routes,
    next: u32,
    /// Links that have to be run.
    dirty: BTreeSet<u32>,
    /// What the links want sent: together, since each call of the kernel costs more than its bytes.
    outgoing: Vec<Transmit>,
    /// Bytes of media that may go now.
    budget: f64,
    refilled: Instant,
    /// Whether signaling is lost; said once.
    down: bool,
}

impl Driver {
    /// None if there is no certificate to be had.
    pub(super) fn new(plan: PeerPlan, counts: Arc<Counts>) -> Option<Self> {
        let certificate = from_feature_flags().dtls_provider.generate_certificate()?;
        let (net, datagrams) = Net::new(plan.port);
        let (out, outbox) = mpsc::unbounded_channel();
        let now = Instant::now();
        Some(Self {
            plan,
            counts,
            certificate,
            started: now,
            net,
            datagrams,
            out,
            outbox: Some(outbox),
            rooms: HashMap::new(),
            revoked: HashSet::new(),
            links: HashMap::new(),
            names: HashMap::new(),
            routes: Routes::default(),
            next: 0,
            dirty: BTreeSet::new(),
            outgoing: Vec::new(),
            budget: 0.0,
            refilled: now,
            down: false,
        })
    }

    /// Runs until nobody sends videos any more.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let (news, mut heard) = mpsc::unbounded_channel();
        let Some(outbox) = self.outbox.take() else { return };
        tokio::spawn(signal::run(self.plan.place(), outbox, news));
        loop {
            let until = self.deadline();
            tokio::select! {
                Some(datagram) = self.datagrams.recv() => {
                    self.datagram(&datagram);
                    for _ in 1..BATCH {
                        let Ok(datagram) = self.datagrams.try_recv() else { break };
                        self.datagram(&datagram);
                    }
                }
                Some(news) = heard.recv() => self.news(news).await,
                order = orders.recv() => match order {
                    Some(Order::All(films)) => self.share(films),
                    Some(Order::Hold(film)) => {
                        self.hold(film);
                    }
                    Some(Order::Drop(video)) => self.drop_video(&AnnounceId::of_video(&video).to_string()),
                    None => break,
                },
                () = sleep_until(until.into()) => {}
            }
            self.settle();
            self.net.send(&mut self.outgoing);
        }
        self.leave().await;
    }

    fn millis(&self) -> Millis {
        self.started.elapsed().as_millis() as Millis
    }

    /// When something is due.
    fn deadline(&self) -> Instant {
        let links = self.links.values().map(|link| link.timeout);
        let rooms = self.rooms.values().filter_map(|room| room.swarm.next_timeout());
        let rooms = rooms.map(|at| self.started + Duration::from_millis(at));
        let refill = (self.budget <= 0.0 && self.links.values().any(|link| link.unsent > 0)).then(|| {
            let rate = self.plan.upload_limit.unwrap_or(u64::MAX) as f64;
            self.refilled + Duration::from_secs_f64((1.0 - self.budget) / rate.max(1.0))
        });
        let idle = Instant::now() + Duration::from_secs(60);
        links.chain(rooms).chain(refill).fold(idle, Instant::min)
    }

    fn datagram(&mut self, datagram: &Datagram) {
        let now = Instant::now();
        if let Some(news) = self.net.answered(datagram) {
            if let Some((base, seen)) = news {
                self.seen_as(base, seen, now);
            }
            return;
        }
        let (from, to, bytes) = (datagram.from, datagram.to, &datagram.bytes);
        let fits = |id: &u32| self.links.get(id).is_some_and(|link| link.accepts(now, from, to, bytes));
        let Some(id) = self.routes.find((to, from), bytes).find(fits) else { return };
        if let Some(link) = self.links.get_mut(&id) {
            self.routes.heard((to, from), id);
            link.receive(now, from, to, bytes);
            // One input, one drain: the stack's contract.
            self.run_link(id, now);
        }
    }

    /// An address of ours was found out: connections that are being made may need it.
    fn seen_as(&mut self, base: SocketAddr, seen: SocketAddr, now: Instant) {
        tracing::debug!("our address is known");
        for (&id, link) in self.links.iter_mut().filter(|(_, link)| !link.is_open()) {
            if let Some(candidate) = link.seen_as(base, seen, now) {
                let Name { video, peer, conn, .. } = link.name.clone();
                let candidate = Some(Candidate { candidate, sdp_m_line_index: Some(0) });
                let _ = self.out.send(ToServer::Candidate { video, to: peer, conn, candidate });
            }
            self.dirty.insert(id);
        }
    }

    /// Shares these videos and no others.
    fn share(&mut self, films: Vec<Film>) {
        let kept: HashSet<String> = films.into_iter().filter_map(|film| self.hold(film)).collect();
        let gone: Vec<String> = self.rooms.keys().filter(|video| !kept.contains(*video)).cloned().collect();
        gone.iter().for_each(|video| self.drop_video(video));
    }

    /// Shares this video, as it is now; its announce id, unless it is withdrawn or empty.
    fn hold(&mut self, film: Film) -> Option<String> {
        let now = self.millis();
        let video = AnnounceId::of_video(&film.video).to_string();
        if self.revoked.contains(&video) || film.parts.is_empty() {
            return None;
        }
        let fresh = !self.rooms.contains_key(&video);
        let room = self.rooms.entry(video.clone()).or_insert_with(|| Room::new(&self.plan, &film, video.clone(), now));
        room.hold(film, now);
        if fresh && !self.down {
            let _ = self.out.send(room.join(&self.plan, Vec::new()));
        }
        Some(video)
    }

    /// Shares a video no more.
    fn drop_video(&mut self, video: &str) {
        if self.rooms.contains_key(video) {
            let _ = self.out.send(ToServer::Leave { video: video.to_owned() });
            self.part(video);
        }
    }

    /// Leaves the swarm of a video, goodbyes said.
    fn part(&mut self, video: &str) {
        let now = self.millis();
        if let Some(room) = self.rooms.get_mut(video) {
            room.swarm.leave(now);
        }
        self.settle();
        self.rooms.remove(video);
        let left: Vec<u32> =
            self.links.iter().filter(|(_, link)| link.name.video == video).map(|(&id, _)| id).collect();
        left.into_iter().for_each(|id| self.end(id));
    }

    async fn leave(mut self) {
        let videos: Vec<String> = self.rooms.keys().cloned().collect();
        for video in videos {
            let _ = self.out.send(ToServer::Leave { video: video.clone() });
            self.part(&video);
        }
        self.net.send(&mut self.outgoing);
        // What was said has to go out before the sockets close.
        tokio::time::sleep(LINK_GOODBYE).await;
    }

    async fn news(&mut self, news: News) {
        match news {
            News::Up => {
                if std::mem::take(&mut self.down) {
                    tracing::info!("signaling is back");
                }
                self.net.open(&self.plan.signaling).await;
                for (video, room) in &mut self.rooms {
                    let of_it = self.links.values().filter(|link| link.name.video == *video && link.is_open());
                    let connected = of_it.map(|link| link.name.peer.clone()).collect();
                    let _ = self.out.send(room.join(&self.plan, connected));
                }
            }
            News::Down(reason) => {
                if !std::mem::replace(&mut self.down, true) {
                    tracing::warn!(reason, "signaling cannot be reached, and is tried again");
                }
            }
            News::Heard(message) => self.heard(*message),
        }
    }

    fn heard(&mut self, message: FromServer) {
        let (now, millis) = (Instant::now(), self.millis());
        match message {
            FromServer::Joined { video, peer, resume, viewers, seeders, salt, ice, policy } => {
                let Some(room) = self.rooms.get_mut(&video) else { return };
                if policy.off() {
                    tracing::info!("the site wants no sharing of a video");
                    room.joined = false;
                    let _ = self.out.send(ToServer::Leave { video });
                    return;
                }
                let salt = BASE64URL_NOPAD.decode(salt.as_bytes()).unwrap_or_default();
                room.joined(millis, peer, resume, &salt, viewers.saturating_add(seeders));
                self.net.servers(ice.iter().flat_map(|server| server.urls().to_vec()).collect());
            }
            FromServer::Viewers { video, viewers, seeders } => {
                if let Some(room) = self.rooms.get_mut(&video) {
                    room.swarm.population(millis, viewers.saturating_add(seeders));
                }
            }
            FromServer::Match { video, peers } => {
                for found in peers {
                    let known = self.names.contains_key(&(video.clone(), found.peer.clone()));
                    if !known && self.welcome(&video, &found.peer) {
                        let conn = BASE64URL_NOPAD.encode(&random::<9>());
                        self.offer(Name { video: video.clone(), peer: found.peer, conn, near: found.near }, now);
                    }
                }
            }
            FromServer::Offer { video, from, conn, sdp, near } => {
                self.offered(Name { video, peer: from, conn, near }, &sdp, now);
            }
            FromServer::Answer { video, from, conn, sdp } => {
                let Some((id, link)) = self.link(&video, &from, &conn) else { return };
                if let Err(error) = link.answered(&sdp, now) {
                    tracing::debug!(%error, "an answer is refused");
                    self.end(id);
                } else {
                    self.dirty.insert(id);
                }
            }
            FromServer::Candidate { video, from, conn, candidate } => {
                if let (Some(candidate), Some((id, link))) = (candidate, self.link(&video, &from, &conn)) {
                    link.candidate(&candidate.candidate, now);
                    self.dirty.insert(id);
                }
            }
            FromServer::Reject { video, from, conn } => {
                if let Some((id, link)) = self.link(&video, &from, &conn)
                    && !link.is_open()
                {
                    self.end(id);
                }
            }
            FromServer::Revoked { video } => {
                tracing::info!("a video was withdrawn by its owner and is shared no more");
                self.part(&video);
                self.revoked.insert(video);
            }
            FromServer::Error { code, message, video } => {
                let refused = video.as_ref().and_then(|video| self.rooms.get(video)).is_some_and(|room| !room.joined);
                if refused {
                    let help = match code.as_str() {
                        "kind-refused" | "token-invalid" => {
                            ": give --peer-key FILE, whose public key the signaling server lists as `peer-key`"
                        }
                        _ => "",
                    };
                    tracing::error!("signaling refuses us ({code}: {message}){help}");
                }
            }
            // An open connection outlives signaling's word; the core and the stack tell when it is dead.
            FromServer::Drain { .. } | FromServer::Other => {}
        }
    }

    fn link(&mut self, video: &str, peer: &str, conn: &str) -> Option<(u32, &mut Link)> {
        let id = *self.names.get(&(video.to_owned(), peer.to_owned()))?;
        self.links.get_mut(&id).filter(|link| link.name.conn == conn).map(|link| (id, link))
    }

    /// Whether there is room for a neighbour.
    fn welcome(&self, video: &str, peer: &str) -> bool {
        let room = self.rooms.get(video);
        room.is_some_and(|room| room.joined && room.swarm.want() > 0 && !room.banned.contains(peer))
            && self.links.len() < MAX_LINKS
    }

    fn common(&self) -> Common<'_> {
        Common {
            certificate: &self.certificate,
            addresses: self.net.addresses().collect(),
            reflexive: self.net.reflexive().collect(),
        }
    }

    fn offer(&mut self, name: Name, now: Instant) {
        match Link::offer(name.clone(), &self.common(), now) {
            Ok((link, sdp)) => {
                let Name { video, peer, conn, .. } = name;
                let _ = self.out.send(ToServer::Offer { video, to: peer, conn, sdp });
                self.insert(link);
            }
            Err(error) => tracing::warn!(%error, "no connection can be offered"),
        }
    }

    fn offered(&mut self, name: Name, sdp: &str, now: Instant) {
        let key = (name.video.clone(), name.peer.clone());
        let Name { video, peer: to, conn, .. } = name.clone();
        let me = self.rooms.get(&video).map(|room| room.me.clone()).unwrap_or_default();
        if let Some(&id) = self.names.get(&key)
            && let Some(link) = self.links.get_mut(&id)
        {
            if link.name.conn == conn {
                if let Ok(answer) = link.restarted(sdp, now) {
                    self.routes.name(id, link.ufrag());
                    let sdp = self.plan.signed(self.rooms.get(&video), link, answer);
                    let _ = self.out.send(ToServer::Answer { video, to, conn, sdp });
                    self.dirty.insert(id);
                } else {
                    let _ = self.out.send(ToServer::Reject { video, to, conn, code: "refused" });
                }
                return;
            }
            // Both offered: that of the smaller id stands. After an answer the neighbour has begun anew.
            if link.role == Role::Offerer && link.is_unanswered() && me < to {
                return;
            }
            self.end(id);
        }
        if !self.welcome(&video, &to) {
            let _ = self.out.send(ToServer::Reject { video, to, conn, code: "full" });
            return;
        }
        match Link::answer(name, sdp, &self.common(), now) {
            Ok((link, answer)) => {
                let sdp = self.plan.signed(self.rooms.get(&video), &link, answer);
                let _ = self.out.send(ToServer::Answer { video, to, conn, sdp });
                self.insert(link);
            }
            Err(error) => {
                tracing::debug!(%error, "an offer is refused");
                let _ = self.out.send(ToServer::Reject { video, to, conn, code: "refused" });
            }
        }
    }

    fn insert(&mut self, mut link: Link) {
        let id = self.next;
        self.next += 1;
        self.routes.name(id, link.ufrag());
        self.names.insert((link.name.video.clone(), link.name.peer.clone()), id);
        self.links.insert(id, link);
        self.dirty.insert(id);
    }

    /// Forgets a connection; the neighbour is told if it can be.
    fn end(&mut self, id: u32) {
        let Some(mut link) = self.links.remove(&id) else { return };
        link.close();
        link.run(Instant::now(), &mut 0.0, &mut self.outgoing, &mut Vec::new());
        let key = (link.name.video.clone(), link.name.peer.clone());
        if self.names.get(&key) == Some(&id) {
            self.names.remove(&key);
        }
        self.routes.forget(id);
        self.dirty.remove(&id);
        let now = self.millis();
        if let Some(room) = self.rooms.get_mut(&link.name.video) {
            room.swarm.peer_closed(now, Peer(id));
        }
    }

    /// Carries out all that is due.
    fn settle(&mut self) {
        let now = Instant::now();
        let due: Vec<u32> = self.links.iter().filter(|(_, link)| link.timeout <= now).map(|(&id, _)| id).collect();
        for id in due {
            if let Some(link) = self.links.get_mut(&id) {
                link.tick(now);
            }
            self.run_link(id, now);
        }
        let waiting = self.links.iter().filter(|(_, link)| link.unsent > 0).map(|(&id, _)| id);
        self.dirty.extend(waiting);
        // Frames make datagrams, datagrams make room for frames; each round gives less.
        loop {
            while let Some(id) = self.dirty.pop_first() {
                self.run_link(id, now);
            }
            if !self.actions() {
                break;
            }
        }
        let open = self.links.values().filter(|link| link.is_open()).count();
        self.counts.neighbours.store(open, Ordering::Relaxed);
        for room in self.rooms.values_mut() {
            if let Some(update) = room.update() {
                let _ = self.out.send(update);
            }
        }
    }

    /// Runs one connection and hands what happened to its core.
    fn run_link(&mut self, id: u32, now: Instant) {
        self.refill(now);
        let millis = self.millis();
        let Some(link) = self.links.get_mut(&id) else { return };
        let mut happened = Vec::new();
        let (before, waiting) = (link.unsent, self.outgoing.len());
        link.run(now, &mut self.budget, &mut self.outgoing, &mut happened);
        let went = before - link.unsent;
        for transmit in &self.outgoing[waiting..] {
            self.routes.sent((transmit.source, transmit.destination), id);
        }
        let Some(room) = self.rooms.get_mut(&link.name.video) else { return };
        if let Some(edge) = &self.plan.edge {
            edge.count(std::mem::take(&mut link.uncounted));
        }
        if went > 0 {
            self.counts.sent.fetch_add(went as u64, Ordering::Relaxed);
            room.swarm.buffered(millis, Peer(id), u32::try_from(link.unsent).unwrap_or(u32::MAX));
        }
        let mut closed = false;
        for event in happened {
            match event {
                Happened::Open => {
                    let Some(remote_fingerprint) = link.remote else { continue };
                    let setup = PeerSetup {
                        id: link.name.peer.clone(),
                        role: link.role,
                        local_fingerprint: link.local,
                        remote_fingerprint,
                    };
                    room.swarm.peer_open(millis, Peer(id), setup);
                }
                Happened::Control(bytes) => room.swarm.control(millis, Peer(id), &bytes),
                Happened::Data(bytes) => match decode_frame(&bytes) {
                    // Nothing is ever asked for here: the core sees to whoever sends it all the same.
                    Ok((frame, payload)) => {
                        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                        let _ = room.swarm.frame(millis, Peer(id), &frame, len);
                    }
                    Err(_) => room.swarm.garbage(millis, Peer(id)),
                },
                Happened::Closed => closed = true,
            }
        }
        if closed {
            self.end(id);
        }
    }

    fn refill(&mut self, now: Instant) {
        let Some(limit) = self.plan.upload_limit else {
            self.budget = f64::INFINITY;
            return;
        };
        let rate = limit as f64;
        let earned = rate * now.saturating_duration_since(self.refilled).as_secs_f64();
        self.budget = (self.budget + earned).min((rate * UPLOAD_BURST.as_secs_f64()).max(FRAME_HEADER_LEN as f64));
        self.refilled = now;
    }

    /// Carries out what the cores want; false if they want nothing.
    fn actions(&mut self) -> bool {
        let millis = self.millis();
        let mut any = false;
        let mut over = Vec::new();
        for room in self.rooms.values_mut() {
            if room.swarm.next_timeout().is_some_and(|at| at <= millis) {
                room.swarm.timeout(millis);
            }
            while let Some(action) = room.swarm.poll_action() {
                any = true;
                match action {
                    Action::SendControl { peer, bytes } => {
                        if let Some(link) = self.links.get_mut(&peer.0) {
                            link.send_control(bytes);
                            self.dirty.insert(peer.0);
                        }
                    }
                    Action::SendFrame { peer, header, object, piece, offset, len } => {
                        let range = offset as usize..(offset + len) as usize;
                        let frame = room.frame(millis, &header, object, piece, range);
                        if let (Some(frame), Some(link)) = (frame, self.links.get_mut(&peer.0)) {
                            link.send_frame(frame, room.is_init(object));
                            self.dirty.insert(peer.0);
                        }
                    }
                    Action::Close { peer, reason } => {
                        if let Some(link) = self.links.get(&peer.0) {
                            tracing::debug!(?reason, "a neighbour is let go");
                            if reason.banned() {
                                room.banned.insert(link.name.peer.clone());
                            }
                            over.push(peer.0);
                        }
                    }
                    Action::TextAsked { peer, name } => {
                        room.give_text(millis, peer, &name, self.plan.edge.as_deref());
                    }
                    // Nothing is fetched, assembled or played here.
                    _ => {}
                }
            }
        }
        for id in over {
            // A last word, such as BYE, goes before it.
            self.run_link(id, Instant::now());
            self.end(id);
        }
        any
    }
}
