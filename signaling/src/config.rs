//! The settings of the standalone server, read and checked.

#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::{net::SocketAddr, path::Path, str::FromStr};

use http::Uri;

#[cfg(feature = "redis")]
use crate::cluster::redis::{Servers, ServersError};
use crate::{
    access::{Origins, Rules},
    address::host_of,
    asn::AsnDatabase,
    layered::{ConfigError, Values},
    service::Policy,
    sharing::{NamedRule, SharingRules, VideoRule},
    token::{TokenKey, TokenRules},
    turn::{Turn, TurnError},
};

/// What a [`crate::server::Server`] is started with. [`crate::defaults::LAYERS`] says what each means.
#[derive(Clone, Debug)]
pub struct Config {
    /// HTTP and WebSockets.
    pub listen: SocketAddr,
    /// STUN.
    pub udp: Udp,
    /// A second listener for what is the operator's.
    pub admin_listen: Option<SocketAddr>,
    /// The service's own secret; `None`: a fresh one.
    pub secret: Option<[u8; 32]>,
    /// Where the other nodes are found.
    #[cfg(feature = "redis")]
    pub redis: Option<Servers>,
    /// Certificate and key for TLS.
    #[cfg(feature = "tls")]
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Answers WebTorrent clients.
    pub tracker: bool,
    /// What SIGHUP may change.
    pub policy: Policy,
}

/// Where STUN is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Udp {
    /// Address and port of `listen`.
    Same,
    /// Here.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

impl FromStr for Udp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "same" => Ok(Self::Same),
            "none" => Ok(Self::Off),
            _ => text.parse().map(Self::At).map_err(|_| "expected IP:PORT, `same` or `none`".to_owned()),
        }
    }
}

impl Config {
    /// Reads the settings of [`crate::defaults::LAYERS`].
    ///
    /// # Errors
    /// A value that does not fit, with its place.
    pub fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let missing = |key: &str| values.refuse(key, "must be set");
        Ok(Self {
            listen: values.parse("listen")?.ok_or_else(|| missing("listen"))?,
            udp: values.parse("udp")?.ok_or_else(|| missing("udp"))?,
            admin_listen: values.parse("admin-listen")?,
            secret: values.text("secret").map(|path| secret(values, path)).transpose()?,
            #[cfg(feature = "redis")]
            redis: redis(values)?,
            #[cfg(feature = "tls")]
            tls: tls(values)?,
            tracker: values.switch("tracker"),
            policy: Policy {
                origins: Origins::new(values.parse_list("allow-origin")?),
                trusted_proxies: values.parse_list("trusted-proxy")?,
                asn: values.text("asn-db").map(|path| asn(values, path)).transpose()?,
                public_host: values.text("public-url").map(|url| public_host(values, url)).transpose()?,
                rules: Rules { tokens: tokens(values)?, sharing: sharing(values)?, turn: turn(values)? },
            },
        })
    }
}

#[cfg(feature = "redis")]
fn redis(values: &Values) -> Result<Option<Servers>, ConfigError> {
    let mut urls = values.list("redis").join(",");
    if urls.is_empty() {
        return Ok(None);
    }
    if urls.starts_with('/') {
        let read = std::fs::read_to_string(&urls);
        let text = read.map_err(|error| values.refuse("redis", format!("cannot read {urls}: {error}")))?;
        urls = text.split_whitespace().collect::<Vec<_>>().join(",");
    }
    urls.parse().map(Some).map_err(|error: ServersError| values.refuse("redis", error.to_string()))
}

#[cfg(feature = "tls")]
fn tls(values: &Values) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    match (values.text("tls-cert"), values.text("tls-key")) {
        (Some(cert), Some(key)) => Ok(Some((cert.into(), key.into()))),
        (Some(_), None) => Err(values.refuse("tls-key", "is missing: name the private key of --tls-cert")),
        (None, Some(_)) => Err(values.refuse("tls-cert", "is missing: name the certificate of --tls-key")),
        (None, None) => Ok(None),
    }
}

fn asn(values: &Values, path: &str) -> Result<AsnDatabase, ConfigError> {
    AsnDatabase::open(Path::new(path)).map_err(|error| values.refuse("asn-db", error))
}

fn secret(values: &Values, path: &str) -> Result<[u8; 32], ConfigError> {
    let refuse = |reason: String| values.refuse("secret", reason);
    let bytes = std::fs::read(path).map_err(|error| refuse(format!("cannot read {path}: {error}")))?;
    if bytes.len() < 32 {
        return Err(refuse(format!("{path} has {} bytes: 32 or more are needed (openssl rand 48)", bytes.len())));
    }
    Ok(blake3::derive_key("marea signaling secret 1", &bytes))
}

fn tokens(values: &Values) -> Result<TokenRules, ConfigError> {
    let read = |path: &String| {
        TokenKey::read(Path::new(path)).map_err(|error| values.refuse("token-key", format!("{path}: {error}")))
    };
    let keys: Vec<TokenKey> = values.list("token-key").iter().map(read).collect::<Result<_, _>>()?;
    let required = values.switch("require-token");
    if required && keys.is_empty() {
        return Err(values.refuse("require-token", "needs a `token-key` to check tokens with"));
    }
    Ok(TokenRules { keys, peer_keys: values.parse_list("peer-key")?, required })
}

fn turn(values: &Values) -> Result<Option<Turn>, ConfigError> {
    match (values.list("turn"), values.text("turn-secret")) {
        ([], None) => Ok(None),
        ([], Some(_)) => Err(values.refuse("turn", "is missing: name the server whose secret `turn-secret` is")),
        (_, None) => {
            Err(values.refuse("turn-secret", "is missing: name a file with the secret of the server in `turn`"))
        }
        (urls, Some(path)) => Turn::read(urls, Path::new(path)).map(Some).map_err(|error| {
            let key = if matches!(error, TurnError::Url(_)) { "turn" } else { "turn-secret" };
            values.refuse(key, error.to_string())
        }),
    }
}

fn sharing(values: &Values) -> Result<SharingRules, ConfigError> {
    let percent = values.number("rollout").unwrap_or(100);
    let percent = u8::try_from(percent).ok().filter(|percent| *percent <= 100);
    let part = percent.ok_or_else(|| values.refuse("rollout", "is a percentage, 0 to 100"))?;
    let all = VideoRule { sharing: values.parse("p2p")?.unwrap_or_default(), part: f64::from(part) / 100.0 };
    let videos = values.parse_list("video-policy")?.into_iter().map(|NamedRule(video, rule)| (video, rule)).collect();
    Ok(SharingRules { all, videos, revoked: values.parse_list("revoked")?.into_iter().collect() })
}

fn public_host(values: &Values, url: &str) -> Result<String, ConfigError> {
    let uri = url.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https" | "ws" | "wss")));
    let host = uri.as_ref().and_then(Uri::host).and_then(host_of);
    host.map(str::to_owned)
        .ok_or_else(|| values.refuse("public-url", format!("{url:?} is no URL such as https://signal.example")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults::LAYERS;

    fn load(args: &[&str]) -> Result<Config, ConfigError> {
        let args = std::iter::once("marea-signaling").chain(args.iter().copied());
        let matches = clap::Command::new("marea-signaling").args(LAYERS.args()).get_matches_from(args);
        Config::from_values(&LAYERS.load(&matches, [])?)
    }

    #[test]
    fn the_defaults_are_a_configuration() {
        let config = load(&[]).unwrap();
        assert!(config.listen.ip().is_loopback());
        assert_eq!((config.udp, config.admin_listen), (Udp::Same, None));
        assert!(config.policy.origins.allow(Some("https://anything.example")));
    }

    #[test]
    fn the_printed_defaults_are_the_defaults() {
        let matches = clap::Command::new("marea-signaling").args(LAYERS.args()).get_matches_from(["marea-signaling"]);
        let printed = LAYERS.load(&matches, []).unwrap().to_toml();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &printed).unwrap();
        let args = ["marea-signaling", "--config", file.path().to_str().unwrap()];
        let matches = clap::Command::new("marea-signaling").args(LAYERS.args()).get_matches_from(args);
        let read = LAYERS.load(&matches, []).unwrap();
        assert_eq!(read.to_toml(), printed);
        for setting in LAYERS.settings {
            assert!(printed.contains(&format!("{} = ", setting.key)), "{} is missing", setting.key);
        }
    }

    #[test]
    fn the_public_host_is_that_of_the_url() {
        for (url, host) in [
            ("https://signal.example/signal", "signal.example"),
            ("wss://signal.example:8443", "signal.example"),
            ("http://[2001:db8::1]:80/", "[2001:db8::1]"),
        ] {
            assert_eq!(load(&["--public-url", url]).unwrap().policy.public_host.as_deref(), Some(host));
        }
        for wrong in ["signal.example", "ftp://a", "https://", "/x"] {
            let error = load(&["--public-url", wrong]).unwrap_err().to_string();
            assert!(error.contains("public-url") && error.contains("command line"), "{error}");
        }
    }

    #[cfg(feature = "redis")]
    #[test]
    fn redis_is_none_or_some_urls_or_a_file_with_them() {
        assert!(load(&[]).unwrap().redis.is_none());
        assert!(load(&["--redis", "redis://a:1,redis://b:2"]).unwrap().redis.is_some());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "redis://a:1\nredis://b:2\n").unwrap();
        assert!(load(&["--redis", file.path().to_str().unwrap()]).unwrap().redis.is_some());
        for wrong in ["http://a", "/nowhere/redis"] {
            let error = load(&["--redis", wrong]).unwrap_err().to_string();
            assert!(error.contains("redis"), "{error}");
        }
    }

    #[test]
    fn a_turn_server_needs_its_secret() {
        assert!(load(&[]).unwrap().policy.rules.turn.is_none());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
        let path = file.path().to_str().unwrap();
        let urls = "turn:a.example:3478?transport=udp,turns:a.example:443?transport=tcp";
        let turn = load(&["--turn", urls, "--turn-secret", path]).unwrap().policy.rules.turn.unwrap();
        assert_eq!(turn.urls().join(","), urls);
        for (wrong, key) in [
            (&["--turn", urls][..], "turn-secret"),
            (&["--turn-secret", path], "turn"),
            (&["--turn", "stun:a.example", "--turn-secret", path], "turn"),
            (&["--turn", urls, "--turn-secret", "/nowhere/turn"], "turn-secret"),
        ] {
            let error = load(wrong).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn wrong_values_are_named() {
        for (flag, value) in
            [("listen", "nowhere"), ("udp", "x"), ("trusted-proxy", "10.0.0.0/99"), ("allow-origin", "a.example")]
        {
            let error = load(&[&format!("--{flag}"), value]).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains(value), "{error}");
        }
        assert_eq!(load(&["--udp", "none"]).unwrap().udp, Udp::Off);
    }
}
