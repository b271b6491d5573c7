//! Who is told of whom.

use std::{cmp::Ordering, collections::HashMap, net::IpAddr};

use super::{
    Outbox, Send, Shard,
    swarm::{Link, LinkState, Swarm},
};
use crate::{
    address, defaults,
    ids::{AnnounceId, Millis, PeerId},
    message::{Kind, MatchedPeer, ServerMessage},
    random::sample,
};

/// Somebody who could be matched.
struct Candidate {
    peer: PeerId,
    score: f64,
    /// Its network, if it is known and not this machine's own: at most half of a match is from one.
    prefix: Option<IpAddr>,
}

impl Shard {
    /// Tells a member of as many peers as it wants and may have, and sets its next turn.
    pub(super) fn fill(&mut self, now: Millis, video: AnnounceId, peer: PeerId, out: &mut Outbox) {
        let Some(swarm) = self.swarms.get(&video) else { return };
        let Some(member) = swarm.members.get(&peer) else { return };
        let Some(id) = member.connection.filter(|_| member.open_slot.is_some()) else {
            return self.set_retry(video, peer, None);
        };
        let spread = self.rng.below(defaults::RETRY_MS as usize / 8) as Millis;
        self.set_retry(video, peer, Some(now + defaults::RETRY_MS + spread));
        let count = self.allowance(now, video, peer);
        if count == 0 {
            return;
        }
        let mut candidates = self.candidates(now, video, peer, false);
        if candidates.is_empty() {
            candidates = self.candidates(now, video, peer, true);
        }
        let picks = self.pick(candidates, count);
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
    fn candidates(&mut self, now: Millis, video: AnnounceId, peer: PeerId, alone: bool) -> Vec<Candidate> {
        let Some(swarm) = self.swarms.get(&video) else { return Vec::new() };
        let mut sampled: Vec<PeerId> = sample(swarm.open.len(), defaults::SAMPLE, |bound| self.rng.below(bound))
            .map(|slot| swarm.open[slot])
            .collect();
        if !swarm.seeders.is_empty() && swarm.open.len() > defaults::SAMPLE {
            let skip = self.rng.below(swarm.seeders.len());
            for seeder in swarm.seeders.iter().skip(skip).take(2) {
                if !sampled.contains(seeder) {
                    sampled.push(*seeder);
                }
            }
        }
        let fits = |other: &PeerId| {
            *other != peer
                && swarm.link(peer, *other).is_none_or(|link| link.may_rematch(now, alone))
                && swarm.members.get(other).is_some_and(|member| {
                    let hourly = member.connection.and_then(|id| self.connections.get(&id));
                    // Being told of is no choice of a mirror's or edge's: their addresses are public.
                    let may = member.kind != Kind::Viewer
                        || hourly.is_some_and(|connection| connection.pairings.available(now) >= 1.0);
                    let both_seed = member.kind != Kind::Viewer && swarm.seeders.contains(&peer);
                    member.open_slot.is_some() && may && !both_seed
                })
        };
        sampled.retain(fits);
        let mut candidates = Vec::with_capacity(sampled.len());
        for other in sampled {
            let noise = self.rng.unit();
            candidates.push(judge(swarm, now, peer, other, noise));
        }
        candidates
    }

    /// Takes the best, some at random, and not more than half from one network as long as there are others.
    fn pick(&mut self, mut candidates: Vec<Candidate>, count: usize) -> Vec<PeerId> {
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
        Some(MatchedPeer { peer: other, kind: swarm.members.get(&other)?.kind, near })
    }
}

/// How good a neighbour `other` would be; `noise` in `[0, 1)` breaks ties.
fn judge(swarm: &Swarm, now: Millis, peer: PeerId, other: PeerId, noise: f64) -> Candidate {
    let (Some(me), Some(them)) = (swarm.members.get(&peer), swarm.members.get(&other)) else {
        return Candidate { peer: other, score: f64::MIN, prefix: None };
    };
    let mut score = noise;
    let prefix = them.address.filter(|address| !address.is_loopback()).map(address::prefix);
    // The same home or office: fast, and free for everybody.
    if swarm.near(peer, other) {
        score += 3.0;
    } else if prefix.is_some() && prefix == me.address.map(address::prefix) {
        score += 1.5;
    }
    // Who already has what it wants can take one more, but those who wait come first.
    if swarm.need(now, other) > 0 {
        score += 2.0;
    }
    if them.kind != Kind::Viewer {
        score += 1.0;
    }
    if let (Some(mine), Some(theirs)) = (me.position(now), them.position(now)) {
        score += 2.0 * (-(mine - theirs).abs() / defaults::POSITION_SCALE).exp();
    }
    // Strangers before those with whom it has failed.
    if swarm.link(peer, other).is_some_and(|link: &Link| link.tries > 0) {
        score -= 4.0;
    }
    Candidate { peer: other, score, prefix }
}
