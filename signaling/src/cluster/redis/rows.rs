//! When which row is written.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::row_key;
use crate::{
    cluster::{Elsewhere, NodeId, Numbers, SwarmId},
    defaults,
};

/// This node's rows.
#[derive(Debug)]
pub(super) struct Rows {
    key: [u8; 32],
    rows: HashMap<SwarmId, Row>,
    due: BTreeSet<(Instant, SwarmId)>,
}

#[derive(Debug)]
struct Row {
    numbers: Numbers,
    due: Instant,
    written: Option<(Instant, Numbers)>,
    /// What the others were told last, and who.
    told: (Numbers, BTreeSet<NodeId>),
}

/// A row to be written.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) swarm: SwarmId,
    pub(super) key: String,
    pub(super) numbers: Numbers,
}

impl Rows {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        let key = blake3::derive_key("marea signaling row 1", secret);
        Self { key, rows: HashMap::new(), due: BTreeSet::new() }
    }

    /// A swarm has so many members here now.
    pub(super) fn change(&mut self, now: Instant, swarm: SwarmId, numbers: Numbers) {
        let Some(row) = self.rows.get_mut(&swarm) else {
            if numbers != (0, 0) {
                let row = Row { numbers, due: now, written: None, told: ((0, 0), BTreeSet::new()) };
                self.rows.insert(swarm, row);
                self.due.insert((now, swarm));
            }
            return;
        };
        row.numbers = numbers;
        let due = match row.written {
            Some((_, before)) if before == numbers => return,
            Some((_, before)) if numbers == (0, 0) || before == (0, 0) => now,
            Some((at, before)) if differs(before, numbers) => now.max(at + defaults::ROW_PACE),
            Some(_) => return,
            None => now,
        };
        if due < row.due {
            self.due.remove(&(row.due, swarm));
            row.due = due;
            self.due.insert((due, swarm));
        }
    }

    /// The next row whose time has come; it is due again in half a minute.
    pub(super) fn due(&mut self, now: Instant) -> Option<Write> {
        let (_, swarm) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.due.pop_first();
        let row = self.rows.get_mut(&swarm)?;
        let (numbers, key) = (row.numbers, row_key(&self.key, &swarm));
        if numbers == (0, 0) {
            self.rows.remove(&swarm);
        } else {
            row.written = Some((now, numbers));
            row.due = now + defaults::ROW_REFRESH;
            self.due.insert((row.due, swarm));
        }
        Some(Write { swarm, key, numbers })
    }

    /// When [`Self::due`] has the next one.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Redis has come back, perhaps empty: all rows are written within `time`.
    pub(super) fn return_all(&mut self, now: Instant, time: Duration) {
        self.due.clear();
        let step = time / u32::try_from(self.rows.len().max(1)).unwrap_or(u32::MAX);
        let mut at = now;
        for (swarm, row) in &mut self.rows {
            row.due = at;
            row.told.1.clear();
            self.due.insert((at, *swarm));
            at += step;
        }
    }

    /// What the nodes with members of a swarm have to be told, if they do not know it.
    pub(super) fn told(&mut self, swarm: SwarmId, elsewhere: &Elsewhere) -> Option<Numbers> {
        let row = self.rows.get_mut(&swarm)?;
        let told = (row.written?.1, elsewhere.keys().copied().collect());
        if row.told == told {
            return None;
        }
        row.told = told;
        Some(row.told.0)
    }

    /// Keys of all rows.
    pub(super) fn keys(&self) -> Vec<String> {
        self.rows.keys().map(|swarm| row_key(&self.key, swarm)).collect()
    }
}

/// Whether it is worth writing before its time: in small swarms each one counts.
fn differs(a: Numbers, b: Numbers) -> bool {
    let one = |a: u32, b: u32| a != b && (a.min(b) < 16 || a.abs_diff(b) > a / 10);
    one(a.0, b.0) || one(a.1, b.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::AnnounceId;

    const A: SwarmId = SwarmId::Video(AnnounceId([1; 32]));

    #[test]
    fn the_first_and_the_last_are_written_at_once_and_others_at_a_pace() {
        let mut rows = Rows::new(&[1; 32]);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        rows.change(at(0), A, (1, 0));
        assert_eq!(rows.due(at(0)).unwrap().numbers, (1, 0));
        rows.change(at(10), A, (2, 0));
        rows.change(at(20), A, (3, 0));
        assert!(rows.due(at(900)).is_none());
        assert_eq!(rows.next(), Some(at(1000)));
        assert_eq!(rows.due(at(1000)).unwrap().numbers, (3, 0));
        rows.change(at(1010), A, (0, 0));
        assert_eq!(rows.due(at(1010)).unwrap().numbers, (0, 0));
        assert_eq!(rows.next(), None);
    }

    #[test]
    fn rows_are_refreshed_small_changes_wait_for_it_and_a_return_is_paced() {
        let mut rows = Rows::new(&[1; 32]);
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        rows.change(at(0), A, (1000, 0));
        assert!(rows.due(at(0)).is_some());
        rows.change(at(5), A, (1050, 0));
        assert!(rows.due(at(29)).is_none());
        assert_eq!(rows.due(at(30)).unwrap().numbers, (1050, 0));
        for number in 0..9 {
            rows.change(at(31), SwarmId::Video(AnnounceId([2 + number; 32])), (1, 0));
        }
        while rows.due(at(31)).is_some() {}
        rows.return_all(at(40), Duration::from_secs(10));
        let written = |rows: &mut Rows, s| std::iter::from_fn(|| rows.due(at(s))).count();
        assert_eq!((written(&mut rows, 40), written(&mut rows, 44), written(&mut rows, 49)), (1, 4, 5));
    }

    #[test]
    fn others_are_told_once() {
        let mut rows = Rows::new(&[1; 32]);
        let now = Instant::now();
        rows.change(now, A, (1, 0));
        rows.due(now);
        let others: Elsewhere = [(NodeId(1), (1, 0))].into();
        assert_eq!(rows.told(A, &others), Some((1, 0)));
        assert_eq!(rows.told(A, &others), None);
        let more: Elsewhere = [(NodeId(1), (5, 0)), (NodeId(2), (1, 0))].into();
        assert_eq!(rows.told(A, &more), Some((1, 0)));
    }
}
