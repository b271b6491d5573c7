//! Origin pull (`serve --origin URL`): what is not in the folder comes from another server, is kept, and is tagged like the rest.
//!
//! However many ask for something, the origin is asked once: a fill is a task of its own that nobody's leaving ends, and all
//! read along while it comes ([`fill`]). Every answer is hashed as it comes; playlists name the hashes that are known ([`lists`]).

mod fill;
mod lists;
mod names;
mod pass;
mod refs;
mod rules;
mod run;
mod store;
mod upstream;

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};
use url::Url;

use crate::{
    answer::{Answer, Representation, Source, refuse, set},
    body::{Body, FileBody, StreamBody},
    config::{
        Config, NEGATIVE_AGE, ORIGIN_CLOSE, ORIGIN_FAILURES, ORIGIN_MEMORY, ORIGIN_PREFETCH, PRIVATE_AGE,
        VOD_PLAYLIST_AGE,
    },
    files,
    index::{Site, target},
    library::Library,
    metrics::{Cache, Kind, Metrics},
};
use fill::{Fill, Progress, Settled};
use lists::Lists;
use names::Index;
use run::Run;
use store::{Head, Key, Object, Standing, Store};
use upstream::Upstream;

/// What failed is not asked for again until then, as far as is remembered.
const MAX_NEGATIVE: usize = 16 * 1024;

/// A server from which everything comes that the folder does not have.
pub(crate) struct Origin {
    upstream: Upstream,
    store: Store,
    names: Index,
    lists: Lists,
    library: Arc<Library>,
    site: Site,
    /// Derives the ids of videos.
    secret: [u8; 32],
    /// Parameters that are part of what is asked for, also where no playlist names them.
    query: Vec<String>,
    metrics: Arc<Metrics>,
    fills: Mutex<HashMap<Key, Arc<Fill>>>,
    negative: Mutex<HashMap<Key, (Instant, Settled)>>,
    health: Mutex<Health>,
    /// Bounds what fills keep in memory, in KiB.
    memory: Arc<Semaphore>,
    /// What is fetched before anybody asks for it.
    ahead: Arc<Semaphore>,
    /// Counts fills that are over.
    done: watch::Sender<u64>,
    /// Counts objects that came back with other bytes.
    changes: AtomicU64,
}

/// Whether the origin answers.
#[derive(Default)]
struct Health {
    failures: u32,
    /// While it fails: when it may be asked again.
    until: Option<Instant>,
}

/// Makes a body of so many bytes (of all, if none) from a given one on.
type Open = Box<dyn FnOnce(u64, Option<u64>) -> Body + Send>;

/// What can be read.
enum Got {
    Object(Arc<Object>),
    Coming(Arc<Fill>, Arc<Head>),
}

impl Origin {
    /// Opens the cache of `config`'s origin in the state folder. Blocks.
    ///
    /// # Errors
    /// The cache is in use by another server, or there are no random numbers.
    pub(crate) fn open(
        origin: &Url,
        config: &Config,
        state: &Path,
        library: Arc<Library>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let mut base = origin.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let folder = state.join("origin");
        let store = Store::open(&folder, base.as_str(), config.cache_size, Arc::clone(&metrics))?;
        Ok(Self {
            upstream: Upstream::new(base, config.origin_host.clone()),
            secret: store::secret(&folder)?,
            store,
            names: Index::default(),
            lists: Lists::default(),
            library,
            site: Site::pulled(config.public_url.as_ref().map(Url::as_str)),
            query: config.origin_query.clone(),
            metrics,
            fills: Mutex::default(),
            negative: Mutex::default(),
            health: Mutex::default(),
            memory: Arc::new(Semaphore::new(ORIGIN_MEMORY / 1024)),
            ahead: Arc::new(Semaphore::new(ORIGIN_PREFETCH)),
            done: watch::channel(0).0,
            changes: AtomicU64::new(0),
        })
    }

    /// What is not as it should be, a line each.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.store.is_broken() {
            lines.push("degraded: the cache of the origin cannot be written".to_owned());
        }
        if lock(&self.health).failures >= ORIGIN_FAILURES {
            lines.push("degraded: the origin does not answer".to_owned());
        }
        lines
    }

    /// Gives what is still coming a moment to be kept, and leaves the cache to the next server.
    pub(crate) async fn close(&self) {
        let mut done = self.done.subscribe();
        let idle = async {
            while !lock(&self.fills).is_empty() {
                if done.changed().await.is_err() {
                    break;
                }
            }
        };
        let _ = timeout(ORIGIN_CLOSE, idle).await;
        self.store.unlock();
    }

    /// Takes `path` below `/videos/` out of the cache; with a `*` at its end all that begins so. Gives how many objects there were.
    pub(crate) fn purge(&self, encoded: &str) -> usize {
        let path = |encoded: &str| {
            let (path, query) = encoded.split_once('?').map_or((encoded, None), |(path, query)| (path, Some(query)));
            files::relative(path).map(|rel| target(&rel, query))
        };
        let prefix = encoded.strip_suffix('*').map(|prefix| prefix.trim_end_matches('/'));
        let Some(named) = path(prefix.unwrap_or(encoded)).or_else(|| (prefix == Some("")).then(String::new)) else {
            return 0;
        };
        let fits = |key: &Key| match key.target.strip_prefix(&named) {
            // With whatever query: who purges a file means all of it.
            Some(rest) => prefix.is_some() || rest.is_empty() || rest.starts_with('?'),
            None => false,
        };
        let mut purged = HashSet::new();
        // What is on its way may be of before.
        lock(&self.fills).retain(|key, fill| {
            let fits = fits(key);
            if fits {
                fill.disown();
                purged.insert(key.clone());
            }
            !fits
        });
        lock(&self.negative).retain(|key, _| !fits(key));
        purged.extend(self.store.purge(fits));
        self.changes.fetch_add(1, Ordering::Relaxed);
        purged.len()
    }

    /// Answers a GET or HEAD for `rel`. `signaling` is written into playlists.
    pub(crate) async fn respond(
        self: &Arc<Self>,
        request: &Request<Incoming>,
        rel: &str,
        signaling: Option<&str>,
    ) -> Answer {
        let asked = target(rel, request.uri().query());
        let headers = request.headers();
        // An answer to somebody's own request is nobody else's.
        if headers.contains_key(header::COOKIE) || headers.contains_key(header::AUTHORIZATION) {
            return self.pass(request, rel, &asked).await;
        }
        let target = self.meant(rel, request.uri().query());
        if files::is_playlist(rel) {
            return self.playlist(request, rel, target, signaling).await;
        }
        if let Some(object) = target_of_list(&target)
            && let Some(answer) = self.piece_list(request, rel, &object)
        {
            return answer;
        }
        let Some(key) = self.part(target, headers) else { return self.pass(request, rel, &asked).await };
        match self.acquire(&key).await {
            Ok((got, cache)) => {
                // Who cannot be told of an early end, or wants to know the length, waits for it.
                let plain = request.method() == Method::GET && request.version() >= http::Version::HTTP_11;
                let got = match got {
                    Got::Coming(fill, head) if head.len.is_none() && !plain => match fill.whole().await {
                        Ok(object) => Got::Object(object),
                        Err(settled) => return self.refused(request, rel, &asked, settled).await,
                    },
                    got => got,
                };
                self.media(request, rel, &asked, &key, got, cache).await
            }
            Err(settled) => self.refused(request, rel, &asked, settled).await,
        }
    }

    /// `rel` with those parameters of `query` that make a difference: else whoever adds `?x=1`, `?x=2`, … fills the disk.
    fn meant(&self, rel: &str, query: Option<&str>) -> String {
        let Some(query) = query else { return target(rel, None) };
        let whole = target(rel, Some(query));
        if self.names.has(&whole) {
            return whole;
        }
        let counts = |pair: &&str| self.query.iter().any(|name| pair.split('=').next() == Some(name));
        let kept: Vec<&str> = query.split('&').filter(counts).collect();
        target(rel, (!kept.is_empty()).then(|| kept.join("&")).as_deref())
    }

    /// The object that holds what is asked for: the target, or the part of it that a playlist names. None if it is neither.
    fn part(&self, target: String, headers: &HeaderMap) -> Option<Key> {
        let spans = self.names.spans(&target);
        let whole = Key { target, span: None };
        if spans.is_empty() || self.store.get(&whole).is_some() {
            return Some(whole);
        }
        let range = headers.get(header::RANGE)?.to_str().ok()?.trim().strip_prefix("bytes=")?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let holds = |(start, len): &(u64, u64)| *start <= first && last < start.saturating_add(*len) && first <= last;
        let span = spans.into_iter().find(holds)?;
        Some(Key { span: Some(span), ..whole })
    }

    /// Gets hold of an object: from the cache, or as it comes. The origin is asked at most once for all who want it.
    async fn acquire(self: &Arc<Self>, key: &Key) -> Result<(Got, Cache), Settled> {
        let held = self.store.get(key);
        match held.as_ref().map(|held| (held, held.standing())) {
            Some((held, Standing::Fresh)) => return Ok((Got::Object(Arc::clone(held)), Cache::hit)),
            Some((held, Standing::Stale)) => {
                if self.refusal(key).is_none() {
                    self.fill(key, Some(held));
                }
                return Ok((Got::Object(Arc::clone(held)), Cache::stale));
            }
            _ => {}
        }
        let usable = held.clone().filter(|held| held.standing() == Standing::Old);
        // While the origin fails what is old is better than nothing. What it took back is not.
        let instead = |settled: Settled| match (&settled, usable) {
            (Settled::Failed(_), Some(held)) => Ok((Got::Object(held), Cache::stale)),
            (Settled::Status(status), Some(held)) if status.is_server_error() => Ok((Got::Object(held), Cache::stale)),
            _ => Err(settled),
        };
        if let Some(settled) = self.refusal(key) {
            return instead(settled);
        }
        let (fill, first) = self.fill(key, held.as_ref());
        let cache = if first { Cache::miss } else { Cache::coalesced };
        match fill.answered().await {
            Progress::Whole(object) => Ok((Got::Object(object), cache)),
            Progress::Coming(head, _) => Ok((Got::Coming(fill, head), cache)),
            Progress::Settled(Settled::NotModified) => match held {
                Some(held) => Ok((Got::Object(held), Cache::hit)),
                None => Err(Settled::Failed("the origin says that nothing has changed".into())),
            },
            Progress::Settled(settled) => instead(settled),
            Progress::Asked => Err(Settled::Failed("the server stops".into())),
        }
    }

    /// Why the origin is not asked now, if it is not.
    fn refusal(&self, key: &Key) -> Option<Settled> {
        if lock(&self.fills).contains_key(key) {
            return None;
        }
        let known = lock(&self.negative).get(key).filter(|(until, _)| *until > Instant::now()).cloned();
        known.map(|(_, settled)| settled)
    }

    /// The fill of `key`, which is begun if there is none; and whether it was.
    fn fill(self: &Arc<Self>, key: &Key, held: Option<&Arc<Object>>) -> (Arc<Fill>, bool) {
        let mut fills = lock(&self.fills);
        if let Some(fill) = fills.get(key) {
            return (Arc::clone(fill), false);
        }
        let fill = Arc::new(Fill::new());
        if !self.may_ask() {
            fill.set(Progress::Settled(Settled::Failed("the origin does not answer".into())));
            return (fill, true);
        }
        fills.insert(key.clone(), Arc::clone(&fill));
        let run = Run { origin: Arc::clone(self), key: key.clone(), fill: Arc::clone(&fill), held: held.cloned() };
        tokio::spawn(run.run());
        (fill, true)
    }

    /// One request a second, while the origin fails.
    fn may_ask(&self) -> bool {
        let mut health = lock(&self.health);
        if health.failures < ORIGIN_FAILURES {
            return true;
        }
        let now = Instant::now();
        if health.until.is_some_and(|until| now < until) {
            return false;
        }
        health.until = Some(now + NEGATIVE_AGE);
        true
    }

    /// What is not to be had is not asked for again at once.
    fn remember(&self, key: &Key, settled: &Settled) {
        let mut negative = lock(&self.negative);
        if negative.len() >= MAX_NEGATIVE {
            let now = Instant::now();
            negative.retain(|_, (until, _)| *until > now);
            if negative.len() >= MAX_NEGATIVE {
                negative.clear();
            }
        }
        // What is nobody else's stays so for a while: else each would have the origin answer twice.
        let age = if matches!(settled, Settled::Private) { PRIVATE_AGE } else { NEGATIVE_AGE };
        negative.insert(key.clone(), (Instant::now() + age, settled.clone()));
    }

    /// Notes how the origin fared; `away` if it did not answer at all.
    fn note(&self, settled: Option<&Settled>, away: bool) {
        let mut health = lock(&self.health);
        let failed = match settled {
            Some(Settled::Failed(_)) => true,
            Some(Settled::Status(status)) => status.is_server_error(),
            _ => false,
        };
        if !failed {
            health.failures = 0;
            return;
        }
        health.failures = if away { ORIGIN_FAILURES } else { (health.failures + 1).min(ORIGIN_FAILURES) };
        health.until = Some(Instant::now() + NEGATIVE_AGE);
    }

    /// Fetches `key` before anybody asks for it.
    fn fetch_ahead(self: &Arc<Self>, key: Key) {
        if !self.lists.begin(&key) {
            return;
        }
        let origin = Arc::clone(self);
        tokio::spawn(async move {
            let place = Arc::clone(&origin.ahead).acquire_owned().await;
            let outcome = match origin.acquire(&key).await {
                Ok((Got::Coming(fill, _), _)) => fill.whole().await.map(drop),
                other => other.map(drop),
            };
            origin.lists.end(&key, outcome.is_ok());
            origin.done.send_modify(|done| *done += 1);
            drop(place);
        });
    }

    /// What is at hand, or is coming, as an answer.
    async fn media(
        self: &Arc<Self>,
        request: &Request<Incoming>,
        rel: &str,
        asked: &str,
        key: &Key,
        got: Got,
        cache: Cache,
    ) -> Answer {
        let (head, age) = match &got {
            Got::Object(object) => (Arc::new(object.head.clone()), object.age()),
            Got::Coming(_, head) => (Arc::clone(head), 0),
        };
        let kind = files::kind(rel, self.names.is_init(&key.target));
        let media_type = media_type(rel, head.media_type.as_deref());
        let cache_control = match &head.cache_control {
            // Else the next cache would ask for each of its clients.
            _ if cache == Cache::stale => "public, max-age=1".to_owned(),
            Some(stated) => stated.clone(),
            None => format!("public, max-age={}", head.life.fresh / 1_000),
        };
        let origin = key.span.map_or(0, |(start, _)| start);
        let (size, open): (Option<u64>, Open) = match got {
            Got::Object(object) => {
                let size = if key.span.is_some() { head.total } else { Some(object.size()) };
                if let Some(spool) = object.spool().cloned() {
                    let open = move |start: u64, len: Option<u64>| {
                        let end = start - origin + len.unwrap_or(0);
                        Body::Stream(StreamBody::new(fill::read_spool(spool, start - origin, end), len))
                    };
                    (size, Box::new(open))
                } else {
                    match self.store.file(&object).await {
                        Ok(file) => {
                            let open = move |start: u64, len: Option<u64>| {
                                Body::File(FileBody::new(file, start - origin, len.unwrap_or(0)))
                            };
                            (size, Box::new(open))
                        }
                        Err(error) => {
                            // Somebody took it away.
                            tracing::warn!(%error, "an object of the cache cannot be read and is forgotten");
                            self.store.purge(|held| *held == object.key);
                            return failed("the cache lost it: ask again");
                        }
                    }
                }
            }
            Got::Coming(fill, _) => {
                let size = if key.span.is_some() { head.total } else { head.len };
                let open = move |start: u64, len: Option<u64>| {
                    let at = start - origin;
                    Body::Stream(StreamBody::new(fill.read(at, len.map(|len| at + len)), len))
                };
                (size, Box::new(open))
            }
        };
        let mut answer = match size {
            Some(size) => {
                // A condition that does not fit asks for all of what only a part is here of.
                if let Some((start, len)) = key.span {
                    let inside = match crate::range::wanted(request.headers(), &head.etag, size) {
                        crate::range::Wanted::Part { start: first, len: wanted } => {
                            first >= start && first + wanted <= start + len
                        }
                        _ => false,
                    };
                    if !inside {
                        return self.pass(request, rel, asked).await;
                    }
                }
                let open = Box::new(move |start, len| open(start, Some(len)));
                let source = Source::Stream { size, open };
                let (etag, last_modified) = (head.etag.clone(), head.last_modified.clone());
                let representation =
                    Representation { source, media_type, etag, last_modified, cache_control, kind, cache };
                representation.answer(request.method(), request.headers())
            }
            // Nobody knows yet where it ends, so no part of it can be named.
            None => {
                let mut response = http::Response::new(match *request.method() {
                    Method::HEAD => Body::Memory(Bytes::new()),
                    _ => open(0, None),
                });
                let out = response.headers_mut();
                set(out, header::CONTENT_TYPE, media_type);
                set(out, header::CACHE_CONTROL, &cache_control);
                set(out, header::ETAG, &head.etag);
                Answer { response, kind, cache }
            }
        };
        mark(answer.response.headers_mut(), cache, age);
        answer
    }

    /// The piece lists of `target`; none if nothing of it was hashed, or it has none.
    fn piece_list(&self, request: &Request<Incoming>, rel: &str, target: &str) -> Option<Answer> {
        let spans = self.names.spans(target);
        let bytes: Bytes = if spans.is_empty() {
            let hashed = self.store.hashed(&Key { target: target.to_owned(), span: None })?;
            hashed.list.clone()
        } else {
            let mut lists = Vec::new();
            for span in spans {
                let key = Key { target: target.to_owned(), span: Some(span) };
                let len = crate::hashes::list_len(span.1);
                match self.store.hashed(&key).filter(|hashed| hashed.list.len() as u64 == len) {
                    Some(hashed) => lists.extend_from_slice(&hashed.list),
                    // No tag speaks of it yet.
                    None => lists.resize(lists.len().saturating_add(usize::try_from(len).ok()?), 0),
                }
            }
            lists.into()
        };
        if bytes.is_empty() {
            return None;
        }
        let representation = Representation {
            etag: format!("\"{}\"", &blake3::hash(&bytes).to_hex()[..32]),
            source: Source::Memory(bytes),
            media_type: files::media_type(rel),
            last_modified: None,
            cache_control: format!("public, max-age={VOD_PLAYLIST_AGE}"),
            kind: Kind::list,
            cache: Cache::hit,
        };
        Some(representation.answer(request.method(), request.headers()))
    }

    /// What to answer where there is nothing to share.
    async fn refused(&self, request: &Request<Incoming>, rel: &str, asked: &str, settled: Settled) -> Answer {
        match settled {
            Settled::Private => self.pass(request, rel, asked).await,
            Settled::Status(status) if status.is_client_error() => {
                let mut answer = refuse(status, "The origin answers so: see there.");
                set(answer.response.headers_mut(), header::CACHE_CONTROL, "public, max-age=1");
                answer
            }
            Settled::Status(status) => failed(&format!("it answers {status}")),
            Settled::Failed(reason) => failed(&reason),
            Settled::NotModified => failed("it says that nothing has changed"),
        }
    }
}

/// By name; where that says nothing, what the origin says if it is media.
fn media_type(rel: &str, stated: Option<&str>) -> &'static str {
    const MEDIA: [&str; 8] =
        ["video/mp4", "audio/mp4", "video/mp2t", "audio/aac", "audio/mpeg", "video/webm", "image/jpeg", "text/vtt"];
    let named = files::media_type(rel);
    let stated = stated.and_then(|stated| stated.split(';').next()).unwrap_or("").trim().to_ascii_lowercase();
    let known = MEDIA.into_iter().find(|known| *known == stated);
    if named == "application/octet-stream" { known.unwrap_or(named) } else { named }
}

/// The target whose piece list `target` would be.
fn target_of_list(target: &str) -> Option<String> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let object = path.strip_suffix(".pieces")?;
    Some(query.map_or_else(|| object.to_owned(), |query| format!("{object}?{query}")))
}

/// Says where an answer came from.
fn mark(out: &mut HeaderMap, cache: Cache, age: u64) {
    let text = match cache {
        Cache::hit => "HIT",
        Cache::stale => "STALE",
        Cache::coalesced => "COALESCED",
        Cache::bypass => "BYPASS",
        Cache::miss | Cache::none => "MISS",
    };
    out.insert(HeaderName::from_static("x-cache"), HeaderValue::from_static(text));
    if age > 0 && cache != Cache::stale {
        out.insert(header::AGE, age.into());
    }
}

fn failed(reason: &str) -> Answer {
    let what = format!("The origin gives nothing now: {reason}. Try again.");
    let mut answer = refuse(StatusCode::BAD_GATEWAY, &what);
    set(answer.response.headers_mut(), header::RETRY_AFTER, "1");
    answer
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A duration in milliseconds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
