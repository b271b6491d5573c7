//! Content-Security-Policy: what a page may load (W3C CSP3, as much as matters here).

use url::Url;

/// One policy. Where there are several, all must allow.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    directives: Vec<(String, Vec<String>)>,
}

impl Policy {
    /// All policies of a header or `<meta>`.
    pub(super) fn parse_list(text: &str) -> Vec<Self> {
        let policies = text.split(',').map(|policy| {
            let directives = policy.split(';').filter_map(|directive| {
                let mut words = directive.split_ascii_whitespace();
                let name = words.next()?.to_ascii_lowercase();
                Some((name, words.map(str::to_owned).collect()))
            });
            Self { directives: directives.collect() }
        });
        policies.filter(|policy: &Self| !policy.directives.is_empty()).collect()
    }

    /// The sources of the first of `names` that is there, else of `default-src`.
    fn sources(&self, names: &[&str]) -> Option<&[String]> {
        let find = |name: &str| self.directives.iter().find(|(known, _)| known == name);
        names.iter().find_map(|name| find(name)).or_else(|| find("default-src")).map(|(_, sources)| &sources[..])
    }

    /// Whether `names` (first that is there) let a page at `page` load `url`.
    pub(super) fn allows(&self, names: &[&str], url: &Url, page: &Url) -> bool {
        self.sources(names).is_none_or(|sources| sources.iter().any(|source| matches(source, url, page)))
    }

    /// The same for a script with this nonce.
    pub(super) fn allows_script(&self, url: &Url, page: &Url, nonce: Option<&str>) -> bool {
        let names = ["script-src-elem", "script-src"];
        let Some(sources) = self.sources(&names) else { return true };
        let has = |word: &str| sources.iter().any(|source| source.eq_ignore_ascii_case(word));
        let by_nonce = nonce.is_some_and(|nonce| sources.iter().any(|source| *source == format!("'nonce-{nonce}'")));
        by_nonce || (!has("'strict-dynamic'") && self.allows(&names, url, page))
    }

    /// Whether WebAssembly may be compiled.
    pub(super) fn allows_wasm(&self) -> bool {
        self.sources(&["script-src"]).is_none_or(|sources| {
            sources.iter().any(|source| {
                source.eq_ignore_ascii_case("'wasm-unsafe-eval'") || source.eq_ignore_ascii_case("'unsafe-eval'")
            })
        })
    }

    /// Whether Trusted Types are demanded and the policy `marea` is not among those that may be made.
    pub(super) fn refuses_our_types(&self) -> bool {
        let of = |name: &str| self.directives.iter().find(|(known, _)| known == name).map(|(_, words)| words);
        let named = |words: &Vec<String>| words.iter().any(|word| word == "marea" || word == "*");
        of("trusted-types").is_some_and(|words| !named(words))
    }
}

/// Whether a source expression fits `url`.
fn matches(source: &str, url: &Url, page: &Url) -> bool {
    let source = source.to_ascii_lowercase();
    if source == "'self'" {
        return same_site(url, page.scheme()) && url.host_str() == page.host_str() && port(url) == port(page);
    }
    if source == "*" {
        // Not `blob:` and `data:`.
        return matches!(url.scheme(), "http" | "https" | "ws" | "wss");
    }
    if let Some(scheme) = source.strip_suffix(':') {
        return same_site(url, scheme);
    }
    let (scheme, rest) = source.split_once("://").map_or((page.scheme(), &source[..]), |(scheme, rest)| (scheme, rest));
    if source.starts_with('\'') || !same_site(url, scheme) {
        return false;
    }
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (host, wanted) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let own = url.host_str().unwrap_or("");
    let host_fits = match host.strip_prefix("*.") {
        Some(domain) => own.strip_suffix(domain).is_some_and(|sub| sub.ends_with('.')),
        None => host == "*" || host == own,
    };
    let port_fits = match wanted {
        None => url.port().is_none(),
        Some("*") => true,
        Some(wanted) => port(url).is_some_and(|port| port.to_string() == wanted),
    };
    let path_fits = path.is_empty()
        || path == "/"
        || if path.ends_with('/') {
            url.path().to_ascii_lowercase().starts_with(path)
        } else {
            url.path().eq_ignore_ascii_case(path)
        };
    host_fits && port_fits && path_fits
}

fn port(url: &Url) -> Option<u16> {
    url.port_or_known_default()
}

/// Whether a source of `scheme` fits the scheme of `url`: the same, or the secure form, or that of WebSockets.
fn same_site(url: &Url, scheme: &str) -> bool {
    let scheme = scheme.trim_end_matches(':');
    match scheme {
        "http" => matches!(url.scheme(), "http" | "https" | "ws" | "wss"),
        "https" => matches!(url.scheme(), "https" | "wss"),
        "ws" => matches!(url.scheme(), "ws" | "wss"),
        _ => url.scheme() == scheme,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(source: &str, url: &str) -> bool {
        matches(source, &Url::parse(url).unwrap(), &Url::parse("https://www.example/page").unwrap())
    }

    #[test]
    fn sources_fit_as_the_standard_says() {
        for (source, url) in [
            ("'self'", "https://www.example/a.js"),
            ("'self'", "wss://www.example/signal"),
            ("*", "https://other.example/"),
            ("https:", "https://other.example/"),
            ("wss:", "wss://signal.example/signal"),
            ("blob:", "blob:https://www.example/1"),
            ("edge.example", "https://edge.example/a"),
            ("https://*.example", "https://a.b.example/"),
            ("https://edge.example:8443", "https://edge.example:8443/"),
            ("https://edge.example/videos/", "https://edge.example/videos/a.m3u8"),
        ] {
            assert!(allows(source, url), "{source} {url}");
        }
        for (source, url) in [
            ("'self'", "https://edge.example/"),
            ("'none'", "https://www.example/"),
            ("*", "blob:https://www.example/1"),
            ("https:", "http://other.example/"),
            ("https://*.example.org", "https://example.org/"),
            ("https://edge.example", "https://edge.example:8443/"),
            ("https://edge.example/videos/", "https://edge.example/other"),
        ] {
            assert!(!allows(source, url), "{source} {url}");
        }
    }
}
