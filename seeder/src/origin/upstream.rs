//! HTTP to the origin: kept connections, redirects only to where they may lead, one more try on a connection that was closed.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use marea_swarm::sdp::is_public;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use url::Url;

use crate::{
    config::{ORIGIN_CONNECTIONS, ORIGIN_IDLE, ORIGIN_IDLE_TIME, ORIGIN_PATIENCE},
    doctor::{DoctorError, dial},
};

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// Why the origin gave nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    /// No connection, or no answer in time: whatever else is asked of it now fares no better.
    #[error("{host} does not answer: {reason}")]
    Away { host: String, reason: String },
    /// It answered something that is no whole answer.
    #[error("{url}: {reason}")]
    Broken { url: String, reason: String },
    /// It sends to a place that is not asked.
    #[error("{url} leads to {to}, {reason}")]
    Refused { url: String, to: String, reason: &'static str },
}

/// An answer: its body holds a place among the connections until it is dropped.
pub(super) struct Reply {
    /// After redirects.
    pub(super) url: Url,
    pub(super) response: Response<Incoming>,
    pub(super) place: OwnedSemaphorePermit,
}

type Connection = http1::SendRequest<Empty<Bytes>>;

/// Connections and since when they wait, by scheme, host and port.
type Idle = HashMap<String, Vec<(Instant, Connection)>>;

/// Finds the addresses of a URL's host.
type Resolve = Box<dyn Fn(&Url) -> futures_util::future::BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

pub(super) struct Upstream {
    /// Ends in a slash.
    base: Url,
    /// Hosts to which redirects may lead beside the origin's own.
    hosts: Vec<String>,
    resolve: Resolve,
    /// Connections that wait for something to do.
    idle: Arc<Mutex<Idle>>,
    places: Arc<Semaphore>,
}

impl Upstream {
    pub(super) fn new(base: Url, hosts: Vec<String>) -> Self {
        let resolve: Resolve = Box::new(|url| {
            let url = url.clone();
            Box::pin(async move { dial::addresses(&url).await.map_err(io_error) })
        });
        let places = Arc::new(Semaphore::new(ORIGIN_CONNECTIONS));
        Self { base, hosts, resolve, idle: Arc::default(), places }
    }

    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// Asks for `target` (path and query below the origin's URL) and follows redirects. `headers` are sent as they are.
    pub(super) async fn ask(&self, method: &Method, target: &str, headers: &HeaderMap) -> Result<Reply, UpstreamError> {
        let text = format!("{}{target}", self.base);
        let broken = |reason: String| UpstreamError::Broken { url: text.clone(), reason };
        let mut url = Url::parse(&text).map_err(|error| broken(error.to_string()))?;
        // Waits for as long as the others need: each of those has its own limits.
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|error| broken(error.to_string()))?;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(method, &url, headers).await?;
            let status = response.status();
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return Ok(Reply { url, response, place });
            }
            let to = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("").to_owned();
            let refused = |reason| UpstreamError::Refused { url: url.to_string(), to: to.clone(), reason };
            let next = url.join(&to).map_err(|_| refused("which is no URL"))?;
            if next.origin() != self.base.origin() {
                self.check(&next).map_err(refused)?;
            }
            url = next;
        }
        Err(UpstreamError::Refused { to: url.to_string(), url: text, reason: "after too many redirects" })
    }

    /// Whether another place than the origin may be asked.
    fn check(&self, url: &Url) -> Result<(), &'static str> {
        let host = url.host_str().unwrap_or("");
        if !matches!(url.scheme(), "http" | "https") {
            return Err("which is not asked by HTTP");
        }
        if !self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host)) {
            return Err("which is another host: name it in --origin-host if it may be asked");
        }
        Ok(())
    }

    async fn send(&self, method: &Method, url: &Url, headers: &HeaderMap) -> Result<Response<Incoming>, UpstreamError> {
        let broken = |reason: String| UpstreamError::Broken { url: url.to_string(), reason };
        let away = |reason: String| UpstreamError::Away { host: host(url), reason };
        let mut request = Request::builder()
            .method(method)
            .uri(&url[url::Position::BeforePath..url::Position::AfterQuery])
            .header(header::HOST, &url[url::Position::BeforeHost..url::Position::AfterPort])
            // Hashes are over the bytes as they are.
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::USER_AGENT, concat!("marea-seeder/", env!("CARGO_PKG_VERSION")));
        // Another host is not who a client trusts with these.
        let foreign = url.origin() != self.base.origin();
        let secret = |name: &http::HeaderName| matches!(*name, header::COOKIE | header::AUTHORIZATION);
        for (name, value) in headers.iter().filter(|(name, _)| !(foreign && secret(name))) {
            request = request.header(name, value);
        }
        let request = request.body(Empty::new()).map_err(|error| broken(error.to_string()))?;
        loop {
            let kept = self.take(url);
            let fresh = kept.is_none();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect(url).await?,
            };
            let sent = async {
                connection.ready().await?;
                connection.send_request(request.clone()).await
            };
            match timeout(ORIGIN_PATIENCE, sent).await {
                Ok(Ok(response)) => {
                    self.keep(url, connection);
                    return Ok(response);
                }
                // One that was kept had just been closed: nothing was sent. Whatever was sent is not sent twice.
                Ok(Err(error)) if !fresh && (error.is_canceled() || error.is_closed()) => {}
                Ok(Err(error)) => return Err(broken(error.to_string())),
                Err(_) => return Err(away(format!("nothing came for {} s", ORIGIN_PATIENCE.as_secs()))),
            }
        }
    }

    async fn connect(&self, url: &Url) -> Result<Connection, UpstreamError> {
        let away = |reason: String| UpstreamError::Away { host: host(url), reason };
        let addresses = (self.resolve)(url).await.map_err(|error| away(error.to_string()))?;
        // The operator named the origin, wherever it is. Other places are found in answers: never this machine or its network.
        let private = || addresses.iter().any(|address| !is_public(address.ip()));
        if url.origin() != self.base.origin() && private() {
            let reason = "whose address is not a public one";
            return Err(UpstreamError::Refused { url: self.base.to_string(), to: url.to_string(), reason });
        }
        // Those that were looked at: a name that means another address by now leads nowhere else.
        let stream = dial::dial_at(url, &addresses).await.map_err(|error| away(io_error(error).to_string()))?;
        let shaken = timeout(ORIGIN_PATIENCE, http1::handshake(TokioIo::new(stream))).await;
        let shaken = shaken.map_err(|_| away("no handshake in time".to_owned()))?;
        let (connection, driver) = shaken.map_err(|error| away(error.to_string()))?;
        tokio::spawn(driver);
        Ok(connection)
    }

    fn take(&self, url: &Url) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle.get_mut(&url.origin().ascii_serialization())?;
        loop {
            let (since, connection) = waiting.pop()?;
            // Rather a new one than one that the origin is about to close.
            if connection.is_ready() && since.elapsed() < ORIGIN_IDLE_TIME {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection once the answer on it has been read.
    fn keep(&self, url: &Url, mut connection: Connection) {
        let (idle, origin) = (Arc::clone(&self.idle), url.origin().ascii_serialization());
        tokio::spawn(async move {
            if connection.ready().await.is_ok() {
                let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                let waiting = idle.entry(origin).or_default();
                waiting.retain(|(since, connection)| !connection.is_closed() && since.elapsed() < ORIGIN_IDLE_TIME);
                if waiting.len() < ORIGIN_IDLE {
                    waiting.push((Instant::now(), connection));
                }
            }
        });
    }
}

/// The next bytes of a body; none at its end. Any error means that it is not whole.
pub(super) async fn next(body: &mut Incoming) -> Result<Option<Bytes>, String> {
    loop {
        match timeout(ORIGIN_PATIENCE, body.frame()).await {
            Ok(None) => return Ok(None),
            // Trailers say nothing here.
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(Some(Err(error))) => return Err(format!("the answer breaks off: {error}")),
            Err(_) => return Err(format!("no byte came for {} s", ORIGIN_PATIENCE.as_secs())),
        }
    }
}

fn host(url: &Url) -> String {
    url[url::Position::BeforeHost..url::Position::AfterPort].to_owned()
}

fn io_error(error: DoctorError) -> io::Error {
    match error {
        DoctorError::Unreachable { source, .. } => source,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn only_the_origin_and_named_hosts_are_asked() {
        let upstream = Upstream::new("http://127.0.0.1:9/".parse().unwrap(), vec!["cdn.example".to_owned()]);
        for (url, allowed) in [
            ("https://CDN.example/x", true),
            ("http://cdn.example:8080/x", true),
            ("https://cdn.example.evil/x", false),
            ("http://127.0.0.1:22/x", false),
            ("http://[::1]/x", false),
            ("http://169.254.169.254/latest/meta-data/", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(upstream.check(&url.parse().unwrap()).is_ok(), allowed, "{url}");
        }
    }

    /// A name that is public when it is looked at and this machine's own when it is looked up again.
    #[tokio::test]
    async fn a_rebinding_name_is_refused_or_leads_where_it_was_checked() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url: Url = format!("http://cdn.example:{port}/x").parse().unwrap();
        let mut upstream = Upstream::new("http://origin.example/".parse().unwrap(), vec!["cdn.example".to_owned()]);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        upstream.resolve = Box::new(move |_| {
            // 192.88.99.0/24 is routed nowhere, but has to be taken for public here: so one of 2000::/3 that nobody has.
            let addresses = match count.fetch_add(1, Ordering::Relaxed) {
                0 => vec![SocketAddr::new("2a00:1::1".parse().unwrap(), port)],
                1 => vec![([127, 0, 0, 1], port).into()],
                _ => vec![([93, 184, 216, 34], port).into(), ([127, 0, 0, 1], port).into()],
            };
            Box::pin(async move { Ok(addresses) })
        });
        // Public when it was looked at: connected there, with no second look, and nothing is there.
        let first = timeout(std::time::Duration::from_millis(300), upstream.connect(&url)).await;
        assert!(!matches!(first, Ok(Ok(_))), "connected to {first:?}");
        assert_eq!(asked.load(Ordering::Relaxed), 1, "looked up again after the check");
        for _ in 0..2 {
            let refused = upstream.connect(&url).await.unwrap_err();
            assert!(matches!(refused, UpstreamError::Refused { .. }), "{refused}");
        }
        let came = timeout(std::time::Duration::from_millis(50), listener.accept()).await;
        assert!(came.is_err(), "this machine was connected to");
    }
}
