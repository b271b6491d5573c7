//! Answers to requests: one representation under ranges and conditions, or a text that says what to do.

use std::{fs::File, io::Write, sync::Arc};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use marea_signaling::Origins;

use crate::{
    body::{Body, FileBody},
    metrics::{Cache, Kind},
    range::{self, Wanted},
};

/// Longest that a browser may remember a preflight: Chromium's cap, in seconds.
const PREFLIGHT_AGE: &str = "7200";

/// Body bytes that fit in one packet beside the head.
const PACKET: usize = 1000;

/// An answer and what it counts as.
pub(crate) struct Answer {
    pub(crate) response: Response<Body>,
    pub(crate) kind: Kind,
    pub(crate) cache: Cache,
}

/// Where the bytes of a representation are.
pub(crate) enum Source {
    Memory(Bytes),
    /// The same twice: as it is, and compressed if that is shorter.
    Packed(Packed),
    File {
        file: Arc<File>,
        size: u64,
    },
    /// Bytes that come from elsewhere: a body of so many of them from a given one on.
    Stream {
        size: u64,
        open: Box<dyn FnOnce(u64, u64) -> Body + Send>,
    },
}

/// Bytes, and their gzip form if that is shorter.
#[derive(Clone)]
pub(crate) struct Packed {
    pub(crate) plain: Bytes,
    gzip: Option<Bytes>,
}

impl Packed {
    pub(crate) fn new(plain: Bytes) -> Self {
        // What fits in one packet is not sent faster in less.
        let pack = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&plain).and_then(|()| encoder.finish()).ok()
        };
        let gzip = if plain.len() > PACKET { pack() } else { None };
        let gzip = gzip.filter(|gzip| gzip.len() < plain.len()).map(Bytes::from);
        Self { plain, gzip }
    }
}

/// One thing that can be asked for, whole or in part.
pub(crate) struct Representation {
    pub(crate) source: Source,
    pub(crate) media_type: &'static str,
    /// Strong entity tag, with its quotes.
    pub(crate) etag: String,
    pub(crate) last_modified: Option<String>,
    pub(crate) cache_control: String,
    pub(crate) kind: Kind,
    pub(crate) cache: Cache,
}

impl Representation {
    /// The answer to a GET or HEAD with `headers`.
    pub(crate) fn answer(mut self, method: &Method, headers: &HeaderMap) -> Answer {
        let packed = matches!(&self.source, Source::Packed(packed) if packed.gzip.is_some());
        let mut encoding = None;
        if let Source::Packed(Packed { plain, gzip }) = self.source {
            self.source = match gzip.filter(|_| takes_gzip(headers)) {
                Some(gzip) => {
                    encoding = Some("gzip");
                    // Other bytes, so another strong tag.
                    self.etag = format!("{}-gzip\"", self.etag.trim_end_matches('"'));
                    Source::Memory(gzip)
                }
                None => Source::Memory(plain),
            };
        }
        let size = match &self.source {
            Source::Memory(bytes) | Source::Packed(Packed { plain: bytes, .. }) => bytes.len() as u64,
            Source::File { size, .. } | Source::Stream { size, .. } => *size,
        };
        let mut response = Response::new(Body::Memory(Bytes::new()));
        let out = response.headers_mut();
        set(out, header::ETAG, &self.etag);
        set(out, header::CACHE_CONTROL, &self.cache_control);
        if let Some(date) = &self.last_modified {
            set(out, header::LAST_MODIFIED, date);
        }
        if packed {
            out.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        if range::not_modified(headers, &self.etag, self.last_modified.as_deref()) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Answer { response, kind: self.kind, cache: self.cache };
        }
        // Ranges have a meaning for GET only (RFC 9110 §14.2).
        let wanted = if method == Method::GET { range::wanted(headers, &self.etag, size) } else { Wanted::Whole };
        let (start, len) = match wanted {
            Wanted::Whole => (0, size),
            Wanted::Part { start, len } => (start, len),
            Wanted::Outside => {
                let text = format!("The range lies outside the {size} bytes there are. Ask for a part of them.");
                let mut answer = refuse(StatusCode::RANGE_NOT_SATISFIABLE, &text);
                set(answer.response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{size}"));
                return Answer { kind: self.kind, ..answer };
            }
        };
        let out = response.headers_mut();
        set(out, header::CONTENT_TYPE, self.media_type);
        set(out, header::ACCEPT_RANGES, "bytes");
        if let Some(encoding) = encoding {
            set(out, header::CONTENT_ENCODING, encoding);
        }
        out.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        if wanted != Wanted::Whole {
            set(out, header::CONTENT_RANGE, &format!("bytes {start}-{}/{size}", start + len - 1));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        if method == Method::GET {
            *response.body_mut() = match self.source {
                // Inside, as the range was checked against this length.
                Source::Memory(bytes) | Source::Packed(Packed { plain: bytes, .. }) => {
                    Body::Memory(part(&bytes, start, len))
                }
                Source::File { file, .. } => Body::File(FileBody::new(file, start, len)),
                Source::Stream { open, .. } => open(start, len),
            };
        }
        Answer { response, kind: self.kind, cache: self.cache }
    }
}

/// Whether `Accept-Encoding` names gzip and does not rule it out.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| {
        let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0));
        coding.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

fn part(bytes: &Bytes, start: u64, len: u64) -> Bytes {
    let at = |offset: u64| usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
    bytes.slice(at(start)..at(start + len))
}

/// A short text.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Answer {
    let mut body: String = text.into();
    if !body.ends_with('\n') {
        body.push('\n');
    }
    let mut response = Response::new(Body::Memory(Bytes::from(body)));
    *response.status_mut() = status;
    set(response.headers_mut(), header::CONTENT_TYPE, "text/plain; charset=utf-8");
    set(response.headers_mut(), header::CACHE_CONTROL, "no-store");
    Answer { response, kind: Kind::other, cache: Cache::none }
}

/// An error, with what to do about it.
pub(crate) fn refuse(status: StatusCode, what: &str) -> Answer {
    text(status, format!("{status}\n{what}"))
}

/// The answer to a preflight (OPTIONS).
pub(crate) fn preflight() -> Answer {
    let mut answer = text(StatusCode::NO_CONTENT, "");
    *answer.response.body_mut() = Body::Memory(Bytes::new());
    let out = answer.response.headers_mut();
    out.remove(header::CONTENT_TYPE);
    out.remove(header::CACHE_CONTROL);
    set(out, header::ALLOW, "GET, HEAD, OPTIONS");
    set(out, header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS");
    set(
        out,
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "Range, If-Range, If-None-Match, If-Modified-Since, Cache-Control, Pragma, Authorization, Content-Type",
    );
    set(out, header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE);
    set(out, HeaderName::from_static("access-control-allow-private-network"), "true");
    answer
}

/// What lets a page of `origin` read an answer. `allowed` are the pages that may; all if none.
pub(crate) fn share(out: &mut HeaderMap, origin: Option<&HeaderValue>, allowed: Option<&Origins>) {
    let Some(allowed) = allowed else {
        set(out, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        set(out, HeaderName::from_static("timing-allow-origin"), "*");
        expose(out);
        return;
    };
    out.append(header::VARY, HeaderValue::from_static("Origin"));
    let fits = |origin: &&HeaderValue| origin.to_str().is_ok_and(|origin| allowed.allow(Some(origin)));
    if let Some(origin) = origin.filter(fits) {
        out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        out.insert(HeaderName::from_static("timing-allow-origin"), origin.clone());
        expose(out);
    }
}

fn expose(out: &mut HeaderMap) {
    set(
        out,
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        "Content-Length, Content-Range, Accept-Ranges, ETag, Last-Modified, Age, X-Cache, Server-Timing",
    );
}

/// Sets a header; a value that cannot be sent is left out.
pub(crate) fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
