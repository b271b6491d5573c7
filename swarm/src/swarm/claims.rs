//! Who fetches the first copy: suppression timers and flooded claims (design §4).
//!
//! When nobody near has a group of pieces, each viewer that wants it waits a little by its rank in a hash that nobody can
//! choose, then claims the group aloud and fetches it; who hears the claim passes it on and waits for the pieces instead.
//! Every viewer passes each claim on once, so that it reaches all of them within a few round trips although each knows only
//! a few others, and also those whose playlist does not name the object yet.

use std::ops::Range;

use super::{
    Swarm,
    action::{Object, Peer},
    neighbour::Neighbour,
    object::Claim,
};
use crate::{
    config,
    ids::{Millis, Oid},
    map::sort,
    wire::{Control, MAX_HOPS},
};

/// A claim as it was heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) oid: Oid,
    pub(super) first: u32,
    pub(super) count: u16,
    pub(super) nonce: u32,
    pub(super) ttl_ms: u32,
    pub(super) hops: u8,
    pub(super) at: Millis,
}

/// Among whom a group is drawn for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Odds {
    /// All who are there are neighbours.
    All,
    /// So many, each weighed by its uplink against ours.
    Some {
        /// How many.
        others: f64,
    },
}

impl Swarm {
    /// When this viewer may claim `pieces`, which are claimed `unit` at a time, are wanted since `since`, and are to be with
    /// everybody by `due`.
    pub(super) fn claim_time(
        &self,
        object: Object,
        pieces: &Range<u32>,
        unit: u32,
        since: Millis,
        due: f64,
        odds: Odds,
    ) -> Millis {
        let n = f64::from(self.population.max(2));
        let rank = self.rank(object, pieces.start / unit, odds);
        // After a claim that came to nothing the timers run again: else all would fire at the moment it lapses. Where
        // claims came to nothing of late, the first few do not wait for that: a lie costs copies, not the spread's time.
        let doubts = self.now < self.doubting && rank < config::DOUBTERS * n.ln();
        let entry = self.entry(object);
        let claims = pieces.clone().filter_map(|piece| entry.claims.get(&piece)).filter(|_| !doubts);
        let since = claims.map(|claim| claim.expires).fold(since, Millis::max);
        let slack = due - self.spread.high() - since as f64;
        let (low, high) = config::CLAIM_DELAY_MS;
        // On a slow server a claim too many costs everybody more than the wait.
        let low = if self.crowded(object) { high } else { low };
        let delay = (slack / (1.0 + n).ln()).clamp(low, high);
        since + (delay * (1.0 + rank).ln()) as Millis
    }

    /// What this viewer knows of those among whom it draws.
    pub(super) fn odds(&self) -> Odds {
        let open = || self.neighbours.values().filter(|n| n.open);
        if open().count() + 1 >= self.population as usize {
            return Odds::All;
        }
        // Who has a wide uplink spreads a copy sooner, so it comes sooner.
        let mut uplinks: Vec<u32> = open().map(|n| n.uplink).filter(|&uplink| uplink > 0).collect();
        sort(&mut uplinks, |a, b| a < b);
        let factor = match uplinks.get(uplinks.len() / 2) {
            Some(&median) if self.told_uplink > 0 => f64::from(median) / f64::from(self.told_uplink),
            _ => 1.0,
        };
        Odds::Some { others: f64::from(self.population) * factor.clamp(0.25, 8.0) }
    }

    /// How many viewers come before this one: counted among the neighbours if they are all there are, else estimated.
    fn rank(&self, object: Object, group: u32, odds: Odds) -> f64 {
        let mine = self.draw(object, group, self.draw_key);
        match odds {
            Odds::All => {
                let before = |n: &&Neighbour| n.gives() && self.draw(object, group, n.draw_key) < mine;
                self.neighbours.values().filter(before).count() as f64
            }
            Odds::Some { others } => mine * others,
        }
    }

    /// What fixes a peer's draws: a hash of the salt, which signaling makes, and of the id, which signaling gives.
    pub(super) fn draw_key(&self, id: &str) -> u64 {
        let hash = blake3::Hasher::new().update(&self.salt).update(id.as_bytes()).finalize();
        hash.as_bytes().iter().take(8).fold(0, |key, &byte| key << 8 | u64::from(byte))
    }

    /// A number in `[0, 1)` that the peer, the object and the group fix. The key is a hash already; it is spread over objects
    /// and groups by the finalizer of MurmurHash3, a thousandth of the cost of another BLAKE3 for every neighbour and group.
    pub(super) fn draw(&self, object: Object, group: u32, key: u64) -> f64 {
        let oid = u64::from_le_bytes(self.entry(object).oid.0);
        let mut mixed = key ^ oid.wrapping_add(u64::from(group).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for factor in [0xFF51_AFD7_ED55_8CCD, 0xC4CE_B9FE_1A85_EC53, 1] {
            mixed = (mixed ^ (mixed >> 33)).wrapping_mul(factor);
        }
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Claims pieces and fetches them.
    pub(super) fn claim(&mut self, object: Object, pieces: Range<u32>) {
        let nonce = u32::from_le_bytes(self.rng.bytes());
        let (first, count) = (pieces.start, pieces.end - pieces.start);
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        let ttl_ms = self.claim_life() as u32;
        let oid = self.entry(object).oid;
        self.remember_claim(nonce);
        self.broadcast(&Control::Claim { oid, first, count, nonce, ttl_ms, hops: 0 }, None);
        self.start_transfer(object, pieces, Some(nonce));
    }

    /// How long a claim is believed: it must outlive its fetch and the spread, and a false one must not hold pieces for long.
    pub(super) fn claim_life(&self) -> Millis {
        // Twice what a piece takes from a slow server: who claims again what is on its way makes it slower.
        let fetch = self.http.lately(self.now).map_or(0.0, |(pace, _)| 2.0 * pace);
        ((self.spread.high() * 1.3).max(fetch) as Millis).clamp(config::CLAIM_MS, config::MAX_CLAIM_MS)
    }

    /// False if this claim was heard before.
    fn remember_claim(&mut self, nonce: u32) -> bool {
        let fresh = !self.claims_heard.contains(&nonce);
        if fresh {
            self.claims_heard.push_back(nonce);
            if self.claims_heard.len() > config::CLAIMS_REMEMBERED {
                self.claims_heard.pop_front();
            }
        }
        fresh
    }

    /// A neighbour claims pieces, or passes on a claim.
    pub(super) fn claim_heard(&mut self, from: Peer, claim: Heard) {
        let now = self.now;
        // Each comes once from every neighbour that heard it; only the first is news. Who does not upload may pass claims on,
        // but its own promise nothing.
        let heard = |n: &mut Neighbour| (n.uploads || claim.hops > 0) && n.claims_allowed.take(now, 1);
        if !self.remember_claim(claim.nonce) || !self.neighbours.get_mut(&from).is_some_and(heard) {
            return;
        }
        let news = match self.objects.by_oid(claim.oid) {
            Some(object) => self.take_claim(object, claim),
            None => {
                self.unknown_object();
                let room = self.unknown_claims.len() < config::MAX_UNKNOWN_CLAIMS;
                if room {
                    self.unknown_claims.push(claim);
                }
                room
            }
        };
        if news && claim.hops < MAX_HOPS {
            let Heard { oid, first, count, nonce, ttl_ms, hops, .. } = claim;
            self.broadcast(&Control::Claim { oid, first, count, nonce, ttl_ms, hops: hops + 1 }, Some(from));
        }
    }

    /// Notes a claim; false if it says nothing new.
    pub(super) fn take_claim(&mut self, object: Object, claim: Heard) -> bool {
        let mut life = Millis::from(claim.ttl_ms).min(self.claim_life());
        if let Some(deadline) = self.deadline(object).filter(|_| !self.crowded(object)) {
            // Room is left to fetch it ourselves if the claim comes to nothing.
            let slack = deadline - config::GUARD_MS as f64 - claim.at as f64;
            life = life.min((0.7 * slack.max(0.0)) as Millis);
        }
        let expires = claim.at + life;
        let entry = self.objects.get_mut(object);
        let (first, count) = (claim.first, u32::from(claim.count));
        let Some(end) = first.checked_add(count).filter(|&end| end <= entry.count && count > 0) else { return false };
        let mut news = false;
        for piece in first..end {
            // The first claim of a piece is kept until it lapses: a later one cannot prolong it.
            if !entry.claimed(piece, claim.at) {
                let fresh = Claim { nonce: claim.nonce, heard: claim.at, expires, borne_out: false };
                if entry.claims.insert(piece, fresh).is_some_and(|lapsed| !lapsed.borne_out) {
                    self.doubting = claim.at + config::DOUBT_MS;
                }
                news = true;
            }
        }
        news
    }

    /// A playlist came: claims on objects then unknown may have a name now.
    pub(super) fn resolve_claims(&mut self) {
        let now = self.now;
        for claim in std::mem::take(&mut self.unknown_claims) {
            match self.objects.by_oid(claim.oid) {
                Some(object) => {
                    self.take_claim(object, claim);
                }
                None if now < claim.at + config::MAX_CLAIM_MS => self.unknown_claims.push(claim),
                None => {}
            }
        }
    }

    /// A claim is given up.
    pub(super) fn unclaim_heard(&mut self, from: Peer, oid: Oid, first: u32, nonce: u32, hops: u8) {
        let now = self.now;
        let unknown = self.unknown_claims.len();
        self.unknown_claims.retain(|claim| claim.nonce != nonce);
        let mut news = self.unknown_claims.len() < unknown;
        if let Some(object) = self.objects.by_oid(oid) {
            for (_, claim) in &mut self.objects.get_mut(object).claims {
                if claim.nonce == nonce && claim.expires > now {
                    (claim.expires, news) = (now, true);
                }
            }
        }
        if news {
            self.soon();
        }
        if news && hops < MAX_HOPS {
            self.broadcast(&Control::Unclaim { oid, first, nonce, hops: hops + 1 }, Some(from));
        }
    }

    /// A piece came: if its group is whole, its claim has done its work and says how long such things take.
    pub(super) fn claim_fulfilled(&mut self, object: Object, piece: u32) {
        let now = self.now;
        let entry = self.objects.get_mut(object);
        if entry.group_of(piece).all(|piece| entry.have.contains(piece))
            && let Some(claim) = entry.claims.remove(&piece)
        {
            self.spread.add(now.saturating_sub(claim.heard) as f64);
            if now > claim.expires && !claim.borne_out {
                self.doubting = now + config::DOUBT_MS;
            }
        }
    }
}
