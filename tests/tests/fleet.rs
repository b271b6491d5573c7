//! A few minutes of a small fleet, with fixed seeds: what must hold whatever the figures are.

use marea_tests::fleet::{self, Figures, Scenario};

/// A scenario, smaller, with and without Marea.
fn run(name: &str, viewers: usize, seconds: u64) -> (Figures, Figures) {
    let all = Scenario::all().into_iter().chain(Scenario::calibration());
    let scenario = all.into_iter().find(|scenario| scenario.name == name).expect("a scenario of this name");
    let scenario = Scenario { viewers, span: seconds * 1000, seed: 7, ..scenario };
    (fleet::run(&scenario), fleet::run(&scenario.over_http()))
}

/// Playback is not worse than without Marea, and nobody keeps what is not what it should be.
fn assert_harmless(marea: &Figures, http: &Figures) {
    assert_eq!(marea.wrong_kept, 0, "wrong bytes were kept");
    assert_eq!((marea.unstarted, http.unstarted), (0, 0), "viewers who never started");
    assert!(marea.stalls.1 <= http.stalls.1 + 1.0, "{} ms stalled against {}", marea.stalls.1, http.stalls.1);
    assert!(marea.startup.1 <= http.startup.1 * 1.15, "start {:?} against {:?}", marea.startup, http.startup);
}

#[test]
fn sixty_live_viewers_take_far_less_from_the_server_and_stall_no_more() {
    let (marea, http) = run("live", 60, 80);
    assert_harmless(&marea, &http);
    assert!(marea.all_copies < http.all_copies / 3.0, "{} copies against {}", marea.all_copies, http.all_copies);
    assert!(marea.offload > 0.5, "{} from peers", marea.offload);
}

#[test]
fn a_flash_crowd_takes_far_less_from_the_server() {
    let (marea, http) = run("flash", 40, 75);
    assert_harmless(&marea, &http);
    assert!(marea.all_copies < http.all_copies / 3.0, "{} copies against {}", marea.all_copies, http.all_copies);
}

#[test]
fn newcomers_on_a_thin_server_line_start_soon_and_share_what_it_sends() {
    let thin = Scenario::all().into_iter().find(|scenario| scenario.name == "thin-server").expect("it is there");
    // Six viewers' worth of line for eighty.
    let thin = Scenario { viewers: 80, span: 75_000, seed: 7, server_line: Some(12e6), leave: None, ..thin };
    let (marea, http) = (fleet::run(&thin), fleet::run(&thin.over_http()));
    assert_eq!(marea.wrong_kept, 0, "wrong bytes were kept");
    assert!(marea.startup.1 <= 6_000.0, "start {:?}, over HTTP {:?}", marea.startup, http.startup);
    assert!(marea.stalls.1 < http.stalls.1 / 4.0, "{} ms stalled against {}", marea.stalls.1, http.stalls.1);
}

#[test]
fn a_crowd_does_not_slow_a_thin_line_down_until_nothing_comes_in_time() {
    let thin = Scenario::all().into_iter().find(|scenario| scenario.name == "thin-server").expect("it is there");
    // Three copies' worth of line for eighty.
    let thin = Scenario { viewers: 80, span: 75_000, seed: 7, server_line: Some(6e6), leave: None, ..thin };
    let marea = fleet::run(&thin);
    assert_eq!(marea.unstarted, 0, "viewers who never started");
    assert!(marea.startup.1 <= 10_000.0, "start {:?}", marea.startup);
    assert!(marea.stalls.1 < 3_000.0, "{} ms stalled", marea.stalls.1);
}

#[test]
fn polluters_and_false_claimers_are_found_out_and_cost_nobody_a_stall() {
    let (marea, http) = run("liars", 60, 60);
    assert_harmless(&marea, &http);
    assert!(marea.bans > 0, "polluters that nobody noticed");
}

#[test]
fn four_viewers_ten_seconds_apart_take_little_more_than_a_copy() {
    let (marea, http) = run("cal-vod", 4, 110);
    assert_harmless(&marea, &http);
    assert!((3.9..4.1).contains(&http.copies), "{} copies over HTTP", http.copies);
    assert!(marea.copies < 1.6, "{} copies", marea.copies);
}

#[test]
fn a_run_repeats_with_its_seed() {
    let figures = || {
        let (marea, _) = run("churn", 30, 40);
        Figures { wall: 0.0, memory: 0.0, ..marea }.to_json()
    };
    assert_eq!(figures(), figures());
}
