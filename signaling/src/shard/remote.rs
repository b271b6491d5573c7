//! Peers of other nodes: asked for, chosen for others, spoken to.

use std::{borrow::Cow, collections::BTreeSet};

use super::{
    Outbox, Send, Shard,
    matching::{At, Seeker},
    relay::deliver,
    swarm::LinkState,
};
use crate::{
    cluster::{Elsewhere, FoundPeer, NodeEvent, NodeId, NodeMessage, Nodes, Place, RelayBody, Stranger, SwarmId},
    defaults,
    ids::{AnnounceId, Millis, PeerId},
    message::{Body, Candidate, ErrorCode, Kind, MatchedPeer, Relay, ServerMessage},
};

/// A peer of another node, as far as members of this one have to do with it.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) node: NodeId,
    pub(super) place: Option<Place>,
    /// The members that it is linked with.
    pub(super) links: BTreeSet<PeerId>,
}

impl Remote {
    fn new(node: NodeId, place: Option<Place>) -> Self {
        Self { node, place, links: BTreeSet::new() }
    }
}

impl Shard {
    /// There are other nodes, and they are to hear of who is here.
    pub fn set_nodes(&mut self, nodes: Nodes, out: &mut Outbox) {
        self.nodes = Some(nodes);
        for video in self.swarms.keys() {
            self.note_numbers(*video, out);
        }
    }

    /// Something came from other nodes, or is known of them now.
    pub fn node_event(&mut self, now: Millis, event: NodeEvent, out: &mut Outbox) {
        match event {
            NodeEvent::Message(node, message) => self.node_message(now, node, message, out),
            NodeEvent::Elsewhere(SwarmId::Video(video), elsewhere) => self.set_elsewhere(now, video, elsewhere, out),
            NodeEvent::Elsewhere(SwarmId::Torrent(_), _) => {}
            NodeEvent::Lost(node) => self.lose(now, node, out),
            NodeEvent::Reachable(reachable) => {
                if let Some(nodes) = &mut self.nodes {
                    nodes.reachable = reachable;
                }
            }
        }
    }

    fn node_message(&mut self, now: Millis, node: NodeId, message: NodeMessage, out: &mut Outbox) {
        match message {
            NodeMessage::Count { swarm: SwarmId::Video(video), numbers } => {
                let Some(swarm) = self.swarms.get(&video) else { return };
                let mut elsewhere = swarm.elsewhere.clone();
                if numbers == (0, 0) {
                    elsewhere.remove(&node);
                } else {
                    elsewhere.insert(node, numbers);
                }
                self.set_elsewhere(now, video, elsewhere, out);
            }
            NodeMessage::Ask { video, peer, count, except } => {
                let peers = self.choose(now, video, node, peer, count.min(defaults::MAX_MATCH), &except);
                out.nodes.push((node, NodeMessage::Found { video, peer: peer.peer, peers }));
            }
            NodeMessage::Found { video, peer, peers } => self.found(now, video, node, peer, peers, out),
            NodeMessage::Relay { video, from, to, conn, body } => {
                self.relay_from_abroad(now, video, node, from, (to, &conn, &body), out);
            }
            NodeMessage::Gone { video, peer } => self.gone_abroad(video, node, peer, out),
            NodeMessage::Moved { video, peer } => self.moved(now, video, node, peer, out),
            NodeMessage::Linked { video, peer, peers } => {
                let Some(swarm) = self.swarms.get_mut(&video) else { return };
                let Some(member) = swarm.members.get_mut(&peer) else { return };
                member.unknown.retain(|known| peers.iter().all(|found| found.peer != *known));
                for FoundPeer { peer: other, place, .. } in peers {
                    if other != peer && !swarm.members.contains_key(&other) {
                        swarm.meet(other, Remote::new(node, place));
                        swarm.link_mut(now, peer, other, LinkState::Connected);
                    }
                }
            }
            NodeMessage::Count { .. } | NodeMessage::Offers { .. } | NodeMessage::Answer { .. } => {}
        }
    }

    /// Has the other nodes told how many members there are here now.
    pub(super) fn note_numbers(&self, video: AnnounceId, out: &mut Outbox) {
        if self.nodes.is_some() {
            let numbers = self.swarms.get(&video).map(super::swarm::Swarm::own_numbers).unwrap_or_default();
            out.changed.push((SwarmId::Video(video), numbers));
        }
    }

    /// A member that came by its ticket may have been another node's.
    pub(super) fn tell_moved(&mut self, now: Millis, video: AnnounceId, peer: PeerId, out: &mut Outbox) {
        let Some(swarm) = self.swarms.get_mut(&video).filter(|_| self.nodes.is_some()) else { return };
        if let Some(member) = swarm.members.get_mut(&peer) {
            member.resumed_at = Some(now);
        }
        out.nodes.extend(swarm.elsewhere.keys().map(|node| (*node, NodeMessage::Moved { video, peer })));
    }

    fn set_elsewhere(&mut self, now: Millis, video: AnnounceId, elsewhere: Elsewhere, out: &mut Outbox) {
        let Some(swarm) = self.swarms.get_mut(&video) else { return };
        let before = std::mem::replace(&mut swarm.elsewhere, elsewhere);
        let fresh: Vec<NodeId> = swarm.elsewhere.keys().filter(|node| !before.contains_key(node)).copied().collect();
        let late = |at: Option<Millis>| at.is_some_and(|at| now < at + defaults::GRACE_MS);
        let resumed = swarm.members.iter().filter(|(_, member)| late(member.resumed_at));
        for (peer, _) in resumed {
            let moved = NodeMessage::Moved { video, peer: *peer };
            out.nodes.extend(fresh.iter().map(|node| (*node, moved.clone())));
        }
        let wanting: Vec<PeerId> = if fresh.is_empty() {
            Vec::new()
        } else {
            // The others have their turn within half a minute.
            let wants = swarm.open.iter().filter(|peer| swarm.need(now, **peer) > 0);
            wants.take(defaults::SAMPLE).copied().collect()
        };
        self.tell_viewers(now, video, out);
        for peer in wanting {
            self.fill(now, video, peer, out);
        }
    }

    /// Draws the nodes of which `count` peers are asked for: each member of the swarm, wherever it is, is equally likely.
    /// Without `here` this node's own are no choice.
    pub(super) fn draw_nodes(
        &mut self,
        video: AnnounceId,
        seeker: &Seeker,
        count: usize,
        here: bool,
    ) -> Vec<(NodeId, u32)> {
        let reachable = self.nodes.as_ref().is_some_and(|nodes| nodes.reachable);
        let Some(swarm) = self.swarms.get(&video).filter(|_| reachable) else { return Vec::new() };
        let of_use = |&(viewers, seeders): &(u32, u32)| {
            let (viewers, seeders) = (viewers as usize, seeders as usize);
            match seeker.kind {
                _ if seeker.edges_only => seeders,
                Kind::Viewer => viewers + seeders,
                Kind::Mirror | Kind::Edge => viewers,
            }
        };
        let own = if here { of_use(&swarm.own_numbers()).saturating_sub(usize::from(!seeker.edges_only)) } else { 0 };
        let total = own + swarm.elsewhere.values().map(of_use).sum::<usize>();
        let mut drawn: Vec<(NodeId, u32)> = Vec::new();
        for _ in 0..count {
            let mut number = self.rng.below(total);
            if number < own {
                continue;
            }
            number -= own;
            for (node, numbers) in &swarm.elsewhere {
                let members = of_use(numbers);
                if number < members {
                    match drawn.iter_mut().find(|(known, _)| known == node) {
                        Some((_, count)) => *count += 1,
                        None => drawn.push((*node, 1)),
                    }
                    break;
                }
                number -= members;
            }
        }
        drawn
    }

    /// Asks other nodes for peers for a member.
    pub(super) fn ask(
        &mut self,
        now: Millis,
        video: AnnounceId,
        peer: PeerId,
        nodes: &[(NodeId, u32)],
        out: &mut Outbox,
    ) {
        let Some(member) = self.swarms.get_mut(&video).and_then(|swarm| swarm.members.get_mut(&peer)) else { return };
        let total = nodes.iter().map(|(_, count)| count).sum();
        let (coming, until) = member.asked;
        member.asked = (if now < until { coming + total } else { total }, now + defaults::ASK_MS);
        let place = member.address.and_then(|address| Some(self.nodes.as_ref()?.place(address)));
        let (kind, edges_only) = (member.kind, member.edges_only);
        let stranger = Stranger { peer, kind, pos: member.position(now), place, asn: member.asn, edges_only };
        let except: Vec<PeerId> = member.unknown.iter().copied().collect();
        for (node, count) in nodes {
            let ask = NodeMessage::Ask { video, peer: stranger, count: *count, except: except.clone() };
            out.nodes.push((*node, ask));
        }
    }

    /// Chooses members for a peer of another node.
    fn choose(
        &mut self,
        now: Millis,
        video: AnnounceId,
        node: NodeId,
        stranger: Stranger,
        count: u32,
        except: &[PeerId],
    ) -> Vec<FoundPeer> {
        let Stranger { peer, kind, pos, place, asn, edges_only } = stranger;
        let here = |swarm: &super::swarm::Swarm| swarm.members.contains_key(&peer);
        // Members of a node that drains are about to leave it.
        if self.draining || self.swarms.get(&video).is_none_or(here) {
            return Vec::new();
        }
        let seeker = Seeker { peer, kind, pos, at: At::Elsewhere(place), asn, edges_only };
        let mut candidates = self.candidates(now, video, &seeker, false, except);
        if candidates.is_empty() {
            candidates = self.candidates(now, video, &seeker, true, except);
        }
        let picks = self.pick(candidates, count as usize);
        let Some(swarm) = self.swarms.get_mut(&video).filter(|_| !picks.is_empty()) else { return Vec::new() };
        swarm.meet(peer, Remote::new(node, place));
        picks.into_iter().filter_map(|other| self.pair_abroad(now, video, &seeker, other)).collect()
    }

    /// Links a member with a peer of another node and takes it from the member's budget.
    fn pair_abroad(&mut self, now: Millis, video: AnnounceId, seeker: &Seeker, other: PeerId) -> Option<FoundPeer> {
        let swarm = self.swarms.get_mut(&video)?;
        let link = swarm.link_mut(now, seeker.peer, other, LinkState::Matched);
        link.set(now, LinkState::Matched);
        link.tries += 1;
        let member = swarm.members.get(&other)?;
        let (kind, address, connection) = (member.kind, member.address, member.connection);
        if let Some(connection) = connection.and_then(|id| self.connections.get_mut(&id)) {
            connection.pairings.take(now, 1.0);
        }
        self.charge_network(now, seeker.at, address);
        let place = address.and_then(|address| Some(self.nodes.as_ref()?.place(address)));
        Some(FoundPeer { peer: other, kind, near: self.is_near(seeker.at, address), place })
    }

    /// Another node chose peers for a member.
    fn found(
        &mut self,
        now: Millis,
        video: AnnounceId,
        node: NodeId,
        peer: PeerId,
        found: Vec<FoundPeer>,
        out: &mut Outbox,
    ) {
        let Some(swarm) = self.swarms.get_mut(&video).filter(|swarm| swarm.members.contains_key(&peer)) else {
            return self.tell_gone(video, node, peer, out);
        };
        let Some(member) = swarm.members.get_mut(&peer) else { return };
        let empty = found.is_empty();
        // What was asked for is answered: what is missing of it can be had elsewhere.
        let came = u32::try_from(found.len()).unwrap_or(u32::MAX);
        member.asked.0 = if empty { 0 } else { member.asked.0.saturating_sub(came) };
        let connection = member.connection;
        // A node of before does not know that it meets edges only.
        let edges_only = member.edges_only;
        let (mut peers, mut places) = (Vec::with_capacity(found.len()), Vec::new());
        for FoundPeer { peer: other, kind, near, place } in found {
            if swarm.members.contains_key(&other) || edges_only && kind != Kind::Edge {
                continue;
            }
            swarm.meet(other, Remote::new(node, place));
            let link = swarm.link_mut(now, peer, other, LinkState::Matched);
            link.set(now, LinkState::Matched);
            link.tries += 1;
            peers.push(MatchedPeer { peer: other, kind, near });
            places.push(place);
        }
        let spent = peers.len() as f64;
        let mut address = None;
        if let Some(member) = swarm.members.get_mut(&peer) {
            member.pairings.take(now, spent);
            address = member.address;
        }
        places.into_iter().for_each(|place| self.charge_network(now, At::Elsewhere(place), address));
        if let Some(id) = connection {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.pairings.take(now, spent);
            }
            if !peers.is_empty() {
                self.send(id, &ServerMessage::Match { video, peers }, out);
            }
        }
        if empty {
            self.fill_here(now, video, peer, out);
        }
    }

    /// Passes a message on to the node of a linked peer.
    pub(super) fn relay_abroad(
        &mut self,
        now: Millis,
        video: AnnounceId,
        from: PeerId,
        relay: &Relay<'_>,
        out: &mut Outbox,
    ) -> Result<(), ErrorCode> {
        self.accept(now, video, from, relay)?;
        let remote = self.swarms.get(&video).and_then(|swarm| swarm.remotes.get(&relay.to));
        let Some(node) = remote.map(|remote| remote.node) else { return Ok(()) };
        if !self.nodes.as_ref().is_some_and(|nodes| nodes.reachable) {
            out.rejects.push("node-unreachable");
            return Ok(());
        }
        let (to, conn) = (relay.to, relay.conn.to_string());
        let body = RelayBody::from(&relay.body);
        out.nodes.push((node, NodeMessage::Relay { video, from, to, conn, body }));
        Ok(())
    }

    fn relay_from_abroad(
        &mut self,
        now: Millis,
        video: AnnounceId,
        node: NodeId,
        from: PeerId,
        (to, conn, body): (PeerId, &str, &RelayBody),
        out: &mut Outbox,
    ) {
        let swarm = self.swarms.get(&video);
        let Some((swarm, member)) = swarm.and_then(|swarm| Some((swarm, swarm.members.get(&to)?))) else {
            out.rejects.push("peer-gone");
            return self.tell_gone(video, node, to, out);
        };
        let Some(remote) = swarm.remotes.get(&from).filter(|remote| remote.node == node) else {
            return out.rejects.push(ErrorCode::UnknownPeer.as_str());
        };
        let (connection, near) = (member.connection, self.is_near(At::Elsewhere(remote.place), member.address));
        let Some(body) = body.read() else { return out.rejects.push(ErrorCode::BadMessage.as_str()) };
        let relay = Relay { to, conn: Cow::Borrowed(conn), body };
        if let Err(code) = self.accept(now, video, from, &relay) {
            return out.rejects.push(code.as_str());
        }
        match connection {
            Some(connection) => deliver(connection, (video, from, near), &relay, out),
            None => out.rejects.push("peer-away"),
        }
    }

    /// Tells a node that a peer is not here any more. One that has left a node that drains is somewhere else.
    fn tell_gone(&self, video: AnnounceId, node: NodeId, peer: PeerId, out: &mut Outbox) {
        if !self.draining {
            out.nodes.push((node, NodeMessage::Gone { video, peer }));
        }
    }

    /// A peer of another node has left.
    fn gone_abroad(&mut self, video: AnnounceId, node: NodeId, peer: PeerId, out: &mut Outbox) {
        let Some(swarm) = self.swarms.get_mut(&video) else { return };
        if swarm.remotes.get(&peer).is_none_or(|remote| remote.node != node) {
            return;
        }
        let linked = swarm.forget(peer);
        let text = ServerMessage::Gone { video, peer }.to_text();
        let connection = |peer: &PeerId| swarm.members.get(peer)?.connection;
        for to in linked.iter().filter_map(connection) {
            out.sends.push(Send { to, kind: "gone", text: text.clone(), relayed: false });
        }
    }

    /// A peer is at `node` now.
    fn moved(&mut self, now: Millis, video: AnnounceId, node: NodeId, peer: PeerId, out: &mut Outbox) {
        self.set_retry(video, peer, None);
        let Some(swarm) = self.swarms.get_mut(&video) else { return };
        if let Some(remote) = swarm.remotes.get_mut(&peer) {
            remote.node = node;
        } else if let Some(member) = swarm.emigrate(peer, node) {
            if let Some(id) = member.connection {
                self.unseat(now, id, video);
                self.send(id, &ServerMessage::error(ErrorCode::Replaced, Some(video)), out);
            }
            self.forget_member(video, peer, &member, out);
        }
        let Some(swarm) = self.swarms.get(&video) else { return };
        let Some(remote) = swarm.remotes.get(&peer) else { return };
        let nodes = self.nodes.as_ref();
        let linked = |other: &PeerId| {
            let member = swarm.members.get(other)?;
            let place = member.address.and_then(|address| Some(nodes?.place(address)));
            Some(FoundPeer { peer: *other, kind: member.kind, near: false, place })
        };
        let peers: Vec<FoundPeer> = remote.links.iter().filter_map(linked).collect();
        out.nodes.push((node, NodeMessage::Linked { video, peer, peers }));
    }

    /// A node is no more. Its peers may well live, and be somewhere else in a moment: nobody is told that they have left.
    fn lose(&mut self, now: Millis, node: NodeId, out: &mut Outbox) {
        let mut changed = Vec::new();
        for (video, swarm) in &mut self.swarms {
            let lost: Vec<PeerId> =
                swarm.remotes.iter().filter(|(_, remote)| remote.node == node).map(|(peer, _)| *peer).collect();
            lost.into_iter().for_each(|peer| drop(swarm.forget(peer)));
            if swarm.elsewhere.remove(&node).is_some() {
                changed.push(*video);
            }
        }
        for video in changed {
            self.tell_viewers(now, video, out);
        }
    }
}

impl From<&Body<'_>> for RelayBody {
    fn from(body: &Body<'_>) -> Self {
        match body {
            Body::Offer(sdp) => Self::Offer(sdp.to_string()),
            Body::Answer(sdp) => Self::Answer(sdp.to_string()),
            // Plain data: it cannot fail to be written.
            Body::Candidate(candidate) => Self::Candidate(
                candidate.as_ref().map(|candidate| serde_json::to_string(candidate).unwrap_or_default()),
            ),
            Body::Reject(code) => Self::Reject(code.to_string()),
        }
    }
}

impl RelayBody {
    fn read(&self) -> Option<Body<'_>> {
        Some(match self {
            Self::Offer(sdp) => Body::Offer(sdp.into()),
            Self::Answer(sdp) => Body::Answer(sdp.into()),
            Self::Candidate(None) => Body::Candidate(None),
            Self::Candidate(Some(json)) => Body::Candidate(Some(serde_json::from_str::<Candidate<'_>>(json).ok()?)),
            Self::Reject(code) => Body::Reject(code.into()),
        })
    }
}
