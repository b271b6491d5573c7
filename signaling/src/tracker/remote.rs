//! WebTorrent clients of other nodes: their offers, and offers to them.

use std::collections::BTreeMap;

use super::{
    From, To, Tracker,
    message::{self, Answer, Id20, Offer},
};
use crate::{
    cluster::{Elsewhere, NodeEvent, NodeId, NodeMessage, SwarmId, TrackerOffer},
    ids::{ConnectionId, Millis},
    shard::{Outbox, Send},
};

/// Announces that wait in one swarm until it is known who else is there; more are offered to this node's members alone.
const MAX_HELD: usize = 16;

/// Offers that wait.
#[derive(Debug)]
pub(super) struct Held {
    connection: ConnectionId,
    peer_id: Id20,
    offers: Vec<TrackerOffer>,
}

impl Tracker {
    /// There are other nodes, and they are to hear of who is here.
    pub fn set_nodes(&mut self, out: &mut Outbox) {
        self.nodes = Some(false);
        for torrent in self.swarms.keys() {
            self.note_numbers(*torrent, out);
        }
    }

    /// Something came from other nodes, or is known of them now.
    pub fn node_event(&mut self, now: Millis, event: NodeEvent, out: &mut Outbox) {
        match event {
            NodeEvent::Message(node, message) => self.node_message(now, node, message, out),
            NodeEvent::Elsewhere(SwarmId::Torrent(torrent), elsewhere) => {
                self.set_elsewhere(now, torrent, elsewhere, out);
            }
            NodeEvent::Elsewhere(SwarmId::Video(_), _) => {}
            NodeEvent::Lost(node) => {
                for swarm in self.swarms.values_mut() {
                    swarm.elsewhere.remove(&node);
                }
            }
            NodeEvent::Reachable(reachable) => {
                self.nodes = Some(reachable);
                if !reachable {
                    let waiting = self.swarms.iter().filter(|(_, swarm)| !swarm.held.is_empty());
                    let waiting: Vec<Id20> = waiting.map(|(torrent, _)| *torrent).collect();
                    waiting.into_iter().for_each(|torrent| self.release(now, torrent, out));
                }
            }
        }
    }

    fn node_message(&mut self, now: Millis, node: NodeId, message: NodeMessage, out: &mut Outbox) {
        match message {
            NodeMessage::Count { swarm: SwarmId::Torrent(torrent), numbers } => {
                let Some(swarm) = self.swarms.get_mut(&torrent) else { return };
                if numbers == (0, 0) {
                    swarm.elsewhere.remove(&node);
                } else {
                    swarm.elsewhere.insert(node, numbers);
                }
            }
            NodeMessage::Offers { torrent, peer, offers } => {
                let offers: Vec<Offer<'_>> = offers.iter().filter_map(message::offer_of).collect();
                self.offer_here(now, From::Node(node), (torrent, peer), &offers, out);
            }
            NodeMessage::Answer { torrent, peer, to, answer } => {
                let Some(Offer { id, sdp }) = message::offer_of(&answer) else { return };
                let answer = Answer { info_hash: torrent, peer_id: peer, to_peer_id: to, id, sdp };
                match self.take_offer(now, &answer, To::Node(node)) {
                    Some(From::Here(to)) => {
                        let text = message::relayed_answer(&answer);
                        out.sends.push(Send { to, kind: "tracker-answer", text, relayed: true });
                    }
                    _ => out.rejects.push("tracker-unknown-offer"),
                }
            }
            // The shard's.
            _ => {}
        }
    }

    /// Has the other nodes told how many members there are here now.
    pub(super) fn note_numbers(&self, torrent: Id20, out: &mut Outbox) {
        if self.nodes.is_some() {
            let numbers = self.swarms.get(&torrent).map(super::swarm::Swarm::own_numbers).unwrap_or_default();
            out.changed.push((SwarmId::Torrent(torrent), numbers));
        }
    }

    fn set_elsewhere(&mut self, now: Millis, torrent: Id20, elsewhere: Elsewhere, out: &mut Outbox) {
        let Some(swarm) = self.swarms.get_mut(&torrent) else { return };
        swarm.elsewhere = elsewhere;
        swarm.counted = true;
        self.release(now, torrent, out);
    }

    pub(super) fn hold(&mut self, connection: ConnectionId, torrent: Id20, peer_id: Id20, offers: &[Offer<'_>]) {
        let Some(swarm) = self.swarms.get_mut(&torrent).filter(|swarm| swarm.held.len() < MAX_HELD) else { return };
        let offers = offers.iter().map(owned).collect();
        swarm.held.push(Held { connection, peer_id, offers });
    }

    fn release(&mut self, now: Millis, torrent: Id20, out: &mut Outbox) {
        let Some(swarm) = self.swarms.get_mut(&torrent) else { return };
        for Held { connection, peer_id, offers } in std::mem::take(&mut swarm.held) {
            let offers: Vec<Offer<'_>> = offers.iter().filter_map(message::offer_of).collect();
            self.spread(now, From::Here(connection), torrent, peer_id, &offers, out);
        }
    }

    /// Splits offers over this node and the others, so that each member, wherever it is, is equally likely to get one.
    pub(super) fn spread(
        &mut self,
        now: Millis,
        from: From,
        torrent: Id20,
        peer_id: Id20,
        offers: &[Offer<'_>],
        out: &mut Outbox,
    ) {
        let Some(swarm) = self.swarms.get(&torrent) else { return };
        let here = swarm.others(peer_id);
        let elsewhere = if self.nodes == Some(true) { swarm.elsewhere_total() } else { 0 };
        let nodes: Vec<(NodeId, usize)> = swarm
            .elsewhere
            .iter()
            .map(|(node, (incomplete, complete))| (*node, *incomplete as usize + *complete as usize))
            .collect();
        let (mut kept, mut abroad): (Vec<Offer<'_>>, BTreeMap<NodeId, Vec<&Offer<'_>>>) = Default::default();
        for offer in offers {
            // A member of this node gets one offer at most.
            let local = kept.len() < here && self.rng.below(here + elsewhere) < here;
            if local || elsewhere == 0 {
                kept.push(offer.clone());
                continue;
            }
            let mut number = self.rng.below(elsewhere);
            for (node, members) in &nodes {
                if number < *members {
                    abroad.entry(*node).or_default().push(offer);
                    break;
                }
                number -= members;
            }
        }
        self.offer_here(now, from, (torrent, peer_id), &kept, out);
        for (node, batch) in abroad {
            for offer in &batch {
                self.expect(now, (torrent, peer_id), offer, from, To::Node(node));
            }
            let offers = batch.into_iter().map(owned).collect();
            out.nodes.push((node, NodeMessage::Offers { torrent, peer: peer_id, offers }));
        }
    }
}

fn owned(offer: &Offer<'_>) -> TrackerOffer {
    TrackerOffer { id: offer.id.raw.to_owned(), sdp: offer.sdp.to_owned() }
}

/// An answer for another node.
pub(super) fn answer(answer: &Answer<'_>) -> NodeMessage {
    NodeMessage::Answer {
        torrent: answer.info_hash,
        peer: answer.peer_id,
        to: answer.to_peer_id,
        answer: TrackerOffer { id: answer.id.raw.to_owned(), sdp: answer.sdp.to_owned() },
    }
}
