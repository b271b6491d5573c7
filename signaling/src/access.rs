//! Who may use this server: which videos, which pages.

use std::{
    collections::HashSet,
    fmt,
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{ids::AnnounceId, sharing::SharingRules, token::TokenRules, turn::Turn};

/// Which videos this server matches.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// Every announce id.
    #[default]
    Any,
    /// Only those in the set; joins of others are answered `video-unknown`.
    Catalogue(Catalogue),
}

impl Access {
    /// Whether this video may be joined.
    pub fn allows(&self, video: &AnnounceId) -> bool {
        match self {
            Self::Any => true,
            Self::Catalogue(catalogue) => catalogue.contains(video),
        }
    }
}

/// What a shard goes by and what may change while it runs.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Tokens.
    pub tokens: TokenRules,
    /// What the site asks of its viewers.
    pub sharing: SharingRules,
    /// A relay for those who meet edges only.
    pub turn: Option<Turn>,
}

/// A set of announce ids that is shared: clones see each other's changes. Taking an id out refuses new joins;
/// [`crate::Signaling::revoke`] also ends the swarm that is there.
#[derive(Clone, Debug, Default)]
pub struct Catalogue(Arc<RwLock<HashSet<AnnounceId>>>);

impl Catalogue {
    /// Lets a video in. False if it was in.
    pub fn insert(&self, video: AnnounceId) -> bool {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(video)
    }

    /// Takes a video out. False if it was not in.
    pub fn remove(&self, video: &AnnounceId) -> bool {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(video)
    }

    /// Whether a video is in.
    pub fn contains(&self, video: &AnnounceId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(video)
    }
}

impl FromIterator<AnnounceId> for Catalogue {
    fn from_iter<I: IntoIterator<Item = AnnounceId>>(videos: I) -> Self {
        Self(Arc::new(RwLock::new(videos.into_iter().collect())))
    }
}

/// Pages that may connect. It stops other sites from using this server through their visitors' browsers; it does not
/// stop programs, which send any `Origin` or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<OriginRule>);

impl Origins {
    /// The pages that one of these rules names; with no rule, every page.
    pub fn new(rules: Vec<OriginRule>) -> Self {
        Self(rules)
    }

    /// Whether a request with this `Origin` header (`None`: without one) is accepted.
    pub fn allow(&self, origin: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        self.0.is_empty() || self.0.iter().any(|rule| rule.fits(origin))
    }
}

/// One origin, `https://a.example` or `http://a.example:8080`; or all subdomains of a host, `https://*.a.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginRule {
    /// Scheme with `://`, for a wildcard; else the whole origin.
    start: String,
    /// `.a.example` of a wildcard.
    suffix: Option<String>,
}

impl OriginRule {
    fn fits(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        match &self.suffix {
            None => origin == self.start,
            Some(suffix) => origin
                .strip_prefix(&self.start)
                .and_then(|host| host.strip_suffix(suffix.as_str()))
                .is_some_and(|sub| !sub.is_empty() && !sub.contains(['/', ':', '@'])),
        }
    }
}

impl FromStr for OriginRule {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let text = text.to_ascii_lowercase();
        let (scheme, host) = text.split_once("://").ok_or(OriginError)?;
        if !matches!(scheme, "http" | "https") || host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
            return Err(OriginError);
        }
        match host.strip_prefix('*') {
            Some(suffix) if suffix.starts_with('.') && !suffix.contains('*') => {
                Ok(Self { start: format!("{scheme}://"), suffix: Some(suffix.to_owned()) })
            }
            None if !host.contains('*') => Ok(Self { start: text, suffix: None }),
            _ => Err(OriginError),
        }
    }
}

/// A text that is no [`OriginRule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginError;

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an origin is https://host or https://host:port, without a path; https://*.host names all subdomains",
        )
    }
}

impl std::error::Error for OriginError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(rules: &[&str]) -> Origins {
        Origins::new(rules.iter().map(|rule| rule.parse().unwrap()).collect())
    }

    #[test]
    fn only_listed_origins_and_programs_without_one_are_accepted() {
        let list = origins(&["https://A.example", "https://*.b.example", "http://localhost:8080"]);
        for yes in ["https://a.example", "https://x.b.example", "https://x.y.b.example", "http://localhost:8080"] {
            assert!(list.allow(Some(yes)), "{yes}");
        }
        for no in [
            "http://a.example",
            "https://a.example:444",
            "https://b.example",
            "https://evil.example",
            "https://evil/x.b.example",
            "https://xb.example",
            "http://localhost",
            "null",
            "",
        ] {
            assert!(!list.allow(Some(no)), "{no}");
        }
        assert!(list.allow(None));
        assert!(Origins::default().allow(Some("https://anything.example")));
    }

    #[test]
    fn rules_that_could_not_fit_an_origin_are_refused() {
        for wrong in ["", "a.example", "https://", "https://a.example/", "ftp://a", "https://a.*", "https://*", "*"] {
            assert_eq!(wrong.parse::<OriginRule>(), Err(OriginError), "{wrong}");
        }
    }

    #[test]
    fn a_catalogue_is_shared_by_its_clones() {
        let catalogue = Catalogue::default();
        let access = Access::Catalogue(catalogue.clone());
        let video = AnnounceId::of_video("tide");
        assert!(!access.allows(&video));
        assert!(catalogue.insert(video));
        assert!(access.allows(&video));
        assert!(catalogue.remove(&video));
        assert!(!access.allows(&video));
        assert!(Access::Any.allows(&video));
    }
}
