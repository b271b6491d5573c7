//! Tokens in `join`: JSON Web Tokens (RFC 7519) signed by HS256 (RFC 7518) or EdDSA with Ed25519 (RFC 8037).
//!
//! | claim | what it says |
//! |---|---|
//! | `video` | the announce id that may be joined, 43 characters of base64url |
//! | `kind` | `viewer` (also if absent), `mirror` or `edge` |
//! | `exp` | end, Unix seconds; at most an hour ahead |
//! | `nbf` | optional start, Unix seconds |
//! | `prefix` | optional network of the client, such as `198.51.100.0/24` |
//!
//! The key decides the algorithm, never the token: a secret checks HS256 only, a public key EdDSA only.

use std::{fmt, net::IpAddr, path::Path, str::FromStr};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{
    address::Network,
    defaults,
    ids::{AnnounceId, Millis},
    message::{ErrorCode, Kind},
};

/// DER of an Ed25519 public key (RFC 8410 §4) before its 32 bytes.
const PUBLIC_DER: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// DER of an Ed25519 private key (RFC 8410 §7, as `openssl genpkey` writes it) before its 32 bytes.
const PRIVATE_DER: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";

/// Which tokens are believed, and who needs one.
#[derive(Clone, Debug, Default)]
pub struct TokenRules {
    /// Keys that sign for every kind; two or more while one replaces the other.
    pub keys: Vec<TokenKey>,
    /// Keys of mirrors and edges, which sign for themselves; not for viewers.
    pub peer_keys: Vec<TokenKey>,
    /// Viewers need a token too.
    pub required: bool,
}

/// A key that checks tokens, and signs them if it is a secret or a private key.
#[derive(Clone)]
pub enum TokenKey {
    /// For HS256.
    Secret(Box<[u8]>),
    /// For EdDSA.
    Public(VerifyingKey),
    /// For EdDSA, to sign with.
    Private(SigningKey),
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file could not be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// Fewer bytes than HS256 needs (RFC 7518 §3.2).
    #[error("a secret for HS256 has 32 bytes or more, this one has {0}; `openssl rand -base64 48` makes one")]
    Short(usize),
    /// PEM, but of nothing known here.
    #[error("not an Ed25519 key in PEM (PUBLIC KEY or PRIVATE KEY); `openssl genpkey -algorithm ed25519` makes one")]
    Pem,
    /// Not what is expected after `ed25519:`.
    #[error("an Ed25519 public key is ed25519: and 43 characters of base64url")]
    Public,
}

impl TokenKey {
    /// Reads a key file: an Ed25519 key in PEM, `ed25519:` and a public key in base64url, or else a secret for HS256 (all
    /// bytes up to a line feed at the end).
    ///
    /// # Errors
    /// The file cannot be read, or holds none of these.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let bytes =
            std::fs::read(path).map_err(|error| KeyError::Unreadable { path: path.display().to_string(), error })?;
        Self::from_bytes(&bytes)
    }

    /// What a key file holds; see [`Self::read`].
    ///
    /// # Errors
    /// It is none of these.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) if text.starts_with("ed25519:") => text.parse(),
            Ok(text) if text.starts_with("-----BEGIN ") => from_pem(text).ok_or(KeyError::Pem),
            _ if bytes.len() < 32 => Err(KeyError::Short(bytes.len())),
            _ => Ok(Self::Secret(bytes.into())),
        }
    }

    /// Whether this signature of these bytes is right.
    fn verifies(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Secret(secret) => {
                algorithm == "HS256" && hmac(secret).chain_update(signed).verify_slice(signature).is_ok()
            }
            Self::Public(key) => algorithm == "EdDSA" && verifies(key, signed, signature),
            Self::Private(key) => algorithm == "EdDSA" && verifies(&key.verifying_key(), signed, signature),
        }
    }

    /// Makes a token, or `None` with a public key.
    pub fn sign(&self, claims: &Claims) -> Option<String> {
        let algorithm = match self {
            Self::Secret(_) => "HS256",
            Self::Private(_) => "EdDSA",
            Self::Public(_) => return None,
        };
        let header = format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#);
        let body = serde_json::to_vec(claims).ok()?;
        let signed = format!("{}.{}", BASE64URL_NOPAD.encode(header.as_bytes()), BASE64URL_NOPAD.encode(&body));
        let signature = match self {
            Self::Secret(secret) => hmac(secret).chain_update(&signed).finalize().into_bytes().to_vec(),
            Self::Private(key) => key.sign(signed.as_bytes()).to_bytes().to_vec(),
            Self::Public(_) => return None,
        };
        Some(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
    }
}

fn hmac(secret: &[u8]) -> Hmac<Sha256> {
    // `new_from_slice` takes keys of every length; the empty one below is never used.
    Hmac::new_from_slice(secret).unwrap_or_else(|_| Hmac::new(&Default::default()))
}

fn verifies(key: &VerifyingKey, signed: &[u8], signature: &[u8]) -> bool {
    Signature::from_slice(signature).is_ok_and(|signature| key.verify_strict(signed, &signature).is_ok())
}

fn from_pem(text: &str) -> Option<TokenKey> {
    let body = text.strip_prefix("-----BEGIN ")?;
    let (label, body) = body.split_once("-----")?;
    let (body, _) = body.split_once("-----END ")?;
    let base64: String = body.split_ascii_whitespace().collect();
    let der = BASE64.decode(base64.as_bytes()).ok()?;
    match label {
        "PUBLIC KEY" => public(der.strip_prefix(PUBLIC_DER)?),
        "PRIVATE KEY" => {
            let bytes = der.strip_prefix(PRIVATE_DER)?.try_into().ok()?;
            Some(TokenKey::Private(SigningKey::from_bytes(bytes)))
        }
        _ => None,
    }
}

fn public(bytes: &[u8]) -> Option<TokenKey> {
    let key = VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()?;
    // With a key of small order everybody could sign.
    (!key.is_weak()).then_some(TokenKey::Public(key))
}

impl FromStr for TokenKey {
    type Err = KeyError;

    /// `ed25519:` and a public key in unpadded base64url, as in `data-public-key`.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = text.strip_prefix("ed25519:").and_then(|key| BASE64URL_NOPAD.decode(key.as_bytes()).ok());
        bytes.and_then(|bytes| public(&bytes)).ok_or(KeyError::Public)
    }
}

// Keys must not reach a log.
impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "TokenKey::Secret",
            Self::Public(_) => "TokenKey::Public",
            Self::Private(_) => "TokenKey::Private",
        })
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// The announce id that may be joined.
    pub video: String,
    /// The kind that may be joined as.
    #[serde(default = "viewer")]
    pub kind: Kind,
    /// When it ends, in Unix seconds.
    pub exp: f64,
    /// When it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<f64>,
    /// Where the client must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

fn viewer() -> Kind {
    Kind::Viewer
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: std::borrow::Cow<'a, str>,
    /// Extensions that must be understood: none is.
    crit: Option<serde_json::Value>,
}

/// Who shows a token, and what for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bearer {
    pub(crate) video: AnnounceId,
    pub(crate) kind: Kind,
    pub(crate) address: Option<IpAddr>,
}

impl TokenRules {
    /// Whether there is a key to check tokens with.
    pub(crate) fn any(&self) -> bool {
        !self.keys.is_empty() || !self.peer_keys.is_empty()
    }

    /// Checks a token. True if a resume ticket may stand for it later: not if it is bound to a network.
    ///
    /// # Errors
    /// `token-expired`, `kind-refused` (right, but for another kind) or `token-invalid`.
    pub(crate) fn check(&self, token: &str, now: Millis, bearer: Bearer) -> Result<bool, ErrorCode> {
        let claims = self.verified(token, bearer.kind).ok_or(ErrorCode::TokenInvalid)?;
        let now = now as f64 / 1000.0;
        let skew = defaults::TOKEN_SKEW;
        if claims.exp + skew <= now {
            return Err(ErrorCode::TokenExpired);
        }
        // Not a number is refused by either comparison being false.
        let timely = claims.exp <= now + defaults::TOKEN_LIFE + skew && claims.nbf.is_none_or(|nbf| nbf <= now + skew);
        if !timely || claims.video.parse() != Ok(bearer.video) {
            return Err(ErrorCode::TokenInvalid);
        }
        if let Some(prefix) = &claims.prefix {
            let network: Network = prefix.parse().map_err(|_| ErrorCode::TokenInvalid)?;
            if !bearer.address.is_some_and(|address| network.contains(address)) {
                return Err(ErrorCode::TokenInvalid);
            }
        }
        if claims.kind != bearer.kind {
            return Err(ErrorCode::KindRefused);
        }
        Ok(claims.prefix.is_none())
    }

    /// The claims, if a key that may sign for this kind signed them.
    fn verified(&self, token: &str, kind: Kind) -> Option<Claims> {
        if token.len() > defaults::MAX_TOKEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).ok();
        let (header, claims, signature) = (decode(header)?, decode(claims)?, decode(signature)?);
        let header: Header<'_> = serde_json::from_slice(&header).ok()?;
        if header.crit.is_some() {
            return None;
        }
        let peer_keys = if kind == Kind::Viewer { &[][..] } else { &self.peer_keys };
        let mut keys = self.keys.iter().chain(peer_keys);
        keys.any(|key| key.verifies(&header.alg, signed.as_bytes(), &signature)).then_some(())?;
        serde_json::from_slice(&claims).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_800_000_000_000;
    const VIDEO: AnnounceId = AnnounceId([1; 32]);
    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn claims(minutes: f64) -> Claims {
        let exp = NOW as f64 / 1000.0 + minutes * 60.0;
        Claims { video: VIDEO.to_string(), kind: Kind::Viewer, exp, nbf: None, prefix: None }
    }

    fn bearer() -> Bearer {
        Bearer { video: VIDEO, kind: Kind::Viewer, address: Some([198, 51, 100, 7].into()) }
    }

    fn secret(text: &[u8]) -> TokenKey {
        TokenKey::from_bytes(text).unwrap()
    }

    fn private(seed: u8) -> TokenKey {
        TokenKey::Private(SigningKey::from_bytes(&[seed; 32]))
    }

    fn rules(keys: &[TokenKey]) -> TokenRules {
        TokenRules { keys: keys.to_vec(), peer_keys: Vec::new(), required: true }
    }

    fn check(rules: &TokenRules, token: Option<String>) -> Result<bool, ErrorCode> {
        rules.check(&token.unwrap(), NOW, bearer())
    }

    #[test]
    fn a_token_of_any_of_our_keys_is_believed_and_of_no_other() {
        let (old, new) = (secret(SECRET), secret(b"fedcba9876543210fedcba9876543210\n"));
        let rules = rules(&[old.clone(), new.clone(), private(1)]);
        for key in [old, new, private(1)] {
            assert_eq!(check(&rules, key.sign(&claims(30.0))), Ok(true));
        }
        for key in [secret(b"another secret of thirty-two bytes!!"), private(2)] {
            assert_eq!(check(&rules, key.sign(&claims(30.0))), Err(ErrorCode::TokenInvalid));
        }
    }

    #[test]
    fn a_token_opens_its_video_kind_and_network_for_its_time_only() {
        let key = secret(SECRET);
        let rules = rules(std::slice::from_ref(&key));
        let ours = claims(30.0);
        let other = AnnounceId([2; 32]).to_string();
        let expired = Claims { exp: NOW as f64 / 1000.0 - 61.0, ..ours.clone() };
        for (claims, expected) in [
            (claims(60.0), Ok(true)),
            (Claims { prefix: Some("198.51.100.0/24".into()), ..ours.clone() }, Ok(false)),
            (Claims { prefix: Some("203.0.113.0/24".into()), ..ours.clone() }, Err(ErrorCode::TokenInvalid)),
            (Claims { prefix: Some("everywhere".into()), ..ours.clone() }, Err(ErrorCode::TokenInvalid)),
            (Claims { video: other, ..ours.clone() }, Err(ErrorCode::TokenInvalid)),
            (Claims { video: "*".into(), ..ours.clone() }, Err(ErrorCode::TokenInvalid)),
            (Claims { kind: Kind::Mirror, ..ours.clone() }, Err(ErrorCode::KindRefused)),
            (Claims { nbf: Some(ours.exp), ..ours.clone() }, Err(ErrorCode::TokenInvalid)),
            (claims(62.0), Err(ErrorCode::TokenInvalid)),
            (expired, Err(ErrorCode::TokenExpired)),
        ] {
            assert_eq!(check(&rules, key.sign(&claims)), expected, "{claims:?}");
        }
    }

    #[test]
    fn the_key_decides_the_algorithm() {
        let public = SigningKey::from_bytes(&[1; 32]).verifying_key();
        let rules = rules(&[TokenKey::Public(public)]);
        assert_eq!(check(&rules, private(1).sign(&claims(5.0))), Ok(true));
        // The classic: the public key taken as a secret.
        let confused = TokenKey::Secret(public.as_bytes().to_vec().into());
        assert_eq!(check(&rules, confused.sign(&claims(5.0))), Err(ErrorCode::TokenInvalid));
        let body = BASE64URL_NOPAD.encode(&serde_json::to_vec(&claims(5.0)).unwrap());
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"None","typ":"JWT"}"#, r#"{}"#, r#"{"alg":"EdDSA","crit":["x"]}"#]
        {
            let head = BASE64URL_NOPAD.encode(header.as_bytes());
            for signature in ["", "AAAA"] {
                let token = Some(format!("{head}.{body}.{signature}"));
                assert_eq!(check(&rules, token), Err(ErrorCode::TokenInvalid), "{header}");
            }
        }
        for junk in ["", ".", "..", "a.b.c", "é.é.é", &"a.".repeat(4000)] {
            assert_eq!(check(&rules, Some(junk.to_owned())), Err(ErrorCode::TokenInvalid), "{junk}");
        }
    }

    #[test]
    fn no_changed_token_is_believed() {
        let key = secret(SECRET);
        let rules = rules(std::slice::from_ref(&key));
        let token = key.sign(&claims(5.0)).unwrap();
        for place in 0..token.len() {
            let mut wrong = token.clone().into_bytes();
            wrong[place] = if wrong[place] == b'A' { b'B' } else { b'A' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(check(&rules, Some(wrong)), Err(ErrorCode::TokenInvalid), "{place}");
        }
    }

    #[test]
    fn a_peer_key_signs_for_mirrors_and_edges_but_not_for_viewers() {
        let rules = TokenRules { peer_keys: vec![private(3)], ..TokenRules::default() };
        let mirror = Claims { kind: Kind::Mirror, ..claims(5.0) };
        let token = private(3).sign(&mirror).unwrap();
        assert_eq!(rules.check(&token, NOW, Bearer { kind: Kind::Mirror, ..bearer() }), Ok(true));
        assert_eq!(check(&rules, private(3).sign(&claims(5.0))), Err(ErrorCode::TokenInvalid));
    }

    #[test]
    fn tokens_of_the_standards_own_examples_are_read() {
        // RFC 8037 A.4: key and signature. Its payload is no claims, so only the signature is looked at.
        let key: TokenKey = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".parse().unwrap();
        let signed = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert!(key.verifies("EdDSA", signed, &BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap()));
        // RFC 7515 A.1.
        let key = BASE64URL_NOPAD
            .decode(b"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .unwrap();
        let signed = b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = BASE64URL_NOPAD.decode(b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk").unwrap();
        assert!(TokenKey::Secret(key.into()).verifies("HS256", signed, &signature));
    }

    #[test]
    fn keys_are_read_in_each_form_and_what_is_none_is_named() {
        // RFC 8410 §10.1 and §10.3: one pair.
        let public = b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        let private = b"-----BEGIN PRIVATE KEY-----\r\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\r\n-----END PRIVATE KEY-----\r\n";
        let (public, private) = (TokenKey::from_bytes(public).unwrap(), TokenKey::from_bytes(private).unwrap());
        let token = private.sign(&claims(5.0));
        assert_eq!(check(&rules(std::slice::from_ref(&public)), token), Ok(true));
        assert_eq!(public.sign(&claims(5.0)), None);
        for wrong in ["", "short", "ed25519:", "ed25519:AAAA", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END"] {
            assert!(TokenKey::from_bytes(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let weak = format!("ed25519:{}", BASE64URL_NOPAD.encode(&[0; 32]));
        assert!(matches!(weak.parse::<TokenKey>(), Err(KeyError::Public)));
        let missing = TokenKey::read(Path::new("/nonexistent/key")).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/key"), "{missing}");
    }
}
