//! [`Signaling`]: the shard, its sockets and its clock.

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use prometheus_client::registry::Registry;

use crate::{
    access::{Access, Origins},
    address::Network,
    ids::AnnounceId,
};

/// What a [`Signaling`] is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which videos are matched.
    pub access: Access,
    /// Makes resume tickets and salts. Who keeps it over a restart keeps the peers' ids.
    pub secret: [u8; 32],
    /// UDP port of the [`crate::StunServer`] beside it, to be named in `joined`.
    pub stun_port: Option<u16>,
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
}

impl Settings {
    /// Every video, every page, no STUN, a fresh secret.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn with_random_secret() -> io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Self { access: Access::Any, secret, stun_port: None, policy: Policy::default() })
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
}

/// The signaling service. Clones are handles to the same service.
#[derive(Clone, Debug)]
pub struct Signaling {}

impl Signaling {
    /// Starts the service. Must be called within a tokio runtime.
    pub fn start(_settings: Settings) -> Self {
        Self {}
    }

    /// Answers a WebSocket handshake (any path; the caller routes `/signal`) from the socket address `peer` and serves
    /// the connection in a task of its own. The connection must be served `with_upgrades()`.
    ///
    /// What comes back is to be sent as it is (`response.map(Full::new)`): 101, or why not: 405, 426 (no WebSocket
    /// handshake), 400 (a wrong one), 503 (draining or full; with `Retry-After`). A page that may not connect gets its
    /// 101 and then `error{code: "origin-refused"}`: browsers hide the status of a refused handshake from the page.
    pub fn upgrade(&self, _request: Request<Incoming>, _peer: SocketAddr) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from_static(b"draining\n"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    }

    /// Replaces what may change while it runs. Open connections stay.
    pub fn set_policy(&self, _policy: Policy) {}

    /// Ends the swarm of a video: its peers are told `revoked` and are out. Take it out of the [`crate::Catalogue`] first.
    pub fn revoke(&self, _video: &AnnounceId) {}

    /// Tells all clients to come back elsewhere within `within`, refuses new ones, and closes what is left then.
    pub async fn drain(&self, _within: Duration) {}

    /// Whether [`Signaling::drain`] has begun.
    pub fn is_draining(&self) -> bool {
        false
    }

    /// How many are here now.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Adds the `marea_signaling_*` metrics to a registry. No label holds a video, a peer or an address.
    pub fn register_metrics(&self, _registry: &mut Registry) {}
}
