//! Signaling: a real WebSocket from the page's origin, a real `join` that wants no neighbours, and silence after it.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Uri, header};
use marea_swarm::ids::announce_id;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_websockets::{ClientBuilder, Message, WebSocketStream};
use url::Url;

use super::{
    Visit,
    dial::{Stream, dial},
};

/// Longest wait for the upgrade, and for the answer to a `join`.
const PATIENCE: Duration = Duration::from_secs(10);

const PROXY: &str = "let the proxy pass WebSocket upgrades (nginx: proxy_http_version 1.1; proxy_set_header Upgrade \
                     $http_upgrade; proxy_set_header Connection \"upgrade\";)";

type Socket = WebSocketStream<Box<dyn Stream>>;

impl Visit {
    /// Looks at one signaling server, as a viewer of `video` would come to it.
    pub(super) async fn signaling(&mut self, text: &str, video: Option<&str>) {
        if !self.sockets.insert((text.to_owned(), video.map(str::to_owned))) {
            return;
        }
        let url = match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "ws" | "wss") => url,
            _ => {
                let remedy = "name it by a URL that begins with wss://";
                return self.report.change("signaling", text, "is no URL of a signaling server", remedy);
            }
        };
        self.mixed(&url);
        let mut socket = match self.open(&url).await {
            Ok(socket) => socket,
            Err(reason) => return self.report.change("signaling", &url, reason, PROXY),
        };
        self.report.fine("signaling", &url, "takes WebSockets");
        if let Some(video) = video
            && !self.join(&url, &mut socket, video).await
        {
            return;
        }
        self.idle(&url, &mut socket).await;
    }

    async fn open(&self, url: &Url) -> Result<Socket, String> {
        let uri: Uri = url.as_str().parse().map_err(|_| "is no URL".to_owned())?;
        let origin = HeaderValue::from_str(self.client.origin()).map_err(|error| error.to_string())?;
        let builder =
            ClientBuilder::from_uri(uri).add_header(header::ORIGIN, origin).map_err(|error| error.to_string())?;
        let stream = dial(url).await.map_err(|error| error.to_string())?;
        match timeout(PATIENCE, builder.connect_on(stream)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(error)) => Err(format!("does not upgrade to a WebSocket: {error}")),
            Err(_) => Err(format!("does not upgrade to a WebSocket within {} s", PATIENCE.as_secs())),
        }
    }

    /// Joins, counted but never matched, and asks the STUN servers that are named. False if it is not let in.
    async fn join(&mut self, url: &Url, socket: &mut Socket, video: &str) -> bool {
        let id = BASE64URL_NOPAD.encode(&announce_id(video));
        let join = json!({ "type": "join", "v": 1, "video": id, "kind": "viewer", "want": 0, "connected": [] });
        let answer = async {
            socket.send(Message::text(join.to_string())).await.map_err(|error| error.to_string())?;
            while let Some(message) = socket.next().await {
                let message = message.map_err(|error| error.to_string())?;
                let value = message.as_text().and_then(|text| serde_json::from_str::<Value>(text).ok());
                match value {
                    Some(value) if value["type"] == "joined" || value["type"] == "error" => return Ok(value),
                    _ => {}
                }
            }
            Err("closes the socket at the first message".to_owned())
        };
        let answer = timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err("does not answer a join".to_owned()));
        let value = match answer {
            Ok(value) => value,
            Err(reason) => {
                self.report.change("signaling", url, reason, "look into the log of the signaling server");
                return false;
            }
        };
        if value["type"] == "error" {
            let code = value["code"].as_str().unwrap_or("?");
            let says = format!("refuses viewers of this video from {}: {code}", self.client.origin());
            let remedy = match code {
                "origin-refused" => "add the page's origin to `allow-origin` of the signaling server",
                "token-required" | "token-invalid" | "token-expired" => {
                    "viewers need a token here (data-token), which this program has not: then all is well"
                }
                "video-unknown" => "let the signaling server know the video, or name the right one (--signaling)",
                _ => "docs/protocol.md explains the code",
            };
            self.report.change("join", url, says, remedy);
            return false;
        }
        self.report.fine(
            "join",
            url,
            format!("lets viewers join ({} are there)", value["viewers"].as_u64().unwrap_or(0)),
        );
        let servers = value["ice"].as_array().map_or(&[][..], Vec::as_slice);
        let urls = servers.iter().flat_map(|server| match &server["urls"] {
            Value::Array(urls) => urls.iter().filter_map(Value::as_str).collect(),
            url => url.as_str().into_iter().collect::<Vec<_>>(),
        });
        let stun: Vec<String> = urls.filter(|url| url.starts_with("stun:")).map(str::to_owned).collect();
        if stun.is_empty() {
            let says = "names no STUN server, so viewers of different homes never meet";
            self.report.change("stun", url, says, "let it answer STUN (--udp), or name servers in data-ice-servers");
        }
        for server in stun {
            self.stun(&server).await;
        }
        true
    }

    /// Waits for a proxy to lose patience. Pings of the server are answered, as browsers do.
    async fn idle(&mut self, url: &Url, socket: &mut Socket) {
        let silence = async {
            loop {
                match socket.next().await {
                    Some(Ok(message)) if !message.is_close() => {}
                    _ => return,
                }
            }
        };
        let started = std::time::Instant::now();
        match timeout(self.idle, silence).await {
            Err(_) => {
                self.report.fine("idle-socket", url, format!("stays open for {} s of silence", self.idle.as_secs()));
            }
            Ok(()) => {
                let says = format!("the socket is closed after {:.0} s of silence", started.elapsed().as_secs_f64());
                let remedy = "raise the proxy's time-out over 60 s (nginx: proxy_read_timeout 120s;): the server pings every 30 s";
                self.report.change("idle-socket", url, says, remedy);
            }
        }
    }
}
