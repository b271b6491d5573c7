//! Threads that hash files: those that somebody waits for first.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::sync::watch;

use crate::{config::hash_threads, metrics::Metrics};

/// Files to be hashed.
pub(crate) struct Hasher {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Counts files that are done, for those who wait.
    done: watch::Sender<u64>,
    metrics: Arc<Metrics>,
}

/// Who waits for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Nobody yet.
    Background,
    /// Somebody asked for a playlist that names it.
    Asked,
    /// A live playlist cannot list it before.
    Live,
}

/// All urgencies, the most urgent first.
const ORDER: [Urgency; 3] = [Urgency::Live, Urgency::Asked, Urgency::Background];

#[derive(Default)]
struct Queue {
    /// By urgency.
    files: [VecDeque<String>; 3],
    /// In one of them, or being hashed.
    known: HashSet<String>,
    stopped: bool,
}

impl Hasher {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { queue: Mutex::default(), wake: Condvar::new(), done: watch::channel(0).0, metrics }
    }

    /// Starts threads that call `work` for each file until [`stop`](Self::stop). One of them is kept for live, so that no
    /// long film stands in front of a live segment.
    pub(crate) fn start(self: &Arc<Self>, work: impl Fn(&str) + Clone + Send + 'static) {
        for number in 0..=hash_threads() {
            let (hasher, work) = (Arc::clone(self), work.clone());
            let least = if number == 0 { Urgency::Live } else { Urgency::Background };
            let body = move || {
                while let Some(file) = hasher.next(least) {
                    work(&file);
                    hasher.finish(&file);
                }
            };
            if let Err(error) = thread::Builder::new().name("marea-hash".to_owned()).spawn(body) {
                tracing::error!(%error, "no thread to hash with: playlists stay without tags");
            }
        }
    }

    /// Asks for a file. One that is asked for again moves up if it is more urgent now.
    pub(crate) fn submit(&self, file: &str, urgency: Urgency) {
        let mut queue = self.lock();
        if queue.stopped {
            return;
        }
        if queue.known.insert(file.to_owned()) {
            queue.files[urgency as usize].push_back(file.to_owned());
            self.metrics.hash_backlog.inc();
        } else {
            let lower = queue.files.iter_mut().take(urgency as usize);
            let moved = lower.into_iter().find_map(|files| {
                let at = files.iter().position(|known| known == file)?;
                files.remove(at)
            });
            let Some(moved) = moved else { return };
            queue.files[urgency as usize].push_back(moved);
        }
        // All: the one that wakes up may not be the one that takes it.
        self.wake.notify_all();
    }

    /// Changes with every file that is done.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.done.subscribe()
    }

    /// Whether `file` waits or is being hashed.
    pub(crate) fn is_busy_with(&self, file: &str) -> bool {
        self.lock().known.contains(file)
    }

    /// Files that wait or are being hashed.
    pub(crate) fn backlog(&self) -> usize {
        self.lock().known.len()
    }

    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.wake.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    fn next(&self, least: Urgency) -> Option<String> {
        let mut queue = self.lock();
        loop {
            if queue.stopped {
                return None;
            }
            let mut urgencies = ORDER.into_iter().take_while(|urgency| *urgency >= least);
            if let Some(file) = urgencies.find_map(|urgency| queue.files[urgency as usize].pop_front()) {
                return Some(file);
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, file: &str) {
        self.lock().known.remove(file);
        self.metrics.hash_backlog.dec();
        self.done.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
