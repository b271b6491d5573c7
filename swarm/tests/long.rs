//! A two-hour film within the memory budget.

mod crowd;

use crowd::Crowd;
use marea_swarm::config::Config;

#[test]
fn two_hours_fit_the_budget_and_nothing_is_fetched_again_and_again() {
    // 1,800 segments of 256 KB: 470 MB in all.
    for memory_limit in [256 << 20, 32 << 20] {
        let mut crowd = Crowd::new(1_800, 4, false);
        crowd.config = Config { memory_limit, ..Config::default() };
        crowd.join(0);
        crowd.join(20_000);
        for _ in 0..75 {
            crowd.run(100_000);
            for viewer in &crowd.viewers {
                assert!(viewer.swarm.memory() <= memory_limit + (1 << 20), "{} bytes held", viewer.swarm.memory());
            }
        }
        for viewer in &crowd.viewers {
            assert_eq!((viewer.delivered, viewer.stalled_ms), (1_800, 0.0));
        }
        let copies = crowd.copies(0..1_800);
        assert!(copies < 1.05, "{copies} copies with {memory_limit} bytes");
        let down: u64 = crowd.viewers.iter().map(|viewer| viewer.swarm.bytes().viewers).sum();
        assert!(down < 500 << 20, "{down} bytes from viewers");
    }
}
