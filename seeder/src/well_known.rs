//! `/.well-known/marea`: what everybody may know of a site, as JSON (`docs/signing.md`).

use std::sync::{PoisonError, RwLock};

use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};

use crate::{
    answer::{Answer, Packed, Representation, Source},
    config::VOD_PLAYLIST_AGE,
    keys::SiteKey,
    metrics::{Cache, Kind},
    revoked::Revocation,
};

/// Where it is answered (RFC 8615).
pub(crate) const PATH: &str = "/.well-known/marea";

/// Version of the document.
pub(crate) const VERSION: u32 = 1;

/// The document. Readers ignore fields that they do not know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Document {
    pub(crate) version: u32,
    /// Every key that signs, will sign or did.
    pub(crate) keys: Vec<SiteKey>,
    /// Paths of the playlists of all videos, if the owner lists them (`--list-videos`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) videos: Option<Vec<String>>,
    /// Videos that were withdrawn.
    #[serde(default)]
    pub(crate) revoked: Vec<Revocation>,
}

/// What is answered now.
#[derive(Default)]
pub(crate) struct WellKnown {
    keys: RwLock<Vec<SiteKey>>,
}

impl WellKnown {
    pub(crate) fn set_keys(&self, keys: Vec<SiteKey>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    fn document(&self, videos: Option<Vec<String>>, revoked: Vec<Revocation>) -> Document {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        Document { version: VERSION, keys, videos, revoked }
    }

    /// The answer to a GET or HEAD with `headers`. `videos` are paths of playlists, if they are to be listed.
    pub(crate) fn answer(
        &self,
        videos: Option<Vec<String>>,
        revoked: Vec<Revocation>,
        method: &Method,
        headers: &HeaderMap,
    ) -> Answer {
        // Plain data: it cannot fail to be written.
        let mut body = serde_json::to_vec_pretty(&self.document(videos, revoked)).unwrap_or_default();
        body.push(b'\n');
        let representation = Representation {
            etag: format!("\"{}\"", &blake3::hash(&body).to_hex()[..32]),
            source: Source::Packed(Packed::new(body.into())),
            media_type: "application/json",
            last_modified: None,
            cache_control: format!("public, max-age={VOD_PLAYLIST_AGE}"),
            kind: Kind::other,
            cache: Cache::none,
        };
        representation.answer(method, headers)
    }
}
