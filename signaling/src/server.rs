//! The standalone server: signaling, STUN and what the operator asks.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{metrics::info::Info, registry::Registry};
#[cfg(feature = "tls")]
use tokio::time::timeout;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

#[cfg(feature = "tls")]
use crate::tls::{Tls, TlsError};
use crate::{
    address::ClientAddress,
    config::{Config, Udp},
    defaults,
    service::{Settings, Signaling},
    stun::StunServer,
};

/// Tries to get one free port number for TCP and UDP when `listen` leaves the choice.
const PORT_TRIES: usize = 20;

/// Wait after a failed accept (no more file descriptors, for one): it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server whose sockets are bound.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    admin: Option<TcpListener>,
    stun: Option<StunServer>,
}

#[derive(Debug)]
struct Shared {
    signaling: Signaling,
    registry: Registry,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    /// HTTP connections that may still come: WebSockets have their own count.
    room: Semaphore,
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be used.
    #[error("cannot listen on {address} ({protocol}): {error}; choose another address or port with --{flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// TCP or UDP.
        protocol: &'static str,
        /// The setting that names it.
        flag: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// Certificate or key cannot be used.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system has no randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(io::Error),
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Public,
    Admin,
}

impl Server {
    /// Binds all sockets.
    ///
    /// # Errors
    /// An address is in use, or not of this machine.
    pub async fn bind(config: &Config) -> Result<Self, StartError> {
        #[cfg(feature = "tls")]
        let tls = config.tls.as_ref().map(|(cert, key)| Tls::load(cert, key, &["http/1.1"])).transpose()?;
        let (listener, stun) = bind_pair(config).await?;
        let admin = match config.admin_listen {
            Some(address) => Some(bind_tcp(address, "admin-listen").await?),
            None => None,
        };
        let settings = Settings {
            stun_port: stun.as_ref().map(|stun| stun.local_addr().port()),
            tracker: config.tracker,
            policy: config.policy.clone(),
            ..Settings::with_random_secret().map_err(StartError::Random)?
        };
        let signaling = Signaling::start(Settings { secret: config.secret.unwrap_or(settings.secret), ..settings });
        #[cfg(feature = "redis")]
        if let Some(servers) = &config.redis {
            match config.secret {
                Some(secret) => signaling.join_nodes(servers.clone(), &secret),
                None => signaling.join_nodes_by_shared_secret(servers.clone()).await,
            }
        }
        let mut registry = Registry::default();
        signaling.register_metrics(&mut registry);
        if let Some(stun) = &stun {
            stun.register_metrics(&mut registry);
        }
        let version = [("program", "marea-signaling"), ("version", env!("CARGO_PKG_VERSION"))];
        registry.register("marea_build", "What runs here", Info::new(version.to_vec()));
        let room = Semaphore::new(defaults::MAX_CONNECTIONS);
        let shared = Shared {
            signaling,
            registry,
            #[cfg(feature = "tls")]
            tls,
            room,
        };
        Ok(Self { shared: Arc::new(shared), listener, admin, stun })
    }

    /// The bound address of HTTP and WebSockets.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The bound address of `admin-listen`.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// The bound address of STUN.
    pub fn stun_addr(&self) -> Option<SocketAddr> {
        self.stun.as_ref().map(StunServer::local_addr)
    }

    /// The service, such as for [`Signaling::set_policy`].
    pub fn signaling(&self) -> &Signaling {
        &self.shared.signaling
    }

    /// Reads certificate and key again; to be called with the configuration as it is now.
    #[cfg(feature = "tls")]
    pub fn tls_reloader(&self) -> impl Fn(&Config) -> Result<(), TlsError> + use<> {
        let shared = Arc::clone(&self.shared);
        move |config| match (&shared.tls, &config.tls) {
            (Some(tls), Some((cert, key))) => tls.reload(cert, key),
            _ => Ok(()),
        }
    }

    /// Serves until `shutdown`, then drains for [`defaults::DRAIN`] at most, still answering HTTP.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(Arc::clone(&self.shared), self.listener, Side::Public));
        if let Some(admin) = self.admin {
            tasks.spawn(accept(Arc::clone(&self.shared), admin, Side::Admin));
        }
        if let Some(stun) = self.stun {
            tasks.spawn(stun.run());
        }
        shutdown.await;
        tracing::info!(connections = self.shared.signaling.stats().connections, "draining");
        self.shared.signaling.drain(defaults::DRAIN).await;
        tasks.shutdown().await;
    }
}

/// TCP and UDP; where both have one address and the port is free to choose, one port number for both.
async fn bind_pair(config: &Config) -> Result<(TcpListener, Option<StunServer>), StartError> {
    let mut tries = PORT_TRIES;
    loop {
        tries -= 1;
        let listener = bind_tcp(config.listen, "listen").await?;
        let bound = listener.local_addr().unwrap_or(config.listen);
        let address = match config.udp {
            Udp::Off => return Ok((listener, None)),
            Udp::At(address) => address,
            Udp::Same => bound,
        };
        match StunServer::bind(address).await {
            Ok(stun) => return Ok((listener, Some(stun))),
            Err(_) if config.udp == Udp::Same && config.listen.port() == 0 && tries > 0 => {}
            Err(error) => return Err(StartError::Listen { address, protocol: "UDP", flag: "udp", error }),
        }
    }
}

async fn bind_tcp(address: SocketAddr, flag: &'static str) -> Result<TcpListener, StartError> {
    let listen = |error| StartError::Listen { address, protocol: "TCP", flag, error };
    TcpListener::bind(address).await.map_err(listen)
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, side: Side) {
    // Dropped with this task: what is still being answered then is cut.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        connections.spawn(serve(Arc::clone(&shared), stream, peer, side));
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr, side: Side) {
    let Ok(_room) = shared.room.try_acquire() else { return };
    // Handshakes are small messages back and forth.
    let _ = stream.set_nodelay(true);
    #[cfg(feature = "tls")]
    if let Some(tls) = shared.tls.as_ref().filter(|_| side == Side::Public) {
        return match timeout(defaults::HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok((stream, _))) => converse(&shared, stream, peer, side).await,
            Ok(Err(error)) => tracing::debug!(%error, "no TLS was agreed upon"),
            Err(_) => tracing::debug!("TLS was not agreed upon in time"),
        };
    }
    converse(&shared, stream, peer, side).await;
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    shared: &Arc<Shared>,
    stream: S,
    peer: SocketAddr,
    side: Side,
) {
    let service = service_fn(|request| {
        let response = shared.answer(request, peer, side);
        async move { Ok::<_, Infallible>(response.map(Full::new)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(defaults::HANDSHAKE_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

impl Shared {
    fn answer(&self, request: Request<Incoming>, peer: SocketAddr, side: Side) -> Response<Bytes> {
        match (side, request.uri().path()) {
            (Side::Public, "/signal") => self.signaling.upgrade(request, peer),
            (Side::Public, path @ ("/" | "/announce" | "/tracker/socket"))
                if self.signaling.has_tracker() && (path != "/" || request.headers().contains_key(header::UPGRADE)) =>
            {
                let refused = || text(StatusCode::NOT_FOUND, "not found\n");
                self.signaling.upgrade_tracker(request, peer).unwrap_or_else(refused)
            }
            (_, path) => self.page(path, request.method(), self.is_operator(&request, peer, side)),
        }
    }

    fn is_operator(&self, request: &Request<Incoming>, peer: SocketAddr, side: Side) -> bool {
        let proxies = &self.signaling.policy().trusted_proxies;
        side == Side::Admin || ClientAddress::of_request(peer, request.headers(), proxies).is_direct_loopback()
    }

    fn page(&self, path: &str, method: &Method, operator: bool) -> Response<Bytes> {
        if method != Method::GET && method != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/" => text(StatusCode::OK, "Marea signaling. Clients connect to /signal by WebSocket.\n"),
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" if self.signaling.is_draining() => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            #[cfg(feature = "redis")]
            "/readyz" if self.signaling.redis_up() == Some(false) => {
                text(StatusCode::OK, "ready\nredis: down, viewers meet on their own node only\n")
            }
            "/readyz" => text(StatusCode::OK, "ready\n"),
            "/metrics" if operator => self.metrics(),
            "/metrics" => {
                text(StatusCode::FORBIDDEN, "metrics are for this machine, or on the address of --admin-listen\n")
            }
            _ => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    fn metrics(&self) -> Response<Bytes> {
        let mut body = String::new();
        if prometheus_client::encoding::text::encode(&mut body, &self.registry).is_err() {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n");
        }
        let mut response = Response::new(Bytes::from(body));
        let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
