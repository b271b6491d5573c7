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

#[derive(Default)]
struct Queue {
    urgent: VecDeque<String>,
    background: VecDeque<String>,
    /// In one of the two, or being hashed.
    known: HashSet<String>,
    stopped: bool,
}

impl Hasher {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { queue: Mutex::default(), wake: Condvar::new(), done: watch::channel(0).0, metrics }
    }

    /// Starts threads that call `work` for each file until [`stop`](Self::stop).
    pub(crate) fn start(self: &Arc<Self>, work: impl Fn(&str) + Clone + Send + 'static) {
        for _ in 0..hash_threads() {
            let (hasher, work) = (Arc::clone(self), work.clone());
            let body = move || {
                while let Some(file) = hasher.next() {
                    work(&file);
                    hasher.finish(&file);
                }
            };
            if let Err(error) = thread::Builder::new().name("marea-hash".to_owned()).spawn(body) {
                tracing::error!(%error, "no thread to hash with: playlists stay without tags");
            }
        }
    }

    /// Asks for a file. `urgent` ones come first: a viewer waits for them.
    pub(crate) fn submit(&self, file: &str, urgent: bool) {
        let mut queue = self.lock();
        if queue.stopped {
            return;
        }
        if queue.known.insert(file.to_owned()) {
            let to = if urgent { &mut queue.urgent } else { &mut queue.background };
            to.push_back(file.to_owned());
            self.metrics.hash_backlog.inc();
            self.wake.notify_one();
        } else if urgent && let Some(at) = queue.background.iter().position(|known| known == file) {
            queue.background.remove(at);
            queue.urgent.push_back(file.to_owned());
        }
    }

    /// Changes with every file that is done.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.done.subscribe()
    }

    /// Whether any of `files` waits or is being hashed.
    pub(crate) fn is_busy_with(&self, files: &[String]) -> bool {
        let queue = self.lock();
        files.iter().any(|file| queue.known.contains(file))
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

    fn next(&self) -> Option<String> {
        let mut queue = self.lock();
        loop {
            if queue.stopped {
                return None;
            }
            let file = queue.urgent.pop_front().or_else(|| queue.background.pop_front());
            if file.is_some() {
                return file;
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
