//! The settings of the standalone server, read and checked.

use std::{net::SocketAddr, str::FromStr};

use http::Uri;

use crate::{
    access::Origins,
    address::host_of,
    layered::{ConfigError, Values},
    service::Policy,
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
            policy: Policy {
                origins: Origins::new(values.parse_list("allow-origin")?),
                trusted_proxies: values.parse_list("trusted-proxy")?,
                public_host: values.text("public-url").map(|url| public_host(values, url)).transpose()?,
            },
        })
    }
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
