//! What a mirror's owner can spare of the line: hours of the day, and bytes a month.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use jiff::Zoned;
use serde::{Deserialize, Serialize};

use crate::atomic;

/// What was used of the month, hidden in the mirror's root.
const MONTH_FILE: &str = ".marea-month.json";

/// Hours of the day, by the clock of this machine. They may go past midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Minutes of the day.
    from: u16,
    to: u16,
}

impl Hours {
    /// Whether `now` lies in them.
    #[must_use]
    pub fn contain(self, now: &Zoned) -> bool {
        let minute = u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs());
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

impl FromStr for Hours {
    type Err = String;

    /// `22-7`, or `22:30-06:15`.
    fn from_str(text: &str) -> Result<Self, String> {
        let time = |text: &str| {
            let (hour, minute) = text.trim().split_once(':').unwrap_or((text.trim(), "0"));
            let number =
                |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
            let minutes = number(hour)?.checked_mul(60)?.checked_add(number(minute).filter(|minute| *minute < 60)?)?;
            (minutes <= 24 * 60).then_some(minutes % (24 * 60))
        };
        let hours = text.split_once('-').and_then(|(from, to)| Some(Self { from: time(from)?, to: time(to)? }));
        hours.filter(|hours| hours.from != hours.to).ok_or_else(|| "give hours such as 22-7 or 22:30-06:15".to_owned())
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02} to {:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

/// Bytes of a calendar month, by the clock of this machine. They outlive the program.
#[derive(Debug)]
pub struct Month {
    path: PathBuf,
    limit: Option<u64>,
    kept: Kept,
    /// Whether it was written down as it is.
    saved: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// Such as `2026-11`.
    month: String,
    bytes: u64,
}

impl Month {
    /// What the mirror in `root` has used so far; `limit` is the most that it may.
    ///
    /// # Errors
    /// The file cannot be read, or says something else: then nothing is known of what was used.
    pub fn open(root: &Path, limit: Option<u64>) -> io::Result<Self> {
        let path = root.join(MONTH_FILE);
        let kept = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let what = format!("{}: {error}. Delete it to begin the month anew", path.display());
                io::Error::new(io::ErrorKind::InvalidData, what)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, limit, kept, saved: true })
    }

    /// Adds `bytes` that went over the line.
    pub fn add(&mut self, bytes: u64, now: &Zoned) {
        self.turn(now);
        self.kept.bytes = self.kept.bytes.saturating_add(bytes);
        self.saved &= bytes == 0;
    }

    /// Writes down what was added since, as dropping it does. Not at each step: disks of small machines wear out.
    ///
    /// # Errors
    /// The file cannot be written; the bytes count all the same while the program runs.
    pub fn save(&mut self) -> io::Result<()> {
        if !self.saved {
            let text = serde_json::to_vec(&self.kept).map_err(io::Error::other)?;
            atomic::replace(&self.path, &text, &self.path)?;
            self.saved = true;
        }
        Ok(())
    }

    /// Bytes used in the month of `now`.
    pub fn used(&mut self, now: &Zoned) -> u64 {
        self.turn(now);
        self.kept.bytes
    }

    /// Bytes that are left of the month of `now`; `None` without a limit.
    pub fn left(&mut self, now: &Zoned) -> Option<u64> {
        self.turn(now);
        self.limit.map(|limit| limit.saturating_sub(self.kept.bytes))
    }

    fn turn(&mut self, now: &Zoned) {
        let month = now.strftime("%Y-%m").to_string();
        if self.kept.month != month {
            self.kept = Kept { month, bytes: 0 };
        }
    }
}

impl Drop for Month {
    fn drop(&mut self) {
        if let Err(error) = self.save() {
            tracing::warn!(path = %self.path.display(), %error, "the bytes of this month cannot be written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Zoned {
        text.parse().expect("a time")
    }

    #[test]
    fn hours_may_go_past_midnight() {
        let night: Hours = "22-7".parse().expect("hours");
        let day: Hours = "9:30 - 17:00".parse().expect("hours");
        let cases = [("00:00", true, false), ("06:59", true, false), ("07:00", false, false), ("09:29", false, false)];
        for (time, in_night, in_day) in
            cases.into_iter().chain([("09:30", false, true), ("21:59", false, false), ("22:00", true, false)])
        {
            let now = at(&format!("2026-11-28T{time}+01:00[+01:00]"));
            assert_eq!((night.contain(&now), day.contain(&now)), (in_night, in_day), "{time}");
        }
        assert_eq!(night.to_string(), "22:00 to 07:00");
        assert_eq!("0-24".parse::<Hours>(), Err("give hours such as 22-7 or 22:30-06:15".to_owned()));
        assert!("18-24".parse::<Hours>().expect("hours").contain(&at("2026-11-28T23:59+00:00[UTC]")));
        for wrong in ["", "22", "22-", "-7", "22-25", "7-7", "22:60-7", "a-b", "+1-7", "1-2-3"] {
            assert!(wrong.parse::<Hours>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_month_is_counted_across_restarts_and_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let (november, december) = (at("2026-11-30T23:59-05:00[-05:00]"), at("2026-12-01T00:00-05:00[-05:00]"));
        let mut month = Month::open(folder.path(), Some(1_000)).expect("nothing yet");
        assert_eq!(month.left(&november), Some(1_000));
        month.add(500, &november);
        month.save().expect("written");
        month.add(200, &november);
        drop(month);
        let mut again = Month::open(folder.path(), Some(1_000)).expect("what was written");
        assert_eq!((again.used(&november), again.left(&november)), (700, Some(300)));
        again.add(900, &november);
        assert_eq!(again.left(&november), Some(0));
        assert_eq!((again.used(&december), again.left(&december)), (0, Some(1_000)));
        assert_eq!(Month::open(folder.path(), None).expect("unlimited").left(&november), None);
    }

    #[test]
    fn what_could_not_be_written_is_tried_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut month = Month::open(folder.path(), None).expect("nothing yet");
        std::fs::remove_dir(folder.path()).expect("removed");
        month.add(1, &at("2026-11-28T12:00+00:00[UTC]"));
        assert!(month.save().is_err() && month.save().is_err());
        std::fs::create_dir(folder.path()).expect("made");
        month.save().expect("written");
        assert!(folder.path().join(MONTH_FILE).exists());
    }

    #[test]
    fn a_file_that_says_nothing_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(MONTH_FILE), "?").expect("written");
        let error = Month::open(folder.path(), None).expect_err("it is no JSON").to_string();
        assert!(error.contains(MONTH_FILE) && error.contains("Delete it"), "{error}");
    }
}
