//! The server as a peer: it brings what its HTTP does not, and changes nothing where that works.

mod bed;

use bed::{World, segment_url};

const SIZE: usize = 600_000;

#[test]
fn a_lone_viewer_whose_http_works_asks_the_edge_for_nothing() {
    let mut world = World::vod(15, SIZE);
    world.edge(0);
    let viewer = world.join(100);
    world.run(70_000);
    world.assert_right();
    let viewer = &world.viewers[viewer];
    assert_eq!((viewer.delivered.len(), viewer.stalled_ms), (15, 0.0));
    assert_eq!(viewer.swarm.bytes().edge, 0);
    assert_eq!(world.server.requests, 15, "one plain GET per segment and no piece lists, as without it");
    // The first one waits for no neighbour, and once the edge is there nobody else is expected.
    assert!(viewer.started_at.is_some_and(|ms| ms < 400), "started after {:?} ms", viewer.started_at);
}

#[test]
fn viewers_share_as_if_it_was_not_there() {
    let run = |edge: bool| {
        let mut world = World::vod(15, SIZE);
        if edge {
            world.edge(0);
        }
        let viewers: Vec<usize> = (0..4).map(|at| world.join(100 + at * 5_000)).collect();
        world.run(110_000);
        world.assert_right();
        for viewer in viewers.iter().map(|&viewer| &world.viewers[viewer]) {
            assert_eq!((viewer.delivered.len(), viewer.stalled_ms), (15, 0.0));
            assert_eq!(viewer.swarm.bytes().edge, 0);
        }
        world.copies()
    };
    let (with, without) = (run(true), run(false));
    assert!(with < 1.35 && with < without + 0.1, "{with} copies in place of {without}");
}

#[test]
fn what_http_refuses_the_edge_brings() {
    let mut world = World::vod(15, SIZE);
    let edge = world.edge(0);
    // Segments and their piece lists; the edge has its own copy.
    world.server.up = false;
    let viewer = world.join(100);
    world.run(70_000);
    world.assert_right();
    let player = &world.viewers[viewer];
    assert_eq!(
        (player.delivered.len(), player.stalled_ms, player.failed),
        (15, 0.0, 0),
        "no load failed for the player"
    );
    let bytes = player.swarm.bytes();
    assert_eq!((bytes.http, bytes.viewers, bytes.mirrors), (0, 0, 0));
    assert!(bytes.edge > 0 && bytes.wasted * 20 < bytes.edge, "{bytes:?}");
    assert_eq!(world.viewers[edge].swarm.bytes().uploaded, bytes.edge);
}

#[test]
fn a_server_that_comes_back_is_asked_again() {
    let mut world = World::vod(30, SIZE);
    world.edge(0);
    let viewer = world.join(100);
    world.run(8_000);
    world.server.up = false;
    world.run(20_000);
    let at_edge = world.viewers[viewer].swarm.bytes().edge;
    assert!(at_edge > 0, "the edge has brought what the server did not");
    world.server.up = true;
    // What was under way may still come.
    world.run(4_000);
    let (settled, http) = (world.viewers[viewer].swarm.bytes().edge, world.viewers[viewer].swarm.bytes().http);
    world.run(110_000);
    world.assert_right();
    let player = &world.viewers[viewer];
    assert_eq!((player.delivered.len(), player.stalled_ms), (30, 0.0));
    assert_eq!(player.swarm.bytes().edge, settled, "the server is asked alone once it answers");
    assert!(player.swarm.bytes().http > http);
}

#[test]
fn one_missing_file_is_had_from_the_edge_alone() {
    let mut world = World::vod(6, SIZE);
    world.edge(0);
    let file = world.server.files.remove(&segment_url(2)).unwrap();
    let viewer = world.join(100);
    world.run(40_000);
    world.server.files.insert(segment_url(2), file.clone());
    world.assert_right();
    let player = &world.viewers[viewer];
    assert_eq!((player.delivered.len(), player.stalled_ms), (6, 0.0));
    assert_eq!(player.swarm.bytes().edge, file.len() as u64);
}
