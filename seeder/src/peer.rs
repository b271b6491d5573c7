//! The seeder as a WebRTC peer: it joins the swarms of videos that lie on its disk and gives their pieces to viewers, with no
//! certificate, no open port and nothing to be trusted: all connections go out, and whoever takes a piece checks it.
//!
//! What it says to whom is decided by the core that also runs in browsers ([`marea_swarm`]); the WebRTC stack is `str0m`, which
//! like the core has no socket and no clock. All of it runs on one thread of its own, so that a slow disk holds up nothing else.
//!
//! | file | what it does |
//! |---|---|
//! | `shelf.rs` | the videos on disk |
//! | `signal.rs` | the messages of signaling and the socket |
//! | `net.rs` | UDP sockets, our addresses by STUN |
//! | `link.rs` | one WebRTC connection |
//! | `routes.rs` | which connection a datagram belongs to |
//! | `room.rs` | one video's swarm |
//! | `driver.rs` | what drives them all |
//! | `edge.rs` | what an edge does beyond that: it signs its answers, and counts |

mod driver;
mod edge;
mod link;
mod net;
mod room;
mod routes;
mod shelf;
mod signal;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use marea_signaling::{message::Kind, token::TokenKey};
use tokio::sync::mpsc;
use url::Url;

use driver::Driver;
use link::Link;
use room::Room;
use signal::Place;

pub(crate) use edge::EdgeSide;
pub use shelf::Film;
pub(crate) use shelf::{Part, TextAt};

/// How a peer is run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerPlan {
    /// WebSocket URL of signaling.
    pub signaling: Url,
    /// What it is: a mirror or an edge.
    pub kind: Kind,
    /// Most bytes that it sends per second to all viewers together. Without it half of what the line is found to bear.
    pub upload_limit: Option<u64>,
    /// Signs a token for each join: what signaling on another machine asks of mirrors and edges.
    pub key: Option<TokenKey>,
    /// UDP port; 0 takes a free one.
    pub port: u16,
    /// What it does as the edge of a server.
    pub(crate) edge: Option<Arc<EdgeSide>>,
}

impl PeerPlan {
    /// A peer of this kind, with no limit, no key and any port.
    pub fn new(signaling: Url, kind: Kind) -> Self {
        Self { signaling, kind, upload_limit: None, key: None, port: 0, edge: None }
    }

    /// Where signaling is.
    fn place(&self) -> Place {
        let here = self.edge.as_ref().and_then(|edge| edge.signaling.clone());
        here.map_or_else(|| Place::At(self.signaling.clone()), Place::Here)
    }

    /// Our answer on a connection, signed if this is an edge with a key.
    fn signed(&self, room: Option<&Room>, link: &Link, answer: String) -> String {
        match (&self.edge, room, &link.remote) {
            (Some(edge), Some(room), Some(viewer)) => edge.signed(answer, &room.id, viewer),
            _ => answer,
        }
    }
}

/// What a peer has done so far.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    neighbours: AtomicUsize,
}

/// What a peer is told to share.
enum Order {
    /// Exactly these.
    All(Vec<Film>),
    /// This one, as it is now, and what it shared before.
    Hold(Film),
    /// The video of this id no more.
    Drop(String),
}

/// A running peer. Dropping it says goodbye to every neighbour.
pub struct Peer {
    counts: Arc<Counts>,
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Peer {
    /// Starts it, with nothing to share yet.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(plan: PeerPlan) -> io::Result<Self> {
        let (sender, orders) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let run = move || match Driver::new(plan, counted) {
            Some(driver) => runtime.block_on(driver.run(orders)),
            None => tracing::error!("no certificate can be made: nothing is shared over WebRTC"),
        };
        let thread = thread::Builder::new().name("webrtc".to_owned()).spawn(run)?;
        Ok(Self { counts, orders: Some(sender), thread: Some(thread) })
    }

    /// Bytes of media that were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.counts.sent.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    #[must_use]
    pub fn neighbours(&self) -> usize {
        self.counts.neighbours.load(Ordering::Relaxed)
    }

    /// Shares exactly these videos from now on.
    pub fn share(&self, films: Vec<Film>) {
        self.order(Order::All(films));
    }

    /// Shares this video, as it is now, beside the others.
    pub(crate) fn hold(&self, film: Film) {
        self.order(Order::Hold(film));
    }

    /// Shares the video of this id no more.
    pub(crate) fn drop_video(&self, video: String) {
        self.order(Order::Drop(video));
    }

    fn order(&self, order: Order) {
        if let Some(sender) = &self.orders {
            // It ends only with us.
            let _ = sender.send(order);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.orders.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Random bytes.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without randomness there is no security at all; the system always has some once it runs.
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!(%error, "the system has no random numbers");
        std::process::abort();
    }
    bytes
}
