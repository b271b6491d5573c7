//! Token buckets.

use crate::ids::Millis;

/// Holds up to `burst` tokens and regains `rate` a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    at: Millis,
    rate: f64,
    burst: f64,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(now: Millis, rate: f64, burst: f64) -> Self {
        Self { tokens: burst, at: now, rate, burst }
    }

    /// Tokens that are there now.
    pub(crate) fn available(&self, now: Millis) -> f64 {
        let elapsed = now.saturating_sub(self.at) as f64 / 1000.0;
        (self.tokens + elapsed * self.rate).min(self.burst)
    }

    /// Takes `count` tokens if they are there.
    pub(crate) fn take(&mut self, now: Millis, count: f64) -> bool {
        self.tokens = self.available(now);
        self.at = self.at.max(now);
        let enough = self.tokens >= count;
        if enough {
            self.tokens -= count;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(1000, 2.0, 3.0);
        assert_eq!((0..5).filter(|_| bucket.take(1000, 1.0)).count(), 3);
        assert!(!bucket.take(1400, 1.0));
        assert!(bucket.take(1500, 1.0));
        assert!(!bucket.take(1500, 1.0));
        assert_eq!((0..9).filter(|_| bucket.take(1_000_000, 1.0)).count(), 3);
        // A clock that stands still or goes back gives nothing.
        assert!(!bucket.take(500, 1.0));
    }
}
