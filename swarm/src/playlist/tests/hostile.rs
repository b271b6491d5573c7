use proptest::prelude::*;

use super::*;
use crate::ids::MAX_SEGMENTS;

#[test]
fn too_large_and_too_many_are_errors() {
    let long = format!("#EXTM3U\n#{}", "x".repeat(MAX_PLAYLIST_SIZE));
    assert_eq!(parse(&long, URL, &resolve).unwrap_err(), PlaylistError::TooLarge);
    for line in ["#EXTINF:1,\na\n", "#EXT-X-PART:URI=\"a\"\n", "#EXT-X-MAP:URI=\"a\"\n"] {
        let at = |count: usize| parse(&format!("#EXTM3U\n#EXTINF:\n{}", line.repeat(count)), URL, &resolve);
        assert!(at(MAX_SEGMENTS).is_ok(), "{line}");
        assert_eq!(at(MAX_SEGMENTS + 1).unwrap_err(), PlaylistError::TooMany, "{line}");
    }
    let renditions = format!("#EXTM3U\n{}", "#EXT-X-MEDIA:TYPE=AUDIO\n".repeat(MAX_SEGMENTS + 1));
    assert_eq!(parse(&renditions, URL, &resolve).unwrap_err(), PlaylistError::TooMany);
}

#[test]
fn variables_cannot_make_a_text_explode() {
    let mut text = format!("#EXTM3U\n#EXT-X-DEFINE:NAME=\"v0\",VALUE=\"{}\"\n", "x".repeat(1_000));
    for n in 1..2_000 {
        text += &format!("#EXT-X-DEFINE:NAME=\"v{n}\",VALUE=\"{{$v{}}}{{$v{}}}\"\n", n - 1, n - 1);
    }
    let once = media(&format!("{text}#EXTINF:1,\n{{$v2}}\n#EXTINF:1,\n{{$v3}}{{$v0}}\n#EXTINF:1,\n{{$v4}}\n"));
    assert_eq!(name(&once.segments[0].locator).len(), 4_000);
    assert!(names(&once)[1].is_empty() && names(&once)[2].is_empty(), "too long for a URL");
    let many = format!("{text}{}", "#EXTINF:1,\n{$v2}\n".repeat(MAX_SEGMENTS));
    assert_eq!(parse(&many, URL, &resolve).unwrap_err(), PlaylistError::TooLarge);
}

#[test]
fn a_large_playlist_is_read_in_linear_time() {
    let lines: String = (0..MAX_SEGMENTS).map(|n| format!("#EXTINF:4,\ns{n}.ts\n")).collect();
    let playlist = media(&format!("#EXTM3U\n{lines}#EXT-X-ENDLIST\n"));
    assert_eq!(playlist.segments.len(), MAX_SEGMENTS);
    assert_eq!(playlist.segments[MAX_SEGMENTS - 1].start_ms, 4_000.0 * (MAX_SEGMENTS - 1) as f64);
    // One line that fills the whole playlist.
    for filler in ["a=1,", "\"", ",", "=", "{$", "{$}", "%", "@"] {
        let value = filler.repeat(1_000_000 / filler.len());
        for name in ["MAP:URI=", "DEFINE:NAME=\"a\",VALUE=", "MAREA:", "MAREA-MAP:", "BYTERANGE:", "SKIP:"] {
            let _ = parse(&format!("#EXTM3U\n#EXTINF:\n#EXT-X-{name}{value}\n{value}\n"), URL, &resolve);
        }
    }
}

/// Lines that mean something, in any order, with any values.
fn line() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<u64>().prop_map(|n| n.to_string()),
        (0..9_u64).prop_map(|n| n.to_string()),
        "[-+]?[0-9]{0,25}(\\.[0-9]{0,20})?(e[0-9]{1,4})?",
        Just("nan".to_owned()),
    ];
    let uri = "(https://b\\.example/|/|)[ab]{0,2}(\\?[nm]=[12])?(\\{\\$[ab]\\}?)?(#x)?";
    let marea = prop_oneof![
        Just(MAREA.to_owned()),
        (0..3_u8, 0..20_u64).prop_map(|(n, size)| segment_tag(n, size)),
        (0..3_u8, 0..20_u64).prop_map(|(n, size)| tag(ObjectKind::Part, n, size)),
        (0..3_u8, 0..20_u64).prop_map(|(n, size)| tag(ObjectKind::Map, n, size)),
    ];
    prop_oneof![
        4 => uri,
        4 => marea,
        2 => number.clone().prop_map(|n| format!("#EXTINF:{n},")),
        1 => (number.clone(), prop::option::of(number.clone())).prop_map(|(len, start)| {
            format!("#EXT-X-BYTERANGE:{len}{}", start.map_or(String::new(), |start| format!("@{start}")))
        }),
        1 => (uri, number.clone()).prop_map(|(uri, n)| format!("#EXT-X-MAP:URI=\"{uri}\",BYTERANGE=\"{n}@{n}\"")),
        1 => (uri, number.clone()).prop_map(|(uri, n)| format!("#EXT-X-PART:URI=\"{uri}\",DURATION={n},BYTERANGE=\"{n}\"")),
        1 => ("[A-Z-]{0,12}", "\\PC{0,20}").prop_map(|(name, value)| format!("#EXT-X-{name}:{value}")),
        1 => number.clone().prop_map(|n| format!("#EXT-X-MEDIA-SEQUENCE:{n}")),
        1 => number.prop_map(|n| format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={n}")),
        1 => "[ab]".prop_map(|v| format!("#EXT-X-DEFINE:NAME=\"{v}\",VALUE=\"{v}{{$a}}\"")),
        1 => uri.prop_map(|uri| format!("#EXT-X-STREAM-INF:BANDWIDTH=1\n{uri}")),
        1 => "\\PC{0,30}",
    ]
}

/// Every line number must lead to what it is about.
fn check_lines(text: &str, playlist: &MediaPlaylist) {
    let lines: Vec<_> = text.split('\n').map(str::trim).collect();
    for line in playlist.segments.iter().map(|segment| lines[segment.line]) {
        assert!(line.starts_with("#EXTINF") || !line.starts_with('#'), "{line}");
    }
    assert!(playlist.maps.iter().all(|map| lines[map.line].starts_with("#EXT-X-MAP")));
    assert!(playlist.trailing_parts.iter().all(|part| lines[part.line].starts_with("#EXT-X-PART")));
}

/// What must hold of every index, whatever the text was.
fn check(playlist: &MediaPlaylist) {
    let first = playlist.media_sequence.saturating_add(playlist.skipped);
    let mut start_ms = 0.0;
    for (n, segment) in (0..).zip(&playlist.segments) {
        assert_eq!(segment.msn, first.saturating_add(n));
        assert_eq!(segment.start_ms, start_ms);
        assert!(segment.duration_ms.is_finite() && segment.duration_ms >= 0.0);
        start_ms += segment.duration_ms;
        assert!(segment.map.is_none_or(|map| map < playlist.maps.len()));
    }
    assert!(playlist.tag.is_none() || playlist.tag_error.is_none());
    assert!(playlist.tag.is_some() || playlist.locators().next().is_none());
    let mut by_locator = std::collections::HashMap::new();
    let mut by_root = std::collections::HashMap::new();
    for (locator, object) in playlist.locators() {
        assert!(!locator.url.is_empty() && !locator.url.contains('#'));
        assert!((1..=crate::ids::MAX_OBJECT_SIZE).contains(&object.size));
        assert!(
            locator.range.is_none_or(|range| range.len == object.size && range.start.checked_add(range.len).is_some())
        );
        assert_eq!(*by_locator.entry(locator).or_insert(object.root), object.root);
        assert_eq!(*by_root.entry(object.root).or_insert(object.size), object.size);
        assert_eq!(playlist.find(&locator.url, locator.range).map(|found| found.root), Some(object.root));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_lines_give_an_index_that_holds_together(
        lines in prop::collection::vec(line(), 0..60),
        end in prop_oneof![Just("\n"), Just("\r\n")],
    ) {
        let text = format!("#EXTM3U{end}{}", lines.join(end));
        if let Ok(Playlist::Media(playlist)) = parse(&text, URL, &resolve) {
            check_lines(&text, &playlist);
            check(&playlist);
            let mut update = MediaPlaylist { skipped: 2, ..playlist.clone() };
            if update.fill_skipped(&playlist) {
                check(&update);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), header in any::<bool>()) {
        let text = format!("{}{}", if header { "#EXTM3U\n#EXTINF:" } else { "" }, String::from_utf8_lossy(&bytes));
        let _ = parse(&text, URL, &resolve);
    }

    #[test]
    fn a_cut_playlist_never_gives_an_object_that_the_whole_does_not(cut in 0..2_000_usize) {
        let lines: String = (0..9).map(|n| format!("{}\n#EXTINF:4,\ns{n}.ts\n", segment_tag(n, 10 + u64::from(n)))).collect();
        let text = format!("#EXTM3U\n{MAREA}\n{lines}");
        let whole = media(&text);
        if let Ok(Playlist::Media(part)) = parse(&text[..cut.min(text.len())], URL, &resolve) {
            for (locator, object) in part.locators() {
                // A cut URL is another URL; what it names is checked when it arrives.
                prop_assert!(whole.locators().any(|(_, known)| known == object), "{locator:?}");
            }
        }
    }
}
