//! Whether and for how long an origin's answer may be kept (RFC 9111, RFC 5861).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};
use serde::{Deserialize, Serialize};

use crate::config::{ORIGIN_MEDIA_AGE, ORIGIN_PLAYLIST_AGE, STALE_IF_ERROR, STALE_WHILE_REVALIDATE};

/// How long an answer counts, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Life {
    /// It is served without asking.
    pub(super) fresh: u64,
    /// After that: it is served while another one is asked for.
    pub(super) revalidate: u64,
    /// After that: it is served while the origin fails.
    pub(super) on_error: u64,
    /// The origin said how long.
    pub(super) stated: bool,
}

/// For how long an answer with these headers counts. None if it is for one client only or must not be kept.
pub(super) fn life(headers: &HeaderMap, playlist: bool) -> Option<Life> {
    if headers.contains_key(header::SET_COOKIE) || list(headers, &header::VARY).any(|name| name == "*") {
        return None;
    }
    let mut directives = Directives::default();
    list(headers, &header::CACHE_CONTROL).for_each(|item| directives.read(&item));
    if directives.forbidden {
        return None;
    }
    let stated = directives.shared.or(directives.max).or_else(|| expires(headers));
    let age = number(headers, &header::AGE).unwrap_or(0);
    let default = if playlist { ORIGIN_PLAYLIST_AGE } else { ORIGIN_MEDIA_AGE };
    let fresh = match stated {
        _ if directives.always_ask => 0,
        Some(seconds) => seconds.saturating_sub(age),
        None => default.as_secs(),
    };
    let limit = |stated: Option<u64>, default: Duration| match stated {
        _ if directives.strict => 0,
        Some(seconds) => seconds.saturating_mul(1_000),
        None => u64::try_from(default.as_millis()).unwrap_or(u64::MAX),
    };
    // What has to be asked for each time is not served while it is being asked for.
    let revalidate = if directives.always_ask { Duration::ZERO } else { STALE_WHILE_REVALIDATE };
    Some(Life {
        fresh: fresh.saturating_mul(1_000),
        revalidate: limit(directives.revalidate, revalidate),
        on_error: limit(directives.on_error, STALE_IF_ERROR),
        stated: stated.is_some() || directives.always_ask,
    })
}

#[derive(Default)]
struct Directives {
    forbidden: bool,
    always_ask: bool,
    strict: bool,
    max: Option<u64>,
    shared: Option<u64>,
    revalidate: Option<u64>,
    on_error: Option<u64>,
}

impl Directives {
    fn read(&mut self, item: &str) {
        let (name, value) = item.split_once('=').unwrap_or((item, ""));
        // A number that is none is as good as 0 (RFC 9111 §4.2.1).
        let seconds = Some(value.trim().trim_matches('"').parse().unwrap_or(0));
        match name.trim() {
            "no-store" | "private" => self.forbidden = true,
            "no-cache" => self.always_ask = true,
            "must-revalidate" | "proxy-revalidate" => self.strict = true,
            "max-age" => self.max = seconds,
            "s-maxage" => self.shared = seconds,
            "stale-while-revalidate" => self.revalidate = seconds,
            "stale-if-error" => self.on_error = seconds,
            _ => {}
        }
    }
}

/// Seconds until `Expires`, as the origin's own clock has it.
fn expires(headers: &HeaderMap) -> Option<u64> {
    let date = |name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    // `Expires: 0` and the like mean "in the past".
    headers.get(header::EXPIRES)?;
    let from = date(header::DATE).unwrap_or_else(SystemTime::now);
    Some(date(header::EXPIRES).and_then(|at| at.duration_since(from).ok()).map_or(0, |left| left.as_secs()))
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The items of a list header, in lower case.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> + use<'a> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|item| item.trim().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&'static str, &str)]) -> Option<(u64, u64, u64)> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        life(&headers, false).map(|life| (life.fresh / 1_000, life.revalidate / 1_000, life.on_error / 1_000))
    }

    #[test]
    fn the_origin_decides_what_is_kept_and_for_how_long() {
        let (revalidate, on_error) = (STALE_WHILE_REVALIDATE.as_secs(), STALE_IF_ERROR.as_secs());
        let media = ORIGIN_MEDIA_AGE.as_secs();
        for (lines, expected) in [
            (&[][..], Some((media, revalidate, on_error))),
            (&[("cache-control", "max-age=60")], Some((60, revalidate, on_error))),
            (&[("cache-control", "max-age=60"), ("age", "50")], Some((10, revalidate, on_error))),
            (&[("cache-control", "Max-Age=60, s-maxage=5")], Some((5, revalidate, on_error))),
            (&[("cache-control", "max-age=9, stale-while-revalidate=3, stale-if-error=4")], Some((9, 3, 4))),
            (&[("cache-control", "max-age=9, must-revalidate")], Some((9, 0, 0))),
            (&[("cache-control", "max-age=x")], Some((0, revalidate, on_error))),
            (&[("cache-control", "no-cache")], Some((0, 0, on_error))),
            (&[("cache-control", "no-store")], None),
            (&[("cache-control", "max-age=60"), ("cache-control", "PRIVATE")], None),
            (&[("set-cookie", "a=b")], None),
            (&[("vary", "Origin, *")], None),
            (&[("vary", "Origin")], Some((media, revalidate, on_error))),
            (&[("expires", "0")], Some((0, revalidate, on_error))),
            (
                &[("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("expires", "Sun, 06 Nov 1994 08:50:37 GMT")],
                Some((60, revalidate, on_error)),
            ),
        ] {
            assert_eq!(read(lines), expected, "{lines:?}");
        }
    }
}
