//! TLS for viewers: certificate and key from PEM files, read again at SIGHUP, HTTP/2 by ALPN.

#[cfg(feature = "tls")]
pub(crate) use with_tls::Tls;
#[cfg(not(feature = "tls"))]
pub(crate) use without_tls::Tls;

#[cfg(feature = "tls")]
mod with_tls {
    use std::{io, path::Path};

    use marea_signaling::tls::{self, TlsError};
    use tokio::net::TcpStream;
    use tokio_rustls::server::TlsStream;

    use crate::error::SeederError;

    /// What connections are wrapped in.
    pub(crate) struct Tls(tls::Tls);

    impl Tls {
        /// Reads both files.
        ///
        /// # Errors
        /// What is wrong with them.
        pub(crate) fn load(cert: &Path, key: &Path) -> Result<Self, SeederError> {
            tls::Tls::load(cert, key, &["h2", "http/1.1"]).map(Self).map_err(refused)
        }

        /// Reads them again: what is wrong leaves things as they were.
        ///
        /// # Errors
        /// What is wrong with them.
        pub(crate) fn reload(&self, cert: &Path, key: &Path) -> Result<(), SeederError> {
            self.0.reload(cert, key).map_err(refused)
        }

        /// Shakes hands; and whether HTTP/2 was agreed upon.
        pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, bool)> {
            self.0.accept(stream).await
        }
    }

    fn refused(TlsError { path, reason }: TlsError) -> SeederError {
        SeederError::Tls { path, reason }
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
