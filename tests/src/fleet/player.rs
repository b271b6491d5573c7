//! The player, after hls.js 1.x with its defaults: one segment at a time, 30 s of buffer, live three target durations
//! behind the edge.

use marea_swarm::{Millis, swarm::Request};

/// `maxBufferLength` of hls.js, in milliseconds.
pub const BUFFER_MS: f64 = 30_000.0;
/// `liveSyncDurationCount` of hls.js.
pub const SYNC_SEGMENTS: usize = 3;

/// A load under way.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Its name towards the core.
    pub request: Request,
    /// Number of the segment.
    pub index: usize,
    /// Its rendition.
    pub rendition: usize,
}

/// One viewer's player. Times are virtual milliseconds; media times are those of the film.
#[derive(Clone, Debug)]
pub struct Player {
    /// Rendition of the segments to come.
    pub rendition: usize,
    /// Segment to load next.
    pub next: usize,
    /// What is being loaded.
    pub load: Option<Load>,
    /// Playhead in milliseconds of media.
    pub position: f64,
    /// Where the buffer ends.
    pub buffered_end: f64,
    /// Until when `position` is reckoned.
    at: Millis,
    /// When it came.
    pub came: Millis,
    /// First picture.
    pub started: Option<Millis>,
    /// Stalls after the start that were no seek's, and their time.
    pub stalls: u32,
    /// Milliseconds stalled in all.
    pub stalled_ms: f64,
    stalled: bool,
    /// A seek's own wait is no stall.
    seeking: bool,
    /// Where the film ends, if it does.
    pub end: f64,
    /// Loads so far.
    pub loads: u32,
    /// Media that was jumped over because it had left the window, in milliseconds.
    pub skipped_ms: f64,
    /// Segments that were played or buffered.
    pub segments: u32,
}

impl Player {
    /// A player that has just come and knows no playlist.
    pub fn new(now: Millis, rendition: usize, end: f64) -> Self {
        Self {
            rendition,
            next: 0,
            load: None,
            position: 0.0,
            buffered_end: 0.0,
            at: now,
            came: now,
            started: None,
            stalls: 0,
            stalled_ms: 0.0,
            stalled: false,
            seeking: false,
            end,
            loads: 0,
            skipped_ms: 0.0,
            segments: 0,
        }
    }

    /// Moves the playhead to `now`.
    pub fn advance(&mut self, now: Millis) {
        let elapsed = now.saturating_sub(self.at) as f64;
        if elapsed <= 0.0 {
            return;
        }
        let from = self.started.map_or(now, |started| started.max(self.at));
        self.at = now;
        let elapsed = elapsed.min(now.saturating_sub(from) as f64);
        if elapsed <= 0.0 || self.position >= self.end {
            return;
        }
        let moved = elapsed.min((self.buffered_end - self.position).max(0.0));
        self.position += moved;
        if moved < elapsed && self.position < self.end && !self.seeking {
            self.stalled_ms += elapsed - moved;
            if !self.stalled {
                self.stalls += 1;
                self.stalled = true;
            }
        }
    }

    /// A segment of `duration` milliseconds is in the buffer; the first picture comes `picture` later.
    pub fn append(&mut self, now: Millis, duration: f64, picture: Millis) {
        self.advance(now);
        self.buffered_end += duration;
        self.next += 1;
        self.segments += 1;
        self.load = None;
        self.stalled = false;
        self.seeking = false;
        self.started.get_or_insert(now + picture);
    }

    /// Jumps to the start of a segment with an empty buffer.
    pub fn jump(&mut self, now: Millis, index: usize, segment_ms: f64, seek: bool) {
        self.advance(now);
        self.next = index;
        self.load = None;
        self.position = index as f64 * segment_ms;
        self.buffered_end = self.position;
        self.seeking |= seek;
    }

    /// Media ahead of the playhead, in milliseconds.
    pub fn buffered(&self) -> f64 {
        self.buffered_end - self.position
    }

    /// The film is over.
    pub fn ended(&self) -> bool {
        self.position >= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_the_time_without_media_after_the_start() {
        let mut player = Player::new(1_000, 0, f64::INFINITY);
        player.advance(3_000);
        player.append(3_000, 4_000.0, 100);
        player.advance(5_100);
        assert_eq!((player.position, player.stalls), (2_000.0, 0));
        player.advance(8_100);
        assert_eq!((player.position, player.stalls, player.stalled_ms), (4_000.0, 1, 1_000.0));
        player.append(8_100, 4_000.0, 100);
        player.advance(9_100);
        assert_eq!((player.position, player.stalls, player.stalled_ms), (5_000.0, 1, 1_000.0));
    }

    #[test]
    fn waiting_after_a_seek_is_no_stall() {
        let mut player = Player::new(0, 0, 60_000.0);
        player.append(0, 4_000.0, 0);
        player.jump(1_000, 5, 4_000.0, true);
        player.advance(3_000);
        assert_eq!((player.position, player.stalls), (20_000.0, 0));
        player.append(3_000, 4_000.0, 0);
        player.advance(4_000);
        assert_eq!(player.position, 21_000.0);
    }
}
