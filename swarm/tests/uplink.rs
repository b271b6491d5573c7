//! An uplink whose speed nobody knows: half of it is given, whatever it is and becomes, and however many want it.

mod bed;

use std::{cell::RefCell, rc::Rc};

use bed::{World, control_liar};
use marea_swarm::{config::Config, wire::Control};

/// Uplinks that a viewer says it has, in bytes per second.
type Told = Rc<RefCell<Vec<u32>>>;

/// A film whose first viewer alone gives, and a slow server.
fn one_giver(takers: usize) -> (World, Told) {
    let mut world = World::vod(60, 600_000);
    let told = Told::default();
    let notes = Rc::clone(&told);
    let lie = control_liar(move |message| {
        if let Control::Status { uplink, .. } = message {
            notes.borrow_mut().push(uplink);
        }
        vec![message]
    });
    let unbounded = Config { max_upload_ratio: None, ..Config::default() };
    world.join_as(0, unbounded, lie);
    world.run(10_000);
    world.server.rate = 300.0;
    for index in 0..takers {
        let config = Config { upload: false, ..Config::default() };
        world.join_as(index as u64 * 300, config, None);
    }
    (world, told)
}

#[test]
fn an_uplink_that_was_slow_for_a_while_is_used_when_it_is_fast_again() {
    for window in [0, 16_384] {
        let (mut world, told) = one_giver(3);
        world.link.window = window;
        world.viewers[0].uplink = Some(30.0);
        world.run(40_000);
        let slow = told.borrow().last().copied();
        assert!(slow.is_some_and(|uplink| uplink < 60_000), "window {window}: {slow:?}");
        world.viewers[0].uplink = Some(1_500.0);
        world.run(50_000);
        let before = world.viewers[0].swarm.bytes().uploaded;
        world.run(50_000);
        world.assert_right();
        let rate = (world.viewers[0].swarm.bytes().uploaded - before) / 50;
        // Three films of 150 kB/s; half of the line is 750.
        assert!(rate > 350_000, "window {window}: {rate} bytes per second, {told:?}");
        assert!(world.viewers.iter().all(|viewer| viewer.stalled_ms == 0.0), "window {window}");
    }
}

#[test]
fn many_neighbours_on_a_slow_line_do_not_make_it_look_fast() {
    for rate in [60.0, 125.0] {
        let (mut world, told) = one_giver(9);
        world.link.window = 16_384;
        world.viewers[0].uplink = Some(rate);
        world.run(20_000);
        told.borrow_mut().clear();
        let before = world.viewers[0].swarm.bytes().uploaded;
        world.run(60_000);
        let given = (world.viewers[0].swarm.bytes().uploaded - before) as f64 / 60_000.0;
        assert!((0.35 * rate..0.65 * rate).contains(&given), "{given} of {rate} bytes per millisecond, {told:?}");
        let most = told.borrow().iter().copied().max().unwrap_or(0);
        assert!(f64::from(most) < 1_600.0 * rate, "{rate} bytes per millisecond: {told:?}");
    }
}
