//! What a run came to, in figures and words.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    scenario::{Arrivals, Role, Scenario},
    viewer::NO_UDP,
    world::World,
};

/// After the last arrival, the time until a live run counts as steady, in milliseconds.
const SETTLED_MS: u64 = 20_000;

/// Figures of one run. Bytes are payload bytes; times are milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Name of the scenario.
    pub name: String,
    /// Plain HLS.
    pub http_only: bool,
    /// Seed.
    pub seed: u64,
    /// Viewers that watched.
    pub viewers: usize,
    /// Media, piece lists and playlists (tags included) that left the server.
    pub media: u64,
    /// See `media`.
    pub lists: u64,
    /// See `media`.
    pub playlists: u64,
    /// Bytes of all segments that somebody's player asked for, once each.
    pub unique: u64,
    /// Media and lists over `unique`.
    pub copies: f64,
    /// Viewers without UDP: each takes a whole copy from the server, whatever the others do.
    pub alone: usize,
    /// Copies from 20 s after the last arrival on: media that the server sent since then over what was asked for first
    /// since then; to viewers who can reach others, and to those without UDP. Live only.
    pub steady: Option<[f64; 2]>,
    /// Everything the server sent, playlists included, over `unique`.
    pub all_copies: f64,
    /// Share of the viewers' payload that came from peers.
    pub offload: f64,
    /// What theory allows.
    pub bound: f64,
    /// Payload that was not used, as a share.
    pub wasted: f64,
    /// Start: median, 95th of a hundred; infinite if so many never did.
    pub startup: (f64, f64),
    /// Mean start of those who did start.
    pub startup_mean: f64,
    /// Viewers who stayed for 10 s and more and never saw a picture.
    pub unstarted: usize,
    /// Stalls per viewer; milliseconds per viewer; share of viewers who had any.
    pub stalls: (f64, f64, f64),
    /// Live media that viewers had to jump over, in milliseconds per viewer.
    pub skipped: f64,
    /// From listed to whole at a viewer: median, 99th of a hundred. Live only.
    pub spread: Option<(f64, f64)>,
    /// Control messages and their bytes per viewer and second.
    pub controls: (f64, f64),
    /// Messages with signaling per viewer in all.
    pub signals: f64,
    /// Connections per viewer at the end, or over its life.
    pub links: f64,
    /// Calls of the core per viewer and second.
    pub drains: f64,
    /// Pieces with wrong bytes that a core kept.
    pub wrong_kept: u64,
    /// Things that cores refused, and neighbours that they banned.
    pub refused: u64,
    /// See `refused`.
    pub bans: u64,
    /// Loads that failed.
    pub failed: u64,
    /// Events of the simulator.
    pub events: u64,
    /// Seconds of real time.
    pub wall: f64,
    /// Most memory of the process so far, in MiB; 0 where it cannot be told.
    pub memory: f64,
}

impl Figures {
    /// The figures of a world that has run.
    pub fn of(world: &World, wall: f64) -> Self {
        let scenario = &world.scenario;
        let watchers: Vec<_> =
            world.viewers.iter().filter(|viewer| viewer.watches() && (viewer.alive || viewer.gone)).collect();
        let count = watchers.len().max(1) as f64;
        let alone = watchers.iter().filter(|viewer| viewer.nat == NO_UDP).count();
        let server = &world.server;
        let segments = || world.asked.iter().zip(&world.film.segments);
        let unique: u64 =
            segments().filter(|(asked, _)| asked.is_some()).map(|(_, segment)| u64::from(segment.size)).sum();
        let per_copy = unique.max(1) as f64;
        let (mut http, mut peers, mut wasted) = (0u64, 0u64, 0u64);
        for viewer in &watchers {
            http += viewer.plain_bytes;
            let bytes = viewer.final_bytes.or_else(|| viewer.core.as_ref().map(|core| core.bytes()));
            if let Some(bytes) = bytes {
                http += bytes.http;
                peers += bytes.viewers + bytes.mirrors + bytes.edge;
                wasted += bytes.wasted;
            }
        }
        let payload = (http + peers).max(1) as f64;
        let lived = |viewer: &super::viewer::Viewer| world.now.saturating_sub(viewer.player.came);
        let mut starts: Vec<f64> = watchers
            .iter()
            .filter(|viewer| viewer.player.started.is_some_and(|at| at <= world.now) || lived(viewer) > 10_000)
            .map(|viewer| viewer.player.started.map_or(f64::INFINITY, |at| (at - viewer.player.came) as f64))
            .collect();
        let unstarted = starts.iter().filter(|start| start.is_infinite()).count();
        let started: Vec<f64> = starts.iter().copied().filter(|start| start.is_finite()).collect();
        let mut spread: Vec<f64> =
            watchers.iter().flat_map(|viewer| viewer.spread.iter().map(|&ms| f64::from(ms))).collect();
        let live = scenario.film.window.is_some();
        let settled = world.last_arrival + SETTLED_MS;
        let steady = (live && settled + 20_000 < world.now).then(|| {
            let sent = |whom: usize| -> u64 {
                server.timeline.iter().skip((settled / 1000) as usize).map(|second| second[whom]).sum()
            };
            let since = |asked: &Option<u64>| asked.is_some_and(|at| at >= settled);
            let new: u64 =
                segments().filter(|(asked, _)| since(asked)).map(|(_, segment)| u64::from(segment.size)).sum();
            [0, 1].map(|whom| sent(whom) as f64 / new.max(1) as f64)
        });
        let seconds: f64 = watchers.iter().map(|viewer| lived(viewer) as f64 / 1000.0).sum::<f64>().max(1.0);
        let sum = |of: &dyn Fn(&super::viewer::Viewer) -> f64| watchers.iter().map(|viewer| of(viewer)).sum::<f64>();
        let all = |of: &dyn Fn(&super::viewer::Viewer) -> u64| world.viewers.iter().map(of).sum::<u64>();
        Self {
            name: scenario.name.to_owned(),
            http_only: scenario.http_only,
            seed: scenario.seed,
            viewers: watchers.len(),
            media: server.media,
            lists: server.lists,
            playlists: server.playlists,
            unique,
            alone,
            copies: (server.media + server.lists) as f64 / per_copy,
            steady,
            all_copies: (server.media + server.lists + server.playlists) as f64 / per_copy,
            offload: peers as f64 / payload,
            bound: bound(scenario, watchers.len(), alone),
            wasted: wasted as f64 / payload,
            startup: (quantile(&mut starts, 0.5), quantile(&mut starts, 0.95)),
            startup_mean: started.iter().sum::<f64>() / started.len().max(1) as f64,
            unstarted,
            stalls: (
                sum(&|viewer| f64::from(viewer.player.stalls)) / count,
                sum(&|viewer| viewer.player.stalled_ms) / count,
                sum(&|viewer| f64::from(u8::from(viewer.player.stalls > 0))) / count,
            ),
            skipped: sum(&|viewer| viewer.player.skipped_ms) / count,
            spread: (!spread.is_empty()).then(|| (quantile(&mut spread, 0.5), quantile(&mut spread, 0.99))),
            controls: (
                sum(&|viewer| viewer.counters.controls as f64) / seconds,
                sum(&|viewer| viewer.counters.control_bytes as f64) / seconds,
            ),
            signals: world.signals as f64 / world.viewers.len().max(1) as f64,
            links: sum(&|viewer| if viewer.alive { viewer.ends.len() as f64 } else { 0.0 })
                / watchers.iter().filter(|viewer| viewer.alive).count().max(1) as f64,
            drains: sum(&|viewer| viewer.counters.drains as f64) / seconds,
            wrong_kept: all(&|viewer| viewer.counters.wrong_kept),
            refused: all(&|viewer| viewer.counters.refused),
            bans: all(&|viewer| viewer.counters.bans),
            failed: all(&|viewer| u64::from(viewer.counters.failed)),
            events: world.events,
            wall,
            memory: peak_memory(),
        }
    }

    /// Offload over what theory allows.
    pub fn efficiency(&self) -> f64 {
        if self.bound > 0.0 { self.offload / self.bound } else { 0.0 }
    }

    /// As one JSON line.
    pub fn to_json(&self) -> Value {
        let finite = |value: f64| if value.is_finite() { json!((value * 1e4).round() / 1e4) } else { Value::Null };
        json!({
            "scenario": self.name, "engine": if self.http_only { "http" } else { "marea" }, "seed": self.seed,
            "viewers": self.viewers, "serverBytes": self.media + self.lists + self.playlists,
            "mediaBytes": self.media, "listBytes": self.lists, "playlistBytes": self.playlists,
            "uniqueBytes": self.unique, "copies": finite(self.copies), "alone": self.alone, "steadyCopies": self.steady.map(|steady| finite(steady[0])),
            "steadyCopiesAlone": self.steady.map(|steady| finite(steady[1])),
            "allCopies": finite(self.all_copies), "offload": finite(self.offload), "bound": finite(self.bound),
            "efficiency": finite(self.efficiency()), "wasted": finite(self.wasted),
            "startupMeanMs": finite(self.startup_mean), "startupMedianMs": finite(self.startup.0), "startupP95Ms": finite(self.startup.1),
            "unstarted": self.unstarted, "stallsPerViewer": finite(self.stalls.0),
            "stalledMsPerViewer": finite(self.stalls.1), "viewersStalled": finite(self.stalls.2),
            "skippedMsPerViewer": finite(self.skipped),
            "spreadMedianMs": self.spread.map(|spread| finite(spread.0)),
            "spreadP99Ms": self.spread.map(|spread| finite(spread.1)),
            "controlPerViewerSecond": finite(self.controls.0), "controlBytesPerViewerSecond": finite(self.controls.1),
            "signalingPerViewer": finite(self.signals), "neighbours": finite(self.links), "wrongKept": self.wrong_kept,
            "refused": self.refused, "bans": self.bans, "failed": self.failed, "events": self.events,
            "wallSeconds": finite(self.wall), "peakMiB": finite(self.memory),
        })
    }
}

/// A table of runs, one a line.
pub fn table(runs: &[Figures]) -> String {
    let mut out = String::from(
        "scenario      engine      N  server MB   media   lists playlist  copies steady+alone    all  offload bound  effic \
         wasted  start p50    p95  none  stalls/v  ms/v  stalled  spread p50/p99    msg/v/s  kB/v/s signals links  wall s  MiB\n",
    );
    for run in runs {
        let engine = if run.http_only { "http" } else { "marea" };
        let steady = run.steady.map_or_else(|| "-".to_owned(), |steady| format!("{:.2}+{:.1}", steady[0], steady[1]));
        let spread = run.spread.map_or_else(|| "-".to_owned(), |(median, high)| format!("{median:.0}/{high:.0}"));
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let _ = writeln!(
            out,
            "{:<13} {engine:<6} {:>6} {:>10.1} {:>7.1} {:>7.2} {:>8.2} {:>7.2} {steady:>12} {:>6.2}  {:>6.1}% {:>5.3}  {:>5.3} {:>5.1}% \
             {:>10.0} {:>6.0} {:>5} {:>9.3} {:>5.0} {:>7.1}% {spread:>15} {:>10.1} {:>7.2} {:>7.1} {:>5.1} {:>7.1} {:>4.0}{}",
            run.name,
            run.viewers,
            mb(run.media + run.lists + run.playlists),
            mb(run.media),
            mb(run.lists),
            mb(run.playlists),
            run.copies,
            run.all_copies,
            run.offload * 100.0,
            run.bound,
            run.efficiency(),
            run.wasted * 100.0,
            run.startup.0,
            run.startup.1,
            run.unstarted,
            run.stalls.0,
            run.stalls.1,
            run.stalls.2 * 100.0,
            run.controls.0,
            run.controls.1 / 1000.0,
            run.signals,
            run.links,
            run.wall,
            run.memory,
            match (run.wrong_kept, run.refused, run.bans) {
                (0, 0, 0) => String::new(),
                (wrong, refused, bans) => format!("  wrong kept {wrong}, refused {refused}, bans {bans}"),
            },
        );
    }
    out
}

/// Runs as they were written by [`Figures::to_json`], one a line, as a table in Markdown: of each scenario, size and engine
/// the latest.
pub fn markdown(lines: &str) -> String {
    let mut latest: Vec<(String, Value)> = Vec::new();
    for run in lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let key = format!("{} {} {}", run["scenario"], run["viewers"], run["engine"]);
        match latest.iter_mut().find(|(other, _)| *other == key) {
            Some((_, old)) => *old = run,
            None => latest.push((key, run)),
        }
    }
    let mut out = String::from(
        "| scenario | engine | viewers | server MB | copies | settled + alone | from peers | bound | efficiency | start \
         median, p95 (ms) | viewers that stalled | stalled ms each | control kB/s each |\n| --- | --- | --: | --: | --: \
         | --: | --: | --: | --: | --: | --: | --: | --: |\n",
    );
    for (_, run) in latest {
        let number = |name: &str, digits: usize| match run[name].as_f64() {
            Some(value) => format!("{value:.digits$}"),
            None => "–".to_owned(),
        };
        let percent =
            |name: &str| run[name].as_f64().map_or("–".to_owned(), |value| format!("{:.1} %", value * 100.0));
        let settled = match run["steadyCopies"].as_f64() {
            Some(_) => format!("{} + {}", number("steadyCopies", 2), number("steadyCopiesAlone", 1)),
            None => "–".to_owned(),
        };
        let megabytes = run["serverBytes"].as_f64().unwrap_or(0.0) / 1e6;
        let _ = writeln!(
            out,
            "| {} | {} | {} | {megabytes:.0} | {} | {settled} | {} | {} | {} | {}, {} | {} | {} | {:.2} |",
            run["scenario"].as_str().unwrap_or_default(),
            run["engine"].as_str().unwrap_or_default(),
            run["viewers"],
            number("copies", 2),
            percent("offload"),
            number("bound", 3),
            number("efficiency", 3),
            number("startupMedianMs", 0),
            number("startupP95Ms", 0),
            percent("viewersStalled"),
            number("stalledMsPerViewer", 0),
            run["controlBytesPerViewerSecond"].as_f64().unwrap_or(0.0) / 1000.0,
        );
    }
    out
}

/// The share of viewers' bytes that peers could bring at best: (N-1)/N, of those with UDP; p·u/r, with p the share of viewers who upload, u
/// their mean uplink as the settings allow it, r the bitrate; and for Poisson arrivals with c viewers at once on average
/// 1 - (1 - e^-c)/c: who comes while nobody is there pays for itself.
fn bound(scenario: &Scenario, viewers: usize, alone: usize) -> f64 {
    if scenario.http_only {
        return 0.0;
    }
    let n = viewers.max(1) as f64;
    let limit = scenario.config.upload_limit.map_or(f64::INFINITY, |bytes| bytes as f64 * 8.0);
    let odds: f64 = scenario.network.lines.iter().map(|line| line.0).sum();
    let uplink: f64 = scenario.network.lines.iter().map(|line| line.0 * line.1.min(limit)).sum::<f64>() / odds;
    let idle: f64 = scenario.crowd.iter().filter(|(role, _)| *role == Role::FreeRider).map(|(_, share)| share).sum();
    let film = &scenario.film;
    let bitrate = film.bitrates[film.bitrates.len() / 2];
    let reachable = (n - alone as f64) / n;
    let uploaders = (1.0 - idle) * reachable;
    let capacity = uploaders * uplink / bitrate;
    let simple = (reachable - 1.0 / n).min(capacity).max(0.0);
    match scenario.arrivals {
        Arrivals::Poisson(gap) if scenario.leave_at_end => {
            let c = film.segments as f64 * film.segment_ms as f64 / gap;
            simple.min((1.0 - (1.0 - (-c).exp()) / c) * reachable)
        }
        _ => simple,
    }
}

/// The value below which this share lies; NaN of nothing.
pub(super) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len => values[((len - 1) as f64 * share).round() as usize],
    }
}

/// `VmHWM` of Linux, in MiB.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_those_of_theory() {
        let named = |name: &str| Scenario::all().into_iter().find(|scenario| scenario.name == name).unwrap();
        assert!((bound(&named("live"), 1000, 30) - 0.969).abs() < 1e-9);
        // 1 - (1 - e^-2) / 2
        assert!((bound(&named("poisson-2"), 24, 0) - 0.567_667).abs() < 1e-4);
        let slow = Scenario {
            network: super::super::scenario::Network { lines: &[(1.0, 1e6, 16e6)], ..named("live").network },
            ..named("live")
        };
        assert!((bound(&slow, 1000, 30) - 0.97 * 0.5).abs() < 1e-9);
    }

    #[test]
    fn the_table_shows_the_latest_run_of_each_kind() {
        let run = |copies: f64, http_only: bool| {
            let figures = Figures { name: "live".to_owned(), viewers: 9, copies, http_only, ..Figures::default() };
            figures.to_json().to_string()
        };
        let lines = format!("{}\n{}\n{}\n", run(5.0, false), run(9.0, true), run(4.25, false));
        let table = markdown(&lines);
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.contains("4.25") && table.contains("9.00") && !table.contains("5.00"), "{table}");
    }

    #[test]
    fn quantiles_are_of_sorted_values() {
        let mut values = [3.0, 1.0, 2.0];
        assert_eq!((quantile(&mut values, 0.5), quantile(&mut values, 1.0)), (2.0, 3.0));
        assert!(quantile(&mut [], 0.5).is_nan());
    }
}
