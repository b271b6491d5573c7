//! TLS for those who connect: certificate and key from PEM files, read again at SIGHUP. `marea-seeder` uses it, too.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::CryptoProvider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
    server::TlsStream,
};

/// What connections are wrapped in.
#[derive(Debug)]
pub struct Tls {
    alpn: &'static [&'static str],
    config: RwLock<Arc<ServerConfig>>,
}

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TlsError {
    /// As given.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl Tls {
    /// Reads both files, PEM. `alpn` are the protocols that the server speaks, the best first.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn load(cert: &Path, key: &Path, alpn: &'static [&'static str]) -> Result<Self, TlsError> {
        Ok(Self { alpn, config: RwLock::new(config(cert, key, alpn)?) })
    }

    /// Reads them again: what is wrong leaves things as they were.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn reload(&self, cert: &Path, key: &Path) -> Result<(), TlsError> {
        let config = config(cert, key, self.alpn)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Shakes hands; and whether HTTP/2 was agreed upon.
    ///
    /// # Errors
    /// The client speaks no TLS that is acceptable, or leaves.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<(TlsStream<TcpStream>, bool)> {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((stream, h2))
    }
}

fn provider() -> CryptoProvider {
    #[cfg(feature = "aws-lc")]
    let mut provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc"))]
    let mut provider = tokio_rustls::rustls::crypto::ring::default_provider();
    // What a film needs no more of than AES-128 costs a third less; a client that wants another gets it.
    provider.cipher_suites.sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128"));
    provider
}

fn config(cert: &Path, key: &Path, alpn: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
    let refused = |path: &Path, reason: String| TlsError { path: path.to_owned(), reason };
    let read = |path: &Path| std::fs::read(path).map_err(|error| refused(path, error.to_string()));
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&read(cert)?).collect();
    let chain = chain.map_err(|error| refused(cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(refused(cert, "no certificate in it: give a PEM file with the whole chain".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?);
    let secret = secret.map_err(|error| refused(key, format!("no private key in PEM in it ({error})")))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| refused(cert, error.to_string()))?;
    let config = builder.with_no_client_auth().with_single_cert(chain, secret);
    let mut config = config.map_err(|error| refused(cert, format!("{error}. Is {} its key?", key.display())))?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}
