//! `Range` and the conditional headers (RFC 9110 §13 and §14), for one representation of known length.

use http::{HeaderMap, header};

/// What part of a representation is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it: no range, several ranges (which RFC 9110 lets a server ignore), another unit, or an `If-Range` that
    /// does not fit.
    Whole,
    /// `len` bytes from `start`.
    Part { start: u64, len: u64 },
    /// A range that lies outside: 416.
    Outside,
}

/// Reads `Range` and `If-Range` against a representation of `size` bytes with the strong tag `etag`.
pub(crate) fn wanted(headers: &HeaderMap, etag: &str, size: u64) -> Wanted {
    let Some(range) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else { return Wanted::Whole };
    if let Some(condition) = headers.get(header::IF_RANGE) {
        // Only a strong tag proves that the bytes are the same; dates have whole seconds.
        if condition.as_bytes() != etag.as_bytes() {
            return Wanted::Whole;
        }
    }
    parse(range, size)
}

fn parse(range: &str, size: u64) -> Wanted {
    let Some((unit, spec)) = range.split_once('=') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Wanted::Whole;
    }
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
    match (number(first), number(last)) {
        // The last `n` bytes.
        (None, Some(n)) if first.is_empty() => {
            let len = n.min(size);
            if len == 0 { Wanted::Outside } else { Wanted::Part { start: size - len, len } }
        }
        (Some(start), last_byte) if last.is_empty() || last_byte.is_some() => {
            let end = last_byte.map_or(size, |last| last.saturating_add(1).min(size));
            if last_byte.is_some_and(|last| last < start) || start >= size {
                Wanted::Outside
            } else {
                Wanted::Part { start, len: end - start }
            }
        }
        _ => Wanted::Whole,
    }
}

/// Digits only; one too big for u64 is as good as infinite.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Whether the client already has this representation (`If-None-Match`, else `If-Modified-Since` to the letter, as
/// nginx does: only the very date that was given out).
pub(crate) fn not_modified(headers: &HeaderMap, etag: &str, last_modified: Option<&str>) -> bool {
    let mut tags = headers.get_all(header::IF_NONE_MATCH).iter().peekable();
    if tags.peek().is_some() {
        return tags.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
        });
    }
    let since = headers.get(header::IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok());
    since.is_some() && since == last_modified
}

#[cfg(test)]
mod tests {
    use super::{Wanted::*, *};

    #[test]
    fn single_ranges_are_read_and_others_are_ignored() {
        for (range, expected) in [
            ("bytes=0-0", Part { start: 0, len: 1 }),
            ("bytes=0-", Part { start: 0, len: 100 }),
            ("bytes=10-19", Part { start: 10, len: 10 }),
            ("bytes=90-1000", Part { start: 90, len: 10 }),
            ("bytes=99-", Part { start: 99, len: 1 }),
            ("bytes=-5", Part { start: 95, len: 5 }),
            ("bytes=-500", Part { start: 0, len: 100 }),
            ("Bytes=1-2", Part { start: 1, len: 2 }),
            ("bytes=0-99999999999999999999999", Part { start: 0, len: 100 }),
            ("bytes=100-", Outside),
            ("bytes=5-1", Outside),
            ("bytes=-0", Outside),
            ("bytes=99999999999999999999999-", Outside),
            ("bytes=0-1,5-6", Whole),
            ("bytes=a-b", Whole),
            ("bytes=-", Whole),
            ("bytes=+1-2", Whole),
            ("items=0-1", Whole),
            ("bytes", Whole),
        ] {
            assert_eq!(parse(range, 100), expected, "{range}");
        }
        assert_eq!(parse("bytes=0-", 0), Outside);
    }
}
