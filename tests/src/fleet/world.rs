//! The world: its clock, its queue, its peers, and what their cores ask for.

use std::{collections::HashMap, net::Ipv4Addr, rc::Rc};

use marea_signaling::{access::Access, ids::ConnectionId, shard::Shard};
use marea_swarm::{
    Action, Millis, PIECE_SIZE,
    pieces::list_to_bytes,
    swarm::{Fetch, Peer, Playback, Source},
    wire::decode_frame,
};

use super::{
    film::Film,
    http::{Kind, Server},
    net,
    player::Player,
    rng::Rng,
    scenario::{Arrivals, Role, Scenario},
    viewer::{NO_UDP, Packet, Viewer},
};

/// What happens at a time.
#[derive(Debug)]
pub(super) enum Event {
    /// A peer comes.
    Arrive(usize),
    /// A peer leaves; `true`: by a word, else its tab is killed.
    Leave(usize, bool),
    /// The share that leaves at once.
    Exodus(f64),
    /// The page has its playlist, as it was when it left the server.
    Playlist { viewer: usize, rendition: usize, sent: Millis, asked: Millis },
    /// Time to read a live playlist again.
    Poll(usize),
    /// The engine is there.
    Engine(usize),
    /// The player looks whether to load more.
    Look(usize),
    /// The viewer jumps, or takes another rendition.
    Seek(usize),
    /// See `Seek`.
    Switch(usize),
    /// The core's clock.
    Wake(usize),
    /// The server's transfer moves.
    Http { slot: usize, turn: u32 },
    /// A peer's uplink moves.
    Uplink { viewer: usize, turn: u32 },
    /// A control message arrives.
    Control { to: usize, peer: Peer, bytes: Vec<u8> },
    /// Frames arrive.
    Data { to: usize, peer: Peer, packets: Vec<Packet> },
    /// A connection was closed by the other side.
    HungUp { to: usize, peer: Peer },
    /// A connection opens.
    Connect { offerer: usize, answerer: usize },
    /// A connection that never opened is given up.
    Expire { viewer: usize, other: usize, since: Millis },
    /// A message of a peer reaches signaling.
    ToShard { viewer: usize, text: String },
    /// A socket opens at signaling.
    Socket(usize),
    /// Its end reaches signaling; `true`: cleanly.
    SocketClosed(ConnectionId, bool),
    /// A message of signaling reaches a peer.
    FromShard { viewer: usize, text: bytes::Bytes },
    /// Signaling's clock.
    ShardTimer,
    /// A script's clock.
    Script(usize),
}

/// Everything.
pub struct World {
    pub(super) now: Millis,
    pub(super) queue: super::wheel::Wheel<Event>,
    pub(super) rng: Rng,
    pub(super) scenario: Rc<Scenario>,
    pub(super) film: Film,
    pub(super) viewers: Vec<Viewer>,
    pub(super) server: Server,
    pub(super) shard: Shard,
    pub(super) shard_timer: Millis,
    pub(super) sockets: HashMap<ConnectionId, usize>,
    pub(super) ids: HashMap<String, usize>,
    pub(super) scratch: (Vec<f64>, Vec<f64>, Vec<usize>),
    dirty: Vec<usize>,
    /// Segments that somebody's player asked for, by place in the film, with the time of the first.
    pub(super) asked: Vec<Option<Millis>>,
    /// Messages to and from signaling.
    pub(super) signals: u64,
    /// Requests whose frames held wrong bytes.
    pub(super) wrong: std::collections::HashSet<(usize, Peer, u32)>,
    /// Events in all.
    pub(super) events: u64,
    pub(super) last_arrival: Millis,
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(scenario: &Scenario) -> Self {
        let mut rng = Rng::new(scenario.seed);
        let film = Film::new(scenario.film, &mut rng);
        let secret = rng.seed();
        let asked = vec![None; film.segments.len()];
        let mut world = Self {
            now: 0,
            queue: super::wheel::Wheel::default(),
            scenario: Rc::new(scenario.clone()),
            film,
            viewers: Vec::with_capacity(scenario.viewers),
            server: Server::default(),
            shard: Shard::new(Access::Any, &secret, &rng.seed()),
            shard_timer: Millis::MAX,
            sockets: HashMap::new(),
            ids: HashMap::new(),
            scratch: Default::default(),
            dirty: Vec::new(),
            asked,
            signals: 0,
            wrong: Default::default(),
            events: 0,
            last_arrival: 0,
            rng,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        let scenario = Rc::clone(&self.scenario);
        let end = match scenario.film.window {
            Some(_) => f64::INFINITY,
            None => (scenario.film.segments as u64 * scenario.film.segment_ms) as f64,
        };
        let others: f64 = scenario.crowd.iter().map(|(_, share)| share).sum();
        let odds: Vec<f64> =
            std::iter::once(1.0 - others).chain(scenario.crowd.iter().map(|&(_, share)| share)).collect();
        let starts = match (scenario.cpu, scenario.arrivals) {
            (Some(cpu), Arrivals::Every(ms)) => {
                let joins: Vec<f64> = (0..scenario.viewers).map(|index| index as f64 * ms).collect();
                cpu.starts(&joins, !scenario.http_only)
            }
            _ => Vec::new(),
        };
        let mut at = 0.0;
        for index in 0..scenario.viewers {
            // Drawn from a generator of its own: the same crowd comes with and without Marea.
            let mut rng = Rng::new(scenario.seed ^ (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let role = match rng.pick(&odds) {
                0 => Role::Viewer,
                other => scenario.crowd[other - 1].0,
            };
            at = match scenario.arrivals {
                Arrivals::Every(ms) => index as f64 * ms,
                Arrivals::Within(ms) => rng.range(0.0, ms),
                Arrivals::Poisson(ms) => at + rng.exponential(ms),
            };
            let network = &scenario.network;
            let weights: Vec<f64> = network.lines.iter().map(|line| line.0).collect();
            let line = network.lines[rng.pick(&weights)];
            let losses: Vec<f64> = network.loss.iter().map(|loss| loss.0).collect();
            let rendition = scenario.film.bitrates.len() / 2;
            let mut viewer = Viewer::new(role, Player::new(0, rendition, end));
            viewer.up = line.1 / 8_000.0;
            viewer.down = line.2 / 8_000.0;
            viewer.loss = network.loss[rng.pick(&losses)].1;
            viewer.access = network.rtt.0 * rng.range(0.5, 1.5) / 2.0;
            viewer.place = (rng.unit(), rng.unit());
            viewer.nat = if rng.unit() < network.nats.no_udp { NO_UDP } else { rng.pick(&network.nats.kinds) };
            let home = u32::try_from(index).unwrap_or(u32::MAX);
            viewer.address = match role {
                Role::Sybil => Ipv4Addr::from(0xCB00_7100 + home % 250),
                // A different network each.
                _ => Ipv4Addr::from(0x1000_0000 + (home << 8) + 7),
            };
            if let Some(start) = starts.get(index) {
                (at, viewer.slowed) = (start.at, start.slowed);
            }
            self.viewers.push(viewer);
            let at = at as Millis;
            if at >= scenario.span || (scenario.http_only && !matches!(role, Role::Viewer | Role::FreeRider)) {
                continue;
            }
            self.last_arrival = self.last_arrival.max(at);
            self.queue.push(at, Event::Arrive(index));
            if let Some(mean) = scenario.stay {
                let stay = rng.exponential(mean);
                self.queue.push((at as f64 + stay) as Millis, Event::Leave(index, rng.unit() < 0.5));
            }
            if let Some(mean) = scenario.seeks {
                self.queue.push(at + rng.exponential(mean) as Millis, Event::Seek(index));
            }
            if let Some(mean) = scenario.switches {
                self.queue.push(at + rng.exponential(mean) as Millis, Event::Switch(index));
            }
        }
        if let Some((at, share)) = scenario.leave {
            self.queue.push(at, Event::Exodus(share));
        }
    }

    /// Runs to the end of the scenario.
    pub fn run(&mut self) {
        let until = self.scenario.span;
        while let Some((now, events)) = self.queue.next(until) {
            self.now = now;
            self.events += events.len() as u64;
            for event in events {
                self.happen(event);
            }
            // The core looks at its schedule once for all that came in this millisecond, as a browser's does for all that
            // its channels bring in one task.
            while let Some(viewer) = self.dirty.pop() {
                self.drain(viewer);
            }
        }
        self.now = until;
        for viewer in &mut self.viewers {
            if viewer.alive {
                viewer.player.advance(until);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(viewer) => self.arrive(viewer),
            Event::Leave(viewer, kindly) => self.leave(viewer, kindly),
            Event::Exodus(share) => self.exodus(share),
            Event::Playlist { viewer, rendition, sent, asked } => self.playlist_arrived(viewer, rendition, sent, asked),
            Event::Poll(viewer) => self.poll(viewer),
            Event::Engine(viewer) => self.engine_ready(viewer),
            Event::Look(viewer) => self.look(viewer),
            Event::Seek(viewer) => self.seek(viewer),
            Event::Switch(viewer) => self.switch(viewer),
            Event::Wake(viewer) => self.wake(viewer),
            Event::Http { slot, turn } => self.http_event(slot, turn),
            Event::Uplink { viewer, turn } => {
                if self.viewers[viewer].alive && self.viewers[viewer].uplink_turn == turn {
                    self.uplink(viewer);
                }
            }
            Event::Control { to, peer, bytes } => self.control_arrived(to, peer, &bytes),
            Event::Data { to, peer, packets } => self.data_arrived(to, peer, &packets),
            Event::HungUp { to, peer } => self.hung_up(to, peer),
            Event::Connect { offerer, answerer } => self.connected(offerer, answerer),
            Event::Expire { viewer, other, since } => self.expire(viewer, other, since),
            Event::ToShard { viewer, text } => self.reach_shard(viewer, &text),
            Event::Socket(viewer) => self.socket_open(viewer),
            Event::SocketClosed(socket, clean) => self.socket_closed(socket, clean),
            Event::FromShard { viewer, text } => self.reach_peer(viewer, &text),
            Event::ShardTimer => self.shard_timeout(),
            Event::Script(viewer) => self.script_timeout(viewer),
        }
    }

    /// A viewer's core has something to say.
    pub(super) fn touch(&mut self, viewer: usize) {
        if !std::mem::replace(&mut self.viewers[viewer].dirty, true) {
            self.dirty.push(viewer);
        }
    }

    fn wake(&mut self, index: usize) {
        let now = self.now;
        let viewer = &mut self.viewers[index];
        if viewer.wake_at != now {
            return;
        }
        viewer.wake_at = Millis::MAX;
        if let Some(core) = &mut viewer.core
            && core.next_timeout().is_some_and(|at| at <= now)
        {
            core.timeout(now);
        }
        self.touch(index);
    }

    fn drain(&mut self, index: usize) {
        let now = self.now;
        let viewer = &mut self.viewers[index];
        viewer.dirty = false;
        if !viewer.alive {
            return;
        }
        let watches = viewer.watches();
        viewer.player.advance(now);
        if let Some(core) = &mut viewer.core {
            viewer.counters.drains += 1;
            if watches {
                let player = &viewer.player;
                let playing = player.started.is_some() && !player.ended();
                core.playback(
                    now,
                    Playback {
                        position_ms: player.position,
                        rate: 1.0,
                        playing,
                        buffered_ms: player.buffered().max(0.0),
                        late_ms: 0.0,
                    },
                );
            }
            while let Some(action) = self.viewers[index].core.as_mut().and_then(|core| core.poll_action()) {
                self.act(index, action);
            }
        }
        self.tell_want(index);
        let viewer = &mut self.viewers[index];
        let Some(at) = viewer.core.as_ref().and_then(|core| core.next_timeout()) else { return };
        let at = at.max(now + 1);
        if at < viewer.wake_at {
            viewer.wake_at = at;
            self.queue.push(at, Event::Wake(index));
        }
    }

    fn act(&mut self, index: usize, action: Action) {
        let now = self.now;
        let viewer = &mut self.viewers[index];
        match action {
            Action::Fetch { fetch, object, start, end, first_piece, .. } => {
                let segment = viewer.objects[object.0 as usize] as usize;
                let at = first_piece * PIECE_SIZE;
                let slot = self.get(index, Kind::Media(fetch), segment, at, at + (end - start) as u32);
                self.viewers[index].fetches.push((fetch, slot));
            }
            Action::FetchList { fetch, object, len, .. } => {
                let segment = viewer.objects[object.0 as usize] as usize;
                let slot = self.get(index, Kind::List(fetch), segment, 0, len);
                self.viewers[index].fetches.push((fetch, slot));
            }
            Action::AbortFetch { fetch } => {
                if let Some(at) = viewer.fetches.iter().position(|&(other, _)| other == fetch) {
                    let (_, slot) = viewer.fetches.swap_remove(at);
                    self.drop_transfer(slot);
                }
            }
            Action::SendControl { peer, bytes } => self.send_control(index, peer, bytes),
            Action::SendFrame { peer, header, len, .. } => {
                self.send_packet(index, peer, Packet { header, len, wrong: false });
                let queued = self.viewers[index].end(peer).map(|end| end.queued);
                if let (Some(queued), Some(core)) = (queued, &mut self.viewers[index].core) {
                    core.buffered(now, peer, queued);
                }
            }
            Action::Keep { source: Source::Peer(peer, request), .. } => {
                // Only a core that judges wrongly passes this: a wrong piece was given another hash.
                viewer.counters.wrong_kept += u64::from(self.wrong.contains(&(index, peer, request)));
            }
            Action::Deliver { request, .. } => self.delivered(index, request),
            Action::Fail { request, .. } => {
                viewer.counters.failed += 1;
                if viewer.player.load.is_some_and(|load| load.request == request) {
                    viewer.player.load = None;
                    self.queue.push(now + 1_000, Event::Look(index));
                }
            }
            Action::Close { peer, reason } => {
                viewer.closes.push(reason);
                viewer.counters.bans += u64::from(reason.banned());
                if reason.banned()
                    && let Some(end) = viewer.ends.iter().find(|end| end.peer == peer)
                {
                    let other = end.other;
                    viewer.banned.push(other);
                }
                let after = viewer.ends.iter().find(|end| end.peer == peer).map_or(1.0, |end| end.delay);
                self.hang_up(index, peer, after as Millis);
            }
            Action::ReloadPlaylist { .. } => {
                let after = self.rng.range(1.0, 200.0) as Millis;
                self.ask_playlist(index, after);
            }
            Action::Refused { .. } => viewer.counters.refused += 1,
            // Without media there is nothing to free; bytes of the origin are always right here.
            _ => {}
        }
    }

    fn control_arrived(&mut self, to: usize, peer: Peer, bytes: &[u8]) {
        let now = self.now;
        let viewer = &mut self.viewers[to];
        if !viewer.alive || !viewer.ends.iter().any(|end| end.peer == peer) {
            return;
        }
        if let Some(core) = &mut viewer.core {
            core.control(now, peer, bytes);
            self.touch(to);
        } else {
            self.script_control(to, peer, bytes);
        }
    }

    fn data_arrived(&mut self, to: usize, peer: Peer, packets: &[Packet]) {
        let now = self.now;
        let viewer = &mut self.viewers[to];
        if !viewer.alive || !viewer.ends.iter().any(|end| end.peer == peer) {
            return;
        }
        let Some(core) = &mut viewer.core else { return };
        for packet in packets {
            // One byte stands for the payload, which a decoder wants to see.
            let mut message = [0; marea_swarm::wire::FRAME_HEADER_LEN + 1];
            message[..packet.header.len()].copy_from_slice(&packet.header);
            let Ok((frame, _)) = decode_frame(&message) else {
                core.garbage(now, peer);
                continue;
            };
            let Some(place) = core.frame(now, peer, &frame, packet.len) else { continue };
            if packet.wrong {
                self.wrong.insert((to, peer, frame.request));
            }
            if place.complete {
                let segment = viewer.objects[place.object.0 as usize] as usize;
                let mut cv = self.film.segments[segment].list[frame.piece as usize];
                if packet.wrong {
                    cv[0] ^= 1;
                }
                core.peer_piece(now, peer, frame.request, frame.piece, cv);
            }
        }
        self.touch(to);
    }

    fn hung_up(&mut self, to: usize, peer: Peer) {
        let now = self.now;
        let viewer = &mut self.viewers[to];
        let Some(at) = viewer.ends.iter().position(|end| end.peer == peer) else { return };
        let end = viewer.ends.remove(at);
        if end.chunk.is_some() {
            self.viewers[end.other].incoming -= 1;
        }
        if let Some(core) = &mut self.viewers[to].core {
            core.peer_closed(now, peer);
        }
        self.touch(to);
    }

    pub(super) fn response_arrived(&mut self, viewer: usize, fetch: Fetch, slot: usize) {
        let first = self.server.transfers[slot].at / PIECE_SIZE;
        if let Some(core) = &mut self.viewers[viewer].core {
            core.fetch_response(self.now, fetch, first);
            self.touch(viewer);
        }
    }

    /// Bytes of a GET arrive: `at` is where the next ones begin.
    pub(super) fn http_arrived(&mut self, index: usize, kind: Kind, segment: usize, bytes: u32, at: u32, end: bool) {
        let now = self.now;
        let viewer = &mut self.viewers[index];
        let Kind::Media(fetch) = kind else {
            viewer.plain_bytes += u64::from(bytes);
            if end {
                viewer.plain = None;
                self.plain_done(index, segment);
            }
            return;
        };
        let Some(core) = &mut viewer.core else { return };
        core.fetch_progress(now, fetch, bytes);
        let list = &self.film.segments[segment];
        if at.is_multiple_of(PIECE_SIZE) || at == list.size {
            let piece = (at - 1) / PIECE_SIZE;
            core.fetch_piece(now, fetch, piece, list.list[piece as usize]);
        }
        if end {
            core.fetch_end(now, fetch);
            viewer.fetches.retain(|&(other, _)| other != fetch);
        }
        self.touch(index);
    }

    pub(super) fn list_arrived(&mut self, index: usize, fetch: Fetch, segment: usize) {
        let viewer = &mut self.viewers[index];
        viewer.fetches.retain(|&(other, _)| other != fetch);
        if let Some(core) = &mut viewer.core {
            core.list_fetched(self.now, fetch, Some(&list_to_bytes(&self.film.segments[segment].list)));
            self.touch(index);
        }
    }

    fn exodus(&mut self, share: f64) {
        for viewer in 0..self.viewers.len() {
            if self.viewers[viewer].alive && self.rng.unit() < share {
                let after = self.rng.range(0.0, 1_000.0) as Millis;
                let kindly = self.rng.unit() < 0.5;
                self.queue.push(self.now + after, Event::Leave(viewer, kindly));
            }
        }
    }

    /// A peer goes: by a word to all, or as a killed tab does.
    pub(super) fn leave(&mut self, index: usize, kindly: bool) {
        if !self.viewers[index].alive {
            return;
        }
        let now = self.now;
        self.viewers[index].player.advance(now);
        if kindly {
            if let Some(core) = &mut self.viewers[index].core {
                core.leave(now);
            }
            while let Some(action) = self.viewers[index].core.as_mut().and_then(|core| core.poll_action()) {
                if matches!(action, Action::SendControl { .. } | Action::Close { .. }) {
                    self.act(index, action);
                }
            }
        }
        let viewer = &mut self.viewers[index];
        viewer.alive = false;
        viewer.gone = true;
        let transfers: Vec<usize> = viewer.fetches.drain(..).map(|(_, slot)| slot).chain(viewer.plain.take()).collect();
        for slot in transfers {
            self.drop_transfer(slot);
        }
        for end in std::mem::take(&mut self.viewers[index].ends) {
            if end.chunk.is_some() {
                self.viewers[end.other].incoming -= 1;
            }
            // A browser notices by ICE; the core's own limit comes first.
            let after = if kindly { end.delay as Millis + 1 } else { 25_000 };
            self.queue.push(now + after, Event::HungUp { to: end.other, peer: end.other_peer });
        }
        if let Some(socket) = self.viewers[index].socket.take() {
            let after = self.server_rtt(index) / 2.0;
            self.queue.push(now + after.ceil() as Millis, Event::SocketClosed(socket, kindly));
        }
        // Its memory is not needed; its counters are.
        let viewer = &mut self.viewers[index];
        if let Some(core) = viewer.core.take() {
            viewer.final_bytes = Some(core.bytes());
        }
        viewer.dialing = Vec::new();
        viewer.script = None;
    }

    /// How far apart a connection's making is: gathering, checks and two handshakes, in milliseconds.
    pub(super) fn handshake_ms(&mut self, a: usize, b: usize) -> Millis {
        let rtt = self.rtt(a, b);
        (4.0 * rtt + self.rng.range(60.0, 180.0)) as Millis
    }

    pub(super) fn can_reach(&self, a: usize, b: usize) -> bool {
        net::reachable(&self.viewers[a], &self.viewers[b])
    }
}
