//! Videos that were withdrawn: kept in the state folder, told at `/.well-known/marea`, never served again.
//!
//! A revocation names the announce id, from which the video id cannot be had, so that the list tells nobody which video it was.
//! With a key it is signed, for good, and counts wherever it comes from.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, VerifyingKey};
use marea_signaling::AnnounceId;
use serde::{Deserialize, Serialize};

use crate::{
    atomic,
    files::Root,
    server,
    sign::{PublicKey, Signer, now_ms},
    video,
};

/// The file in the state folder.
const FILE: &str = "revoked.json";

/// Version of the file.
const VERSION: u32 = 1;

/// First line of what is signed.
const CONTEXT: &str = "marea-revocation-1";

/// One video that was withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revocation {
    /// Its announce id.
    pub(crate) video: String,
    /// Unix milliseconds.
    at: u64,
    /// Who says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<PublicKey>,
    /// Ed25519 by it over `marea-revocation-1` LF `video` LF `at` LF, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    revoked: Vec<Revocation>,
}

/// Why a video was not withdrawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// The root or its state folder cannot be used.
    #[error("{}: {source}. Name the folders that `serve` is given, as a user who may write the state", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The state folder would be served.
    #[error(transparent)]
    State(#[from] crate::SeederError),
    /// There is no such video.
    #[error("{0:?} is neither the id of a video nor a playlist or folder below --root that has one (marea.json)")]
    Unknown(String),
}

impl Revocation {
    fn new(video: AnnounceId, signer: Option<&Signer>) -> Self {
        let (video, at) = (video.to_string(), now_ms());
        let signature = signer.map(|signer| BASE64URL_NOPAD.encode(&signer.sign(&message(&video, at))));
        Self { video, at, key: signer.map(Signer::public), signature }
    }

    /// Whether one of `keys` says it.
    pub(crate) fn is_signed_by(&self, keys: &[PublicKey]) -> bool {
        let signed = || {
            let key = self.key.filter(|key| keys.contains(key))?;
            let bytes = BASE64URL_NOPAD.decode(self.signature.as_ref()?.as_bytes()).ok()?;
            let signature = Signature::from_slice(&bytes).ok()?;
            let key = VerifyingKey::from_bytes(&key.0).ok()?;
            key.verify_strict(&message(&self.video, self.at), &signature).ok()
        };
        signed().is_some()
    }
}

fn message(video: &str, at: u64) -> Vec<u8> {
    format!("{CONTEXT}\n{video}\n{at}\n").into_bytes()
}

/// What the state folder `state` says; nothing if it says nothing.
pub(crate) fn load(state: &Path) -> io::Result<Vec<Revocation>> {
    match fs::read(state.join(FILE)) {
        Ok(bytes) => {
            let file: File = serde_json::from_slice(&bytes)?;
            let bad = || io::Error::new(io::ErrorKind::InvalidData, "it is of another version");
            (file.version == VERSION).then_some(file.revoked).ok_or_else(bad)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The announce ids of `revoked`.
pub(crate) fn ids(revoked: &[Revocation]) -> HashSet<AnnounceId> {
    revoked.iter().filter_map(|revocation| revocation.video.parse().ok()).collect()
}

/// Withdraws a video of the folder `root` for good: a seeder that serves it answers 410 within its rescan interval, or at
/// SIGHUP. `video` is its id, or a playlist or folder of it below the root. `state` is as given to the seeder.
///
/// # Errors
/// [`RevokeError`].
pub fn revoke(
    root: &Path,
    state: Option<&Path>,
    video: &str,
    signer: Option<&Signer>,
) -> Result<AnnounceId, RevokeError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| RevokeError::Io { path, source }
    };
    let folder = Root::new(root).map_err(at(root))?;
    let state = server::state_folder(&folder, state)?;
    let path = folder.path().join(video.trim_start_matches('/'));
    let holder = if path.is_dir() { Some(path.as_path()) } else { path.parent().filter(|_| path.exists()) };
    let inside =
        holder.and_then(|holder| holder.canonicalize().ok()).filter(|holder| holder.starts_with(folder.path()));
    let kept = inside.as_deref().and_then(|holder| video::load(holder).ok().flatten());
    // Ids that we write are 16 bytes; a mistyped path is none.
    let is_id = BASE64URL_NOPAD.decode(video.as_bytes()).is_ok_and(|bytes| bytes.len() == 16);
    let id = kept.or_else(|| is_id.then(|| video.to_owned())).ok_or_else(|| RevokeError::Unknown(video.to_owned()))?;
    let id = AnnounceId::of_video(&id);
    let mut revoked = load(&state).map_err(at(&state.join(FILE)))?;
    let known = revoked.iter().any(|known| known.video == id.to_string() && (known.key.is_some() || signer.is_none()));
    if !known {
        revoked.retain(|known| known.video != id.to_string());
        revoked.push(Revocation::new(id, signer));
        let path = state.join(FILE);
        let written = fs::create_dir_all(&state).and_then(|()| {
            let mut bytes = serde_json::to_vec_pretty(&File { version: VERSION, revoked })?;
            bytes.push(b'\n');
            atomic::replace(&path, &bytes, &path)
        });
        written.map_err(at(&path))?;
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_counts_by_who_signed_it() {
        let (owner, stranger) = (Signer::new(&[1; 32]), Signer::new(&[2; 32]));
        let id = AnnounceId::of_video("q83vEjRWeJCrze8SNFZ4kA");
        let signed = Revocation::new(id, Some(&owner));
        assert!(signed.is_signed_by(&[stranger.public(), owner.public()]));
        assert!(!signed.is_signed_by(&[stranger.public()]) && !signed.is_signed_by(&[]));
        let other = AnnounceId::of_video("AAAAAAAAAAAAAAAAAAAAAA").to_string();
        let key = Some(stranger.public());
        for forged in [
            Revocation { video: other, ..signed.clone() },
            Revocation { at: signed.at + 1, ..signed.clone() },
            Revocation { key, ..signed.clone() },
            Revocation { signature: None, ..signed.clone() },
            Revocation::new(id, None),
        ] {
            assert!(!forged.is_signed_by(&[owner.public(), stranger.public()]), "{forged:?}");
        }
    }
}
