//! How many strangers a network may meet, whoever in it asks: a hundred sockets learn no more addresses than one.

use std::{collections::HashMap, net::IpAddr};

use crate::{address, bucket::Bucket, defaults, ids::Millis};

/// Networks looked through at least before those that owe nothing are forgotten.
const SWEEP: usize = 4096;

/// Pairing budgets of /24s and /48s, for pairs whose ends are in different ones.
#[derive(Debug)]
pub(super) struct Networks {
    buckets: HashMap<IpAddr, Bucket>,
    sweep_at: usize,
}

impl Default for Networks {
    fn default() -> Self {
        Self { buckets: HashMap::new(), sweep_at: SWEEP }
    }
}

impl Networks {
    /// Whether an address may meet somebody of another network. One that is not known, or of this machine, may.
    pub(super) fn may(&self, now: Millis, address: Option<IpAddr>) -> bool {
        let bucket = network(address).and_then(|network| self.buckets.get(&network));
        bucket.is_none_or(|bucket| bucket.available(now) >= 1.0)
    }

    /// It does.
    pub(super) fn take(&mut self, now: Millis, address: Option<IpAddr>) {
        let Some(network) = network(address) else { return };
        let (rate, burst) = (defaults::PAIRINGS_PER_HOUR / 3600.0, defaults::PAIRINGS_PER_HOUR);
        if self.buckets.len() >= self.sweep_at {
            self.buckets.retain(|_, bucket| bucket.available(now) < burst);
            self.sweep_at = (2 * self.buckets.len()).max(SWEEP);
        }
        self.buckets.entry(network).or_insert_with(|| Bucket::new(now, rate, burst)).take(now, 1.0);
    }
}

fn network(address: Option<IpAddr>) -> Option<IpAddr> {
    address.filter(|address| !address.is_loopback()).map(address::prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_one_budget_and_is_forgotten_when_it_owes_nothing() {
        let mut networks = Networks::default();
        let address = |text: &str| Some(text.parse().unwrap());
        for _ in 0..120 {
            assert!(networks.may(0, address("203.0.113.1")));
            networks.take(0, address("203.0.113.2"));
        }
        assert!(!networks.may(0, address("203.0.113.3")));
        assert!(networks.may(0, address("203.0.114.3")) && networks.may(0, None));
        assert!(networks.may(31_000, address("203.0.113.3")));
        for number in 0..10_000u32 {
            let other = IpAddr::V4(std::net::Ipv4Addr::from_bits(number << 8));
            networks.take(u64::from(number) * 3_600_000, Some(other));
        }
        assert!(networks.buckets.len() <= SWEEP, "{}", networks.buckets.len());
    }
}
