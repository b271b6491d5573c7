//! A server in this process, and WebSocket clients that talk to it as a page would.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue};
use marea_signaling::{
    AnnounceId,
    config::{Config, Udp},
    server::Server,
    service::{Policy, Signaling},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tokio_websockets::{ClientBuilder, CloseCode, MaybeTlsStream, Message, WebSocketStream};

/// Longer than anything here takes, even on a busy machine: only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Short enough to wait for in vain.
pub(crate) const MOMENT: Duration = Duration::from_millis(150);

/// On free ports, for itself.
pub(crate) fn config() -> Config {
    let local = "127.0.0.1:0".parse().unwrap();
    Config {
        listen: local,
        udp: Udp::Same,
        admin_listen: Some(local),
        secret: None,
        redis: None,
        tls: None,
        tracker: true,
        policy: Policy::default(),
    }
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) stun: Option<SocketAddr>,
    pub(crate) signaling: Signaling,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(policy: Policy) -> Self {
        Self::start_config(Config { policy, ..config() }).await
    }

    pub(crate) async fn start_config(config: Config) -> Self {
        let server = Server::bind(&config).await.unwrap();
        let (address, admin, stun) = (server.local_addr().unwrap(), server.admin_addr(), server.stun_addr());
        let signaling = server.signaling().clone();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { address, admin, stun, signaling, stop: Some(stop), task }
    }

    /// What SIGTERM does.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn ended(self) {
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address, &[]).await
    }
}

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, headers: &[(&'static str, &str)]) -> Self {
        Self::connect_to(address, "/signal", headers).await
    }

    pub(crate) async fn connect_to(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Self {
        let mut builder = ClientBuilder::new().uri(&format!("ws://{address}{path}")).unwrap();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).unwrap();
            builder = builder.add_header(HeaderName::from_static(name), value).unwrap();
        }
        let (socket, response) = timeout(PATIENCE, builder.connect()).await.unwrap().unwrap();
        assert_eq!(response.status(), 101);
        Self { socket }
    }

    pub(crate) async fn send(&mut self, message: &Value) {
        self.raw(Message::text(message.to_string())).await;
    }

    pub(crate) async fn raw(&mut self, message: Message) {
        timeout(PATIENCE, self.socket.send(message)).await.unwrap().unwrap();
    }

    /// The next message of this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        self.until(kind, |value| value["type"] == kind).await
    }

    /// The next message that fits; others before it are dropped.
    pub(crate) async fn until(&mut self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                let message = self.socket.next().await.unwrap_or_else(|| panic!("closed before {kind}"));
                let message = message.unwrap();
                let Some(text) = message.as_text() else {
                    assert!(!message.is_close(), "closed before {kind}: {:?}", message.as_close());
                    continue;
                };
                let value: Value = serde_json::from_str(text).unwrap();
                if fits(&value) {
                    return value;
                }
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("no {kind} came"))
    }

    pub(crate) async fn expect_error(&mut self, code: &str) -> Value {
        let error = self.expect("error").await;
        assert_eq!(error["code"], code);
        error
    }

    /// What a page does that is left.
    pub(crate) async fn close(&mut self) {
        timeout(PATIENCE, self.socket.close()).await.unwrap().unwrap();
    }

    /// The code and reason that the server closes with.
    pub(crate) async fn expect_close(&mut self) -> (CloseCode, String) {
        let wait = async {
            while let Some(message) = self.socket.next().await {
                if let Some((code, reason)) = message.unwrap().as_close() {
                    return (code, reason.to_owned());
                }
            }
            panic!("ended without a close");
        };
        timeout(PATIENCE, wait).await.unwrap()
    }

    /// That nothing comes.
    pub(crate) async fn expect_silence(&mut self) {
        if let Ok(message) = timeout(MOMENT, self.socket.next()).await {
            panic!("{message:?}");
        }
    }

    pub(crate) async fn join(&mut self, name: &str, want: u32) -> Value {
        self.join_with(name, want, json!({})).await
    }

    pub(crate) async fn join_with(&mut self, name: &str, want: u32, more: Value) -> Value {
        let mut message = json!({
            "type": "join", "v": 1, "video": video(name), "kind": "viewer", "want": want, "connected": [],
        });
        for (key, value) in more.as_object().unwrap() {
            message[key] = value.clone();
        }
        self.send(&message).await;
        self.expect("joined").await
    }
}

pub(crate) fn video(name: &str) -> String {
    AnnounceId::of_video(name).to_string()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// One HTTP request; the status and the whole answer.
pub(crate) async fn http(address: SocketAddr, head: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{head}\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(PATIENCE, exchange).await.unwrap();
    (answer[9..12].parse().unwrap(), answer)
}
