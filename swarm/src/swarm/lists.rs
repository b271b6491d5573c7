//! Piece lists: asked of neighbours, fetched by HTTP, checked once against the root, given to whoever asks.

use super::{
    Swarm,
    action::{Action, Fetch, Object, Peer, Refused, Source},
    object::List,
};
use crate::{
    config,
    ids::{Millis, Oid},
    pieces::{Cv, ListCheck, check_list, list_from_bytes},
    wire::{Control, MAX_LIST_ITEMS},
};

impl Swarm {
    /// Gets the list of an object: from a neighbour that has pieces (whoever has pieces has the list), else by HTTP if
    /// `by_http`.
    pub(super) fn ensure_list(&mut self, object: Object, by_http: bool) {
        let now = self.now;
        let http_failed = match &self.entry(object).list {
            List::Missing { http_failed } => *http_failed,
            List::Asked { peer, since, http_failed, .. } => {
                let (peer, http_failed) = (*peer, *http_failed);
                let late = self.neighbours.get(&peer).is_none_or(|n| now >= since + n.patience());
                if !late {
                    self.wake(now + config::TICK_MS);
                    return;
                }
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    neighbour.busy_until = now + config::BUSY_MS;
                }
                self.objects.get_mut(object).list = List::Missing { http_failed };
                http_failed
            }
            List::Fetching(_) | List::Known(_) => return,
        };
        let edges = self.server_fails(object);
        let asked = self
            .neighbours
            .iter()
            .filter(|(_, n)| n.gives() || edges && n.open && n.uploads)
            .filter(|(_, n)| now >= n.busy_until && n.has_any(object))
            .min_by(|(_, a), (_, b)| a.rtt.mean().total_cmp(&b.rtt.mean()))
            .map(|(&peer, _)| peer);
        let entry = self.objects.get_mut(object);
        if let Some(peer) = asked {
            entry.list = List::Asked { peer, since: now, parts: Vec::new(), http_failed };
            let oid = entry.oid;
            self.send(peer, &Control::ListGet { oid });
        } else if by_http && !http_failed {
            let (url, start) = (entry.place.locator.list_url(), entry.place.list_at);
            let (len, ranged) = (entry.count * 32, entry.place.locator.range.is_some());
            let fetch = self.new_fetch();
            self.objects.get_mut(object).list = List::Fetching(fetch);
            self.actions.push_back(Action::FetchList { fetch, object, url, start, len, ranged });
        }
    }

    /// A piece list arrived by HTTP, or `None` (404, 403, CORS, a page in HTML…): then whole objects are verified. False if it
    /// is not the list that was asked for.
    pub fn list_fetched(&mut self, now: Millis, fetch: Fetch, list: Option<&[u8]>) -> bool {
        self.touch(now);
        let found =
            self.objects.iter().find(|(_, entry)| entry.list == List::Fetching(fetch)).map(|(object, _)| object);
        let Some(object) = found else { return true };
        let entry = self.objects.get_mut(object);
        entry.list = List::Missing { http_failed: true };
        if let Some(list) = list.and_then(list_from_bytes)
            && check_list(&list, entry.size, entry.root) == ListCheck::Fits
        {
            self.list_known(object, list);
            return true;
        }
        false
    }

    /// Part of a list from a neighbour.
    pub(super) fn list_part(&mut self, from: Peer, oid: Oid, total: u32, first: u32, values: &[Cv]) {
        let Some(object) = self.objects.by_oid(oid) else { return };
        let entry = self.objects.get_mut(object);
        let List::Asked { peer, since, parts, http_failed } = &mut entry.list else { return };
        if *peer != from {
            return;
        }
        if total == 0 {
            entry.list = List::Missing { http_failed: *http_failed };
            if let Some(neighbour) = self.neighbours.get_mut(&from) {
                neighbour.has.remove(&object);
            }
            return;
        }
        let fits_so_far = total == entry.count && first as usize == parts.len() && !values.is_empty();
        if fits_so_far {
            parts.extend_from_slice(values);
            *since = self.now;
            if parts.len() < total as usize {
                return;
            }
            let list = std::mem::take(parts);
            let fits = match &mut entry.unproven {
                Some(unproven) => {
                    unproven.giver = Some(Source::Peer(from, 0));
                    list.len() == total as usize
                }
                None => check_list(&list, entry.size, entry.root) == ListCheck::Fits,
            };
            if fits {
                self.list_known(object, list);
                return;
            }
        }
        entry.list = List::Missing { http_failed: *http_failed };
        self.blame(from, object, Refused::List);
    }

    /// What waited for the list can be judged now.
    fn list_known(&mut self, object: Object, list: Vec<Cv>) {
        let entry = self.objects.get_mut(object);
        let pending = std::mem::take(&mut entry.pending);
        entry.list = List::Known(list);
        for ((source, piece), cv) in pending {
            match source {
                Source::Fetch(fetch) => self.fetch_piece_again(fetch, piece, cv),
                Source::Peer(peer, request) => self.judge(peer, request, object, piece, cv),
            }
        }
        self.stop_if_met(object);
    }

    /// Answers LIST_GET.
    pub(super) fn give_list(&mut self, peer: Peer, oid: Oid) {
        let Some(list) = self.list_to_give(oid).map(<[Cv]>::to_vec) else {
            self.send(peer, &Control::List { oid, total: 0, first: 0, values: Vec::new() });
            return;
        };
        let total = u32::try_from(list.len()).unwrap_or(0);
        for (part, first) in list.chunks(MAX_LIST_ITEMS).zip((0u32..).step_by(MAX_LIST_ITEMS)) {
            self.send(peer, &Control::List { oid, total, first, values: part.to_vec() });
        }
    }

    /// The list that is here for others.
    pub(super) fn list_to_give(&self, oid: Oid) -> Option<&[Cv]> {
        let entry = self.entry(self.objects.by_oid(oid)?);
        entry.known_list().filter(|_| entry.given())
    }

    /// Lists that were asked of a neighbour that is gone.
    pub(super) fn forget_lists_of(&mut self, gone: Peer) {
        for entry in &mut self.objects.entries {
            if let List::Asked { peer, http_failed, .. } = entry.list
                && peer == gone
            {
                entry.list = List::Missing { http_failed };
            }
        }
    }
}

impl Swarm {
    /// A piece that waited in a transfer's assembly.
    fn fetch_piece_again(&mut self, fetch: Fetch, piece: u32, cv: Cv) {
        let Some(transfer) = self.transfers.get(&fetch) else { return };
        let next = transfer.next;
        let now: Millis = self.now;
        self.fetch_piece(now, fetch, piece, cv);
        if let Some(transfer) = self.transfers.get_mut(&fetch) {
            transfer.next = next;
        }
    }
}
