//! One info hash's members.

use std::collections::BTreeMap;

use super::message::{Id20, Numbers};
use super::remote::Held;
use crate::{
    cluster::{self, Elsewhere},
    ids::{ConnectionId, Millis},
};

/// The members of one info hash. Who they are is told by peer id *and* connection: a stranger that uses another's peer id
/// is somebody else, and cannot stop it, take its place or read its answers.
#[derive(Debug, Default)]
pub(super) struct Swarm {
    members: Vec<Member>,
    /// Places in `members`.
    index: BTreeMap<(Id20, ConnectionId), usize>,
    complete: u32,
    downloaded: u32,
    /// How many members the other nodes have: not complete, complete.
    pub(super) elsewhere: Elsewhere,
    /// That is known.
    pub(super) counted: bool,
    /// Offers that wait for it.
    pub(super) held: Vec<Held>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) peer_id: Id20,
    pub(super) connection: ConnectionId,
    pub(super) complete: bool,
    pub(super) announced_at: Millis,
}

impl Swarm {
    /// Members of all nodes.
    pub(super) fn numbers(&self) -> Numbers {
        let (mut incomplete, mut complete) = self.own_numbers();
        for (more, more_complete) in self.elsewhere.values() {
            incomplete = incomplete.saturating_add(*more);
            complete = complete.saturating_add(*more_complete);
        }
        Numbers { complete, incomplete, downloaded: self.downloaded }
    }

    /// Members of this node: not complete, complete.
    pub(super) fn own_numbers(&self) -> cluster::Numbers {
        let members = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        (members - self.complete, self.complete)
    }

    /// Members of other nodes.
    pub(super) fn elsewhere_total(&self) -> usize {
        self.elsewhere.values().map(|(incomplete, complete)| *incomplete as usize + *complete as usize).sum()
    }

    /// Members of this node that have another peer id.
    pub(super) fn others(&self, peer_id: Id20) -> usize {
        self.members.len() - self.holders(peer_id).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A member announces; true if it is new. `complete`: what it said of it.
    pub(super) fn announce(
        &mut self,
        now: Millis,
        peer_id: Id20,
        connection: ConnectionId,
        complete: Option<bool>,
    ) -> bool {
        let new = !self.index.contains_key(&(peer_id, connection));
        let slot = *self.index.entry((peer_id, connection)).or_insert_with(|| {
            self.members.push(Member { peer_id, connection, complete: false, announced_at: now });
            self.members.len() - 1
        });
        let Some(member) = self.members.get_mut(slot) else { return new };
        member.announced_at = now;
        let before = member.complete;
        member.complete = complete.unwrap_or(before);
        self.complete += u32::from(member.complete);
        self.complete -= u32::from(before);
        new
    }

    /// One more has got everything.
    pub(super) fn count_download(&mut self) {
        self.downloaded = self.downloaded.saturating_add(1);
    }

    pub(super) fn remove(&mut self, peer_id: Id20, connection: ConnectionId) -> Option<Member> {
        let slot = self.index.remove(&(peer_id, connection))?;
        let member = self.members.swap_remove(slot);
        self.complete -= u32::from(member.complete);
        if let Some(moved) = self.members.get(slot) {
            self.index.insert((moved.peer_id, moved.connection), slot);
        }
        Some(member)
    }

    pub(super) fn get(&self, peer_id: Id20, connection: ConnectionId) -> Option<&Member> {
        self.members.get(*self.index.get(&(peer_id, connection))?)
    }

    /// Connections that are members under this peer id.
    pub(super) fn holders(&self, peer_id: Id20) -> impl Iterator<Item = ConnectionId> {
        let range = (peer_id, ConnectionId(0))..=(peer_id, ConnectionId(u64::MAX));
        self.index.range(range).map(|((_, connection), _)| *connection)
    }

    /// Up to `count` members of other peer ids, each set equally likely.
    pub(super) fn sample(&self, peer_id: Id20, count: usize, below: impl FnMut(usize) -> usize) -> Vec<Member> {
        let range = (peer_id, ConnectionId(0))..=(peer_id, ConnectionId(u64::MAX));
        let mut own: Vec<usize> = self.index.range(range).map(|(_, slot)| *slot).collect();
        own.sort_unstable();
        let chosen = crate::random::sample(self.members.len() - own.len(), count, below);
        // The numbers count those that are left when its own are taken out.
        let slot = |number: usize| own.iter().fold(number, |slot, own| slot + usize::from(*own <= slot));
        chosen.filter_map(|number| self.members.get(slot(number)).copied()).collect()
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        assert_eq!(self.members.len(), self.index.len());
        for (slot, member) in self.members.iter().enumerate() {
            assert_eq!(self.index[&(member.peer_id, member.connection)], slot);
        }
        assert_eq!(self.members.iter().filter(|member| member.complete).count(), self.complete as usize);
    }
}
