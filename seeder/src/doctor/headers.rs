//! What headers of an answer mean to a browser and to caches.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

use super::{
    client::{Reply, is_of},
    report::Report,
};

/// Clocks further apart than this make signatures, tokens and live latency wrong.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Shorter texts are not worth compressing: they fit in one packet.
const WORTH_PACKING: usize = 1400;

/// Oldest that a VOD playlist may be in a cache, in seconds: signatures, ids and tags may be renewed at any time.
const VOD_PLAYLIST_AGE: u64 = 3600;

const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";

/// Whether `list` (a comma-separated header) names `word` or everything.
fn names(list: &str, word: &str) -> bool {
    list.split(',').any(|item| item.trim() == "*" || item.trim().eq_ignore_ascii_case(word))
}

/// What keeps a page of `origin` from reading the answer.
fn cors_fault(headers: &HeaderMap, origin: &str) -> Option<String> {
    let values: Vec<_> = headers.get_all(header::ACCESS_CONTROL_ALLOW_ORIGIN).iter().collect();
    match values[..] {
        [] => Some(format!("has no {ALLOW_ORIGIN}")),
        [value] if value == "*" || value == origin => None,
        [value] => Some(format!("has {ALLOW_ORIGIN}: {}", String::from_utf8_lossy(value.as_bytes()))),
        _ => Some(format!("has {ALLOW_ORIGIN} {} times, which browsers take for none", values.len())),
    }
}

/// `Access-Control-Allow-Origin`.
pub(super) fn cors(report: &mut Report, check: &'static str, reply: &Reply, origin: &str) {
    if is_of(&reply.url, origin) {
        return;
    }
    match cors_fault(&reply.headers, origin) {
        None => report.fine("cors", &reply.url, format!("pages of {origin} may read it")),
        Some(fault) => {
            let says = format!("{fault}: pages of {origin} cannot read this {check}");
            report.change("cors", &reply.url, says, format!("send {ALLOW_ORIGIN}: * (or {origin}), once"));
        }
    }
}

/// `Access-Control-Expose-Headers` of a part.
pub(super) fn exposed(report: &mut Report, reply: &Reply, origin: &str) {
    if is_of(&reply.url, origin) {
        return;
    }
    let list = reply.header(&header::ACCESS_CONTROL_EXPOSE_HEADERS);
    if names(&list, "Content-Range") {
        report.fine("cors-exposed", &reply.url, "pages may read Content-Range");
    } else {
        let remedy = "send Access-Control-Expose-Headers: Content-Length, Content-Range";
        report.change(
            "cors-exposed",
            &reply.url,
            "pages may not read Content-Range, so parts are taken on trust",
            remedy,
        );
    }
}

/// The answer to OPTIONS.
pub(super) fn preflight(report: &mut Report, reply: &Reply, origin: &str) {
    let allowed = reply.header(&header::ACCESS_CONTROL_ALLOW_HEADERS);
    let fault = if !reply.status.is_success() {
        Some(format!("OPTIONS is answered with {}", reply.status))
    } else if let Some(fault) = cors_fault(&reply.headers, origin) {
        Some(format!("the answer to OPTIONS {fault}"))
    } else if !names(&allowed, "range") {
        Some("the answer to OPTIONS does not allow the header Range".to_owned())
    } else {
        None
    };
    match fault {
        None => report.fine("preflight", &reply.url, "OPTIONS allows Range"),
        Some(says) => {
            let remedy = format!(
                "answer OPTIONS with 204, {ALLOW_ORIGIN}: *, Access-Control-Allow-Methods: GET, HEAD, OPTIONS and \
                 Access-Control-Allow-Headers: Range"
            );
            report.change("preflight", &reply.url, says, remedy);
        }
    }
}

/// Type of a playlist.
pub(super) fn playlist_type(report: &mut Report, reply: &Reply) {
    let sent = reply.header(&header::CONTENT_TYPE);
    let known = ["application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/mpegurl", "audio/x-mpegurl"];
    if known.iter().any(|known| reply.is_type(known)) {
        report.fine("content-type", &reply.url, sent);
    } else {
        let remedy = "send Content-Type: application/vnd.apple.mpegurl for .m3u8 (RFC 8216 §4)";
        report.change("content-type", &reply.url, format!("the playlist has the content type {sent:?}"), remedy);
    }
}

/// Type of a segment: whatever is no text. WebVTT is one.
pub(super) fn segment_type(report: &mut Report, reply: &Reply) {
    let sent = reply.header(&header::CONTENT_TYPE);
    if !sent.starts_with("text/") || reply.is_type("text/vtt") {
        report.fine("content-type", &reply.url, if sent.is_empty() { "none, which does no harm" } else { &sent });
    } else {
        // `.ts` is a source file of Qt or TypeScript to many servers.
        let remedy = "send video/mp2t for .ts, video/mp4 for .m4s and .mp4: proxies compress and rewrite texts";
        report.change("content-type", &reply.url, format!("the segment has the content type {sent:?}"), remedy);
    }
}

/// Seconds of `max-age`, and whether there is any word on caching at all.
fn max_age(reply: &Reply) -> (Option<u64>, bool) {
    let control = reply.header(&header::CACHE_CONTROL).to_ascii_lowercase();
    let age = |name: &str| control.split(',').find_map(|item| item.trim().strip_prefix(name)?.parse().ok());
    (age("s-maxage=").or_else(|| age("max-age=")), !control.is_empty() || reply.headers.contains_key(header::EXPIRES))
}

/// `Cache-Control` of a playlist; `live` is its target duration in seconds if it still grows.
pub(super) fn playlist_cache(report: &mut Report, reply: &Reply, live: Option<f64>) {
    let (age, any) = max_age(reply);
    let longest = live.map_or(VOD_PLAYLIST_AGE, |target| target.ceil() as u64);
    let remedy = match live {
        Some(_) => "send Cache-Control: max-age of half a target duration, rounded down",
        None => "send Cache-Control: max-age=10 (or no-cache): tags and signatures are renewed in place",
    };
    match age {
        Some(age) if age > longest => {
            let says = format!("caches keep the playlist for {age} s; {longest} s is the most that does no harm");
            report.change("cache", &reply.url, says, remedy);
        }
        _ if any => report.fine("cache", &reply.url, reply.header(&header::CACHE_CONTROL)),
        _ => report.change(
            "cache",
            &reply.url,
            "no Cache-Control: each cache keeps the playlist as long as it likes",
            remedy,
        ),
    }
}

/// `Cache-Control` of a segment.
pub(super) fn segment_cache(report: &mut Report, reply: &Reply) {
    let (age, any) = max_age(reply);
    let control = reply.header(&header::CACHE_CONTROL).to_ascii_lowercase();
    let remedy = "send Cache-Control: public, max-age=3600 (a year and immutable if names are never used again)";
    if control.contains("no-store") || control.contains("no-cache") || control.contains("private") || age == Some(0) {
        report.change("cache", &reply.url, format!("the segment is not kept by caches ({control})"), remedy);
    } else if any {
        report.fine("cache", &reply.url, control);
    } else {
        report.change(
            "cache",
            &reply.url,
            "no Cache-Control: each cache keeps the segment as long as it likes",
            remedy,
        );
    }
}

/// Playlists are texts, and tags make them longer: they should be compressed.
pub(super) fn playlist_packed(report: &mut Report, reply: &Reply) {
    let coding = reply.header(&header::CONTENT_ENCODING);
    if !coding.is_empty() {
        report.fine("compression", &reply.url, format!("the playlist is compressed ({coding})"));
    } else if reply.body.len() > WORTH_PACKING {
        let says = format!("the playlist's {} bytes are sent uncompressed", reply.body.len());
        let remedy =
            "compress application/vnd.apple.mpegurl (nginx: gzip on; gzip_types application/vnd.apple.mpegurl;)";
        report.change("compression", &reply.url, says, remedy);
    }
}

/// Segments are compressed already; packed again they cannot be asked for in parts.
pub(super) fn segment_packed(report: &mut Report, reply: &Reply) {
    let coding = reply.header(&header::CONTENT_ENCODING);
    if coding.is_empty() || coding.eq_ignore_ascii_case("identity") {
        report.fine("compression", &reply.url, "the segment is sent as it is");
    } else {
        let remedy = "compress no media: take their types out of gzip_types";
        report.change("compression", &reply.url, format!("the segment is sent compressed ({coding})"), remedy);
    }
}

/// `Date` against our own clock.
pub(super) fn clock(report: &mut Report, reply: &Reply) {
    let date = reply.header(&header::DATE);
    let Ok(mut theirs) = httpdate::parse_http_date(&date) else {
        return report.note("clock", &reply.url, "sends no Date, so its clock cannot be compared");
    };
    // From a cache: of when it was asked for.
    let age = reply.header(&HeaderName::from_static("age")).parse().unwrap_or(0);
    theirs = theirs.checked_add(Duration::from_secs(age)).unwrap_or(theirs);
    let apart = |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default();
    let (behind, ahead) = (apart(theirs, reply.at), apart(reply.at, theirs));
    let off = behind.max(ahead);
    if off <= CLOCK_TOLERANCE {
        report.fine("clock", &reply.url, "its clock is right");
    } else {
        let way = if behind > ahead { "behind" } else { "ahead of" };
        let says = format!("its clock is {} s {way} this machine's", off.as_secs());
        let remedy =
            "let both machines set their clocks (timedatectl set-ntp true): signatures and tokens expire by it";
        report.change("clock", &reply.url, says, remedy);
    }
}
