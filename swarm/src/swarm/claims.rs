//! Who fetches the first copy: suppression timers and flooded claims (design §4).
//!
//! When nobody near has a group of pieces, each viewer that wants it waits a little by its rank in a hash that nobody can
//! choose, then claims the group aloud and fetches it; who hears the claim waits for the pieces instead. With partial
//! views this needs far fewer copies than electing a fetcher by hash alone.

use super::{
    Swarm,
    action::{Object, Peer},
    object::Claim,
};
use crate::{
    config,
    ids::{Millis, Oid},
    wire::Control,
};

impl Swarm {
    /// When this viewer may claim `group`, wanted since `since` and due at `deadline`.
    pub(super) fn claim_time(&self, object: Object, group: u32, since: Millis, deadline: f64, guard: f64) -> Millis {
        let n = f64::from(self.population.max(2));
        let slack = deadline - guard - self.spread.high() - since as f64;
        let (low, high) = config::CLAIM_DELAY_MS;
        let delay = (slack / (1.0 + n).ln()).clamp(low, high);
        let rank = self.rank(object, group);
        since + (delay * (1.0 + rank).ln()) as Millis
    }

    /// How many viewers come before this one: counted among the neighbours if they are all there are, else estimated.
    fn rank(&self, object: Object, group: u32) -> f64 {
        let open = || self.neighbours.values().filter(|n| n.open);
        let mine = self.draw(object, group, &self.me);
        if open().count() + 1 >= self.population as usize {
            return open().filter(|n| self.draw(object, group, &n.setup.id) < mine).count() as f64;
        }
        mine * f64::from(self.population)
    }

    /// A number in `[0, 1)` that the salt, the group and the peer's id fix.
    fn draw(&self, object: Object, group: u32, peer: &str) -> f64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.salt).update(&self.entry(object).root.0).update(&group.to_le_bytes());
        let hash = hasher.update(peer.as_bytes()).finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        (u64::from_le_bytes(first) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Claims pieces from `first` and fetches them.
    pub(super) fn claim(&mut self, object: Object, first: u32, end: u32) {
        let nonce = u32::from_le_bytes(self.rng.bytes());
        let ttl = (self.spread.high() * 1.3).max(config::CLAIM_MS as f64).min(config::MAX_CLAIM_MS as f64);
        let entry = self.entry(object);
        let message = Control::Claim {
            oid: entry.oid,
            first,
            count: u16::try_from(end - first).unwrap_or(u16::MAX),
            nonce,
            ttl_ms: ttl as u32,
            hops: 0,
        };
        self.broadcast(&message, None);
        self.start_transfer(object, first..end, Some(nonce));
    }

    /// A neighbour claims pieces, or passes on a claim.
    pub(super) fn claim_heard(&mut self, from: Peer, oid: Oid, pieces: (u32, u16), nonce: u32, ttl_ms: u32, hops: u8) {
        let now = self.now;
        let Some(object) = self.objects.by_oid(oid) else {
            self.unknown_object();
            return;
        };
        let longest = ((self.spread.high() * 1.3) as Millis).clamp(config::CLAIM_MS, config::MAX_CLAIM_MS);
        let expires = now + Millis::from(ttl_ms).min(longest);
        let (first, count) = (pieces.0, u32::from(pieces.1));
        let entry = self.objects.get_mut(object);
        let Some(end) = first.checked_add(count).filter(|&end| end <= entry.count && count > 0) else { return };
        let mut fresh = false;
        for group in 0..entry.groups() {
            let range = entry.group(group);
            if range.start >= end || range.end <= first {
                continue;
            }
            // The first claim of a group is kept until it lapses: a later one cannot prolong it.
            let live = entry.claims.get(&group).is_some_and(|claim| claim.expires > now);
            if !live {
                entry.claims.insert(group, Claim { nonce, heard: now, expires });
                fresh = true;
            }
        }
        if fresh && hops == 0 {
            let message = Control::Claim { oid, first, count: pieces.1, nonce, ttl_ms, hops: 1 };
            self.broadcast(&message, Some(from));
        }
    }

    /// A claim is given up.
    pub(super) fn unclaim_heard(&mut self, from: Peer, oid: Oid, first: u32, nonce: u32, hops: u8) {
        let Some(object) = self.objects.by_oid(oid) else { return };
        let claims = &mut self.objects.get_mut(object).claims;
        let before = claims.len();
        claims.retain(|_, claim| claim.nonce != nonce);
        if claims.len() < before && hops == 0 {
            self.broadcast(&Control::Unclaim { oid, first, nonce, hops: 1 }, Some(from));
        }
    }

    /// A piece came: if its group is whole, its claim has done its work and says how long such things take.
    pub(super) fn claim_fulfilled(&mut self, object: Object, piece: u32) {
        let now = self.now;
        let entry = self.objects.get_mut(object);
        let group = piece / config::GROUP_PIECES;
        if entry.group(group).all(|piece| entry.have.contains(piece))
            && let Some(claim) = entry.claims.remove(&group)
        {
            self.spread.add(now.saturating_sub(claim.heard) as f64);
        }
    }
}
