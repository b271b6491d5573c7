//! Hashes of a file's objects, and its piece lists.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use marea_swarm::{
    Root,
    ids::{MAX_OBJECT_SIZE, piece_count},
    pieces::{HashedObject, ListCheck, ObjectHasher, check_list, list_from_bytes, list_to_bytes},
    tags::ObjectTag,
};

use crate::{config::CHUNK, files::FileKey, index::Span};

/// Bytes of one value of a piece list.
const VALUE: u64 = 32;

/// What is known of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) size: u64,
    pub(crate) root: Root,
}

impl Object {
    fn list_len(&self) -> u64 {
        list_len(self.size)
    }
}

/// Bytes of the piece list of an object of `size` bytes: none for a single piece.
pub(crate) fn list_len(size: u64) -> u64 {
    match piece_count(size) {
        0 | 1 => 0,
        count => u64::from(count) * VALUE,
    }
}

/// The objects of one content of one file.
#[derive(Clone, Debug)]
pub(crate) struct FileHashes {
    /// The content that was read.
    pub(crate) key: FileKey,
    /// What was asked for, in the order of the lists: the whole file first, then by first byte. None where there is no
    /// object: the range is empty, too large, or outside.
    pub(crate) objects: Vec<(Span, Option<Object>)>,
    pub(crate) lists: Lists,
}

/// Where the piece lists are: those of all objects of more than one piece, one after the other.
#[derive(Clone, Debug)]
pub(crate) enum Lists {
    Memory(Bytes),
    /// `len` bytes of a file of ours.
    Disk {
        path: Arc<PathBuf>,
        start: u64,
        len: u64,
    },
}

impl Lists {
    fn read(&self) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::Disk { path, start, len } => {
                let file = File::open(&**path)?;
                // Against the file's real length before anything is allocated from a stored number.
                if start.saturating_add(*len) > file.metadata()?.len() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let mut bytes = vec![0; usize::try_from(*len).map_err(io::Error::other)?];
                file.read_exact_at(&mut bytes, *start)?;
                Ok(bytes.into())
            }
        }
    }
}

impl FileHashes {
    /// The tags of all objects.
    pub(crate) fn tags(&self) -> HashMap<Span, ObjectTag> {
        let mut at = 0;
        let objects = self.objects.iter().filter_map(|(span, object)| Some((*span, (*object)?)));
        let tag = objects.map(|(span, object)| {
            // Only a byte range has to say where its list begins.
            let offset = (span.is_some() && object.list_len() > 0).then_some(at);
            at += object.list_len();
            (span, ObjectTag { size: object.size, root: object.root, at: offset })
        });
        tag.collect()
    }

    /// The root of the whole file, if it is an object.
    pub(crate) fn whole(&self) -> Option<Root> {
        // It comes first.
        self.objects.first().filter(|(span, _)| span.is_none())?.1.map(|object| object.root)
    }

    /// Whether all of `spans` were looked at.
    pub(crate) fn covers(&self, spans: &BTreeSet<Span>) -> bool {
        spans.iter().all(|span| self.objects.binary_search_by_key(span, |(known, _)| *known).is_ok())
    }

    /// The content of the `.pieces` file: none if no object has more than one piece. Checked, since it may come from a
    /// disk that lies.
    pub(crate) fn list(&self) -> io::Result<Option<Bytes>> {
        let bytes = self.lists.read()?;
        let mut at = 0;
        for object in self.objects.iter().filter_map(|(_, object)| *object) {
            let len = usize::try_from(object.list_len()).map_err(io::Error::other)?;
            if len == 0 {
                continue;
            }
            let list = bytes.get(at..at + len).and_then(list_from_bytes);
            match list.map(|list| check_list(&list, object.size, object.root)) {
                Some(ListCheck::Fits) => at += len,
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a stored piece list is damaged")),
            }
        }
        Ok((at > 0).then(|| bytes.slice(..at)))
    }

    /// Bytes of [`list`](Self::list).
    pub(crate) fn lists_len(&self) -> u64 {
        self.objects.iter().filter_map(|(_, object)| *object).map(|object| object.list_len()).sum()
    }
}

/// Why a file has no hashes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HashError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It changed while it was read.
    #[error("it is still being written")]
    Unstable,
    /// The program stops.
    #[error("stopped")]
    Stopped,
}

/// Hashes the objects at `spans` of the file at `path`. Objects of `old` are taken over if the last of them is still there;
/// a file that grew has the others too, one that an encoder began anew has none. `progress` is told how many bytes were read and says whether to go on.
pub(crate) fn hash_file(
    path: &Path,
    spans: &BTreeSet<Span>,
    old: Option<&FileHashes>,
    progress: &dyn Fn(u64) -> bool,
) -> Result<FileHashes, HashError> {
    let file = File::open(path)?;
    let key = FileKey::of(&file.metadata()?);
    let old_lists = match old {
        Some(old) => old.list()?.unwrap_or_default(),
        None => Bytes::new(),
    };
    let mut known = HashMap::new();
    let mut at = 0;
    for (span, object) in old.map_or(&[][..], |old| &old.objects) {
        let Some(object) = object else { continue };
        let len = usize::try_from(object.list_len()).map_err(io::Error::other)?;
        known.insert(*span, (*object, old_lists.slice(at..at + len)));
        at += len;
    }
    if old.is_some_and(|old| old.key != key)
        && let Some((span, (object, _))) = known.iter().max_by_key(|(span, _)| **span)
        && hash_part(&file, span.unwrap_or((0, object.size)), progress)?.root != object.root
    {
        known.clear();
    }
    let mut objects = Vec::with_capacity(spans.len());
    let mut lists = Vec::new();
    for &span in spans {
        if let Some((object, list)) = known.get(&span) {
            lists.extend_from_slice(list);
            objects.push((span, Some(*object)));
            continue;
        }
        let (start, len) = span.unwrap_or((0, key.size));
        let inside = start.checked_add(len).is_some_and(|end| end <= key.size);
        if len == 0 || len > MAX_OBJECT_SIZE || !inside {
            objects.push((span, None));
            continue;
        }
        let hashed = hash_part(&file, (start, len), progress)?;
        let object = Object { size: hashed.size, root: hashed.root };
        if object.list_len() > 0 {
            lists.extend_from_slice(&list_to_bytes(&hashed.list));
        }
        objects.push((span, Some(object)));
    }
    // Neither replaced nor written to meanwhile.
    if FileKey::of(&file.metadata()?) != key || FileKey::of(&std::fs::metadata(path)?) != key {
        return Err(HashError::Unstable);
    }
    Ok(FileHashes { key, objects, lists: Lists::Memory(lists.into()) })
}

/// Hashes `len` bytes from `start`.
pub(crate) fn hash_part(
    file: &File,
    (start, len): (u64, u64),
    progress: &dyn Fn(u64) -> bool,
) -> Result<HashedObject, HashError> {
    let mut buf = vec![0; usize::try_from(len).map_or(CHUNK, |len| len.min(CHUNK))];
    let mut hasher = ObjectHasher::new();
    let mut done = 0;
    while done < len {
        let part = &mut buf[..usize::try_from(len - done).map_or(CHUNK, |left| left.min(CHUNK))];
        file.read_exact_at(part, start + done).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => HashError::Unstable,
            _ => HashError::Io(error),
        })?;
        hasher.update(part);
        done += part.len() as u64;
        if !progress(part.len() as u64) {
            return Err(HashError::Stopped);
        }
    }
    Ok(hasher.finish())
}
