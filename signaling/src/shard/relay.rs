//! Offers, answers, candidates and rejections from one peer to another.

use super::{
    Outbox, Send, Shard,
    swarm::{Link, LinkState, Negotiation},
};
use crate::{
    defaults,
    ids::{AnnounceId, ConnectionId, Millis, PeerId},
    message::{Body, ErrorCode, Relay, Relayed, RelayedBody, ServerMessage},
};

impl Shard {
    /// Passes a message on if the two know each other and it fits what they are negotiating.
    pub(super) fn relay(
        &mut self,
        now: Millis,
        video: AnnounceId,
        from: PeerId,
        relay: &Relay<'_>,
        out: &mut Outbox,
    ) -> Result<(), ErrorCode> {
        let to = relay.to;
        let Some(swarm) = self.swarms.get_mut(&video) else { return Err(ErrorCode::NotJoined) };
        if swarm.remotes.contains_key(&to) {
            return self.relay_abroad(now, video, from, relay, out);
        }
        let Some(target) = swarm.members.get(&to) else {
            out.rejects.push("peer-gone");
            if let Some(id) = swarm.members.get(&from).and_then(|member| member.connection) {
                self.send(id, &ServerMessage::Gone { video, peer: to }, out);
            }
            return Ok(());
        };
        let connection = target.connection;
        let near = swarm.near(from, to);
        self.accept(now, video, from, relay)?;
        match connection {
            Some(connection) => deliver(connection, (video, from, near), relay, out),
            // Its socket broke. If it comes back the handshake is made anew.
            None => out.rejects.push("peer-away"),
        }
        Ok(())
    }

    /// Notes a message on the link of the two.
    pub(super) fn accept(
        &mut self,
        now: Millis,
        video: AnnounceId,
        from: PeerId,
        relay: &Relay<'_>,
    ) -> Result<(), ErrorCode> {
        let to = relay.to;
        let link = self.swarms.get_mut(&video).and_then(|swarm| swarm.existing_link_mut(from, to));
        link.ok_or(ErrorCode::UnknownPeer)?.accept(now, from > to, relay)?;
        if matches!(relay.body, Body::Reject(_)) {
            self.retry_soon(now, video, [from, to]);
        }
        Ok(())
    }
}

/// Sends a message of `from`, who is `near` or not, to its receiver.
pub(super) fn deliver(
    to: ConnectionId,
    (video, from, near): (AnnounceId, PeerId, bool),
    relay: &Relay<'_>,
    out: &mut Outbox,
) {
    let relayed = |body| Relayed { video, from, near, conn: &relay.conn, body };
    let message = match &relay.body {
        Body::Offer(sdp) => ServerMessage::Offer(relayed(RelayedBody::Sdp(sdp))),
        Body::Answer(sdp) => ServerMessage::Answer(relayed(RelayedBody::Sdp(sdp))),
        Body::Candidate(candidate) => ServerMessage::Candidate(relayed(RelayedBody::Candidate(candidate.as_ref()))),
        Body::Reject(code) => ServerMessage::Reject(relayed(RelayedBody::Code(code))),
    };
    out.sends.push(Send { to, kind: message.kind(), text: message.to_text(), relayed: true });
}

impl Link {
    /// Notes a message from the smaller (`larger == false`) or larger id of the two.
    fn accept(&mut self, now: Millis, larger: bool, relay: &Relay<'_>) -> Result<(), ErrorCode> {
        let side = usize::from(larger);
        match &relay.body {
            Body::Offer(_) => {
                // A known `conn` is an ICE restart, which either side may begin.
                let known = self.offers.iter().position(|offer| is(offer, relay));
                let restart = known.is_some_and(|by| self.offers[by].as_ref().is_some_and(|offer| offer.answered));
                self.offers[side] = Some(Negotiation {
                    conn: relay.conn.as_ref().into(),
                    offered_at: now,
                    answered: false,
                    candidates: [0, 0],
                });
                if let Some(by) = known.filter(|by| restart && *by != side) {
                    self.offers[by] = None;
                }
                Ok(())
            }
            Body::Answer(_) => {
                let offer = self.offers[1 - side].as_mut().filter(|offer| *offer.conn == *relay.conn);
                let fresh = |offer: &&mut Negotiation| !offer.answered && now < offer.offered_at + defaults::OFFER_MS;
                offer.filter(fresh).ok_or(ErrorCode::UnknownConn)?.answered = true;
                self.set(now, LinkState::Answered);
                Ok(())
            }
            Body::Candidate(_) => {
                let offer = self.offers.iter_mut().flatten().find(|offer| *offer.conn == *relay.conn);
                let count = &mut offer.ok_or(ErrorCode::UnknownConn)?.candidates[side];
                if *count >= defaults::MAX_CANDIDATES {
                    return Err(ErrorCode::UnknownConn);
                }
                *count += 1;
                Ok(())
            }
            Body::Reject(_) => {
                if let Some(by) = self.offers.iter().position(|offer| is(offer, relay)) {
                    self.offers[by] = None;
                }
                // One of two crossing offers is rejected while the other lives.
                if self.offers.iter().all(Option::is_none) {
                    self.set(now, LinkState::Failed);
                }
                Ok(())
            }
        }
    }
}

fn is(offer: &Option<Negotiation>, relay: &Relay<'_>) -> bool {
    offer.as_ref().is_some_and(|offer| *offer.conn == *relay.conn)
}
