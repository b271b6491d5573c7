//! The clients: each a task with a socket, in one thread.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http::{HeaderName, HeaderValue};
use marea_signaling::AnnounceId;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_websockets::{ClientBuilder, MaybeTlsStream, Message, WebSocketStream};

use crate::{Dialect, Options, report::Tally};

/// Handshakes at once.
const CONNECTING: usize = 100;

/// A handshake that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Those that join once do so within this.
pub(crate) const ONCE: Duration = Duration::from_secs(10);

/// What stands in each SDP beside the time: a data channel with six candidates has about so many bytes.
const SDP_BYTES: usize = 1120;

/// What all clients share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) tally: RefCell<Tally>,
    pub(crate) begin: Instant,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One client.
struct Client {
    shared: Rc<Shared>,
    number: usize,
    node: usize,
    /// Offers that are not answered, by number.
    waiting: HashMap<u64, Instant>,
    offers: u64,
    /// The newest ticket, and the one to come back with.
    resume: Option<String>,
    ticket: Option<String>,
    id: Option<String>,
    /// Whom it has shaken hands with.
    neighbours: BTreeSet<String>,
}

/// Opens all connections and leaves them to their tasks.
///
/// # Errors
/// A connection cannot be opened.
pub(crate) async fn start(shared: &Rc<Shared>) -> Result<()> {
    let clients = (0..shared.options.connections).map(|number| {
        let shared = Rc::clone(shared);
        async move {
            let node = number % shared.options.urls.len();
            let client = Client {
                shared,
                number,
                node,
                waiting: HashMap::new(),
                offers: 0,
                resume: None,
                ticket: None,
                id: None,
                neighbours: BTreeSet::new(),
            };
            let socket = client.connect().await?;
            Ok::<_, anyhow::Error>((client, socket))
        }
    });
    let mut clients = stream::iter(clients).buffer_unordered(CONNECTING);
    while let Some(client) = clients.next().await {
        let (client, socket) = client?;
        tokio::task::spawn_local(client.live(socket));
    }
    Ok(())
}

impl Client {
    async fn connect(&self) -> Result<Socket> {
        let url = &self.shared.options.urls[self.node];
        // Each from a network of its own, where the server believes it (--trusted-proxy 127.0.0.1).
        let number = self.number;
        let address = format!("{}.{}.{}.1", 10 + (number >> 16), number >> 8 & 255, number & 255);
        let builder = ClientBuilder::new()
            .uri(url)
            .with_context(|| format!("{url} is no WebSocket URL"))?
            .add_header(HeaderName::from_static("x-forwarded-for"), HeaderValue::from_str(&address)?)?;
        match timeout(PATIENCE, builder.connect()).await {
            Ok(connected) => {
                let (socket, _) = connected.with_context(|| format!("{url} cannot be connected to"))?;
                self.shared.tally.borrow_mut().open += 1;
                Ok(socket)
            }
            Err(_) => bail!("{url} does not answer a handshake within {} s", PATIENCE.as_secs()),
        }
    }

    /// Talks until the program ends; comes back to another node when its own ends.
    async fn live(mut self, mut socket: Socket) {
        loop {
            let within = self.talk(&mut socket).await;
            self.shared.tally.borrow_mut().open -= 1;
            let Ok(within) = within else {
                self.shared.tally.borrow_mut().closed += 1;
                return;
            };
            sleep(within.mul_f64(self.part())).await;
            let _ = timeout(PATIENCE, socket.close()).await;
            self.node = (self.node + 1) % self.shared.options.urls.len();
            match self.connect().await {
                Ok(again) => socket = again,
                Err(_) => return self.shared.tally.borrow_mut().closed += 1,
            }
            self.shared.tally.borrow_mut().returned.push(Instant::now());
        }
    }

    /// Returns how long there is to come back elsewhere.
    async fn talk(&mut self, socket: &mut Socket) -> Result<Duration> {
        let mut at = None;
        let again = self.ticket.is_some();
        loop {
            // Who only holds its connection joins all the same: one in no video is closed.
            let go = self.shared.tally.borrow().go || self.shared.options.idle;
            if go && at.is_none() {
                at = Some(Instant::now() + if again { Duration::ZERO } else { self.first() });
            }
            let due = at.unwrap_or_else(|| Instant::now() + Duration::from_millis(100));
            tokio::select! {
                message = socket.next() => {
                    let message = message.context("the connection ended")??;
                    let Some(text) = message.as_text() else { continue };
                    self.shared.tally.borrow_mut().received += 1;
                    if let Some(within) = self.hear(socket, text).await? {
                        return Ok(within);
                    }
                }
                () = sleep_until(due) => {
                    if at.is_some() {
                        self.announce(socket).await?;
                        at = Some(Instant::now() + self.pause());
                    }
                }
            }
            // Closed loop: the next announce as soon as this one's offers are answered.
            if self.shared.options.every == 0.0 && at.is_some() && self.waiting.is_empty() && self.offers > 0 {
                at = Some(Instant::now());
            }
        }
    }

    /// A number in `[0, 1)` of its own.
    fn part(&self) -> f64 {
        let hash = blake3::hash(&self.number.to_le_bytes());
        f64::from(u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]])) / 65536.0
    }

    fn first(&self) -> Duration {
        let Options { every, in_flight, idle, once, .. } = self.shared.options;
        match every {
            _ if idle => Duration::ZERO,
            _ if once => ONCE.mul_f64(self.part()),
            0.0 if self.number >= in_flight => Duration::from_secs(3600),
            0.0 => Duration::ZERO,
            every => Duration::from_secs_f64(every * self.part()),
        }
    }

    fn pause(&self) -> Duration {
        if self.shared.options.idle || self.shared.options.once {
            return Duration::from_secs(24 * 3600);
        }
        // A closed loop whose offers are lost goes on all the same.
        let every = self.shared.options.every;
        Duration::from_secs_f64(if every == 0.0 { 5.0 } else { every })
    }

    async fn announce(&mut self, socket: &mut Socket) -> Result<()> {
        self.shared.tally.borrow_mut().announces += 1;
        let swarm = self.number % self.shared.options.swarms;
        match self.shared.options.dialect {
            Dialect::Tracker => {
                let offers = if self.shared.options.idle { 0 } else { self.shared.options.offers };
                let offers: Vec<String> = (0..offers)
                    .map(|_| {
                        let number = self.offer();
                        let sdp = self.sdp();
                        format!(r#"{{"offer_id":"{number:020}","offer":{{"type":"offer","sdp":"{sdp}"}}}}"#)
                    })
                    .collect();
                let text = format!(
                    r#"{{"action":"announce","info_hash":"{swarm:020}","peer_id":"{:020}","numwant":{},"uploaded":0,"downloaded":0,"offers":[{}]}}"#,
                    self.number,
                    offers.len(),
                    offers.join(",")
                );
                send(socket, text).await
            }
            Dialect::Marea => {
                let video = AnnounceId::of_video(&swarm.to_string());
                if self.id.take().is_some() && self.ticket.is_none() {
                    self.neighbours.clear();
                    send(socket, format!(r#"{{"type":"leave","video":"{video}"}}"#)).await?;
                }
                let resume = self.ticket.take().map(|ticket| format!(r#","resume":"{ticket}""#)).unwrap_or_default();
                let connected: Vec<String> = self.neighbours.iter().map(|peer| format!("\"{peer}\"")).collect();
                let connected = connected.join(",");
                let want = if self.shared.options.idle { 0 } else { self.shared.options.offers };
                let text = format!(
                    r#"{{"type":"join","v":1,"video":"{video}","kind":"viewer","want":{want},"connected":[{connected}]{resume}}}"#
                );
                send(socket, text).await
            }
        }
    }

    fn offer(&mut self) -> u64 {
        self.offers += 1;
        self.waiting.retain(|_, sent| sent.elapsed() < Duration::from_secs(60));
        // Unlike those of any other client.
        let number = self.number as u64 * 1_000_000_000 + self.offers;
        self.waiting.insert(number, Instant::now());
        self.shared.tally.borrow_mut().offers += 1;
        number
    }

    /// An SDP, as JSON's inside, that says when it was made.
    fn sdp(&self) -> String {
        let mut sdp = format!("v=0 {}\\r\\n", self.shared.begin.elapsed().as_nanos());
        while sdp.len() < SDP_BYTES {
            sdp.push_str("a=candidate:1 1 udp 2113937151 10.0.0.1 49203 typ host generation 0\\r\\n");
        }
        sdp
    }

    fn note_relay(&self, sdp: &str) {
        let sent = sdp.strip_prefix("\"v=0 ").and_then(|rest| rest.split('\\').next()?.parse::<u64>().ok());
        if let Some(sent) = sent {
            let now = self.shared.begin.elapsed();
            self.shared.tally.borrow_mut().relayed.push(now.saturating_sub(Duration::from_nanos(sent)));
        }
    }

    fn note_answer(&mut self, number: Option<u64>) {
        if let Some(sent) = number.and_then(|number| self.waiting.remove(&number)) {
            let mut tally = self.shared.tally.borrow_mut();
            tally.answers += 1;
            tally.answered.push(sent.elapsed());
        }
    }

    async fn hear(&mut self, socket: &mut Socket, text: &str) -> Result<Option<Duration>> {
        match self.shared.options.dialect {
            Dialect::Tracker => self.hear_tracker(socket, text).await.map(|()| None),
            Dialect::Marea => self.hear_marea(socket, text).await,
        }
    }

    async fn hear_tracker(&mut self, socket: &mut Socket, text: &str) -> Result<()> {
        let Ok(heard) = serde_json::from_str::<FromTracker<'_>>(text) else {
            self.shared.tally.borrow_mut().errors += 1;
            return Ok(());
        };
        if heard.failure.is_some() {
            self.shared.tally.borrow_mut().errors += 1;
        } else if let (Some(offer), Some(id), Some(from)) = (heard.offer, heard.offer_id, heard.peer_id) {
            self.note_relay(offer.sdp.get());
            let (hash, sdp) = (self.number % self.shared.options.swarms, self.sdp());
            let answer = format!(
                r#"{{"action":"announce","info_hash":"{hash:020}","peer_id":"{:020}","to_peer_id":{},"offer_id":{},"answer":{{"type":"answer","sdp":"{sdp}"}}}}"#,
                self.number,
                from.get(),
                id.get()
            );
            send(socket, answer).await?;
        } else if let (Some(_), Some(id)) = (heard.answer, heard.offer_id) {
            self.note_answer(id.get().trim_matches('"').parse().ok());
        }
        Ok(())
    }

    async fn hear_marea(&mut self, socket: &mut Socket, text: &str) -> Result<Option<Duration>> {
        let heard: FromMarea<'_> = serde_json::from_str(text).context("what the server says is not as agreed")?;
        let video = heard.video.unwrap_or_default();
        match heard.kind {
            "joined" => self.id = heard.peer.map(str::to_owned),
            "match" => {
                for peer in heard.peers {
                    let (conn, sdp) = (self.offer(), self.sdp());
                    let to = peer.peer;
                    let text =
                        format!(r#"{{"type":"offer","video":"{video}","to":"{to}","conn":"{conn}","sdp":"{sdp}"}}"#);
                    send(socket, text).await?;
                }
            }
            "offer" => {
                heard.sdp.iter().for_each(|sdp| self.note_relay(sdp.get()));
                self.neighbours.extend(heard.from.map(str::to_owned));
                let (to, conn, sdp) = (heard.from.unwrap_or_default(), heard.conn.unwrap_or_default(), self.sdp());
                let text =
                    format!(r#"{{"type":"answer","video":"{video}","to":"{to}","conn":"{conn}","sdp":"{sdp}"}}"#);
                send(socket, text).await?;
            }
            "answer" => {
                self.neighbours.extend(heard.from.map(str::to_owned));
                self.note_answer(heard.conn.and_then(|conn| conn.parse().ok()));
            }
            // One that it was only about to meet is no loss.
            "gone" if heard.peer.is_some_and(|peer| self.neighbours.remove(peer)) => {
                self.shared.tally.borrow_mut().gone += 1;
            }
            "error" => {
                let mut tally = self.shared.tally.borrow_mut();
                tally.errors += 1;
                if tally.errors == 1 {
                    eprintln!("the first error: {text}");
                }
            }
            "drain" => {
                self.ticket.clone_from(&self.resume);
                return Ok(Some(Duration::from_millis(heard.within_ms)));
            }
            _ => {}
        }
        if let Some(resume) = heard.resume {
            self.resume = Some(resume.to_owned());
        }
        Ok(None)
    }
}

async fn send(socket: &mut Socket, text: String) -> Result<()> {
    Ok(socket.send(Message::text(text)).await?)
}

#[derive(Deserialize)]
struct FromTracker<'a> {
    #[serde(borrow, default)]
    offer: Option<Described<'a>>,
    #[serde(borrow, default)]
    answer: Option<Described<'a>>,
    #[serde(borrow, default)]
    offer_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    peer_id: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "failure reason")]
    failure: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Described<'a> {
    #[serde(borrow)]
    sdp: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FromMarea<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(default)]
    video: Option<&'a str>,
    #[serde(default)]
    peer: Option<&'a str>,
    #[serde(default)]
    resume: Option<&'a str>,
    #[serde(borrow, default)]
    peers: Vec<Matched<'a>>,
    #[serde(default)]
    from: Option<&'a str>,
    #[serde(default)]
    conn: Option<&'a str>,
    #[serde(borrow, default)]
    sdp: Option<&'a RawValue>,
    #[serde(default)]
    within_ms: u64,
}

#[derive(Deserialize)]
struct Matched<'a> {
    peer: &'a str,
}
