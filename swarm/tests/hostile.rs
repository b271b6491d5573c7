//! Liars of every kind against the real core: no wrong byte reaches a player or another peer, the guilty are banned, the
//! honest are not, and playback never stalls.

mod bed;

use bed::{Lie, Outgoing, World, control_liar, data_liar};
use marea_swarm::{
    config::Config,
    swarm::{CloseReason, Refused},
    wire::{Control, FRAME_HEADER_LEN, Frame, PieceSet, decode_frame, encode_control, encode_frame},
};

const SIZE: usize = 600_000;

/// An honest viewer, the liar, then two viewers more.
fn swarm_with(lie: Option<Lie>) -> World {
    swarm_of(Config::default(), lie)
}

/// The same when the first viewer does not upload: the liar is the only one to ask.
fn swarm_at_the_mercy_of(lie: Option<Lie>) -> World {
    swarm_of(Config { upload: false, ..Config::default() }, lie)
}

fn swarm_of(first: Config, lie: Option<Lie>) -> World {
    let mut world = World::vod(15, SIZE);
    world.join_as(0, first, None);
    world.join_as(2_000, Config::default(), lie);
    world.join(10_000);
    world.join(14_000);
    world.run(110_000);
    world.assert_right();
    for (index, viewer) in world.viewers.iter().enumerate() {
        assert_eq!(viewer.delivered.len(), 15, "viewer {index}");
        assert_eq!(viewer.stalled_ms, 0.0, "viewer {index}");
        let honest_banned = viewer.closed.iter().any(|(other, reason)| *other != 1 && reason.banned());
        assert!(index == 1 || !honest_banned, "viewer {index} banned an honest one: {:?}", viewer.closed);
    }
    world
}

fn banned_for(world: &World, reason: CloseReason) -> usize {
    world.viewers.iter().filter(|viewer| viewer.closed.contains(&(1, reason))).count()
}

#[test]
fn a_sender_of_wrong_pieces_is_banned() {
    let world = swarm_with(data_liar(|mut bytes| {
        bytes[FRAME_HEADER_LEN] ^= 1;
        vec![bytes]
    }));
    assert!(banned_for(&world, CloseReason::WrongPiece) >= 1);
    assert!(world.viewers.iter().any(|viewer| viewer.refused.contains(&Refused::Piece)));
}

#[test]
fn a_right_piece_at_a_wrong_place_is_never_kept() {
    let world = swarm_at_the_mercy_of(data_liar(|bytes| {
        let (mut frame, payload) = decode_frame(&bytes).expect("the core sends frames");
        frame.piece ^= 1;
        vec![[&encode_frame(&frame)[..], payload].concat()]
    }));
    // Two pieces of one request that change places are two wrong pieces; one that nobody asked for is waste.
    let banned = banned_for(&world, CloseReason::WrongPiece) + banned_for(&world, CloseReason::Garbage);
    assert!(banned > 0, "{:?}", world.viewers.iter().map(|viewer| &viewer.closed).collect::<Vec<_>>());
}

#[test]
fn a_forged_list_is_refused_and_its_sender_banned() {
    let world = swarm_at_the_mercy_of(control_liar(|message| match message {
        Control::List { oid, total, first, mut values } => {
            values[0][0] ^= 1;
            vec![Control::List { oid, total, first, values }]
        }
        other => vec![other],
    }));
    assert!(world.viewers.iter().any(|viewer| viewer.refused.contains(&Refused::List)));
    assert!(banned_for(&world, CloseReason::WrongList) > 0);
}

#[test]
fn a_list_of_the_wrong_length_is_refused() {
    let world = swarm_at_the_mercy_of(control_liar(|message| match message {
        Control::List { oid, first, values, .. } => vec![Control::List { oid, total: 4_000, first, values }],
        other => vec![other],
    }));
    assert!(world.viewers.iter().any(|viewer| viewer.refused.contains(&Refused::List)));
    assert!(banned_for(&world, CloseReason::WrongList) > 0);
}

#[test]
fn another_objects_bytes_are_garbage() {
    let world = swarm_with(data_liar(|bytes| {
        let (frame, payload) = decode_frame(&bytes).expect("the core sends frames");
        let frame = Frame { oid: marea_swarm::Oid([7; 8]), ..frame };
        vec![[&encode_frame(&frame)[..], payload].concat()]
    }));
    assert!(banned_for(&world, CloseReason::Garbage) >= 1);
}

#[test]
fn zero_length_data_is_garbage() {
    let world = swarm_with(data_liar(|bytes| vec![bytes[..FRAME_HEADER_LEN].to_vec()]));
    assert!(banned_for(&world, CloseReason::Garbage) >= 1);
}

#[test]
fn half_a_piece_then_silence_is_passed_over_and_not_banned() {
    let mut frames = 0;
    let world = swarm_with(data_liar(move |bytes| {
        frames += 1;
        if frames <= 2 { vec![bytes] } else { Vec::new() }
    }));
    for viewer in &world.viewers {
        assert!(!viewer.closed.iter().any(|(_, reason)| reason.banned()), "{:?}", viewer.closed);
    }
}

#[test]
fn announcing_everything_and_delivering_nothing_costs_no_stall() {
    let world = swarm_with(Some(Box::new(|outgoing| match outgoing {
        Outgoing::Data(_) => Vec::new(),
        control => vec![control],
    })));
    assert!(world.copies() < 3.0, "{} copies", world.copies());
}

#[test]
fn a_flood_of_requests_is_banned() {
    let world = swarm_with(control_liar(|message| match message {
        Control::Request { id, oid, first, deadline_ms, .. } => (0..1_000)
            .map(|n| Control::Request { id: id.wrapping_mul(1_000).wrapping_add(n), oid, first, count: 1, deadline_ms })
            .collect(),
        other => vec![other],
    }));
    assert!(banned_for(&world, CloseReason::Flood) >= 1);
}

#[test]
fn a_flood_of_requests_for_long_lists_is_banned() {
    // 123 pieces: 3 KiB for a question of 12 bytes.
    for (times, banned) in [(90, 0), (150, 1)] {
        let mut world = World::vod(3, 8_000_000);
        let oid = world.playlist.segments[0].object.expect("it has a hash").root.oid();
        world.join(0);
        let ask = move |message| match message {
            Control::Status { .. } => {
                std::iter::once(message).chain((0..times).map(|_| Control::ListGet { oid })).collect()
            }
            other => vec![other],
        };
        world.join_as(20_000, Config::default(), control_liar(ask));
        world.run(25_000);
        assert_eq!(banned_for(&world, CloseReason::Flood), banned, "{times} times");
    }
}

#[test]
fn garbage_on_either_channel_is_banned() {
    for data in [false, true] {
        let world = swarm_with(Some(Box::new(move |outgoing| match outgoing {
            Outgoing::Control(bytes) if !data && bytes.len() < 60 => vec![Outgoing::Control(vec![1, 2, 3])],
            Outgoing::Data(_) if data => vec![Outgoing::Data(vec![0xff; 9])],
            other => vec![other],
        })));
        assert!(banned_for(&world, CloseReason::Garbage) >= 1);
    }
}

#[test]
fn a_wrong_proof_is_banned_and_gets_nothing() {
    let world = swarm_with(control_liar(|message| match message {
        Control::Hello(mut hello) => {
            hello.proof[31] ^= 1;
            vec![Control::Hello(hello)]
        }
        other => vec![other],
    }));
    assert_eq!(banned_for(&world, CloseReason::WrongProof), 3);
    assert_eq!(world.viewers[1].swarm.bytes().viewers, 0);
}

#[test]
fn a_reflected_hello_is_no_proof() {
    // A stranger without the video id can only send our own HELLO back.
    let mut first: Option<Vec<u8>> = None;
    let world = swarm_with(Some(Box::new(move |outgoing| {
        if let Outgoing::Control(bytes) = &outgoing {
            let hello = first.get_or_insert_with(|| bytes.clone()).clone();
            return vec![Outgoing::Control(hello)];
        }
        vec![outgoing]
    })));
    assert!(banned_for(&world, CloseReason::WrongProof) + banned_for(&world, CloseReason::Garbage) >= 1);
}

#[test]
fn a_have_beyond_the_end_is_garbage() {
    let world = swarm_with(control_liar(|message| match message {
        Control::Have { oid, .. } => {
            vec![Control::Have { oid, pieces: PieceSet::Some { first: 4_000, bits: vec![1] } }]
        }
        other => vec![other],
    }));
    assert!(banned_for(&world, CloseReason::Garbage) >= 1);
}

#[test]
fn false_claims_cost_copies_and_no_stall() {
    // Claims whatever others announce interest in, and never fetches.
    let world = swarm_with(control_liar(|message| match message {
        Control::Have { oid, pieces } => vec![
            Control::Claim { oid, first: 0, count: 10, nonce: 1, ttl_ms: u32::MAX, hops: 0 },
            Control::Have { oid, pieces },
        ],
        other => vec![other],
    }));
    assert!(world.copies() < 2.5, "{} copies", world.copies());
}

#[test]
fn who_gives_nothing_claims_nothing_and_is_not_waited_for() {
    // Claims everything that is named, but says that it does not upload: nobody takes the claims up.
    let heard = |config: Config, lie: Option<Lie>| {
        let mut world = World::vod(15, SIZE);
        world.join_as(0, config, lie);
        world.join(300);
        world.join(600);
        world.run(110_000);
        world.assert_right();
        assert!(world.viewers.iter().all(|viewer| viewer.stalled_ms == 0.0));
        world
    };
    let idle = Config { upload: false, ..Config::default() };
    let claims = std::rc::Rc::new(std::cell::Cell::new(0));
    let count = claims.clone();
    let honest = heard(
        idle.clone(),
        control_liar(move |message| {
            count.set(count.get() + u32::from(matches!(message, Control::Claim { hops: 0, .. })));
            vec![message]
        }),
    );
    assert_eq!(claims.get(), 0);
    let mut nonce = 0;
    let false_claims = heard(
        idle,
        control_liar(move |message| match message {
            Control::Have { oid, .. } => {
                nonce += 1;
                vec![Control::Claim { oid, first: 0, count: 10, nonce, ttl_ms: u32::MAX, hops: 0 }, message]
            }
            other => vec![other],
        }),
    );
    assert!(
        false_claims.copies() < honest.copies() + 0.1,
        "{} copies with false claims, {} without",
        false_claims.copies(),
        honest.copies()
    );
}

#[test]
fn unknown_messages_are_ignored() {
    let world = swarm_with(Some(Box::new(|outgoing| match outgoing {
        Outgoing::Control(bytes) if bytes.first() != encode_control(&Control::Bye { reason: 0 }).first() => {
            vec![Outgoing::Control(bytes), Outgoing::Control(vec![0xEE, 0, 0, 2, 1, 2])]
        }
        other => vec![other],
    })));
    for viewer in &world.viewers {
        // Before HELLO nothing is read: the first unknown message follows HELLO, so nobody is banned.
        assert!(!viewer.closed.iter().any(|(_, reason)| reason.banned()), "{:?}", viewer.closed);
    }
}
