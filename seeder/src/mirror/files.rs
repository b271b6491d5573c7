//! One media file of a mirrored video: fetched in the parts that playlists name, each checked against its hash.
//!
//! Until all parts are right the file is a hidden one (`.marea-part-…`), which a run that was killed left and the next one
//! goes on with: what lies in it is hashed again, so nothing about it has to be remembered or believed.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use marea_swarm::{
    pieces::{HashedObject, ObjectHasher, list_to_bytes},
    playlist::ObjectRef,
};
use tokio::task::spawn_blocking;
use url::Url;

use super::{MirrorError, fetch::Fetcher};
use crate::{atomic, files::FileKey, hashes::hash_part, index::Span};

/// A file in the making is called so, and by its own name.
const PARTIAL: &str = ".marea-part-";

/// What is wanted of a file.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) url: Url,
    pub(super) parts: BTreeMap<Span, ObjectRef>,
}

impl Wanted {
    /// Bytes that the file has in the end.
    pub(super) fn len(&self) -> u64 {
        self.parts.iter().map(|(span, object)| span.map_or(object.size, |(start, len)| start + len)).max().unwrap_or(0)
    }
}

/// The piece lists of a file, by the byte of the `.pieces` file at which each begins.
type Lists = BTreeMap<u64, Vec<u8>>;

/// Whether a fetch was needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copied {
    /// The content that is there now.
    pub(super) key: FileKey,
    /// Bytes that were fetched.
    pub(super) fetched: u64,
}

/// Makes `path` hold what is `wanted`, byte for byte.
pub(super) async fn copy(fetcher: &mut Fetcher, path: PathBuf, wanted: &Wanted) -> Result<Copied, MirrorError> {
    let disk = |source| MirrorError::Disk { path: path.clone(), source };
    let partial = partial(&path);
    let plan = (path.clone(), partial.clone(), wanted.clone());
    let started = spawn_blocking(move || begin(&plan.0, &plan.1, &plan.2)).await.map_err(io::Error::other);
    let Started { file, mut lists, missing } = started.and_then(|started| started).map_err(disk)?;
    let mut fetched = 0;
    for (span, object) in &missing {
        let (start, len) = span.unwrap_or((0, object.size));
        let mut hasher = ObjectHasher::new();
        let mut at = start;
        let Some(file) = &file else { break };
        let write = |bytes: &[u8]| {
            file.write_all_at(bytes, at)?;
            at += bytes.len() as u64;
            hasher.update(bytes);
            Ok(())
        };
        fetcher.bytes(&wanted.url, (start, len), span.is_some(), write).await?;
        fetched += len;
        let hashed = hasher.finish();
        if hashed.root != object.root || hashed.size != object.size {
            return Err(MirrorError::WrongBytes { url: wanted.url.to_string() });
        }
        keep(&mut lists, object, &hashed);
    }
    let (to, len) = (path.clone(), wanted.len());
    let end = spawn_blocking(move || {
        if let Some(file) = file {
            // What an older, longer version left.
            file.set_len(len)?;
            file.sync_all()?;
            fs::rename(&partial, &to)?;
            atomic::sync_folder_of(&to)?;
        }
        put_lists(&to, &lists)?;
        Ok::<_, io::Error>(FileKey::of(&fs::metadata(&to)?))
    });
    let key = end.await.map_err(io::Error::other).and_then(|key| key).map_err(disk)?;
    Ok(Copied { key, fetched })
}

struct Started {
    /// The file in the making; none if the one that is there is right.
    file: Option<File>,
    lists: Lists,
    missing: Vec<(Span, ObjectRef)>,
}

/// Finds out what is there already.
fn begin(path: &Path, partial: &Path, wanted: &Wanted) -> io::Result<Started> {
    let mut lists = Lists::new();
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let old = File::open(path).ok();
    let mut good = Vec::new();
    if let Some(old) = &old {
        good = right_parts(old, wanted, &mut lists)?;
        if good.len() == wanted.parts.len() {
            return Ok(Started { file: None, lists, missing: Vec::new() });
        }
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(partial)?;
    let mut there = right_parts(&file, wanted, &mut lists)?;
    if let Some(old) = &old {
        // A file of byte ranges that changed in some of them.
        for span in good {
            if there.contains(&span) {
                continue;
            }
            let (start, len) = span.unwrap_or((0, wanted.parts[&span].size));
            let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
            old.read_exact_at(&mut bytes, start)?;
            file.write_all_at(&bytes, start)?;
            there.push(span);
        }
    }
    let missing = wanted.parts.iter().filter(|(span, _)| !there.contains(span)).map(|(span, part)| (*span, *part));
    Ok(Started { missing: missing.collect(), file: Some(file), lists })
}

/// The parts that lie in `file` as they should.
fn right_parts(file: &File, wanted: &Wanted, lists: &mut Lists) -> io::Result<Vec<Span>> {
    let size = file.metadata()?.len();
    let mut right = Vec::new();
    for (span, object) in &wanted.parts {
        let (start, len) = span.unwrap_or((0, object.size));
        // Nothing is read that the file does not hold.
        if start.checked_add(len).is_none_or(|end| end > size) {
            continue;
        }
        let Ok(hashed) = hash_part(file, (start, len), &|_| true) else { continue };
        if hashed.root == object.root {
            keep(lists, object, &hashed);
            right.push(*span);
        }
    }
    Ok(right)
}

fn keep(lists: &mut Lists, object: &ObjectRef, hashed: &HashedObject) {
    if hashed.list.len() > 1 {
        lists.insert(object.list_at, list_to_bytes(&hashed.list));
    }
}

/// Writes the `.pieces` file. Lists that do not follow one another are left out: the object is then fetched whole.
fn put_lists(path: &Path, lists: &Lists) -> io::Result<()> {
    let mut bytes = Vec::new();
    for (at, list) in lists {
        if *at == bytes.len() as u64 {
            bytes.extend_from_slice(list);
        }
    }
    let to = pieces(path);
    if bytes.is_empty() || fs::read(&to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    atomic::replace(&to, &bytes, &to)
}

/// Where the piece lists of the file at `path` are.
pub(super) fn pieces(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".pieces");
    path.with_file_name(name)
}

/// Where the file at `path` is while it is being made.
pub(super) fn partial(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(PARTIAL);
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}
