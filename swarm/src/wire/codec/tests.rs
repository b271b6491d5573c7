use proptest::{collection::vec, prelude::*};

use super::*;

fn oid() -> impl Strategy<Value = Oid> {
    any::<[u8; 8]>().prop_map(Oid)
}

/// `(first, count)` with `1 <= count <= most`, within the largest object.
fn pieces(most: u32) -> impl Strategy<Value = (u32, u32)> {
    (0..MAX_PIECES).prop_flat_map(move |first| (Just(first), 1..=most.min(MAX_PIECES - first)))
}

fn piece_set() -> impl Strategy<Value = PieceSet> {
    let some = (1..=MAX_BITMAP_LEN).prop_flat_map(|len| {
        (0..=(MAX_PIECES - len as u32 * 8).min(MAX_PIECES - 1), vec(any::<u8>(), len))
            .prop_map(|(first, bits)| PieceSet::Some { first, bits })
    });
    prop_oneof![Just(PieceSet::All), some]
}

fn kind() -> impl Strategy<Value = PeerKind> {
    prop_oneof![Just(PeerKind::Viewer), Just(PeerKind::Mirror), Just(PeerKind::Edge)]
}

fn list() -> impl Strategy<Value = Control> {
    let filled = (pieces(MAX_LIST_ITEMS as u32), 0..64u32).prop_flat_map(|((first, count), more)| {
        let total = (first + count + more).min(MAX_PIECES);
        (oid(), vec(any::<[u8; 32]>(), count as usize)).prop_map(move |(oid, values)| Control::List {
            oid,
            total,
            first,
            values,
        })
    });
    prop_oneof![filled, oid().prop_map(|oid| Control::List { oid, total: 0, first: 0, values: Vec::new() })]
}

fn text() -> impl Strategy<Value = Control> {
    ("\\PC{0,256}", 0..MAX_PLAYLIST_SIZE as u32 - 4_096, vec(any::<u8>(), 1..4_096), 0..4_096u32).prop_map(
        |(name, offset, part, more)| {
            let total = (offset + part.len() as u32 + more).min(MAX_PLAYLIST_SIZE as u32);
            Control::Text { name, total, offset, part }
        },
    )
}

fn control() -> impl Strategy<Value = Control> {
    prop_oneof![
        (1..=u8::MAX, any::<u8>(), kind(), any::<[u8; 16]>(), any::<[u8; 32]>()).prop_map(
            |(low, high, kind, nonce, proof)| {
                Control::Hello(Hello { versions: (low, high.max(low)), kind, nonce, proof })
            }
        ),
        (any::<bool>(), any::<u32>()).prop_map(|(uploads, uplink)| Control::Status { uploads, uplink }),
        (oid(), piece_set()).prop_map(|(oid, pieces)| Control::Have { oid, pieces }),
        oid().prop_map(|oid| Control::Drop { oid }),
        (oid(), pieces(MAX_PIECES), any::<u32>(), any::<u32>(), 0..=1u8).prop_map(
            |(oid, (first, count), nonce, ttl_ms, hops)| {
                Control::Claim { oid, first, count: count as u16, nonce, ttl_ms, hops }
            }
        ),
        (oid(), 0..MAX_PIECES, any::<u32>(), 0..=1u8).prop_map(|(oid, first, nonce, hops)| Control::Unclaim {
            oid,
            first,
            nonce,
            hops
        }),
        oid().prop_map(|oid| Control::ListGet { oid }),
        list(),
        (any::<u32>(), oid(), pieces(MAX_REQUEST_PIECES), any::<u32>())
            .prop_map(|(id, oid, (first, count), deadline_ms)| Control::Request { id, oid, first, count, deadline_ms }),
        any::<u32>().prop_map(|id| Control::Cancel { id }),
        any::<(u32, u32)>().prop_map(|(id, retry_ms)| Control::Busy { id, retry_ms }),
        "\\PC{0,256}".prop_map(|name| Control::TextGet { name }),
        text(),
        any::<(u32, bool)>().prop_map(|(nonce, reply)| Control::Ping { nonce, reply }),
        any::<u8>().prop_map(|reason| Control::Bye { reason }),
    ]
}

proptest! {
    #[test]
    fn every_control_message_survives_the_wire(message in control()) {
        let bytes = encode_control(&message);
        prop_assert!(bytes.len() <= MAX_CONTROL_LEN);
        prop_assert_eq!(decode_control(&bytes), Ok(Some(message)));
    }

    #[test]
    fn a_control_message_cut_or_lengthened_is_an_error(message in control(), cut in any::<prop::sample::Index>()) {
        let mut bytes = encode_control(&message);
        prop_assert!(decode_control(&bytes[..cut.index(bytes.len())]).is_err());
        bytes.push(0);
        prop_assert!(decode_control(&bytes).is_err());
    }

    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(kind in 0..20u8, body in vec(any::<u8>(), 0..80)) {
        let mut bytes = vec![kind, 0, 0, body.len() as u8];
        bytes.extend(body);
        if let Ok(Some(message)) = decode_control(&bytes)
            && !matches!(&message, Control::Hello(hello) if hello.kind == PeerKind::Viewer)
        {
            prop_assert_eq!(encode_control(&message), bytes);
        }
    }

    #[test]
    fn every_frame_survives_the_wire(
        request: u32, oid in oid(), piece in 0..MAX_PIECES, quarter in 0..4u32,
        payload in vec(any::<u8>(), 1..=FRAME_PAYLOAD as usize),
    ) {
        let frame = Frame { request, oid, piece, offset: quarter * FRAME_PAYLOAD };
        let mut bytes = encode_frame(&frame).to_vec();
        bytes.extend(&payload);
        prop_assert_eq!(decode_frame(&bytes), Ok((frame, &payload[..])));
    }
}

/// A message of this type with this body and a right length.
fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u32).to_be_bytes().to_vec();
    out[0] = kind;
    out.extend(body);
    out
}

fn refused(kind: u8, body: &[u8]) -> &'static str {
    match decode_control(&framed(kind, body)) {
        Err(DecodeError::Value { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

#[test]
fn unknown_types_are_ignored_only_if_well_framed() {
    assert_eq!(decode_control(&framed(200, b"of tomorrow")), Ok(None));
    assert_eq!(decode_control(&framed(0, b"")), Ok(None));
    assert_eq!(decode_control(&framed(200, &[0; MAX_CONTROL_LEN - 4])), Ok(None));
    assert!(matches!(decode_control(&framed(200, &[0; MAX_CONTROL_LEN - 3])), Err(DecodeError::Length { .. })));
    assert!(matches!(decode_control(&[200, 0, 0, 5, 1]), Err(DecodeError::Length { actual: 5, stated: 9 })));
    assert!(matches!(decode_control(b"GET / HTTP/1.1\r\n\r\n"), Err(DecodeError::Length { .. })));
    assert_eq!(decode_control(&[]), Err(DecodeError::Short { at: 0, need: 4 }));
}

#[test]
fn piece_numbers_beyond_the_largest_object_are_refused() {
    let at = |first: u32, rest: &[u8]| [&[0; 8], &first.to_be_bytes()[..], rest].concat();
    assert_eq!(refused(CLAIM, &at(MAX_PIECES, &[0; 11])), "first");
    assert_eq!(refused(CLAIM, &at(0, &[0; 11])), "count");
    assert_eq!(refused(CLAIM, &at(MAX_PIECES - 1, &[0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0])), "count");
    assert_eq!(refused(CLAIM, &at(0, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, MAX_HOPS + 1])), "hops");
    assert_eq!(refused(UNCLAIM, &at(u32::MAX, &[0; 5])), "first");
    let request = |first: u32, count: u32| [&[0; 4], &at(first, &count.to_be_bytes())[..], &[0; 4]].concat();
    assert_eq!(refused(REQUEST, &request(0, 0)), "count");
    assert_eq!(refused(REQUEST, &request(0, MAX_REQUEST_PIECES + 1)), "count");
    assert_eq!(refused(REQUEST, &request(1, u32::MAX)), "count");
    assert_eq!(refused(REQUEST, &request(u32::MAX, 1)), "first");
}

#[test]
fn bitmaps_are_bounded_by_the_pieces_they_name() {
    let have = |first: u32, bits: &[u8]| [&[0; 8], &[SOME][..], &first.to_be_bytes(), bits].concat();
    assert_eq!(refused(HAVE, &have(0, &[])), "bits");
    assert_eq!(refused(HAVE, &have(0, &[0; MAX_BITMAP_LEN + 1])), "bits");
    assert_eq!(refused(HAVE, &have(MAX_PIECES, &[1])), "first");
    assert_eq!(refused(HAVE, &have(MAX_PIECES - 3, &[0b1000])), "bits");
    let last = Control::Have { oid: Oid([0; 8]), pieces: PieceSet::Some { first: MAX_PIECES - 3, bits: vec![0b100] } };
    assert_eq!(decode_control(&framed(HAVE, &have(MAX_PIECES - 3, &[0b100]))), Ok(Some(last)));
    assert_eq!(refused(HAVE, &[0, 0, 0, 0, 0, 0, 0, 0, 2]), "set");
}

#[test]
fn lists_hold_what_they_state() {
    let list = |total: u32, first: u32, values: usize| {
        [&[0; 8], &total.to_be_bytes()[..], &first.to_be_bytes(), &vec![7; values * 32]].concat()
    };
    assert_eq!(refused(LIST, &list(MAX_PIECES + 1, 0, 1)), "total");
    assert_eq!(refused(LIST, &list(MAX_PIECES, 0, MAX_LIST_ITEMS + 1)), "values");
    assert_eq!(refused(LIST, &list(0, 0, 1)), "values");
    assert_eq!(refused(LIST, &list(1, 0, 0)), "values");
    assert_eq!(refused(LIST, &list(2, 1, 2)), "first");
    assert_eq!(refused(LIST, &list(0, 1, 0)), "first");
    let mut cut = list(2, 0, 2);
    cut.pop();
    assert!(matches!(decode_control(&framed(LIST, &cut)), Err(DecodeError::Short { need: 32, .. })));
}

#[test]
fn texts_and_names_are_bounded() {
    let text = |name: &[u8], total: u32, offset: u32, part: usize| {
        let len = (name.len() as u16).to_be_bytes();
        [&len[..], name, &total.to_be_bytes(), &offset.to_be_bytes(), &vec![b'#'; part]].concat()
    };
    assert_eq!(refused(TEXT, &text(b"a", MAX_PLAYLIST_SIZE as u32 + 1, 0, 1)), "total");
    assert_eq!(refused(TEXT, &text(b"a", 40_000, 0, MAX_TEXT_PART + 1)), "part");
    assert_eq!(refused(TEXT, &text(b"a", 9, 0, 0)), "part");
    assert_eq!(refused(TEXT, &text(b"a", 9, 8, 2)), "offset");
    assert_eq!(refused(TEXT, &text(b"a", 9, u32::MAX, 2)), "offset");
    assert_eq!(refused(TEXT_GET, &text(&[b'a'; MAX_NAME_LEN + 1], 0, 0, 0)), "name");
    assert_eq!(decode_control(&framed(TEXT_GET, &[0, 1, 0xff])), Err(DecodeError::Utf8));
    assert!(matches!(decode_control(&framed(TEXT_GET, &[3, 0, b'a'])), Err(DecodeError::Short { need: 768, .. })));
}

#[test]
fn hello_names_versions_that_exist_and_any_kind() {
    let hello = |low: u8, high: u8, kind: u8| [&[low, high, kind][..], &[0; 48]].concat();
    assert_eq!(refused(HELLO, &hello(0, 1, 0)), "min_version");
    assert_eq!(refused(HELLO, &hello(2, 1, 0)), "max_version");
    let Ok(Some(Control::Hello(later))) = decode_control(&framed(HELLO, &hello(1, 9, 77))) else { panic!() };
    assert_eq!((later.versions, later.kind), ((1, 9), PeerKind::Viewer));
    assert_eq!(refused(PING, &[0, 0, 0, 0, 2]), "reply");
    assert_eq!(refused(STATUS, &[9, 0, 0, 0, 0]), "uploads");
}

#[test]
fn frames_have_a_known_type_a_real_place_and_a_payload() {
    let right = [&encode_frame(&Frame { request: 1, oid: Oid([2; 8]), piece: 3, offset: 0 })[..], b"x"].concat();
    assert!(decode_frame(&right).is_ok());
    let bent = |at: usize, byte: u8| {
        let mut bytes = right.clone();
        bytes[at] = byte;
        match decode_frame(&bytes) {
            Err(DecodeError::Value { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(bent(0, 1), "type");
    assert_eq!(bent(3, 1), "type");
    assert_eq!(bent(18, 0x10), "piece");
    assert_eq!(bent(23, 1), "offset");
    assert_eq!(bent(21, 1), "offset");
    assert!(matches!(decode_frame(&right[..24]), Err(DecodeError::Value { field: "payload", value: 0 })));
    assert!(matches!(decode_frame(&right[..23]), Err(DecodeError::Short { at: 23, need: 4 })));
    let long = [&right[..24], &[0; FRAME_PAYLOAD as usize + 1]].concat();
    assert!(matches!(decode_frame(&long), Err(DecodeError::Value { field: "payload", .. })));
}
