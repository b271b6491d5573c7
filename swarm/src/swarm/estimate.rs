//! What is believed about speed: of HTTP, of a neighbour, of our own uplink, of the spread of a claim.

use crate::{
    config,
    ids::{Millis, PIECE_SIZE},
    wire::FRAME_PAYLOAD,
};

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

/// Less than this says nothing of a line's speed, in bytes.
pub(crate) const MIN_SAMPLE_BYTES: u64 = PIECE_SIZE as u64 / 4;

/// How fast HTTP is.
#[derive(Clone, Debug)]
pub(crate) struct HttpSpeed {
    /// Milliseconds to the first byte.
    first_byte: Spread,
    /// Milliseconds per piece once bytes flow, and how far that strays: a mean of times, not of rates, is pessimistic, as it
    /// should be.
    per_piece: f64,
    deviation: f64,
    /// When that was measured last.
    measured: Option<Millis>,
    /// Whether enough came then to go by: else all that is known is that it was slow.
    sure: bool,
}

impl HttpSpeed {
    pub(crate) fn new() -> Self {
        // Before anything was measured: 150 ms and 8 Mbit/s.
        Self { first_byte: Spread::new(150.0), per_piece: 65.0, deviation: 0.0, measured: None, sure: false }
    }

    pub(crate) fn first_byte(&mut self, ms: Millis) {
        self.first_byte.add(ms as f64);
    }

    /// `bytes` took `ms`. A sample weighs by what it brought, and the more the older the last one is: what held up a few
    /// bytes for seconds must not be believed for longer than it lasts.
    pub(crate) fn body(&mut self, now: Millis, bytes: u64, ms: f64) {
        if bytes < MIN_SAMPLE_BYTES {
            return;
        }
        self.sure = true;
        self.sample(now, bytes, ms);
    }

    /// `bytes` took `ms`, and the rest was not waited for. Next to nothing only says that it takes longer.
    pub(crate) fn cut(&mut self, now: Millis, bytes: u64, ms: f64) {
        self.sure = bytes >= MIN_SAMPLE_BYTES;
        self.sample(now, bytes.max(MIN_SAMPLE_BYTES), ms);
    }

    fn sample(&mut self, now: Millis, bytes: u64, ms: f64) {
        let pieces = bytes as f64 / f64::from(PIECE_SIZE);
        let pace = ms.max(1.0) / pieces;
        let Some(last) = self.measured.replace(now) else {
            (self.per_piece, self.deviation) = (pace, pace / 2.0);
            return;
        };
        let age = now.saturating_sub(last) as f64 / config::HTTP_FRESH_MS as f64;
        let weight = |samples: f64| 1.0 - (-samples - age).exp();
        let stray = (pace - self.per_piece).abs();
        self.deviation += weight(pieces / 4.0) * (stray - self.deviation);
        self.per_piece += weight(pieces / 8.0) * (pace - self.per_piece);
    }

    /// Milliseconds that `pieces` will take, pessimistically: about the 90 % quantile.
    pub(crate) fn time(&self, pieces: u32) -> f64 {
        self.first_byte.high() + f64::from(pieces) * (self.per_piece + 1.5 * self.deviation)
    }

    /// Milliseconds per piece.
    pub(crate) fn per_piece(&self) -> f64 {
        self.per_piece
    }

    /// The same if it was measured lately, and whether enough came then to go by.
    pub(crate) fn lately(&self, now: Millis) -> Option<(f64, bool)> {
        self.measured.filter(|at| now < at + config::HTTP_MEMORY_MS).map(|_| (self.per_piece, self.sure))
    }

    /// When a transfer was measured last.
    pub(crate) fn measured(&self) -> Millis {
        self.measured.unwrap_or(0)
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

/// Our own uplink: what it bears, and what may be sent now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uplink {
    /// It is a server's, there for nothing else: each neighbour's channel is the only measure of what it bears.
    whole: bool,
    /// Bytes per second that left the channels while something waited in them; 0 while that is not known.
    measured: f64,
    /// Since when something waits in the channels, and bytes that left them since.
    busy: Option<(Millis, u64)>,
    /// Ceiling in bytes per second: the configured one, less after delay.
    limit: f64,
    /// When the ceiling was halved last.
    halved: Millis,
    /// Bytes that the ceiling lets go now.
    tokens: f64,
    /// Bytes that our half of the line lets go now.
    share: f64,
    at: Millis,
}

impl Uplink {
    pub(crate) fn new(now: Millis, whole: bool) -> Self {
        Self {
            whole,
            measured: 0.0,
            busy: None,
            limit: f64::INFINITY,
            halved: 0,
            tokens: 0.0,
            share: f64::INFINITY,
            at: now,
        }
    }

    /// Bytes per second at which a queue empties.
    pub(crate) fn rate(&self) -> f64 {
        if self.measured > 0.0 { self.limit.min(self.measured) } else { self.limit }
    }

    /// Whether a frame may go.
    pub(crate) fn free(&self) -> bool {
        self.tokens > 0.0 && self.share > 0.0
    }

    /// Bytes that may lie unsent in all channels together: a sixteenth of a second's worth, since all that the viewer does
    /// waits behind them.
    pub(crate) fn unsent(&self) -> u32 {
        if self.whole {
            u32::MAX
        } else if self.measured > 0.0 {
            (self.rate() / 16.0) as u32
        } else {
            config::UNSENT_BYTES
        }
        .max(FRAME_PAYLOAD)
    }

    /// What the line bears in bytes per second, 0 if unknown.
    pub(crate) fn measured(&self) -> f64 {
        self.measured
    }

    /// Earns tokens; `most` is the configured ceiling in bytes per second.
    pub(crate) fn refill(&mut self, now: Millis, most: f64) {
        let elapsed = now.saturating_sub(self.at) as f64 / 1_000.0;
        self.at = now;
        if now > self.halved + config::BACK_OFF_MS {
            self.limit *= 1.0 + config::RECOVERY * elapsed;
        }
        self.limit = self.limit.min(most);
        // At most a quarter second's worth at once, but a piece at least.
        let burst = (self.limit / 4.0).max(f64::from(PIECE_SIZE));
        self.tokens = (self.tokens + self.limit.min(1e12) * elapsed).min(burst);
        // Half of the line is everybody else's. Over a while, not at each moment: what is new is passed on in a burst, and
        // the queue that others meet is kept short by other means.
        let half = self.measured / 2.0;
        if half > 0.0 {
            self.share = (self.share + half * elapsed).min(half * config::SHARE_SECONDS);
        }
    }

    /// A frame went into a channel; `idle` says that nothing waited in any. What was left of earlier ones is gone then,
    /// though nobody said so, and the time since says nothing of the line.
    pub(crate) fn sent(&mut self, now: Millis, bytes: u32, idle: bool) {
        self.tokens -= f64::from(bytes);
        self.share -= f64::from(bytes);
        if idle {
            self.busy = None;
        }
        self.busy.get_or_insert((now, 0));
    }

    /// Bytes left the channels; `waiting` says whether any are left in them.
    pub(crate) fn left(&mut self, now: Millis, bytes: u64, waiting: bool) {
        let Some((since, left)) = self.busy.as_mut().filter(|_| !self.whole) else { return };
        *left += bytes;
        let elapsed = now.saturating_sub(*since);
        if *left >= u64::from(PIECE_SIZE) / 2 {
            let sample = *left as f64 * 1_000.0 / elapsed.max(1) as f64;
            let nearer = 0.9 * self.measured + 0.1 * sample;
            if elapsed >= config::UPLINK_SAMPLE_MS {
                // A connection that begins is slower than the line: what was faster is nearer to the truth.
                self.measured = sample.max(nearer);
                self.busy = waiting.then_some((now, 0));
                return;
            }
            if !waiting && self.measured > 0.0 {
                // Too short to go by, but what is gone in no time refutes, time after time, a figure taken on a busy machine.
                self.measured = self.measured.max(nearer);
            }
        }
        if !waiting {
            self.busy = None;
        }
    }

    /// The line is full while we send `sent` bytes per second.
    pub(crate) fn back_off(&mut self, now: Millis, sent: f64) {
        // A line that we hardly use is full of something else; and one halving takes a moment to show.
        if !self.whole && sent > config::UPLOAD_FLOOR && now > self.halved + config::BACK_OFF_MS {
            self.limit = (self.rate().min(sent) / 2.0).max(config::UPLOAD_FLOOR);
            self.halved = now;
        }
    }

    /// Milliseconds until it makes sense to try to send more.
    pub(crate) fn wait(&self) -> Millis {
        if self.free() {
            return config::BLOCKED_MS; // the channels are full, and report when they are not
        }
        let wait = |missing: f64, rate: f64| if missing < 0.0 { -missing * 1_000.0 / rate.max(1.0) } else { 0.0 };
        wait(self.tokens, self.limit).max(wait(self.share, self.measured / 2.0)) as Millis + config::PUMP_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_narrow_line_is_used() {
        let mut uplink = Uplink::new(0, false);
        let mut sent = 0;
        // A line of 100 kB/s that is asked for more than it has, for 100 s.
        let mut line = 0.0f64;
        for now in (0..100_000).step_by(10) {
            uplink.refill(now, 1_250_000.0);
            let left = line.min(1_000.0);
            line -= left;
            uplink.left(now, left as u64, line > 0.0);
            while uplink.free() && line < f64::from(uplink.unsent()) {
                uplink.sent(now, FRAME_PAYLOAD, line <= 0.0);
                line += f64::from(FRAME_PAYLOAD);
                sent += FRAME_PAYLOAD;
            }
        }
        assert!((90_000.0..110_000.0).contains(&uplink.measured()), "{}", uplink.measured());
        assert!((4_800_000..5_700_000).contains(&sent), "{sent} bytes in 100 s");
    }

    #[test]
    fn rests_between_small_sends_are_not_taken_for_a_slow_line() {
        let mut uplink = Uplink::new(0, false);
        for second in 0..60 {
            let now = second * 1_000;
            uplink.refill(now, 1_250_000.0);
            // Two frames; the first is reported as gone, the short second one never.
            uplink.sent(now, FRAME_PAYLOAD, true);
            uplink.sent(now, FRAME_PAYLOAD / 2, false);
            uplink.left(now + 5, u64::from(FRAME_PAYLOAD), true);
        }
        assert_eq!(uplink.measured(), 0.0);
        assert!(uplink.free());
    }

    #[test]
    fn a_figure_taken_on_a_busy_machine_is_outgrown() {
        let mut uplink = Uplink::new(0, false);
        uplink.refill(0, 1_250_000.0);
        uplink.sent(0, PIECE_SIZE, true);
        uplink.left(1_000, u64::from(PIECE_SIZE), false);
        assert!(uplink.measured() < 70_000.0);
        for second in 2..12 {
            let now = second * 1_000;
            uplink.sent(now, PIECE_SIZE, true);
            uplink.left(now + 10, u64::from(PIECE_SIZE), false);
        }
        assert!(uplink.measured() > 2_000_000.0, "{}", uplink.measured());
    }

    #[test]
    fn delay_halves_and_time_heals() {
        let mut uplink = Uplink::new(0, false);
        uplink.refill(0, 1_000_000.0);
        uplink.back_off(5_000, 800_000.0);
        assert_eq!(uplink.rate(), 400_000.0);
        uplink.back_off(5_100, 400_000.0);
        assert_eq!(uplink.rate(), 400_000.0, "one halving at a time");
        for second in 6..60 {
            uplink.refill(second * 1_000, 1_000_000.0);
        }
        assert_eq!(uplink.rate(), 1_000_000.0);
        uplink.back_off(90_000, 1_000.0);
        assert_eq!(uplink.rate(), 1_000_000.0, "not our doing");
    }
}
