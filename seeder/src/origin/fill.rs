//! One answer of the origin on its way: everybody who wants it reads along while it comes.
//!
//! An answer that breaks off is an error to all of them. What is called whole has the length that the origin stated, or ended in
//! good order.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::StatusCode;
use marea_swarm::pieces::{HashedObject, ObjectHasher};
use tempfile::NamedTempFile;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::spawn_blocking,
    time::timeout,
};

use super::store::{Head, Object};
use crate::{
    body::{self, is_cached},
    config::{CHUNK, ORIGIN_PATIENCE},
};

/// How far a fill is.
#[derive(Clone)]
pub(super) enum Progress {
    /// The origin has not answered yet.
    Asked,
    /// So many bytes are there.
    Coming(Arc<Head>, u64),
    /// All of it is there.
    Whole(Arc<Object>),
    /// There is nothing to read.
    Settled(Settled),
}

/// Why a fill came to nothing.
#[derive(Clone, Debug)]
pub(super) enum Settled {
    /// What is held already still holds.
    NotModified,
    /// The origin refused it.
    Status(StatusCode),
    /// It must not be shared: whoever wants it asks for it alone.
    Private,
    /// The origin, or what it sent, failed.
    Failed(Arc<str>),
}

pub(super) struct Fill {
    progress: watch::Sender<Progress>,
    /// Once the origin has answered with something to keep.
    spool: OnceLock<Arc<Spool>>,
    disowned: AtomicBool,
}

impl Fill {
    pub(super) fn new() -> Self {
        Self { progress: watch::channel(Progress::Asked).0, spool: OnceLock::new(), disowned: AtomicBool::new(false) }
    }

    /// It was purged on its way: who reads it reads it, nobody else will.
    pub(super) fn disown(&self) {
        self.disowned.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_disowned(&self) -> bool {
        self.disowned.load(Ordering::Relaxed)
    }

    /// From now on bytes come into `spool`.
    pub(super) fn begin(&self, head: Arc<Head>, spool: Arc<Spool>) {
        let _ = self.spool.set(spool);
        self.set(Progress::Coming(head, 0));
    }

    pub(super) fn set(&self, progress: Progress) {
        self.progress.send_replace(progress);
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Whole(_) | Progress::Settled(_))
    }

    /// What the origin answered; the body may still be coming.
    pub(super) async fn answered(&self) -> Progress {
        let mut progress = self.progress.subscribe();
        match progress.wait_for(|progress| !matches!(progress, Progress::Asked)).await {
            Ok(progress) => progress.clone(),
            Err(_) => Progress::Settled(Settled::Failed("the server stops".into())),
        }
    }

    /// The object once all of it is there.
    pub(super) async fn whole(&self) -> Result<Arc<Object>, Settled> {
        let mut progress = self.progress.subscribe();
        let over = |progress: &Progress| matches!(progress, Progress::Whole(_) | Progress::Settled(_));
        match progress.wait_for(over).await.map(|progress| progress.clone()) {
            Ok(Progress::Whole(object)) => Ok(object),
            Ok(Progress::Settled(settled)) => Err(settled),
            _ => Err(Settled::Failed("the server stops".into())),
        }
    }

    /// The bytes from `at` to `end` (to the last one, if none) as they come.
    pub(super) fn read(&self, at: u64, end: Option<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let reader = Reader { progress: self.progress.subscribe(), spool: self.spool.get().cloned(), at, end };
        stream::unfold(Some(reader), |reader| async {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

struct Reader {
    progress: watch::Receiver<Progress>,
    /// None if nothing has come.
    spool: Option<Arc<Spool>>,
    at: u64,
    end: Option<u64>,
}

impl Reader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.end.is_some_and(|end| self.at >= end) {
                return Ok(None);
            }
            let (there, over) = match &*self.progress.borrow_and_update() {
                Progress::Asked => (0, false),
                Progress::Coming(_, len) => (*len, false),
                Progress::Whole(object) => (object.size(), true),
                Progress::Settled(settled) => return Err(io::Error::other(settled.text())),
            };
            if self.at < there {
                let left = self.end.unwrap_or(u64::MAX).min(there) - self.at;
                let len = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
                let spool = self.spool.as_ref().ok_or(io::ErrorKind::UnexpectedEof)?;
                let bytes = Spool::read(spool, self.at, len).await?;
                self.at += bytes.len() as u64;
                return Ok(Some(bytes));
            }
            if over {
                return match self.end {
                    None => Ok(None),
                    Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            self.progress.changed().await.map_err(io::Error::other)?;
        }
    }
}

/// Bytes that came: in a file as long as one can be written, the rest in memory.
pub(super) struct Spool {
    /// Deleted, unless it was made an object.
    temp: Mutex<Option<NamedTempFile>>,
    file: Option<Arc<File>>,
    on_disk: AtomicU64,
    /// Where each begins; in order.
    tail: RwLock<Vec<(u64, Bytes)>>,
    permits: Mutex<Vec<OwnedSemaphorePermit>>,
}

impl Spool {
    /// Writes into `temp`, or keeps all in memory if there is none.
    pub(super) fn new(temp: Option<NamedTempFile>) -> Self {
        let reopened = temp.as_ref().and_then(|temp| temp.as_file().try_clone().ok()).map(Arc::new);
        Self {
            temp: Mutex::new(temp.filter(|_| reopened.is_some())),
            file: reopened,
            on_disk: AtomicU64::new(0),
            tail: RwLock::default(),
            permits: Mutex::default(),
        }
    }

    /// The file, if it holds everything.
    pub(super) fn take_file(&self) -> Option<NamedTempFile> {
        let in_memory = !self.tail.read().unwrap_or_else(PoisonError::into_inner).is_empty();
        self.temp.lock().unwrap_or_else(PoisonError::into_inner).take().filter(|_| !in_memory)
    }

    /// Whether nothing of it is on disk.
    pub(super) fn is_memory(&self) -> bool {
        self.on_disk.load(Ordering::Acquire) == 0
    }

    /// Some of the bytes from `at` on, which are there; at most `len`.
    pub(super) async fn read(this: &Arc<Self>, at: u64, len: usize) -> io::Result<Bytes> {
        let on_disk = this.on_disk.load(Ordering::Acquire);
        if at >= on_disk {
            let tail = this.tail.read().unwrap_or_else(PoisonError::into_inner);
            let found =
                tail.partition_point(|(start, _)| *start <= at).checked_sub(1).and_then(|index| tail.get(index));
            let part = found.and_then(|(start, bytes)| {
                let from = usize::try_from(at - start).ok().filter(|from| *from < bytes.len())?;
                Some(bytes.slice(from..(from + len).min(bytes.len())))
            });
            return part.ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        }
        let len = usize::try_from(on_disk - at).map_or(len, |left| left.min(len));
        let file = this.file.clone().ok_or(io::ErrorKind::UnexpectedEof)?;
        if is_cached(&file, at, len) {
            return body::read(&file, at, len);
        }
        spawn_blocking(move || body::read(&file, at, len)).await.map_err(io::Error::other)?
    }

    /// All of it; blocks.
    pub(super) fn read_all(&self, size: u64) -> io::Result<Vec<u8>> {
        let on_disk = self.on_disk.load(Ordering::Acquire);
        let mut bytes = vec![0; usize::try_from(on_disk).map_err(io::Error::other)?];
        if let Some(file) = &self.file {
            file.read_exact_at(&mut bytes, 0)?;
        }
        for (_, part) in self.tail.read().unwrap_or_else(PoisonError::into_inner).iter() {
            bytes.extend_from_slice(part);
        }
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// Takes bytes into a spool and hashes them.
pub(super) struct Writer {
    spool: Arc<Spool>,
    hasher: ObjectHasher,
    len: u64,
    /// Bounds what all fills keep in memory, in KiB.
    memory: Arc<Semaphore>,
    /// Why no more is written to the disk.
    pub(super) broken: Option<io::Error>,
}

impl Writer {
    pub(super) fn new(spool: Arc<Spool>, memory: Arc<Semaphore>) -> Self {
        Self { spool, hasher: ObjectHasher::new(), len: 0, memory, broken: None }
    }

    /// Takes the next bytes; gives how many there are now.
    pub(super) async fn write(self, bytes: Bytes) -> io::Result<(Self, u64)> {
        let write = move || {
            let mut this = self;
            this.hasher.update(&bytes);
            let on_disk = this.spool.file.as_ref().filter(|_| this.broken.is_none()).is_some_and(|file| {
                match file.write_all_at(&bytes, this.len) {
                    Ok(()) => true,
                    Err(error) => {
                        this.broken = Some(error);
                        false
                    }
                }
            });
            (this, bytes, on_disk)
        };
        let (mut this, bytes, on_disk) = spawn_blocking(write).await.map_err(io::Error::other)?;
        let end = this.len + bytes.len() as u64;
        if on_disk {
            this.spool.on_disk.store(end, Ordering::Release);
        } else {
            // Waits until others have been read, in good measure.
            let cost = u32::try_from(bytes.len().div_ceil(1024)).unwrap_or(u32::MAX);
            let room = timeout(ORIGIN_PATIENCE, Arc::clone(&this.memory).acquire_many_owned(cost)).await;
            let room = room.map_err(|_| io::Error::other("neither disk nor memory has room"))?;
            let room = room.map_err(io::Error::other)?;
            this.spool.permits.lock().unwrap_or_else(PoisonError::into_inner).push(room);
            this.spool.tail.write().unwrap_or_else(PoisonError::into_inner).push((this.len, bytes));
        }
        this.len = end;
        Ok((this, end))
    }

    pub(super) fn finish(self) -> HashedObject {
        self.hasher.finish()
    }
}

/// The bytes from `at` to `end` of a spool that is whole.
pub(super) fn read_spool(spool: Arc<Spool>, at: u64, end: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold((spool, at), move |(spool, at)| async move {
        if at >= end {
            return Ok(None);
        }
        let len = usize::try_from(end - at).map_or(CHUNK, |left| left.min(CHUNK));
        let bytes = Spool::read(&spool, at, len).await?;
        let at = at + bytes.len() as u64;
        Ok(Some((bytes, (spool, at))))
    })
}
