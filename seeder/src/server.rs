//! Listening, limits, and leaving in good order.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
};

use marea_signaling::{Access, Catalogue, Origins, Policy, Signaling, StunServer};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

use crate::{
    api::Api,
    config::{ACCEPT_PAUSE, Config, DRAIN_TIMEOUT, FIRST_SCAN_TIMEOUT, SIGNALING_DRAIN, STATE_FOLDER},
    connection::{self, Terms},
    edge::Edge,
    engine,
    error::SeederError,
    files::Root,
    inbox::Inbox,
    keys::KeyRing,
    library::Library,
    metrics::Metrics,
    origin::Origin,
    service::{Service, Settings},
    tls::Tls,
    token::Token,
    workers::Workers,
};

/// A seeder that has its addresses and serves once [`run`](Self::run).
pub struct Seeder {
    listener: TcpListener,
    local_addr: SocketAddr,
    admin: Option<(TcpListener, SocketAddr)>,
    stun: Option<StunServer>,
    service: Arc<Service>,
    config: Config,
    workers: Arc<Workers>,
    edge: Option<Edge>,
}

/// Changes a running seeder from outside [`Seeder::run`].
#[derive(Clone)]
pub struct Control {
    service: Arc<Service>,
}

impl Control {
    /// Walks the folder again, soon.
    pub fn rescan(&self) {
        self.service.library.rescan();
    }

    /// Takes over what may change while it runs, and walks the folder again. That is `allow_origin`, `trusted_proxy`,
    /// the content of `key`, `tls-cert` and `tls-key`, and the URL in `signaling`; whether signaling runs here, and all else, needs a restart.
    pub fn reload(&self, config: &Config) {
        match Settings::of(config) {
            Ok(settings) => {
                self.service.set_settings(settings);
                self.service.library.set_signaling(config.signaling.clone());
            }
            Err(error) => tracing::error!(%error, "the settings stay as they were"),
        }
        if let Some(signaling) = &self.service.signaling {
            signaling.set_policy(policy(config));
        }
        if let (Some(tls), Some((cert, key))) = (&self.service.tls, &config.tls)
            && let Err(error) = tls.reload(cert, key)
        {
            tracing::error!(%error, "the certificate stays as it was");
        }
        match config.key.as_deref().map(KeyRing::load).transpose() {
            Ok(ring) => {
                self.service.library.set_signer(ring.as_ref().map(KeyRing::signer));
                self.service.well_known.set_keys(ring.map(|ring| ring.public()).unwrap_or_default());
            }
            Err(error) => tracing::error!(%error, "playlists are signed with the key as it was read before"),
        }
        self.service.library.rescan();
    }
}

impl Settings {
    fn of(config: &Config) -> Result<Self, SeederError> {
        let rules = config.allow_origin.clone();
        let allow_origin = (!rules.is_empty()).then(|| Origins::new(rules));
        Ok(Self {
            allow_origin,
            verbatim: config.verbatim,
            list_videos: config.list_videos,
            token: config.api_token.as_deref().map(Token::load).transpose()?,
        })
    }
}

/// What of `config` signaling takes over, also while it runs.
fn policy(config: &Config) -> Policy {
    Policy {
        origins: Origins::new(config.allow_origin.clone()),
        trusted_proxies: config.trusted_proxy.clone(),
        public_host: config.public_url.as_ref().and_then(|url| url.host_str()).map(str::to_owned),
        ..Policy::default()
    }
}

impl Seeder {
    /// Opens the folder and the addresses of `config`, and walks the folder for playlists.
    ///
    /// # Errors
    /// [`SeederError`] if the folder or an address cannot be had.
    pub async fn bind(config: Config) -> Result<Self, SeederError> {
        raise_file_limit();
        tokio::task::spawn_blocking(engine::prepare);
        let settings = Settings::of(&config)?;
        let tls = config.tls.as_ref().map(|(cert, key)| Tls::load(cert, key).map(Arc::new)).transpose()?;
        let root = match &config.root {
            Some(path) => Root::new(path).map_err(|source| SeederError::Root { path: path.clone(), source })?,
            None => Root::nowhere(),
        };
        let (listener, local_addr) = listen(config.listen).await?;
        let admin = match config.admin_listen {
            Some(addr) => Some(listen(addr).await?),
            None => None,
        };
        let state = state_folder(&root, config.state.as_deref())?;
        let announced = Catalogue::default();
        let (signaling, stun) = match config.signaling {
            Some(_) => (None, None),
            None => {
                let addr = config.udp.unwrap_or(local_addr);
                let stun = StunServer::bind(addr).await.map_err(|source| SeederError::Listen { addr, source })?;
                let settings = marea_signaling::Settings {
                    access: Access::Catalogue(announced.clone()),
                    stun_port: Some(stun.local_addr().port()),
                    policy: policy(&config),
                    ..marea_signaling::Settings::with_random_secret().map_err(SeederError::Random)?
                };
                (Some(Signaling::start(settings)), Some(stun))
            }
        };
        let ring = config.key.as_deref().map(KeyRing::load).transpose()?;
        let metrics = Metrics::new(|registry| {
            if let Some(signaling) = &signaling {
                signaling.register_metrics(registry);
            }
            if let Some(stun) = &stun {
                stun.register_metrics(registry);
            }
        });
        let signer = ring.as_ref().map(KeyRing::signer);
        let library = Library::start(root, state.clone(), &config, Arc::clone(&metrics), announced, signer);
        if let Some(signaling) = signaling.clone() {
            library.on_revoked(move |video| signaling.revoke(video));
        }
        let inbox = config.inbox.as_deref().map(|folder| inbox(folder, &library)).transpose()?;
        let api = Api::new(Arc::clone(&library), state.clone(), inbox, config.max_upload);
        let origin = open_origin(&config, state, &library, &metrics).await?;
        let edge = Edge::start(&config, local_addr, &library, signaling.clone(), &metrics)?;
        let mut service = Service::new(Arc::clone(&library), metrics, signaling, origin, api, settings);
        service.tls = tls;
        service.well_known.set_keys(ring.map(|ring| ring.public()).unwrap_or_default());
        if timeout(FIRST_SCAN_TIMEOUT, library.first_scan()).await.is_err() {
            tracing::info!("the folder is large: it is served while it is still being looked through");
        }
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        let workers = Arc::new(Workers::start(threads).map_err(SeederError::Threads)?);
        Ok(Self { listener, local_addr, admin, stun, service: Arc::new(service), config, workers, edge })
    }

    /// Where it listens for HTTP, with the port that was given to it.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where it listens for `/healthz`, `/readyz` and `/metrics` alone.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(_, addr)| *addr)
    }

    /// A handle that stays valid while it runs.
    pub fn control(&self) -> Control {
        Control { service: Arc::clone(&self.service) }
    }

    /// Whether it serves `https:`.
    pub fn is_secure(&self) -> bool {
        self.service.tls.is_some()
    }

    /// Serves until `shutdown` is ready, then lets running answers end for [`DRAIN_TIMEOUT`].
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, admin, stun, service, config, workers, edge, .. } = self;
        let stun = stun.map(|stun| tokio::spawn(stun.run()));
        let (phase, phases) = watch::channel(Phase::Serving);
        let terms = Terms {
            service: Arc::clone(&service),
            admin: false,
            tls: service.tls.clone(),
            stall_timeout: config.stall_timeout,
            header_timeout: config.header_timeout,
            phases,
        };
        let admin = admin.map(|(listener, _)| {
            // Answers on while the others drain.
            let terms = Terms { admin: true, tls: None, ..terms.clone() };
            tokio::spawn(accept(listener, Arc::clone(&workers), terms, config.max_connections))
        });
        let main = tokio::spawn(accept(listener, Arc::clone(&workers), terms, config.max_connections));
        shutdown.await;
        service.drain();
        let _ = phase.send(Phase::Draining);
        if let Some(edge) = edge {
            edge.stop().await;
        }
        let drained = async {
            if let Some(signaling) = &service.signaling {
                signaling.drain(SIGNALING_DRAIN).await;
            }
            let _ = main.await;
            if let Some(admin) = admin {
                let _ = admin.await;
            }
        };
        if timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            tracing::warn!("some answers did not end in time and are cut off");
        }
        let _ = phase.send(Phase::Over);
        if let Some(stun) = stun {
            stun.abort();
        }
        if let Some(origin) = &service.origin {
            origin.close().await;
        }
        service.api.stop();
        service.library.stop();
        // Until now: sockets of signaling outlive the connections that they came from.
        drop(workers);
    }
}

/// Packages what is put into `folder`, which must not be served itself.
fn inbox(folder: &Path, library: &Arc<Library>) -> Result<Arc<Inbox>, SeederError> {
    let error = |source| SeederError::Inbox { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(error)?;
    let root = library.root().path();
    if folder.canonicalize().map_err(error)?.starts_with(root) {
        return Err(error(io::Error::new(io::ErrorKind::InvalidInput, "it lies in the folder that is served")));
    }
    let published = Arc::downgrade(library);
    let rescan = move || {
        if let Some(library) = published.upgrade() {
            library.rescan();
        }
    };
    Inbox::start(folder, root, rescan).map_err(error)
}

/// What connections are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    Serving,
    /// Take no more requests, end the running ones.
    Draining,
    /// End now.
    Over,
}

/// The cache in front of the origin, if there is one.
async fn open_origin(
    config: &Config,
    state: PathBuf,
    library: &Arc<Library>,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<Origin>>, SeederError> {
    let Some(url) = config.origin.clone() else { return Ok(None) };
    let (config, library, metrics) = (config.clone(), Arc::clone(library), Arc::clone(metrics));
    let path = state.clone();
    let open = move || {
        let origin = Arc::new(Origin::open(&url, &config, &state, library, metrics)?);
        origin.learn();
        Ok(origin)
    };
    let opened = tokio::task::spawn_blocking(open).await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    opened.map(Some).map_err(|source| SeederError::Cache { path, source })
}

/// Where state goes: `given`, else a hidden folder in the root; without a root one of this user's.
pub(crate) fn state_folder(root: &Root, given: Option<&Path>) -> Result<PathBuf, SeederError> {
    if root.is_nowhere() {
        return Ok(given.map_or_else(own_state, Path::to_owned));
    }
    let path = given.map(Path::to_owned).unwrap_or_else(|| root.path().join(STATE_FOLDER));
    // It may not exist yet: then its folder decides.
    let real = path.canonicalize().or_else(|_| {
        let parent = path.parent().unwrap_or(Path::new("."));
        parent.canonicalize().map(|parent| parent.join(path.file_name().unwrap_or_default()))
    });
    let real = real.unwrap_or_else(|_| path.clone());
    match real.strip_prefix(root.path()) {
        Ok(inside) if !inside.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b".")) => {
            Err(SeederError::StateServed { path })
        }
        _ => Ok(path),
    }
}

/// `marea` among the states of this user's programs (XDG Base Directory Specification).
fn own_state() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    state.unwrap_or_else(std::env::temp_dir).join("marea")
}

async fn listen(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), SeederError> {
    let error = |source| SeederError::Listen { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(error)?;
    let local = listener.local_addr().map_err(error)?;
    Ok((listener, local))
}

/// Takes connections until told to stop, then waits for theirs.
async fn accept(listener: TcpListener, workers: Arc<Workers>, terms: Terms, max_connections: usize) {
    let places = u32::try_from(max_connections).unwrap_or(u32::MAX).clamp(1, 1 << 20);
    let room = Arc::new(Semaphore::new(places as usize));
    let mut phases = terms.phases.clone();
    let mut stopped = pin!({
        let mut phases = phases.clone();
        async move {
            let _ = phases.wait_for(|phase| *phase >= Phase::Draining).await;
        }
    });
    loop {
        let taken = async {
            // Before accepting: who finds no room waits in the kernel's queue, and no file handle is spent.
            let place = Arc::clone(&room).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            taken = taken => taken,
            () = &mut stopped => break,
        };
        match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
            Ok((stream, peer)) => {
                let connection = connection::serve(stream, peer, terms.clone());
                workers.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file handles or memory, or a client that left at once: none is a reason to stop.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // All places are free again once the last connection has ended.
    tokio::select! {
        _ = room.acquire_many(places) => {}
        _ = phases.wait_for(|phase| *phase == Phase::Over) => {}
    }
}

/// Many systems start programs with 1024 file handles though they allow far more.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
