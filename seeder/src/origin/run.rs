//! One request to the origin, from its headers to the object that is kept.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use hyper::body::Body as _;
use marea_swarm::{
    ids::{MAX_OBJECT_SIZE, MAX_PLAYLIST_SIZE},
    pieces::list_to_bytes,
};
use tokio::task::spawn_blocking;

use super::{
    Origin,
    fill::{Fill, Progress, Settled, Writer},
    lock, rules,
    store::{Hashed, Head, Key, Object},
    upstream::{Reply, UpstreamError, next},
};
use crate::{answer::set, files, metrics::OriginOutcome, sign::now_ms};

/// One request to the origin, to its end: whoever is waiting, and whatever happens here.
pub(super) struct Run {
    pub(super) origin: Arc<Origin>,
    pub(super) key: Key,
    pub(super) fill: Arc<Fill>,
    pub(super) held: Option<Arc<Object>>,
}

impl Run {
    pub(super) async fn run(self) {
        let outcome = self.fetch().await;
        let (settled, away) = match outcome {
            Ok(()) => (None, false),
            Err(Failure { settled, away }) => (Some(settled), away),
        };
        self.origin.note(settled.as_ref(), away);
        let outcome = match &settled {
            Some(Settled::Failed(_) | Settled::Status(_)) => OriginOutcome::failed,
            _ => OriginOutcome::ok,
        };
        self.origin.metrics.origin_request(outcome);
        if let Some(settled) = settled {
            if let Settled::Failed(reason) = &settled {
                tracing::debug!(%reason, "the origin failed");
            }
            if !matches!(settled, Settled::NotModified) {
                self.origin.remember(&self.key, &settled);
            }
            self.fill.set(Progress::Settled(settled));
        }
    }

    async fn fetch(&self) -> Result<(), Failure> {
        let (origin, key) = (&self.origin, &self.key);
        let playlist = files::is_playlist(key.target.split('?').next().unwrap_or(""));
        let reply = origin.upstream.ask(&Method::GET, &key.target, &self.conditions()).await?;
        let Reply { url, response, place } = reply;
        let (head, mut body) = response.into_parts();
        let headers = &head.headers;
        let life = rules::life(headers, playlist);
        if head.status == StatusCode::NOT_MODIFIED
            && let Some(held) = &self.held
        {
            // Where it says nothing new, what it said with the bytes holds.
            held.confirm(life.filter(|life| life.stated));
            return Err(Settled::NotModified.into());
        }
        let (wanted, total) = match key.span {
            None => (StatusCode::OK, None),
            Some(span) => (StatusCode::PARTIAL_CONTENT, content_range(headers, span)),
        };
        if head.status != wanted {
            return Err(match head.status {
                // It knows no ranges; each client gets what it makes of that.
                StatusCode::OK => Settled::Private.into(),
                status if status.is_client_error() || status.is_server_error() => Settled::Status(status).into(),
                status => failure(format!("it answers {status}")),
            });
        }
        if key.span.is_some() && total.is_none() {
            return Err(Settled::Private.into());
        }
        if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|value| *value != "identity") {
            return Err(failure(format!("it encodes what was asked for as it is ({encoding:?})")));
        }
        let Some(life) = life else { return Err(Settled::Private.into()) };
        let len = body.size_hint().exact();
        let chunked = headers.get(header::TRANSFER_ENCODING).is_some();
        if len.is_none() && !chunked {
            // Cut off it would look the same.
            return Err(failure("it says neither how long its answer is nor where it ends".to_owned()));
        }
        let limit = if playlist { MAX_PLAYLIST_SIZE as u64 } else { MAX_OBJECT_SIZE };
        if key.span.is_some_and(|(_, span)| len != Some(span)) {
            return Err(failure("it sends another part than it was asked for".to_owned()));
        }
        if len.is_some_and(|len| len > limit) {
            return Err(Settled::Private.into());
        }
        let head = Arc::new(new_head(url.as_str(), headers, len, total.or(len), life));
        let store = Arc::clone(origin);
        let spool = spawn_blocking(move || Arc::new(store.store.spool())).await.map_err(panicked)?;
        self.fill.begin(Arc::clone(&head), Arc::clone(&spool));
        let mut writer = Writer::new(Arc::clone(&spool), Arc::clone(&origin.memory));
        let mut size = 0;
        while let Some(bytes) = next(&mut body).await.map_err(failure)? {
            (writer, size) = writer.write(bytes).await.map_err(|error| failure(error.to_string()))?;
            if size > limit {
                return Err(failure(format!("it sends more than {limit} bytes")));
            }
            self.fill.set(Progress::Coming(Arc::clone(&head), size));
        }
        drop(place);
        if len.is_some_and(|len| len != size) {
            return Err(failure(format!("it sends {size} bytes of {len:?}")));
        }
        if let Some(error) = &writer.broken {
            origin.store.report(error);
        }
        let hashed = writer.finish();
        let list = if hashed.list.len() > 1 { list_to_bytes(&hashed.list).into() } else { Bytes::new() };
        let hashed = Hashed { size: hashed.size, root: hashed.root, list };
        let before = origin.store.hashed(key);
        if before.is_some_and(|before| before.root != hashed.root) {
            origin.changes.fetch_add(1, Ordering::Relaxed);
        }
        let (store, key, head) = (Arc::clone(origin), key.clone(), (*head).clone());
        let wanted = !self.fill.is_disowned();
        let kept =
            spawn_blocking(move || store.store.keep(key, head, hashed, &spool, wanted)).await.map_err(panicked)?;
        self.fill.set(Progress::Whole(kept));
        Ok(())
    }

    fn conditions(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some((start, len)) = self.key.span {
            set(&mut headers, header::RANGE, &format!("bytes={start}-{}", start + len - 1));
        } else if let Some(held) = &self.held {
            if let Some(etag) = &held.head.origin_etag {
                set(&mut headers, header::IF_NONE_MATCH, etag);
            } else if let Some(date) = &held.head.last_modified {
                set(&mut headers, header::IF_MODIFIED_SINCE, date);
            }
        }
        headers
    }
}

impl Drop for Run {
    /// Also if it panicked: nobody waits in vain.
    fn drop(&mut self) {
        if !self.fill.is_over() {
            self.fill.set(Progress::Settled(Settled::Failed("the server stops".into())));
        }
        let mut fills = lock(&self.origin.fills);
        if fills.get(&self.key).is_some_and(|fill| Arc::ptr_eq(fill, &self.fill)) {
            fills.remove(&self.key);
        }
        drop(fills);
        self.origin.done.send_modify(|done| *done += 1);
    }
}

/// Why there is nothing to keep.
struct Failure {
    settled: Settled,
    /// The origin did not answer at all.
    away: bool,
}

impl From<Settled> for Failure {
    fn from(settled: Settled) -> Self {
        Self { settled, away: false }
    }
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        let away = matches!(error, UpstreamError::Away { .. });
        Self { settled: Settled::Failed(error.to_string().into()), away }
    }
}

fn failure(reason: String) -> Failure {
    Settled::Failed(reason.into()).into()
}

fn panicked(error: impl std::fmt::Display) -> Failure {
    failure(error.to_string())
}

/// Bytes of all of what a 206 is a part of, if it is the part `span`.
fn content_range(headers: &HeaderMap, (start, len): (u64, u64)) -> Option<u64> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, total) = text.split_once('/')?;
    (range.trim() == format!("{start}-{}", start + len - 1)).then(|| total.trim().parse().ok())?
}

fn new_head(url: &str, headers: &HeaderMap, len: Option<u64>, total: Option<u64>, life: rules::Life) -> Head {
    let value = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::to_owned);
    let (fetched, origin_etag) = (now_ms(), value(header::ETAG));
    let strong = origin_etag.clone().filter(|etag| etag.starts_with('"'));
    let etag = strong.unwrap_or_else(|| {
        let name = blake3::hash(format!("{url} {fetched}").as_bytes());
        format!("\"{}\"", &name.to_hex()[..32])
    });
    Head {
        url: url.to_owned(),
        etag,
        origin_etag,
        last_modified: value(header::LAST_MODIFIED),
        media_type: value(header::CONTENT_TYPE),
        cache_control: value(header::CACHE_CONTROL),
        len,
        total,
        fetched,
        life,
    }
}
