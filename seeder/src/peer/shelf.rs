//! Videos that lie on disk, whole and checked, and their pieces.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use marea_swarm::{
    ids::{piece_count, piece_len},
    pieces::{Cv, ListCheck, check_list, hash_piece, list_from_bytes},
    playlist::{Locator, MediaPlaylist, ObjectRef},
};

use crate::hashes::hash_part;

/// A video that is held whole.
#[derive(Clone, Debug)]
pub struct Film {
    /// Its id, as written.
    pub(crate) video: String,
    /// Its media playlists.
    pub(crate) lists: Vec<Arc<MediaPlaylist>>,
    /// Where its objects lie.
    pub(crate) parts: Vec<Part>,
    /// Its signed playlists, by NAME (`docs/protocol.md` §2).
    pub(crate) texts: HashMap<String, TextAt>,
}

/// Where a signed playlist is to be had.
#[derive(Clone, Debug)]
pub(crate) enum TextAt {
    /// In this file, as its owner signed it.
    File(PathBuf),
    /// Of our own server, which signs it: a path below its root.
    Served(String),
}

/// Where an object lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// As its playlist names it.
    pub(crate) locator: Locator,
    path: Arc<Path>,
    start: u64,
    size: u64,
    /// The hashes of its pieces.
    pub(crate) list: Vec<Cv>,
    /// It is an init section, as far as that is known.
    pub(crate) init: bool,
}

impl Part {
    /// The object that lies at `path` (from `start`), with its list from the `.pieces` file `lists`, else made of its bytes.
    ///
    /// # Errors
    /// The file cannot be read, or is not the object.
    pub(crate) fn find(
        locator: &Locator,
        object: &ObjectRef,
        path: &Path,
        start: u64,
        lists: &Path,
    ) -> io::Result<Self> {
        let (size, root) = (object.size, object.root);
        let list = if piece_count(size) == 1 { Some(vec![root.0]) } else { read_list(lists, object) };
        let list = match list.filter(|list| check_list(list, size, root) == ListCheck::Fits) {
            Some(list) => list,
            None => {
                let hashed = hash_part(&File::open(path)?, (start, size), &|_| true).map_err(io::Error::other)?;
                if hashed.root != root {
                    return Err(io::Error::other("it does not hold the bytes that its playlist names"));
                }
                hashed.list
            }
        };
        Ok(Self::new(locator, path, (start, size), list, false))
    }

    /// The object of this many bytes (from the first) that lies at `path` and has this list.
    pub(crate) fn new(locator: &Locator, path: &Path, (start, size): (u64, u64), list: Vec<Cv>, init: bool) -> Self {
        Self { locator: locator.clone(), path: path.into(), start, size, list, init }
    }

    /// A piece, checked: what the disk has changed never leaves it.
    ///
    /// # Errors
    /// It cannot be read, or is not what it was.
    pub(crate) fn piece(&self, piece: u32) -> io::Result<Vec<u8>> {
        let expected = self.list.get(piece as usize).ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = vec![0; piece_len(self.size, piece) as usize];
        let at = self.start + u64::from(piece) * u64::from(marea_swarm::PIECE_SIZE);
        File::open(&self.path)?.read_exact_at(&mut bytes, at)?;
        if hash_piece(&bytes, piece, piece_count(self.size)) != *expected {
            return Err(io::Error::other("its bytes have changed"));
        }
        Ok(bytes)
    }

    /// The file.
    pub(crate) fn path(&self) -> PathBuf {
        self.path.to_path_buf()
    }
}

fn read_list(path: &Path, object: &ObjectRef) -> Option<Vec<Cv>> {
    let mut bytes = vec![0; piece_count(object.size) as usize * 32];
    let file = File::open(path).ok()?;
    file.read_exact_at(&mut bytes, object.list_at).ok()?;
    list_from_bytes(&bytes)
}
