//! One `fn(&[u8])` per decoder of outside bytes. `cargo test` runs each over `corpus/` and over random bytes; a coverage
//! fuzzer can call the same functions. A target fails by panicking.

use crate::{
    playlist::{Playlist, parse},
    sdp::{CandidateFilter, MAX_ADDRESSES, MAX_CANDIDATES, MAX_SDP_LEN, candidate_allowed, check_sdp},
    wire,
};

/// A decoder's fuzz function.
pub type Target = fn(&[u8]);

/// Every target with its folder's name under `corpus/`.
pub const TARGETS: &[(&str, Target)] =
    &[("control", control), ("frame", frame), ("sdp", sdp), ("candidate", candidate), ("playlist", playlist)];

/// A message of the `control` channel: what decodes must encode to something that decodes to the same.
pub fn control(bytes: &[u8]) {
    if let Ok(Some(message)) = wire::decode_control(bytes) {
        let again = wire::encode_control(&message);
        assert!(again.len() == bytes.len(), "the encoding of {message:?} changed its length");
        assert!(wire::decode_control(&again) == Ok(Some(message)), "the encoding does not decode to the same");
    }
}

/// A message of the `data` channel: what decodes must encode to the same bytes.
pub fn frame(bytes: &[u8]) {
    if let Ok((frame, payload)) = wire::decode_frame(bytes) {
        assert!([&wire::encode_frame(&frame)[..], payload].concat() == bytes, "{frame:?} does not encode to its bytes");
    }
}

/// A session description: filtering one that is right leaves it right, with few enough candidates.
pub fn sdp(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(fingerprint) = check_sdp(text) else { return };
    for near in [false, true] {
        let filtered = CandidateFilter::new(near).filter_sdp(text);
        // Line ends become CRLF, so it may have grown.
        assert!(filtered.len() > MAX_SDP_LEN || check_sdp(&filtered) == Ok(fingerprint), "the filtered SDP is wrong");
        let left = filtered.lines().filter(|line| line.starts_with("a=candidate:")).count();
        assert!(left <= MAX_CANDIDATES, "{left} candidates are left");
    }
}

/// Candidates, one a line: none passes the filter that is not allowed alone, and no fifth address.
pub fn candidate(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    for near in [false, true] {
        let mut filter = CandidateFilter::new(near);
        let mut hosts = std::collections::BTreeSet::new();
        for line in text.split('\n') {
            assert!(
                near || !candidate_allowed(line, false) || candidate_allowed(line, true),
                "near allows less: {line}"
            );
            if filter.allow(line) {
                assert!(candidate_allowed(line, near), "the filter allows more: {line}");
                hosts.extend(line.split(' ').nth(4).map(str::to_lowercase));
            }
        }
        assert!(hosts.len() <= MAX_ADDRESSES, "{} addresses passed", hosts.len());
    }
}

/// A playlist with its tags: whatever is indexed with an object is found under its locator, and cannot overflow.
pub fn playlist(bytes: &[u8]) {
    let resolve = |base: &str, reference: &str| Some([base, reference].concat());
    let text = String::from_utf8_lossy(bytes);
    let Ok(Playlist::Media(list)) = parse(&text, "https://a.example/v/list.m3u8?token=x", &resolve) else { return };
    // A few are enough: to find each of many takes quadratic time.
    for (locator, object) in list.locators().take(100) {
        assert!(list.find(&locator.url, locator.range).is_some_and(|found| found.root == object.root), "{locator:?}");
        assert!(locator.range.is_none_or(|range| range.start.checked_add(range.len).is_some()), "{locator:?}");
    }
}
