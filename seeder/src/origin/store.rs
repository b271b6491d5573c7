//! What came from the origin, on disk: one file for each object, and an index in memory that is made anew at each start.
//!
//! | file | content |
//! |---|---|
//! | `objects/<2 digits>/<BLAKE3 of its key>-<time>` | the bytes, the piece list, a line of JSON, its length and [`MAGIC`] |
//! | `fills/*` | what is still coming; deleted at start |
//! | `url` | the origin's; what another one gave is deleted |
//! | `secret` | 32 bytes from which the ids of videos are derived |
//! | `lock` | held while a server uses the folder |
//!
//! A file is given its name once it is whole, so a killed server leaves none that is not.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use marea_swarm::Root;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter, sync::Cache};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::{fill::Spool, rules::Life};
use crate::{
    atomic,
    config::{HASH_CACHE, OPEN_FILES, ORIGIN_MEMORY_CACHE},
    hashes::list_len,
    index::Span,
    metrics::Metrics,
    sign::now_ms,
};

/// The end of each object's file, with the version of the format.
const MAGIC: &[u8; 8] = b"MAREAC01";

/// Longest line of JSON that is read.
const MAX_RECORD: u64 = 64 * 1024;

/// What a file costs beside its bytes: a block of the disk, and its entry in memory.
const FILE_COST: u64 = 4096;

/// What is asked of the origin.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Key {
    /// Path and query below the origin's URL.
    pub(super) target: String,
    /// The part of it that a playlist names.
    pub(super) span: Span,
}

impl Key {
    fn file_name(&self) -> String {
        let span = self.span.map_or(String::new(), |(start, len)| format!("#{start}+{len}"));
        blake3::hash(format!("{}{span}", self.target).as_bytes()).to_hex()[..40].to_owned()
    }
}

/// What the origin said of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Head {
    /// Where it came from, after redirects.
    pub(super) url: String,
    /// A strong entity tag, with its quotes: the origin's, else one of ours.
    pub(super) etag: String,
    /// As the origin gave it, for asking again.
    pub(super) origin_etag: Option<String>,
    pub(super) last_modified: Option<String>,
    pub(super) media_type: Option<String>,
    pub(super) cache_control: Option<String>,
    /// Bytes to come, if the origin says so.
    pub(super) len: Option<u64>,
    /// Bytes of all of what lies there.
    pub(super) total: Option<u64>,
    /// Unix milliseconds.
    pub(super) fetched: u64,
    pub(super) life: Life,
}

#[derive(Serialize, Deserialize)]
struct Record {
    key: Key,
    head: Head,
    size: u64,
    root: String,
}

/// Hash and piece list of an object, which may have been deleted since.
#[derive(Debug)]
pub(super) struct Hashed {
    pub(super) size: u64,
    pub(super) root: Root,
    /// Empty for one piece.
    pub(super) list: Bytes,
}

/// Where an object's bytes are.
enum Place {
    Disk(PathBuf),
    Spool(Arc<Spool>),
}

/// An answer of the origin, whole.
pub(super) struct Object {
    pub(super) key: Key,
    pub(super) head: Head,
    hashed: Arc<Hashed>,
    place: Place,
    /// Unix milliseconds at which the origin confirmed it last, and how long it counts from then.
    confirmed: Mutex<(u64, Life)>,
    /// It left the cache: its file goes with its last reader.
    doomed: AtomicBool,
}

/// How an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Fresh,
    /// It is served while another one is asked for.
    Stale,
    /// It is served if the origin fails.
    Old,
    Dead,
}

impl Object {
    pub(super) fn size(&self) -> u64 {
        self.hashed.size
    }

    /// Seconds since the origin confirmed it.
    pub(super) fn age(&self) -> u64 {
        now_ms().saturating_sub(self.confirmed().0) / 1_000
    }

    fn confirmed(&self) -> (u64, Life) {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn standing(&self) -> Standing {
        let (at, life) = self.confirmed();
        let age = now_ms().saturating_sub(at);
        let stale = life.fresh.saturating_add(life.revalidate);
        match age {
            _ if age < life.fresh => Standing::Fresh,
            _ if age < stale => Standing::Stale,
            _ if age < stale.saturating_add(life.on_error) => Standing::Old,
            _ => Standing::Dead,
        }
    }

    /// The origin says that it still holds.
    pub(super) fn confirm(&self, life: Option<Life>) {
        let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        *confirmed = (now_ms(), life.unwrap_or(confirmed.1));
    }

    /// What it turned out to be decides how long it counts.
    pub(super) fn set_life(&self, change: impl FnOnce(Life) -> Life) {
        let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.1 = change(self.head.life);
    }

    /// What it is in, if that is memory.
    pub(super) fn spool(&self) -> Option<&Arc<Spool>> {
        match &self.place {
            Place::Disk(_) => None,
            Place::Spool(spool) => Some(spool),
        }
    }

    /// What it is in, if that is a file.
    fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Disk(path) => Some(path),
            Place::Spool(_) => None,
        }
    }

    /// All of its bytes; blocks.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        match &self.place {
            Place::Spool(spool) => spool.read_all(self.size()),
            Place::Disk(path) => {
                let mut bytes = vec![0; usize::try_from(self.size()).map_err(io::Error::other)?];
                File::open(path)?.read_exact_at(&mut bytes, 0)?;
                Ok(bytes)
            }
        }
    }

    fn cost(&self) -> u64 {
        self.size() + self.hashed.list.len() as u64 + FILE_COST
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Relaxed)
            && let Place::Disk(path) = &self.place
        {
            let _ = fs::remove_file(path);
        }
    }
}

#[derive(Clone)]
struct Cost;

impl Weighter<Key, Arc<Object>> for Cost {
    fn weight(&self, _: &Key, object: &Arc<Object>) -> u64 {
        object.cost()
    }
}

impl Weighter<Key, Arc<Hashed>> for Cost {
    fn weight(&self, key: &Key, hashed: &Arc<Hashed>) -> u64 {
        128 + (key.target.len() + hashed.list.len()) as u64
    }
}

#[derive(Clone)]
struct Evict(Arc<Metrics>);

impl Lifecycle<Key, Arc<Object>> for Evict {
    /// What left, dropped once the index is unlocked: deleting files takes time.
    type RequestState = Vec<Arc<Object>>;

    fn on_evict(&self, left: &mut Self::RequestState, _: Key, object: Arc<Object>) {
        object.doomed.store(true, Ordering::Relaxed);
        self.0.cache_evictions.inc();
        left.push(object);
    }
}

type Objects = Cache<Key, Arc<Object>, Cost, quick_cache::DefaultHashBuilder, Evict>;

pub(super) struct Store {
    /// None if it cannot be written.
    folder: Option<PathBuf>,
    disk: Objects,
    memory: Objects,
    hashes: Cache<Key, Arc<Hashed>, Cost>,
    /// Files of objects that were asked for lately. Their names never mean another content.
    open: Cache<PathBuf, Arc<File>>,
    broken: AtomicBool,
    metrics: Arc<Metrics>,
    lock: Mutex<Option<File>>,
}

/// One shard: the budget is exact, and an object may fill most of it.
fn objects(budget: u64, metrics: &Arc<Metrics>) -> Objects {
    let options = OptionsBuilder::new().shards(1).estimated_items_capacity(1024).weight_capacity(budget).build();
    let metrics = Evict(Arc::clone(metrics));
    match options {
        Ok(options) => Cache::with_options(options, Cost, quick_cache::DefaultHashBuilder::default(), metrics),
        Err(_) => Cache::with(1024, budget, Cost, quick_cache::DefaultHashBuilder::default(), metrics),
    }
}

impl Store {
    /// Looks through `folder`, which may not be there, and keeps at most `budget` bytes in it. Blocks.
    ///
    /// # Errors
    /// `WouldBlock` if another server uses the folder.
    pub(super) fn open(folder: &Path, origin: &str, budget: u64, metrics: Arc<Metrics>) -> io::Result<Self> {
        let prepared = prepare(folder, origin);
        let lock = match prepared {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(),
                    "the cache folder cannot be written: what the origin sends is kept in memory only. Name another with --state");
                None
            }
        };
        let store = Self {
            folder: lock.is_some().then(|| folder.to_owned()),
            disk: objects(budget, &metrics),
            memory: objects(ORIGIN_MEMORY_CACHE, &metrics),
            hashes: Cache::with_weighter(4096, HASH_CACHE, Cost),
            open: Cache::new(OPEN_FILES),
            broken: AtomicBool::new(lock.is_none()),
            metrics,
            lock: Mutex::new(lock),
        };
        if fs::read_to_string(folder.join("url")).is_ok_and(|url| url == origin) {
            store.load(&folder.join("objects"));
        }
        store.count();
        Ok(store)
    }

    /// Enters what earlier runs left, the oldest first, and deletes what is not whole.
    fn load(&self, folder: &Path) {
        let folders = fs::read_dir(folder).into_iter().flatten().flatten();
        let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
        let mut found: Vec<Arc<Object>> = Vec::new();
        for file in files {
            match read_object(&file.path()) {
                Ok(object) => found.push(Arc::new(object)),
                Err(error) => {
                    tracing::debug!(%error, "an object of the cache is not whole and deleted");
                    let _ = fs::remove_file(file.path());
                }
            }
        }
        found.sort_by_key(|object| object.head.fetched);
        found.into_iter().for_each(|object| self.insert(&object));
    }

    /// Lets another server use the folder.
    pub(super) fn unlock(&self) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.disk.get(key).or_else(|| self.memory.get(key))
    }

    /// The file of an object.
    pub(super) async fn file(&self, object: &Arc<Object>) -> io::Result<Arc<File>> {
        let path = object.path().ok_or(io::ErrorKind::NotFound)?;
        if let Some(file) = self.open.get(path) {
            return Ok(file);
        }
        let held = Arc::clone(object);
        let open = move || held.path().map_or_else(|| Err(io::ErrorKind::NotFound.into()), File::open);
        let file = Arc::new(tokio::task::spawn_blocking(open).await.map_err(io::Error::other)??);
        self.open.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    /// The hash of what was there last, also if it was deleted to make room.
    pub(super) fn hashed(&self, key: &Key) -> Option<Arc<Hashed>> {
        self.hashes.get(key)
    }

    /// All keys that are held.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.disk.iter().map(|(key, _)| key).collect()
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.disk.weight()
    }

    /// Why it is not as it should be.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// A file for what is about to come; none if the disk takes none.
    pub(super) fn spool(&self) -> Spool {
        let temp = self.folder.as_ref().and_then(|folder| {
            let made = tempfile::Builder::new().prefix("fill-").tempfile_in(folder.join("fills"));
            made.inspect_err(|error| self.report(error)).ok()
        });
        Spool::new(temp)
    }

    /// Notes that something could not be written. A full disk is made room on.
    pub(super) fn report(&self, error: &io::Error) {
        if !self.broken.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "the cache cannot be written: what the origin sends is passed on from memory");
        }
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            // The disk has less room than was promised.
            let left = self.bytes() - self.bytes() / 8;
            if left < self.disk.capacity() {
                self.disk.set_capacity(left.max(FILE_COST));
                tracing::warn!(bytes = left, "the disk is full: the cache is made smaller until the next start");
            }
            self.count();
        }
    }

    /// Makes an object of an answer that is whole, and keeps it if it is `wanted`: on disk if it is there as a file, else in
    /// memory. Blocks.
    pub(super) fn keep(&self, key: Key, head: Head, hashed: Hashed, spool: &Arc<Spool>, wanted: bool) -> Arc<Object> {
        let hashed = Arc::new(hashed);
        let file = spool.take_file().filter(|_| wanted).zip(self.folder.as_ref());
        let written = file.map(|(temp, folder)| write_object(folder, temp, &key, &head, &hashed));
        let place = match written {
            Some(Ok(path)) => {
                self.broken.store(false, Ordering::Relaxed);
                Place::Disk(path)
            }
            Some(Err(error)) => {
                self.report(&error);
                Place::Spool(Arc::clone(spool))
            }
            None => Place::Spool(Arc::clone(spool)),
        };
        let confirmed = Mutex::new((head.fetched, head.life));
        let object = Arc::new(Object { key, head, hashed, place, confirmed, doomed: AtomicBool::new(false) });
        match &object.place {
            Place::Spool(spool) if !wanted || !spool.is_memory() => {}
            _ => self.insert(&object),
        }
        self.count();
        object
    }

    fn insert(&self, object: &Arc<Object>) {
        let key = object.key.clone();
        self.hashes.insert(key.clone(), Arc::clone(&object.hashed));
        let objects = if matches!(object.place, Place::Disk(_)) { &self.disk } else { &self.memory };
        if let Some((_, old)) = objects.remove(&key) {
            old.doomed.store(true, Ordering::Relaxed);
        }
        objects.insert(key, Arc::clone(object));
    }

    /// Takes out what `fits`.
    pub(super) fn purge(&self, fits: impl Fn(&Key) -> bool) -> Vec<Key> {
        let mut purged = Vec::new();
        for objects in [&self.disk, &self.memory] {
            let keys: Vec<Key> = objects.iter().map(|(key, _)| key).filter(|key| fits(key)).collect();
            for key in keys {
                if let Some((key, object)) = objects.remove(&key) {
                    object.doomed.store(true, Ordering::Relaxed);
                    purged.push(key);
                }
            }
        }
        let hashes: Vec<Key> = self.hashes.iter().map(|(key, _)| key).filter(|key| fits(key)).collect();
        for key in hashes {
            self.hashes.remove(&key);
        }
        self.count();
        purged
    }

    fn count(&self) {
        self.metrics.cache_bytes.set(i64::try_from(self.bytes()).unwrap_or(i64::MAX));
    }
}

/// Makes the folders, takes the lock, and deletes what was still coming when the last run ended.
fn prepare(folder: &Path, origin: &str) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let lock = File::create(folder.join("lock"))?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    let (url, objects) = (folder.join("url"), folder.join("objects"));
    if fs::read_to_string(&url).ok().as_deref() != Some(origin) {
        // First, so that no new name stands beside old content.
        match fs::remove_dir_all(&objects) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => atomic::replace(&url, origin.as_bytes(), &url)?,
        }
    }
    fs::create_dir_all(&objects)?;
    let fills = folder.join("fills");
    match fs::remove_dir_all(&fills) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir(&fills)?,
    }
    // A disk that can only be read says so now.
    tempfile::tempfile_in(&fills)?;
    Ok(lock)
}

/// The secret from which ids are derived; a new one if it is not there.
pub(super) fn secret(folder: &Path) -> io::Result<[u8; 32]> {
    let path = folder.join("secret");
    let read = || {
        let bytes = fs::read(&path)?;
        bytes.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not 32 bytes"))
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    match fs::create_dir_all(folder).and_then(|()| atomic::create_secret(&path, &secret)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(),
        Err(error) => {
            tracing::warn!(%error, "no place to keep a secret: the ids of the origin's videos change with the next start");
            Ok(secret)
        }
        Ok(()) => Ok(secret),
    }
}

/// Makes a file that holds the bytes an object.
fn write_object(folder: &Path, temp: NamedTempFile, key: &Key, head: &Head, hashed: &Hashed) -> io::Result<PathBuf> {
    let root = BASE64URL_NOPAD.encode(&hashed.root.0);
    let record = serde_json::to_vec(&Record { key: key.clone(), head: head.clone(), size: hashed.size, root })?;
    let mut end = hashed.list.to_vec();
    end.extend_from_slice(&record);
    end.extend_from_slice(&u32::try_from(record.len()).map_err(io::Error::other)?.to_le_bytes());
    end.extend_from_slice(MAGIC);
    let mut file = temp.as_file();
    file.seek(SeekFrom::Start(hashed.size))?;
    file.write_all(&end)?;
    // Else a name could outlive a loss of power that its bytes did not.
    file.sync_data()?;
    let name = key.file_name();
    let folder = folder.join("objects").join(&name[..2]);
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}-{:x}", head.fetched));
    temp.persist(&path)?;
    Ok(path)
}

/// Reads what an earlier run wrote.
fn read_object(path: &Path) -> io::Result<Object> {
    let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut end = [0; 12];
    let before_end = len.checked_sub(12).ok_or_else(|| invalid("too short"))?;
    file.read_exact_at(&mut end, before_end)?;
    if &end[4..] != MAGIC {
        return Err(invalid("not of this version, or not whole"));
    }
    let record_len = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    let record_at = before_end.checked_sub(record_len).filter(|_| record_len <= MAX_RECORD);
    let record_at = record_at.ok_or_else(|| invalid("a record too long"))?;
    file.seek(SeekFrom::Start(record_at))?;
    let mut record = Vec::new();
    Read::by_ref(&mut file).take(record_len).read_to_end(&mut record)?;
    let Record { key, head, size, root } = serde_json::from_slice(&record)?;
    let list_len = list_len(size);
    if size.checked_add(list_len) != Some(record_at) {
        return Err(invalid("another size than it says"));
    }
    let mut list = vec![0; usize::try_from(list_len).map_err(io::Error::other)?];
    file.read_exact_at(&mut list, size)?;
    let root = BASE64URL_NOPAD.decode(root.as_bytes()).ok().and_then(|root| root.try_into().ok());
    let root = Root(root.ok_or_else(|| invalid("no hash"))?);
    let hashed = Arc::new(Hashed { size, root, list: list.into() });
    let confirmed = Mutex::new((head.fetched, head.life));
    Ok(Object { key, head, hashed, place: Place::Disk(path.to_owned()), confirmed, doomed: AtomicBool::new(false) })
}
