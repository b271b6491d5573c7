//! Signed playlists (design C4, `docs/signing.md`): what is signed, by whom, and how it is checked.
//!
//! A signature covers every byte before its line, the video, and the playlist's place in it. So whoever carries a playlist
//! can neither change it nor put another one in its place, and an old one shows its age.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use marea_swarm::{
    playlist::Playlist,
    tags::{SignatureTag, Tag, TagError},
};
use serde::{Deserialize, Serialize};

use crate::config::{SIGNATURE_LIFE, SIGNATURE_LIFE_LIVE, SIGNATURE_LIFE_TARGETS};

/// First line of what is signed.
const CONTEXT: &str = "marea-playlist-1";

/// What a public key begins with in text.
const PREFIX: &str = "ed25519:";

/// An Ed25519 public key, in text `ed25519:<base64url>` as pages pin it (`data-public-key`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(pub [u8; 32]);

/// A text that is no public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no public key: give {PREFIX} and 43 characters of base64url, as `marea-seeder key show` prints it")]
pub struct PublicKeyError(String);

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let bytes = text.strip_prefix(PREFIX).and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
        let key: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        key.filter(|key| VerifyingKey::from_bytes(key).is_ok_and(|key| !key.is_weak()))
            .map(Self)
            .ok_or_else(|| PublicKeyError(text.to_owned()))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode(&self.0))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = PublicKeyError;

    fn try_from(text: String) -> Result<Self, PublicKeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

/// How long a signature of this playlist counts (design C4).
pub(crate) fn life(playlist: &Playlist) -> Duration {
    match playlist {
        Playlist::Media(list) if !list.ended => {
            let targets = SIGNATURE_LIFE_TARGETS * list.target_duration_ms / 1_000.0;
            SIGNATURE_LIFE_LIVE.max(Duration::try_from_secs_f64(targets).unwrap_or(SIGNATURE_LIFE_LIVE))
        }
        _ => SIGNATURE_LIFE,
    }
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// The name under which the playlist `rel` is signed: its path relative to `main`, the multivariant playlist that names it
/// (else itself). Both are paths below the same folder, decoded.
pub fn name(main: &str, rel: &str) -> String {
    if main == rel {
        return String::new();
    }
    let folders: Vec<&str> = main.split('/').collect();
    let parts: Vec<&str> = rel.split('/').collect();
    let (folders, own) = (&folders[..folders.len() - 1], parts.len() - 1);
    let shared = folders.iter().zip(&parts[..own]).take_while(|(a, b)| a == b).count();
    let up = folders[shared..].iter().map(|_| "..");
    up.chain(parts[shared..].iter().copied()).collect::<Vec<_>>().join("/")
}

/// The bytes that a signature is made over. `text` is all before its line, the last line feed included.
fn message(video: &str, name: &str, seq: u64, expires: u64, text: &[u8]) -> Vec<u8> {
    let mut message = format!("{CONTEXT}\n{video}\n{name}\n{seq}\n{expires}\n").into_bytes();
    message.extend_from_slice(blake3::hash(text).as_bytes());
    message
}

/// Signs playlists with one key.
#[derive(Clone)]
pub struct Signer {
    key: SigningKey,
    /// The highest SEQ given so far: the next one is higher, also if the clock goes back.
    last: Arc<Mutex<u64>>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the secret.
        f.debug_tuple("Signer").field(&self.public()).finish()
    }
}

/// One signing of one playlist: the same for its whole text and its delta update.
#[derive(Clone, Debug)]
pub struct Stamp<'a> {
    /// Who signs.
    pub signer: &'a Signer,
    /// The video id as written.
    pub video: &'a str,
    /// See [`name`].
    pub name: &'a str,
    /// Unix milliseconds at signing, from [`Signer::seq`].
    pub seq: u64,
    /// Unix milliseconds from which on it no longer counts.
    pub expires: u64,
}

impl Signer {
    /// A signer whose secret is `seed` (RFC 8032 §5.1.5).
    pub fn new(seed: &[u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(seed), last: Arc::default() }
    }

    /// The key that its signatures are checked with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }

    /// A SEQ: now, or one more than the highest one known (`floor` or given before).
    pub fn seq(&self, floor: Option<u64>) -> u64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = now_ms().max(*last + 1).max(floor.map_or(0, |floor| floor.saturating_add(1)));
        *last
    }

    /// The highest SEQ given so far.
    pub(crate) fn last(&self) -> u64 {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on every SEQ is above `floor`.
    pub(crate) fn raise(&self, floor: u64) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = floor.max(*last);
    }

    /// Signs any bytes of a context of its own.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl<'a> Stamp<'a> {
    /// Signs now what counts for `life`.
    pub(crate) fn new(signer: &'a Signer, video: &'a str, name: &'a str, life: Duration) -> Self {
        let life = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        Self { signer, video, name, seq: signer.seq(None), expires: now_ms().saturating_add(life) }
    }

    /// `text` with its signature as the last line, which ends as the text ends: with a line feed or without.
    pub fn sign(&self, mut text: String) -> String {
        let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let ended = text.ends_with('\n');
        if !ended {
            text.push_str(ending);
        }
        let message = message(self.video, self.name, self.seq, self.expires, text.as_bytes());
        let tag = SignatureTag {
            key: self.signer.public().0,
            seq: self.seq,
            expires: self.expires,
            signature: self.signer.sign(&message),
        };
        text.push_str(&Tag::Signature(tag).to_string());
        if ended {
            text.push_str(ending);
        }
        text
    }
}

/// `text` and its last line, if that is a signature.
pub(crate) fn split(text: &str) -> Option<(&str, Result<SignatureTag, TagError>)> {
    let lines = text.strip_suffix('\n').unwrap_or(text);
    let start = lines.rfind('\n').map_or(0, |at| at + 1);
    match Tag::parse(lines[start..].trim_end_matches('\r'))? {
        Ok(Tag::Signature(tag)) => Some((&text[..start], Ok(tag))),
        Err(error @ TagError::BadSignature { .. }) => Some((&text[..start], Err(error))),
        _ => None,
    }
}

/// What a playlist must be to count.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The video that was asked for.
    pub video: &'a str,
    /// The place in it that was asked for, see [`name`].
    pub name: &'a str,
    /// The keys that are trusted.
    pub keys: &'a [PublicKey],
    /// Unix milliseconds.
    pub now: u64,
    /// The highest SEQ seen so far, with its key: older ones of the same key are refused.
    pub highest: Option<(PublicKey, u64)>,
}

/// Why a playlist does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The last line is no signature.
    #[error("its last line is no signature: sign it with `marea-seeder annotate --key` or `serve --key`")]
    Missing,
    /// The last line is one that makes no sense.
    #[error(transparent)]
    Malformed(#[from] TagError),
    /// It is signed by a key that is not trusted.
    #[error("it is signed by {0}, which is not a key that is trusted here")]
    ForeignKey(PublicKey),
    /// The signature does not fit: the text was changed, or belongs to another video or another place in this one.
    #[error("its signature does not fit: it was changed, or is another playlist than the one asked for")]
    Wrong,
    /// It is of another video.
    #[error("it is of another video")]
    ForeignVideo,
    /// It counts no longer.
    #[error("its signature expired {} s ago: have it signed again", .0.as_secs())]
    Expired(Duration),
    /// A newer one was seen.
    #[error("it is older ({seq}) than the one known ({highest})")]
    Older {
        /// Its SEQ.
        seq: u64,
        /// The highest one seen.
        highest: u64,
    },
}

/// Checks the signature of a playlist that came from a mirror, a peer or a disk. Every byte of it is then as its signer
/// wrote it, for this video and this place in it.
///
/// # Errors
/// [`SignatureError`]: nothing of the playlist may then be used.
pub fn verify(text: &str, expected: &Expected<'_>) -> Result<SignatureTag, SignatureError> {
    let (signed, tag) = split(text).ok_or(SignatureError::Missing)?;
    let tag = tag?;
    let key = PublicKey(tag.key);
    if !expected.keys.contains(&key) {
        return Err(SignatureError::ForeignKey(key));
    }
    // Every trusted key was read as one; a weak one would let anything pass.
    let verifying = VerifyingKey::from_bytes(&key.0).map_err(|_| SignatureError::ForeignKey(key))?;
    let message = message(expected.video, expected.name, tag.seq, tag.expires, signed.as_bytes());
    let signature = Signature::from_bytes(&tag.signature);
    verifying.verify_strict(&message, &signature).map_err(|_| SignatureError::Wrong)?;
    // What the signature says and what the text says is one thing: tags of another video are never taken over.
    let is_other = |line| matches!(Tag::parse(line), Some(Ok(Tag::Marea(tag))) if tag.video != expected.video);
    if signed.lines().any(|line| is_other(line.trim())) {
        return Err(SignatureError::ForeignVideo);
    }
    if tag.expires <= expected.now {
        return Err(SignatureError::Expired(Duration::from_millis(expected.now - tag.expires)));
    }
    match expected.highest {
        Some((known, highest)) if known == key && tag.seq < highest => {
            Err(SignatureError::Older { seq: tag.seq, highest })
        }
        _ => Ok(tag),
    }
}

#[cfg(test)]
mod tests;
