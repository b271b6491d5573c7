//! The client's side of signaling (`docs/protocol.md`, "Signaling").

use anyhow::{Context, Result, bail};
use data_encoding::BASE64URL_NOPAD;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, header};
use marea_swarm::{ids::announce_id, wire::PeerKind};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, MaybeTlsStream, Message, WebSocketStream};

use super::Options;

/// Client to server.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum ToServer {
    Join {
        v: u8,
        video: String,
        kind: &'static str,
        want: u32,
        connected: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        resume: Option<String>,
    },
    Offer {
        video: String,
        to: String,
        conn: String,
        sdp: String,
    },
    Answer {
        video: String,
        to: String,
        conn: String,
        sdp: String,
    },
    Candidate {
        video: String,
        to: String,
        conn: String,
        candidate: Option<Candidate>,
    },
    Reject {
        video: String,
        to: String,
        conn: String,
        code: String,
    },
}

/// Server to client, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum FromServer {
    Joined {
        peer: String,
        resume: Option<String>,
        viewers: u64,
        seeders: u64,
    },
    Match {
        peers: Vec<Found>,
    },
    Offer {
        from: String,
        conn: String,
        sdp: String,
        near: bool,
    },
    Answer {
        from: String,
        conn: String,
        sdp: String,
    },
    Candidate {
        from: String,
        conn: String,
        candidate: Option<Candidate>,
    },
    Reject {
        from: String,
        conn: String,
    },
    Error {
        code: String,
    },
    #[serde(other)]
    Other,
}

/// A peer that signaling proposes.
#[derive(Debug, Deserialize)]
pub(super) struct Found {
    pub(super) peer: String,
    pub(super) near: bool,
}

/// An `RTCIceCandidateInit`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate {
    pub(super) candidate: String,
    #[serde(rename = "sdpMLineIndex")]
    pub(super) sdp_m_line_index: Option<u16>,
}

impl ToServer {
    pub(super) fn join(options: &Options, connected: Vec<String>, resume: Option<String>) -> Self {
        let kind = match options.kind {
            PeerKind::Viewer => "viewer",
            PeerKind::Mirror => "mirror",
            PeerKind::Edge => "edge",
        };
        Self::Join { v: 1, video: announce(&options.video), kind, want: options.want, connected, resume }
    }
}

/// The announce id as signaling spells it.
pub(super) fn announce(video: &str) -> String {
    BASE64URL_NOPAD.encode(&announce_id(video))
}

/// A fresh connection id.
pub(super) fn random_id() -> String {
    BASE64URL_NOPAD.encode(&super::script::random::<9>())
}

/// An open socket.
pub(super) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// Connects to signaling.
pub(super) async fn connect(options: &Options) -> Result<Socket> {
    let mut builder = ClientBuilder::new().uri(&options.signaling).context("the signaling URL")?;
    if let Some(origin) = &options.origin {
        builder = builder.add_header(header::ORIGIN, HeaderValue::from_str(origin).context("the Origin header")?)?;
    }
    let (socket, _) = builder.connect().await.with_context(|| format!("connecting to {}", options.signaling))?;
    Ok(Socket(socket))
}

impl Socket {
    pub(super) async fn send(&mut self, message: &ToServer) -> Result<()> {
        Ok(self.0.send(Message::text(serde_json::to_string(message)?)).await?)
    }

    /// Cancel-safe: nothing is lost when the future is dropped.
    pub(super) async fn receive(&mut self) -> Result<FromServer> {
        while let Some(message) = self.0.next().await {
            let message = message?;
            if let Some(text) = message.as_text() {
                return serde_json::from_str(text).with_context(|| format!("signaling sent {text}"));
            }
        }
        bail!("signaling closed the socket")
    }
}
