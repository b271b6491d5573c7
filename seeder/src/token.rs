//! The secret that requests which change something carry: a Bearer token (RFC 6750), never a cookie.

use std::{fs, path::Path};

use http::{HeaderMap, header};

use crate::error::SeederError;

/// Shortest token: fewer characters can be guessed.
const MIN_LEN: usize = 16;

/// A token, as its hash: comparing hashes tells nobody how much of a guess was right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token(blake3::Hash);

impl Token {
    /// Reads the first line of a file.
    ///
    /// # Errors
    /// It cannot be read or is too short.
    pub(crate) fn load(path: &Path) -> Result<Self, SeederError> {
        let error = |reason: String| SeederError::Token { path: path.to_owned(), reason };
        let text = fs::read_to_string(path).map_err(|source| error(source.to_string()))?;
        let token = text.lines().next().unwrap_or("").trim();
        if token.len() < MIN_LEN {
            return Err(error(format!("its first line has fewer than {MIN_LEN} characters")));
        }
        Ok(Self(blake3::hash(token.as_bytes())))
    }

    /// Whether a request carries it.
    pub(crate) fn fits(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let sent =
            sent.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        // `blake3::Hash` compares in constant time.
        sent.is_some_and(|(_, token)| blake3::hash(token.trim().as_bytes()) == self.0)
    }
}
