//! Who is told of whom.

use std::{cmp::Ordering, collections::HashMap, net::IpAddr};

use super::{
    Outbox, Send, Shard,
    swarm::{Link, LinkState, Member, Swarm},
};
use crate::{
    address,
    cluster::Place,
    defaults,
    ids::{AnnounceId, Millis, PeerId},
    message::{Kind, MatchedPeer, ServerMessage},
    random::sample,
};

/// For whom members are chosen: one of them, or a peer of another node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeker {
    pub(super) peer: PeerId,
    pub(super) kind: Kind,
    /// Where it plays now, in seconds.
    pub(super) pos: Option<f64>,
    pub(super) at: At,
    /// The autonomous system that it is in, if known.
    pub(super) asn: Option<u32>,
    /// It meets edges only.
    pub(super) edges_only: bool,
}

/// Where a peer is.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    Here(Option<IpAddr>),
    Elsewhere(Option<Place>),
}

/// How far two peers are from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distance {
    /// One home or office.
    Near,
    /// One network.
    Network,
    Far,
}

/// Somebody who could be matched.
pub(super) struct Candidate {
    peer: PeerId,
    score: f64,
    /// Its network, if it is known and not this machine's own: at most half of a match is from one.
    prefix: Option<IpAddr>,
}

impl Shard {
    /// Tells a member of as many peers as it wants and may have, and sets its next turn. Other nodes are asked for some.
    pub(super) fn fill(&mut self, now: Millis, video: AnnounceId, peer: PeerId, out: &mut Outbox) {
        self.fill_from(now, video, peer, true, out);
    }

    /// An edge has come: those who meet nobody else are told of it, since it is not told of them.
    pub(super) fn fill_edges_only(&mut self, now: Millis, video: AnnounceId, out: &mut Outbox) {
        let Some(swarm) = self.swarms.get(&video) else { return };
        let waits = |peer: &&PeerId| swarm.members.get(peer).is_some_and(|member| member.edges_only);
        // The others have their turn within half a minute.
        let waiting: Vec<PeerId> = swarm.open.iter().filter(waits).take(defaults::SAMPLE).copied().collect();
        for peer in waiting {
            self.fill_here(now, video, peer, out);
        }
    }

    /// As [`Self::fill`], from this node alone.
    pub(super) fn fill_here(&mut self, now: Millis, video: AnnounceId, peer: PeerId, out: &mut Outbox) {
        self.fill_from(now, video, peer, false, out);
    }

    fn fill_from(&mut self, now: Millis, video: AnnounceId, peer: PeerId, everywhere: bool, out: &mut Outbox) {
        let Some(swarm) = self.swarms.get(&video) else { return };
        let Some(member) = swarm.members.get(&peer) else { return };
        let Some(id) = member.connection.filter(|_| member.open_slot.is_some()) else {
            return self.set_retry(video, peer, None);
        };
        let seeker = Seeker {
            peer,
            kind: member.kind,
            pos: member.position(now),
            at: At::Here(member.address),
            asn: member.asn,
            edges_only: member.edges_only,
        };
        let spread = self.rng.below(defaults::RETRY_MS as usize / 8) as Millis;
        self.set_retry(video, peer, Some(now + defaults::RETRY_MS + spread));
        let count = self.allowance(now, video, peer);
        if count == 0 {
            return;
        }
        // A network that has met enough strangers stays by itself for a while.
        let everywhere = everywhere && self.networks_allow(now, seeker.at, None);
        let mut nodes = if everywhere { self.draw_nodes(video, &seeker, count, true) } else { Vec::new() };
        let asked: usize = nodes.iter().map(|(_, count)| *count as usize).sum();
        let mut candidates = self.candidates(now, video, &seeker, false, &[]);
        if candidates.is_empty() {
            candidates = self.candidates(now, video, &seeker, true, &[]);
        }
        let picks = self.pick(candidates, count - asked);
        if everywhere {
            // What this node does not have, others may.
            nodes.extend(self.draw_nodes(video, &seeker, count - asked - picks.len(), false));
            if !nodes.is_empty() {
                self.ask(now, video, peer, &nodes, out);
            }
        }
        if picks.is_empty() {
            return;
        }
        let mut peers = Vec::with_capacity(picks.len());
        for other in picks {
            peers.extend(self.pair(now, video, peer, other));
        }
        let message = ServerMessage::Match { video, peers };
        out.sends.push(Send { to: id, kind: message.kind(), text: message.to_text(), relayed: false });
    }

    /// How many peers it wants, as far as its budgets go.
    fn allowance(&self, now: Millis, video: AnnounceId, peer: PeerId) -> usize {
        let Some(swarm) = self.swarms.get(&video) else { return 0 };
        let Some(member) = swarm.members.get(&peer) else { return 0 };
        let hourly = member.connection.and_then(|id| self.connections.get(&id));
        let hourly = hourly.map_or(0.0, |connection| connection.pairings.available(now));
        // Truncation is meant: half a token is none.
        let budget = member.pairings.available(now).min(hourly) as usize;
        (swarm.need(now, peer) as usize).min(budget)
    }

    /// After a handshake failed: both ends get their turn as soon as they may be matched again, if they find nobody else.
    pub(super) fn retry_soon(&mut self, now: Millis, video: AnnounceId, ends: [PeerId; 2]) {
        let link = self.swarms.get(&video).and_then(|swarm| swarm.link(ends[0], ends[1]));
        let Some(at) = link.filter(|link| link.state == LinkState::Failed).map(|link| link.rematch_at(true)) else {
            return;
        };
        for peer in ends {
            let spread = self.rng.below(defaults::REMATCH_ALONE_MS as usize / 8) as Millis;
            let due = at.max(now) + spread;
            // Without a turn it wants nobody.
            if self.member_mut(video, peer).and_then(|member| member.retry_at).is_some_and(|turn| turn > due) {
                self.set_retry(video, peer, Some(due));
            }
        }
    }

    /// A random sample of the open members (and up to two mirrors or edges), of those that may be matched with `peer`.
    pub(super) fn candidates(
        &mut self,
        now: Millis,
        video: AnnounceId,
        seeker: &Seeker,
        alone: bool,
        except: &[PeerId],
    ) -> Vec<Candidate> {
        let peer = seeker.peer;
        let Some(swarm) = self.swarms.get(&video) else { return Vec::new() };
        let mut sampled: Vec<PeerId> = sample(swarm.open.len(), defaults::SAMPLE, |bound| self.rng.below(bound))
            .map(|slot| swarm.open[slot])
            .collect();
        if seeker.edges_only {
            sampled = swarm.seeders.iter().copied().collect();
        } else if !swarm.seeders.is_empty() && swarm.open.len() > defaults::SAMPLE {
            let skip = self.rng.below(swarm.seeders.len());
            for seeder in swarm.seeders.iter().skip(skip).take(2) {
                if !sampled.contains(seeder) {
                    sampled.push(*seeder);
                }
            }
        }
        let fits = |other: &PeerId| {
            *other != peer
                && !except.contains(other)
                && swarm.link(peer, *other).is_none_or(|link| link.may_rematch(now, alone))
                && swarm.members.get(other).is_some_and(|member| {
                    let hourly = member.connection.and_then(|id| self.connections.get(&id));
                    // Being told of is no choice of a mirror's or edge's: their addresses are public.
                    let may = member.kind != Kind::Viewer
                        || hourly.is_some_and(|connection| connection.pairings.available(now) >= 1.0);
                    let both_seed = member.kind != Kind::Viewer && seeker.kind != Kind::Viewer;
                    let networks = self.networks_allow(now, seeker.at, member.address);
                    let met = !member.edges_only && (member.kind == Kind::Edge || !seeker.edges_only);
                    member.open_slot.is_some() && met && may && !both_seed && networks
                })
        };
        sampled.retain(fits);
        let mut candidates = Vec::with_capacity(sampled.len());
        for other in sampled {
            let noise = self.rng.unit();
            candidates.push(self.judge(swarm, now, seeker, other, noise));
        }
        candidates
    }

    /// Takes the best, some at random, and not more than half from one network as long as there are others.
    pub(super) fn pick(&mut self, mut candidates: Vec<Candidate>, count: usize) -> Vec<PeerId> {
        candidates.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal));
        let most = count.div_ceil(2);
        let mut networks: HashMap<IpAddr, usize> = HashMap::new();
        let (mut picks, mut spare) = (Vec::with_capacity(count), Vec::new());
        while picks.len() < count && !candidates.is_empty() {
            let random = self.rng.unit() < defaults::RANDOM_PICKS;
            let index = if random { self.rng.below(candidates.len()) } else { 0 };
            let candidate = candidates.remove(index);
            let taken = candidate.prefix.map(|prefix| networks.entry(prefix).or_default());
            match taken {
                Some(taken) if *taken >= most => spare.push(candidate.peer),
                taken => {
                    if let Some(taken) = taken {
                        *taken += 1;
                    }
                    picks.push(candidate.peer);
                }
            }
        }
        let missing = count - picks.len();
        picks.extend(spare.into_iter().take(missing));
        picks
    }

    /// Links two members and takes it from their budgets.
    fn pair(&mut self, now: Millis, video: AnnounceId, peer: PeerId, other: PeerId) -> Option<MatchedPeer> {
        let swarm = self.swarms.get_mut(&video)?;
        let near = swarm.near(peer, other);
        let address = |peer| swarm.members.get(peer).and_then(|member: &Member| member.address);
        let (mine, theirs) = (address(&peer), address(&other));
        let link = swarm.link_mut(now, peer, other, LinkState::Matched);
        link.set(now, LinkState::Matched);
        link.tries += 1;
        swarm.members.get_mut(&peer)?.pairings.take(now, 1.0);
        for end in [peer, other] {
            let id = swarm.members.get(&end).and_then(|member| member.connection);
            if let Some(connection) = id.and_then(|id| self.connections.get_mut(&id)) {
                connection.pairings.take(now, 1.0);
            }
        }
        let matched = MatchedPeer { peer: other, kind: swarm.members.get(&other)?.kind, near };
        if self.distance(At::Here(mine), theirs) == Distance::Far {
            self.networks.take(now, mine);
            self.networks.take(now, theirs);
        }
        Some(matched)
    }

    /// Whether the networks of two peers may meet: their own members always do.
    fn networks_allow(&self, now: Millis, at: At, address: Option<IpAddr>) -> bool {
        let seeker = match at {
            At::Here(address) => self.networks.may(now, address),
            // Its own node sees to that.
            At::Elsewhere(_) => true,
        };
        seeker && self.networks.may(now, address) || self.distance(at, address) != Distance::Far
    }

    /// A member has met a peer of another node.
    pub(super) fn charge_network(&mut self, now: Millis, at: At, address: Option<IpAddr>) {
        if self.distance(at, address) == Distance::Far {
            self.networks.take(now, address);
        }
    }

    /// Whether a member has a peer's public address, or is in its network.
    fn distance(&self, at: At, address: Option<IpAddr>) -> Distance {
        let Some(address) = address else { return Distance::Far };
        match (at, &self.nodes) {
            (At::Here(Some(mine)), _) if address::near(mine, address) => Distance::Near,
            (At::Here(Some(mine)), _)
                if !address.is_loopback() && address::prefix(mine) == address::prefix(address) =>
            {
                Distance::Network
            }
            (At::Elsewhere(Some(theirs)), Some(nodes)) => {
                let place = nodes.place(address);
                match (place.subscriber == theirs.subscriber, place.prefix == theirs.prefix) {
                    (true, _) => Distance::Near,
                    (_, true) => Distance::Network,
                    _ => Distance::Far,
                }
            }
            _ => Distance::Far,
        }
    }

    pub(super) fn is_near(&self, at: At, address: Option<IpAddr>) -> bool {
        self.distance(at, address) == Distance::Near
    }

    /// How good a neighbour `other` would be; `noise` in `[0, 1)` breaks ties.
    fn judge(&self, swarm: &Swarm, now: Millis, seeker: &Seeker, other: PeerId, noise: f64) -> Candidate {
        let Some(them) = swarm.members.get(&other) else {
            return Candidate { peer: other, score: f64::MIN, prefix: None };
        };
        let mut score = noise;
        let prefix = them.address.filter(|address| !address.is_loopback()).map(address::prefix);
        score += match self.distance(seeker.at, them.address) {
            // Fast, and free for everybody.
            Distance::Near => 3.0,
            Distance::Network => 1.5,
            // What stays with one operator costs it nothing and is short.
            Distance::Far if seeker.asn.is_some() && seeker.asn == them.asn => 1.0,
            Distance::Far => 0.0,
        };
        // Who already has what it wants can take one more, but those who wait come first.
        if swarm.need(now, other) > 0 {
            score += 2.0;
        }
        if them.kind != Kind::Viewer {
            score += 1.0;
        }
        if let (Some(mine), Some(theirs)) = (seeker.pos, them.position(now)) {
            score += 2.0 * (-(mine - theirs).abs() / defaults::POSITION_SCALE).exp();
        }
        // Strangers before those with whom it has failed.
        if swarm.link(seeker.peer, other).is_some_and(|link: &Link| link.tries > 0) {
            score -= 4.0;
        }
        Candidate { peer: other, score, prefix }
    }
}
