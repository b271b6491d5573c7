use super::*;
use crate::ids::MAX_OBJECT_SIZE;

const TEXT: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"a.mp4\",BYTERANGE=\"720@0\"\n\
    #EXTINF:4,\n#EXT-X-BYTERANGE:1000@720\na.mp4\n#EXTINF:4,\n#EXT-X-BYTERANGE:500@1720\na.mp4\n#EXTINF:4,\nb.ts\n";

#[test]
fn digests_give_objects_to_what_they_name() {
    let mut playlist = media(TEXT);
    playlist.add_digests(|locator| match (name(locator), locator.range?.start) {
        ("a.mp4", 720) => Some((root(1), 1_000)),
        _ => None,
    });
    let expected = ObjectRef { root: root(1), kind: HashKind::Sha256, size: 1_000, list_at: 0 };
    let objects: Vec<_> = playlist.segments.iter().map(|segment| segment.object).collect();
    assert_eq!(objects, [Some(expected), None, None]);
    assert_eq!(playlist.maps[0].object, None);
}

#[test]
fn sizes_that_cannot_be_are_left_out() {
    for size in [0, 999, MAX_OBJECT_SIZE + 1] {
        let mut playlist = media(TEXT);
        playlist.add_digests(|_| Some((root(1), size)));
        let ranged: Vec<_> = playlist.segments[..2].iter().filter_map(|segment| segment.object).collect();
        assert!(ranged.is_empty(), "{size}: {ranged:?}");
        assert_eq!(playlist.segments[2].object.is_some(), size == 999, "a whole file may have any size in the bounds");
    }
}

#[test]
fn one_digest_of_two_sizes_is_no_object() {
    let mut playlist = media(TEXT);
    playlist.add_digests(|locator| Some((root(1), locator.range.map_or(7, |range| range.len))));
    assert!(playlist.locators().next().is_none());
}

#[test]
fn digests_change_nothing_where_tags_are() {
    for tag in [MAREA, "#EXT-X-MAREA:VERSION=9"] {
        let mut playlist = media(&TEXT.replace("#EXTM3U", &format!("#EXTM3U\n{tag}")));
        playlist.add_digests(|locator| Some((root(1), locator.range?.len)));
        assert!(playlist.locators().next().is_none(), "{tag}");
    }
}
