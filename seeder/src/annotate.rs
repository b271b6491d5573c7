//! `annotate`: writes into a folder what [`crate::Seeder`] would serve, for any web server to serve.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use marea_swarm::{playlist::Playlist, tags::MareaTag};

use crate::{
    atomic,
    catalogue::folder,
    files::{ID_FILE, Root},
    hashes::{FileHashes, HashError, hash_file},
    index::{self, Indexed, Site, Span},
    sign::{self, Expected, Signer, Stamp},
    video, walk,
};

/// What to do with a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Write what is missing or stale.
    Write,
    /// Only say what that would be.
    Check,
    /// Take out all that was written.
    Remove,
}

/// Something to tell the operator while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// So many of all files to hash are hashed.
    Hashed {
        /// Done.
        files: usize,
        /// Of.
        of: usize,
    },
    /// Written, or to be written ([`Mode::Check`]).
    Changed(PathBuf),
    /// Deleted, or to be deleted.
    Removed(PathBuf),
    /// Left as it is, and why.
    Skipped(PathBuf, String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hashed { files, of } => write!(f, "hashed {files} of {of} files"),
            Self::Changed(path) => write!(f, "{}: written", path.display()),
            Self::Removed(path) => write!(f, "{}: removed", path.display()),
            Self::Skipped(path, why) => write!(f, "{}: skipped: {why}", path.display()),
        }
    }
}

/// What was found and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Playlists that are tagged now (or were, with [`Mode::Remove`]).
    pub playlists: usize,
    /// Files that were written or deleted, or would be.
    pub changes: usize,
    /// Files that were left as they are because something is wrong with them.
    pub skipped: usize,
}

/// Why a folder cannot be annotated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnotateError {
    /// It is not there, is no folder, or must not be read.
    #[error("{}: {source}. Name a folder that this user may read and write", path.display())]
    Folder {
        /// As given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written. All files are as before or as they shall be; run it again.
    #[error("{}: {source}. Every file is still whole; run it again once this is mended", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Annotates all playlists below `path`. `signaling` is written into them, `signer` signs them. A signature with over half
/// of its life left stays, also without `signer`, as long as the text that it is for does.
///
/// # Errors
/// [`AnnotateError`]; what is wrong with single media files is only told to `report`.
pub fn annotate(
    path: &Path,
    signaling: Option<&str>,
    signer: Option<&Signer>,
    mode: Mode,
    report: &(dyn Fn(&Event) + Sync),
) -> Result<Summary, AnnotateError> {
    let root = Root::new(path).map_err(|source| AnnotateError::Folder { path: path.to_owned(), source })?;
    let mut run = Run { root, mode, report, summary: Summary::default() };
    let lists = run.read();
    if mode == Mode::Remove {
        run.remove(&lists)?;
    } else {
        run.tag(&lists, signaling, signer)?;
    }
    Ok(run.summary)
}

/// A playlist of the folder: its text, and what it says if it is one that is tagged.
struct List {
    rel: String,
    text: String,
    indexed: Option<Indexed>,
}

struct Run<'a> {
    root: Root,
    mode: Mode,
    report: &'a (dyn Fn(&Event) + Sync),
    summary: Summary,
}

impl Run<'_> {
    fn path(&self, rel: &str) -> PathBuf {
        self.root.path().join(rel)
    }

    fn skip(&mut self, rel: &str, why: impl Into<String>) {
        self.summary.skipped += 1;
        (self.report)(&Event::Skipped(self.path(rel), why.into()));
    }

    fn read(&mut self) -> Vec<List> {
        let mut lists = Vec::new();
        for rel in walk::playlists(&self.root) {
            match self.root.open(&rel).and_then(|opened| index::read(opened.file)) {
                Ok(Some(text)) => {
                    let indexed = index::index(&text, &rel, &Site::anywhere());
                    if indexed.is_none() && self.mode != Mode::Remove {
                        self.skip(&rel, "it names no segments and no renditions, or I-frames only");
                    }
                    lists.push(List { rel, text, indexed });
                }
                Ok(None) => self.skip(&rel, "it is too large for a playlist, or not UTF-8"),
                Err(error) => self.skip(&rel, error.to_string()),
            }
        }
        lists
    }

    fn tag(&mut self, lists: &[List], signaling: Option<&str>, signer: Option<&Signer>) -> Result<(), AnnotateError> {
        let wanted = wanted(lists);
        let hashes = self.hash_all(&wanted);
        let tags: HashMap<&String, _> = hashes.iter().map(|(file, hashed)| (file, hashed.tags())).collect();
        let parents = parents(lists);
        let videos = self.videos(lists, &parents)?;
        // First what tags speak of, then the tags; and what names others last.
        for file in wanted.keys() {
            let Some(hashed) = hashes.get(file) else { continue };
            // Objects of one piece have no list: an older one would be another content's.
            let list = hashed.list().map_err(|source| AnnotateError::Write { path: self.path(file), source })?;
            self.put(&format!("{file}.pieces"), list.as_deref(), file)?;
        }
        let is_multivariant =
            |list: &&List| matches!(&list.indexed, Some(Indexed { playlist: Playlist::Multivariant(_), .. }));
        let media = lists.iter().filter(|list| !is_multivariant(list));
        for List { rel, text: old, indexed } in media.chain(lists.iter().filter(is_multivariant)) {
            let Some((indexed, video)) = indexed.as_ref().zip(videos.get(rel)) else { continue };
            let mut objects = Vec::new();
            if let Playlist::Media(list) = &indexed.playlist {
                let items = index::items(list, &Site::anywhere());
                objects.extend(
                    items
                        .iter()
                        .filter_map(|item| Some((item.line, item.kind, *tags.get(&item.file)?.get(&item.span)?))),
                );
            }
            let head = MareaTag { video: video.clone(), signaling: signaling.map(str::to_owned), complete: true };
            let text = index::insert(&indexed.text, head, objects, usize::MAX);
            let main = parents.get(rel).map_or(rel.as_str(), |parent| *parent);
            let life = sign::life(&indexed.playlist);
            let text = signed(text, old, signer, video, &sign::name(main, rel), life);
            self.put(rel, Some(text.as_bytes()), rel)?;
            self.summary.playlists += 1;
        }
        Ok(())
    }

    /// The id for each playlist, by its path; ids that are not kept yet are put down.
    fn videos(
        &mut self,
        lists: &[List],
        parents: &BTreeMap<String, &str>,
    ) -> Result<HashMap<String, String>, AnnotateError> {
        let mut known: HashMap<String, String> = HashMap::new();
        let mut videos = HashMap::new();
        for List { rel, indexed, .. } in lists {
            let Some(indexed) = indexed else { continue };
            let holder = folder(parents.get(rel).map_or(rel, |parent| *parent)).to_owned();
            let id = match known.get(&holder) {
                Some(id) => id.clone(),
                None => {
                    let carried = lists
                        .iter()
                        .filter(|list| folder(&list.rel) == holder)
                        .find_map(|list| list.indexed.as_ref()?.video.clone())
                        .or_else(|| indexed.video.clone());
                    let id = self.video(&holder, carried)?;
                    known.insert(holder, id.clone());
                    id
                }
            };
            videos.insert(rel.clone(), id);
        }
        Ok(videos)
    }

    /// The id that `folder` keeps; else the one that its playlists carry; else a new one.
    fn video(&mut self, folder: &str, carried: Option<String>) -> Result<String, AnnotateError> {
        let path = self.path(folder);
        let error = |source| AnnotateError::Write { path: path.join(ID_FILE), source };
        if let Some(video) = video::load(&path).map_err(error)? {
            return Ok(video);
        }
        let video = match carried.filter(|video| video::is_usable(video)) {
            Some(video) => video,
            None => video::random().map_err(error)?,
        };
        if self.mode == Mode::Write {
            video::store(&path, &video).map_err(error)?;
        }
        self.summary.changes += 1;
        (self.report)(&Event::Changed(path.join(ID_FILE)));
        Ok(video)
    }

    /// Hashes on all cores.
    fn hash_all(&mut self, wanted: &BTreeMap<String, BTreeSet<Span>>) -> HashMap<String, FileHashes> {
        let jobs: Vec<_> = wanted.iter().collect();
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let results = Mutex::new(Vec::new());
        let root = &self.root;
        let work = || {
            while let Some((file, spans)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let hashed =
                    root.resolve(file).map_err(HashError::Io).and_then(|path| hash_file(&path, spans, None, &|_| true));
                results.lock().unwrap_or_else(PoisonError::into_inner).push(((*file).clone(), hashed));
                let files = done.fetch_add(1, Ordering::Relaxed) + 1;
                (self.report)(&Event::Hashed { files, of: jobs.len() });
            }
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(jobs.len()) {
                scope.spawn(work);
            }
        });
        let mut hashes = HashMap::new();
        for (file, hashed) in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
            match hashed {
                Ok(hashed) => {
                    hashes.insert(file, hashed);
                }
                Err(error) => self.skip(&file, format!("{error}; it gets no tag")),
            }
        }
        hashes
    }

    fn remove(&mut self, lists: &[List]) -> Result<(), AnnotateError> {
        for List { rel, text, .. } in lists {
            let original = index::strip(text);
            self.summary.playlists += usize::from(original.len() != text.len());
            self.put(rel, Some(original.as_bytes()), rel)?;
        }
        for file in wanted(lists).keys() {
            self.put(&format!("{file}.pieces"), None, file)?;
        }
        let folders: BTreeSet<&str> = lists.iter().map(|list| folder(&list.rel)).collect();
        for folder in folders {
            let rel = if folder.is_empty() { ID_FILE.to_owned() } else { format!("{folder}/{ID_FILE}") };
            match video::load(&self.path(folder)) {
                Ok(Some(_)) => self.put(&rel, None, &rel)?,
                Ok(None) => {}
                Err(error) => self.skip(&rel, format!("it is not one of ours: {error}")),
            }
        }
        Ok(())
    }

    /// Makes the file `rel` hold `bytes`, or not exist. New files get the mode and owner of `like`.
    fn put(&mut self, rel: &str, bytes: Option<&[u8]>, like: &str) -> Result<(), AnnotateError> {
        // Through links: the file that is named is changed, and stays a link.
        let path = self.path(rel);
        let path = path.canonicalize().unwrap_or(path);
        let error = |source| AnnotateError::Write { path: path.clone(), source };
        let old = match fs::read(&path) {
            Ok(old) => Some(old),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(error(source)),
        };
        if old.as_deref() == bytes {
            return Ok(());
        }
        let event = match bytes {
            Some(bytes) => {
                if self.mode != Mode::Check {
                    atomic::replace(&path, bytes, &self.path(like)).map_err(error)?;
                }
                Event::Changed(path)
            }
            None => {
                if self.mode != Mode::Check {
                    fs::remove_file(&path).map_err(error)?;
                }
                Event::Removed(path)
            }
        };
        self.summary.changes += 1;
        (self.report)(&event);
        Ok(())
    }
}

/// The first multivariant playlist that names each.
fn parents(lists: &[List]) -> BTreeMap<String, &str> {
    let mut parents = BTreeMap::new();
    for List { rel, indexed, .. } in lists {
        let children = indexed.iter().flat_map(|indexed| index::children(&indexed.playlist, &Site::anywhere()));
        for child in children {
            parents.entry(child).or_insert(rel.as_str());
        }
    }
    parents
}

/// `text` with a signature: that of `old`, the text as it is on the disk, while it will do.
fn signed(text: String, old: &str, signer: Option<&Signer>, video: &str, name: &str, life: Duration) -> String {
    let same = index::unsigned(old) == text;
    let Some(signer) = signer else { return if same { old.to_owned() } else { text } };
    let (keys, now) = ([signer.public()], sign::now_ms());
    let known = sign::verify(old, &Expected { video, name, keys: &keys, now, highest: None }).ok();
    let life = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
    if same && known.as_ref().is_some_and(|known| known.expires - now > life / 2) {
        return old.to_owned();
    }
    // What it says is not trusted here, but a lower one would not be either.
    let floor = sign::split(old).and_then(|(_, tag)| tag.ok()).map(|tag| tag.seq).filter(|seq| *seq < now + life);
    Stamp { signer, video, name, seq: signer.seq(floor), expires: now.saturating_add(life) }.sign(text)
}

/// What is to be hashed: parts by file.
fn wanted(lists: &[List]) -> BTreeMap<String, BTreeSet<Span>> {
    let mut wanted: BTreeMap<String, BTreeSet<Span>> = BTreeMap::new();
    for Indexed { playlist, .. } in lists.iter().filter_map(|list| list.indexed.as_ref()) {
        if let Playlist::Media(list) = playlist {
            for item in index::items(list, &Site::anywhere()) {
                wanted.entry(item.file).or_default().insert(item.span);
            }
        }
    }
    wanted
}
