//! From a request's path to an open file below the root, or to nothing.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use percent_encoding::percent_decode_str;

use crate::metrics::Kind;

/// Keeps the id of a folder's video (design C4); ours, so never served.
pub(crate) const ID_FILE: &str = "marea.json";

/// Below it there is nothing, and never will be.
const NOWHERE: &str = "/dev/null";

/// What tells one content of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct FileKey {
    /// Bytes.
    pub(crate) size: u64,
    /// Modification time, nanoseconds since 1970.
    pub(crate) mtime: i64,
    /// Inode: changes when a file is replaced by renaming, even within one tick of the clock.
    pub(crate) ino: u64,
}

impl FileKey {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let mtime = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        Self { size: metadata.len(), mtime, ino: metadata.ino() }
    }

    /// A strong entity tag.
    pub(crate) fn etag(&self) -> String {
        format!("\"{:x}-{:x}-{:x}\"", self.size, self.mtime, self.ino)
    }
}

/// A regular file below the root.
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) key: FileKey,
    /// `Last-Modified`, none for times before 1970.
    pub(crate) last_modified: Option<String>,
    /// Time of the last change.
    pub(crate) changed: SystemTime,
    /// Seconds since then.
    pub(crate) age: u64,
}

/// The folder that is served.
#[derive(Clone, Debug)]
pub(crate) struct Root(PathBuf);

impl Root {
    /// `path` must be a folder.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        if path.is_dir() { Ok(Self(path)) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    /// No folder: nothing is in it.
    pub(crate) fn nowhere() -> Self {
        Self(PathBuf::from(NOWHERE))
    }

    pub(crate) fn is_nowhere(&self) -> bool {
        self.0 == Path::new(NOWHERE)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Opens the file at `rel` (see [`relative`]). `NotFound` also for what exists and must not be served: folders,
    /// pipes, hidden files, links that lead out.
    pub(crate) fn open(&self, rel: &str) -> io::Result<Opened> {
        let path = self.resolve(rel)?;
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let changed = metadata.modified()?;
        Ok(Opened {
            file,
            key: FileKey::of(&metadata),
            last_modified: (changed >= UNIX_EPOCH).then(|| httpdate::fmt_http_date(changed)),
            changed,
            age: changed.elapsed().map_or(0, |age| age.as_secs()),
        })
    }

    /// The key of the file at `rel`, errors as of [`open`](Self::open).
    pub(crate) fn key(&self, rel: &str) -> io::Result<FileKey> {
        Ok(FileKey::of(&fs::metadata(self.resolve(rel)?)?))
    }

    /// The real path of a regular file at `rel`.
    pub(crate) fn resolve(&self, rel: &str) -> io::Result<PathBuf> {
        // Links are followed first and judged by where they lead.
        let path = self.0.join(rel).canonicalize()?;
        let inside = path.strip_prefix(&self.0).map_err(|_| io::ErrorKind::NotFound)?;
        // A pipe or device would block whoever opens it.
        if is_hidden(inside) || !fs::metadata(&path)?.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(path)
    }
}

/// Reads the keys of many files: looks at each folder once.
pub(crate) struct Keys<'a> {
    root: &'a Root,
    /// Real paths of folders below the root.
    folders: HashMap<String, Option<PathBuf>>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(root: &'a Root) -> Self {
        Self { root, folders: HashMap::new() }
    }

    /// As [`Root::key`].
    pub(crate) fn of(&mut self, rel: &str) -> io::Result<FileKey> {
        let (folder, name) = rel.rsplit_once('/').unwrap_or(("", rel));
        let real = || {
            let path = self.root.0.join(folder).canonicalize().ok()?;
            Some(path).filter(|path| path.strip_prefix(&self.root.0).is_ok_and(|inside| !is_hidden(inside)))
        };
        if !self.folders.contains_key(folder) {
            self.folders.insert(folder.to_owned(), real());
        }
        let Some(Some(folder)) = self.folders.get(folder) else { return Err(io::ErrorKind::NotFound.into()) };
        let metadata = fs::symlink_metadata(folder.join(name))?;
        if metadata.is_file() && !name.starts_with('.') { Ok(FileKey::of(&metadata)) } else { self.root.key(rel) }
    }
}

fn is_hidden(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
}

/// The relative path that a percent-encoded URL path names: `a/b.m4s`. None for whatever could leave the root or is
/// never served: empty parts, `.`, `..`, hidden names, NUL, backslash, bytes that are not UTF-8, and our id file.
pub(crate) fn relative(encoded: &str) -> Option<String> {
    let path = percent_decode_str(encoded).decode_utf8().ok()?.into_owned();
    let allowed = |part: &str| !part.is_empty() && !part.starts_with('.') && part != ID_FILE;
    let clean = !path.contains(['\0', '\\']) && path.split('/').all(allowed);
    clean.then_some(path)
}

/// The part of a path after its last dot, in lower case.
fn extension(rel: &str) -> String {
    let name = rel.rsplit('/').next().unwrap_or(rel);
    name.rsplit_once('.').map_or_else(String::new, |(_, extension)| extension.to_ascii_lowercase())
}

/// Whether `rel` names a playlist.
pub(crate) fn is_playlist(rel: &str) -> bool {
    matches!(extension(rel).as_str(), "m3u8" | "m3u")
}

/// Media type by name. Nothing that a browser would run: an operator's HTML is none of our origin's.
pub(crate) fn media_type(rel: &str) -> &'static str {
    match extension(rel).as_str() {
        "m3u8" | "m3u" => "application/vnd.apple.mpegurl",
        "m4s" | "mp4" | "m4v" | "cmfv" => "video/mp4",
        "m4a" | "cmfa" => "audio/mp4",
        "ts" | "m2ts" => "video/mp2t",
        "aac" => "audio/aac",
        "ac3" => "audio/ac3",
        "ec3" => "audio/eac3",
        "mp3" => "audio/mpeg",
        "webm" => "video/webm",
        "vtt" | "webvtt" => "text/vtt; charset=utf-8",
        "ttml" => "application/ttml+xml",
        "mpd" => "application/dash+xml",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "webp" => "image/webp",
        "avif" => "image/avif",
        // Keys, piece lists and whatever is not known.
        _ => "application/octet-stream",
    }
}

/// What a file counts as. Init sections are known from playlists, not by name.
pub(crate) fn kind(rel: &str, init: bool) -> Kind {
    match extension(rel).as_str() {
        "m3u8" | "m3u" => Kind::playlist,
        "pieces" => Kind::list,
        _ if init => Kind::init,
        "m4s" | "mp4" | "m4v" | "cmfv" | "m4a" | "cmfa" | "ts" | "m2ts" | "aac" | "ac3" | "ec3" | "mp3" | "webm"
        | "vtt" | "webvtt" => Kind::segment,
        _ => Kind::other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_leave_the_root_name_nothing() {
        for path in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            ".",
            "..",
            "a/../b",
            "a/%2e%2e/b",
            "%2E%2e/b",
            "a/.marea/x",
            ".hidden",
            "a%00",
            "a\\b",
            "a%5cb",
            "%ff",
            "v/marea.json",
            "a/%2e/b",
            "%2fetc/passwd",
            "a%2f%2fb",
        ] {
            assert_eq!(relative(path), None, "{path}");
        }
        assert_eq!(relative("a/b%20c/s%C3%A9.m4s").as_deref(), Some("a/b c/sé.m4s"));
        assert_eq!(relative("a%2fb").as_deref(), Some("a/b"));
        assert_eq!(relative("a..b/c...d").as_deref(), Some("a..b/c...d"));
    }
}
