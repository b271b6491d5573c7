//! The catalogue as an API: `/api/v1`, JSON, for whoever holds the token (`docs/api.md`). What each path answers is in
//! `api/openapi.json`, which tests hold it to.
//!
//! A token in a header, never a cookie: no page that an operator happens to visit can send it.

mod upload;
mod videos;

use std::{io, path::PathBuf, sync::Arc};

use http::{HeaderMap, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::{
    answer::{Answer, preflight, set, text},
    body::Body,
    inbox::Inbox,
    library::Library,
    token::Token,
};
use upload::{Stored, Uploads};
use videos::Videos;

/// Where it is.
const PREFIX: &str = "/api/v1/";
/// The description of it (OpenAPI 3.1).
const OPENAPI: &str = include_str!("api/openapi.json");
/// Methods that it knows.
const METHODS: &str = "GET, HEAD, PUT, POST, DELETE, OPTIONS";
/// Longest name of a video, as that of a folder that `package` makes.
const MAX_SLUG: usize = 90;

/// Why a request is not done: a status, a code for programs and words for people.
struct Refusal(StatusCode, &'static str, String);

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self(status, code, message.into())
    }

    fn unknown(slug: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown-video", format!("There is no video {slug:?}."))
    }

    fn answer(self) -> Answer {
        let Self(status, code, message) = self;
        tracing::debug!(code, message, "refused");
        json(status, &serde_json::json!({ "error": { "code": code, "message": message } }))
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let (status, code) = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (StatusCode::INSUFFICIENT_STORAGE, "disk-full")
            }
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                (StatusCode::INTERNAL_SERVER_ERROR, "read-only")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "disk"),
        };
        tracing::warn!(%error, "a request of the API failed");
        Self::new(status, code, format!("The disk of the seeder says: {error}."))
    }
}

/// The API of one seeder.
pub(crate) struct Api {
    videos: Arc<Videos>,
    uploads: Uploads,
}

impl Api {
    pub(crate) fn new(library: Arc<Library>, state: PathBuf, inbox: Option<Arc<Inbox>>, max_upload: u64) -> Self {
        let videos = Arc::new(Videos::new(library, state, inbox));
        Self { videos, uploads: Uploads::new(max_upload) }
    }

    pub(crate) fn stop(&self) {
        if let Some(inbox) = self.videos.inbox() {
            inbox.stop();
        }
    }

    /// Whether this path is one of the API's.
    pub(crate) fn is_at(path: &str) -> bool {
        path.starts_with(PREFIX)
    }

    /// Answers `request`, which has to carry `token`.
    pub(crate) async fn answer(&self, request: Request<Incoming>, token: Option<&Token>) -> Answer {
        if request.method() == Method::OPTIONS {
            let mut answer = preflight();
            let out = answer.response.headers_mut();
            set(out, header::ALLOW, METHODS);
            set(out, header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            set(out, header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, Content-Range");
            return answer;
        }
        match self.respond(request, token).await {
            Ok(answer) => answer,
            Err(refusal) => {
                let unauthorized = refusal.0 == StatusCode::UNAUTHORIZED;
                let mut answer = refusal.answer();
                if unauthorized {
                    set(answer.response.headers_mut(), header::WWW_AUTHENTICATE, "Bearer");
                }
                answer
            }
        }
    }

    async fn respond(&self, request: Request<Incoming>, token: Option<&Token>) -> Result<Answer, Refusal> {
        let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
        // What it can do is no secret.
        if path == "openapi.json" && matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::OK, OPENAPI);
            set(answer.response.headers_mut(), header::CONTENT_TYPE, "application/json");
            return Ok(answer);
        }
        admit(request.headers(), token)?;
        let parts: Vec<&str> = path.split('/').collect();
        let read = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        match (read.as_str(), parts.as_slice()) {
            ("GET", ["videos"]) => {
                let videos = self.blocking(Videos::list).await?;
                Ok(json(StatusCode::OK, &serde_json::json!({ "videos": videos })))
            }
            ("GET", ["videos", slug]) => {
                let slug = checked(slug)?;
                let video = self.blocking(move |videos| videos.get(&slug)).await?;
                Ok(json(StatusCode::OK, &video))
            }
            ("GET", ["videos", slug, "progress"]) => {
                let slug = checked(slug)?;
                let progress = self.videos.inbox().and_then(|inbox| inbox.of(&slug));
                progress.map(|progress| json(StatusCode::OK, &progress)).ok_or_else(|| Refusal::unknown(&slug))
            }
            ("GET", ["videos", slug, "source"]) => {
                let received = self.uploads.received(self.inbox()?.folder(), &checked(slug)?).await?;
                Ok(json(StatusCode::OK, &serde_json::json!({ "received": received })))
            }
            ("PUT", ["videos", slug, "source"]) => {
                let slug = checked(slug)?;
                let inbox = self.inbox()?;
                let stored = self.uploads.store(inbox, self.videos.root(), &slug, request).await?;
                Ok(match stored {
                    Stored::Part(received) => json(StatusCode::ACCEPTED, &serde_json::json!({ "received": received })),
                    Stored::Whole => json(StatusCode::CREATED, &inbox.of(&slug)),
                })
            }
            ("DELETE", ["videos", slug]) => {
                let slug = checked(slug)?;
                self.blocking(move |videos| videos.delete(&slug)).await?;
                let mut answer = text(StatusCode::NO_CONTENT, "");
                *answer.response.body_mut() = Body::Memory(bytes::Bytes::new());
                Ok(answer)
            }
            ("POST", ["videos", slug, "revoke"]) => {
                let slug = checked(slug)?;
                let id = self.blocking(move |videos| videos.revoke(&slug)).await?;
                Ok(json(StatusCode::OK, &serde_json::json!({ "announceId": id })))
            }
            (_, ["videos"] | ["videos", _] | ["videos", _, "progress" | "source" | "revoke"]) => Err(Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "This is not done here by this method: see /api/v1/openapi.json.",
            )),
            _ => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "unknown-path",
                "There is nothing here: see /api/v1/openapi.json.",
            )),
        }
    }

    fn inbox(&self) -> Result<&Arc<Inbox>, Refusal> {
        self.videos.inbox().ok_or_else(|| {
            let what = "This seeder packages nothing: give it a folder by --inbox DIR.";
            Refusal::new(StatusCode::CONFLICT, "no-inbox", what)
        })
    }

    /// Runs what may have to wait for a disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Videos) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let videos = Arc::clone(&self.videos);
        spawn_blocking(move || work(&videos)).await.map_err(io::Error::other)?
    }
}

/// Lets in who has the token.
fn admit(headers: &HeaderMap, token: Option<&Token>) -> Result<(), Refusal> {
    let Some(token) = token else {
        let what = "This seeder has no API: give it a token by --api-token FILE.";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "no-api", what));
    };
    if token.fits(headers) {
        return Ok(());
    }
    let what = "Send the secret of --api-token: \"Authorization: Bearer …\".";
    Err(Refusal::new(StatusCode::UNAUTHORIZED, "token", what))
}

/// A name that is one.
fn checked(slug: &str) -> Result<String, Refusal> {
    if is_slug(slug) {
        return Ok(slug.to_owned());
    }
    let what = "A video's name has lower-case letters, digits and single dashes between them, at most 90.";
    Err(Refusal::new(StatusCode::BAD_REQUEST, "bad-name", what))
}

fn is_slug(slug: &str) -> bool {
    let plain = slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let dashes = slug.starts_with('-') || slug.ends_with('-') || slug.contains("--");
    (1..=MAX_SLUG).contains(&slug.len()) && plain && !dashes
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // Plain data: it cannot fail to be written.
    let mut answer = text(status, serde_json::to_string_pretty(value).unwrap_or_default());
    set(answer.response.headers_mut(), header::CONTENT_TYPE, "application/json");
    answer
}
