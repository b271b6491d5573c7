//! What outlives the process: hashes (which only save work), and ids of videos whose folder cannot be written.
//!
//! | file | content |
//! |---|---|
//! | `hashes/<BLAKE3 of the playlist's path>` | one line of JSON, then the piece lists it speaks of |
//! | `sequence` | a number above every SEQ that was signed |
//! | `revoked.json` | videos that were withdrawn |
//! | `videos.json` | folder to id, where `marea.json` could not be written |

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use data_encoding::BASE64URL_NOPAD;
use marea_swarm::Root;
use serde::{Deserialize, Serialize};

use crate::{
    atomic,
    files::FileKey,
    hashes::{FileHashes, Lists, Object},
    index::Span,
    revoked::{self, Revocation},
};

/// Version of the format; other versions are not read (hashes are then made anew).
const VERSION: u32 = 1;

/// Keeps [`State::sequence`].
const SEQUENCE_FILE: &str = "sequence";

/// Longest first line that is read: 100,000 objects fit.
const MAX_HEADER: u64 = 64 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    files: Vec<StoredFile>,
}

#[derive(Serialize, Deserialize)]
struct StoredFile {
    path: String,
    key: FileKey,
    /// Span, then size and root if there is an object.
    objects: Vec<(Span, Option<(u64, String)>)>,
}

/// The state folder.
pub(crate) struct State {
    folder: PathBuf,
    broken: AtomicBool,
}

impl State {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, broken: AtomicBool::new(false) }
    }

    /// Whether something could not be written.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    fn report(&self, error: &io::Error) {
        if !self.broken.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %error, folder = %self.folder.display(),
                "the state folder cannot be written: hashes are made anew at each start. Name another with --state"
            );
        }
    }

    fn record(&self, playlist: &str) -> PathBuf {
        self.folder.join("hashes").join(blake3::hash(playlist.as_bytes()).to_hex().as_str())
    }

    /// What was saved for `playlist`; nothing if there is none or it is damaged.
    pub(crate) fn load(&self, playlist: &str) -> Vec<(String, FileHashes)> {
        self.read_record(&self.record(playlist)).unwrap_or_default()
    }

    fn read_record(&self, path: &Path) -> Option<Vec<(String, FileHashes)>> {
        let mut header = Vec::new();
        BufReader::new(File::open(path).ok()?.take(MAX_HEADER)).read_until(b'\n', &mut header).ok()?;
        let record: Record =
            serde_json::from_slice(&header).ok().filter(|record: &Record| record.version == VERSION)?;
        let path = Arc::new(path.to_owned());
        let mut start = header.len() as u64;
        let mut files = Vec::with_capacity(record.files.len());
        for file in record.files {
            let mut objects = Vec::with_capacity(file.objects.len());
            for (span, object) in file.objects {
                let object = match object {
                    Some((size, root)) => {
                        let root = BASE64URL_NOPAD.decode(root.as_bytes()).ok()?.try_into().ok()?;
                        Some(Object { size, root: Root(root) })
                    }
                    None => None,
                };
                objects.push((span, object));
            }
            let empty = Lists::Memory(bytes::Bytes::new());
            let mut hashes = FileHashes { key: file.key, objects, lists: empty };
            let len = hashes.lists_len();
            hashes.lists = Lists::Disk { path: Arc::clone(&path), start, len };
            start = start.checked_add(len)?;
            files.push((file.path, hashes));
        }
        Some(files)
    }

    /// Saves the hashes of all files of `playlist`, and gives them back with their lists on disk. On failure they are
    /// given back as they are.
    pub(crate) fn save(&self, playlist: &str, files: Vec<(String, Arc<FileHashes>)>) -> Vec<(String, Arc<FileHashes>)> {
        let path = self.record(playlist);
        let written = encode(&files).and_then(|bytes| {
            fs::create_dir_all(self.folder.join("hashes"))?;
            atomic::replace(&path, &bytes, &path)
        });
        match written {
            Ok(()) => match self.read_record(&path) {
                Some(files) => files.into_iter().map(|(path, hashes)| (path, Arc::new(hashes))).collect(),
                None => files,
            },
            Err(error) => {
                self.report(&error);
                files
            }
        }
    }

    /// Forgets what was saved for playlists that are not among `playlists`.
    pub(crate) fn sweep<'a>(&self, playlists: impl Iterator<Item = &'a str>) {
        let kept: HashSet<PathBuf> = playlists.map(|playlist| self.record(playlist)).collect();
        let Ok(entries) = fs::read_dir(self.folder.join("hashes")) else { return };
        for entry in entries.flatten().filter(|entry| !kept.contains(&entry.path())) {
            let _ = fs::remove_file(entry.path());
        }
    }

    /// A number that no SEQ signed so far is above.
    pub(crate) fn sequence(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join(SEQUENCE_FILE)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Keeps `sequence`.
    pub(crate) fn keep_sequence(&self, sequence: u64) {
        let path = self.folder.join(SEQUENCE_FILE);
        let written = fs::create_dir_all(&self.folder)
            .and_then(|()| atomic::replace(&path, format!("{sequence}\n").as_bytes(), &path));
        if let Err(error) = written {
            self.report(&error);
        }
    }

    /// Videos that were withdrawn.
    pub(crate) fn revoked(&self) -> io::Result<Vec<Revocation>> {
        revoked::load(&self.folder)
    }

    /// Ids of folders that could not be written.
    pub(crate) fn videos(&self) -> BTreeMap<String, String> {
        let text = fs::read(self.folder.join("videos.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Keeps the id of `folder`; false if that is not possible.
    pub(crate) fn keep_video(&self, folder: &str, video: &str) -> bool {
        let mut videos = self.videos();
        videos.insert(folder.to_owned(), video.to_owned());
        let path = self.folder.join("videos.json");
        let written = serde_json::to_vec_pretty(&videos).map_err(io::Error::other).and_then(|bytes| {
            fs::create_dir_all(&self.folder)?;
            atomic::replace(&path, &bytes, &path)
        });
        written.map_err(|error| self.report(&error)).is_ok()
    }
}

fn encode(files: &[(String, Arc<FileHashes>)]) -> io::Result<Vec<u8>> {
    let stored = files.iter().map(|(path, hashes)| StoredFile {
        path: path.clone(),
        key: hashes.key,
        objects: hashes
            .objects
            .iter()
            .map(|(span, object)| (*span, object.map(|object| (object.size, BASE64URL_NOPAD.encode(&object.root.0)))))
            .collect(),
    });
    let record = Record { version: VERSION, files: stored.collect() };
    let mut bytes = serde_json::to_vec(&record)?;
    bytes.push(b'\n');
    for (_, hashes) in files {
        bytes.extend_from_slice(&hashes.list()?.unwrap_or_default());
    }
    Ok(bytes)
}
