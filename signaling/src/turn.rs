//! TURN (RFC 8656) for those who meet edges only: credentials minted for each, which end by themselves.
//!
//! coturn's `use-auth-secret` (draft-uberti-behave-turn-rest-00): the server shares a secret with us and nothing else. Viewers who meet
//! each other are never given a relay, over which a byte would cost the site twice.

use std::{fmt, path::Path};

use data_encoding::BASE64;
use hmac::{Hmac, Mac};
use sha1::Sha1;

/// Fewest bytes of a secret: whoever has credentials can try shorter ones out.
const MIN_SECRET: usize = 16;

/// A TURN server and the secret that it shares with us.
#[derive(Clone)]
pub struct Turn {
    urls: Vec<String>,
    secret: Box<[u8]>,
}

/// What a client shows a TURN server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `<Unix seconds of its end>:<name>`
    pub username: String,
    /// Base64 of HMAC-SHA1 by the secret over the user name.
    pub credential: String,
}

/// What is wrong with the settings of a TURN server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TurnError {
    /// A URL of something else.
    #[error("{0:?} is no URL such as turn:turn.example:3478?transport=udp or turns:turn.example:443?transport=tcp")]
    Url(String),
    /// The secret cannot be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// A short secret.
    #[error("the secret has {0} bytes, {MIN_SECRET} or more are needed: `openssl rand -hex 32` makes one")]
    Short(usize),
}

impl Turn {
    /// The server at these URLs (RFC 7065), whose `static-auth-secret` is in a file (up to a line feed at its end).
    ///
    /// # Errors
    /// A URL is none, or the secret cannot be read or is too short.
    pub fn read(urls: &[String], path: &Path) -> Result<Self, TurnError> {
        let bytes =
            std::fs::read(path).map_err(|error| TurnError::Unreadable { path: path.display().to_string(), error })?;
        Self::new(urls, bytes.trim_ascii_end())
    }

    /// As [`Self::read`], with the secret itself.
    ///
    /// # Errors
    /// A URL is none, or the secret is too short.
    pub fn new(urls: &[String], secret: &[u8]) -> Result<Self, TurnError> {
        let other = |url: &&String| !url.starts_with("turn:") && !url.starts_with("turns:");
        if let Some(url) = urls.iter().find(other) {
            return Err(TurnError::Url(url.clone()));
        }
        if secret.len() < MIN_SECRET {
            return Err(TurnError::Short(secret.len()));
        }
        Ok(Self { urls: urls.to_vec(), secret: secret.into() })
    }

    /// Its URLs.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Credentials that end at `until` (Unix seconds), for a client of this name.
    pub fn credentials(&self, until: u64, name: &str) -> Credentials {
        let username = format!("{until}:{name}");
        let credential = credential(&self.secret, &username);
        Credentials { username, credential }
    }
}

// The secret must not reach a log.
impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("urls", &self.urls).finish_non_exhaustive()
    }
}

fn credential(secret: &[u8], username: &str) -> String {
    // `new_from_slice` takes keys of every length; the empty one below is never used.
    let hmac = Hmac::<Sha1>::new_from_slice(secret).unwrap_or_else(|_| Hmac::new(&Default::default()));
    BASE64.encode(&hmac.chain_update(username).finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_those_of_coturn() {
        // RFC 2202 §3, test case 2; and one with a user name, computed apart.
        assert_eq!(credential(b"Jefe", "what do ya want for nothing?"), "7/zfauXrL6LSdBbV8YTfnCWafHk=");
        assert_eq!(credential(b"north", "1433895918:filmbot"), "pqm/6n485yiLHfsYW94LtuoBzlc=");
        let turn = Turn::new(&["turn:a.example".to_owned()], &[7; 16]).unwrap();
        let made = turn.credentials(1_433_895_918, "x");
        assert_eq!(made.username, "1433895918:x");
        assert_eq!(made.credential, credential(&[7; 16], "1433895918:x"));
        assert!(!format!("{turn:?}").contains('7'), "{turn:?}");
    }

    #[test]
    fn what_is_no_turn_server_is_refused() {
        let urls = |url: &str| vec![url.to_owned()];
        for wrong in ["stun:a.example", "a.example", ""] {
            assert!(matches!(Turn::new(&urls(wrong), &[7; 32]), Err(TurnError::Url(_))), "{wrong}");
        }
        assert!(matches!(Turn::new(&urls("turns:a.example:443"), b"short"), Err(TurnError::Short(5))));
    }
}
