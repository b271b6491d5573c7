//! A viewer's page: playlists, the engine's start, the player's loads.

use marea_swarm::{
    Millis, PIECE_SIZE, Swarm,
    config::Config,
    swarm::{Fetch, Request},
    wire::PeerKind,
};

use super::{
    film::VIDEO,
    http::Kind,
    player::{BUFFER_MS, Load, Player, SYNC_SEGMENTS},
    scenario::Role,
    script::Script,
    world::{Event, World},
};

/// While the engine starts, what the playhead reaches later than this waits for it, in ms (`HOLD_SLACK_MS` of the page).
const HOLD_SLACK_MS: f64 = 2_000.0;
/// Period of the player's own clock, in milliseconds.
const LOOK_MS: f64 = 100.0;
/// Number of the transfer that began before the core was there.
const ADOPTED: Fetch = Fetch(Fetch::ADOPTED);

impl World {
    /// A peer comes.
    pub(super) fn arrive(&mut self, index: usize) {
        let now = self.now;
        let page = self.scenario.page;
        let viewer = &mut self.viewers[index];
        viewer.alive = true;
        viewer.player = Player::new(now, viewer.player.rendition, viewer.player.end);
        match viewer.role {
            Role::Viewer | Role::FreeRider => {
                // The multivariant playlist, then the media playlist.
                let bytes = self.film.multivariant_bytes();
                self.server.playlists += bytes;
                let first = self.small_answer(index, bytes);
                let load = self.viewers[index].slowly(page.load);
                self.ask_playlist(index, load + first);
            }
            Role::Mirror => {
                self.ask_playlist(index, 0);
                self.queue.push(now + 500, Event::Engine(index));
            }
            role => {
                viewer.script = Some(Script::new(role));
                self.queue.push(now + 500, Event::Script(index));
                let after = 2.0 * self.server_rtt(index);
                self.queue.push(now + 500 + after as Millis, Event::Socket(index));
            }
        }
    }

    /// Asks for the playlist in `after` ms.
    pub(super) fn ask_playlist(&mut self, index: usize, after: Millis) {
        let asked = self.now + after;
        let rendition = self.viewers[index].player.rendition;
        let sent = asked + (self.server_rtt(index) / 2.0) as Millis;
        let listing = self.film.listing(rendition, sent);
        let bytes = if self.scenario.http_only { listing.plain } else { listing.tagged };
        self.server.playlists += bytes;
        let took = self.small_answer(index, bytes);
        self.queue.push(asked + took, Event::Playlist { viewer: index, rendition, sent, asked });
    }

    /// Time to read a live playlist again.
    pub(super) fn poll(&mut self, index: usize) {
        if self.viewers[index].alive {
            self.ask_playlist(index, 0);
        }
    }

    /// A playlist is here.
    pub(super) fn playlist_arrived(&mut self, index: usize, rendition: usize, sent: Millis, asked: Millis) {
        let now = self.now;
        let listing = self.film.listing(rendition, sent);
        let live = self.scenario.film.window.is_some();
        let segment_ms = self.scenario.film.segment_ms;
        let viewer = &mut self.viewers[index];
        if !viewer.alive {
            return;
        }
        let first_time = !std::mem::replace(&mut viewer.reads, true);
        viewer.awaits = viewer.awaits.filter(|&awaited| awaited != rendition);
        let changed = first_time || listing.end > viewer.listed;
        if rendition == viewer.player.rendition && listing.end >= viewer.listed {
            (viewer.listed, viewer.listed_first) = (listing.end, listing.first);
        }
        if let Some(core) = &mut viewer.core
            && (changed || !live)
        {
            core.playlist(now, &listing.playlist);
            self.map_objects(index, rendition, listing.first, listing.end);
            self.touch(index);
        }
        if first_time {
            if live {
                let start = listing.end.saturating_sub(SYNC_SEGMENTS).max(listing.first);
                self.viewers[index].player.jump(now, start, segment_ms as f64, false);
            }
            if !self.scenario.http_only && self.viewers[index].watches() {
                let page = self.scenario.page;
                let viewer = &self.viewers[index];
                let download =
                    2.0 * viewer.access + page.engine_bytes / viewer.down.min(self.scenario.server_each / 8_000.0);
                let engine = viewer.slowly(page.engine);
                self.queue.push(now + engine + download as Millis, Event::Engine(index));
            }
        }
        if live {
            // hls.js: a target duration after the last request, half of it if nothing was new. Reloads that the core
            // asked for do not move its rhythm.
            let viewer = &mut self.viewers[index];
            if asked >= viewer.next_poll {
                let wait = if changed { segment_ms } else { segment_ms / 2 };
                viewer.next_poll = (asked + wait).max(now + 1);
                self.queue.push(viewer.next_poll, Event::Poll(index));
            }
        }
        self.look(index);
    }

    /// Which segment each new object is: the core numbers objects in the order in which playlists name them.
    fn map_objects(&mut self, index: usize, rendition: usize, first: usize, end: usize) {
        let viewer = &mut self.viewers[index];
        for number in first..end {
            let segment = self.film.segment(rendition, number) as u32;
            if !viewer.objects.iter().rev().any(|&other| other == segment) {
                viewer.objects.push(segment);
            }
        }
        if let (Some(core), Some(&last)) = (&viewer.core, viewer.objects.last()) {
            let object = marea_swarm::swarm::Object(viewer.objects.len() as u32 - 1);
            assert_eq!(
                core.size(object),
                u64::from(self.film.segments[last as usize].size),
                "the core counts otherwise"
            );
        }
    }

    /// The core is there: it gets the playlist and what was loaded before it.
    pub(super) fn engine_ready(&mut self, index: usize) {
        let now = self.now;
        if !self.viewers[index].alive {
            return;
        }
        let seed = self.rng.seed();
        let viewer = &mut self.viewers[index];
        let kind = if viewer.role == Role::Mirror { PeerKind::Mirror } else { PeerKind::Viewer };
        let config = match viewer.role {
            Role::FreeRider => Config { upload: false, ..self.scenario.config.clone() },
            Role::Mirror => Config { max_upload_ratio: None, ..self.scenario.config.clone() },
            _ => self.scenario.config.clone(),
        };
        viewer.core = Some(Box::new(Swarm::new(VIDEO, kind, config, &seed, now)));
        let rendition = viewer.player.rendition;
        let listing = self.film.listing(rendition, now);
        // As its page has read it.
        let end = viewer.listed.clamp(1, listing.end);
        let seen = self.film.listing_at(rendition, end);
        if let Some(core) = &mut self.viewers[index].core {
            core.playlist(now, &seen.playlist);
        }
        self.map_objects(index, rendition, seen.first, seen.end);
        self.adopt(index);
        self.touch(index);
        let after = 2.0 * self.server_rtt(index) + 5.0;
        self.queue.push(now + after as Millis, Event::Socket(index));
        self.look(index);
    }

    /// The first segment, which HTTP has brought or is bringing, becomes the core's.
    fn adopt(&mut self, index: usize) {
        let now = self.now;
        let viewer = &mut self.viewers[index];
        let Some(early) = viewer.early.take() else { return };
        let Some(object) = viewer.objects.iter().position(|&other| other as usize == early) else { return };
        let object = marea_swarm::swarm::Object(object as u32);
        let at = match viewer.plain {
            Some(slot) => self.server.transfers[slot].at,
            None => self.film.segments[early].size,
        };
        let Some(core) = &mut viewer.core else { return };
        core.adopt(now, ADOPTED, object);
        viewer.plain_bytes -= u64::from(at);
        if at > 0 {
            core.fetch_progress(now, ADOPTED, at);
        }
        let segment = &self.film.segments[early];
        let whole = at == segment.size;
        let pieces = if whole { segment.list.len() as u32 } else { at / PIECE_SIZE };
        for piece in 0..pieces {
            core.fetch_piece(now, ADOPTED, piece, segment.list[piece as usize]);
        }
        if whole {
            core.fetch_end(now, ADOPTED);
        } else if let Some(slot) = viewer.plain.take() {
            self.server.transfers[slot].kind = Kind::Media(ADOPTED);
            viewer.fetches.push((ADOPTED, slot));
            self.resume_load(index);
        }
    }

    /// The player's load goes on in the core.
    fn resume_load(&mut self, index: usize) {
        if let Some(load) = self.viewers[index].player.load {
            self.request(index, load);
        }
    }

    fn request(&mut self, index: usize, load: Load) {
        let now = self.now;
        let segment_ms = self.scenario.film.segment_ms as f64;
        let listing = self.film.listing_at(load.rendition, self.viewers[index].listed.max(load.index + 1));
        let locator = &listing.playlist.segments[load.index - listing.first].locator;
        let viewer = &mut self.viewers[index];
        let Some(core) = &mut viewer.core else { return };
        let known = core.request(now, load.request, locator, load.index as f64 * segment_ms);
        assert!(known, "a listed segment has a hash");
        self.touch(index);
    }

    /// The player looks whether to load the next segment.
    pub(super) fn look(&mut self, index: usize) {
        let now = self.now;
        let scenario = std::rc::Rc::clone(&self.scenario);
        let segment_ms = scenario.film.segment_ms as f64;
        let viewer = &mut self.viewers[index];
        if !viewer.alive || !viewer.reads || viewer.awaits.is_some() {
            return;
        }
        if viewer.role == Role::Mirror {
            return self.mirror_look(index);
        }
        viewer.player.advance(now);
        if scenario.leave_at_end && viewer.player.ended() {
            self.leave(index, true);
            return;
        }
        let player = &mut viewer.player;
        if player.load.is_some() {
            return;
        }
        if player.next >= scenario.film.segments {
            if scenario.leave_at_end {
                let left = (player.end - player.position).max(1.0);
                self.queue.push(now + left.ceil() as Millis, Event::Look(index));
            }
            return;
        }
        if player.next < viewer.listed_first {
            // It has left the window: the player goes on where a newcomer would begin.
            let to = viewer.listed.saturating_sub(SYNC_SEGMENTS).max(viewer.listed_first);
            let position = player.position;
            player.jump(now, to, segment_ms, false);
            player.skipped_ms += (player.position - position).max(0.0);
        }
        let player = &mut viewer.player;
        if player.next >= viewer.listed {
            return; // the next playlist will name it
        }
        let spare = player.buffered() - BUFFER_MS;
        if spare >= 0.0 {
            let wait = (spare + self.rng.range(1.0, LOOK_MS)).ceil() as Millis;
            self.queue.push(now + wait, Event::Look(index));
            return;
        }
        let shared = !scenario.http_only;
        if viewer.core.is_none() && shared && player.started.is_some() {
            let slack = player.next as f64 * segment_ms - player.position - HOLD_SLACK_MS;
            if slack > 0.0 {
                self.queue.push(now + slack.ceil().min(200.0) as Millis, Event::Look(index));
                return;
            }
        }
        let rendition = player.rendition;
        let request = Request(player.loads);
        player.loads += 1;
        let load = Load { request, index: player.next, rendition };
        player.load = Some(load);
        let segment = self.film.segment(rendition, load.index);
        self.asked[segment].get_or_insert(now);
        if self.viewers[index].core.is_some() {
            self.request(index, load);
        } else {
            let size = self.film.segments[segment].size;
            let slot = self.get(index, Kind::Plain, segment, 0, size);
            self.viewers[index].plain = Some(slot);
            if shared {
                self.viewers[index].early = Some(segment);
            }
        }
    }

    /// A mirror asks for every segment that is listed.
    fn mirror_look(&mut self, index: usize) {
        let viewer = &mut self.viewers[index];
        if viewer.core.is_none() {
            return;
        }
        let player = &mut viewer.player;
        player.next = player.next.max(viewer.listed_first);
        if player.load.is_some() || player.next >= viewer.listed {
            return;
        }
        let load = Load { request: Request(player.loads), index: player.next, rendition: player.rendition };
        player.loads += 1;
        player.load = Some(load);
        // It is in no hurry: its playhead would be where a live viewer's is.
        player.position = load.index as f64 * self.scenario.film.segment_ms as f64 - 8_000.0;
        self.request(index, load);
    }

    /// The core has the segment that the player waits for.
    pub(super) fn delivered(&mut self, index: usize, request: Request) {
        let Some(load) = self.viewers[index].player.load.filter(|load| load.request == request) else { return };
        self.appended(index, load);
    }

    /// A plain load has ended.
    pub(super) fn plain_done(&mut self, index: usize, segment: usize) {
        let Some(load) = self.viewers[index].player.load else { return };
        if self.film.segment(load.rendition, load.index) == segment {
            self.appended(index, load);
        }
    }

    fn appended(&mut self, index: usize, load: Load) {
        let now = self.now;
        let listed = self.film.listed_at(load.index);
        let segment_ms = self.scenario.film.segment_ms as f64;
        let picture = self.viewers[index].slowly(self.scenario.page.picture);
        let viewer = &mut self.viewers[index];
        if self.scenario.film.window.is_some() && listed > viewer.player.came {
            viewer.spread.push((now - listed) as u32);
        }
        viewer.player.append(now, segment_ms, picture);
        self.queue.push(now + 1, Event::Look(index));
    }

    /// The viewer jumps somewhere else in a VOD.
    pub(super) fn seek(&mut self, index: usize) {
        let now = self.now;
        let Some(mean) = self.scenario.seeks else { return };
        let again = self.rng.exponential(mean) as Millis + 1;
        let to = (self.rng.unit() * self.scenario.film.segments as f64) as usize;
        let segment_ms = self.scenario.film.segment_ms as f64;
        let viewer = &mut self.viewers[index];
        if !viewer.alive {
            return;
        }
        self.queue.push(now + again, Event::Seek(index));
        if viewer.player.started.is_some_and(|started| started < now) {
            self.cancel_load(index);
            self.viewers[index].player.jump(now, to, segment_ms, true);
            self.look(index);
        }
    }

    /// The player takes another rendition from the next segment on.
    pub(super) fn switch(&mut self, index: usize) {
        let now = self.now;
        let Some(mean) = self.scenario.switches else { return };
        let again = self.rng.exponential(mean) as Millis + 1;
        let renditions = self.scenario.film.bitrates.len();
        let to = ((self.rng.unit() * renditions as f64) as usize).min(renditions - 1);
        let viewer = &mut self.viewers[index];
        if !viewer.alive {
            return;
        }
        self.queue.push(now + again, Event::Switch(index));
        if viewer.player.started.is_some()
            && to != viewer.player.rendition
            && viewer.core.is_some() != self.scenario.http_only
        {
            self.cancel_load(index);
            self.viewers[index].player.rendition = to;
            self.viewers[index].awaits = Some(to);
            self.ask_playlist(index, 0);
        }
    }

    fn cancel_load(&mut self, index: usize) {
        let now = self.now;
        let viewer = &mut self.viewers[index];
        viewer.early = None;
        if let Some(slot) = viewer.plain.take() {
            self.drop_transfer(slot);
        }
        let viewer = &mut self.viewers[index];
        if let (Some(load), Some(core)) = (viewer.player.load.take(), &mut viewer.core) {
            core.cancel(now, load.request);
            self.touch(index);
        }
    }
}
