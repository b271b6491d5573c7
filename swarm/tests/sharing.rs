//! Viewers of one video in virtual time: who pays, who waits, what survives.

mod bed;

use bed::{World, segment_url};
use marea_swarm::config::Config;

const SIZE: usize = 600_000;

#[test]
fn a_lone_viewer_plays_over_http_alone() {
    let mut world = World::vod(15, SIZE);
    let viewer = world.join(0);
    world.run(70_000);
    world.assert_right();
    assert_eq!(world.viewers[viewer].delivered.len(), 15);
    assert_eq!(world.viewers[viewer].stalled_ms, 0.0);
    assert!((world.copies() - 1.0).abs() < 0.001, "{} copies", world.copies());
    assert_eq!(world.server.requests, 15, "one plain GET per segment and no piece lists");
}

#[test]
fn four_viewers_ten_seconds_apart_take_little_more_than_one_copy() {
    let mut world = World::vod(15, SIZE);
    for index in 0..4 {
        world.join(index * 10_000);
    }
    world.run(110_000);
    world.assert_right();
    for viewer in &world.viewers {
        assert_eq!(viewer.delivered.len(), 15);
        assert_eq!(viewer.stalled_ms, 0.0);
        assert!(viewer.started_at.is_some_and(|ms| ms < 400), "started after {:?} ms", viewer.started_at);
    }
    assert!(world.copies() < 1.35, "{} copies", world.copies());
}

#[test]
fn a_fast_server_does_not_win_before_the_neighbours_are_here() {
    let mut world = World::vod(15, SIZE);
    world.connect_ms = 1_500;
    world.server.rate = 50_000.0;
    for index in 0..4 {
        world.join(index * 10_000);
    }
    world.run(110_000);
    world.assert_right();
    assert!(world.viewers.iter().all(|viewer| viewer.stalled_ms == 0.0 && viewer.delivered.len() == 15));
    assert!(world.copies() < 1.35, "{} copies", world.copies());
}

#[test]
fn a_flash_crowd_shares_out_the_first_copy() {
    let mut world = World::vod(15, SIZE);
    for index in 0..4 {
        world.join(index * 500);
    }
    world.run(90_000);
    world.assert_right();
    for viewer in &world.viewers {
        assert_eq!(viewer.delivered.len(), 15);
        assert_eq!(viewer.stalled_ms, 0.0);
    }
    assert!(world.copies() < 1.35, "{} copies", world.copies());
}

#[test]
fn loss_and_latency_cost_no_stall() {
    let mut world = World::vod(15, SIZE);
    world.link.latency = 80;
    world.link.loss = 0.05;
    for index in 0..4 {
        world.join(index * 5_000);
    }
    world.run(100_000);
    world.assert_right();
    assert!(world.viewers.iter().all(|viewer| viewer.stalled_ms == 0.0 && viewer.delivered.len() == 15));
    assert!(world.copies() < 1.8, "{} copies", world.copies());
}

#[test]
fn slow_uplinks_save_bytes_and_cost_no_stall() {
    let mut world = World::vod(15, SIZE);
    world.link.rate = 60.0; // 0.48 Mbit/s for a stream of 1.2 Mbit/s
    for index in 0..4 {
        world.join(index * 5_000);
    }
    world.run(100_000);
    world.assert_right();
    assert!(world.viewers.iter().all(|viewer| viewer.stalled_ms == 0.0 && viewer.delivered.len() == 15));
    assert!(world.copies() < 3.9, "{} copies", world.copies());
}

#[test]
fn without_piece_lists_whole_objects_are_verified_and_shared() {
    let mut world = World::vod(15, SIZE);
    world.server.files.retain(|url, _| !url.ends_with(".pieces"));
    for index in 0..4 {
        world.join(index * 10_000);
    }
    world.run(110_000);
    world.assert_right();
    assert!(world.viewers.iter().all(|viewer| viewer.stalled_ms == 0.0 && viewer.delivered.len() == 15));
    assert!(world.copies() < 1.6, "{} copies", world.copies());
}

#[test]
fn pieces_are_relayed_before_the_segment_is_whole() {
    // One segment of 64 pieces over a slow server: the second viewer has most of it when the first has it whole.
    let mut world = World::vod(2, 4_194_304);
    world.server.rate = 400.0;
    world.join(0);
    world.join(600);
    world.run(8_000);
    let counts: Vec<usize> = world.viewers.iter().map(|viewer| viewer.store.len()).collect();
    assert!(world.viewers[1].swarm.bytes().viewers > 0, "kept {counts:?}");
    world.assert_right();
}

#[test]
fn a_peer_that_vanishes_in_mid_piece_costs_no_stall() {
    for after in [11_000, 11_333, 12_000, 14_000] {
        let mut world = World::vod(15, SIZE);
        let first = world.join(0);
        let second = world.join(10_000);
        world.run(after);
        world.vanish(first);
        world.run(90_000);
        world.assert_right();
        let viewer = &world.viewers[second];
        assert_eq!((viewer.stalled_ms, viewer.delivered.len()), (0.0, 15), "vanished after {after} ms");
    }
}

#[test]
fn a_cut_server_is_bridged_by_peers() {
    let mut world = World::vod(15, SIZE);
    world.join(0);
    let second = world.join(15_000);
    world.run(24_000);
    world.server.up = false;
    world.run(10_000);
    world.server.up = true;
    world.run(80_000);
    world.assert_right();
    let viewer = &world.viewers[second];
    assert_eq!((viewer.stalled_ms, viewer.delivered.len()), (0.0, 15));
}

#[test]
fn a_seek_is_served_at_once() {
    let mut world = World::vod(15, SIZE);
    world.join(0);
    let second = world.join(10_000);
    world.run(20_000);
    world.seek(second, 12);
    world.run(1_500);
    assert!(world.viewers[second].delivered.contains_key(&12));
    world.seek(second, 1);
    world.run(60_000);
    world.assert_right();
}

#[test]
fn a_missing_segment_fails_for_the_player_to_decide() {
    let mut world = World::vod(4, SIZE);
    world.server.files.remove(&segment_url(2));
    let viewer = world.join(0);
    world.run(10_000);
    assert_eq!(world.viewers[viewer].delivered.len(), 2);
    assert!(world.viewers[viewer].failed > 0);
}

#[test]
fn a_replaced_segment_is_played_and_never_shared() {
    for (what, replaced) in [
        ("same length", bed::segment_bytes(99, SIZE - 2 * 97)),
        ("shorter", bed::segment_bytes(99, 1_000)),
        ("longer", bed::segment_bytes(99, SIZE + 70_000)),
    ] {
        let mut world = World::vod(6, SIZE);
        world.server.files.insert(segment_url(2), replaced.clone());
        world.join(0);
        world.join(5_000);
        world.run(40_000);
        for (index, viewer) in world.viewers.iter().enumerate() {
            assert_eq!(viewer.delivered.len(), 6, "{what}: viewer {index}");
            assert_eq!(viewer.delivered.get(&2), Some(&replaced), "{what}: viewer {index}");
            assert_eq!(viewer.differs, 1, "{what}: viewer {index}");
            assert!(viewer.closed.is_empty(), "{what}: nobody is to blame but the origin");
            assert_eq!(viewer.stalled_ms, 0.0, "{what}: viewer {index}");
        }
        assert!(world.viewers[1].swarm.bytes().viewers > 0, "{what}: the other segments are shared");
    }
}

#[test]
fn memory_stays_within_its_budget() {
    let mut world = World::vod(15, SIZE);
    let config = Config { memory_limit: 2_000_000, ..Config::default() };
    world.join(0);
    world.join_as(5_000, config, None);
    for _ in 0..900 {
        world.run(100);
        let held: usize = world.viewers[1].store.values().map(Vec::len).sum();
        assert_eq!(held as u64, world.viewers[1].swarm.memory());
        assert!(held <= 2_000_000 + 2 * SIZE, "{held} bytes held");
    }
    world.assert_right();
    assert_eq!(world.viewers[1].delivered.len(), 15);
}

#[test]
fn uploads_keep_to_their_limit() {
    let mut world = World::vod(15, SIZE);
    let config = Config { upload_limit: Some(100_000), ..Config::default() };
    world.join_as(0, config, None);
    world.join(10_000);
    world.run(30_000);
    let uploaded = world.viewers[0].swarm.bytes().uploaded;
    assert!(uploaded > 100_000 && uploaded <= 20 * 100_000 + 65_536, "{uploaded} bytes in 20 s");
    world.run(60_000);
    assert_eq!(world.viewers[1].stalled_ms, 0.0);
}

#[test]
fn byte_counters_add_up() {
    let mut world = World::vod(15, SIZE);
    for index in 0..3 {
        world.join(index * 4_000);
    }
    world.run(90_000);
    for viewer in &world.viewers {
        let bytes = viewer.swarm.bytes();
        let kept: u64 = viewer.store.values().map(|piece| piece.len() as u64).sum();
        assert_eq!(bytes.http + bytes.viewers + bytes.mirrors + bytes.edge, kept + bytes.wasted, "{bytes:?}");
    }
    let lists: u64 = 0;
    let http: u64 = world.viewers.iter().map(|viewer| viewer.swarm.bytes().http).sum();
    assert!(world.server.sent >= http + lists);
    let up: u64 = world.viewers.iter().map(|viewer| viewer.swarm.bytes().uploaded).sum();
    let down: u64 = world.viewers.iter().map(|viewer| viewer.swarm.bytes().viewers).sum();
    assert_eq!(up, down);
}

#[test]
fn a_player_that_will_begin_far_from_its_playhead_starts_at_once() {
    let mut world = World::vod(15, SIZE);
    world.begins_ms = 3_600_000.0;
    for index in 0..3 {
        world.join(index * 4_000);
    }
    // Nobody answers the last one: it has neighbours, and only HTTP will help it.
    world.run(8_000);
    world.vanish(0);
    world.vanish(1);
    world.run(60_000);
    world.assert_right();
    let last = &world.viewers[2];
    assert!(last.started_at.is_some_and(|ms| ms < 2_500), "started after {:?} ms", last.started_at);
    assert_eq!(last.stalled_ms, 0.0);
}

#[test]
fn a_slow_server_is_not_given_up_for_neighbours_that_are_slower() {
    let stalled = |alone: bool| {
        let mut world = World::vod(15, SIZE);
        // It takes 3.5 s to bring 4 s of film, the neighbour a minute.
        world.server.rate = 170.0;
        world.link.rate = 10.0;
        let viewer = if alone {
            world.join(0)
        } else {
            world.join(0);
            world.run(40_000);
            world.join(0)
        };
        world.run(90_000);
        world.assert_right();
        assert_eq!(world.viewers[viewer].delivered.len(), 15, "alone: {alone}");
        world.viewers[viewer].stalled_ms
    };
    assert_eq!(stalled(true), 0.0);
    let beside = stalled(false);
    assert!(beside < 5_000.0, "stalled for {beside} ms");
}

#[test]
fn a_server_that_was_silent_for_a_while_is_not_given_up() {
    for rate in [10.0, 15.0, 25.0, 45.0] {
        let mut world = World::vod(25, SIZE);
        for _ in 0..4 {
            world.join(0);
        }
        world.run(40_000);
        // The newcomer's machine has no time at its start: nothing comes by HTTP for seconds, and neighbours trickle.
        world.server.latency = 4_000;
        world.link.rate = rate;
        let newcomer = world.join(0);
        world.run(20_000);
        world.server.latency = 30;
        world.run(10_000);
        let before = world.viewers[newcomer].stalled_ms;
        world.run(110_000);
        world.assert_right();
        let viewer = &world.viewers[newcomer];
        assert_eq!(viewer.delivered.len(), 25, "neighbours with {rate} bytes per millisecond");
        let stalled = viewer.stalled_ms - before;
        assert!(stalled <= 3_000.0, "stalled for {stalled} ms beside neighbours with {rate} bytes per millisecond");
    }
}

#[test]
fn a_viewer_without_time_plays_over_http_until_it_has_some() {
    let viewed = |late_ms: f64| {
        let mut world = World::vod(30, SIZE);
        world.join(0);
        world.run(20_000);
        // Its own lateness makes the server look slow.
        world.server.rate = 160.0;
        let viewer = world.join(0);
        world.viewers[viewer].late_ms = late_ms;
        world.run(20_000);
        let busy = world.viewers[viewer].swarm.bytes();
        assert_eq!(world.viewers[viewer].swarm.want() == 0, late_ms > 0.0, "no time for more neighbours");
        world.viewers[viewer].late_ms = 0.0;
        world.server.rate = 2_500.0;
        world.run(100_000);
        world.assert_right();
        assert_eq!(world.viewers[viewer].delivered.len(), 30);
        assert_eq!(world.viewers[viewer].stalled_ms, 0.0);
        let bytes = world.viewers[viewer].swarm.bytes();
        (busy.http, bytes.http - busy.http, bytes.viewers - busy.viewers)
    };
    let (calm, busy) = (viewed(0.0), viewed(400.0));
    assert!(busy.0 > 2 * calm.0, "{calm:?} {busy:?}");
    assert!(busy.2 > 5 * busy.1, "{busy:?}");
}
