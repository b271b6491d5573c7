//! Native receivers over `str0m`, one UDP socket each: of a sender's raw messages, or of the pieces of a Marea peer, which are
//! asked for as fast as they come or at a pace.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use marea_swarm::{
    Oid, PIECE_SIZE,
    proof::{self, Fingerprint, Role},
    sdp::check_sdp,
    wire::{Control, decode_control, decode_frame, encode_control},
};
use serde::Deserialize;
use str0m::{
    Candidate, Event, Input, Output, Rtc, RtcConfig,
    change::SdpAnswer,
    channel::{ChannelConfig, ChannelId},
    net::{Protocol, Receive},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::UdpSocket,
    sync::oneshot,
    task::{LocalSet, spawn_local},
    time::sleep_until,
};

use crate::{announce, hello, say};

/// Datagrams taken together before other receivers have their turn.
const BATCH: usize = 64;

/// Kernel buffer of a socket, in bytes: as much as the seeder's own.
const UDP_BUFFER: usize = 1024 * 1024;

/// Requests that are open at once: enough that the sender never waits for one.
const OPEN_REQUESTS: usize = 2;

/// Time for the answer to a request, in milliseconds: longer than any run.
const DEADLINE_MS: u32 = 600_000;

/// What a receiver is to do.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Order {
    /// A connection is to be offered.
    Open(Open),
    /// A sender's answer.
    Answer { id: u32, sdp: String },
    /// Whatever may be fetched is fetched from now on.
    Go,
    /// The bytes so far are to be told.
    Count,
}

#[derive(Deserialize)]
struct Open {
    id: u32,
    address: IpAddr,
    /// How a Marea peer is spoken to; without it the sender sends by itself.
    marea: Option<Marea>,
}

/// A Marea peer's video.
#[derive(Clone, Deserialize)]
struct Marea {
    /// Its id.
    video: String,
    /// Pieces of each of its objects.
    pieces: u32,
    /// Bytes per second that are asked for, a piece at a time; without it as many as come.
    pace: Option<f64>,
}

/// What all receivers share.
#[derive(Default)]
struct Shared {
    go: Cell<bool>,
    bytes: Cell<u64>,
    /// Connections whose channels are open, and, of a Marea peer, whose HELLO was right.
    open: Cell<u32>,
    answers: RefCell<HashMap<u32, oneshot::Sender<String>>>,
}

/// Carries out orders from standard input until that ends.
pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let shared = Rc::new(Shared::default());
        let mut orders = BufReader::new(tokio::io::stdin()).lines();
        while let Some(order) = orders.next_line().await? {
            match serde_json::from_str(&order)? {
                Order::Open(open) => {
                    let shared = Rc::clone(&shared);
                    spawn_local(async move {
                        let id = open.id;
                        if let Err(error) = receive(&shared, open).await {
                            eprintln!("receiver {id}: {error:#}");
                        }
                    });
                }
                Order::Answer { id, sdp } => {
                    let waiting = shared.answers.borrow_mut().remove(&id).context("an answer to nothing")?;
                    // A receiver that failed has said why.
                    let _ = waiting.send(sdp);
                }
                Order::Go => shared.go.set(true),
                Order::Count => say(&serde_json::json!({ "bytes": shared.bytes.get(), "open": shared.open.get() }))?,
            }
        }
        Ok(())
    })
}

/// One connection, from its offer to its end.
async fn receive(shared: &Shared, open: Open) -> Result<()> {
    let socket = UdpSocket::bind((open.address, 0)).await?;
    // The kernel may give less; then a burst loses more.
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(UDP_BUFFER);
    let address = socket.local_addr()?;
    let mut rtc = RtcConfig::new().clear_codecs().build(Instant::now());
    rtc.add_local_candidate(Candidate::host(address, Protocol::Udp)?);
    let mut changes = rtc.sdp_api();
    let channels: Vec<ChannelId> = match open.marea {
        Some(_) => [("control", 0, true), ("data", 1, false)]
            .map(|(label, id, ordered)| changes.add_channel_with_config(channel(label, Some(id), ordered)))
            .into(),
        None => vec![changes.add_channel_with_config(channel("data", None, false))],
    };
    let (offer, pending) = changes.apply().context("nothing to offer")?;
    let offer = offer.to_sdp_string();
    let (waiting, answer) = oneshot::channel();
    shared.answers.borrow_mut().insert(open.id, waiting);
    let video = open.marea.as_ref().map(|marea| announce(&marea.video));
    say(&serde_json::json!({ "id": open.id, "offer": offer, "announce": video }))?;
    let answer = answer.await?;
    let brain = open
        .marea
        .map(|marea| -> Result<_> { Ok(Brain::new(marea, check_sdp(&offer)?, check_sdp(&answer)?)) })
        .transpose()?;
    rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&answer)?)?;
    Receiver { shared, socket, address, rtc, channels, opened: 0, brain, queue: VecDeque::new(), asked: false }
        .run()
        .await
}

fn channel(label: &str, negotiated: Option<u16>, ordered: bool) -> ChannelConfig {
    ChannelConfig { label: label.to_owned(), ordered, negotiated, ..ChannelConfig::default() }
}

struct Receiver<'a> {
    shared: &'a Shared,
    socket: UdpSocket,
    address: SocketAddr,
    rtc: Rtc,
    /// Of a Marea peer `control` and `data`, else the one.
    channels: Vec<ChannelId>,
    opened: usize,
    brain: Option<Brain>,
    /// Messages for the first channel.
    queue: VecDeque<Vec<u8>>,
    /// A raw sender was told to send.
    asked: bool,
}

impl Receiver<'_> {
    async fn run(mut self) -> Result<()> {
        let mut buffer = vec![0; 2_048];
        loop {
            let until = self.drain()?;
            tokio::select! {
                ready = self.socket.readable() => {
                    ready?;
                    for _ in 0..BATCH {
                        let Ok((len, source)) = self.socket.try_recv_from(&mut buffer) else { break };
                        let Ok(contents) = buffer[..len].try_into() else { continue };
                        let received = Receive { proto: Protocol::Udp, source, destination: self.address, contents };
                        self.rtc.handle_input(Input::Receive(Instant::now(), received))?;
                        self.drain()?;
                    }
                }
                () = sleep_until(until.into()) => self.rtc.handle_input(Input::Timeout(Instant::now()))?,
            }
        }
    }

    /// Carries out what the stack wants; when it has to be looked at again.
    fn drain(&mut self) -> Result<Instant> {
        loop {
            match self.rtc.poll_output()? {
                Output::Transmit(transmit) => {
                    // Lost if the kernel has no room, as on any line.
                    let _ = self.socket.try_send_to(&transmit.contents, transmit.destination);
                }
                Output::Event(event) => self.event(event)?,
                Output::Timeout(until) => {
                    ensure!(self.rtc.is_alive(), "the connection is over");
                    if !self.write()? {
                        // What is to begin is looked for this often.
                        return Ok(until.min(Instant::now() + Duration::from_millis(20)));
                    }
                }
            }
        }
    }

    fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::ChannelOpen(..) => {
                self.opened += 1;
                if self.opened == self.channels.len() {
                    match &self.brain {
                        Some(brain) => self.queue.push_back(brain.hello()?),
                        None => self.shared.open.set(self.shared.open.get() + 1),
                    }
                }
            }
            Event::ChannelData(data) => {
                let payload = match &mut self.brain {
                    None => data.data.len(),
                    Some(brain) if data.id == self.channels[0] => {
                        let before = brain.proven;
                        self.queue.extend(brain.control(&data.data)?);
                        if brain.proven && !before {
                            self.shared.open.set(self.shared.open.get() + 1);
                        }
                        0
                    }
                    Some(brain) => brain.frame(&data.data)?,
                };
                self.shared.bytes.set(self.shared.bytes.get() + payload as u64);
            }
            Event::ChannelClose(_) | Event::Closed => bail!("the sender closed it"),
            _ => {}
        }
        Ok(())
    }

    /// Hands one message to the stack; false if there is none, or no room.
    fn write(&mut self) -> Result<bool> {
        if self.queue.is_empty() && self.opened == self.channels.len() && self.shared.go.get() {
            match &mut self.brain {
                Some(brain) => self.queue.extend(brain.request(Instant::now())),
                None if !self.asked => {
                    self.asked = true;
                    self.queue.push_back(b"go".to_vec());
                }
                None => {}
            }
        }
        let Some(message) = self.queue.front() else { return Ok(false) };
        let Some(mut channel) = self.rtc.channel(self.channels[0]) else { return Ok(false) };
        let taken = channel.write(true, message)?;
        if taken {
            self.queue.pop_front();
        }
        Ok(taken)
    }
}

/// What is said to a Marea peer (`docs/protocol.md` §6).
struct Brain {
    marea: Marea,
    local: Fingerprint,
    remote: Fingerprint,
    proven: bool,
    objects: Vec<Oid>,
    /// Requests so far; their number chooses object and piece.
    made: u32,
    /// What open requests still miss, by id.
    open: HashMap<u32, (Oid, u64)>,
    next: Option<Instant>,
}

impl Brain {
    fn new(marea: Marea, local: Fingerprint, remote: Fingerprint) -> Self {
        let (objects, open) = (Vec::new(), HashMap::new());
        Self { marea, local, remote, proven: false, objects, made: 0, open, next: None }
    }

    fn hello(&self) -> Result<Vec<u8>> {
        hello(&self.marea.video, &self.local, &self.remote)
    }

    /// Takes a message; gives the answer, if it wants one.
    fn control(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        match decode_control(bytes)? {
            Some(Control::Hello(hello)) => {
                let key = proof::swarm_key(&self.marea.video);
                self.proven =
                    proof::verify(&key, Role::Answerer, &hello.nonce, &self.remote, &self.local, &hello.proof);
                ensure!(self.proven, "the sender does not know the video");
            }
            Some(Control::Ping { nonce, reply: false }) => {
                return Ok(Some(encode_control(&Control::Ping { nonce, reply: true })));
            }
            Some(Control::Have { oid, .. }) => self.objects.push(oid),
            Some(Control::Busy { .. }) => bail!("the sender is busy"),
            Some(Control::Bye { reason }) => bail!("the sender leaves ({reason})"),
            _ => {}
        }
        Ok(None)
    }

    /// Takes a FRAME; bytes of media in it.
    fn frame(&mut self, bytes: &[u8]) -> Result<usize> {
        let (frame, payload) = decode_frame(bytes)?;
        let (oid, missing) = self.open.get_mut(&frame.request).context("a frame that nobody asked for")?;
        ensure!(*oid == frame.oid && *missing >= payload.len() as u64, "a frame of something else");
        *missing -= payload.len() as u64;
        if *missing == 0 {
            self.open.remove(&frame.request);
        }
        Ok(payload.len())
    }

    /// The next request, if one is due.
    fn request(&mut self, now: Instant) -> Option<Vec<u8>> {
        let &oid = self.objects.get(self.made as usize % self.objects.len().max(1)).filter(|_| self.proven)?;
        let (first, count) = match self.marea.pace {
            Some(pace) => {
                let every = Duration::from_secs_f64(f64::from(PIECE_SIZE) / pace);
                // Whoever comes begins anywhere in its turn, so that all do not ask at once.
                let next = *self.next.get_or_insert_with(|| now + every.mul_f64(f64::from(self.local[0]) / 256.0));
                if next > now {
                    return None;
                }
                self.next = Some(next + every);
                (self.made % self.marea.pieces, 1)
            }
            None if self.open.len() < OPEN_REQUESTS => (0, self.marea.pieces),
            None => return None,
        };
        self.made += 1;
        self.open.insert(self.made, (oid, u64::from(count) * u64::from(PIECE_SIZE)));
        Some(encode_control(&Control::Request { id: self.made, oid, first, count, deadline_ms: DEADLINE_MS }))
    }
}
