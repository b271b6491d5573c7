//! Live: first copies among viewers who learn of a new segment at different times, with whole and with partial views.

mod crowd;

use crowd::{Crowd, SEGMENT_MS, mixed};

/// Viewers that join `apart` milliseconds after each other and watch a minute more. Copies from the server of what was listed
/// from 20 s after the last join on.
fn copies(viewers: u64, apart: u64, uplinks: fn(usize) -> f64) -> f64 {
    let segments = (viewers * apart + 90_000) / SEGMENT_MS;
    let mut crowd = Crowd::new(segments as usize + 8, 16, true);
    crowd.uplinks = uplinks;
    for index in 0..viewers {
        crowd.join(index * apart);
    }
    crowd.run(viewers * apart + 20_000);
    let first = crowd.edge() + 1;
    crowd.run(60_000);
    let last = crowd.edge() - 2;
    for (index, viewer) in crowd.viewers.iter().enumerate() {
        assert_eq!(viewer.stalled_ms, 0.0, "viewer {index}");
        assert!(viewer.delivered > 12, "viewer {index} got {}", viewer.delivered);
        let known = viewer.peers.len();
        assert!(known >= 3.min(crowd.viewers.len() - 1) && known <= 15, "viewer {index} knows {known} others");
        let whole = viewer.whole.range(first..last).count();
        assert_eq!(whole, last - first, "viewer {index}");
    }
    let mut spread: Vec<u64> = crowd.spread(first..last);
    spread.sort_unstable();
    let copies = crowd.copies(first..last);
    println!(
        "{viewers} viewers: {copies:.2} copies, whole after {} ms (median), {} ms (99 %); {} messages, {} wakes, {} reloads each",
        spread[spread.len() / 2],
        spread[spread.len() * 99 / 100],
        crowd.messages / viewers,
        crowd.wakes / viewers,
        crowd.viewers.iter().map(|viewer| u64::from(viewer.reloads)).sum::<u64>() / viewers,
    );
    copies
}

#[test]
fn four_viewers_take_one_copy() {
    let copies = copies(4, 2_000, |_| 1_250.0);
    assert!(copies <= 1.15, "{copies} copies");
}

#[test]
fn fifty_viewers_who_know_ten_others_take_little_more() {
    let copies = copies(50, 100, mixed);
    assert!(copies <= 2.0, "{copies} copies");
}

#[test]
fn a_copy_that_spreads_slowly_is_no_lie() {
    // Lines that bear twice the stream: the last get a group long after its claim has lapsed.
    let copies = copies(40, 100, |_| 525.0);
    assert!(copies <= 1.8, "{copies} copies");
}

#[test]
#[ignore = "a minute of CPU: cargo test -p marea-swarm --test live -- --ignored"]
fn a_thousand_viewers_take_four_copies() {
    let copies = copies(1_000, 10, mixed);
    assert!(copies <= 4.0, "{copies} copies");
}
