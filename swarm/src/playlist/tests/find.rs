use super::*;

fn tagged(segments: &[(u8, &str)]) -> MediaPlaylist {
    let lines: String =
        segments.iter().map(|(n, uri)| format!("{}\n#EXTINF:4,\n{uri}\n", segment_tag(*n, 10))).collect();
    media(&format!("#EXTM3U\n{MAREA}\n{lines}"))
}

fn url(name: &str) -> String {
    format!("https://edge.example/videos/tide/{name}")
}

fn found(playlist: &MediaPlaylist, name: &str) -> Option<Root> {
    playlist.find(&url(name), None).map(|object| object.root)
}

#[test]
fn a_query_of_the_players_own_does_no_harm() {
    let playlist = tagged(&[(1, "a.ts"), (2, "b.ts?v=2")]);
    for name in ["a.ts", "a.ts?CMCD=br%3D800", "a.ts#t=1", "a.ts?x#y?z"] {
        assert_eq!(found(&playlist, name), Some(root(1)), "{name}");
    }
    for name in ["b.ts?v=2", "b.ts?v=2&token=x", "b.ts", "b.ts?token=y"] {
        assert_eq!(found(&playlist, name), Some(root(2)), "{name}");
    }
    assert_eq!(found(&playlist, "c.ts"), None);
    assert_eq!(playlist.find("https://other.example/videos/tide/a.ts", None), None);
    assert_eq!(playlist.find("", None), None);
}

#[test]
fn segments_that_differ_only_in_the_query_stay_apart() {
    let playlist = tagged(&[(1, "s.php?n=1"), (2, "s.php?n=2"), (3, "s.php")]);
    assert_eq!(found(&playlist, "s.php?n=1"), Some(root(1)));
    assert_eq!(found(&playlist, "s.php?n=2"), Some(root(2)));
    assert_eq!(found(&playlist, "s.php"), Some(root(3)));
    assert_eq!(found(&playlist, "s.php?n=3"), None);
    assert_eq!(found(&playlist, "s.php?n=1&token=x"), None);
}

#[test]
fn an_untagged_neighbour_also_makes_a_path_ambiguous() {
    let playlist = media(&format!("#EXTM3U\n{MAREA}\n{}\n#EXTINF:4,\ns?n=1\n#EXTINF:4,\ns?n=2\n", segment_tag(1, 10)));
    assert_eq!(found(&playlist, "s?n=1"), Some(root(1)));
    assert_eq!(found(&playlist, "s?n=2"), None, "it is listed and has no object");
    assert_eq!(found(&playlist, "s?n=3"), None);
}

#[test]
fn renditions_that_differ_only_in_the_query_stay_apart() {
    let (low, high) = (tagged(&[(1, "0.ts?q=360")]), tagged(&[(2, "0.ts?q=720")]));
    assert_eq!(found(&low, "0.ts?q=720"), Some(root(1)), "one playlist alone cannot know");
    let among = |name| find([&low, &high], &url(name), None).map(|object| object.root);
    assert_eq!(among("0.ts?q=360"), Some(root(1)));
    assert_eq!(among("0.ts?q=720"), Some(root(2)));
    assert_eq!(among("0.ts?q=1080"), None);
    assert_eq!(among("0.ts?q=720&token=x"), None);
}

#[test]
fn ranges_are_part_of_the_name() {
    let playlist = media(&format!(
        "#EXTM3U\n{MAREA}\n{}\n#EXTINF:4,\n#EXT-X-BYTERANGE:10@0\na.mp4?v=1\n{}\n#EXTINF:4,\n#EXT-X-BYTERANGE:20\na.mp4?v=1\n",
        segment_tag(1, 10),
        segment_tag(2, 20),
    ));
    let found = |name: &str, range| playlist.find(&url(name), range).map(|object| object.root);
    assert_eq!(found("a.mp4?v=1", range(0, 10)), Some(root(1)));
    assert_eq!(found("a.mp4?v=1", range(10, 20)), Some(root(2)));
    assert_eq!(found("a.mp4?token=x", range(10, 20)), Some(root(2)));
    assert_eq!(found("a.mp4?v=1", range(10, 21)), None);
    assert_eq!(found("a.mp4?v=1", None), None);
}

#[test]
fn parts_and_init_sections_are_found_too() {
    let playlist = media(&format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n{MAREA}\n{}\n#EXT-X-MAP:URI=\"i.mp4\"\n{}\n#EXT-X-PART:URI=\"p.mp4\",DURATION=1\n",
        tag(ObjectKind::Map, 1, 10),
        tag(ObjectKind::Part, 2, 10),
    ));
    assert_eq!(found(&playlist, "i.mp4"), Some(root(1)));
    assert_eq!(found(&playlist, "p.mp4?_HLS_part=1"), Some(root(2)));
}

#[test]
fn the_piece_list_lies_beside_its_object() {
    let list_url = |url: &str| Locator { url: url.into(), range: None }.list_url();
    assert_eq!(list_url("https://a.example/v/0.ts"), "https://a.example/v/0.ts.pieces");
    assert_eq!(list_url("https://a.example/v/0.ts?x=/y?z"), "https://a.example/v/0.ts.pieces?x=/y?z");
}
