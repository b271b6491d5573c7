//! What is below the root.

use std::{io, sync::Arc};

use bytes::Bytes;

use crate::{
    config::Config,
    files::{FileKey, Root},
    metrics::Metrics,
};

/// A playlist as it is served.
pub(crate) struct Tagged {
    pub(crate) bytes: Bytes,
    pub(crate) etag: String,
    pub(crate) max_age: u64,
    pub(crate) hit: bool,
}

/// A piece list file.
pub(crate) struct List {
    pub(crate) bytes: Bytes,
    pub(crate) etag: String,
}

/// What playlists say of a file.
pub(crate) struct Known {
    pub(crate) init: bool,
    pub(crate) named_by_hash: bool,
}

pub(crate) struct Library {
    root: Root,
}

impl Library {
    pub(crate) fn start(root: Root, _config: &Config, _metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { root })
    }
    pub(crate) async fn first_scan(&self) {}
    pub(crate) fn rescan(&self) {}
    pub(crate) fn stop(&self) {}
    pub(crate) fn health(&self) -> String {
        "ok".to_owned()
    }
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }
    pub(crate) async fn playlist(&self, _rel: &str, _signaling: Option<&str>) -> io::Result<Option<Tagged>> {
        Ok(None)
    }
    pub(crate) async fn list(&self, _rel: &str) -> Option<List> {
        None
    }
    pub(crate) fn touch(&self, _rel: &str, _key: FileKey, _range: Option<(u64, u64)>) -> Known {
        Known { init: false, named_by_hash: false }
    }
}
