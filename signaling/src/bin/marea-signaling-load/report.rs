//! What was counted, and what is made of it.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// Counts of a measurement.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Clients announce.
    pub(crate) go: bool,
    /// Open connections.
    pub(crate) open: usize,
    /// Announces or joins sent.
    pub(crate) announces: u64,
    pub(crate) offers: u64,
    pub(crate) answers: u64,
    /// Messages received.
    pub(crate) received: u64,
    /// Failure replies and errors.
    pub(crate) errors: u64,
    /// Connections that ended though nobody ended them.
    pub(crate) closed: u64,
    /// From an offer's leaving to its arrival at the other client.
    pub(crate) relayed: Vec<Duration>,
    /// From an offer's leaving to the arrival of its answer.
    pub(crate) answered: Vec<Duration>,
    /// When clients came back to another node.
    pub(crate) returned: Vec<Instant>,
    /// Reports that a neighbour has left.
    pub(crate) gone: u64,
}

/// A measurement.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    seconds: f64,
    open: usize,
    announces: u64,
    offers: u64,
    answers: u64,
    received: u64,
    errors: u64,
    closed: u64,
    /// In milliseconds.
    relayed: Option<Quantiles>,
    /// In milliseconds.
    answered: Option<Quantiles>,
    /// The server's CPU time, in seconds.
    cpu: Option<f64>,
    /// The same for each announce and what comes of it, in microseconds.
    cpu_per_announce: Option<f64>,
    /// The server's memory for each connection, in KiB: before anything was said, and at the end.
    idle: Option<f64>,
    active: Option<f64>,
    /// Clients that came back to another node.
    returned: usize,
    /// Of these in the busiest second, by how many in the mean of the seconds in which any came.
    peak: Option<f64>,
    gone: u64,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Tally {
    pub(crate) fn report(self, seconds: f64, cpu: Option<f64>, idle: Option<f64>, active: Option<f64>) -> Report {
        let announces = self.announces;
        Report {
            seconds,
            open: self.open,
            announces,
            offers: self.offers,
            answers: self.answers,
            received: self.received,
            errors: self.errors,
            closed: self.closed,
            relayed: quantiles(self.relayed),
            answered: quantiles(self.answered),
            cpu,
            cpu_per_announce: cpu.filter(|_| announces > 0).map(|cpu| cpu * 1e6 / announces as f64),
            idle,
            active,
            returned: self.returned.len(),
            peak: peak(&self.returned),
            gone: self.gone,
        }
    }
}

fn quantiles(mut times: Vec<Duration>) -> Option<Quantiles> {
    times.sort_unstable();
    let at = |part: f64| {
        // Truncation is meant: an index.
        let index = (times.len() as f64 * part) as usize;
        times.get(index.min(times.len().checked_sub(1)?)).map(|time| time.as_secs_f64() * 1000.0)
    };
    Some(Quantiles { p50: at(0.5)?, p99: at(0.99)?, max: at(1.0)? })
}

fn peak(times: &[Instant]) -> Option<f64> {
    let (first, last) = (times.iter().min()?, times.iter().max()?);
    let mut seconds = vec![0u32; last.duration_since(*first).as_secs() as usize + 1];
    for time in times {
        if let Some(count) = seconds.get_mut(time.duration_since(*first).as_secs() as usize) {
            *count += 1;
        }
    }
    let busy = seconds.iter().filter(|count| **count > 0).count();
    let mean = times.len() as f64 / busy as f64;
    Some(f64::from(seconds.into_iter().max()?) / mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let times = (0..100).rev().map(Duration::from_millis).collect();
        let Quantiles { p50, p99, max } = quantiles(times).unwrap();
        assert_eq!((p50, p99, max), (50.0, 99.0, 99.0));
        assert!(quantiles(Vec::new()).is_none());
    }

    #[test]
    fn the_peak_is_the_busiest_second_by_the_mean() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(peak(&[at(0), at(100), at(1100), at(9100)]), Some(1.5));
        assert_eq!(peak(&[]), None);
    }
}
