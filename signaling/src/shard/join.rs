//! Who gets a place in a swarm, and what it is told then.

use std::net::IpAddr;

use data_encoding::BASE64URL_NOPAD;

use super::{Outbox, Send, Shard, Timer, swarm::Member};
use crate::{
    address, defaults,
    ids::{AnnounceId, ConnectionId, Millis, PeerId},
    message::{self, ErrorCode, IceServer, Join, Kind, ServerMessage, SwarmPolicy},
    sharing::Sharing,
    ticket::Resume,
    token::Bearer,
    turn::Credentials,
};

impl Shard {
    pub(super) fn join(
        &mut self,
        now: Millis,
        id: ConnectionId,
        video: AnnounceId,
        join: &Join<'_>,
        out: &mut Outbox,
    ) -> Result<(), ErrorCode> {
        let Some(connection) = self.connections.get(&id) else { return Ok(()) };
        if join.version != message::VERSION {
            return Err(ErrorCode::Version);
        }
        if !self.access.allows(&video) {
            return Err(ErrorCode::VideoUnknown);
        }
        let joined = connection.videos.get(&video).copied();
        let most = if join.kind == Kind::Viewer { defaults::MAX_VIDEOS } else { defaults::MAX_SEEDER_VIDEOS };
        if joined.is_none() && connection.videos.len() >= most {
            return Err(ErrorCode::TooManyVideos);
        }
        let address = connection.client.address;
        let ticket = join.resume.as_deref().map_or(Resume::None, |text| self.tickets.read(&video, text, now));
        let admitted = self.admit(now, id, video, join, joined, ticket)?;
        let resumed = joined.is_none() && matches!(ticket, Resume::Proven(..));
        let (peer, alias) = match (joined, ticket) {
            // Joining again on the same socket, for the next salt.
            (Some(peer), _) => (peer, None),
            (None, Resume::Proven(peer, _)) => (peer, None),
            (None, Resume::Claimed(former)) => (PeerId(self.rng.bytes()), Some(former)),
            (None, Resume::None) => (PeerId(self.rng.bytes()), None),
        };
        match self.sharing(&video, join.kind, address, peer) {
            Sharing::Off => {
                // It has no part in the swarm, and is told why. The old place of its ticket ends too.
                self.remove(now, video, peer, out);
                if self.rules.sharing.revoked.contains(&video) {
                    self.send(id, &ServerMessage::Revoked { video }, out);
                } else {
                    self.welcome(now, id, video, peer, Sharing::Off, out);
                }
            }
            sharing => {
                self.seat(now, id, video, peer, (join.kind, admitted), alias, out);
                if let Some(swarm) = self.swarms.get_mut(&video) {
                    if let Some(member) = swarm.members.get_mut(&peer) {
                        member.edges_only = join.edges_only;
                    }
                    swarm.state(now, peer, join.want, join.pos);
                    swarm.connect(now, peer, &join.connected);
                }
                if resumed {
                    self.tell_moved(now, video, peer, out);
                }
                self.note_numbers(video, out);
                self.welcome(now, id, video, peer, sharing, out);
                self.tell_viewers(now, video, out);
                self.fill(now, video, peer, out);
                if join.kind == Kind::Edge {
                    self.fill_edges_only(now, video, out);
                }
            }
        }
        Ok(())
    }

    /// Whether it may join as this kind. True if its next ticket may stand for the token.
    fn admit(
        &self,
        now: Millis,
        id: ConnectionId,
        video: AnnounceId,
        join: &Join<'_>,
        joined: Option<PeerId>,
        ticket: Resume,
    ) -> Result<bool, ErrorCode> {
        let member = joined.and_then(|peer| self.swarms.get(&video)?.members.get(&peer));
        if let Some(member) = member.filter(|member| member.kind == join.kind) {
            return Ok(member.admitted);
        }
        if matches!(ticket, Resume::Proven(_, Some(kind)) if kind == join.kind) {
            return Ok(true);
        }
        let Some(client) = self.connections.get(&id).map(|connection| &connection.client) else { return Ok(false) };
        let tokens = &self.rules.tokens;
        let (needed, error) = match join.kind {
            Kind::Viewer => (tokens.required, ErrorCode::TokenRequired),
            Kind::Mirror | Kind::Edge => (!client.trusted, ErrorCode::KindRefused),
        };
        match join.token.as_deref() {
            // Also where it is not needed: a page that sends a wrong one should hear of it.
            Some(token) if tokens.any() => {
                tokens.check(token, now, Bearer { video, kind: join.kind, address: client.address })
            }
            _ if needed => Err(error),
            _ => Ok(false),
        }
    }

    /// What the site asks of this peer.
    pub(super) fn sharing(&self, video: &AnnounceId, kind: Kind, address: Option<IpAddr>, peer: PeerId) -> Sharing {
        let draw = match (kind, address) {
            (Kind::Mirror | Kind::Edge, _) => 0.0,
            (Kind::Viewer, Some(address)) => self.tickets.draw(address::subscriber(address).to_string().as_bytes()),
            (Kind::Viewer, None) => self.tickets.draw(&peer.0),
        };
        self.rules.sharing.of(video, draw)
    }

    /// Gives a connection its place in a swarm: a new one, or the one that its ticket proves.
    #[expect(clippy::too_many_arguments, reason = "one call, all of them facts of a join")]
    fn seat(
        &mut self,
        now: Millis,
        id: ConnectionId,
        video: AnnounceId,
        peer: PeerId,
        (kind, admitted): (Kind, bool),
        alias: Option<PeerId>,
        out: &mut Outbox,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.videos.insert(video, peer);
        let (address, asn) = (connection.client.address, connection.client.asn);
        let swarm = self.swarms.entry(video).or_default();
        let held = swarm.members.get(&peer).map(|member| (member.kind, member.connection, member.grace_at));
        if let Some((old_kind, old_connection, grace_at)) = held {
            if let Some(at) = grace_at {
                self.timers.remove(&(at, Timer::Grace(video, peer)));
            }
            if old_kind != kind {
                *self.counts.of(old_kind) -= 1;
                *self.counts.of(kind) += 1;
            }
            swarm.reseat(peer, id, address, kind);
            // A half-open socket that is not yet known to be dead, or a copied ticket: the newer one is right.
            if let Some(other) = old_connection.filter(|other| *other != id) {
                self.unseat(now, other, video);
                self.send(other, &ServerMessage::error(ErrorCode::Replaced, Some(video)), out);
            }
        } else {
            *self.counts.of(kind) += 1;
            // One that was another node's comes back to its links.
            let links = swarm.remotes.remove(&peer).map(|remote| remote.links);
            let mut member = Member::new(now, id, address, kind, alias);
            member.links = links.unwrap_or_default();
            swarm.seat(peer, member);
        }
        if let Some(member) = self.member_mut(video, peer) {
            member.asn = asn;
            member.admitted = admitted;
        }
    }

    fn welcome(
        &mut self,
        now: Millis,
        id: ConnectionId,
        video: AnnounceId,
        peer: PeerId,
        sharing: Sharing,
        out: &mut Outbox,
    ) {
        let Some(connection) = self.connections.get(&id) else { return };
        let swarm = self.swarms.get_mut(&video);
        let (viewers, seeders) = swarm.as_ref().map_or((0, 0), |swarm| swarm.numbers());
        let (mut admitted, mut relayed) = (None, false);
        if let Some(member) = swarm.and_then(|swarm| swarm.members.get_mut(&peer)) {
            member.told = (viewers, seeders);
            relayed = member.edges_only || member.kind == Kind::Edge;
            admitted = member.admitted.then_some(member.kind);
        }
        let mut ice: Vec<IceServer<'_>> = connection.client.stun.iter().map(|urls| IceServer::Stun { urls }).collect();
        let turn = self.rules.turn.as_ref().filter(|_| relayed);
        let ice_ttl = if turn.is_some() { defaults::TURN_TTL } else { defaults::ICE_TTL };
        if let Some(turn) = turn {
            // Nothing of the peer is in it, not even its id.
            let name = BASE64URL_NOPAD.encode(&self.rng.bytes::<9>());
            let Credentials { username, credential } = turn.credentials(now / 1_000 + u64::from(ice_ttl), &name);
            ice.push(IceServer::Turn { urls: turn.urls(), username, credential });
        }
        let (salt, salt_until) = self.tickets.salt(&video, now);
        let message = ServerMessage::Joined {
            video,
            peer,
            resume: self.tickets.issue(&video, peer, admitted, now),
            viewers,
            seeders,
            salt,
            salt_until,
            ice,
            ice_ttl,
            policy: SwarmPolicy { p2p: sharing },
        };
        let (kind, text) = (message.kind(), message.to_text());
        out.sends.push(Send { to: id, kind, text, relayed: false });
    }
}
