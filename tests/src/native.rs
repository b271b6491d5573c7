//! A peer for tests: real signaling, real WebRTC, its own behaviour over the codec of `marea-swarm`.
//!
//! It is the second implementation of `docs/protocol.md`, so whatever the core gets wrong about the protocol shows
//! against it. Its [`Script`] says whether it keeps to it.
//!
//! | file | what it does |
//! |---|---|
//! | `library.rs` | the objects of a folder of playlists |
//! | `store.rs` | which pieces are held and which are asked for |
//! | `signal.rs` | the messages of signaling and the socket |
//! | `link.rs` | one WebRTC connection |
//! | `session.rs` | what is said over it |
//! | `uploads.rs` | the answers to requests |
//! | `script.rs` | the lies |

mod library;
mod link;
mod script;
mod session;
mod signal;
mod store;
mod uploads;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use marea_swarm::{ids, proof::Role, wire::PeerKind};
use serde::Serialize;
use tokio::{
    sync::{broadcast, mpsc},
    task::JoinHandle,
};

pub use self::{
    library::{Item, Library, LibraryError},
    script::Script,
};
use self::{
    link::{Link, Remote},
    signal::{FromServer, ToServer},
    store::Store,
};

/// How a peer is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// WebSocket URL of signaling, `/signal` included.
    pub signaling: String,
    /// Video id as written.
    pub video: String,
    /// What it claims to be, to signaling and in HELLO.
    pub kind: PeerKind,
    /// How it behaves.
    pub script: Script,
    /// Holds nothing at first and fetches every object of the library from peers, comparing them with the files.
    pub fetch: bool,
    /// `Origin` header for signaling.
    pub origin: Option<String>,
    /// Local address to bind: its host candidate.
    pub address: IpAddr,
    /// Neighbours asked of signaling.
    pub want: u32,
}

/// What a peer sees, in the order in which it happens. Serialized as one JSON object with `event` as its tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Event {
    /// Signaling took it in.
    Joined {
        /// Our id.
        peer: String,
        /// Viewers in the swarm.
        viewers: u64,
        /// Mirrors and edges.
        seeders: u64,
    },
    /// Signaling cannot be reached or refused; it is tried again.
    SignalingLost {
        /// What went wrong.
        reason: String,
    },
    /// Signaling refused a message.
    SignalingError {
        /// Its code for it.
        code: String,
    },
    /// A neighbour's HELLO was right.
    Open {
        /// Its id.
        peer: String,
        /// Which side we were.
        offerer: bool,
    },
    /// We let a neighbour go because it broke the protocol or sent wrong bytes.
    Refused {
        /// Its id.
        peer: String,
        /// `wrong-proof`, `garbage`, `flood`, `wrong-piece`, `wrong-list`, `version`.
        reason: String,
    },
    /// A connection ended, by whichever side.
    Closed {
        /// Its id.
        peer: String,
        /// `bye <reason>` if the neighbour said so, else what ended it.
        reason: String,
        /// Payload bytes sent to it.
        served: u64,
        /// Payload bytes that came from it.
        received: u64,
        /// Requests that it made.
        requests: u64,
        /// Control messages that came from it beside HELLO.
        messages: u64,
    },
    /// Counters of an open link, once a second while they change.
    Traffic {
        /// The neighbour.
        peer: String,
        /// Payload bytes sent to it.
        served: u64,
        /// Payload bytes that came from it.
        received: u64,
        /// Requests that it made.
        requests: u64,
    },
    /// A neighbour asked for a playlist.
    TextAsked {
        /// Its id.
        peer: String,
        /// The NAME.
        name: String,
        /// Bytes of the answer.
        bytes: u32,
    },
    /// An object was fetched whole.
    Fetched {
        /// Its root, in hex.
        object: String,
        /// Its size.
        bytes: u64,
        /// Whether it equals the file.
        equal: bool,
    },
    /// Every object of the library was fetched.
    Done {
        /// How many.
        objects: usize,
        /// Their bytes.
        bytes: u64,
    },
}

/// What the links of one peer share.
struct Shared {
    options: Options,
    library: Library,
    store: Mutex<Store>,
    /// Pieces that were just verified: every link announces them.
    news: broadcast::Sender<(ids::Oid, u32)>,
    events: mpsc::UnboundedSender<Event>,
    /// Neighbours that are not met again.
    banned: Mutex<Vec<String>>,
}

impl Shared {
    fn event(&self, event: Event) {
        // Nobody listens any more once the peer is being stopped.
        let _ = self.events.send(event);
    }
}

/// A running peer. Dropping it closes everything.
pub struct Peer {
    task: JoinHandle<()>,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Peer {
    /// Starts a peer with the objects of `library`.
    pub fn start(options: Options, library: Library) -> Self {
        let (events, receiver) = mpsc::unbounded_channel();
        let store = Mutex::new(Store::new(&library, options.fetch));
        let (news, _) = broadcast::channel(1_024);
        let shared = Arc::new(Shared { options, library, store, news, events, banned: Mutex::default() });
        Self { task: tokio::spawn(run(shared)), events: receiver }
    }

    /// The next event; `None` if the peer died.
    pub async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// First and longest wait before signaling is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));

async fn run(shared: Arc<Shared>) {
    let (out, mut outbox) = mpsc::unbounded_channel();
    let (ended, mut ended_links) = mpsc::unbounded_channel();
    let mut swarm = Neighbours { shared: Arc::clone(&shared), out, ended, me: String::new(), links: HashMap::new() };
    let mut resume = None;
    let mut wait = RETRY.0;
    loop {
        let lost = match signal::connect(&shared.options).await {
            Ok(mut socket) => {
                let connected = swarm.links.keys().cloned().collect();
                match socket.send(&ToServer::join(&shared.options, connected, resume.clone())).await {
                    Ok(()) => loop {
                        tokio::select! {
                            message = socket.receive() => match message {
                                Ok(FromServer::Joined { peer, resume: ticket, viewers, seeders }) => {
                                    wait = RETRY.0;
                                    resume = ticket;
                                    swarm.me.clone_from(&peer);
                                    shared.event(Event::Joined { peer, viewers, seeders });
                                }
                                Ok(message) => swarm.heard(message),
                                Err(error) => break error,
                            },
                            Some(message) = outbox.recv() => {
                                if let Err(error) = socket.send(&message).await {
                                    break error;
                                }
                            }
                            Some((peer, conn)) = ended_links.recv() => swarm.ended(&peer, &conn),
                        }
                    },
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        shared.event(Event::SignalingLost { reason: lost.to_string() });
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
        while let Ok((peer, conn)) = ended_links.try_recv() {
            swarm.ended(&peer, &conn);
        }
    }
}

/// The links, by the neighbour's peer id.
struct Neighbours {
    shared: Arc<Shared>,
    out: mpsc::UnboundedSender<ToServer>,
    ended: mpsc::UnboundedSender<(String, String)>,
    me: String,
    links: HashMap<String, LinkHandle>,
}

struct LinkHandle {
    conn: String,
    offerer: bool,
    answered: Arc<AtomicBool>,
    inbox: mpsc::UnboundedSender<Remote>,
    task: JoinHandle<()>,
}

impl Drop for LinkHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Neighbours {
    fn heard(&mut self, message: FromServer) {
        match message {
            FromServer::Match { peers } => {
                for found in peers {
                    if !self.links.contains_key(&found.peer) && !self.is_banned(&found.peer) {
                        let conn = signal::random_id();
                        self.open(found.peer, conn, found.near, None);
                    }
                }
            }
            FromServer::Offer { from, conn, sdp, near } => {
                let link = self.links.get(&from);
                // Both offered: the smaller peer id's offer stands. After an answer the neighbour has begun anew.
                let ours_stands =
                    link.is_some_and(|link| link.offerer && !link.answered.load(Ordering::Relaxed) && self.me < from);
                let restart = link.is_some_and(|link| link.conn == conn);
                if self.is_banned(&from) {
                    self.reject(from, conn, "banned");
                } else if restart {
                    // The neighbour makes a new connection then.
                    self.reject(from, conn, "no-restart");
                } else if !ours_stands {
                    self.open(from, conn, near, Some(sdp));
                }
            }
            FromServer::Answer { from, conn, sdp } => self.tell(&from, &conn, Remote::Answer(sdp)),
            FromServer::Candidate { from, conn, candidate } => {
                if let Some(candidate) = candidate {
                    self.tell(&from, &conn, Remote::Candidate(candidate.candidate));
                }
            }
            FromServer::Reject { from, conn } => self.tell(&from, &conn, Remote::Rejected),
            FromServer::Error { code } => self.shared.event(Event::SignalingError { code }),
            // An open link outlives signaling's word; ICE tells when it is dead.
            FromServer::Joined { .. } | FromServer::Other => {}
        }
    }

    fn open(&mut self, peer: String, conn: String, near: bool, offer: Option<String>) {
        let (inbox, remote) = mpsc::unbounded_channel();
        let offerer = offer.is_none();
        let answered = Arc::new(AtomicBool::new(false));
        let link = Link {
            shared: Arc::clone(&self.shared),
            peer: peer.clone(),
            conn: conn.clone(),
            role: if offerer { Role::Offerer } else { Role::Answerer },
            near,
            answered: Arc::clone(&answered),
            remote,
            out: self.out.clone(),
        };
        let ended = self.ended.clone();
        let name = (peer.clone(), conn.clone());
        let task = tokio::spawn(async move {
            link.run(offer).await;
            let _ = ended.send(name);
        });
        self.links.insert(peer, LinkHandle { conn, offerer, answered, inbox, task });
    }

    fn tell(&self, peer: &str, conn: &str, remote: Remote) {
        if let Some(link) = self.links.get(peer).filter(|link| link.conn == conn) {
            // A link that has just ended needs nothing any more.
            let _ = link.inbox.send(remote);
        }
    }

    fn ended(&mut self, peer: &str, conn: &str) {
        if self.links.get(peer).is_some_and(|link| link.conn == conn) {
            self.links.remove(peer);
        }
    }

    fn is_banned(&self, peer: &str) -> bool {
        lock(&self.shared.banned).iter().any(|banned| banned == peer)
    }

    fn reject(&self, to: String, conn: String, code: &str) {
        let video = signal::announce(&self.shared.options.video);
        // Nobody reads it only when the whole peer ends.
        let _ = self.out.send(ToServer::Reject { video, to, conn, code: code.to_owned() });
    }
}

/// A peer whose one task panicked is a failed test anyway; the others may still say what they saw.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
