//! The keys of a site: one that signs, those that will or did, kept in one file.
//!
//! | state | signs | counts | how it comes there |
//! |---|---|---|---|
//! | `signing` | yes | yes | the first `key new`; `key rotate` |
//! | `standby` | no | yes | `key new`: pages pin it before it signs |
//! | `former` | no | yes, until what it signed has expired | `key rotate` |
//! | `retired` | no, its secret is erased | no | `key retire` |
//!
//! Exactly one key signs. The file holds secrets: it is made with mode 0600 and replaced as a whole.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::{
    atomic,
    sign::{PublicKey, Signer, now_ms},
};

/// Version of the file.
const VERSION: u32 = 1;

/// Longest file that is read.
const MAX_FILE: u64 = 64 * 1024;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum KeyState {
    /// It signs.
    Signing,
    /// It will sign after the next rotation.
    Standby,
    /// It signed before; what it signed still counts.
    Former,
    /// It counts no longer.
    Retired,
}

/// What everybody may know of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteKey {
    /// Pages pin it.
    pub key: PublicKey,
    /// What it is for.
    pub state: KeyState,
    /// Unix milliseconds at which it became that.
    pub since: u64,
}

/// A key as it is kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    key: PublicKey,
    state: KeyState,
    since: u64,
    /// Base64url of its 32 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    keys: Vec<Stored>,
}

/// The keys of a site.
pub struct KeyRing {
    path: PathBuf,
    keys: Vec<Stored>,
}

/// Why a key file cannot be used or changed. The file is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is none.
    #[error("{}: there is no key file. Make one by `marea-seeder key new --key {}`", .0.display(), .0.display())]
    Missing(PathBuf),
    /// It cannot be read or written.
    #[error("{}: {source}. Name a file that this user may read and write, in a folder that is not served", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no key file, or a damaged one.
    #[error("{}: {reason}. Bring it back from a backup, or make a new one (pages then have to pin its key)", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such key in it.
    #[error("{}: it has no key {key} that could be retired. `marea-seeder key show` lists them", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// As given.
        key: PublicKey,
    },
    /// The key that signs cannot be retired.
    #[error("{0} is the key that signs: rotate first, and retire it once pages pin the new one")]
    Signs(PublicKey),
}

impl KeyRing {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`KeyError`] if it is missing, unreadable or damaged.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(KeyError::Missing(path.to_owned())),
            Err(error) => return Err(io(error)),
        };
        let damaged = |reason: String| KeyError::Damaged { path: path.to_owned(), reason };
        if metadata.len() > MAX_FILE {
            return Err(damaged("it is too large for a key file".to_owned()));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "others may read this key file, and sign in your name: chmod 600 it");
        }
        let text = fs::read(path).map_err(io)?;
        // The error of a parser may quote what it read: secrets do not belong into logs.
        let file: File = serde_json::from_slice(&text).map_err(|error| {
            damaged(format!("it is no key file (line {}, column {})", error.line(), error.column()))
        })?;
        let ring = Self { path: path.to_owned(), keys: file.keys };
        match (file.version, ring.fault()) {
            (VERSION, None) => Ok(ring),
            (VERSION, Some(reason)) => Err(damaged(reason)),
            (version, _) => Err(damaged(format!("its version is {version}, this program reads {VERSION}"))),
        }
    }

    /// What is wrong with the keys.
    fn fault(&self) -> Option<String> {
        let signing = self.keys.iter().filter(|key| key.state == KeyState::Signing).count();
        if signing != 1 {
            return Some(format!("{signing} keys sign in it, not one"));
        }
        self.keys.iter().find_map(|key| match (key.state, key.signer()) {
            (KeyState::Retired, None) => None,
            (_, Some(signer)) if signer.public() == key.key => None,
            _ => Some(format!("the secret of {} is missing or another one's", key.key)),
        })
    }

    /// Makes the file at `path` with a first key, which signs.
    ///
    /// # Errors
    /// [`KeyError::Io`], also if it is there already.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let mut ring = Self { path: path.to_owned(), keys: Vec::new() };
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        ring.keys.push(Stored::random(KeyState::Signing).map_err(io)?);
        let bytes = ring.encode().map_err(io)?;
        atomic::create_secret(path, &bytes).map_err(io)?;
        Ok(ring)
    }

    /// Adds a key that will sign after the next rotation.
    ///
    /// # Errors
    /// [`KeyError::Io`] if it cannot be saved.
    pub fn add(&mut self) -> Result<PublicKey, KeyError> {
        let key = Stored::random(KeyState::Standby).map_err(|source| self.io(source))?;
        let public = key.key;
        self.change(|keys| keys.push(key))?;
        Ok(public)
    }

    /// Lets the oldest standby key sign (a new one if there is none); the one that signed becomes a former one.
    ///
    /// # Errors
    /// [`KeyError::Io`] if it cannot be saved.
    pub fn rotate(&mut self) -> Result<PublicKey, KeyError> {
        if !self.keys.iter().any(|key| key.state == KeyState::Standby) {
            self.add()?;
        }
        self.change(|keys| {
            let next = keys.iter().position(|key| key.state == KeyState::Standby);
            for (at, key) in keys.iter_mut().enumerate() {
                match key.state {
                    KeyState::Signing => key.become_now(KeyState::Former),
                    _ if Some(at) == next => key.become_now(KeyState::Signing),
                    _ => {}
                }
            }
        })?;
        Ok(self.signer().public())
    }

    /// Erases the secret of a key; nothing that it signed counts from then on, for who reads the list of keys.
    ///
    /// # Errors
    /// [`KeyError`] if it signs, is unknown or retired, or the file cannot be saved.
    pub fn retire(&mut self, public: PublicKey) -> Result<(), KeyError> {
        match self.keys.iter().find(|key| key.key == public).map(|key| key.state) {
            Some(KeyState::Signing) => return Err(KeyError::Signs(public)),
            Some(KeyState::Standby | KeyState::Former) => {}
            Some(KeyState::Retired) | None => {
                return Err(KeyError::Unknown { path: self.path.clone(), key: public });
            }
        }
        self.change(|keys| {
            for key in keys.iter_mut().filter(|key| key.key == public) {
                key.become_now(KeyState::Retired);
                key.secret = None;
            }
        })
    }

    /// What everybody may know, in the order in which they were made.
    pub fn public(&self) -> Vec<SiteKey> {
        self.keys
            .iter()
            .map(|Stored { key, state, since, .. }| SiteKey { key: *key, state: *state, since: *since })
            .collect()
    }

    /// The key that signs.
    pub fn signer(&self) -> Signer {
        let signing = self.keys.iter().find(|key| key.state == KeyState::Signing);
        // Held by `load`, and by every change.
        signing.and_then(Stored::signer).unwrap_or_else(|| unreachable!("a key ring has one key that signs"))
    }

    fn io(&self, source: io::Error) -> KeyError {
        KeyError::Io { path: self.path.clone(), source }
    }

    /// Changes the keys and saves them; on failure they are as before.
    fn change(&mut self, change: impl FnOnce(&mut Vec<Stored>)) -> Result<(), KeyError> {
        let before = self.keys.clone();
        change(&mut self.keys);
        let saved = self.encode().and_then(|bytes| atomic::replace_secret(&self.path, &bytes));
        saved.map_err(|source| {
            self.keys = before;
            self.io(source)
        })
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(&File { version: VERSION, keys: self.keys.clone() })?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl Stored {
    fn random(state: KeyState) -> io::Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        let key = Signer::new(&seed).public();
        Ok(Self { key, state, since: now_ms(), secret: Some(BASE64URL_NOPAD.encode(&seed)) })
    }

    fn signer(&self) -> Option<Signer> {
        let seed = BASE64URL_NOPAD.decode(self.secret.as_ref()?.as_bytes()).ok()?;
        Some(Signer::new(&seed.try_into().ok()?))
    }

    fn become_now(&mut self, state: KeyState) {
        self.state = state;
        self.since = now_ms();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(ring: &KeyRing) -> Vec<KeyState> {
        ring.public().iter().map(|key| key.state).collect()
    }

    #[test]
    fn a_key_is_announced_then_signs_then_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.key");
        assert!(matches!(KeyRing::load(&path), Err(KeyError::Missing(_))));
        let first = KeyRing::create(&path).unwrap().signer().public();
        assert!(KeyRing::create(&path).is_err(), "a key file is never overwritten by a new one");
        let mut ring = KeyRing::load(&path).unwrap();
        assert_eq!(ring.signer().public(), first);
        let second = ring.add().unwrap();
        assert_eq!(states(&ring), [KeyState::Signing, KeyState::Standby]);
        assert!(matches!(ring.retire(first), Err(KeyError::Signs(_))));
        assert_eq!(ring.rotate().unwrap(), second);
        assert_eq!(states(&ring), [KeyState::Former, KeyState::Signing]);
        ring.retire(first).unwrap();
        assert!(matches!(ring.retire(first), Err(KeyError::Unknown { .. })));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("secret").count(), 1, "the secret of a retired key is erased");
        let ring = KeyRing::load(&path).unwrap();
        assert_eq!((states(&ring), ring.signer().public()), (vec![KeyState::Retired, KeyState::Signing], second));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-made is left");
    }

    #[test]
    fn rotating_without_a_standby_key_makes_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut ring = KeyRing::create(&folder.path().join("k")).unwrap();
        let (first, second) = (ring.signer().public(), ring.rotate().unwrap());
        assert_ne!(first, second);
        assert_eq!(states(&ring), [KeyState::Former, KeyState::Signing]);
    }

    #[test]
    fn damaged_files_are_named_and_never_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.key");
        KeyRing::create(&path).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let secret = good.split("\"secret\": \"").nth(1).unwrap()[..43].to_owned();
        for bad in [
            String::new(),
            good[..good.len() / 2].to_owned(),
            good.replace("\"version\": 1", "\"version\": 2"),
            good.replace("signing", "former"),
            good.replace(&secret, &BASE64URL_NOPAD.encode(&[7; 32])),
            good.replace(&secret, ""),
            good.replace("\"secret\"", &format!("\"{secret}\"")),
        ] {
            fs::write(&path, &bad).unwrap();
            let error = KeyRing::load(&path).err().expect("it is damaged").to_string();
            assert!(error.contains("site.key") && !error.contains(&secret), "{error}");
        }
    }
}
