use proptest::prelude::*;

use super::*;
use crate::{
    ids::{Oid, PIECE_SIZE},
    pieces::ObjectHasher,
};

const PIECE: usize = PIECE_SIZE as usize;
const FETCH: Fetch = Fetch(3);
const PEER: Peer = Peer(8);
const REQUEST: u32 = 21;

fn object(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i / PIECE * 7 + i % 251) as u8).collect()
}

fn list_of(bytes: &[u8]) -> Vec<Cv> {
    let mut hasher = ObjectHasher::new();
    hasher.update(bytes);
    hasher.finish().list
}

fn header(piece: u32, offset: u32) -> Frame {
    Frame { request: REQUEST, oid: Oid([0; 8]), piece, offset }
}

/// All frames of one piece, as an honest peer cuts them.
fn frames(bytes: &[u8], piece: u32) -> Vec<(Frame, &[u8])> {
    let start = piece as usize * PIECE;
    let bytes = &bytes[start..bytes.len().min(start + PIECE)];
    (0..)
        .step_by(FRAME_PAYLOAD as usize)
        .zip(bytes.chunks(FRAME_PAYLOAD as usize))
        .map(|(offset, payload)| (header(piece, offset), payload))
        .collect()
}

#[test]
fn a_body_becomes_hashed_pieces() {
    let bytes = object(2 * PIECE + 100);
    let list = list_of(&bytes);
    let mut assembly = Assembly::new();
    assembly.begin_fetch(FETCH, bytes.len() as u64, 0);
    let first = assembly.fetch_data(FETCH, &bytes[..PIECE + 1]);
    assert_eq!(first, FetchProgress { pieces: vec![(0, list[0])], excess: 0 });
    let rest = assembly.fetch_data(FETCH, &bytes[PIECE + 1..]);
    assert_eq!(rest, FetchProgress { pieces: vec![(1, list[1]), (2, list[2])], excess: 0 });
    assert_eq!(assembly.bytes(), bytes.len());
    assert_eq!(assembly.take(Source::Fetch(FETCH), 1).as_deref(), Some(&bytes[PIECE..2 * PIECE]));
    assert_eq!(assembly.take(Source::Fetch(FETCH), 1), None, "a piece is handed over once");
    assert_eq!(assembly.bytes(), bytes.len() - PIECE);
}

#[test]
fn a_range_starts_at_its_piece_and_a_200_starts_again_at_the_first() {
    let bytes = object(4 * PIECE);
    let list = list_of(&bytes);
    let mut assembly = Assembly::new();
    assembly.begin_fetch(FETCH, bytes.len() as u64, 2);
    assert_eq!(assembly.fetch_data(FETCH, &bytes[2 * PIECE..]).pieces, [(2, list[2]), (3, list[3])]);
    assembly.restart_fetch(FETCH);
    assert_eq!(assembly.bytes(), 0);
    assert_eq!(assembly.fetch_data(FETCH, &bytes).pieces.len(), 4);
    let source = Source::Fetch(FETCH);
    let pieces: Option<Vec<_>> = (0..4).map(|piece| assembly.take(source, piece)).collect();
    assert_eq!(pieces.map(|pieces| pieces.concat()), Some(bytes));
    assert_eq!(assembly.bytes(), 0);
}

#[test]
fn a_body_longer_than_the_object_is_cut_and_reported() {
    let mut bytes = object(PIECE + 10);
    let list = list_of(&bytes);
    bytes.extend([7; 5]);
    let mut assembly = Assembly::new();
    assembly.begin_fetch(FETCH, PIECE as u64 + 10, 0);
    let progress = assembly.fetch_data(FETCH, &bytes);
    assert_eq!(progress, FetchProgress { pieces: vec![(0, list[0]), (1, list[1])], excess: 5 });
    assert_eq!(assembly.fetch_data(FETCH, &[0; 9]).excess, 9);
    assert_eq!(assembly.bytes(), PIECE + 10);
}

#[test]
fn zero_length_data_changes_nothing() {
    let bytes = object(10);
    let mut assembly = Assembly::new();
    assembly.begin_fetch(FETCH, 10, 0);
    assert_eq!(assembly.fetch_data(FETCH, b""), FetchProgress::default());
    assert_eq!(assembly.frame(PEER, 10, &header(0, 0), b""), None);
    assert_eq!(assembly.frame(PEER, 0, &header(0, 0), b""), None);
    assert_eq!(assembly.bytes(), 0);
    assert!(assembly.pieces.is_empty());
    assert_eq!(assembly.fetch_data(FETCH, &bytes).pieces.len(), 1);
    assert_eq!(assembly.fetch_data(FETCH, b""), FetchProgress::default(), "also at the end");
}

#[test]
fn a_short_body_gives_no_piece() {
    let bytes = object(PIECE + 10);
    let mut assembly = Assembly::new();
    assembly.begin_fetch(FETCH, bytes.len() as u64, 0);
    assert_eq!(assembly.fetch_data(FETCH, &bytes[..PIECE + 9]).pieces.len(), 1);
    assert_eq!(assembly.take(Source::Fetch(FETCH), 1), None);
    assert_eq!(assembly.bytes(), PIECE + 9, "an unfinished piece stays");
}

#[test]
fn data_of_an_unknown_or_discarded_transfer_is_dropped() {
    let mut assembly = Assembly::new();
    assert_eq!(assembly.fetch_data(FETCH, &[1, 2, 3]), FetchProgress::default());
    assembly.restart_fetch(FETCH);
    assert_eq!(assembly.bytes(), 0);
    assembly.begin_fetch(FETCH, 10, 0);
    let _ = assembly.fetch_data(FETCH, &[1, 2, 3]);
    assembly.discard(Source::Fetch(FETCH), None);
    assert_eq!(assembly.fetch_data(FETCH, &[4; 7]), FetchProgress::default());
    assert_eq!(assembly.bytes(), 0);
}

#[test]
fn sources_do_not_mix() {
    let bytes = object(PIECE);
    let mut assembly = Assembly::new();
    let cut = frames(&bytes, 0);
    for (header, payload) in &cut[..3] {
        assert_eq!(assembly.frame(PEER, PIECE as u64, header, payload), None);
    }
    let (last, payload) = cut[3];
    assert_eq!(assembly.frame(Peer(9), PIECE as u64, &last, payload), None, "another neighbour");
    let other_request = Frame { request: REQUEST + 1, ..last };
    assert_eq!(assembly.frame(PEER, PIECE as u64, &other_request, payload), None, "another request");
    assert!(assembly.frame(PEER, PIECE as u64, &last, payload).is_some());
    assembly.discard(Source::Peer(PEER, REQUEST), None);
    assert_eq!(assembly.bytes(), 2 * FRAME_PAYLOAD as usize, "only that request is forgotten");
}

#[test]
fn repeated_and_misplaced_frames_are_ignored() {
    let bytes = object(PIECE + FRAME_PAYLOAD as usize + 5);
    let size = bytes.len() as u64;
    let mut assembly = Assembly::new();
    let full = &bytes[..FRAME_PAYLOAD as usize];
    assert_eq!(assembly.frame(PEER, size, &header(0, 0), full), None);
    for (piece, offset, payload) in [
        (0, 0, &[9; FRAME_PAYLOAD as usize][..]), // again, with other bytes
        (0, 1, full),                             // not at a frame's border
        (0, PIECE_SIZE, full),                    // beyond the piece
        (0, u32::MAX, full),                      // far beyond it
        (0, FRAME_PAYLOAD, &full[1..]),           // too short
        (1, FRAME_PAYLOAD, full),                 // too long for what is left
        (1, 2 * FRAME_PAYLOAD, &full[..5]),       // beyond the object
        (2, 0, full),                             // no such piece
        (u32::MAX, 0, full),                      // nor this
    ] {
        assert_eq!(assembly.frame(PEER, size, &header(piece, offset), payload), None, "{piece} {offset}");
    }
    assert_eq!(assembly.bytes(), full.len());
    assert_eq!(assembly.pieces.len(), 1);
    let cut = frames(&bytes, 0);
    let found: Vec<_> = cut.iter().map(|(header, payload)| assembly.frame(PEER, size, header, payload)).collect();
    assert_eq!(found, [None, None, None, Some(list_of(&bytes)[0])], "the first bytes were kept");
    let (first, payload) = cut[0];
    assert_eq!(assembly.frame(PEER, size, &first, payload), None, "nor once the piece is whole");
    assert_eq!(assembly.bytes(), PIECE);
}

#[test]
fn one_byte_frames_hold_no_more_than_what_arrived() {
    let size = u64::from(PIECE_SIZE) + 1;
    let mut assembly = Assembly::new();
    assert!(assembly.frame(PEER, size, &header(1, 0), &[1]).is_some());
    assert_eq!(assembly.bytes(), 1);
    assembly.begin_fetch(FETCH, crate::ids::MAX_OBJECT_SIZE, 0);
    let _ = assembly.fetch_data(FETCH, &[1]);
    let Some(Piece::Prefix(bytes)) = assembly.pieces.get(&(Source::Fetch(FETCH), 0)) else {
        panic!("no unfinished piece");
    };
    assert_eq!(bytes.capacity(), 1);
}

#[test]
fn discarding_one_piece_leaves_the_others() {
    let bytes = object(3 * PIECE);
    let mut assembly = Assembly::new();
    assembly.begin_fetch(FETCH, bytes.len() as u64, 0);
    let _ = assembly.fetch_data(FETCH, &bytes);
    assembly.discard(Source::Fetch(FETCH), Some(1));
    assembly.discard(Source::Fetch(FETCH), Some(1));
    assert_eq!(assembly.bytes(), 2 * PIECE);
    assert!(assembly.take(Source::Fetch(FETCH), 0).is_some());
    assert!(assembly.take(Source::Fetch(FETCH), 1).is_none());
    assert!(assembly.take(Source::Fetch(FETCH), 2).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_body_in_any_parts_gives_the_list(
        size in 1..400_000_usize,
        first in 0..6_u32,
        steps in prop::collection::vec(0..100_000_usize, 1..20),
    ) {
        let bytes = object(size);
        let list = list_of(&bytes);
        let first = first.min(list.len() as u32 - 1);
        let mut assembly = Assembly::new();
        assembly.begin_fetch(FETCH, size as u64, first);
        let mut body = &bytes[first as usize * PIECE..];
        let mut pieces = Vec::new();
        for step in steps.into_iter().chain([usize::MAX]) {
            let (now, rest) = body.split_at(step.min(body.len()));
            let progress = assembly.fetch_data(FETCH, now);
            prop_assert_eq!(progress.excess, 0);
            pieces.extend(progress.pieces);
            body = rest;
        }
        let expected: Vec<_> = (0..).zip(list).skip(first as usize).collect();
        prop_assert_eq!(pieces, expected);
    }

    #[test]
    fn frames_in_any_order_give_the_list(
        size in 1..300_000_usize,
        order in any::<u64>(),
    ) {
        let bytes = object(size);
        let list = list_of(&bytes);
        let mut all: Vec<_> = (0..list.len() as u32).flat_map(|piece| frames(&bytes, piece)).collect();
        // Shuffled, and every frame sent twice.
        all.extend(all.clone());
        let mut state = order | 1;
        for i in (1..all.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            all.swap(i, (state >> 33) as usize % (i + 1));
        }
        let mut assembly = Assembly::new();
        let mut found = vec![None; list.len()];
        for (header, payload) in all {
            if let Some(cv) = assembly.frame(PEER, size as u64, &header, payload) {
                prop_assert!(found[header.piece as usize].replace(cv).is_none(), "hashed twice");
            }
        }
        prop_assert_eq!(found, list.into_iter().map(Some).collect::<Vec<_>>());
        prop_assert_eq!(assembly.bytes(), size);
        for piece in 0..piece_count(size as u64) {
            let start = piece as usize * PIECE;
            let whole = assembly.take(Source::Peer(PEER, REQUEST), piece);
            prop_assert_eq!(whole.as_deref(), Some(&bytes[start..size.min(start + PIECE)]));
        }
        prop_assert_eq!(assembly.bytes(), 0);
    }
}
