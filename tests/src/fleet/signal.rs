//! Signaling: the real shard, real texts, and the making of connections as `peers.ts` of the engine does it.

use marea_signaling::{
    ids::{AnnounceId, ConnectionId},
    shard::{Client, Outbox},
};
use marea_swarm::{
    Millis,
    proof::Role,
    swarm::{Peer, PeerSetup},
};
use serde_json::Value;

use super::{
    film::VIDEO,
    viewer::Dialing,
    world::{Event, World},
};

/// Unix time at which the world begins.
const EPOCH: Millis = 1_800_000_000_000;
/// Limits of the page (`limits.ts`).
const MAX_PAGE_LINKS: usize = 15;
const MAX_CONNECTING: usize = 8;
/// As `SLOW_CONNECT_MS` there.
const SLOW_CONNECT_MS: Millis = 6_000;
const OFFER_TIMEOUT_MS: Millis = 30_000;
const UPDATE_MS: Millis = 1_000;
const POSITION_MS: Millis = 30_000;
/// An SDP of a data channel has about so many bytes; the shard only counts them.
const SDP: &str = "v=0 o=- 0 0 IN IP4 0.0.0.0 s=- t=0 0 m=application 9 UDP/DTLS/SCTP webrtc-datachannel";

impl World {
    fn announce() -> String {
        AnnounceId::of_video(VIDEO).to_string()
    }

    /// A peer's socket opens: it joins.
    pub(super) fn socket_open(&mut self, index: usize) {
        if !self.viewers[index].alive || self.viewers[index].socket.is_some() {
            return;
        }
        let viewer = &self.viewers[index];
        let trusted = viewer.role == super::scenario::Role::Mirror;
        let client = Client { address: Some(viewer.address.into()), trusted, asn: None, stun: None };
        let socket = self.shard.open(EPOCH + self.now, client);
        self.sockets.insert(socket, index);
        self.viewers[index].socket = Some(socket);
        let kind = if trusted { "mirror" } else { "viewer" };
        let want = self.wanted(index);
        let pos = self.viewers[index].player.position / 1000.0;
        self.viewers[index].want = (want, self.now);
        let video = Self::announce();
        let text = format!(
            r#"{{"type":"join","v":1,"video":"{video}","kind":"{kind}","want":{want},"connected":[],"pos":{pos:.0}}}"#
        );
        self.say(index, text);
    }

    fn say(&mut self, index: usize, text: String) {
        self.viewers[index].counters.signals += 1;
        let after = self.server_rtt(index) / 2.0;
        self.queue.push(self.now + (after.ceil() as Millis).max(1), Event::ToShard { viewer: index, text });
    }

    /// Connections that are being made and may still be expected to open.
    fn promising(&self, index: usize) -> usize {
        self.viewers[index].dialing.iter().filter(|dial| self.now < dial.since + SLOW_CONNECT_MS).count()
    }

    /// New neighbours wanted: the core's wish, less those on their way.
    fn wanted(&self, index: usize) -> u32 {
        let viewer = &self.viewers[index];
        let wish = match (&viewer.core, &viewer.script) {
            (Some(core), _) => core.want(),
            (None, Some(_)) => 10u32.saturating_sub(viewer.ends.len() as u32),
            (None, None) => 0,
        };
        let dialing = self.promising(index);
        let room = MAX_PAGE_LINKS
            .saturating_sub(viewer.ends.len() + viewer.dialing.len())
            .min(MAX_CONNECTING.saturating_sub(dialing));
        wish.saturating_sub(dialing as u32).min(room as u32)
    }

    /// Tells signaling what is wanted, if that has changed.
    pub(super) fn tell_want(&mut self, index: usize) {
        let now = self.now;
        let viewer = &self.viewers[index];
        if viewer.id.is_empty() || !viewer.alive {
            return;
        }
        let (told, at) = viewer.want;
        let want = self.wanted(index);
        if want == told && now < at + POSITION_MS {
            return;
        }
        let viewer = &mut self.viewers[index];
        if now < at + UPDATE_MS {
            if at + UPDATE_MS < viewer.wake_at {
                viewer.wake_at = at + UPDATE_MS;
                self.queue.push(viewer.wake_at, Event::Wake(index));
            }
            return;
        }
        viewer.want = (want, now);
        let pos = viewer.player.position / 1000.0;
        let video = Self::announce();
        self.say(index, format!(r#"{{"type":"update","video":"{video}","want":{want},"pos":{pos:.0}}}"#));
    }

    /// A peer's text reaches the shard.
    pub(super) fn reach_shard(&mut self, index: usize, text: &str) {
        let Some(socket) = self.viewers[index].socket else { return };
        self.signals += 1;
        let mut out = Outbox::default();
        self.shard.handle(EPOCH + self.now, socket, text, &mut out);
        self.deliver_signals(out);
    }

    /// A peer's socket is gone.
    pub(super) fn socket_closed(&mut self, socket: ConnectionId, clean: bool) {
        self.sockets.remove(&socket);
        let mut out = Outbox::default();
        self.shard.close(EPOCH + self.now, socket, clean, &mut out);
        self.deliver_signals(out);
    }

    /// The shard's clock.
    pub(super) fn shard_timeout(&mut self) {
        if self.shard_timer != self.now {
            return;
        }
        self.shard_timer = Millis::MAX;
        let mut out = Outbox::default();
        self.shard.timeout(EPOCH + self.now, &mut out);
        self.deliver_signals(out);
    }

    fn deliver_signals(&mut self, mut out: Outbox) {
        // The shard's tables are hashed with a key of their process: in order of receivers a run repeats.
        out.sends.sort_by_key(|send| send.to);
        for send in out.sends {
            let Some(&viewer) = self.sockets.get(&send.to) else { continue };
            self.signals += 1;
            let after = self.server_rtt(viewer) / 2.0;
            let at = self.now + (after.ceil() as Millis).max(1);
            self.queue.push(at, Event::FromShard { viewer, text: send.text });
        }
        for (socket, _) in out.closes {
            if let Some(&viewer) = self.sockets.get(&socket) {
                self.viewers[viewer].socket = None;
                self.viewers[viewer].id.clear();
                self.queue.push(self.now + 1, Event::SocketClosed(socket, true));
                self.queue.push(self.now + 2_000, Event::Socket(viewer));
            }
        }
        if let Some(at) = self.shard.next_timeout() {
            let at = at.saturating_sub(EPOCH).max(self.now + 1);
            if at < self.shard_timer {
                self.shard_timer = at;
                self.queue.push(at, Event::ShardTimer);
            }
        }
    }

    /// The shard's text reaches a peer.
    pub(super) fn reach_peer(&mut self, index: usize, text: &[u8]) {
        if !self.viewers[index].alive {
            return;
        }
        let Ok(message) = serde_json::from_slice::<Value>(text) else { return };
        let number = |name: &str| message[name].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let text_of = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let now = self.now;
        match message["type"].as_str().unwrap_or_default() {
            "joined" => {
                let (id, salt) = (text_of("peer"), text_of("salt"));
                self.ids.insert(id.clone(), index);
                let viewer = &mut self.viewers[index];
                viewer.id.clone_from(&id);
                if let Some(core) = &mut viewer.core {
                    let salt = marea_swarm::base64url::decode(&salt).unwrap_or_default();
                    core.joined(now, &id, &salt, number("viewers") + number("seeders"));
                }
                self.touch(index);
            }
            "viewers" => {
                if let Some(core) = &mut self.viewers[index].core {
                    core.population(now, number("viewers") + number("seeders"));
                }
                self.touch(index);
            }
            "match" => {
                for entry in message["peers"].as_array().into_iter().flatten() {
                    self.matched(index, entry["peer"].as_str().unwrap_or_default());
                }
            }
            "offer" => self.offered(index, &text_of("from"), &text_of("conn")),
            "answer" => self.answered(index, &text_of("from")),
            "reject" => self.rejected(index, &text_of("from")),
            _ => {}
        }
    }

    fn room(&self, index: usize) -> bool {
        let viewer = &self.viewers[index];
        viewer.ends.len() + viewer.dialing.len() < MAX_PAGE_LINKS && self.promising(index) < MAX_CONNECTING
    }

    fn knows(&self, index: usize, other: usize) -> bool {
        let viewer = &self.viewers[index];
        viewer.ends.iter().any(|end| end.other == other) || viewer.dialing.iter().any(|dial| dial.other == other)
    }

    fn dial(&mut self, index: usize, other: usize, offered: bool) {
        let since = self.now;
        self.viewers[index].dialing.push(Dialing { other, offered, since });
        self.queue.push(since + OFFER_TIMEOUT_MS, Event::Expire { viewer: index, other, since });
    }

    fn matched(&mut self, index: usize, id: &str) {
        let Some(&other) = self.ids.get(id) else { return };
        if other == index
            || self.knows(index, other)
            || self.viewers[index].banned.contains(&other)
            || !self.room(index)
        {
            return;
        }
        self.dial(index, other, true);
        let video = Self::announce();
        let conn = self.now;
        self.say(
            index,
            format!(r#"{{"type":"offer","video":"{video}","to":"{id}","conn":"c{index}-{conn}","sdp":"{SDP}"}}"#),
        );
    }

    fn offered(&mut self, index: usize, from: &str, conn: &str) {
        let Some(&other) = self.ids.get(from) else { return };
        let video = Self::announce();
        let viewer = &self.viewers[index];
        if viewer.banned.contains(&other) {
            return;
        }
        let glare = viewer.dialing.iter().any(|dial| dial.other == other && dial.offered);
        let connected = viewer.ends.iter().any(|end| end.other == other);
        if (glare && viewer.id.as_str() < from) || connected {
            let text = format!(r#"{{"type":"reject","video":"{video}","to":"{from}","conn":"{conn}","code":"glare"}}"#);
            return self.say(index, text);
        }
        self.viewers[index].dialing.retain(|dial| dial.other != other);
        if !self.room(index) {
            let text = format!(r#"{{"type":"reject","video":"{video}","to":"{from}","conn":"{conn}","code":"full"}}"#);
            return self.say(index, text);
        }
        self.dial(index, other, false);
        self.say(
            index,
            format!(r#"{{"type":"answer","video":"{video}","to":"{from}","conn":"{conn}","sdp":"{SDP}"}}"#),
        );
    }

    fn answered(&mut self, index: usize, from: &str) {
        let Some(&other) = self.ids.get(from) else { return };
        if !self.viewers[index].dialing.iter().any(|dial| dial.other == other && dial.offered) {
            return;
        }
        if self.can_reach(index, other) {
            let after = self.handshake_ms(index, other);
            self.queue.push(self.now + after, Event::Connect { offerer: index, answerer: other });
        }
    }

    fn rejected(&mut self, index: usize, from: &str) {
        let Some(&other) = self.ids.get(from) else { return };
        self.viewers[index].dialing.retain(|dial| dial.other != other);
        self.touch(index);
    }

    pub(super) fn expire(&mut self, index: usize, other: usize, since: Millis) {
        let viewer = &mut self.viewers[index];
        let before = viewer.dialing.len();
        viewer.dialing.retain(|dial| dial.other != other || dial.since != since);
        if viewer.dialing.len() < before && viewer.alive {
            viewer.counters.unopened += 1;
            self.touch(index);
        }
    }

    /// ICE, DTLS and both channels are done.
    pub(super) fn connected(&mut self, offerer: usize, answerer: usize) {
        for (me, other) in [(offerer, answerer), (answerer, offerer)] {
            let viewer = &mut self.viewers[me];
            if !viewer.alive || !viewer.dialing.iter().any(|dial| dial.other == other) {
                return;
            }
        }
        let (at_offerer, at_answerer) = self.connect(offerer, answerer);
        for (me, other, peer, role) in
            [(offerer, answerer, at_offerer, Role::Offerer), (answerer, offerer, at_answerer, Role::Answerer)]
        {
            self.viewers[me].dialing.retain(|dial| dial.other != other);
            self.open_end(me, other, peer, role);
        }
    }

    fn open_end(&mut self, me: usize, other: usize, peer: Peer, role: Role) {
        let setup = PeerSetup {
            id: self.viewers[other].id.clone(),
            role,
            local_fingerprint: fingerprint(me),
            remote_fingerprint: fingerprint(other),
        };
        let now = self.now;
        match &mut self.viewers[me].core {
            Some(core) => core.peer_open(now, peer, setup),
            None => self.script_open(me, peer, &setup),
        }
        self.touch(me);
    }
}

fn fingerprint(index: usize) -> [u8; 32] {
    let mut out = [0; 32];
    out[..8].copy_from_slice(&(index as u64).to_le_bytes());
    out
}
