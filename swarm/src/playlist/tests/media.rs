use super::*;
use crate::ids::MAX_OBJECT_SIZE;

#[test]
fn a_tagged_fmp4_vod_is_indexed() {
    let text = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        "#EXT-X-TARGETDURATION:4",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        MAREA,
        &tag(ObjectKind::Map, 1, 800),
        "#EXT-X-MAP:URI=\"init.mp4\"",
        &segment_tag(2, 100_000),
        "#EXTINF:4.000000,",
        "seg0.m4s",
        &segment_tag(3, 90_000),
        "#EXTINF:2.5,last",
        "seg1.m4s",
        "#EXT-X-ENDLIST",
        "",
    ]
    .join("\n");
    let playlist = media(&text);
    assert_eq!(playlist.url, URL);
    assert_eq!(playlist.tag.as_ref().unwrap().video, "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!((playlist.tag_error, playlist.unusable_tags), (None, 0));
    assert_eq!(playlist.target_duration_ms, 4_000.0);
    assert!(playlist.ended);
    assert_eq!(names(&playlist), ["seg0.m4s", "seg1.m4s"]);
    let [map] = &playlist.maps[..] else { panic!("{:?}", playlist.maps) };
    assert_eq!((name(&map.locator), map.object, map.line), ("init.mp4", object(1, 800), 7));
    let [first, last] = &playlist.segments[..] else { panic!() };
    assert_eq!((first.msn, first.start_ms, first.duration_ms, first.line), (0, 0.0, 4_000.0, 9));
    assert_eq!((last.msn, last.start_ms, last.duration_ms, last.line), (1, 4_000.0, 2_500.0, 12));
    assert_eq!((first.object, last.object), (object(2, 100_000), object(3, 90_000)));
    assert_eq!((first.map, last.map), (Some(0), Some(0)));
    let roots: Vec<_> = playlist.locators().map(|(_, object)| object.root).collect();
    assert_eq!(roots, [root(1), root(2), root(3)]);
}

#[test]
fn byte_ranges_beyond_4_gib_carry_on_where_the_last_one_ended() {
    let at =
        |n, size, at| Tag::Object(ObjectKind::Segment, ObjectTag { size, root: root(n), at: Some(at) }).to_string();
    let playlist = media(&format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:6\n{MAREA}\n\
         {}\n#EXT-X-MAP:URI=\"all.mp4\",BYTERANGE=\"720@0\"\n\
         {}\n#EXTINF:6,\n#EXT-X-BYTERANGE:1000@5000000000\nall.mp4\n\
         {}\n#EXT-X-BYTERANGE:500\n#EXTINF:6,\nall.mp4\n\
         #EXTINF:6,\n#EXT-X-BYTERANGE: 40 @ 7 \nall.mp4\n\
         #EXTINF:6,\n#EXT-X-BYTERANGE:10\nother.mp4\n\
         #EXTINF:6,\nall.mp4\n\
         #EXTINF:6,\n#EXT-X-BYTERANGE:10\nall.mp4\n",
        tag(ObjectKind::Map, 1, 720),
        at(2, 1_000, 32),
        at(3, 500, 64),
    ));
    let ranges: Vec<_> = playlist.segments.iter().map(|segment| segment.locator.range).collect();
    let first = range(5_000_000_000, 1_000);
    let expected = [first, range(5_000_001_000, 500), range(7, 40), range(47, 10), None, range(0, 10)];
    assert_eq!(ranges, expected);
    assert_eq!(playlist.maps[0].locator.range, range(0, 720));
    assert_eq!(playlist.segments[0].object, object(2, 1_000).map(|object| ObjectRef { list_at: 32, ..object }));
    assert_eq!(playlist.segments[1].object, object(3, 500).map(|object| ObjectRef { list_at: 64, ..object }));
    assert_eq!(playlist.segments[1].line, 11, "the line of EXTINF, wherever EXT-X-BYTERANGE stands");
}

#[test]
fn a_range_that_makes_no_sense_leaves_the_segment_unexchanged() {
    for stated in ["18446744073709551615@1", "99999999999999999999@0", "-4@0", "4@-1", "4@", "@4", "", "x", "4@1@2"] {
        let playlist = media(&format!(
            "#EXTM3U\n{MAREA}\n{}\n#EXTINF:4,\n#EXT-X-BYTERANGE:{stated}\na.mp4\n\
             {}\n#EXTINF:4,\n#EXT-X-BYTERANGE:6\na.mp4\n",
            segment_tag(1, 4),
            segment_tag(2, 6),
        ));
        assert_eq!((playlist.segments[0].object, playlist.unusable_tags), (None, 1), "{stated}");
        assert_eq!(playlist.segments[1].object, object(2, 6), "{stated}");
        assert_eq!(playlist.segments[1].locator.range, range(0, 6), "{stated}");
    }
}

#[test]
fn a_live_window_is_numbered_in_64_bits() {
    let playlist = media(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXTINF:2,\nb.ts\n#EXT-X-MEDIA-SEQUENCE:5000000000\n",
    );
    assert_eq!(playlist.segments.iter().map(|segment| segment.msn).collect::<Vec<_>>(), [5_000_000_000, 5_000_000_001]);
    assert!(!playlist.ended);
    let last = media("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:18446744073709551615\n#EXTINF:2,\na.ts\n#EXTINF:2,\nb.ts\n");
    assert_eq!(last.segments[1].msn, u64::MAX);
    assert_eq!(media("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:-3\n#EXTINF:2,\na.ts\n").media_sequence, 0);
}

#[test]
fn low_latency_parts_belong_to_their_segment_or_trail() {
    let playlist = media(&format!(
        "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:4\n{MAREA}\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0,CAN-SKIP-UNTIL=24.0\n#EXT-X-PART-INF:PART-TARGET=0.33\n\
         #EXT-X-MEDIA-SEQUENCE:266\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n\
         {}\n#EXT-X-PART:DURATION=0.33334,URI=\"269.1.mp4\",INDEPENDENT=YES\n\
         {}\n#EXT-X-PART:DURATION=0.33334,URI=\"269.mp4\",BYTERANGE=\"20@100\"\n\
         {}\n#EXT-X-PART:DURATION=0.33334,URI=\"269.mp4\",BYTERANGE=\"30\"\n\
         {}\n#EXT-X-PART:DURATION=0.33334,URI=\"gone.mp4\",GAP=YES\n\
         #EXT-X-PROGRAM-DATE-TIME:2019-02-14T02:14:00.106Z\n{}\n#EXTINF:4.00008,\n269.mp4\n\
         {}\n#EXT-X-PART:DURATION=0.4,URI=\"270.1.mp4\"\n\
         #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"270.2.mp4\"\n#EXT-X-RENDITION-REPORT:URI=\"../1M/p.m3u8\",LAST-MSN=273,LAST-PART=2\n",
        tag(ObjectKind::Part, 1, 10),
        tag(ObjectKind::Part, 2, 20),
        tag(ObjectKind::Part, 3, 30),
        tag(ObjectKind::Part, 4, 40),
        segment_tag(5, 50),
        tag(ObjectKind::Part, 6, 60),
    ));
    let [segment] = &playlist.segments[..] else { panic!() };
    assert_eq!((playlist.skipped, segment.msn, segment.object), (3, 269, object(5, 50)));
    let parts: Vec<_> =
        segment.parts.iter().map(|part| (name(&part.locator), part.locator.range, part.object)).collect();
    let expected = [
        ("269.1.mp4", None, object(1, 10)),
        ("269.mp4", range(100, 20), object(2, 20)),
        ("269.mp4", range(120, 30), object(3, 30)),
        ("gone.mp4", None, None),
    ];
    assert_eq!(parts, expected);
    assert!((segment.parts[0].duration_ms - 333.34).abs() < 1e-9);
    let [part] = &playlist.trailing_parts[..] else { panic!() };
    assert_eq!((name(&part.locator), part.object, part.duration_ms), ("270.1.mp4", object(6, 60), 400.0));
    assert_eq!(playlist.unusable_tags, 0);
}

#[test]
fn variables_are_put_in_where_they_are_defined() {
    let playlist = media(&format!(
        "#EXTM3U\n#EXT-X-VERSION:11\n#EXT-X-TARGETDURATION:4\n{MAREA}\n#EXT-X-DEFINE:NAME=\"host\",VALUE=\"https://cdn.example\"\n\
         #EXT-X-DEFINE:NAME=\"base\",VALUE=\"{{$host}}/v\"\n#EXT-X-DEFINE:QUERYPARAM=\"token\"\n#EXT-X-DEFINE:IMPORT=\"auth\"\n\
         #EXT-X-MAP:URI=\"{{$base}}/init.mp4\"\n\
         {}\n#EXTINF:4,\n{{$base}}/0.ts?k={{$auth}}\n\
         {}\n#EXTINF:4,\n{{$base}}/1.ts\n\
         #EXTINF:4,\ns{{$token}}.ts\n#EXTINF:4,\n{{$base/2.ts\n#EXTINF:4,\n$base{{}}.ts\n",
        segment_tag(1, 4),
        segment_tag(2, 4),
    ));
    assert_eq!(playlist.maps[0].locator.url, "https://cdn.example/v/init.mp4");
    let [imported, plain, ..] = &playlist.segments[..] else { panic!() };
    assert_eq!((imported.locator.url.as_str(), imported.object), ("", None), "what is not defined is not guessed");
    assert_eq!((plain.locator.url.as_str(), plain.object), ("https://cdn.example/v/1.ts", object(2, 4)));
    // The token holds a space, which the resolver takes for no URL: it was decoded.
    assert_eq!(names(&playlist)[2..], ["", "", "$base{}.ts"]);
    let query = media(
        "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"v\"\n#EXT-X-DEFINE:QUERYPARAM=\"none\"\n#EXTINF:1,\ns{$v}.ts\n#EXTINF:1,\n{$none}.ts\n",
    );
    assert_eq!(names(&query), ["s1.ts", ""]);
}

#[test]
fn a_byte_order_mark_and_crlf_line_ends_change_nothing() {
    let text = format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n{MAREA}\n{}\n#EXTINF:4,\nseg0.ts\n\n# a comment\n{}\n#EXTINF:4\nseg1.ts",
        segment_tag(1, 10),
        segment_tag(2, 20)
    );
    let plain = media(&text);
    let odd = media(&format!("\u{feff}{}", text.replace('\n', " \r\n")));
    assert_eq!(odd.segments, plain.segments);
    assert_eq!(odd.tag, plain.tag);
    assert_eq!((plain.segments[1].line, plain.segments[1].object), (9, object(2, 20)));
}

#[test]
fn durations_are_finite_whatever_they_say() {
    let duration = |stated: &str| media(&format!("#EXTM3U\n#EXTINF:{stated}\na.ts\n")).segments[0].duration_ms;
    for (stated, milliseconds) in [
        ("4", 4_000.0),
        ("4,", 4_000.0),
        (" 4.5 ,a title, with commas", 4_500.0),
        ("9.009,", 9_009.0),
        (".5,", 500.0),
        ("4.,", 4_000.0),
        ("6.0060060060060060060060060060060,", 6_006.006006),
        ("-1,", 0.0),
        ("nan,", 0.0),
        ("inf,", 0.0),
        ("1e300,", 1_000.0),
        (",", 0.0),
        ("99999999999999999999999999,", 1e9),
    ] {
        let found = duration(stated);
        assert!((found - milliseconds).abs() < 1e-6, "{stated}: {found}");
    }
    let digits = "9".repeat(400);
    assert_eq!(duration(&digits), 1e9, "not infinity");
    assert_eq!(media("#EXTM3U\n#EXTINF:3,\na.ts\n#EXTINF:5,\nb.ts\n").target_duration_ms, 5_000.0);
    assert_eq!(media("#EXTM3U\n#EXT-X-TARGETDURATION:6.4\n").target_duration_ms, 6_400.0);
}

#[test]
fn an_init_section_holds_until_the_next_one() {
    let playlist = media(
        "#EXTM3U\n#EXTINF:4,\n0.ts\n#EXT-X-MAP:URI=\"a.mp4\"\n#EXTINF:4,\n1.mp4\n#EXTINF:4,\n2.mp4\n\
         #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"b.mp4\"\n#EXTINF:4,\n3.mp4\n#EXT-X-GAP\n#EXTINF:4,\n4.mp4\n",
    );
    assert_eq!(
        playlist.segments.iter().map(|segment| segment.map).collect::<Vec<_>>(),
        [None, Some(0), Some(0), Some(1), Some(1)]
    );
    assert_eq!(
        playlist.maps.iter().map(|map| (name(&map.locator), map.line)).collect::<Vec<_>>(),
        [("a.mp4", 3), ("b.mp4", 9)]
    );
    assert_eq!(
        playlist.segments.iter().filter(|segment| segment.discontinuity).map(|s| s.msn).collect::<Vec<_>>(),
        [3]
    );
    assert_eq!(playlist.segments.iter().filter(|segment| segment.gap).map(|s| s.msn).collect::<Vec<_>>(), [4]);
}

#[test]
fn a_uri_without_extinf_is_a_segment_and_a_trailing_extinf_is_none() {
    let playlist = media(
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\nbare.ts\n#EXTINF:1,\n#EXTINF:2,\nb.ts\n#EXTINF:4,\n#EXT-X-KEY:METHOD=NONE\n",
    );
    assert_eq!(names(&playlist), ["bare.ts", "b.ts"]);
    assert_eq!((playlist.segments[0].duration_ms, playlist.segments[0].line), (0.0, 2));
    assert_eq!((playlist.segments[1].duration_ms, playlist.segments[1].line), (2_000.0, 4));
}

#[test]
fn object_tags_count_only_under_a_tag_that_is_understood() {
    let with = |marea: &str| media(&format!("#EXTM3U\n{}\n#EXTINF:4,\na.ts\n{marea}\n", segment_tag(1, 4)));
    assert_eq!(with(MAREA).segments[0].object, object(1, 4), "wherever it stands");
    assert_eq!(with(&format!("{MAREA}\n{MAREA}")).segments[0].object, object(1, 4));
    for (marea, error) in [
        ("", None),
        ("#EXT-X-MAREA:VERSION=2,PIECE=65536,VIDEO=\"x\"", Some(TagError::PlaylistVersion)),
        ("#EXT-X-MAREA:VERSION=1,PIECE=16384,VIDEO=\"x\"", Some(TagError::BadTags { attribute: "PIECE" })),
        ("#EXT-X-MAREA:VERSION=1,PIECE=65536,VIDEO=", Some(TagError::BadTags { attribute: "VIDEO" })),
        (&format!("{MAREA}\n#EXT-X-MAREA:VERSION=1,PIECE=65536,VIDEO=\"y\""), Some(TagError::TwoTags)),
    ] {
        let playlist = with(marea);
        assert_eq!((playlist.tag.is_none(), playlist.tag_error), (true, error), "{marea}");
        assert_eq!(playlist.locators().count(), 0, "{marea}");
        assert_eq!(names(&playlist), ["a.ts"], "it still plays");
    }
}

#[test]
fn a_tag_that_cannot_be_used_costs_only_its_own_segment() {
    let cut = segment_tag(9, 4);
    for (tags, usable) in [
        (segment_tag(1, 0), false),
        (segment_tag(1, MAX_OBJECT_SIZE), true),
        (segment_tag(1, MAX_OBJECT_SIZE + 1), false),
        (segment_tag(1, u64::MAX), false),
        (cut[..cut.len() - 5].to_owned(), false),
        (cut[..30].to_owned(), false),
        (format!("{}\n{}", segment_tag(1, 4), segment_tag(1, 4)), true),
        (format!("{}\n{}", segment_tag(1, 4), segment_tag(3, 4)), false),
        (format!("{}\n{}", segment_tag(1, 4), &cut[..40]), false),
        (format!("{}\n{}", &cut[..40], segment_tag(1, 4)), false),
    ] {
        let playlist =
            media(&format!("#EXTM3U\n{MAREA}\n{tags}\n#EXTINF:4,\na.ts\n{}\n#EXTINF:4,\nb.ts\n", segment_tag(2, 7)));
        assert_eq!(playlist.segments[0].object.is_some(), usable, "{tags}");
        assert_eq!(playlist.unusable_tags, u32::from(!usable), "{tags}");
        assert_eq!(playlist.segments[1].object, object(2, 7), "{tags}");
        assert_eq!(playlist.tag_error, None, "{tags}");
    }
}

#[test]
fn a_tag_never_slips_to_the_next_segment() {
    let playlist = media(&format!("#EXTM3U\n{MAREA}\n{}\n#EXTINF:4,\nno url\n#EXTINF:4,\nb.ts\n", segment_tag(1, 4)));
    assert_eq!(playlist.segments.iter().map(|segment| segment.object).collect::<Vec<_>>(), [None, None]);
}

#[test]
fn a_size_that_contradicts_its_byte_range_is_refused() {
    let playlist = media(&format!(
        "#EXTM3U\n{MAREA}\n{}\n#EXTINF:4,\n#EXT-X-BYTERANGE:11@0\na.mp4\n{}\n#EXTINF:4,\n#EXT-X-BYTERANGE:10@11\na.mp4\n",
        segment_tag(1, 10),
        segment_tag(2, 10),
    ));
    assert_eq!((playlist.segments[0].object, playlist.segments[1].object), (None, object(2, 10)));
    assert_eq!(playlist.unusable_tags, 1);
}

#[test]
fn contradictions_are_refused_on_both_sides() {
    let segments = |list: &[(u8, u64, &str)]| {
        let lines: String =
            list.iter().map(|(n, size, uri)| format!("{}\n#EXTINF:4,\n{uri}\n", segment_tag(*n, *size))).collect();
        let playlist = media(&format!("#EXTM3U\n{MAREA}\n{lines}"));
        let objects: Vec<_> = playlist.segments.iter().map(|segment| segment.object.is_some()).collect();
        (objects, playlist.unusable_tags)
    };
    let two_roots = [(1, 5, "a.ts"), (2, 5, "b.ts"), (3, 5, "a.ts#x"), (1, 5, "c.ts")];
    assert_eq!(segments(&two_roots), (vec![false, true, false, true], 2));
    let two_sizes = [(1, 5, "a.ts"), (1, 6, "b.ts"), (2, 5, "c.ts")];
    assert_eq!(segments(&two_sizes), (vec![false, false, true], 2));
    let one_object_twice = [(1, 5, "a.ts"), (1, 5, "a.ts"), (1, 5, "b.ts")];
    assert_eq!(segments(&one_object_twice), (vec![true, true, true], 0));
}

#[test]
fn a_peertube_single_file_playlist_is_indexed() {
    let playlist = media(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n\
         #EXT-X-MAP:URI=\"0e1f-720-fragmented.mp4\",BYTERANGE=\"1370@0\"\n#EXTINF:4.000000,\n#EXT-X-BYTERANGE:502323@1370\n\
         0e1f-720-fragmented.mp4\n#EXTINF:2.120000,\n#EXT-X-BYTERANGE:243000@503693\n0e1f-720-fragmented.mp4\n#EXT-X-ENDLIST\n",
    );
    assert_eq!(playlist.segments[1].locator.range, range(503_693, 243_000));
    assert_eq!((playlist.tag, playlist.tag_error, playlist.unusable_tags), (None, None, 0));
}

#[test]
fn tags_of_other_kinds_and_later_editions_are_passed_over() {
    let playlist = media(
        "#EXTM3U\n#EXT-X-VERSION:99\n#EXT-X-TARGETDURATION:4\n#EXT\n#EXT:\n#EXT-X-\n#EXTINF\n#EXT-X-KEY:METHOD=AES-256,URI=\"k\",IV=0x1\n\
         #EXT-X-DATERANGE:ID=\"x\",DURATION=-1,END-ON-NEXT=YES,X-foo=bar\n#EXT-X-BITRATE:no\n#EXT-X-NEW-THING\n#EXT-X-I-FRAMES-ONLY\n\
         #EXTINF:4,\na.ts\n",
    );
    assert_eq!(names(&playlist), ["a.ts"]);
}
