use super::*;

fn window(first: u64, skipped: u64, segments: std::ops::Range<u64>, map: &str) -> MediaPlaylist {
    let skip = if skipped == 0 { String::new() } else { format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n") };
    let lines: String = segments.map(|n| format!("{}\n#EXTINF:2,\n{n}.mp4\n", segment_tag(n as u8, 10))).collect();
    media(&format!("#EXTM3U\n{MAREA}\n#EXT-X-MEDIA-SEQUENCE:{first}\n{skip}{map}{lines}"))
}

const MAP_A: &str = "#EXT-X-MAP:URI=\"a.mp4\"\n";
const MAP_B: &str = "#EXT-X-MAP:URI=\"b.mp4\"\n";

#[test]
fn skipped_segments_come_from_the_playlist_before() {
    let whole = window(10, 0, 10..16, MAP_A);
    let mut update = window(12, 3, 15..18, "");
    assert_eq!(update.segments[0].msn, 15);
    assert!(update.fill_skipped(&whole));
    assert_eq!(update.skipped, 0);
    assert_eq!(names(&update), ["12.mp4", "13.mp4", "14.mp4", "15.mp4", "16.mp4", "17.mp4"]);
    assert_eq!(update.segments.iter().map(|segment| segment.msn).collect::<Vec<_>>(), [12, 13, 14, 15, 16, 17]);
    assert_eq!(update.segments.iter().map(|s| s.start_ms).collect::<Vec<_>>(), [0.0, 2e3, 4e3, 6e3, 8e3, 10e3]);
    assert_eq!(update.locators().count(), 6);
    assert!(update.segments.iter().all(|segment| segment.map == Some(0)), "the init section still applies");
    assert_eq!(update.maps.len(), 1);
}

#[test]
fn init_sections_are_renumbered_and_do_not_pile_up() {
    let mut current = window(0, 0, 0..4, MAP_A);
    for first in 1..20 {
        let mut update = window(first, 3, first + 3..first + 4, if first == 5 { MAP_B } else { "" });
        assert!(update.fill_skipped(&current));
        current = update;
        let expected = |msn: u64| if msn >= 8 { "b.mp4" } else { "a.mp4" };
        for segment in &current.segments {
            assert_eq!(segment.map.map(|map| name(&current.maps[map].locator)), Some(expected(segment.msn)));
        }
    }
    assert_eq!(current.maps.len(), 1);
}

#[test]
fn an_init_section_that_is_said_again_is_one() {
    let mut current = window(0, 0, 0..4, MAP_A);
    for first in 1..20 {
        // Every update names the one that holds where it begins, as ours do.
        let mut update = window(first, 3, first + 3..first + 4, if first < 5 { MAP_A } else { MAP_B });
        assert!(update.fill_skipped(&current));
        current = update;
        let expected = |msn: u64| if msn >= 8 { "b.mp4" } else { "a.mp4" };
        for segment in &current.segments {
            assert_eq!(segment.map.map(|map| name(&current.maps[map].locator)), Some(expected(segment.msn)));
        }
        assert!(current.maps.len() <= 2, "{:?}", current.maps);
    }
}

#[test]
fn a_hole_leaves_the_update_as_it_was() {
    let whole = window(10, 0, 10..16, "");
    for mut update in [window(9, 3, 12..14, ""), window(14, 3, 17..18, ""), window(u64::MAX, u64::MAX, 0..1, "")] {
        let before = format!("{update:?}");
        assert!(!update.fill_skipped(&whole));
        assert_eq!(format!("{update:?}"), before);
    }
    let mut complete = window(10, 0, 10..12, "");
    assert!(complete.fill_skipped(&media("#EXTM3U\n#EXT-X-TARGETDURATION:2\n")));
}

#[test]
fn a_segment_that_changed_between_the_two_is_not_exchanged() {
    let whole = window(10, 0, 10..14, "");
    let mut update = window(11, 2, 13..14, "");
    update.segments[0].locator = whole.segments[2].locator.clone();
    assert!(update.fill_skipped(&whole));
    assert_eq!(update.segments.iter().map(|s| s.object.is_some()).collect::<Vec<_>>(), [true, false, false]);
}
