//! HTTP from one origin: bounded in size and time, never to another host.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use url::Url;

use crate::{
    config::MIRROR_PATIENCE,
    doctor::{DoctorError, dial::dial},
};

/// Redirects that are followed, all at the same origin.
const MAX_REDIRECTS: usize = 5;

/// Why something was not fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The origin does not answer.
    #[error("{host} cannot be reached: {source}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// It answered something else than what was asked for.
    #[error("{url} was answered with {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// It sends to another place, or in circles.
    #[error("{url} leads to {to}, and a mirror asks only where it was sent to: name that URL")]
    Redirected {
        /// What was asked for.
        url: String,
        /// `Location`.
        to: String,
    },
    /// More bytes than there should be.
    #[error("{url} is larger than the {limit} bytes expected")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// Bytes.
        limit: u64,
    },
    /// The answer ended early, was no HTTP, or took too long.
    #[error("{url}: {reason}")]
    Broken {
        /// What was asked for.
        url: String,
        /// What was wrong.
        reason: String,
    },
    /// The origin gives no byte ranges.
    #[error("{url}: the origin gives no byte ranges, which this video is made of")]
    NoRange {
        /// What was asked for.
        url: String,
    },
    /// What came could not be kept.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

impl FetchError {
    /// The status that the origin answered with, if it did.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// One connection to an origin, opened when needed and kept.
pub(crate) struct Fetcher {
    /// Scheme, host and port; nothing else is asked.
    origin: Url,
    connection: Option<http1::SendRequest<Empty<Bytes>>>,
}

impl Fetcher {
    /// For everything at the origin of `url`.
    pub(crate) fn new(url: &Url) -> Self {
        Self { origin: url.clone(), connection: None }
    }

    fn host(&self) -> String {
        format!("{}:{}", self.origin.host_str().unwrap_or(""), self.origin.port_or_known_default().unwrap_or(80))
    }

    /// A text of at most `limit` bytes, and where redirects led.
    pub(crate) async fn text(&mut self, url: &Url, limit: u64) -> Result<(Url, Vec<u8>), FetchError> {
        let (url, response) = self.follow(url).await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status { url: url.into(), status: response.status() });
        }
        let mut bytes = Vec::new();
        let mut body = response.into_body();
        while let Some(chunk) = next(&mut body, &url).await? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                self.connection = None;
                return Err(FetchError::TooLarge { url: url.into(), limit });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((url, bytes))
    }

    /// Exactly `len` bytes from `start` of what is at `url` (all of it, if not `part`), given to `sink` as they come.
    pub(crate) async fn bytes(
        &mut self,
        url: &Url,
        (start, len): (u64, u64),
        part: bool,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), FetchError> {
        let range = part.then(|| format!("bytes={start}-{}", start + len - 1));
        let response = self.send(url, range.as_deref()).await?;
        let (status, wanted) = (response.status(), if part { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK });
        if part && status == StatusCode::OK {
            self.connection = None;
            return Err(FetchError::NoRange { url: url.to_string() });
        }
        if status != wanted {
            return Err(FetchError::Status { url: url.to_string(), status });
        }
        let mut body = response.into_body();
        let mut left = len;
        while let Some(chunk) = next(&mut body, url).await? {
            if chunk.len() as u64 > left {
                self.connection = None;
                return Err(FetchError::TooLarge { url: url.to_string(), limit: len });
            }
            left -= chunk.len() as u64;
            sink(&chunk)?;
        }
        if left > 0 {
            return Err(FetchError::Broken {
                url: url.to_string(),
                reason: format!("the answer is {left} bytes short"),
            });
        }
        Ok(())
    }

    async fn follow(&mut self, url: &Url) -> Result<(Url, Response<Incoming>), FetchError> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&url, None).await?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return Ok((url, response));
            }
            let to = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("").to_owned();
            self.connection = None;
            url = match url.join(&to) {
                Ok(next) if next.origin() == self.origin.origin() => next,
                _ => return Err(FetchError::Redirected { url: url.into(), to }),
            };
        }
        Err(FetchError::Redirected { to: url.to_string(), url: url.into() })
    }

    async fn send(&mut self, url: &Url, range: Option<&str>) -> Result<Response<Incoming>, FetchError> {
        if url.origin() != self.origin.origin() {
            return Err(FetchError::Redirected { url: self.origin.to_string(), to: url.to_string() });
        }
        let broken = |reason: String| FetchError::Broken { url: url.to_string(), reason };
        let mut request = Request::builder()
            .uri(&url[url::Position::BeforePath..url::Position::AfterQuery])
            .header(header::HOST, &url[url::Position::BeforeHost..url::Position::AfterPort])
            // Hashes are over the bytes as they are.
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::USER_AGENT, concat!("marea-seeder/", env!("CARGO_PKG_VERSION"), " (mirror)"));
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        let request = request.body(Empty::new()).map_err(|error| broken(error.to_string()))?;
        // A connection that was kept may be closed by now: then a new one, once.
        let kept = self.connection.take();
        for connection in [kept, None] {
            let fresh = connection.is_none();
            let mut connection = match connection {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let sent = async {
                connection.ready().await?;
                connection.send_request(request.clone()).await
            };
            match timeout(MIRROR_PATIENCE, sent).await {
                Ok(Ok(response)) => {
                    self.connection = Some(connection);
                    return Ok(response);
                }
                Ok(Err(error)) if fresh => return Err(broken(error.to_string())),
                Err(_) => return Err(broken(format!("no answer within {} s", MIRROR_PATIENCE.as_secs()))),
                Ok(Err(_)) => {}
            }
        }
        Err(broken("the origin closes every connection".to_owned()))
    }

    async fn connect(&self) -> Result<http1::SendRequest<Empty<Bytes>>, FetchError> {
        let unreachable = |source| FetchError::Unreachable { host: self.host(), source };
        let stream = dial(&self.origin).await.map_err(|error| {
            unreachable(match error {
                DoctorError::Unreachable { source, .. } => source,
                other => io::Error::other(other),
            })
        })?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (connection, driver) = shaken.map_err(|error| unreachable(io::Error::other(error)))?;
        tokio::spawn(driver);
        Ok(connection)
    }
}

/// The next bytes of a body; none at its end.
async fn next(body: &mut Incoming, url: &Url) -> Result<Option<Bytes>, FetchError> {
    let broken = |reason: String| FetchError::Broken { url: url.to_string(), reason };
    loop {
        match timeout(MIRROR_PATIENCE, body.frame()).await {
            Ok(None) => return Ok(None),
            // Trailers say nothing here.
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(Some(Err(error))) => return Err(broken(error.to_string())),
            Err(_) => return Err(broken(format!("no byte for {} s", Duration::as_secs(&MIRROR_PATIENCE)))),
        }
    }
}
