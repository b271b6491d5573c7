//! TLS for viewers: certificate and key from PEM files, read again at SIGHUP, HTTP/2 by ALPN.

#[cfg(feature = "tls")]
pub(crate) use with_tls::Tls;
#[cfg(not(feature = "tls"))]
pub(crate) use without_tls::Tls;

#[cfg(feature = "tls")]
mod with_tls {
    use std::{
        path::Path,
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

    use crate::error::SeederError;

    /// What connections are wrapped in.
    pub(crate) struct Tls(RwLock<Arc<ServerConfig>>);

    impl Tls {
        /// Reads both files.
        ///
        /// # Errors
        /// What is wrong with them.
        pub(crate) fn load(cert: &Path, key: &Path) -> Result<Self, SeederError> {
            Ok(Self(RwLock::new(config(cert, key)?)))
        }

        /// Reads them again: what is wrong leaves things as they were.
        ///
        /// # Errors
        /// What is wrong with them.
        pub(crate) fn reload(&self, cert: &Path, key: &Path) -> Result<(), SeederError> {
            let config = config(cert, key)?;
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
            Ok(())
        }

        /// Shakes hands; and whether HTTP/2 was agreed upon.
        pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<(TlsStream<TcpStream>, bool)> {
            let config = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
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

    fn config(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, SeederError> {
        let refused = |path: &Path, reason: String| SeederError::Tls { path: path.to_owned(), reason };
        let read = |path: &Path| std::fs::read(path).map_err(|error| refused(path, error.to_string()));
        let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&read(cert)?).collect();
        let chain = chain.map_err(|error| refused(cert, error.to_string()))?;
        if chain.is_empty() {
            return Err(refused(cert, "no certificate in it: give a PEM file with the whole chain".to_owned()));
        }
        let secret = PrivateKeyDer::from_pem_slice(&read(key)?);
        let secret = secret.map_err(|error| refused(key, format!("no private key in PEM in it ({error})")))?;
        let builder = ServerConfig::builder_with_provider(Arc::new(provider()));
        let builder =
            builder.with_safe_default_protocol_versions().map_err(|error| refused(cert, error.to_string()))?;
        let config = builder.with_no_client_auth().with_single_cert(chain, secret);
        let mut config = config.map_err(|error| refused(cert, format!("{error}. Is {} its key?", key.display())))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ignore_client_order = true;
        Ok(Arc::new(config))
    }
}

#[cfg(not(feature = "tls"))]
mod without_tls {
    use std::{io, path::Path};

    use tokio::net::TcpStream;

    use crate::error::SeederError;

    /// Never made: this program was built without TLS.
    pub(crate) enum Tls {}

    impl Tls {
        /// # Errors
        /// Always.
        pub(crate) fn load(cert: &Path, _: &Path) -> Result<Self, SeederError> {
            let reason = "this program was built without TLS: build it with `--features tls`".to_owned();
            Err(SeederError::Tls { path: cert.to_owned(), reason })
        }

        pub(crate) fn reload(&self, _: &Path, _: &Path) -> Result<(), SeederError> {
            match *self {}
        }

        pub(crate) async fn accept(&self, _: TcpStream) -> io::Result<(TcpStream, bool)> {
            match *self {}
        }
    }
}
