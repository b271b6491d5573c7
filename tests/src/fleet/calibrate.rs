//! The simulator beside browsers: the scenarios of `bench viewers` in both.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

use super::{Figures, Scenario};

/// What a set of runs in browsers came to.
#[derive(Clone, Debug, Default)]
struct Measured {
    /// Everything the server sent for the video, over one copy of it, in each run.
    copies: Vec<f64>,
    /// Mean start of the viewers of each run, in milliseconds.
    startup: Vec<f64>,
}

/// Scenario here, viewers, and whether it is plain HLS: the key of what is compared.
type Key = (String, u64, bool);

/// Runs of `bench viewers`: lines of JSON as it writes them. What is not understood is skipped.
#[derive(Clone, Debug, Default)]
pub struct Browsers(BTreeMap<Key, Measured>);

impl Browsers {
    /// Reads the lines of a `viewers.jsonl`.
    pub fn read(text: &str) -> Self {
        let mut all: BTreeMap<Key, Measured> = BTreeMap::new();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let plain = match line["engine"].as_str() {
                Some("plain") => true,
                Some("marea") => false,
                _ => continue,
            };
            let (Some(scenario), Some(viewers)) = (line["scenario"].as_str(), line["viewers"].as_u64()) else {
                continue;
            };
            let kinds = ["segment", "init", "playlist", "list", "other"];
            let bytes: f64 = kinds.iter().filter_map(|kind| line["server"][kind].as_f64()).sum();
            let Some(copy) = line["copy"].as_f64().filter(|copy| *copy > 0.0) else { continue };
            let people = line["people"].as_array().map(Vec::as_slice).unwrap_or_default();
            let starts: Vec<f64> = people.iter().filter_map(|person| person["startup"].as_f64()).collect();
            let measured = all.entry((format!("cal-{scenario}"), viewers, plain)).or_default();
            measured.copies.push(bytes / copy);
            if !starts.is_empty() {
                measured.startup.push(starts.iter().sum::<f64>() / starts.len() as f64);
            }
        }
        Self(all)
    }

    /// Numbers of viewers that a scenario was measured with.
    pub fn sizes(&self, scenario: &Scenario) -> Vec<usize> {
        let mut sizes: Vec<usize> =
            self.0.keys().filter(|key| key.0 == scenario.name).map(|key| key.1 as usize).collect();
        sizes.dedup();
        sizes
    }

    /// Both side by side, as text.
    pub fn beside(&self, runs: &[Figures]) -> String {
        let mut out = String::from(
            "scenario      engine  N   copies: browser  simulator  differs    start ms: browser  simulator  differs\n",
        );
        for run in runs {
            let key = (run.name.clone(), run.viewers as u64, run.http_only);
            let Some(measured) = self.0.get(&key) else { continue };
            let (copies, startup) = (median(&measured.copies), median(&measured.startup));
            let differs = |here: f64, there: f64| (here / there - 1.0) * 100.0;
            let _ = writeln!(
                out,
                "{:<13} {:<6} {:>2} {copies:>17.2} {:>10.2} {:>7.0}% {startup:>20.0} {:>10.0} {:>7.0}%",
                run.name,
                if run.http_only { "http" } else { "marea" },
                run.viewers,
                run.all_copies,
                differs(run.all_copies, copies),
                run.startup_mean,
                differs(run.startup_mean, startup),
            );
        }
        out
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    super::report::quantile(&mut values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_browsers_are_read_and_others_skipped() {
        let line = r#"{"scenario":"vod","engine":"marea","viewers":4,"copy":100,"server":{"segment":120,"list":5},"people":[{"startup":500},{"startup":700},{"startup":null}]}"#;
        let text = format!("{line}\nnonsense\n{}\n", line.replace("marea", "p2p-media-loader"));
        let browsers = Browsers::read(&text);
        let measured = &browsers.0[&("cal-vod".to_owned(), 4, false)];
        assert_eq!((measured.copies.as_slice(), measured.startup.as_slice()), (&[1.25][..], &[600.0][..]));
        assert_eq!(browsers.0.len(), 1);
    }
}
