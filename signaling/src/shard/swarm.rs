//! One video's members and the links between them.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use super::remote::Remote;
use crate::{
    address,
    bucket::Bucket,
    cluster::{Elsewhere, NodeId, Numbers},
    defaults,
    ids::{ConnectionId, Millis, PeerId},
    message::Kind,
};

/// The members of one video.
#[derive(Debug, Default)]
pub(super) struct Swarm {
    pub(super) members: HashMap<PeerId, Member>,
    /// Ids of before a restart, to who claims them now.
    aliases: HashMap<PeerId, PeerId>,
    /// Members that may be matched; see [`Member::open_slot`].
    pub(super) open: Vec<PeerId>,
    /// Mirrors and edges.
    pub(super) seeders: BTreeSet<PeerId>,
    links: HashMap<(PeerId, PeerId), Link>,
    /// Peers of other nodes that are linked with members.
    pub(super) remotes: HashMap<PeerId, Remote>,
    /// How many members the other nodes have.
    pub(super) elsewhere: Elsewhere,
    /// What was last told to all, and when.
    pub(super) told: (u32, u32),
    pub(super) viewers_at: Millis,
    pub(super) viewers_timer: Option<Millis>,
}

/// A peer in a swarm.
#[derive(Debug)]
pub(super) struct Member {
    /// `None` while its socket is broken and may come back.
    pub(super) connection: Option<ConnectionId>,
    pub(super) kind: Kind,
    pub(super) address: Option<IpAddr>,
    pub(super) asn: Option<u32>,
    /// It meets edges only, and nobody is told of it.
    pub(super) edges_only: bool,
    /// How many further peers it asked for, and when it said so.
    pub(super) want: u32,
    pub(super) stated_at: Millis,
    /// Playback position in seconds when it said so.
    pub(super) pos: Option<f64>,
    alias: Option<PeerId>,
    /// Peers that it is connected to and that this node does not know.
    pub(super) unknown: BTreeSet<PeerId>,
    /// Other nodes were asked for so many peers, and answer before then.
    pub(super) asked: (u32, Millis),
    /// When it came back by a ticket.
    pub(super) resumed_at: Option<Millis>,
    /// It joined by a token that a ticket may stand for.
    pub(super) admitted: bool,
    /// Its place in [`Swarm::open`]: there while `want > 0` and the socket is up.
    pub(super) open_slot: Option<usize>,
    /// The other ends of its links.
    pub(super) links: BTreeSet<PeerId>,
    pub(super) pairings: Bucket,
    pub(super) retry_at: Option<Millis>,
    pub(super) grace_at: Option<Millis>,
    /// Numbers that it was told last.
    pub(super) told: (u32, u32),
}

/// Two members that know of each other.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) state: LinkState,
    /// When the state began.
    pub(super) at: Millis,
    /// Matches so far.
    pub(super) tries: u32,
    /// What is being negotiated, by who offered: the smaller id, the larger id.
    pub(super) offers: [Option<Negotiation>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    /// One was told to offer.
    Matched,
    /// An offer was answered: most likely connected, and counted against `want` if that is older.
    Answered,
    /// A client said that they are connected. Such links are not counted against `want`.
    Connected,
    /// One of them said no.
    Failed,
}

/// A `conn` between two members.
#[derive(Debug)]
pub(super) struct Negotiation {
    pub(super) conn: Box<str>,
    pub(super) offered_at: Millis,
    pub(super) answered: bool,
    /// Candidates relayed, of the smaller and of the larger id.
    pub(super) candidates: [u8; 2],
}

impl Member {
    pub(super) fn new(
        now: Millis,
        id: ConnectionId,
        address: Option<IpAddr>,
        kind: Kind,
        alias: Option<PeerId>,
    ) -> Self {
        Self {
            connection: Some(id),
            kind,
            address,
            asn: None,
            edges_only: false,
            want: 0,
            stated_at: now,
            pos: None,
            alias,
            unknown: BTreeSet::new(),
            asked: (0, 0),
            resumed_at: None,
            admitted: false,
            open_slot: None,
            links: BTreeSet::new(),
            pairings: Bucket::new(now, defaults::PAIRINGS_PER_VIDEO / 3600.0, defaults::PAIRINGS_PER_VIDEO),
            retry_at: None,
            grace_at: None,
            told: (0, 0),
        }
    }

    /// Where it plays now, if it has played on.
    pub(super) fn position(&self, now: Millis) -> Option<f64> {
        self.pos.map(|pos| pos + now.saturating_sub(self.stated_at) as f64 / 1000.0)
    }
}

impl Link {
    pub(super) fn new(now: Millis, state: LinkState) -> Self {
        Self { state, at: now, tries: 0, offers: [None, None] }
    }

    pub(super) fn set(&mut self, now: Millis, state: LinkState) {
        self.state = state;
        self.at = now;
    }

    /// Whether it takes one from a `want` that was stated at `stated`.
    pub(super) fn fills(&self, now: Millis, stated: Millis) -> bool {
        match self.state {
            LinkState::Matched => self.at >= stated && now < self.at + defaults::OFFER_MS,
            LinkState::Answered => self.at >= stated,
            LinkState::Connected | LinkState::Failed => false,
        }
    }

    /// Whether these two may be matched again: their handshake has failed, or nobody has heard of them for long. `alone`:
    /// there is nobody else.
    pub(super) fn may_rematch(&self, now: Millis, alone: bool) -> bool {
        now >= self.rematch_at(alone)
    }

    /// From when on they may.
    pub(super) fn rematch_at(&self, alone: bool) -> Millis {
        let wait = match self.state {
            LinkState::Failed if alone => defaults::REMATCH_ALONE_MS,
            LinkState::Matched | LinkState::Failed => defaults::REMATCH_FAILED_MS,
            LinkState::Answered | LinkState::Connected => defaults::REMATCH_ANSWERED_MS,
        };
        let doublings = self.tries.saturating_sub(1).min(defaults::REMATCH_DOUBLINGS);
        self.at + (wait << doublings)
    }
}

impl Swarm {
    /// Viewers, and mirrors and edges, of all nodes.
    pub(super) fn numbers(&self) -> Numbers {
        let add = |(a, b): Numbers, (c, d): &Numbers| (a.saturating_add(*c), b.saturating_add(*d));
        self.elsewhere.values().fold(self.own_numbers(), add)
    }

    /// Those of this node.
    pub(super) fn own_numbers(&self) -> Numbers {
        let seeders = self.seeders.len();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (count(self.members.len() - seeders), count(seeders))
    }

    /// Whether the numbers differ enough from what was last told to be told again. Schedulers can be off by a factor of
    /// 4; gates cannot be off by one.
    pub(super) fn numbers_changed(&self) -> bool {
        let (now, told) = (self.numbers(), self.told);
        let differs = |now: u32, told: u32| now != told && (now.min(told) < 16 || now.abs_diff(told) >= told / 10);
        differs(now.0, told.0) || differs(now.1, told.1)
    }

    pub(super) fn seat(&mut self, peer: PeerId, member: Member) {
        if member.kind != Kind::Viewer {
            self.seeders.insert(peer);
        }
        if let Some(alias) = member.alias {
            self.aliases.insert(alias, peer);
        }
        self.members.insert(peer, member);
    }

    /// A member comes back on a connection. It is not open until it states what it wants.
    pub(super) fn reseat(&mut self, peer: PeerId, id: ConnectionId, address: Option<IpAddr>, kind: Kind) {
        self.close_slot(peer);
        let Some(member) = self.members.get_mut(&peer) else { return };
        member.connection = Some(id);
        member.grace_at = None;
        member.address = address;
        member.kind = kind;
        if kind == Kind::Viewer {
            self.seeders.remove(&peer);
        } else {
            self.seeders.insert(peer);
        }
    }

    /// A member's socket broke.
    pub(super) fn suspend(&mut self, peer: PeerId) -> Option<&mut Member> {
        self.close_slot(peer);
        let member = self.members.get_mut(&peer)?;
        member.connection = None;
        Some(member)
    }

    /// Forgets a member and its links.
    pub(super) fn unseat(&mut self, peer: PeerId) -> Option<Member> {
        self.close_slot(peer);
        let member = self.members.remove(&peer)?;
        self.seeders.remove(&peer);
        if let Some(alias) = member.alias.filter(|alias| self.aliases.get(alias) == Some(&peer)) {
            self.aliases.remove(&alias);
        }
        for other in &member.links {
            self.links.remove(&key(peer, *other));
            if let Some(other) = self.members.get_mut(other) {
                other.links.remove(&peer);
            } else if let Some(remote) = self.remotes.get_mut(other) {
                remote.links.remove(&peer);
                if remote.links.is_empty() {
                    self.remotes.remove(other);
                }
            }
        }
        Some(member)
    }

    /// A member states what it wants and where it plays.
    pub(super) fn state(&mut self, now: Millis, peer: PeerId, want: u32, pos: Option<f64>) {
        self.close_slot(peer);
        let slot = self.open.len();
        let Some(member) = self.members.get_mut(&peer) else { return };
        (member.want, member.stated_at) = (want, now);
        if pos.is_some() {
            member.pos = pos;
        }
        if want > 0 && member.connection.is_some() {
            member.open_slot = Some(slot);
            self.open.push(peer);
        }
    }

    fn close_slot(&mut self, peer: PeerId) {
        let Some(slot) = self.members.get_mut(&peer).and_then(|member| member.open_slot.take()) else { return };
        self.open.swap_remove(slot);
        if let Some(moved) = self.open.get(slot).and_then(|moved| self.members.get_mut(moved)) {
            moved.open_slot = Some(slot);
        }
    }

    /// What a join says about its connections: those are linked, the others are not connected any more.
    pub(super) fn connect(&mut self, now: Millis, peer: PeerId, connected: &[PeerId]) {
        let here = |id: &PeerId| self.members.contains_key(id) || self.remotes.contains_key(id);
        let known = |id: &PeerId| if here(id) { Some(*id) } else { self.aliases.get(id).copied() };
        let unknown: BTreeSet<PeerId> = connected.iter().filter(|id| known(id).is_none()).copied().collect();
        let connected: BTreeSet<PeerId> = connected.iter().filter_map(known).filter(|id| *id != peer).collect();
        let Some(member) = self.members.get_mut(&peer) else { return };
        member.unknown = unknown;
        for other in &member.links {
            let Some(link) = self.links.get_mut(&key(peer, *other)) else { continue };
            if !connected.contains(other) && matches!(link.state, LinkState::Answered | LinkState::Connected) {
                link.set(now, LinkState::Failed);
            }
        }
        for other in connected {
            self.link_mut(now, peer, other, LinkState::Connected).set(now, LinkState::Connected);
        }
    }

    pub(super) fn link(&self, a: PeerId, b: PeerId) -> Option<&Link> {
        self.links.get(&key(a, b))
    }

    pub(super) fn existing_link_mut(&mut self, a: PeerId, b: PeerId) -> Option<&mut Link> {
        self.links.get_mut(&key(a, b))
    }

    /// The link between two members, made if there is none.
    pub(super) fn link_mut(&mut self, now: Millis, a: PeerId, b: PeerId, state: LinkState) -> &mut Link {
        for (one, other) in [(a, b), (b, a)] {
            if let Some(member) = self.members.get_mut(&one) {
                member.links.insert(other);
            } else if let Some(remote) = self.remotes.get_mut(&one) {
                remote.links.insert(other);
            }
        }
        self.links.entry(key(a, b)).or_insert_with(|| Link::new(now, state))
    }

    /// How many more peers a member may be told of now.
    pub(super) fn need(&self, now: Millis, peer: PeerId) -> u32 {
        let Some(member) = self.members.get(&peer).filter(|member| member.open_slot.is_some()) else { return 0 };
        let fills = |other: &&PeerId| self.link(peer, **other).is_some_and(|link| link.fills(now, member.stated_at));
        let filled = u32::try_from(member.links.iter().filter(fills).count()).unwrap_or(u32::MAX);
        let (asked, until) = member.asked;
        let coming = if now < until { asked } else { 0 };
        member.want.saturating_sub(filled.saturating_add(coming))
    }

    /// Whether two members have one public address.
    pub(super) fn near(&self, a: PeerId, b: PeerId) -> bool {
        let address = |peer| self.members.get(peer).and_then(|member| member.address);
        matches!((address(&a), address(&b)), (Some(a), Some(b)) if address::near(a, b))
    }

    /// The nodes of the peers that a member is linked with.
    pub(super) fn nodes_of(&self, peer: PeerId) -> BTreeSet<NodeId> {
        let links = self.members.get(&peer).map(|member| &member.links);
        links.into_iter().flatten().filter_map(|other| self.remotes.get(other)).map(|remote| remote.node).collect()
    }

    /// Notes a peer of another node, or that it is at another one now.
    pub(super) fn meet(&mut self, peer: PeerId, remote: Remote) {
        match self.remotes.get_mut(&peer) {
            Some(known) => known.node = remote.node,
            None => {
                self.remotes.insert(peer, remote);
            }
        }
    }

    /// Forgets a peer of another node, and returns the members that it was linked with.
    pub(super) fn forget(&mut self, peer: PeerId) -> BTreeSet<PeerId> {
        let Some(remote) = self.remotes.remove(&peer) else { return BTreeSet::new() };
        for other in &remote.links {
            self.links.remove(&key(peer, *other));
            if let Some(other) = self.members.get_mut(other) {
                other.links.remove(&peer);
            }
        }
        remote.links
    }

    /// A member of this node is another node's now: its links stay.
    pub(super) fn emigrate(&mut self, peer: PeerId, node: NodeId) -> Option<Member> {
        let links = self.members.get(&peer)?.links.clone();
        let local: Vec<(PeerId, Link)> = links
            .into_iter()
            .filter(|other| self.members.contains_key(other))
            .filter_map(|other| Some((other, self.links.remove(&key(peer, other))?)))
            .collect();
        let member = self.unseat(peer)?;
        if !local.is_empty() {
            let links = local.iter().map(|(other, _)| *other).collect();
            self.remotes.insert(peer, Remote { node, place: None, links });
        }
        for (other, link) in local {
            self.links.insert(key(peer, other), link);
            if let Some(other) = self.members.get_mut(&other) {
                other.links.insert(peer);
            }
        }
        Some(member)
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let (viewers, seeders) = self.own_numbers();
        assert!(viewers + seeders > 0, "an empty swarm is kept");
        for (slot, peer) in self.open.iter().enumerate() {
            assert_eq!(self.members[peer].open_slot, Some(slot));
        }
        for (peer, member) in &self.members {
            assert_eq!(member.open_slot.is_some(), member.want > 0 && member.connection.is_some());
            assert_eq!(member.connection.is_none(), member.grace_at.is_some());
            assert_eq!(self.seeders.contains(peer), member.kind != Kind::Viewer);
            assert!(!member.links.contains(peer), "a link to itself");
            for other in &member.links {
                let back = self.members.get(other).map(|member| &member.links);
                let back = back.or_else(|| self.remotes.get(other).map(|remote| &remote.links));
                assert!(back.unwrap().contains(peer), "a link with one end");
                assert!(self.links.contains_key(&key(*peer, *other)));
            }
        }
        for (peer, remote) in &self.remotes {
            assert!(!self.members.contains_key(peer), "a peer at two nodes");
            assert!(!remote.links.is_empty(), "a stranger is kept");
            assert!(remote.links.iter().all(|other| self.members[other].links.contains(peer)));
        }
        let links = self.members.values().map(|member| &member.links);
        let ends: usize = links.chain(self.remotes.values().map(|remote| &remote.links)).map(BTreeSet::len).sum();
        assert_eq!(ends, 2 * self.links.len());
        assert!(self.seeders.iter().all(|peer| self.members.contains_key(peer)));
        for (alias, peer) in &self.aliases {
            assert_eq!(self.members[peer].alias, Some(*alias));
        }
    }
}

fn key(a: PeerId, b: PeerId) -> (PeerId, PeerId) {
    (a.min(b), a.max(b))
}
