//! Objects that only the SHA-256 of all their bytes proves, as beside PeerTube's videos: they are shared like others, nothing
//! unproven leaves a viewer, and lies are found out and blamed on the right one.

mod bed;

use std::collections::BTreeMap;

use bed::{Lie, Outgoing, World, control_liar, data_liar, segment_bytes, segment_url};
use marea_swarm::{
    Oid,
    config::Config,
    ids::{PIECE_SIZE, piece_count},
    pieces::hash_piece,
    swarm::{CloseReason, Refused},
    wire::{Control, FRAME_HEADER_LEN, decode_control, decode_frame, encode_control},
};

const SIZE: usize = 600_000;
const SEGMENTS: usize = 15;

#[test]
fn viewers_share_what_only_a_whole_hash_proves() {
    let mut world = World::digests(SEGMENTS, SIZE);
    for index in 0..4 {
        world.join(index * 10_000);
    }
    world.run(110_000);
    world.assert_right();
    for viewer in &world.viewers {
        assert_eq!((viewer.delivered.len(), viewer.stalled_ms), (SEGMENTS, 0.0));
        assert!(viewer.refused.is_empty() && viewer.closed.is_empty(), "{:?} {:?}", viewer.refused, viewer.closed);
        let pieces: u64 = (0..SEGMENTS).map(|index| u64::from(piece_count((SIZE - index * 97) as u64))).sum();
        assert_eq!(viewer.swarm.integrity(), (pieces, 0));
    }
    assert!(world.copies() < 1.6, "{} copies", world.copies());
}

#[test]
fn a_film_of_small_segments_is_shared_too() {
    let mut world = World::digests(SEGMENTS, 40_000);
    for index in 0..3 {
        world.join(index * 10_000);
    }
    world.run(100_000);
    world.assert_right();
    assert!(world.viewers.iter().all(|viewer| viewer.stalled_ms == 0.0 && viewer.delivered.len() == SEGMENTS));
    assert!(world.copies() < 1.6, "{} copies", world.copies());
}

#[test]
fn nothing_is_delivered_or_given_before_the_whole_is_proven() {
    let mut world = World::digests(SEGMENTS, SIZE);
    world.check_ms = 1_000_000;
    world.join(0);
    world.join(2_000);
    world.run(20_000);
    for viewer in &world.viewers {
        assert!(!viewer.store.is_empty(), "something was loaded");
        assert!(viewer.delivered.is_empty());
        assert_eq!(viewer.swarm.bytes().uploaded, 0);
        assert_eq!(viewer.swarm.integrity(), (0, 0));
    }
}

/// Four viewers, the second of whom lies; the first may not upload, so that the liar is the only one to ask at first.
fn at_the_mercy_of(lie: Option<Lie>) -> World {
    let mut world = World::digests(SEGMENTS, SIZE);
    world.join_as(0, Config { upload: false, ..Config::default() }, None);
    world.join_as(2_000, Config::default(), lie);
    world.join(10_000);
    world.join(14_000);
    world.run(110_000);
    world.assert_right();
    for (index, viewer) in world.viewers.iter().enumerate() {
        assert_eq!((viewer.delivered.len(), viewer.stalled_ms), (SEGMENTS, 0.0), "viewer {index}");
        let honest_banned = viewer.closed.iter().any(|(other, reason)| *other != 1 && reason.banned());
        assert!(index == 1 || !honest_banned, "viewer {index} banned an honest one: {:?}", viewer.closed);
        assert_eq!(viewer.differs, 0, "the origin is not to blame");
    }
    world
}

fn banned_for(world: &World, reason: CloseReason) -> usize {
    world.viewers.iter().filter(|viewer| viewer.closed.contains(&(1, reason))).count()
}

/// Per object: its first piece with one wrong bit, and the hash of that.
fn forgeries() -> BTreeMap<Oid, (Vec<u8>, [u8; 32])> {
    let world = World::digests(SEGMENTS, SIZE);
    let forge = |index: usize| {
        let mut piece = segment_bytes(index, SIZE - index * 97)[..PIECE_SIZE as usize].to_vec();
        piece[0] ^= 1;
        let hash = hash_piece(&piece, 0, piece_count((SIZE - index * 97) as u64));
        let object = world.playlist.segments[index].object.expect("all have one");
        (object.root.oid(), (piece, hash))
    };
    (0..SEGMENTS).map(forge).collect()
}

#[test]
fn a_forged_list_with_the_pieces_that_fit_it_is_found_out_by_the_whole() {
    let forged = forgeries();
    let world = at_the_mercy_of(Some(Box::new(move |outgoing| match outgoing {
        Outgoing::Control(bytes) => match decode_control(&bytes) {
            Ok(Some(Control::List { oid, total, first: 0, mut values })) if total > 0 => {
                values[0] = forged[&oid].1;
                vec![Outgoing::Control(encode_control(&Control::List { oid, total, first: 0, values }))]
            }
            _ => vec![Outgoing::Control(bytes)],
        },
        Outgoing::Data(mut bytes) => {
            let (frame, _) = decode_frame(&bytes).expect("the core sends frames");
            if (frame.piece, frame.offset) == (0, 0) {
                bytes[FRAME_HEADER_LEN] ^= 1;
            }
            vec![Outgoing::Data(bytes)]
        }
    })));
    assert!(banned_for(&world, CloseReason::WrongList) >= 1);
    assert!(world.viewers.iter().any(|viewer| viewer.refused.contains(&Refused::List)));
}

#[test]
fn a_forged_list_that_right_pieces_contradict_is_blamed_on_its_giver() {
    let world = at_the_mercy_of(control_liar(|message| match message {
        Control::List { oid, total, first, mut values } if total > 0 => {
            values[0][0] ^= 1;
            vec![Control::List { oid, total, first, values }]
        }
        other => vec![other],
    }));
    assert!(banned_for(&world, CloseReason::WrongList) >= 1);
    assert_eq!(banned_for(&world, CloseReason::WrongPiece), 0, "its pieces were right");
}

#[test]
fn wrong_pieces_are_blamed_on_their_sender() {
    let world = at_the_mercy_of(data_liar(|mut bytes| {
        bytes[FRAME_HEADER_LEN] ^= 1;
        vec![bytes]
    }));
    assert!(banned_for(&world, CloseReason::WrongPiece) >= 1);
    assert_eq!(banned_for(&world, CloseReason::WrongList), 0, "its lists were right");
}

#[test]
fn a_stale_segment_is_played_and_never_shared() {
    for (what, replaced) in [
        ("same length", segment_bytes(99, SIZE - 2 * 97)),
        ("shorter", segment_bytes(99, 1_000)),
        ("longer", segment_bytes(99, SIZE + 70_000)),
    ] {
        let mut world = World::digests(6, SIZE);
        world.server.files.insert(segment_url(2), replaced.clone());
        world.join(0);
        world.join(5_000);
        world.run(40_000);
        for (index, viewer) in world.viewers.iter().enumerate() {
            assert_eq!((viewer.delivered.len(), viewer.stalled_ms), (6, 0.0), "{what}: viewer {index}");
            assert_eq!(viewer.delivered.get(&2), Some(&replaced), "{what}: viewer {index}");
            assert_eq!(viewer.differs, 1, "{what}: viewer {index}");
            assert!(viewer.closed.is_empty(), "{what}: nobody is to blame but the origin");
        }
        assert!(world.viewers[1].swarm.bytes().viewers > 0, "{what}: the other segments are shared");
    }
}

#[test]
fn a_segment_that_was_stale_only_in_a_cache_is_shared() {
    let mut world = World::digests(6, SIZE);
    let right = world.server.files[&segment_url(2)].clone();
    world.server.files.insert(segment_url(2), segment_bytes(99, right.len()));
    world.join(0);
    // The first copy is on its way; the next one comes past the caches.
    while world.server.requests < 3 {
        world.run(10);
    }
    world.run(10);
    world.server.files.insert(segment_url(2), right);
    world.join(5_000);
    world.run(40_000);
    world.assert_right();
    assert!(world.viewers[0].refused.contains(&Refused::Object), "the first copy was stale");
    for viewer in &world.viewers {
        assert_eq!((viewer.delivered.len(), viewer.stalled_ms, viewer.differs), (6, 0.0, 0));
    }
}

#[test]
fn byte_counters_add_up_when_copies_are_thrown_away() {
    let mut world = World::digests(6, SIZE);
    world.server.files.insert(segment_url(2), segment_bytes(99, SIZE - 2 * 97));
    world.join(0);
    world.join(5_000);
    world.run(40_000);
    for viewer in &world.viewers {
        let bytes = viewer.swarm.bytes();
        let kept: u64 = viewer.store.values().map(|piece| piece.len() as u64).sum();
        let played = (SIZE - 2 * 97) as u64;
        assert_eq!(bytes.http + bytes.viewers, kept + played + bytes.wasted, "{bytes:?}");
    }
}
