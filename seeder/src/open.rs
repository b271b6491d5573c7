//! Open files of the folder, kept for the next request for the same name.
//!
//! Finding out that a name may be served, and opening it, takes a dozen system calls and a thread that may wait for a disk. Whether it
//! still is the same file takes one.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use quick_cache::sync::Cache;

use crate::{
    body,
    config::{OPEN_FILES, RECHECK, SMALL_FILE},
    files::{FileKey, Opened, Root},
};

/// A file that was opened.
pub(crate) struct OpenFile {
    pub(crate) file: Arc<File>,
    pub(crate) key: FileKey,
    device: u64,
    pub(crate) etag: String,
    pub(crate) last_modified: Option<String>,
    changed: SystemTime,
    /// All of it, if that is little.
    pub(crate) small: Option<Bytes>,
    /// When its name led to it last, in milliseconds since [`OpenFiles::since`].
    seen: AtomicU64,
}

impl OpenFile {
    /// Opens `rel`; blocks. Errors as of [`Root::open`].
    fn open(root: &Root, rel: &str) -> io::Result<Self> {
        let Opened { file, key, last_modified, changed, .. } = root.open(rel)?;
        let device = file.metadata()?.dev();
        // One that is cut short just now is read, and fails, as any other.
        let small =
            (key.size <= SMALL_FILE).then(|| body::read(&file, 0, usize::try_from(key.size).ok()?).ok()).flatten();
        let etag = key.etag();
        Ok(Self { file: Arc::new(file), key, device, etag, last_modified, changed, small, seen: AtomicU64::new(0) })
    }

    /// Seconds since the last change.
    pub(crate) fn age(&self) -> u64 {
        self.changed.elapsed().map_or(0, |age| age.as_secs())
    }
}

/// Open files by name.
pub(crate) struct OpenFiles {
    files: Cache<String, Arc<OpenFile>>,
    since: Instant,
}

impl Default for OpenFiles {
    fn default() -> Self {
        Self { files: Cache::new(OPEN_FILES), since: Instant::now() }
    }
}

impl OpenFiles {
    /// The file at `rel`.
    ///
    /// # Errors
    /// As of [`Root::open`].
    pub(crate) async fn get(&self, root: &Root, rel: &str) -> io::Result<Arc<OpenFile>> {
        if let Some(known) = self.files.get(rel) {
            let now_ms = self.since.elapsed().as_millis() as u64;
            if now_ms < known.seen.load(Ordering::Relaxed) + RECHECK.as_millis() as u64 {
                return Ok(known);
            }
            // Whatever the name leads to now is that very file, with that content: its name was judged when it was opened. The entry
            // of a name that was asked for lately is in memory, so this does not wait.
            let now = fs::metadata(root.path().join(rel));
            if now.is_ok_and(|now| now.dev() == known.device && FileKey::of(&now) == known.key) {
                known.seen.store(now_ms, Ordering::Relaxed);
                return Ok(known);
            }
            self.files.remove(rel);
        }
        let (root, name) = (root.clone(), rel.to_owned());
        let opened = tokio::task::spawn_blocking(move || OpenFile::open(&root, &name)).await;
        let opened = Arc::new(opened.map_err(io::Error::other)??);
        self.files.insert(rel.to_owned(), Arc::clone(&opened));
        Ok(opened)
    }
}
