//! Why a seeder does not start, or a folder cannot be annotated.

use std::{io, net::SocketAddr, path::PathBuf};

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
    /// An address is taken, or not of this machine, or needs more rights.
    #[error("cannot listen at {addr}: {source}. Choose another address or stop what listens there")]
    Listen {
        /// As given.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}
