use super::*;
use crate::index;

const VIDEO: &str = "q83vEjRWeJCrze8SNFZ4kA";
/// The text of the vectors in `docs/signing.md`.
const TEXT: &str = "#EXTM3U\n#EXT-X-MAREA:VERSION=1,PIECE=65536,VIDEO=\"q83vEjRWeJCrze8SNFZ4kA\"\n\
                    #EXT-X-TARGETDURATION:4\n#EXT-X-KEY:METHOD=AES-128,URI=\"k.key\"\n\
                    #EXT-X-MAREA-SEGMENT:SIZE=150000,BLAKE3=ubxsWg3XY1FmHdYl4QE3sV1X3OY87OAKJesvNk9a-qY\n\
                    #EXTINF:4,\ns0.ts\n#EXT-X-ENDLIST\n";
const SEQ: u64 = 1_790_000_000_000;
const EXPIRES: u64 = 1_792_592_000_000;

fn signer() -> Signer {
    Signer::new(&std::array::from_fn(|at| at as u8))
}

fn signed(text: &str, name: &str) -> String {
    Stamp { signer: &signer(), video: VIDEO, name, seq: SEQ, expires: EXPIRES }.sign(text.to_owned())
}

fn check(text: &str, change: impl FnOnce(&mut Expected<'_>)) -> Result<u64, SignatureError> {
    check_by(&[signer().public()], text, change)
}

fn check_by(keys: &[PublicKey], text: &str, change: impl FnOnce(&mut Expected<'_>)) -> Result<u64, SignatureError> {
    let mut expected = Expected { video: VIDEO, name: "720p/index.m3u8", keys, now: SEQ, highest: None };
    change(&mut expected);
    verify(text, &expected).map(|tag| tag.seq)
}

#[test]
fn the_vectors_of_the_documentation_hold() {
    let docs = include_str!("../../../docs/signing.md");
    let block = |name: &str| {
        let start = docs.find(&format!("```{name}\n")).unwrap_or_else(|| panic!("no {name}")) + name.len() + 4;
        &docs[start..start + docs[start..].find("```").unwrap()]
    };
    let text = block("m3u8");
    assert_eq!(text, signed(TEXT, "720p/index.m3u8"));
    let message = message(VIDEO, "720p/index.m3u8", SEQ, EXPIRES, TEXT.as_bytes());
    let hex: String = block("message").split_whitespace().collect();
    assert_eq!(hex, data_encoding::HEXLOWER.encode(&message));
    assert_eq!(block("key").trim(), signer().public().to_string());
    assert_eq!(check(text, |_| {}), Ok(SEQ));
}

#[test]
fn any_changed_byte_is_refused() {
    let text = signed(TEXT, "720p/index.m3u8");
    for at in (0..text.len() - 1).step_by(7) {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(changed) = String::from_utf8(bytes) else { continue };
        assert!(check(&changed, |_| {}).is_err(), "byte {at}: {changed}");
    }
    assert_eq!(check(&text.replace("k.key", "evil.key"), |_| {}), Err(SignatureError::Wrong), "a changed KEY URI");
    for changed in [
        text.replace("s0.ts", "s1.ts"),
        text.replacen("#EXTM3U", "#EXTM3U ", 1),
        text.replace('\n', "\r\n"),
        format!("\u{feff}{text}"),
        text.replace("#EXTINF:4,\ns0.ts\n", ""),
    ] {
        assert_eq!(check(&changed, |_| {}), Err(SignatureError::Wrong), "{changed}");
    }
    let after = format!("{text}#EXTINF:4,\nevil.ts\n");
    assert_eq!(check(&after, |_| {}), Err(SignatureError::Missing), "nothing may follow the signature");
    assert_eq!(check(&format!("{text}\n"), |_| {}), Err(SignatureError::Missing));
    assert_eq!(check(TEXT, |_| {}), Err(SignatureError::Missing));
    assert_eq!(check("", |_| {}), Err(SignatureError::Missing));
    let cut = text.replace(",SIG=", ",SGI=");
    assert!(matches!(check(&cut, |_| {}), Err(SignatureError::Malformed(_))));
}

#[test]
fn another_place_video_key_or_time_is_refused() {
    let text = signed(TEXT, "720p/index.m3u8");
    assert_eq!(check(&text, |ask| ask.name = "360p/index.m3u8"), Err(SignatureError::Wrong), "a swapped rendition");
    assert_eq!(check(&text, |ask| ask.name = ""), Err(SignatureError::Wrong));
    assert_eq!(check(&text, |ask| ask.video = "AAAAAAAAAAAAAAAAAAAAAA"), Err(SignatureError::Wrong));
    let other = signer().public();
    let stranger = Signer::new(&[9; 32]).public();
    assert_eq!(check_by(&[], &text, |_| {}), Err(SignatureError::ForeignKey(other)));
    assert_eq!(check_by(&[stranger], &text, |_| {}), Err(SignatureError::ForeignKey(other)));
    assert_eq!(check(&text, |ask| ask.now = EXPIRES - 1), Ok(SEQ));
    assert_eq!(check(&text, |ask| ask.now = EXPIRES), Err(SignatureError::Expired(Duration::ZERO)));
    let highest = SEQ + 1;
    assert_eq!(
        check(&text, |ask| ask.highest = Some((other, highest))),
        Err(SignatureError::Older { seq: SEQ, highest })
    );
    assert_eq!(check(&text, |ask| ask.highest = Some((other, SEQ))), Ok(SEQ), "the same one again");
    assert_eq!(check(&text, |ask| ask.highest = Some((stranger, highest))), Ok(SEQ), "each key counts for itself");
    // Signed for this video, but with the tags of another: its segments would be shared with strangers.
    let foreign = signed(&TEXT.replace(VIDEO, "AAAAAAAAAAAAAAAAAAAAAA"), "");
    assert_eq!(check(&foreign, |ask| ask.name = ""), Err(SignatureError::ForeignVideo));
}

#[test]
fn signing_is_taken_back_byte_for_byte() {
    for text in ["#EXTM3U\n#EXTINF:4,\ns.ts\n", "#EXTM3U\n#EXTINF:4,\ns.ts", "#EXTM3U\r\ns.ts\r\n", "#EXTM3U\r\ns.ts"] {
        let once = signed(text, "");
        assert_eq!(index::strip(&once), text, "{once:?}");
        assert_eq!(check(&once, |ask| ask.name = ""), Ok(SEQ), "{once:?}");
    }
}

#[test]
fn sequence_numbers_only_rise() {
    let signer = signer();
    let first = signer.seq(None);
    assert!(first >= now_ms() - 1_000 && signer.seq(None) > first);
    let ahead = signer.seq(Some(u64::MAX - 10));
    assert!(ahead == u64::MAX - 9 && signer.clone().seq(None) > ahead, "also if the clock goes back");
}

#[test]
fn names_lead_from_the_multivariant_playlist() {
    for (main, rel, wanted) in [
        ("a/master.m3u8", "a/master.m3u8", ""),
        ("a/master.m3u8", "a/720p/index.m3u8", "720p/index.m3u8"),
        ("master.m3u8", "low.m3u8", "low.m3u8"),
        ("a/b/master.m3u8", "a/audio/en.m3u8", "../audio/en.m3u8"),
        ("a/b/master.m3u8", "x.m3u8", "../../x.m3u8"),
        ("a/b", "a/b/c", "b/c"),
    ] {
        assert_eq!(name(main, rel), wanted, "{main} {rel}");
    }
}

#[test]
fn public_keys_are_read_as_they_are_written_and_weak_ones_refused() {
    let key = signer().public();
    assert_eq!(key.to_string().parse(), Ok(key));
    // The neutral element: a signature of zeros fits everything.
    let weak = PublicKey(std::array::from_fn(|at| u8::from(at == 0)));
    for text in [weak.to_string(), "ed25519:".to_owned(), key.to_string()[8..].to_owned(), format!("{key}A")] {
        assert!(text.parse::<PublicKey>().is_err(), "{text}");
    }
}
