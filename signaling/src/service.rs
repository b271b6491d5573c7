//! [`Signaling`]: shard and tracker, their sockets and their clock.

mod core;
mod frame;
mod handshake;
mod hub;
mod mailbox;
mod room;
mod socket;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use hyper::body::Incoming;
use prometheus_client::registry::Registry;
#[cfg(feature = "redis")]
use tokio::sync::oneshot;
use tokio::{io::DuplexStream, sync::Notify};
use tokio_util::task::TaskTracker;

use self::{core::Core, frame::CloseCode, hub::Hub, room::Room};
#[cfg(feature = "redis")]
use crate::cluster::{
    NodeEvent, NodeId, Nodes, SwarmId,
    redis::{Listener, Node, Outbound, Servers, shared_secret},
};
use crate::{
    access::{Access, Origins, Rules},
    address::{self, ClientAddress, Network},
    asn::AsnDatabase,
    ids::{AnnounceId, Millis},
    metrics::Metrics,
    shard::{Client, Outbox, Shard},
    tracker::Tracker,
};

/// Bytes on their way to or from a client in this process: some messages with an SDP.
const IN_PROCESS_BUFFER: usize = 64 * 1024;

/// What a [`Signaling`] is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which videos are matched.
    pub access: Access,
    /// Makes resume tickets and salts. Who keeps it over a restart keeps the peers' ids.
    pub secret: [u8; 32],
    /// UDP port of the [`crate::StunServer`] beside it, to be named in `joined`.
    pub stun_port: Option<u16>,
    /// Answers WebTorrent clients too, see [`Signaling::upgrade_tracker`].
    pub tracker: bool,
    /// What may change while it runs.
    pub policy: Policy,
}

/// The part of [`Settings`] that may change while the server runs.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Pages that may connect.
    pub origins: Origins,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// The host that clients reach this server by (no scheme, no port; IPv6 in brackets). Without it, the request's
    /// `Host`.
    pub public_host: Option<String>,
    /// Which autonomous system an address is in: those of one are matched rather.
    pub asn: Option<AsnDatabase>,
    /// Tokens, and what the site asks of its viewers.
    pub rules: Rules,
}

impl Settings {
    /// Every video, every page, no STUN, no tracker, a fresh secret.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn with_random_secret() -> io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Self { access: Access::Any, secret, stun_port: None, tracker: false, policy: Policy::default() })
    }
}

/// How many are here now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open WebSockets.
    pub connections: usize,
    /// Videos with at least one peer.
    pub videos: usize,
    /// Memberships of kind `viewer`; one socket may have several.
    pub viewers: usize,
    /// Memberships of kind `mirror`.
    pub mirrors: usize,
    /// Memberships of kind `edge`.
    pub edges: usize,
    /// Memberships of WebTorrent clients.
    pub tracker_peers: usize,
}

/// The signaling service. Clones are handles to the same service; dropping the last one ends it when the last client
/// leaves.
#[derive(Clone, Debug)]
pub struct Signaling(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hub: Arc<Hub<Shard>>,
    tracker: Option<Arc<Hub<Tracker>>>,
    room: Room,
    clock: Clock,
    metrics: Metrics,
    policy: RwLock<Arc<Policy>>,
    stun_port: Option<u16>,
    draining: AtomicBool,
    /// Tells the other nodes that this one leaves.
    #[cfg(feature = "redis")]
    leave: std::sync::Mutex<Option<oneshot::Sender<oneshot::Sender<()>>>>,
    /// A proxy that is not trusted was seen, and the operator told.
    warned: AtomicBool,
    sockets: TaskTracker,
}

/// Unix milliseconds that never go back.
#[derive(Clone, Copy, Debug)]
struct Clock {
    start: Instant,
    start_unix: Millis,
}

impl Clock {
    fn start() -> Self {
        let unix = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self { start: Instant::now(), start_unix: millis(unix) }
    }

    fn now(&self) -> Millis {
        self.start_unix + millis(self.start.elapsed())
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

impl Signaling {
    /// Starts the service. Must be called within a tokio runtime.
    pub fn start(settings: Settings) -> Self {
        let seed = blake3::derive_key("marea signaling seed 1", &fresh_seed(&settings.secret));
        let mut shard = Shard::new(settings.access, &settings.secret, &seed);
        let clock = Clock::start();
        // Nobody is there whom it could concern.
        shard.set_rules(clock.now(), settings.policy.rules.clone(), &mut Outbox::default());
        let metrics = Metrics::new();
        let hub = Arc::new(Hub::new(shard, metrics.clone()));
        tokio::spawn(keep_time(Arc::downgrade(&hub), hub.wake(), clock));
        let tracker = settings.tracker.then(|| {
            let tracker = Tracker::new(&blake3::derive_key("marea tracker seed 1", &seed));
            let hub = Arc::new(Hub::new(tracker, metrics.clone()));
            tokio::spawn(keep_time(Arc::downgrade(&hub), hub.wake(), clock));
            hub
        });
        Self(Arc::new(Inner {
            hub,
            tracker,
            room: Room::default(),
            clock,
            metrics,
            policy: RwLock::new(Arc::new(settings.policy)),
            stun_port: settings.stun_port,
            draining: AtomicBool::new(false),
            #[cfg(feature = "redis")]
            leave: std::sync::Mutex::default(),
            warned: AtomicBool::new(false),
            sockets: TaskTracker::new(),
        }))
    }

    /// Joins the other nodes that use the same Redis and the same secret. Until it can be reached, and whenever it cannot, this node
    /// goes on by itself.
    #[cfg(feature = "redis")]
    pub fn join_nodes(&self, servers: Servers, secret: &[u8; 32]) {
        let inner = &self.0;
        let mut id = [0; 8];
        // Without randomness there is the secret's hash: nodes that share it would differ by their time only.
        id.copy_from_slice(&blake3::hash(&fresh_seed(secret)).as_bytes()[..8]);
        // Two nodes of one machine, and of no other, mean the same by loopback.
        let machine = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_else(|_| id.to_vec());
        let nodes = Nodes::new(secret, &machine);
        let (outbound, queue) = Outbound::new();
        let outbound = Arc::new(outbound);
        inner.hub.set_outbound(Arc::clone(&outbound));
        inner.hub.run(Instant::now(), |shard, out| shard.set_nodes(nodes, out));
        if let Some(tracker) = &inner.tracker {
            tracker.set_outbound(Arc::clone(&outbound));
            tracker.run(Instant::now(), Tracker::set_nodes);
        }
        let (leave, left) = oneshot::channel();
        *hub::lock(&inner.leave) = Some(leave);
        let id = NodeId(u64::from_be_bytes(id));
        let node = Node::new(id, servers, secret, Arc::downgrade(inner), outbound, queue, left, inner.metrics.clone());
        tokio::spawn(node.run());
    }

    /// As [`Self::join_nodes`], with the secret that lies in Redis: at once, or as soon as that can be read. Who came before keeps its
    /// place; its ticket is then as good as another server's.
    #[cfg(feature = "redis")]
    pub async fn join_nodes_by_shared_secret(&self, servers: Servers) {
        match shared_secret(&servers).await {
            Ok(secret) => return self.adopt(servers, &secret),
            Err(error) => {
                tracing::warn!(%error, "Redis does not tell the nodes' secret: this node stays by itself until it does");
            }
        }
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut wait = crate::defaults::REDIS_RETRY.0;
            while inner.strong_count() > 0 {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(crate::defaults::REDIS_RETRY.1);
                let Ok(secret) = shared_secret(&servers).await else { continue };
                if let Some(inner) = inner.upgrade() {
                    Self(inner).adopt(servers, &secret);
                }
                return;
            }
        });
    }

    #[cfg(feature = "redis")]
    fn adopt(&self, servers: Servers, secret: &[u8; 32]) {
        tracing::info!("the nodes share a secret that lies in Redis; set `secret` to keep it from whoever reads there");
        self.0.hub.run(Instant::now(), |shard, _| shard.set_secret(secret));
        self.join_nodes(servers, secret);
    }

    /// Whether the other nodes can be reached; `None` if this one was told of none.
    #[cfg(feature = "redis")]
    pub fn redis_up(&self) -> Option<bool> {
        hub::lock(&self.0.leave).as_ref()?;
        Some(self.0.metrics.redis_up.get() == 1)
    }

    /// Answers a WebSocket handshake (any path; the caller routes `/signal`) from the socket address `peer` and serves
    /// the connection in a task of its own. The connection must be served `with_upgrades()`.
    ///
    /// What comes back is to be sent as it is (`response.map(Full::new)`): 101, or why not: 405, 426 (no WebSocket
    /// handshake), 400 (a wrong one), 429 (too many of this address), 503 (draining or full), the last two with
    /// `Retry-After`. A page that may not connect gets its 101 and then `error{code: "origin-refused"}`: browsers hide the
    /// status of a refused handshake from the page.
    pub fn upgrade(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Bytes> {
        self.accept(&self.0.hub, request, peer)
    }

    /// As [`Self::upgrade`], for WebTorrent's tracker protocol (the caller routes `/announce`, `/tracker/socket` and upgrades
    /// of `/`). `None` if [`Settings::tracker`] is off.
    pub fn upgrade_tracker(&self, request: Request<Incoming>, peer: SocketAddr) -> Option<Response<Bytes>> {
        let hub = self.0.tracker.as_ref()?;
        Some(self.accept(hub, request, peer))
    }

    /// Whether there is a tracker.
    pub fn has_tracker(&self) -> bool {
        self.0.tracker.is_some()
    }

    /// A client in this very process, as trusted as one on this machine: a WebSocket whose handshake is done, the client's end of
    /// it. `None` while draining.
    pub fn connect(&self) -> Option<DuplexStream> {
        if self.is_draining() {
            return None;
        }
        let inner = &self.0;
        let client = Client {
            address: Some(Ipv4Addr::LOCALHOST.into()),
            trusted: true,
            asn: None,
            stun: inner.stun(&inner.policy(), &HeaderMap::new()),
        };
        let (near, far) = tokio::io::duplex(IN_PROCESS_BUFFER);
        inner.sockets.spawn(socket::serve_stream((Arc::clone(inner), Arc::clone(&inner.hub)), far, client));
        Some(near)
    }

    fn accept<C: Core>(&self, hub: &Arc<Hub<C>>, request: Request<Incoming>, peer: SocketAddr) -> Response<Bytes> {
        let inner = &self.0;
        let accept = match handshake::check(request.method(), request.headers()) {
            Ok(accept) => accept,
            Err(refusal) => return inner.refuse(refusal),
        };
        if self.is_draining() {
            return inner.refuse(handshake::Refusal::Draining);
        }
        let policy = inner.policy();
        let address = ClientAddress::of_request(peer, request.headers(), &policy.trusted_proxies);
        if address == ClientAddress::Unknown && !inner.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                proxy = %address::Redacted(peer.ip()),
                "clients come through a proxy that is not listed in trusted-proxy (or does not send X-Forwarded-For): \
                 there are no limits per address, and viewers in one network are not told that they are"
            );
        }
        let seat = match inner.room.take(address.ip()) {
            Ok(seat) => seat,
            Err(refusal) => return inner.refuse(refusal),
        };
        let allowed = policy.origins.allow(origin(request.headers()));
        let client = Client {
            address: address.ip(),
            asn: address.ip().and_then(|address| policy.asn.as_ref()?.number(address)),
            trusted: address.is_direct_loopback() && !request.headers().contains_key(header::ORIGIN),
            stun: inner.stun(&policy, request.headers()),
        };
        let hubs = (Arc::clone(inner), Arc::clone(hub));
        inner.sockets.spawn(socket::serve(hubs, hyper::upgrade::on(request), client, allowed, seat));
        handshake::switch(&accept)
    }

    /// Replaces what may change while it runs. Open connections stay; peers that may not share any more are told
    /// `revoked`.
    pub fn set_policy(&self, policy: Policy) {
        let (now, rules) = (self.0.clock.now(), policy.rules.clone());
        self.0.hub.run(Instant::now(), |shard, out| shard.set_rules(now, rules, out));
        *self.0.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// What may change, as it is now.
    pub fn policy(&self) -> Arc<Policy> {
        self.0.policy()
    }

    /// Ends the swarm of a video: its peers are told `revoked` and are out. Take it out of the [`crate::Catalogue`] first.
    pub fn revoke(&self, video: &AnnounceId) {
        self.0.hub.run(Instant::now(), |shard, out| shard.revoke(*video, out));
    }

    /// Tells all clients to come back elsewhere within `within`, refuses new ones, and closes what is left then.
    pub async fn drain(&self, within: Duration) {
        self.0.draining.store(true, Ordering::Relaxed);
        self.0.hub.run(Instant::now(), |shard, out| shard.drain(millis(within), out));
        self.0.sockets.close();
        if let Some(tracker) = &self.0.tracker {
            // Its clients know no other word for it; they come back by themselves, spread over minutes.
            tracker.close_all(CloseCode::GOING_AWAY, "the server ends");
        }
        let all = tokio::time::timeout(within, self.0.sockets.wait()).await;
        #[cfg(feature = "redis")]
        self.leave_nodes().await;
        if all.is_ok() {
            return;
        }
        self.0.hub.close_all(CloseCode::GOING_AWAY, "the server ends");
        // What does not take its close frame now is cut when the process ends.
        let _ = tokio::time::timeout(socket::CLOSE_TIMEOUT, self.0.sockets.wait()).await;
    }

    #[cfg(feature = "redis")]
    async fn leave_nodes(&self) {
        let Some(leave) = hub::lock(&self.0.leave).take() else { return };
        let (done, left) = oneshot::channel();
        if leave.send(done).is_ok() {
            // Its lease ends by itself, too.
            let _ = tokio::time::timeout(crate::defaults::REDIS_TIMEOUT, left).await;
        }
    }

    /// Whether [`Signaling::drain`] has begun.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// How many are here now.
    pub fn stats(&self) -> Stats {
        let tracker = self.0.tracker.as_ref();
        let (tracked, tracker_peers) = tracker.map_or((0, 0), |hub| hub.look(|core, open| (open, core.peers())));
        self.0.hub.look(|shard, open| {
            let counts = shard.counts();
            Stats {
                connections: open + tracked,
                videos: shard.videos(),
                viewers: counts.viewers,
                mirrors: counts.mirrors,
                edges: counts.edges,
                tracker_peers,
            }
        })
    }

    /// Adds the `marea_signaling_*` metrics to a registry. No label holds a video, a peer or an address.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
        #[cfg(feature = "redis")]
        if self.redis_up().is_some() {
            self.0.metrics.register_nodes(registry);
        }
    }
}

#[cfg(feature = "redis")]
impl Listener for Inner {
    fn hear(&self, event: NodeEvent) {
        let now = self.clock.now();
        let to_tracker = match &event {
            NodeEvent::Message(_, message) => message.is_tracker(),
            NodeEvent::Elsewhere(swarm, _) => matches!(swarm, SwarmId::Torrent(_)),
            NodeEvent::Lost(_) | NodeEvent::Reachable(_) => {
                let event = event.clone();
                self.hub.run(Instant::now(), |shard, out| shard.node_event(now, event, out));
                true
            }
        };
        if !to_tracker {
            self.hub.run(Instant::now(), |shard, out| shard.node_event(now, event, out));
        } else if let Some(tracker) = &self.tracker {
            tracker.run(Instant::now(), |core, out| core.node_event(now, event, out));
        }
    }
}

impl Inner {
    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The STUN server's URL as this client reaches it.
    fn stun(&self, policy: &Policy, headers: &HeaderMap) -> Option<String> {
        let port = self.stun_port?;
        let host = match &policy.public_host {
            Some(host) => host,
            None => address::host_of(headers.get(header::HOST)?.to_str().ok()?)?,
        };
        Some(format!("stun:{host}:{port}"))
    }

    fn refuse(&self, refusal: handshake::Refusal) -> Response<Bytes> {
        self.metrics.reject(refusal.reason());
        refusal.response()
    }
}

fn origin(headers: &HeaderMap) -> Option<&str> {
    // One that is no text is none that could be on a list.
    headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default())
}

/// Peer ids must differ between runs even where the secret is kept.
fn fresh_seed(secret: &[u8; 32]) -> [u8; 64] {
    let mut seed = [0; 64];
    seed[..32].copy_from_slice(secret);
    if getrandom::fill(&mut seed[32..]).is_err() {
        // Settings could not have been made without randomness; should it fail later, the time still differs.
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        seed[32..48].copy_from_slice(&nanos.to_be_bytes());
    }
    seed
}

/// Calls a core's timeouts until the service is gone.
async fn keep_time<C: Core>(hub: Weak<Hub<C>>, wake: Arc<Notify>, clock: Clock) {
    loop {
        let wait = {
            let Some(hub) = hub.upgrade() else { return };
            let now = clock.now();
            hub.timeout(now).map(|next| Duration::from_millis(next.saturating_sub(now)))
        };
        match wait {
            Some(wait) => drop(tokio::time::timeout(wait, wake.notified()).await),
            None => wake.notified().await,
        }
    }
}
