//! What is believed about speed: of HTTP, of a neighbour, of the spread of a claim.

use crate::ids::{Millis, PIECE_SIZE};

/// A mean that also knows how far samples stray from it, as RFC 6298 does for round trips.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    mean: f64,
    deviation: f64,
    samples: u32,
}

impl Spread {
    pub(crate) fn new(start: f64) -> Self {
        Self { mean: start, deviation: 0.0, samples: 0 }
    }

    pub(crate) fn add(&mut self, sample: f64) {
        if self.samples == 0 {
            (self.mean, self.deviation) = (sample, sample / 2.0);
        } else {
            self.deviation = 0.75 * self.deviation + 0.25 * (self.mean - sample).abs();
            self.mean = 0.875 * self.mean + 0.125 * sample;
        }
        self.samples += 1;
    }

    pub(crate) fn mean(&self) -> f64 {
        self.mean
    }

    /// About the 90 % quantile.
    pub(crate) fn high(&self) -> f64 {
        self.mean + 1.5 * self.deviation
    }

    pub(crate) fn known(&self) -> bool {
        self.samples > 0
    }
}

/// How fast HTTP is.
#[derive(Clone, Debug)]
pub(crate) struct HttpSpeed {
    /// Milliseconds to the first byte.
    first_byte: Spread,
    /// Milliseconds per piece once bytes flow: a mean of times, not of rates, is pessimistic, as it should be.
    per_piece: Spread,
}

impl HttpSpeed {
    pub(crate) fn new() -> Self {
        // Before anything was measured: 150 ms and 8 Mbit/s.
        Self { first_byte: Spread::new(150.0), per_piece: Spread::new(65.0) }
    }

    pub(crate) fn first_byte(&mut self, ms: Millis) {
        self.first_byte.add(ms as f64);
    }

    pub(crate) fn body(&mut self, bytes: u64, ms: Millis) {
        if bytes >= u64::from(PIECE_SIZE) / 4 {
            self.per_piece.add(ms.max(1) as f64 * f64::from(PIECE_SIZE) / bytes as f64);
        }
    }

    /// Milliseconds that `pieces` will take, pessimistically.
    pub(crate) fn time(&self, pieces: u32) -> f64 {
        self.first_byte.high() + f64::from(pieces) * self.per_piece.high()
    }

    /// Milliseconds per piece.
    pub(crate) fn per_piece(&self) -> f64 {
        self.per_piece.mean()
    }
}

/// Bytes per second over the last seconds, for people and for windows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    value: f64,
    at: Millis,
}

impl Rate {
    /// Time constant in milliseconds.
    const TAU: f64 = 2_000.0;

    pub(crate) fn add(&mut self, now: Millis, bytes: u64) {
        self.value = self.get(now) + bytes as f64 * 1_000.0 / Self::TAU;
        self.at = now;
    }

    pub(crate) fn get(&self, now: Millis) -> f64 {
        self.value * (-(now.saturating_sub(self.at) as f64) / Self::TAU).exp()
    }
}
