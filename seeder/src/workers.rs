//! A thread for each core, each with a runtime of its own: a connection stays on the thread that it was given to, and what it needs
//! stays in that core's cache. Accepting is one task for all of them, so that no thread has a queue that another could serve.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::watch,
};

struct Worker {
    handle: Handle,
    /// Connections that it has.
    busy: Arc<AtomicUsize>,
}

/// Threads that serve connections until this is dropped.
pub(crate) struct Workers {
    workers: Vec<Worker>,
    _running: watch::Sender<()>,
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let (running, _) = watch::channel(());
        let mut workers = Vec::with_capacity(count);
        for _ in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let mut stopped = running.subscribe();
            let body = move || {
                // An error: whoever started it is gone.
                let _ = runtime.block_on(stopped.changed());
                runtime.shutdown_background();
            };
            thread::Builder::new().name("marea-serve".to_owned()).spawn(body)?;
            workers.push(Worker { handle, busy: Arc::default() });
        }
        Ok(Self { workers, _running: running })
    }

    /// Runs `task` on the thread that has the fewest; it must register with the runtime that it finds there.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Some(worker) = self.workers.iter().min_by_key(|worker| worker.busy.load(Ordering::Relaxed)) else { return };
        let busy = Busy(Arc::clone(&worker.busy));
        busy.0.fetch_add(1, Ordering::Relaxed);
        worker.handle.spawn(async move {
            let _busy = busy;
            task.await;
        });
    }
}

/// A connection that a worker has.
struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
