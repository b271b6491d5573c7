//! Which connection a datagram belongs to. Whatever strangers send costs one look each, and is not remembered.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use crate::{config::LINK_ROUTES, stun};

/// Our address and the other one.
type Pair = (SocketAddr, SocketAddr);

/// Where the datagrams of all connections come from.
#[derive(Debug, Default)]
pub(super) struct Routes {
    by_pair: HashMap<Pair, u32>,
    /// By our name in ICE (RFC 8445 §5.3), which a neighbour's checks carry from wherever they come.
    by_ufrag: HashMap<String, u32>,
    of: HashMap<u32, Of>,
}

/// What there is of one connection.
#[derive(Debug, Default)]
struct Of {
    ufrag: String,
    /// The oldest first.
    pairs: VecDeque<Pair>,
}

impl Routes {
    /// The connections that a datagram may belong to: whose pair it is, and whom it names if it is a check.
    pub(super) fn find(&self, pair: Pair, bytes: &[u8]) -> impl Iterator<Item = u32> + use<> {
        let holder = self.by_pair.get(&pair).copied();
        let named = stun::asked(bytes).and_then(|ufrag| self.by_ufrag.get(ufrag)).copied();
        holder.into_iter().chain(named.filter(|_| named != holder))
    }

    /// A connection is there, or has another name from now on.
    pub(super) fn name(&mut self, id: u32, ufrag: String) {
        let of = self.of.entry(id).or_default();
        let before = std::mem::replace(&mut of.ufrag, ufrag.clone());
        self.by_ufrag.remove(&before);
        self.by_ufrag.insert(ufrag, id);
    }

    /// Something is sent there: the answer to a check names nobody. Who was there before stays.
    pub(super) fn sent(&mut self, pair: Pair, id: u32) {
        if !self.by_pair.contains_key(&pair) {
            self.set(pair, id);
        }
    }

    /// A datagram from there was the connection's.
    pub(super) fn heard(&mut self, pair: Pair, id: u32) {
        if self.by_pair.get(&pair) != Some(&id) {
            self.set(pair, id);
        }
    }

    fn set(&mut self, pair: Pair, id: u32) {
        let Some(of) = self.of.get_mut(&id) else { return };
        self.by_pair.insert(pair, id);
        // It may have been another's for a while.
        of.pairs.retain(|known| *known != pair);
        of.pairs.push_back(pair);
        if of.pairs.len() > LINK_ROUTES
            && let Some(oldest) = of.pairs.pop_front()
            && self.by_pair.get(&oldest) == Some(&id)
        {
            self.by_pair.remove(&oldest);
        }
    }

    /// A connection is over.
    pub(super) fn forget(&mut self, id: u32) {
        let Some(of) = self.of.remove(&id) else { return };
        if self.by_ufrag.get(&of.ufrag) == Some(&id) {
            self.by_ufrag.remove(&of.ufrag);
        }
        for pair in of.pairs {
            if self.by_pair.get(&pair) == Some(&id) {
                self.by_pair.remove(&pair);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(port: u16) -> Pair {
        (([192, 0, 2, 1], 9).into(), ([198, 51, 100, 1], port).into())
    }

    /// A check of a neighbour's (RFC 8445 §7.2.2), as far as it is read here.
    fn check(username: &str) -> Vec<u8> {
        let mut check = stun::request([7; 12]).to_vec();
        check.extend([0, 6, 0, username.len() as u8]);
        check.extend(username.bytes());
        check.resize(check.len().next_multiple_of(4), 0);
        check
    }

    fn found(routes: &Routes, port: u16, bytes: &[u8]) -> Vec<u32> {
        routes.find(pair(port), bytes).collect()
    }

    #[test]
    fn a_check_is_found_by_its_name_and_all_else_by_where_it_comes_from() {
        let mut routes = Routes::default();
        routes.name(1, "one".to_owned());
        routes.name(2, "two".to_owned());
        assert_eq!(found(&routes, 1, &check("one:x")), [1]);
        assert_eq!(found(&routes, 1, b"dtls"), [] as [u32; 0]);
        routes.sent(pair(1), 1);
        assert_eq!(found(&routes, 1, b"dtls"), [1]);
        assert_eq!(found(&routes, 1, &check("two:x")), [1, 2], "somebody has given another's address for his own");
        routes.sent(pair(1), 2);
        assert_eq!(found(&routes, 1, b"dtls"), [1]);
        routes.heard(pair(1), 2);
        assert_eq!(found(&routes, 1, b"dtls"), [2]);
        routes.name(2, "new".to_owned());
        assert_eq!(found(&routes, 5, &check("two:x")), [] as [u32; 0]);
        assert_eq!(found(&routes, 5, &check("new:x")), [2]);
        routes.forget(1);
        assert_eq!(found(&routes, 1, b"dtls"), [2], "it is the other's by now");
        routes.forget(2);
        assert!(routes.by_pair.is_empty() && routes.by_ufrag.is_empty() && routes.of.is_empty());
    }

    #[test]
    fn strangers_cost_no_connection_a_look_and_are_not_remembered() {
        let mut routes = Routes::default();
        for id in 0..1_000 {
            routes.name(id, format!("us{id}"));
            routes.heard(pair(id as u16), id);
        }
        let kinds = [b"\x16\xfe\xfd dtls".to_vec(), check("nobody:x"), stun::request([3; 12]).to_vec()];
        for (at, bytes) in (0u32..100_000).zip(kinds.iter().cycle()) {
            let stranger = (pair(0).0, ([198, 51, 101 + (at >> 16) as u8, 1], at as u16).into());
            assert_eq!(routes.find(stranger, bytes).count(), 0, "{at}");
        }
        assert_eq!((routes.by_pair.len(), routes.by_ufrag.len(), routes.of.len()), (1_000, 1_000, 1_000));
    }

    #[test]
    fn a_neighbour_of_many_addresses_keeps_the_newest() {
        let mut routes = Routes::default();
        routes.name(1, "one".to_owned());
        for port in 1..=10_000 {
            routes.heard(pair(port), 1);
        }
        assert_eq!((routes.by_pair.len(), routes.of[&1].pairs.len()), (LINK_ROUTES, LINK_ROUTES));
        assert_eq!(found(&routes, 10_000, b"dtls"), [1]);
        assert_eq!(found(&routes, 1, b"dtls"), [] as [u32; 0]);
        routes.heard(pair(1), 9);
        assert_eq!(found(&routes, 1, b"dtls"), [] as [u32; 0], "nobody of that number is there");
    }
}
