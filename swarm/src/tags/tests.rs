use proptest::prelude::*;

use super::*;

const ROOT: Root = Root([0xfb; 32]);
const ROOT_TEXT: &str = "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s";

fn marea(line: &str) -> Result<MareaTag, TagError> {
    match Tag::parse(line) {
        Some(Ok(Tag::Marea(tag))) => Ok(tag),
        Some(Err(error)) => Err(error),
        other => panic!("{line}: {other:?}"),
    }
}

fn bad(attribute: &'static str) -> Result<MareaTag, TagError> {
    Err(TagError::BadTags { attribute })
}

#[test]
fn the_lines_are_exactly_those_of_the_protocol() {
    let mut tag = MareaTag { video: "AAAAAAAAAAAAAAAAAAAAAA".into(), signaling: None, complete: true };
    let line = "#EXT-X-MAREA:VERSION=1,PIECE=65536,VIDEO=\"AAAAAAAAAAAAAAAAAAAAAA\"";
    assert_eq!(Tag::Marea(tag.clone()).to_string(), line);
    assert_eq!(marea(line), Ok(tag.clone()));

    tag.signaling = Some("wss://edge.example/signal".into());
    tag.complete = false;
    let line = format!("{line},SIGNALING=\"wss://edge.example/signal\",COMPLETE=NO");
    assert_eq!(Tag::Marea(tag.clone()).to_string(), line);
    assert_eq!(marea(&line), Ok(tag));

    let object = ObjectTag { size: 5_000_000_000, root: ROOT, at: Some(64) };
    let tag = Tag::Object(ObjectKind::Segment, object);
    let line = format!("#EXT-X-MAREA-SEGMENT:SIZE=5000000000,BLAKE3={ROOT_TEXT},AT=64");
    assert_eq!(tag.to_string(), line);
    assert_eq!(Tag::parse(&line), Some(Ok(tag)));
    for (kind, name) in [(ObjectKind::Map, "MAP"), (ObjectKind::Part, "PART")] {
        let tag = Tag::Object(kind, ObjectTag { at: None, size: 1, root: ROOT });
        let line = format!("#EXT-X-MAREA-{name}:SIZE=1,BLAKE3={ROOT_TEXT}");
        assert_eq!(tag.to_string(), line);
        assert_eq!(Tag::parse(&line), Some(Ok(tag)));
    }

    let tag = Tag::Signature(SignatureTag { key: ROOT.0, seq: 7, expires: 8, signature: [0; 64] });
    let line = format!("#EXT-X-MAREA-SIGNATURE:KEY={ROOT_TEXT},SEQ=7,EXPIRES=8,SIG={}", "A".repeat(86));
    assert_eq!(tag.to_string(), line);
    assert_eq!(Tag::parse(&line), Some(Ok(tag)));
}

#[test]
fn order_spaces_quotes_and_unknown_attributes_do_not_matter() {
    let tag =
        marea("#EXT-X-MAREA: VIDEO=\"a,b=c\" , NEW=\"x,PIECE=1\",,stray, PIECE=\"65536\" ,VERSION = 1 \r").unwrap();
    assert_eq!(tag, MareaTag { video: "a,b=c".into(), signaling: None, complete: true });
    let line = format!("#EXT-X-MAREA-SEGMENT:BLAKE3=\"{ROOT_TEXT}=\",AT=0,SIZE=3,SIZE=4");
    let tag = Tag::Object(ObjectKind::Segment, ObjectTag { size: 3, root: ROOT, at: Some(0) });
    assert_eq!(Tag::parse(&line), Some(Ok(tag)));
}

#[test]
fn another_version_is_told_from_a_broken_tag() {
    assert_eq!(marea("#EXT-X-MAREA:VERSION=2,THING=\"x\""), Err(TagError::PlaylistVersion));
    assert_eq!(marea("#EXT-X-MAREA:VERSION=0,PIECE=65536,VIDEO=\"x\""), Err(TagError::PlaylistVersion));
    assert_eq!(marea("#EXT-X-MAREA:VERSION=one,PIECE=65536,VIDEO=\"x\""), bad("VERSION"));
    assert_eq!(marea("#EXT-X-MAREA:PIECE=65536,VIDEO=\"x\""), bad("VERSION"));
    assert_eq!(marea("#EXT-X-MAREA:VERSION=1,PIECE=32768,VIDEO=\"x\""), bad("PIECE"));
    assert_eq!(marea("#EXT-X-MAREA:VERSION=1,VIDEO=\"x\""), bad("PIECE"));
    assert_eq!(marea("#EXT-X-MAREA:VERSION=1,PIECE=65536"), bad("VIDEO"));
    assert_eq!(marea("#EXT-X-MAREA:VERSION=1,PIECE=65536,VIDEO=\"\""), bad("VIDEO"));
    let long = format!("#EXT-X-MAREA:VERSION=1,PIECE=65536,VIDEO=\"{}\"", "x".repeat(257));
    assert_eq!(marea(&long), bad("VIDEO"));
    assert_eq!(TagError::PlaylistVersion.code(), "playlist-version");
    assert_eq!(TagError::TwoTags.code(), "bad-tags");
}

#[test]
fn a_malformed_object_tag_says_what_is_wrong() {
    let wrong = |list: &str| match Tag::parse(&format!("#EXT-X-MAREA-MAP:{list}")) {
        Some(Err(TagError::BadObject { kind: ObjectKind::Map, attribute })) => attribute,
        other => panic!("{list}: {other:?}"),
    };
    assert_eq!(wrong(""), "SIZE");
    assert_eq!(wrong(&format!("SIZE=-1,BLAKE3={ROOT_TEXT}")), "SIZE");
    assert_eq!(wrong(&format!("SIZE=+1,BLAKE3={ROOT_TEXT}")), "SIZE");
    assert_eq!(wrong(&format!("SIZE=18446744073709551616,BLAKE3={ROOT_TEXT}")), "SIZE");
    assert_eq!(wrong(&format!("SIZE=1,BLAKE3={}", &ROOT_TEXT[1..])), "BLAKE3");
    assert_eq!(wrong(&format!("SIZE=1,BLAKE3={ROOT_TEXT}AAAA")), "BLAKE3");
    assert_eq!(wrong(&format!("SIZE=1,BLAKE3={}/", &ROOT_TEXT[1..])), "BLAKE3");
    assert_eq!(wrong("SIZE=1"), "BLAKE3");
    assert_eq!(wrong(&format!("SIZE=1,BLAKE3={ROOT_TEXT},AT=x")), "AT");
    let error = TagError::BadObject { kind: ObjectKind::Map, attribute: "AT" };
    assert!(error.to_string().starts_with("AT of a #EXT-X-MAREA-MAP tag is missing or malformed"));
}

#[test]
fn other_lines_are_not_ours() {
    for line in [
        "",
        "#EXTM3U",
        "seg.ts",
        "#EXT-X-MAREA",
        "#EXT-X-MAREA-NEW:SIZE=1",
        "#EXT-X-MAREAL:VERSION=1",
        "# EXT-X-MAREA:",
    ] {
        assert_eq!(Tag::parse(line), None, "{line}");
    }
}

#[test]
fn text_cannot_break_out_of_its_quotes() {
    let tag = MareaTag { video: "x".into(), signaling: Some("wss://a/\"\r\n#EXT-X-ENDLIST".into()), complete: true };
    let line = Tag::Marea(tag).to_string();
    assert!(line.ends_with("SIGNALING=\"wss://a/%22%0D%0A#EXT-X-ENDLIST\""));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        video in "[A-Za-z0-9_-]{1,64}",
        signaling in prop::option::of("wss://[a-z.,=/é -]{0,40}"),
        complete in any::<bool>(),
        (size, at, root) in any::<(u64, Option<u64>, [u8; 32])>(),
        (key, seq, expires) in any::<([u8; 32], u64, u64)>(),
    ) {
        let object = ObjectTag { size, root: Root(root), at };
        for tag in [
            Tag::Marea(MareaTag { video, signaling, complete }),
            Tag::Object(ObjectKind::Segment, object),
            Tag::Object(ObjectKind::Map, object),
            Tag::Object(ObjectKind::Part, object),
            Tag::Signature(SignatureTag { key, seq, expires, signature: [seq as u8; 64] }),
        ] {
            let line = tag.to_string();
            prop_assert!(!line.contains(['\r', '\n']));
            prop_assert_eq!(Tag::parse(&line), Some(Ok(tag)));
        }
    }

    #[test]
    fn no_line_makes_the_reader_panic(name in "(-SEGMENT|-MAP|-PART|-SIGNATURE|)", list in "\\PC{0,80}|([A-Z3]{0,9}[=,\"1x ]){0,20}") {
        let _ = Tag::parse(&format!("{PREFIX}{name}:{list}"));
        let _ = Tag::parse(&list);
    }
}
