//! Connections as a browser makes them: TCP, with TLS where the URL says so.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use url::Url;

use super::DoctorError;

/// Longest wait for a connection. Viewers have left by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection of either kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to the server of an `http:`, `https:`, `ws:` or `wss:` URL.
pub(crate) async fn dial(url: &Url) -> Result<Box<dyn Stream>, DoctorError> {
    let addresses = addresses(url).await?;
    dial_at(url, &addresses).await
}

/// The addresses of the server of a URL.
pub(crate) async fn addresses(url: &Url) -> Result<Vec<SocketAddr>, DoctorError> {
    let unreachable = |source| DoctorError::Unreachable { host: authority(url), source };
    let found = timeout(PATIENCE, lookup_host(authority(url))).await;
    let found = found.map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?.map_err(unreachable)?;
    Ok(found.collect())
}

/// Connects to the server of a URL at one of `addresses`, and nowhere else.
pub(crate) async fn dial_at(url: &Url, addresses: &[SocketAddr]) -> Result<Box<dyn Stream>, DoctorError> {
    let secure = match url.scheme() {
        "http" | "ws" => false,
        "https" | "wss" => true,
        _ => return Err(DoctorError::Scheme { url: url.clone() }),
    };
    let host = url.host_str().unwrap_or("");
    let unreachable = |source| DoctorError::Unreachable { host: authority(url), source };
    let dialled = timeout(PATIENCE, TcpStream::connect(addresses)).await;
    let stream = dialled.map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?.map_err(unreachable)?;
    let _ = stream.set_nodelay(true);
    if !secure {
        return Ok(Box::new(stream));
    }
    let wrapped = timeout(PATIENCE, wrap(stream, url, host.trim_matches(['[', ']']))).await;
    wrapped.map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?
}

/// Host and port.
fn authority(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or(80);
    format!("{}:{port}", url.host_str().unwrap_or(""))
}

#[cfg(feature = "tls")]
async fn wrap(stream: TcpStream, _: &Url, host: &str) -> Result<Box<dyn Stream>, DoctorError> {
    use std::sync::Arc;
    use tokio_rustls::{
        TlsConnector,
        rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
    };
    let refused = |source| DoctorError::Unreachable { host: host.to_owned(), source };
    let mut roots = RootCertStore::empty();
    // One bad certificate among the system's does not make the others worse.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(refused(io::Error::other(
            "this machine has no root certificates: install them (Debian: apt-get install ca-certificates)",
        )));
    }
    // Named, since with two providers in one program there is no default.
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| refused(io::Error::other(error)))?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| refused(io::Error::other(error)))?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(refused)?;
    Ok(Box::new(stream))
}

#[cfg(not(feature = "tls"))]
async fn wrap(_: TcpStream, url: &Url, _: &str) -> Result<Box<dyn Stream>, DoctorError> {
    Err(DoctorError::NoTls { url: url.clone() })
}
