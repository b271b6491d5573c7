//! Why a seeder does not start, or a folder cannot be annotated.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::keys::KeyError;

/// Why a seeder does not start or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeederError {
    /// The folder to serve is not there, is no folder, or must not be read.
    #[error("--root {}: {source}. Name a folder that this user may read", path.display())]
    Root {
        /// As given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The state folder would be served.
    #[error("--state {} lies in the served folder: choose one outside of it or a hidden one", path.display())]
    StateServed {
        /// As given.
        path: PathBuf,
    },
    /// The token file cannot be used.
    #[error("--api-token {}: {reason}. Make one by `openssl rand -hex 32`", path.display())]
    Token {
        /// As given.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system gives no threads.
    #[error("no thread to serve with: {0}")]
    Threads(#[source] io::Error),
    /// Certificate or key cannot be used.
    #[error("{}: {reason}", path.display())]
    Tls {
        /// As given.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The cache of the origin cannot be used.
    #[error("the cache in {}: {source}. If another seeder uses it, give this one its own --state", path.display())]
    Cache {
        /// The state folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key file cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key that lets it be an edge cannot be used.
    #[error("--peer-key: {0}")]
    PeerKey(#[source] marea_signaling::token::KeyError),
    /// The inbox cannot be used.
    #[error("--inbox {}: {source}. Name a folder outside of --root that this user may write to", path.display())]
    Inbox {
        /// As given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[source] io::Error),
    /// An address is taken, or not of this machine, or needs more rights.
    #[error("cannot listen at {addr}: {source}. Choose another address or stop what listens there")]
    Listen {
        /// As given.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}
