//! The sans-IO core: who is in which swarm, who is told of whom, what is relayed.
//!
//! A host calls a method with the time (Unix milliseconds that never go back), then does what the [`Outbox`] says, and
//! calls [`Shard::timeout`] at [`Shard::next_timeout`]. A video's viewers are all on one shard.
//!
//! # Who gets a match
//! A member is *open* while its `want` is above 0 and its socket is up. Whoever joins, or raises its `want`, or still
//! wants peers at its half-minute turn, is matched with open members that it has no link to; it alone is told, and
//! offers. Two viewers who both wait below the gate therefore meet when the second raises its `want`: then the first is
//! open.
//!
//! # Links
//! A match makes a *link*; so does a join that names its neighbours in `connected`. Only linked peers reach each other,
//! and a link is what a departure is reported along (`gone`). It stays while both are members, so that a pair is not
//! matched over and over; one whose handshake failed is tried again, ever more rarely.

mod join;
mod matching;
mod networks;
mod relay;
mod remote;
mod swarm;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use bytes::Bytes;

use self::{
    networks::Networks,
    swarm::{Member, Swarm},
};
use crate::{
    access::{Access, Rules},
    bucket::Bucket,
    cluster::{NodeId, NodeMessage, Nodes, Numbers, SwarmId},
    defaults,
    ids::{AnnounceId, ConnectionId, Millis, PeerId},
    message::{self, ClientMessage, ErrorCode, Kind, ServerMessage},
    random::Rng,
    sharing::Sharing,
    ticket::Tickets,
};

/// What a call wants done: sends in order, then closes.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Messages to send.
    pub sends: Vec<Send>,
    /// Connections to close after that. [`Shard::close`] is still to be called for them.
    pub closes: Vec<(ConnectionId, CloseReason)>,
    /// The `type` of the message that was read, for metrics.
    pub received: Option<&'static str>,
    /// Why something was refused, for metrics.
    pub rejects: Vec<&'static str>,
    /// Messages to other nodes.
    pub nodes: Vec<(NodeId, NodeMessage)>,
    /// Swarms whose members at this node have changed, and how many they are now.
    pub changed: Vec<(SwarmId, Numbers)>,
}

/// A message to send.
#[derive(Clone, Debug)]
pub struct Send {
    /// To whom.
    pub to: ConnectionId,
    /// Its `type`.
    pub kind: &'static str,
    /// JSON text. Clones share it.
    pub text: Bytes,
    /// It was relayed from another peer.
    pub relayed: bool,
}

/// Why the shard ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// Too many wrong messages, or far too many at all.
    Abuse,
    /// In no video for too long.
    Idle,
}

/// What is known of a connection when it opens.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Its public address, if known.
    pub address: Option<IpAddr>,
    /// May join as mirror or edge without a token.
    pub trusted: bool,
    /// The autonomous system that the address is in, if known.
    pub asn: Option<u32>,
    /// The STUN server to name, as `stun:host:port`.
    pub stun: Option<String>,
}

/// Members of all swarms, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Viewers.
    pub viewers: usize,
    /// Mirrors.
    pub mirrors: usize,
    /// Edges.
    pub edges: usize,
}

impl Counts {
    fn of(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Viewer => &mut self.viewers,
            Kind::Mirror => &mut self.mirrors,
            Kind::Edge => &mut self.edges,
        }
    }
}

/// All swarms of one process (or core).
#[derive(Debug)]
pub struct Shard {
    access: Access,
    rules: Rules,
    tickets: Tickets,
    rng: Rng,
    connections: HashMap<ConnectionId, Connection>,
    next_connection: u64,
    swarms: HashMap<AnnounceId, Swarm>,
    timers: BTreeSet<(Millis, Timer)>,
    counts: Counts,
    networks: Networks,
    /// The other nodes, if there are any.
    nodes: Option<Nodes>,
    /// Whoever leaves now comes back elsewhere.
    draining: bool,
}

#[derive(Debug)]
struct Connection {
    client: Client,
    videos: BTreeMap<AnnounceId, PeerId>,
    messages: Bucket,
    /// It was told that it sends too much, and still does.
    limited: bool,
    offences: Bucket,
    pairings: Bucket,
    /// When it is closed if it is in no video then.
    idle_at: Millis,
    /// Its end was asked for: nothing more is read.
    closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A member may still want peers.
    Retry(AnnounceId, PeerId),
    /// A member's socket broke and did not come back.
    Grace(AnnounceId, PeerId),
    /// Changed numbers may be told.
    Viewers(AnnounceId),
    Idle(ConnectionId),
}

impl Shard {
    /// An empty shard. `secret` makes tickets and salts; `seed` must be secret and fresh.
    pub fn new(access: Access, secret: &[u8; 32], seed: &[u8; 32]) -> Self {
        Self {
            access,
            rules: Rules::default(),
            tickets: Tickets::new(secret),
            rng: Rng::new(seed),
            connections: HashMap::new(),
            next_connection: 0,
            swarms: HashMap::new(),
            timers: BTreeSet::new(),
            counts: Counts::default(),
            networks: Networks::default(),
            nodes: None,
            draining: false,
        }
    }

    /// The secret that all nodes share, where it was not known at the start. Tickets of before count as another server's from now on.
    pub fn set_secret(&mut self, secret: &[u8; 32]) {
        self.tickets = Tickets::new(secret);
    }

    /// A WebSocket has opened.
    pub fn open(&mut self, now: Millis, client: Client) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let idle_at = now + defaults::IDLE_MS;
        let connection = Connection {
            client,
            videos: BTreeMap::new(),
            messages: Bucket::new(now, defaults::MESSAGE_RATE, defaults::MESSAGE_BURST),
            limited: false,
            offences: Bucket::new(now, defaults::OFFENCE_RATE, defaults::OFFENCE_BURST),
            pairings: Bucket::new(now, defaults::PAIRINGS_PER_HOUR / 3600.0, defaults::PAIRINGS_PER_HOUR),
            idle_at,
            closing: false,
        };
        self.connections.insert(id, connection);
        self.timers.insert((idle_at, Timer::Idle(id)));
        id
    }

    /// A text message came.
    pub fn handle(&mut self, now: Millis, id: ConnectionId, text: &str, out: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| !connection.closing) else { return };
        if !connection.messages.take(now, 1.0) {
            return self.refuse(now, id, ErrorCode::RateLimited, None, out);
        }
        connection.limited = false;
        match message::parse(text) {
            Ok((video, message)) => {
                out.received = Some(message.kind());
                if let Err(code) = self.dispatch(now, id, video, &message, out) {
                    self.refuse(now, id, code, Some(video), out);
                }
            }
            Err(error) => self.refuse(now, id, error.code, error.video, out),
        }
    }

    /// Something came that is no text.
    pub fn handle_binary(&mut self, now: Millis, id: ConnectionId, out: &mut Outbox) {
        if self.connections.get(&id).is_some_and(|connection| !connection.closing) {
            self.refuse(now, id, ErrorCode::BadMessage, None, out);
        }
    }

    /// A WebSocket has closed; `clean` if the client said so: then it is gone, else it may come back within
    /// [`defaults::GRACE_MS`].
    pub fn close(&mut self, now: Millis, id: ConnectionId, clean: bool, out: &mut Outbox) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.timers.remove(&(connection.idle_at, Timer::Idle(id)));
        for (video, peer) in connection.videos {
            if clean {
                self.remove(now, video, peer, out);
            } else if let Some(member) = self.swarms.get_mut(&video).and_then(|swarm| swarm.suspend(peer)) {
                member.grace_at = Some(now + defaults::GRACE_MS);
                self.timers.insert((now + defaults::GRACE_MS, Timer::Grace(video, peer)));
                self.set_retry(video, peer, None);
            }
        }
    }

    /// Replaces the rules. Members who may not share any more are told `revoked` and are out; tokens are asked for at the
    /// next join.
    pub fn set_rules(&mut self, now: Millis, rules: Rules, out: &mut Outbox) {
        self.rules = rules;
        let mut ended = Vec::new();
        for (video, swarm) in &self.swarms {
            for (peer, member) in &swarm.members {
                if self.sharing(video, member.kind, member.address, *peer) == Sharing::Off {
                    ended.push((*video, *peer, member.connection));
                }
            }
        }
        for (video, peer, connection) in ended {
            if let Some(to) = connection {
                self.send(to, &ServerMessage::Revoked { video }, out);
            }
            self.remove(now, video, peer, out);
        }
    }

    /// Ends a swarm: every peer of it is told `revoked` and is out.
    pub fn revoke(&mut self, video: AnnounceId, out: &mut Outbox) {
        let Some(swarm) = self.swarms.get(&video) else { return };
        let text = ServerMessage::Revoked { video }.to_text();
        for id in swarm.members.values().filter_map(|member| member.connection) {
            out.sends.push(Send { to: id, kind: "revoked", text: text.clone(), relayed: false });
        }
        let peers: Vec<PeerId> = swarm.members.keys().copied().collect();
        for peer in peers {
            self.detach(video, peer, out);
        }
    }

    /// Tells every client to come back elsewhere within `within` ms. Its neighbours are not told that it has left.
    pub fn drain(&mut self, within: u64, out: &mut Outbox) {
        self.draining = true;
        let text = ServerMessage::Drain { within_ms: within }.to_text();
        let send = |to: &ConnectionId| Send { to: *to, kind: "drain", text: text.clone(), relayed: false };
        out.sends.extend(self.connections.keys().map(send));
    }

    /// When [`Self::timeout`] is to be called.
    pub fn next_timeout(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Does what is due.
    pub fn timeout(&mut self, now: Millis, out: &mut Outbox) {
        while let Some(&(at, timer)) = self.timers.first().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Retry(video, peer) => {
                    if let Some(member) = self.member_mut(video, peer) {
                        member.retry_at = None;
                        self.fill(now, video, peer, out);
                    }
                }
                Timer::Grace(video, peer) => {
                    if let Some(member) = self.member_mut(video, peer) {
                        member.grace_at = None;
                        self.remove(now, video, peer, out);
                    }
                }
                Timer::Viewers(video) => {
                    if let Some(swarm) = self.swarms.get_mut(&video) {
                        swarm.viewers_timer = None;
                    }
                    self.tell_viewers(now, video, out);
                }
                Timer::Idle(id) => self.end_if_idle(now, id, out),
            }
        }
    }

    /// Members by kind.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Videos with a member.
    pub fn videos(&self) -> usize {
        self.swarms.len()
    }

    fn dispatch(
        &mut self,
        now: Millis,
        id: ConnectionId,
        video: AnnounceId,
        message: &ClientMessage<'_>,
        out: &mut Outbox,
    ) -> Result<(), ErrorCode> {
        match message {
            ClientMessage::Join(join) => self.join(now, id, video, join, out),
            ClientMessage::Update { want, pos } => {
                let peer = self.peer(id, video)?;
                if let Some(swarm) = self.swarms.get_mut(&video) {
                    swarm.state(now, peer, *want, *pos);
                }
                self.fill(now, video, peer, out);
                Ok(())
            }
            ClientMessage::Relay(relay) => {
                let peer = self.peer(id, video)?;
                self.relay(now, video, peer, relay, out)
            }
            ClientMessage::Leave => {
                let peer = self.peer(id, video)?;
                self.remove(now, video, peer, out);
                Ok(())
            }
        }
    }

    /// Takes a video from a connection's list.
    fn unseat(&mut self, now: Millis, id: ConnectionId, video: AnnounceId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.videos.remove(&video);
        if connection.videos.is_empty() {
            self.timers.remove(&(connection.idle_at, Timer::Idle(id)));
            connection.idle_at = now + defaults::IDLE_MS;
            self.timers.insert((connection.idle_at, Timer::Idle(id)));
        }
    }

    /// Takes a member out and tells those that it was linked with.
    fn remove(&mut self, now: Millis, video: AnnounceId, peer: PeerId, out: &mut Outbox) {
        let Some(swarm) = self.swarms.get(&video) else { return };
        let Some(member) = swarm.members.get(&peer) else { return };
        if !self.draining {
            let text = ServerMessage::Gone { video, peer }.to_text();
            for to in member.links.iter().filter_map(|other| swarm.members.get(other)?.connection) {
                out.sends.push(Send { to, kind: "gone", text: text.clone(), relayed: false });
            }
            out.nodes.extend(swarm.nodes_of(peer).into_iter().map(|node| (node, NodeMessage::Gone { video, peer })));
        }
        if let Some(id) = member.connection {
            self.unseat(now, id, video);
        }
        self.detach(video, peer, out);
        self.tell_viewers(now, video, out);
    }

    /// Forgets a member without a word. Ends the swarm with its last one.
    fn detach(&mut self, video: AnnounceId, peer: PeerId, out: &mut Outbox) {
        self.set_retry(video, peer, None);
        let Some(swarm) = self.swarms.get_mut(&video) else { return };
        if let Some(member) = swarm.unseat(peer) {
            self.forget_member(video, peer, &member, out);
        }
    }

    /// What else there is of a member that has lost its place.
    fn forget_member(&mut self, video: AnnounceId, peer: PeerId, member: &Member, out: &mut Outbox) {
        let Some(swarm) = self.swarms.get(&video) else { return };
        *self.counts.of(member.kind) -= 1;
        if let Some(at) = member.grace_at {
            self.timers.remove(&(at, Timer::Grace(video, peer)));
        }
        if let Some(connection) = member.connection.and_then(|id| self.connections.get_mut(&id)) {
            connection.videos.remove(&video);
        }
        if swarm.members.is_empty() {
            if let Some(at) = swarm.viewers_timer {
                self.timers.remove(&(at, Timer::Viewers(video)));
            }
            self.swarms.remove(&video);
        }
        self.note_numbers(video, out);
    }

    /// Tells the numbers to those who know others, unless they were told in the last 10 s: then later.
    fn tell_viewers(&mut self, now: Millis, video: AnnounceId, out: &mut Outbox) {
        let Some(swarm) = self.swarms.get_mut(&video) else { return };
        if swarm.viewers_timer.is_some() || !swarm.numbers_changed() {
            return;
        }
        let due = swarm.viewers_at + defaults::VIEWERS_MS;
        if now < due {
            swarm.viewers_timer = Some(due);
            self.timers.insert((due, Timer::Viewers(video)));
            return;
        }
        let numbers @ (viewers, seeders) = swarm.numbers();
        swarm.told = numbers;
        let text = ServerMessage::Viewers { video, viewers, seeders }.to_text();
        for member in swarm.members.values_mut().filter(|member| member.told != numbers) {
            let Some(to) = member.connection else { continue };
            member.told = numbers;
            // Only what was sent opens the 10 s: the first viewer's own joining tells nobody.
            swarm.viewers_at = now;
            out.sends.push(Send { to, kind: "viewers", text: text.clone(), relayed: false });
        }
    }

    fn end_if_idle(&mut self, now: Millis, id: ConnectionId, out: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.videos.is_empty() && now >= connection.idle_at && !connection.closing {
            connection.closing = true;
            out.closes.push((id, CloseReason::Idle));
        }
    }

    /// Answers a message with an error and counts the offence.
    fn refuse(&mut self, now: Millis, id: ConnectionId, code: ErrorCode, video: Option<AnnounceId>, out: &mut Outbox) {
        out.rejects.push(code.as_str());
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let weight = match code {
            ErrorCode::RateLimited => defaults::RATE_OFFENCE,
            // Nobody's fault: what it is about was there a moment ago.
            ErrorCode::UnknownPeer | ErrorCode::UnknownConn | ErrorCode::NotJoined => 0.0,
            _ => 1.0,
        };
        if !connection.offences.take(now, weight) {
            connection.closing = true;
            out.closes.push((id, CloseReason::Abuse));
        }
        // A flood is answered once and then in silence.
        let silent = code == ErrorCode::RateLimited && std::mem::replace(&mut connection.limited, true);
        if !silent {
            self.send(id, &ServerMessage::error(code, video), out);
        }
    }

    fn send(&self, to: ConnectionId, message: &ServerMessage<'_>, out: &mut Outbox) {
        if self.connections.contains_key(&to) {
            out.sends.push(Send { to, kind: message.kind(), text: message.to_text(), relayed: false });
        }
    }

    /// The peer that a connection is in a video.
    fn peer(&self, id: ConnectionId, video: AnnounceId) -> Result<PeerId, ErrorCode> {
        let connection = self.connections.get(&id).ok_or(ErrorCode::NotJoined)?;
        connection.videos.get(&video).copied().ok_or(ErrorCode::NotJoined)
    }

    fn member_mut(&mut self, video: AnnounceId, peer: PeerId) -> Option<&mut Member> {
        self.swarms.get_mut(&video)?.members.get_mut(&peer)
    }

    /// Moves a member's next turn.
    fn set_retry(&mut self, video: AnnounceId, peer: PeerId, at: Option<Millis>) {
        let Some(member) = self.swarms.get_mut(&video).and_then(|swarm| swarm.members.get_mut(&peer)) else { return };
        if let Some(old) = member.retry_at.take() {
            self.timers.remove(&(old, Timer::Retry(video, peer)));
        }
        if let Some(at) = at {
            member.retry_at = Some(at);
            self.timers.insert((at, Timer::Retry(video, peer)));
        }
    }
}
