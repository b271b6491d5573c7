//! What the server says.

use bytes::Bytes;
use serde::Serialize;

use super::{Candidate, ErrorCode, Kind};
use crate::{
    ids::{AnnounceId, Millis, PeerId},
    sharing::Sharing,
};

/// A message of the server.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ServerMessage<'a> {
    /// The answer to `join`.
    #[serde(rename_all = "camelCase")]
    Joined {
        /// The video joined.
        video: AnnounceId,
        /// The receiver's id.
        peer: PeerId,
        /// Keeps the id over a reconnect, for a day.
        resume: String,
        /// Viewers, the receiver included.
        viewers: u32,
        /// Mirrors and edges.
        seeders: u32,
        /// 16 bytes as unpadded base64url.
        salt: String,
        /// When the salt ends; join again to get the next.
        salt_until: Millis,
        /// For `RTCPeerConnection`'s `iceServers`.
        ice: Vec<IceServer<'a>>,
        /// How long `ice` may be used, in seconds.
        ice_ttl: u32,
        /// What the site asks of its viewers.
        policy: SwarmPolicy,
    },
    /// Peers to send offers to.
    Match {
        /// The video.
        video: AnnounceId,
        /// One or more.
        peers: Vec<MatchedPeer>,
    },
    /// A relayed offer.
    Offer(Relayed<'a>),
    /// A relayed answer.
    Answer(Relayed<'a>),
    /// A relayed candidate.
    Candidate(Relayed<'a>),
    /// A relayed rejection.
    Reject(Relayed<'a>),
    /// How many are there now.
    Viewers {
        /// The video.
        video: AnnounceId,
        /// Viewers, the receiver included.
        viewers: u32,
        /// Mirrors and edges.
        seeders: u32,
    },
    /// A peer that the receiver was matched with has left.
    Gone {
        /// The video.
        video: AnnounceId,
        /// Who.
        peer: PeerId,
    },
    /// The video may not be shared any more.
    Revoked {
        /// The video.
        video: AnnounceId,
    },
    /// The server ends: come back at a random time within this.
    #[serde(rename_all = "camelCase")]
    Drain {
        /// Milliseconds.
        within_ms: u64,
    },
    /// A message was refused.
    Error {
        /// An [`ErrorCode`].
        code: &'static str,
        /// For developers.
        message: String,
        /// The video that the refused message was about, else null.
        r#ref: Option<AnnounceId>,
    },
}

/// The fields of a relayed message.
#[derive(Clone, Debug, Serialize)]
pub struct Relayed<'a> {
    /// The video.
    pub video: AnnounceId,
    /// The sender.
    pub from: PeerId,
    /// The sender has the receiver's public address: private candidates may be tried.
    pub near: bool,
    /// The sender's name for the connection.
    pub conn: &'a str,
    /// What is relayed.
    #[serde(flatten)]
    pub body: RelayedBody<'a>,
}

/// The field that differs between relayed messages.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayedBody<'a> {
    /// Of `offer` and `answer`.
    Sdp(&'a str),
    /// Of `candidate`.
    Candidate(Option<&'a Candidate<'a>>),
    /// Of `reject`.
    Code(&'a str),
}

/// One entry of `match`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MatchedPeer {
    /// Its id.
    pub peer: PeerId,
    /// What it is.
    pub kind: Kind,
    /// It has the receiver's public address.
    pub near: bool,
}

/// One entry of `ice`, as `RTCIceServer`.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum IceServer<'a> {
    /// STUN.
    Stun {
        /// `stun:host:port`
        urls: &'a str,
    },
    /// TURN.
    Turn {
        /// `turn:…`, `turns:…`
        urls: &'a [String],
        /// What the server is shown.
        username: String,
        /// See there.
        credential: String,
    },
}

/// What the site asks of its viewers: the strictest of this, the page and the viewer wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SwarmPolicy {
    /// Whether to share.
    pub p2p: Sharing,
}

impl ServerMessage<'_> {
    /// The `type` on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Joined { .. } => "joined",
            Self::Match { .. } => "match",
            Self::Offer(_) => "offer",
            Self::Answer(_) => "answer",
            Self::Candidate(_) => "candidate",
            Self::Reject(_) => "reject",
            Self::Viewers { .. } => "viewers",
            Self::Gone { .. } => "gone",
            Self::Revoked { .. } => "revoked",
            Self::Drain { .. } => "drain",
            Self::Error { .. } => "error",
        }
    }

    /// An `error`.
    pub fn error(code: ErrorCode, video: Option<AnnounceId>) -> Self {
        Self::Error { code: code.as_str(), message: code.to_string(), r#ref: video }
    }

    /// JSON text.
    pub fn to_text(&self) -> Bytes {
        // Nothing above has a map with keys that are no strings, the only way in which this can fail.
        serde_json::to_vec(self).map(Bytes::from).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: AnnounceId = AnnounceId([1; 32]);
    const PEER: PeerId = PeerId([2; 16]);

    #[test]
    fn server_messages_have_the_fields_of_the_contract() {
        let relayed = Relayed { video: VIDEO, from: PEER, near: true, conn: "c", body: RelayedBody::Candidate(None) };
        let text = ServerMessage::Candidate(relayed).to_text();
        let expected = format!(
            r#"{{"type":"candidate","video":"{VIDEO}","from":"{PEER}","near":true,"conn":"c","candidate":null}}"#
        );
        assert_eq!(text, expected);
        let text = ServerMessage::error(ErrorCode::NotJoined, None).to_text();
        assert_eq!(text, r#"{"type":"error","code":"not-joined","message":"join the video first","ref":null}"#);
        assert_eq!(ServerMessage::Drain { within_ms: 5 }.to_text(), r#"{"type":"drain","withinMs":5}"#);
    }
}
