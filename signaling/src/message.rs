//! The messages of design C6: what clients say, read strictly in what matters and leniently in the rest (unknown fields
//! are ignored); what the server says is in [`ServerMessage`].

mod server;

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;

pub use self::server::{IceServer, MatchedPeer, Relayed, RelayedBody, ServerMessage, SwarmPolicy};
use crate::{
    defaults,
    ids::{AnnounceId, PeerId},
};

/// The version of the protocol in `join`.
pub const VERSION: u32 = 1;

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Somebody who watches.
    Viewer,
    /// A home mirror.
    Mirror,
    /// The site's own edge.
    Edge,
}

impl Kind {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Mirror => "mirror",
            Self::Edge => "edge",
        }
    }
}

/// A message of a client. `video` is apart, see [`parse`].
#[derive(Clone, Debug, PartialEq)]
pub enum ClientMessage<'a> {
    /// `join`
    Join(Join<'a>),
    /// `update`
    Update {
        /// How many further peers it would connect to now; 0: none, it is counted and never matched.
        want: u32,
        /// Playback position in seconds.
        pos: Option<f64>,
    },
    /// `offer`, `answer`, `candidate` or `reject`
    Relay(Relay<'a>),
    /// `leave`
    Leave,
}

/// `join`
#[derive(Clone, Debug, PartialEq)]
pub struct Join<'a> {
    /// Version of the protocol.
    pub version: u32,
    /// What the peer is.
    pub kind: Kind,
    /// As in [`ClientMessage::Update`].
    pub want: u32,
    /// It meets edges only, and nobody is told of it.
    pub edges_only: bool,
    /// Peers that it is connected to.
    pub connected: Vec<PeerId>,
    /// The ticket of an earlier `joined`.
    pub resume: Option<Cow<'a, str>>,
    /// See [`crate::token`].
    pub token: Option<Cow<'a, str>>,
    /// Playback position in seconds.
    pub pos: Option<f64>,
}

/// A message to another peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Relay<'a> {
    /// The receiver.
    pub to: PeerId,
    /// The client's name for this connection: 1–64 characters of `A–Z a–z 0–9 - _`.
    pub conn: Cow<'a, str>,
    /// What is relayed.
    pub body: Body<'a>,
}

/// What is relayed.
#[derive(Clone, Debug, PartialEq)]
pub enum Body<'a> {
    /// `offer`: an SDP.
    Offer(Cow<'a, str>),
    /// `answer`: an SDP.
    Answer(Cow<'a, str>),
    /// `candidate`; `None` after the last one.
    Candidate(Option<Candidate<'a>>),
    /// `reject`: why the connection is not wanted (any more).
    Reject(Cow<'a, str>),
}

/// An `RTCIceCandidateInit`. Only these fields are passed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate<'a> {
    /// The candidate line; empty for the end of candidates.
    #[serde(borrow, default)]
    pub candidate: Cow<'a, str>,
    /// Media section by its name.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub sdp_mid: Option<Cow<'a, str>>,
    /// Media section by its number.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "sdpMLineIndex")]
    pub sdp_m_line_index: Option<u16>,
    /// The ICE user name that it belongs to.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub username_fragment: Option<Cow<'a, str>>,
}

impl ClientMessage<'_> {
    /// The `type` on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Join(_) => "join",
            Self::Update { .. } => "update",
            Self::Relay(relay) => relay.body.kind(),
            Self::Leave => "leave",
        }
    }
}

impl Body<'_> {
    /// The `type` on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Offer(_) => "offer",
            Self::Answer(_) => "answer",
            Self::Candidate(_) => "candidate",
            Self::Reject(_) => "reject",
        }
    }
}

/// Why a message was refused; `code` in `error`. The sentences are for developers and may change, the codes do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorCode {
    /// Not JSON, not an object, a field missing or wrong.
    #[error("the message is not valid: see the protocol")]
    BadMessage,
    /// A `type` that this server does not know.
    #[error("this type of message is not known to this server")]
    UnknownType,
    /// A `v` that this server does not speak.
    #[error("this server speaks version 1")]
    Version,
    /// Too many messages; this one was dropped.
    #[error("too many messages: this one was dropped, slow down")]
    RateLimited,
    /// The page's origin is not on the list.
    #[error("pages of this origin may not use this server")]
    OriginRefused,
    /// Not in the catalogue.
    #[error("this server does not serve this video")]
    VideoUnknown,
    /// `mirror` or `edge` without the right to be one.
    #[error("joining as mirror or edge takes a token of that kind, or a program on the server's own machine")]
    KindRefused,
    /// No token, where one is needed.
    #[error("this server needs a token to join: the page gives it with `token` or data-token")]
    TokenRequired,
    /// A token whose `exp` has passed.
    #[error("the token has expired: join again with a fresh one")]
    TokenExpired,
    /// A token that does not open this.
    #[error("the token is not signed with a key of this server, or not for this video or network, or not for now")]
    TokenInvalid,
    /// Too many videos on one socket.
    #[error("too many videos on one connection: leave one first")]
    TooManyVideos,
    /// A message about a video that was not joined.
    #[error("join the video first")]
    NotJoined,
    /// A relay to a peer that the sender was not matched with.
    #[error("you were not matched with this peer")]
    UnknownPeer,
    /// An answer or candidate of a `conn` that was not offered, or too late, or too many.
    #[error("no such conn is open with this peer, or it has had enough messages")]
    UnknownConn,
    /// Another socket joined with this peer's ticket.
    #[error("another connection has taken over this peer")]
    Replaced,
}

impl ErrorCode {
    /// The text on the wire, and the label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadMessage => "bad-message",
            Self::UnknownType => "unknown-type",
            Self::Version => "version",
            Self::RateLimited => "rate-limited",
            Self::OriginRefused => "origin-refused",
            Self::VideoUnknown => "video-unknown",
            Self::KindRefused => "kind-refused",
            Self::TokenRequired => "token-required",
            Self::TokenExpired => "token-expired",
            Self::TokenInvalid => "token-invalid",
            Self::TooManyVideos => "too-many-videos",
            Self::NotJoined => "not-joined",
            Self::UnknownPeer => "unknown-peer",
            Self::UnknownConn => "unknown-conn",
            Self::Replaced => "replaced",
        }
    }
}

/// A message that was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Why.
    pub code: ErrorCode,
    /// The video it was about, if that could be read.
    pub video: Option<AnnounceId>,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    video: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawJoin<'a> {
    v: u32,
    kind: Kind,
    want: u32,
    #[serde(borrow, default)]
    peers: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    connected: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    resume: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    token: Option<Cow<'a, str>>,
    #[serde(default)]
    pos: Option<f64>,
}

#[derive(Deserialize)]
struct RawUpdate {
    want: u32,
    #[serde(default)]
    pos: Option<f64>,
}

#[derive(Deserialize)]
struct RawRelay<'a> {
    #[serde(borrow)]
    to: Cow<'a, str>,
    #[serde(borrow)]
    conn: Cow<'a, str>,
    #[serde(borrow, default)]
    sdp: Option<Cow<'a, str>>,
    /// Absent: not there. `null` is a value here.
    #[serde(borrow, default, deserialize_with = "present")]
    candidate: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<Cow<'a, str>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// Reads a client's message: the video and what is said about it.
///
/// # Errors
/// `bad-message` or `unknown-type`.
pub fn parse(text: &str) -> Result<(AnnounceId, ClientMessage<'_>), ParseError> {
    let head: Head<'_> = object(text).ok_or(ParseError { code: ErrorCode::BadMessage, video: None })?;
    let video = head.video.and_then(|raw| serde_json::from_str::<Cow<'_, str>>(raw.get()).ok()?.parse().ok());
    let fail = |code| ParseError { code, video };
    let bad = || fail(ErrorCode::BadMessage);
    let message = match &*head.kind {
        "join" => join(object(text).ok_or_else(bad)?),
        "update" => {
            let raw: RawUpdate = object(text).ok_or_else(bad)?;
            ClientMessage::Update { want: raw.want.min(defaults::MAX_MATCH), pos: position(raw.pos) }
        }
        kind @ ("offer" | "answer" | "candidate" | "reject") => {
            let raw = object(text).ok_or_else(bad)?;
            ClientMessage::Relay(relay(kind, raw).ok_or_else(bad)?)
        }
        "leave" => ClientMessage::Leave,
        _ => return Err(fail(ErrorCode::UnknownType)),
    };
    Ok((video.ok_or_else(bad)?, message))
}

/// Serde reads an array as a struct too, field by field; a message is an object and nothing else.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// Reads an object.
pub(crate) fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok().map(|Object(value)| value)
}

fn join(raw: RawJoin<'_>) -> ClientMessage<'_> {
    ClientMessage::Join(Join {
        version: raw.v,
        kind: raw.kind,
        want: raw.want.min(defaults::MAX_MATCH),
        edges_only: raw.peers.is_some_and(|peers| peers == "edge"),
        // Ids of another server are none of ours.
        connected: raw.connected.iter().take(defaults::MAX_CONNECTED).filter_map(|id| id.parse().ok()).collect(),
        resume: raw.resume,
        token: raw.token,
        pos: position(raw.pos),
    })
}

fn position(seconds: Option<f64>) -> Option<f64> {
    seconds.filter(|seconds| seconds.is_finite())
}

fn relay<'a>(kind: &str, raw: RawRelay<'a>) -> Option<Relay<'a>> {
    let sdp = |sdp: Option<Cow<'a, str>>| sdp.filter(|sdp| !sdp.is_empty() && sdp.len() <= defaults::MAX_SDP);
    let body = match kind {
        "offer" => Body::Offer(sdp(raw.sdp)?),
        "answer" => Body::Answer(sdp(raw.sdp)?),
        "reject" => Body::Reject(raw.code.filter(|code| is_name(code))?),
        _ => match raw.candidate?.get() {
            "null" => Body::Candidate(None),
            text => {
                let candidate: Candidate<'a> = object(text)?;
                let texts =
                    [Some(&candidate.candidate), candidate.sdp_mid.as_ref(), candidate.username_fragment.as_ref()];
                let fits = texts.into_iter().flatten().all(|text| text.len() <= defaults::MAX_CANDIDATE);
                Body::Candidate(Some(fits.then_some(candidate)?))
            }
        },
    };
    is_name(&raw.conn).then_some(Relay { to: raw.to.parse().ok()?, conn: raw.conn, body })
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=defaults::MAX_NAME).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: AnnounceId = AnnounceId([1; 32]);
    const PEER: PeerId = PeerId([2; 16]);

    fn code(text: &str) -> ErrorCode {
        parse(text).unwrap_err().code
    }

    #[test]
    fn a_join_is_read_with_what_is_optional_and_what_is_unknown() {
        let text = format!(
            r#" {{"type":"join","v":1,"video":"{VIDEO}","kind":"viewer","want":99,"connected":["{PEER}","junk"],"new":[1]}}"#
        );
        let (video, message) = parse(&text).unwrap();
        assert_eq!(video, VIDEO);
        let ClientMessage::Join(join) = message else { panic!("not a join") };
        assert_eq!((join.version, join.kind, join.want), (1, Kind::Viewer, defaults::MAX_MATCH));
        assert_eq!((join.connected, join.resume, join.token, join.pos), (vec![PEER], None, None, None));
    }

    #[test]
    fn a_candidate_is_null_or_an_object_and_only_known_fields_are_passed_on() {
        let message = |candidate: &str| {
            format!(r#"{{"type":"candidate","video":"{VIDEO}","to":"{PEER}","conn":"c1","candidate":{candidate}}}"#)
        };
        let text = message("null");
        let (_, ClientMessage::Relay(relay)) = parse(&text).unwrap() else { panic!("not a relay") };
        assert_eq!(relay.body, Body::Candidate(None));
        let text = message(
            r#"{"candidate":"candidate:1 \"x\"","sdpMid":"0","sdpMLineIndex":0,"foo":1,"usernameFragment":null}"#,
        );
        let (_, ClientMessage::Relay(relay)) = parse(&text).unwrap() else { panic!("not a relay") };
        let Body::Candidate(Some(candidate)) = &relay.body else { panic!("no candidate") };
        let json = serde_json::to_string(candidate).unwrap();
        assert_eq!(json, r#"{"candidate":"candidate:1 \"x\"","sdpMid":"0","sdpMLineIndex":0}"#);
        for wrong in ["[]", "1", "\"x\"", r#"{"candidate":1}"#, &format!("{{\"candidate\":\"{}\"}}", "x".repeat(2000))]
        {
            assert_eq!(code(&message(wrong)), ErrorCode::BadMessage, "{wrong}");
        }
        let none = format!(r#"{{"type":"candidate","video":"{VIDEO}","to":"{PEER}","conn":"c1"}}"#);
        assert_eq!(code(&none), ErrorCode::BadMessage);
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let offer = |to: &str, conn: &str, sdp: &str| {
            format!(r#"{{"type":"offer","video":"{VIDEO}","to":"{to}","conn":"{conn}","sdp":{sdp}}}"#)
        };
        let peer = PEER.to_string();
        assert!(parse(&offer(&peer, "c", "\"v=0\"")).is_ok());
        let long = format!("\"{}\"", "x".repeat(defaults::MAX_SDP + 1));
        for wrong in [
            "",
            "null",
            "[]",
            "1",
            "\"join\"",
            "{",
            "{}",
            r#"{"type":1}"#,
            r#"["join"]"#,
            r#"{"type":"leave"}"#,
            r#"{"type":"leave","video":"short"}"#,
            r#"{"type":"leave","video":[]}"#,
            "{\"type\":\"leave\",\"type\":\"leave\"}",
            &format!(r#"{{"type":"join","video":"{VIDEO}","v":1,"kind":"boss","want":1}}"#),
            &format!(r#"{{"type":"join","video":"{VIDEO}","v":1,"kind":"viewer","want":-1}}"#),
            &format!(r#"{{"type":"join","video":"{VIDEO}","v":1,"kind":"viewer","want":1,"connected":[null]}}"#),
            &offer(&peer, "c", &long),
            &offer(&peer, "c", "\"\""),
            &offer(&peer, "c", "{}"),
            &offer(&peer, "c", "null"),
            &offer("x", "c", "\"v=0\""),
            &offer(&peer, "", "\"v=0\""),
            &offer(&peer, "a b", "\"v=0\""),
            &offer(&peer, &"c".repeat(65), "\"v=0\""),
        ] {
            assert_eq!(code(wrong), ErrorCode::BadMessage, "{wrong}");
        }
        assert_eq!(code(&"[".repeat(60_000)), ErrorCode::BadMessage);
        assert_eq!(code(&format!("{}{}", "{\"type\":\"leave\",\"x\":", "[".repeat(60_000))), ErrorCode::BadMessage);
        let unknown = parse(&format!(r#"{{"type":"dance","video":"{VIDEO}"}}"#)).unwrap_err();
        assert_eq!(unknown, ParseError { code: ErrorCode::UnknownType, video: Some(VIDEO) });
    }
}
