//! HTTP as a browser speaks it for a page of a given origin: one request per connection, bounded in size and time.

use std::{
    io::{self, Read},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use url::Url;

use super::dial::dial;

/// Redirects that are followed, as browsers do (they take 20; more than a few is a fault anyway).
const MAX_REDIRECTS: usize = 5;

/// Longest wait for an answer, and then for its next bytes.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoctorError {
    /// No connection.
    #[error("{host} cannot be reached: {source}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// No HTTP, or broken off.
    #[error("{url}: {reason}")]
    Broken {
        /// What was asked for.
        url: Url,
        /// What was wrong.
        reason: String,
    },
    /// It sends in circles.
    #[error("{url} is redirected more than {MAX_REDIRECTS} times, or to no URL: name the last one")]
    Redirects {
        /// The last one followed.
        url: Url,
    },
    /// There is nothing.
    #[error("{url} is answered with {status}: there is nothing to look at")]
    Status {
        /// What was asked for.
        url: Url,
        /// The answer.
        status: StatusCode,
    },
    /// Neither page, playlist nor site.
    #[error("{url} is neither a page (text/html) nor a playlist (#EXTM3U): name one, or the site by its `/`")]
    Unknown {
        /// What was asked for.
        url: Url,
    },
    /// A URL of another kind.
    #[error("{url}: only http: and https: URLs (ws: and wss: for signaling) can be looked at")]
    Scheme {
        /// What was asked for.
        url: Url,
    },
    /// Built without TLS.
    #[error("{url}: this program was built without TLS: build it with `--features tls`")]
    NoTls {
        /// What was asked for.
        url: Url,
    },
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    /// After redirects.
    pub(super) url: Url,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// As sent; of [`Client::text`] unpacked.
    pub(super) body: Vec<u8>,
    /// The body is longer than what was read of it.
    pub(super) cut: bool,
    /// When the answer began to arrive.
    pub(super) at: SystemTime,
}

impl Reply {
    pub(super) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// All values of a header as one text; empty if there is none.
    pub(super) fn header(&self, name: &HeaderName) -> String {
        let values = self.headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn is_type(&self, media_type: &str) -> bool {
        let sent = self.header(&header::CONTENT_TYPE).to_ascii_lowercase();
        sent.split(';').next().is_some_and(|sent| sent.trim() == media_type)
    }
}

/// Asks for a page of one origin.
pub(super) struct Client {
    origin: String,
}

impl Client {
    pub(super) fn new(origin: String) -> Self {
        Self { origin }
    }

    /// Origin of the page.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    pub(super) fn set_origin(&mut self, origin: String) {
        self.origin = origin;
    }

    /// A text of at most `limit` bytes, asked for compressed.
    pub(super) async fn text(&self, url: &Url, limit: usize) -> Result<Reply, DoctorError> {
        let mut reply = self.ask(&Method::GET, url, &[(header::ACCEPT_ENCODING, "gzip".to_owned())], limit).await?;
        if reply.header(&header::CONTENT_ENCODING).eq_ignore_ascii_case("gzip") {
            let mut plain = Vec::new();
            let bounded = flate2::read::MultiGzDecoder::new(&reply.body[..]).take(limit as u64);
            let unpacked = { bounded }.read_to_end(&mut plain);
            unpacked.map_err(|error| DoctorError::Broken { url: url.clone(), reason: error.to_string() })?;
            reply.body = plain;
        }
        Ok(reply)
    }

    /// Any request; at most `limit` bytes of the answer are read.
    pub(super) async fn ask(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(HeaderName, String)],
        limit: usize,
    ) -> Result<Reply, DoctorError> {
        let mut url = url.clone();
        url.set_fragment(None);
        for _ in 0..=MAX_REDIRECTS {
            let reply = self.send(method, &url, headers, limit).await?;
            // Browsers do not follow a preflight.
            if !reply.status.is_redirection() || reply.status == StatusCode::NOT_MODIFIED || method == Method::OPTIONS {
                return Ok(reply);
            }
            match url.join(&reply.header(&header::LOCATION)) {
                Ok(next) if reply.headers.contains_key(header::LOCATION) => url = next,
                _ => break,
            }
        }
        Err(DoctorError::Redirects { url })
    }

    async fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(HeaderName, String)],
        limit: usize,
    ) -> Result<Reply, DoctorError> {
        let broken = |reason: String| DoctorError::Broken { url: url.clone(), reason };
        let late = |_| broken(format!("no answer within {} s", PATIENCE.as_secs()));
        let mut request = Request::builder()
            .method(method)
            .uri(&url[url::Position::BeforePath..url::Position::AfterQuery])
            .header(header::HOST, &url[url::Position::BeforeHost..url::Position::AfterPort])
            .header(header::ORIGIN, &self.origin)
            .header(header::USER_AGENT, concat!("marea-seeder/", env!("CARGO_PKG_VERSION"), " (doctor)"))
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| broken(error.to_string()))?;
        let stream = dial(url).await?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (mut connection, driver) = shaken.map_err(|error| broken(error.to_string()))?;
        let driver = tokio::spawn(driver);
        let sent = timeout(PATIENCE, connection.send_request(request)).await.map_err(late)?;
        let response = sent.map_err(|error| broken(error.to_string()))?;
        let at = SystemTime::now();
        let (head, mut incoming) = response.into_parts();
        let (mut body, mut cut) = (Vec::new(), false);
        while let Some(frame) = timeout(PATIENCE, incoming.frame()).await.map_err(late)? {
            let frame = frame.map_err(|error| broken(format!("the answer breaks off: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            let room = limit - body.len();
            body.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                cut = true;
                break;
            }
        }
        driver.abort();
        Ok(Reply { url: url.clone(), status: head.status, headers: head.headers, body, cut, at })
    }
}

/// Whether `url` is of `origin`: then CORS has no say.
pub(super) fn is_of(url: &Url, origin: &str) -> bool {
    url.origin().ascii_serialization() == origin
}
