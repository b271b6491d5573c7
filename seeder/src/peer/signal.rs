//! The client's side of signaling (`docs/protocol.md` §4): one socket for all videos, opened again whenever it is lost.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::Uri;
use marea_signaling::Signaling;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_websockets::{ClientBuilder, Message, WebSocketStream};
use url::Url;

use super::random;
use crate::{
    config::{SIGNALING_BURST, SIGNALING_PACE, SIGNALING_RETRY, SIGNALING_SILENCE},
    doctor::dial::{Stream, dial},
};

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
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<String>,
    },
    Update {
        video: String,
        want: u32,
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
        code: &'static str,
    },
    Leave {
        video: String,
    },
}

/// Server to client, as far as it matters to one that watches nothing.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum FromServer {
    Joined {
        video: String,
        peer: String,
        resume: Option<String>,
        viewers: u32,
        seeders: u32,
        salt: String,
        #[serde(default)]
        ice: Vec<IceServer>,
        #[serde(default)]
        policy: Policy,
    },
    Match {
        video: String,
        peers: Vec<Found>,
    },
    Offer {
        video: String,
        from: String,
        conn: String,
        sdp: String,
        near: bool,
    },
    Answer {
        video: String,
        from: String,
        conn: String,
        sdp: String,
    },
    Candidate {
        video: String,
        from: String,
        conn: String,
        candidate: Option<Candidate>,
    },
    Reject {
        video: String,
        from: String,
        conn: String,
    },
    Viewers {
        video: String,
        viewers: u32,
        seeders: u32,
    },
    Revoked {
        video: String,
    },
    Drain {
        #[serde(rename = "withinMs")]
        within_ms: u64,
    },
    Error {
        code: String,
        #[serde(default)]
        message: String,
        #[serde(rename = "ref")]
        video: Option<String>,
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

/// An RTCIceServer.
#[derive(Debug, Deserialize)]
pub(super) struct IceServer {
    urls: Urls,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Urls {
    One(String),
    Many(Vec<String>),
}

impl IceServer {
    pub(super) fn urls(&self) -> &[String] {
        match &self.urls {
            Urls::One(url) => std::slice::from_ref(url),
            Urls::Many(urls) => urls,
        }
    }
}

/// What the site asks.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Policy {
    #[serde(default)]
    p2p: String,
}

impl Policy {
    /// Whether nobody is to share. `ask` asks viewers; whoever runs this program has said yes.
    pub(super) fn off(&self) -> bool {
        self.p2p == "off"
    }
}

/// An RTCIceCandidateInit.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Candidate {
    pub(super) candidate: String,
    #[serde(rename = "sdpMLineIndex")]
    pub(super) sdp_m_line_index: Option<u16>,
}

/// What the socket tells.
#[derive(Debug)]
pub(super) enum News {
    /// It is open: everything is to be joined (again).
    Up,
    /// It is lost, and being tried again.
    Down(String),
    /// A message.
    Heard(Box<FromServer>),
}

/// Where signaling is.
pub(super) enum Place {
    At(Url),
    /// In this process.
    Here(Signaling),
}

/// Keeps a socket open for as long as the other ends of the channels live. What is to be sent while there is none is dropped:
/// after [`News::Up`] all is said anew.
pub(super) async fn run(place: Place, mut out: mpsc::UnboundedReceiver<ToServer>, news: mpsc::UnboundedSender<News>) {
    let mut wait = SIGNALING_RETRY.0;
    loop {
        let reason = match connect(&place).await {
            Ok(mut socket) => {
                wait = SIGNALING_RETRY.0;
                while out.try_recv().is_ok() {}
                if news.send(News::Up).is_err() {
                    return;
                }
                match talk(&mut socket, &mut out, &news).await {
                    Some(reason) => reason,
                    None => {
                        let _ = timeout(Duration::from_secs(1), socket.close()).await;
                        return;
                    }
                }
            }
            Err(reason) => reason,
        };
        if news.send(News::Down(reason)).is_err() {
            return;
        }
        sleep(jitter(wait)).await;
        wait = (wait * 2).min(SIGNALING_RETRY.1);
    }
}

type Socket = WebSocketStream<Box<dyn Stream>>;

async fn connect(place: &Place) -> Result<Socket, String> {
    let url = match place {
        Place::At(url) => url,
        Place::Here(signaling) => {
            let stream: Box<dyn Stream> = Box::new(signaling.connect().ok_or("this server is leaving")?);
            return Ok(ClientBuilder::new().take_over(stream));
        }
    };
    let uri: Uri = url.as_str().parse().map_err(|_| format!("{url} is no URL"))?;
    let stream = dial(url).await.map_err(|error| error.to_string())?;
    let upgrade = timeout(SIGNALING_SILENCE, ClientBuilder::from_uri(uri).connect_on(stream)).await;
    let upgraded = upgrade.map_err(|_| "the server does not upgrade to a WebSocket".to_owned())?;
    upgraded.map(|(socket, _)| socket).map_err(|error| format!("the server does not upgrade to a WebSocket: {error}"))
}

/// Carries messages until the socket is lost (`Some`: why) or nobody wants it any more.
async fn talk(
    socket: &mut Socket,
    out: &mut mpsc::UnboundedReceiver<ToServer>,
    news: &mpsc::UnboundedSender<News>,
) -> Option<String> {
    let mut until: Option<Instant> = None;
    let mut pace = Pace { left: SIGNALING_BURST, at: Instant::now() };
    loop {
        let free = pace.free();
        tokio::select! {
            message = timeout(SIGNALING_SILENCE, socket.next()) => {
                let message = match message {
                    Ok(Some(Ok(message))) => message,
                    Ok(Some(Err(error))) => return Some(error.to_string()),
                    Ok(None) => return Some("the server closed the socket".to_owned()),
                    Err(_) => return Some(format!("nothing heard for {} s", SIGNALING_SILENCE.as_secs())),
                };
                // A message that is none is the server's fault; the next one may be right.
                match message.as_text().map(serde_json::from_str::<FromServer>) {
                    Some(Ok(FromServer::Drain { within_ms })) => {
                        until.get_or_insert(Instant::now() + jitter(Duration::from_millis(within_ms)));
                    }
                    Some(Ok(message)) => news.send(News::Heard(Box::new(message))).ok()?,
                    Some(Err(error)) => tracing::debug!(%error, "signaling sent what is no message"),
                    None => {}
                }
            }
            message = out.recv(), if free => {
                // Several at once go out as one write.
                let mut next = Some(message?);
                while let Some(message) = next {
                    // Plain data: it cannot fail to be written.
                    let text = serde_json::to_string(&message).unwrap_or_default();
                    if let Err(error) = socket.feed(Message::text(text)).await {
                        return Some(error.to_string());
                    }
                    pace.left -= 1.0;
                    next = if pace.free() { out.try_recv().ok() } else { None };
                }
                if let Err(error) = socket.flush().await {
                    return Some(error.to_string());
                }
            }
            () = sleep(Duration::from_secs(1)), if !free => {}
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                return Some("the server is leaving".to_owned());
            }
        }
    }
}

/// What a socket may say: signaling drops what comes faster than it allows, and a library has many videos to join.
struct Pace {
    left: f64,
    at: Instant,
}

impl Pace {
    /// Whether a message may go now.
    fn free(&mut self) -> bool {
        let now = Instant::now();
        let earned = SIGNALING_PACE * now.duration_since(self.at).as_secs_f64();
        (self.left, self.at) = ((self.left + earned).min(SIGNALING_BURST), now);
        self.left >= 1.0
    }
}

/// A random time up to `most`, so that a crowd does not come back at once.
fn jitter(most: Duration) -> Duration {
    most.mul_f64(f64::from(u32::from_le_bytes(random())) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_the_protocol_writes_them() {
        let text = r#"{"type":"joined","video":"v","peer":"p","resume":"r","viewers":2,"seeders":1,"salt":"AA","saltUntil":1,
            "ice":[{"urls":"stun:a:1"},{"urls":["stun:b:2","turn:c"],"username":"x"}],"iceTtl":60,"policy":{"p2p":"ask"}}"#;
        let Ok(FromServer::Joined { ice, policy, .. }) = serde_json::from_str(text) else { panic!("not read") };
        let urls: Vec<&String> = ice.iter().flat_map(IceServer::urls).collect();
        assert_eq!(urls, ["stun:a:1", "stun:b:2", "turn:c"]);
        assert!(!policy.off());
        assert!(matches!(serde_json::from_str(r#"{"type":"news"}"#), Ok(FromServer::Other)));
        let join = ToServer::Join {
            v: 1,
            video: "v".to_owned(),
            kind: "mirror",
            want: 3,
            connected: Vec::new(),
            resume: None,
            token: None,
        };
        let text = r#"{"type":"join","v":1,"video":"v","kind":"mirror","want":3,"connected":[]}"#;
        assert_eq!(serde_json::to_string(&join).unwrap(), text);
    }
}
