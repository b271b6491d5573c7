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
    /// Bytes per second that leave the channels while something waits in them.
    measured: f64,
    /// Milliseconds over which that was seen.
    seen: f64,
    stretch: Stretch,
    /// Ceiling in bytes per second: the configured one, less after delay.
    limit: f64,
    /// When the ceiling was halved last.
    halved: Millis,
    /// Bytes that the ceiling lets go now.
    tokens: f64,
    /// Bytes that our half of the line lets go now; negative after a piece that was finished all the same.
    share: f64,
    at: Millis,
}

/// A time without a break in which something waits in the channels, whatever it is that waits: the line is at work.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    /// Tells it from others.
    number: u32,
    /// When it began, or the last sample of it was taken; and when bytes left last.
    since: Millis,
    until: Millis,
    /// Bytes that left since.
    left: u64,
    /// Bytes in the channels, or just gone from them, that only filled the windows of connections: those take the first of
    /// them whatever the line.
    filling: u64,
    /// When nothing waited any more.
    emptied: Option<Millis>,
}

impl Uplink {
    pub(crate) fn new(now: Millis, whole: bool) -> Self {
        Self {
            whole,
            measured: 0.0,
            seen: 0.0,
            stretch: Stretch::default(),
            limit: f64::INFINITY,
            halved: 0,
            tokens: 0.0,
            share: f64::INFINITY,
            at: now,
        }
    }

    /// Bytes per second at which a queue empties.
    pub(crate) fn rate(&self) -> f64 {
        if self.measured() > 0.0 { self.limit.min(self.measured()) } else { self.limit }
    }

    /// Whether a frame may go; `begun` says that it belongs to a piece of which some went. That is finished, and made up for
    /// later: half a piece is of use to nobody, and nothing is learnt of a line from single frames.
    pub(crate) fn free(&self, begun: bool) -> bool {
        self.tokens > 0.0 && (begun || self.share > 0.0)
    }

    /// Bytes that may lie unsent in all channels together: a sixteenth of a second's worth, since all that the viewer does
    /// waits behind them.
    pub(crate) fn unsent(&self) -> u32 {
        if self.whole {
            u32::MAX
        } else if self.measured() > 0.0 {
            (self.rate() / 16.0) as u32
        } else {
            config::UNSENT_BYTES
        }
        .max(FRAME_PAYLOAD)
    }

    /// What the line bears in bytes per second, 0 if unknown.
    pub(crate) fn measured(&self) -> f64 {
        if self.seen >= config::UPLINK_KNOWN_MS { self.measured.max(config::UPLOAD_FLOOR) } else { 0.0 }
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
        let half = self.measured() / 2.0;
        if half > 0.0 {
            self.share = (self.share + half * elapsed).min(half * config::SHARE_SECONDS);
        }
    }

    /// A frame went into a channel; `idle` says that nothing waited in any. What was left of earlier ones is gone then,
    /// though nobody may have said so, and the time since says nothing of the line. `filled` is the stretch in which this
    /// channel got its first frame.
    pub(crate) fn sent(&mut self, now: Millis, bytes: u32, idle: bool, filled: &mut u32) {
        self.tokens -= f64::from(bytes);
        self.share -= f64::from(bytes);
        // On a slow line frames go one by one: the next the moment that the last one is gone.
        if idle && self.stretch.emptied != Some(now) {
            self.sample();
            let number = self.stretch.number.wrapping_add(1).max(1);
            self.stretch = Stretch { number, since: now, until: now, ..Stretch::default() };
        }
        self.stretch.emptied = None;
        if std::mem::replace(filled, self.stretch.number) != self.stretch.number {
            self.stretch.filling += u64::from(bytes);
        }
    }

    /// Bytes left the channels; `waiting` says whether any are left in them.
    pub(crate) fn left(&mut self, now: Millis, bytes: u64, waiting: bool) {
        let stretch = &mut self.stretch;
        let filled = bytes.min(stretch.filling);
        stretch.filling -= filled;
        stretch.left += bytes - filled;
        if bytes > 0 {
            stretch.until = now;
        }
        if !waiting {
            stretch.emptied.get_or_insert(now);
        }
        if stretch.until >= stretch.since + config::UPLINK_SAMPLE_MS {
            self.sample();
        }
    }

    /// Believes what the stretch shows since the last sample, by its length.
    fn sample(&mut self) {
        let Stretch { since, until, left, .. } = self.stretch;
        (self.stretch.since, self.stretch.left) = (until, 0);
        if left == 0 || self.whole {
            return;
        }
        let ms = (until.saturating_sub(since) as f64).max(1.0);
        let rate = left as f64 * 1_000.0 / ms;
        // A connection that begins, or ends at a slow line, is slower than ours: what was faster is nearer to the truth. But
        // windows may take more than the first frame at once, so little is believed of what is far above.
        let (rate, memory) = if rate < self.measured {
            (rate, config::UPLINK_MEMORY_MS * config::UPLINK_FASTER)
        } else if self.seen >= config::UPLINK_KNOWN_MS {
            (rate.min(3.0 * self.measured()), config::UPLINK_MEMORY_MS)
        } else {
            (rate, config::UPLINK_MEMORY_MS)
        };
        self.measured += (rate - self.measured) * ms / (memory.min(self.seen) + ms);
        self.seen += ms;
    }

    /// The line is full while we send `sent` bytes per second.
    pub(crate) fn back_off(&mut self, now: Millis, sent: f64) {
        // A line that we hardly use is full of something else; and one halving takes a moment to show.
        if !self.whole && sent > config::UPLOAD_FLOOR && now > self.halved + config::BACK_OFF_MS {
            self.limit = (self.rate().min(sent) / 2.0).max(config::UPLOAD_FLOOR);
            self.halved = now;
        }
    }

    /// Milliseconds until it makes sense to try to send more; `begun` as in [`Uplink::free`].
    pub(crate) fn wait(&self, begun: bool) -> Millis {
        if self.free(begun) {
            return config::BLOCKED_MS; // the channels are full, and report when they are not
        }
        let wait = |missing: f64, rate: f64| if missing < 0.0 { -missing * 1_000.0 / rate.max(1.0) } else { 0.0 };
        let share = if begun { 0.0 } else { wait(self.share, self.measured() / 2.0) };
        wait(self.tokens, self.limit).max(share) as Millis + config::PUMP_MS
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A line that some neighbours want all of, each by a connection whose window takes a frame from its channel at once.
    struct Line {
        uplink: Uplink,
        now: Millis,
        /// Frames on the line, by neighbour, and bytes of the first of them that are through.
        wire: VecDeque<usize>,
        through: f64,
        /// Frames that wait in each channel.
        waiting: Vec<u32>,
        filled: Vec<u32>,
        /// Whose turn it is, in frames.
        turn: usize,
    }

    impl Line {
        fn new(neighbours: usize) -> Self {
            let (waiting, filled) = (vec![0; neighbours], vec![0; neighbours]);
            let (uplink, wire) = (Uplink::new(0, false), VecDeque::new());
            Self { uplink, now: 0, wire, through: 0.0, waiting, filled, turn: 0 }
        }

        fn report(&mut self) {
            let waiting = self.waiting.iter().any(|&frames| frames > 0);
            self.uplink.left(self.now, u64::from(FRAME_PAYLOAD), waiting);
        }

        /// Bytes that went out in `seconds` on a line of `rate` bytes per millisecond.
        fn run(&mut self, seconds: u64, rate: f64) -> u32 {
            let mut sent = 0;
            for _ in 0..seconds * 1_000 {
                self.now += 1;
                self.uplink.refill(self.now, 1_250_000.0);
                self.through += if self.wire.is_empty() { -self.through } else { rate };
                while self.through >= f64::from(FRAME_PAYLOAD)
                    && let Some(neighbour) = self.wire.pop_front()
                {
                    self.through -= f64::from(FRAME_PAYLOAD);
                    if self.waiting[neighbour] > 0 {
                        self.waiting[neighbour] -= 1;
                        self.wire.push_back(neighbour);
                        self.report();
                    }
                    self.pump(&mut sent);
                }
                self.pump(&mut sent);
            }
            sent
        }

        fn pump(&mut self, sent: &mut u32) {
            loop {
                let unsent = self.waiting.iter().sum::<u32>() * FRAME_PAYLOAD;
                if unsent >= self.uplink.unsent() || !self.uplink.free(!self.turn.is_multiple_of(4)) {
                    return;
                }
                let neighbour = self.turn / 4 % self.waiting.len();
                self.turn += 1;
                self.uplink.sent(self.now, FRAME_PAYLOAD, unsent == 0, &mut self.filled[neighbour]);
                *sent += FRAME_PAYLOAD;
                if self.wire.contains(&neighbour) {
                    self.waiting[neighbour] += 1;
                } else {
                    self.wire.push_back(neighbour);
                    self.report();
                }
            }
        }
    }

    #[test]
    fn half_of_a_narrow_line_is_used_however_many_want_it() {
        for neighbours in [1, 2, 5, 10, 15] {
            let mut line = Line::new(neighbours);
            line.run(20, 100.0);
            let sent = line.run(100, 100.0);
            let measured = line.uplink.measured();
            assert!((85_000.0..115_000.0).contains(&measured), "{neighbours} neighbours: {measured}");
            assert!((4_250_000..5_750_000).contains(&sent), "{neighbours} neighbours: {sent} bytes in 100 s");
        }
    }

    #[test]
    fn a_line_that_becomes_faster_or_slower_is_measured_anew() {
        for neighbours in [1, 5, 10] {
            let mut line = Line::new(neighbours);
            line.run(30, 30.0);
            assert!(line.uplink.measured() < 40_000.0, "{neighbours} neighbours: {}", line.uplink.measured());
            line.run(40, 1_500.0);
            let measured = line.uplink.measured();
            assert!((1_200_000.0..1_800_000.0).contains(&measured), "{neighbours} neighbours: {measured}");
            let sent = line.run(30, 1_500.0);
            assert!((18_000_000..27_000_000).contains(&sent), "{neighbours} neighbours: {sent} bytes in 30 s");
            line.run(20, 60.0);
            let measured = line.uplink.measured();
            assert!((45_000.0..80_000.0).contains(&measured), "{neighbours} neighbours: {measured}");
        }
    }

    #[test]
    fn a_line_wider_than_the_ceiling_does_not_hold_it_down() {
        let mut line = Line::new(4);
        line.run(10, 20_000.0);
        let sent = line.run(20, 20_000.0);
        assert!((24_000_000..26_000_000).contains(&sent), "{sent} bytes in 20 s");
    }

    #[test]
    fn a_slow_neighbour_is_not_taken_for_a_slow_line() {
        let mut uplink = Uplink::new(0, false);
        // Now to one at 800 bytes per millisecond, now to another at 200, for half a second each.
        let mut filled = [0, 0];
        for turn in 0..20 {
            let (which, ms) = if turn % 2 == 0 { (0, 20) } else { (1, 80) };
            let begin = turn * 1_000;
            uplink.sent(begin, FRAME_PAYLOAD, true, &mut filled[which]);
            for frame in 1..=500 / ms {
                uplink.sent(begin + (frame - 1) * ms, FRAME_PAYLOAD, false, &mut filled[which]);
                uplink.left(begin + frame * ms, u64::from(FRAME_PAYLOAD), true);
            }
            uplink.left(begin + 500, u64::from(FRAME_PAYLOAD), false);
        }
        assert!(uplink.measured() > 600_000.0, "{}", uplink.measured());
    }

    #[test]
    fn rests_between_small_sends_are_not_taken_for_a_slow_line() {
        let mut uplink = Uplink::new(0, false);
        let mut filled = 0;
        for second in 0..60 {
            let now = second * 1_000;
            uplink.refill(now, 1_250_000.0);
            // Three frames; two are reported as gone, the short last one never.
            uplink.sent(now, FRAME_PAYLOAD, true, &mut filled);
            uplink.sent(now, FRAME_PAYLOAD, false, &mut filled);
            uplink.sent(now, FRAME_PAYLOAD / 2, false, &mut filled);
            uplink.left(now + 20, u64::from(2 * FRAME_PAYLOAD), true);
        }
        assert!((700_000.0..900_000.0).contains(&uplink.measured()), "{}", uplink.measured());
        assert!(uplink.free(false));
    }

    #[test]
    fn a_figure_taken_on_a_busy_machine_is_outgrown() {
        let mut uplink = Uplink::new(0, false);
        uplink.refill(0, 1_250_000.0);
        let mut filled = 0;
        let mut piece = |now: Millis, ms: Millis| {
            for frame in 0..4 {
                uplink.sent(now, FRAME_PAYLOAD, frame == 0, &mut filled);
            }
            uplink.left(now + ms, u64::from(PIECE_SIZE), false);
            uplink.measured()
        };
        assert!(piece(0, 1_000) < 70_000.0);
        let after: Vec<f64> = (2..32).map(|second| piece(second * 1_000, 20)).collect();
        assert!(after[29] > 1_500_000.0, "{after:?}");
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
