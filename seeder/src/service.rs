//! What each path answers.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{HeaderName, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use marea_signaling::{ClientAddress, Origins, Signaling};

use crate::{
    answer::{Answer, Representation, Source, preflight, refuse, set, share, text},
    api::Api,
    body::Body,
    config::{MAX_AGE, MAX_TARGET, VOD_PLAYLIST_AGE},
    engine::{self, EngineFile},
    files,
    library::{Library, Tagged},
    metrics::{Cache, Kind, Metrics},
    open::OpenFiles,
    origin::Origin,
    range::{Wanted, wanted},
    tls::Tls,
    token::Token,
    well_known::{self, WellKnown},
};

/// What a reload may change while connections are open.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Pages that may read; all if none.
    pub(crate) allow_origin: Option<Origins>,
    /// Playlists and piece lists are files like all others.
    pub(crate) verbatim: bool,
    /// Mirrors are told of all videos.
    pub(crate) list_videos: bool,
    /// What requests that change something carry.
    pub(crate) token: Option<Token>,
}

/// An answer, and what its body counts as; none if the connection is another protocol's after it.
pub(crate) struct Reply {
    pub(crate) response: Response<Body>,
    pub(crate) kind: Option<Kind>,
}

/// What all connections share.
pub(crate) struct Service {
    pub(crate) library: Arc<Library>,
    pub(crate) metrics: Arc<Metrics>,
    /// Runs here if no other server was named.
    pub(crate) signaling: Option<Signaling>,
    /// Keys and revocations of this site.
    pub(crate) well_known: WellKnown,
    /// Where what is not in the folder comes from.
    pub(crate) origin: Option<Arc<Origin>>,
    /// The catalogue for programs.
    pub(crate) api: Api,
    open_files: OpenFiles,
    /// If it serves `https:` itself.
    pub(crate) tls: Option<Arc<Tls>>,
    settings: RwLock<Arc<Settings>>,
    draining: AtomicBool,
}

impl Service {
    pub(crate) fn new(
        library: Arc<Library>,
        metrics: Arc<Metrics>,
        signaling: Option<Signaling>,
        origin: Option<Arc<Origin>>,
        api: Api,
        settings: Settings,
    ) -> Self {
        let (settings, draining) = (RwLock::new(Arc::new(settings)), AtomicBool::new(false));
        let (well_known, open_files) = (WellKnown::default(), OpenFiles::default());
        Self { library, metrics, signaling, well_known, origin, api, open_files, tls: None, settings, draining }
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// From now on `/readyz` says that this server is leaving.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Answers `request`.
    pub(crate) async fn respond(&self, request: Request<Incoming>, peer: SocketAddr, admin: bool) -> Reply {
        if !admin
            && request.uri().path() == "/signal"
            && request.method() == Method::GET
            && let Some(signaling) = &self.signaling
        {
            return self.signal(signaling.upgrade(request, peer));
        }
        let settings = self.settings();
        let (method, origin) = (request.method().clone(), request.headers().get(header::ORIGIN).cloned());
        let Answer { mut response, kind, cache } = if !admin && Api::is_at(request.uri().path()) {
            Box::pin(self.api.answer(request, settings.token.as_ref())).await
        } else {
            self.route(&request, peer, admin, &settings).await
        };
        let out = response.headers_mut();
        share(out, origin.as_ref(), settings.allow_origin.as_ref());
        set(out, HeaderName::from_static("cross-origin-resource-policy"), "cross-origin");
        set(out, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        if method == Method::HEAD && !response.headers().contains_key(header::CONTENT_LENGTH) {
            let len = hyper::body::Body::size_hint(response.body()).lower();
            response.headers_mut().insert(header::CONTENT_LENGTH, len.into());
        }
        if method == Method::HEAD {
            *response.body_mut() = Body::Memory(bytes::Bytes::new());
        }
        self.metrics.request(kind, response.status().as_u16(), cache);
        Reply { response, kind: Some(kind) }
    }

    fn signal(&self, response: Response<bytes::Bytes>) -> Reply {
        self.metrics.request(Kind::other, response.status().as_u16(), Cache::none);
        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        Reply { response: response.map(Body::Memory), kind: (!upgraded).then_some(Kind::other) }
    }

    async fn route(&self, request: &Request<Incoming>, peer: SocketAddr, admin: bool, settings: &Settings) -> Answer {
        let target = request.uri();
        if target.path_and_query().map_or(0, |target| target.as_str().len()) > MAX_TARGET {
            let what = format!("At most {MAX_TARGET} bytes of path and query are read. Shorten the URL.");
            return refuse(StatusCode::URI_TOO_LONG, &what);
        }
        match *request.method() {
            Method::OPTIONS => return preflight(),
            Method::GET | Method::HEAD => {}
            _ if request.method().as_str() == "PURGE" && !admin => return self.purge(request, settings),
            _ => {
                let mut answer = refuse(StatusCode::METHOD_NOT_ALLOWED, "This server only gives. Use GET or HEAD.");
                set(answer.response.headers_mut(), header::ALLOW, "GET, HEAD, OPTIONS");
                return answer;
            }
        }
        let path = target.path();
        match path {
            "/healthz" => text(StatusCode::OK, "ok"),
            "/readyz" if self.draining.load(Ordering::Relaxed) => {
                text(StatusCode::SERVICE_UNAVAILABLE, "draining: this server is about to stop")
            }
            "/readyz" => {
                let troubles = self.origin.as_ref().map(|origin| origin.troubles()).unwrap_or_default();
                let lines = [vec![self.library.health()], troubles].concat();
                text(StatusCode::OK, lines.join("\n"))
            }
            "/metrics" => self.metrics_text(request, peer, admin),
            _ if admin => refuse(StatusCode::NOT_FOUND, "Here are only /healthz, /readyz and /metrics."),
            "/" => text(StatusCode::OK, front_page()),
            well_known::PATH => {
                let videos = settings.list_videos.then(|| self.library.mains());
                self.well_known.answer(videos, self.library.revoked(), request.method(), request.headers())
            }
            "/signal" => refuse(
                StatusCode::NOT_FOUND,
                match self.library.signaling() {
                    Some(_) => "Viewers meet at another server: playlists name it.",
                    None => "Ask by GET, as WebSockets do.",
                },
            ),
            _ => {
                if let Some(encoded) = path.strip_prefix("/videos/") {
                    return self.media(request, encoded, settings).await;
                }
                match path.strip_prefix('/').and_then(|name| Some((name, engine::file(name)?))) {
                    Some((name, file)) => engine_file(request, name, file),
                    None => refuse(StatusCode::NOT_FOUND, "There is nothing here. Videos are below /videos/."),
                }
            }
        }
    }

    fn metrics_text(&self, request: &Request<Incoming>, peer: SocketAddr, admin: bool) -> Answer {
        // No proxy is trusted here: one on the same machine connects by loopback too, for whoever asks it.
        let client = ClientAddress::of_request(peer, request.headers(), &[]);
        if !admin && !client.is_direct_loopback() {
            let what = "Metrics are answered to direct loopback connections, and to all at --admin-listen.";
            return refuse(StatusCode::FORBIDDEN, what);
        }
        let mut answer = text(StatusCode::OK, self.metrics.encode());
        let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        set(answer.response.headers_mut(), header::CONTENT_TYPE, media_type);
        answer
    }

    /// Takes something of the origin's out of the cache.
    fn purge(&self, request: &Request<Incoming>, settings: &Settings) -> Answer {
        let Some(origin) = &self.origin else {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "There is no --origin here, so no cache to purge.");
        };
        let Some(token) = &settings.token else {
            return refuse(StatusCode::FORBIDDEN, "This server was given no --api-token, so nobody may purge.");
        };
        if !token.fits(request.headers()) {
            let mut answer =
                refuse(StatusCode::UNAUTHORIZED, "Send `Authorization: Bearer` with the secret of --api-token.");
            set(answer.response.headers_mut(), header::WWW_AUTHENTICATE, "Bearer");
            return answer;
        }
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        match target.strip_prefix("/videos/") {
            Some(path) => text(StatusCode::OK, format!("purged: {} objects", origin.purge(path))),
            None => refuse(StatusCode::NOT_FOUND, "Purge a path below /videos/, or all that begin so: /videos/tide/*"),
        }
    }

    /// A file below the root, a playlist with its tags, or a piece list.
    async fn media(&self, request: &Request<Incoming>, encoded: &str, settings: &Settings) -> Answer {
        let Some(rel) = files::relative(encoded) else { return missing() };
        if self.library.is_revoked(&rel) {
            return withdrawn();
        }
        if let Some(origin) = &self.origin
            && !self.library.has(&rel).await
        {
            // What is rare must not make each connection's memory as large as itself.
            return Box::pin(origin.respond(request, &rel, self.library.signaling().as_deref())).await;
        }
        if settings.verbatim {
            // Signed as they are.
        } else if files::is_playlist(&rel) {
            match Box::pin(self.library.playlist(&rel)).await {
                Ok(Some(Tagged { built, hit })) => {
                    let skip = wants_skip(request.uri().query().unwrap_or(""));
                    let text = built.delta.as_ref().filter(|_| skip).unwrap_or(&built.whole);
                    let representation = Representation {
                        source: Source::Packed(text.packed.clone()),
                        media_type: files::media_type(&rel),
                        etag: text.etag.clone(),
                        last_modified: None,
                        cache_control: format!("public, max-age={}", built.max_age),
                        kind: Kind::playlist,
                        cache: if hit { Cache::hit } else { Cache::miss },
                    };
                    return representation.answer(request.method(), request.headers());
                }
                // No playlist that we understand: a player may still make something of it.
                Ok(None) => {}
                Err(error) => return failed(&error),
            }
        } else if let Some(object) = rel.strip_suffix(".pieces")
            && let Some(list) = self.library.list(object).await
        {
            let representation = Representation {
                source: Source::Memory(list.bytes),
                media_type: files::media_type(&rel),
                etag: list.etag,
                last_modified: None,
                cache_control: format!("public, max-age={VOD_PLAYLIST_AGE}"),
                kind: Kind::list,
                cache: Cache::miss,
            };
            return representation.answer(request.method(), request.headers());
        }
        self.file(request, rel).await
    }

    async fn file(&self, request: &Request<Incoming>, rel: String) -> Answer {
        let opened = match self.open_files.get(self.library.root(), &rel).await {
            Ok(opened) => opened,
            Err(error) => return failed(&error),
        };
        let key = opened.key;
        let range = match wanted(request.headers(), &opened.etag, key.size) {
            Wanted::Part { start, len } => Some((start, len)),
            Wanted::Whole | Wanted::Outside => None,
        };
        let known = self.library.touch(&rel, key, range);
        // A name that carries the hash of its content can never mean another one. Any other may: the younger the file,
        // the sooner it may change (live segments after a restart of the encoder).
        let cache_control = if known.named_by_hash {
            "public, max-age=31536000, immutable".to_owned()
        } else if files::is_playlist(&rel) {
            format!("public, max-age={VOD_PLAYLIST_AGE}")
        } else {
            format!("public, max-age={}", opened.age().clamp(10, MAX_AGE))
        };
        let representation = Representation {
            source: match &opened.small {
                Some(bytes) => Source::Memory(bytes.clone()),
                None => Source::File { file: Arc::clone(&opened.file), size: key.size },
            },
            media_type: files::media_type(&rel),
            etag: opened.etag.clone(),
            last_modified: opened.last_modified.clone(),
            cache_control,
            kind: files::kind(&rel, known.init),
            cache: Cache::none,
        };
        representation.answer(request.method(), request.headers())
    }
}

/// Whether a playlist's query asks for a delta update. `v2` would take one without old date ranges too, which we do not
/// offer; it is served what `YES` is.
pub(crate) fn wants_skip(query: &str) -> bool {
    query.split('&').any(|pair| matches!(pair, "_HLS_skip=YES" | "_HLS_skip=v2"))
}

fn engine_file(request: &Request<Incoming>, name: &str, file: &'static EngineFile) -> Answer {
    match file {
        EngineFile::NotBuilt => Answer {
            kind: Kind::engine,
            ..refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "This seeder was built without the browser engine. Run `cargo xtask build`, then build it again.",
            )
        },
        EngineFile::Built { packed, etag } => {
            let representation = Representation {
                source: Source::Packed(packed.clone()),
                media_type: engine::media_type(name),
                etag: etag.clone(),
                last_modified: None,
                // The script knows the hash of its wasm: one must not outlive the other in a cache.
                cache_control: "no-cache".to_owned(),
                kind: Kind::engine,
                cache: Cache::hit,
            };
            representation.answer(request.method(), request.headers())
        }
    }
}

/// What belongs to a video that was withdrawn.
pub(crate) fn withdrawn() -> Answer {
    refuse(StatusCode::GONE, "This video was withdrawn. Stop sharing it.")
}

fn missing() -> Answer {
    refuse(
        StatusCode::NOT_FOUND,
        "There is no such file. Paths below /videos/ are relative to the folder given as --root.",
    )
}

fn failed(error: &io::Error) -> Answer {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidFilename => missing(),
        io::ErrorKind::PermissionDenied => {
            refuse(StatusCode::FORBIDDEN, "The seeder may not read this file. Let its user read it.")
        }
        _ => {
            tracing::warn!(%error, "a file cannot be read");
            let mut answer =
                refuse(StatusCode::SERVICE_UNAVAILABLE, "The file cannot be read now. Try again; the log says why.");
            set(answer.response.headers_mut(), header::RETRY_AFTER, "1");
            answer
        }
    }
}

fn front_page() -> String {
    format!(
        "marea-seeder {}\n\n/videos/…       the files below --root, playlists with verification tags\n\
         /marea.js       the script for pages, with /marea.wasm and /marea-hls.js\n\
         /signal         where viewers meet\n/.well-known/marea   keys that playlists are signed with\n/healthz /readyz /metrics\n",
        env!("CARGO_PKG_VERSION")
    )
}
