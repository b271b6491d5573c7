//! The sans-IO core of WebTorrent's tracker protocol: the same server for unmodified `bittorrent-tracker` clients,
//! WebTorrent pages and p2p-media-loader.
//!
//! Its swarms are its own: no offer crosses to Marea's viewers, whatever id a client announces. A reply always has an
//! `action`, and `info_hash` where it is known, since the npm client ends its socket, which all of a page's swarms share,
//! over one that has none. An answer goes to whoever offered, to nobody else, and makes no member of who sent it.

mod message;
mod remote;
mod swarm;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    net::IpAddr,
};

use bytes::Bytes;

pub use self::message::Id20;
use self::{
    message::{Action, Announce, Answer, Event, Failure, Offer, Request},
    swarm::Swarm,
};
use crate::{
    bucket::Bucket,
    cluster::NodeId,
    defaults,
    ids::{ConnectionId, Millis},
    random::Rng,
    shard::{Client, CloseReason, Outbox, Send},
};

/// All swarms of the tracker.
#[derive(Debug)]
pub struct Tracker {
    rng: Rng,
    connections: HashMap<ConnectionId, Connection>,
    next_connection: u64,
    swarms: HashMap<Id20, Swarm>,
    /// Offers that were passed on and may be answered.
    offers: HashMap<OfferKey, Pending>,
    /// Makes their keys.
    hasher: RandomState,
    /// When they end, in order.
    offer_ends: VecDeque<(Millis, OfferKey)>,
    /// When each connection is looked at for what is forgotten.
    checks: BTreeSet<(Millis, ConnectionId)>,
    peers: usize,
    /// Whether there are other nodes, and whether they can be reached now.
    nodes: Option<bool>,
}

/// Info hash, who offered and `offer_id`, hashed by a secret: there are many, and none can be made to be like another.
type OfferKey = u64;

#[derive(Debug)]
struct Pending {
    from: From,
    to: To,
    ends: Millis,
}

/// Who offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Here(ConnectionId),
    Node(NodeId),
}

/// Who may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Member(Id20, ConnectionId),
    Node(NodeId),
}

#[derive(Debug)]
struct Connection {
    address: Option<IpAddr>,
    /// Info hash and peer id.
    memberships: BTreeSet<(Id20, Id20)>,
    messages: Bucket,
    announces: Bucket,
    offers: Bucket,
    offences: Bucket,
    /// It was told that it sends too much, and still does.
    limited: bool,
    heard_at: Millis,
    check_at: Millis,
    /// Its end was asked for: nothing more is read.
    closing: bool,
}

impl Tracker {
    /// An empty tracker; `seed` must be secret and fresh.
    pub fn new(seed: &[u8; 32]) -> Self {
        Self {
            rng: Rng::new(seed),
            connections: HashMap::new(),
            next_connection: 0,
            swarms: HashMap::new(),
            offers: HashMap::new(),
            hasher: RandomState::new(),
            offer_ends: VecDeque::new(),
            checks: BTreeSet::new(),
            peers: 0,
            nodes: None,
        }
    }

    /// A WebSocket has opened.
    pub fn open(&mut self, now: Millis, client: &Client) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let check_at = now + defaults::TRACKER_IDLE_MS;
        let connection = Connection {
            address: client.address,
            memberships: BTreeSet::new(),
            messages: Bucket::new(now, defaults::MESSAGE_RATE, defaults::MESSAGE_BURST),
            announces: Bucket::new(now, defaults::TRACKER_ANNOUNCE_RATE, defaults::TRACKER_ANNOUNCE_BURST),
            offers: Bucket::new(now, defaults::TRACKER_OFFER_RATE, defaults::TRACKER_OFFER_BURST),
            offences: Bucket::new(now, defaults::OFFENCE_RATE, defaults::OFFENCE_BURST),
            limited: false,
            heard_at: now,
            check_at,
            closing: false,
        };
        self.connections.insert(id, connection);
        self.checks.insert((check_at, id));
        id
    }

    /// A message came.
    pub fn handle(&mut self, now: Millis, id: ConnectionId, text: &str, out: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| !connection.closing) else { return };
        if !connection.messages.take(now, 1.0) {
            let slow = Failure { action: Action::Announce, info_hash: None, reason: "too many messages: slow down" };
            return self.limit(now, id, slow, out);
        }
        match message::parse(text) {
            Ok(request) => {
                connection.heard_at = now;
                let done = match request {
                    Request::Announce(announce) => {
                        out.received = Some("tracker-announce");
                        self.announce(now, id, &announce, out)
                    }
                    Request::Answer(answer) => {
                        out.received = Some("tracker-answer");
                        self.answer(now, id, &answer, out);
                        Ok(())
                    }
                    Request::Scrape(hashes) => {
                        out.received = Some("tracker-scrape");
                        self.scrape(now, id, hashes, out)
                    }
                };
                match done {
                    Ok(()) => self.unlimit(id),
                    Err(failure) => self.limit(now, id, failure, out),
                }
            }
            Err(failure) => {
                out.rejects.push("tracker-bad-message");
                self.offend(now, id, 1.0, out);
                send(id, "tracker-failure", message::failure(failure), out);
            }
        }
    }

    /// A binary message came: some clients send JSON so.
    pub fn handle_binary(&mut self, now: Millis, id: ConnectionId, bytes: &[u8], out: &mut Outbox) {
        // What is no UTF-8 is no JSON either, and refused as that.
        self.handle(now, id, std::str::from_utf8(bytes).unwrap_or_default(), out);
    }

    /// A WebSocket has closed: its members are out.
    pub fn close(&mut self, id: ConnectionId, out: &mut Outbox) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.checks.remove(&(connection.check_at, id));
        for (info_hash, peer_id) in connection.memberships {
            self.leave(info_hash, peer_id, id, out);
        }
    }

    /// When [`Self::timeout`] is to be called.
    pub fn next_timeout(&self) -> Option<Millis> {
        let check = self.checks.first().map(|(at, _)| *at);
        let offer = self.offer_ends.front().map(|(at, _)| *at);
        check.into_iter().chain(offer).min()
    }

    /// Does what is due.
    pub fn timeout(&mut self, now: Millis, out: &mut Outbox) {
        while self.offer_ends.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.offer_ends.pop_front() else { break };
            // Its id may have been used again since.
            if self.offers.get(&key).is_some_and(|offer| offer.ends <= now) {
                self.offers.remove(&key);
            }
        }
        while let Some((at, id)) = self.checks.first().copied().filter(|(at, _)| *at <= now) {
            self.checks.remove(&(at, id));
            self.check(now, id, out);
        }
    }

    /// Members of all swarms.
    pub fn peers(&self) -> usize {
        self.peers
    }

    /// What a page is told whose origin may not connect.
    pub(crate) fn origin_refusal() -> Bytes {
        let reason = "pages of this origin may not use this tracker";
        message::failure(Failure { action: Action::Announce, info_hash: None, reason })
    }

    fn announce(
        &mut self,
        now: Millis,
        id: ConnectionId,
        announce: &Announce<'_>,
        out: &mut Outbox,
    ) -> Result<(), Failure> {
        let (info_hash, peer_id) = (announce.info_hash, announce.peer_id);
        let fail = |reason| Err(Failure { action: Action::Announce, info_hash: Some(info_hash), reason });
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        if !connection.announces.take(now, 1.0) {
            return fail("too many announces: keep to the interval");
        }
        if announce.event == Event::Stopped {
            connection.memberships.remove(&(info_hash, peer_id));
            self.leave(info_hash, peer_id, id, out);
            self.reply(id, info_hash, out);
            return Ok(());
        }
        let member = connection.memberships.contains(&(info_hash, peer_id));
        if !member && connection.memberships.len() >= defaults::MAX_TRACKER_SWARMS {
            return fail("too many swarms on one connection");
        }
        connection.memberships.insert((info_hash, peer_id));
        let address = connection.address;
        if !member {
            self.replace(info_hash, peer_id, address, out);
        }
        let swarm = self.swarms.entry(info_hash).or_default();
        let complete_before = swarm.get(peer_id, id).is_some_and(|member| member.complete);
        self.peers += usize::from(swarm.announce(now, peer_id, id, announce.complete));
        if announce.event == Event::Completed && !complete_before {
            swarm.count_download();
        }
        self.note_numbers(info_hash, out);
        self.reply(id, info_hash, out);
        out.rejects.extend(std::iter::repeat_n("tracker-bad-offer", announce.wrong_offers));
        self.pass_on(now, id, announce, out);
        Ok(())
    }

    /// The same peer id from the same address is the same page, come back before its old socket was known to be dead.
    fn replace(&mut self, info_hash: Id20, peer_id: Id20, address: Option<IpAddr>, out: &mut Outbox) {
        let (Some(swarm), Some(_)) = (self.swarms.get(&info_hash), address) else { return };
        let same = |id: &ConnectionId| self.connections.get(id).is_some_and(|other| other.address == address);
        let old: Vec<ConnectionId> = swarm.holders(peer_id).filter(same).collect();
        for id in old {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.memberships.remove(&(info_hash, peer_id));
            }
            self.leave(info_hash, peer_id, id, out);
        }
    }

    /// Sends each offer to one other member, chosen at random of all that there are, here and at other nodes.
    fn pass_on(&mut self, now: Millis, id: ConnectionId, announce: &Announce<'_>, out: &mut Outbox) {
        let (info_hash, peer_id) = (announce.info_hash, announce.peer_id);
        let Some(swarm) = self.swarms.get(&info_hash) else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let wanted = announce.numwant.map_or(usize::MAX, |want| usize::try_from(want).unwrap_or(usize::MAX));
        // Truncation is meant: half a token is none.
        let allowed = connection.offers.available(now) as usize;
        let count = announce.offers.len().min(wanted).min(allowed);
        let reachable = self.nodes == Some(true);
        let held = reachable && !swarm.counted;
        let others = swarm.others(peer_id) + if reachable { swarm.elsewhere_total() } else { 0 };
        connection.offers.take(now, if held { count } else { count.min(others) } as f64);
        let offers = announce.offers.get(..count).unwrap_or_default();
        if held {
            // Redis has not yet said who else is there.
            self.hold(id, info_hash, peer_id, offers);
        } else {
            self.spread(now, From::Here(id), info_hash, peer_id, offers, out);
        }
    }

    /// Sends offers to members of this node, each to another one.
    fn offer_here(
        &mut self,
        now: Millis,
        from: From,
        (info_hash, peer_id): (Id20, Id20),
        offers: &[Offer<'_>],
        out: &mut Outbox,
    ) {
        let Some(swarm) = self.swarms.get(&info_hash) else { return };
        let chosen = swarm.sample(peer_id, offers.len(), |bound| self.rng.below(bound));
        for (member, offer) in chosen.iter().zip(offers) {
            self.expect(now, (info_hash, peer_id), offer, from, To::Member(member.peer_id, member.connection));
            let text = message::relayed_offer(info_hash, peer_id, offer);
            out.sends.push(Send { to: member.connection, kind: "tracker-offer", text, relayed: true });
        }
    }

    /// Remembers who may answer an offer.
    fn expect(&mut self, now: Millis, (info_hash, peer_id): (Id20, Id20), offer: &Offer<'_>, from: From, to: To) {
        let key = self.hasher.hash_one((info_hash, peer_id, &offer.id.key));
        let ends = now + defaults::TRACKER_OFFER_MS;
        self.offers.insert(key, Pending { from, to, ends });
        self.offer_ends.push_back((ends, key));
    }

    /// Passes an answer to whoever offered. One that nobody waits for is dropped without a word: the offerer may have
    /// left meanwhile.
    fn answer(&mut self, now: Millis, id: ConnectionId, answer: &Answer<'_>, out: &mut Outbox) {
        match self.take_offer(now, answer, To::Member(answer.peer_id, id)) {
            Some(From::Here(to)) => {
                let text = message::relayed_answer(answer);
                out.sends.push(Send { to, kind: "tracker-answer", text, relayed: true });
            }
            Some(From::Node(node)) => out.nodes.push((node, remote::answer(answer))),
            None => out.rejects.push("tracker-unknown-offer"),
        }
    }

    /// Who made the offer that `by` answers; it cannot be answered again.
    fn take_offer(&mut self, now: Millis, answer: &Answer<'_>, by: To) -> Option<From> {
        let key = self.hasher.hash_one((answer.info_hash, answer.to_peer_id, &answer.id.key));
        let from = self.offers.get(&key).filter(|offer| offer.to == by && offer.ends > now)?.from;
        self.offers.remove(&key);
        Some(from)
    }

    fn scrape(&mut self, now: Millis, id: ConnectionId, hashes: Vec<Id20>, out: &mut Outbox) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        if !connection.announces.take(now, 1.0) {
            let reason = "too many scrapes: slow down";
            return Err(Failure { action: Action::Scrape, info_hash: hashes.first().copied(), reason });
        }
        // Unknown ones too: clients wait for all that they asked for.
        let numbers = |hash: Id20| (hash, self.swarms.get(&hash).map(Swarm::numbers).unwrap_or_default());
        let files: BTreeMap<_, _> = hashes.into_iter().map(numbers).collect();
        send(id, "tracker-files", message::files(files), out);
        Ok(())
    }

    fn reply(&mut self, id: ConnectionId, info_hash: Id20, out: &mut Outbox) {
        let numbers = self.swarms.get(&info_hash).map(Swarm::numbers).unwrap_or_default();
        let interval = self.interval(numbers.complete + numbers.incomplete);
        send(id, "tracker-reply", message::reply(info_hash, interval, numbers), out);
    }

    /// Seconds until the next announce, shorter in small swarms; a tenth at random keeps clients from coming together.
    fn interval(&mut self, members: u32) -> u32 {
        let (min, max) = (defaults::TRACKER_INTERVAL_MIN, defaults::TRACKER_INTERVAL_MAX);
        let others = f64::from(members.saturating_sub(1));
        let grown = others / (others + f64::from(defaults::TRACKER_INTERVAL_HALF));
        let seconds = f64::from(min) + f64::from(max - min) * grown;
        // At most 132: no truncation to speak of.
        (seconds * (1.0 + 0.1 * self.rng.unit())) as u32
    }

    /// Forgets a membership, and the swarm with its last one.
    fn leave(&mut self, info_hash: Id20, peer_id: Id20, id: ConnectionId, out: &mut Outbox) {
        let Some(swarm) = self.swarms.get_mut(&info_hash) else { return };
        self.peers -= usize::from(swarm.remove(peer_id, id).is_some());
        if swarm.is_empty() {
            self.swarms.remove(&info_hash);
        }
        self.note_numbers(info_hash, out);
    }

    /// Takes out members that have not announced for long; closes a connection that has none and says nothing.
    fn check(&mut self, now: Millis, id: ConnectionId, out: &mut Outbox) {
        let Some(connection) = self.connections.get(&id) else { return };
        let stale = |(info_hash, peer_id): &&(Id20, Id20)| {
            let member = self.swarms.get(info_hash).and_then(|swarm| swarm.get(*peer_id, id));
            member.is_none_or(|member| member.announced_at + defaults::TRACKER_PEER_MS <= now)
        };
        let stale: Vec<(Id20, Id20)> = connection.memberships.iter().filter(stale).copied().collect();
        for (info_hash, peer_id) in &stale {
            self.leave(*info_hash, *peer_id, id, out);
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.memberships.retain(|membership| !stale.contains(membership));
        let idle_at = connection.heard_at + defaults::TRACKER_IDLE_MS;
        if connection.memberships.is_empty() && idle_at <= now && !connection.closing {
            connection.closing = true;
            out.closes.push((id, CloseReason::Idle));
        }
        connection.check_at = idle_at.max(now + defaults::TRACKER_IDLE_MS / 4);
        self.checks.insert((connection.check_at, id));
    }

    /// Refuses what is right but too much: once with a word, then in silence.
    fn limit(&mut self, now: Millis, id: ConnectionId, failure: Failure, out: &mut Outbox) {
        out.rejects.push("tracker-rate-limited");
        self.offend(now, id, defaults::RATE_OFFENCE, out);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if !std::mem::replace(&mut connection.limited, true) {
            send(id, "tracker-failure", message::failure(failure), out);
        }
    }

    fn unlimit(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.limited = false;
        }
    }

    fn offend(&mut self, now: Millis, id: ConnectionId, weight: f64, out: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if !connection.offences.take(now, weight) {
            connection.closing = true;
            out.closes.push((id, CloseReason::Abuse));
        }
    }
}

fn send(to: ConnectionId, kind: &'static str, text: Bytes, out: &mut Outbox) {
    out.sends.push(Send { to, kind, text, relayed: false });
}
