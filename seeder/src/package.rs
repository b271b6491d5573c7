//! `package`: makes an HLS ladder of a media file, ready to be served, tags and all.
//!
//! In the root each film gets a folder named after its file:
//!
//! ```text
//! tide/master.m3u8              replaced as a whole when there is more to show
//! tide/poster.jpg
//! tide/marea.json               the id of the video: it stays when the file is packaged anew
//! tide/.marea-source.json       what it was made of
//! tide/3f9a0c12/720p/…          one folder per rendition, whole or not there; named by the source's content, since
//!                               browsers keep segments for a year
//! ```
//!
//! A rendition is made in a hidden folder and renamed when it is whole, so a run that was killed goes on where it was.

mod encode;
mod ffmpeg;
mod ladder;
mod master;
mod probe;
mod slug;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    annotate::{AnnotateError, Mode, annotate},
    atomic,
    sign::Signer,
};

/// What a film's folder was made of; hidden, so never served.
const SOURCE_FILE: &str = ".marea-source.json";
/// Held while a root is packaged into.
const LOCK_FILE: &str = ".marea-package.lock";
/// Names of folders in the making begin so.
const PARTIAL: &str = ".marea-partial-";

/// Something to tell the operator.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PackageEvent {
    /// Work on a file begins; the renditions that it will get.
    Begun {
        /// As given.
        source: PathBuf,
        /// Name of its folder.
        slug: String,
        /// For instance `720p`.
        renditions: Vec<String>,
    },
    /// Part of a rendition is made.
    Progress {
        /// Name of the film's folder.
        slug: String,
        /// For instance `720p` or `audio-0`.
        rendition: String,
        /// 0 to 1.
        part: f64,
    },
    /// It can be played, with the renditions that are there.
    Published {
        /// Path of its multivariant playlist, relative to the root.
        playlist: String,
        /// How many renditions of the picture it has, and will have.
        renditions: (usize, usize),
    },
    /// Made earlier, from the same content.
    Unchanged {
        /// As given.
        source: PathBuf,
        /// Name of its folder.
        slug: String,
    },
}

impl fmt::Display for PackageEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun { source, slug, renditions } => {
                write!(f, "{}: to be {slug} in {}", source.display(), renditions.join(", "))
            }
            Self::Progress { slug, rendition, part } => write!(f, "{slug}: {rendition} {:.0} %", part * 100.0),
            Self::Published { playlist, renditions: (there, all) } if there == all => {
                write!(f, "{playlist}: published")
            }
            Self::Published { playlist, renditions: (there, all) } => {
                write!(f, "{playlist}: published with {there} of {all} renditions, the others follow")
            }
            Self::Unchanged { source, slug } => write!(f, "{}: {slug} is there already", source.display()),
        }
    }
}

/// Why a file cannot be packaged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}{}", path.display(), advice(source))]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else packages into this root.
    #[error("{}: another `package` is at work in this folder; wait for its end", .0.display())]
    Busy(PathBuf),
    /// ffmpeg or ffprobe is not there.
    #[error("{0} cannot be run: {1}. Install ffmpeg (Debian: apt-get install ffmpeg)")]
    NoFfmpeg(&'static str, io::Error),
    /// The file is no film that can be packaged.
    #[error("{}: {reason}", path.display())]
    Source {
        /// As given.
        path: PathBuf,
        /// In plain words.
        reason: String,
    },
    /// The tags could not be written.
    #[error(transparent)]
    Annotate(#[from] AnnotateError),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => ". Make room and run it again: what is whole is kept",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ". Name a folder that this user may write to"
        }
        _ => "",
    }
}

/// Adds the path to an error of the system.
fn at(path: &Path) -> impl FnOnce(io::Error) -> PackageError + '_ {
    |source| PackageError::Io { path: path.to_owned(), source }
}

/// What a folder was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    version: u32,
    /// File name of the source.
    name: String,
    /// Bytes.
    size: u64,
    /// Content folder: the start of the source's BLAKE3 hash.
    content: String,
    /// All renditions are there.
    complete: bool,
}

/// Packages one file into `root`: first one rendition that is quickly there, then all. `signaling` is written into the
/// playlists, `signer` signs them. Gives the path of the multivariant playlist, relative to `root`.
///
/// # Errors
/// [`PackageError`]. What was published before stays as it was; renditions that are whole are kept for the next run.
pub fn package(
    source: &Path,
    root: &Path,
    signaling: Option<&str>,
    signer: Option<&Signer>,
    report: &(dyn Fn(&PackageEvent) + Sync),
) -> Result<String, PackageError> {
    fs::create_dir_all(root).map_err(at(root))?;
    let _lock = lock(root)?;
    let refused = |reason: String| PackageError::Source { path: source.to_owned(), reason };
    let metadata = fs::metadata(source).map_err(at(source))?;
    if !metadata.is_file() {
        return Err(refused("it is not a file".to_owned()));
    }
    let name = source.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let content = fingerprint(source).map_err(at(source))?;
    let slug = slug_for(root, &name);
    let film = root.join(&slug);
    let playlist = format!("{slug}/{}", master::NAME);
    let earlier = made(&film);
    if earlier.as_ref().is_some_and(|made| made.complete && made.content == content) && film.join(master::NAME).exists()
    {
        report(&PackageEvent::Unchanged { source: source.to_owned(), slug });
        return Ok(playlist);
    }

    let probed = probe::probe(source)?;
    let plan = ladder::plan(&probed).map_err(refused)?;
    let renditions: Vec<String> = plan.video.iter().map(|rung| rung.name.clone()).collect();
    let total = renditions.len();
    report(&PackageEvent::Begun { source: source.to_owned(), slug: slug.clone(), renditions });
    let folder = film.join(&content);
    let mut made = Made { version: 1, name, size: metadata.len(), content: content.clone(), complete: false };
    if earlier.is_none() {
        // Whose folder it is must be known before there is anything in it.
        fs::create_dir_all(&film).map_err(at(&film))?;
        put_json(&film.join(SOURCE_FILE), &made)?;
    }
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    sweep(&folder).map_err(at(&folder))?;

    let work = encode::Work { source, probed: &probed, folder: &folder, slug: &slug, report };
    let publish = |there: usize, tracks: &encode::Tracks| {
        let text = master::text(&content, probed.video.fps, &plan, tracks, &folder).map_err(at(&folder))?;
        let path = film.join(master::NAME);
        atomic::replace(&path, text.as_bytes(), &path).map_err(at(&path))?;
        annotate(&film, signaling, signer, Mode::Write, &|_| {})?;
        report(&PackageEvent::Published { playlist: playlist.clone(), renditions: (there, total) });
        Ok::<_, PackageError>(())
    };
    let mut tracks = work.audio_and_subtitles()?;
    for (index, rung) in plan.in_order_of_work().enumerate() {
        tracks.video.push(work.video(rung, &plan)?);
        // A film that is on show already is not taken back to one rendition.
        if index == 0 && total > 1 && !film.join(master::NAME).exists() {
            work.poster(&film);
            publish(1, &tracks)?;
        }
    }
    if !film.join(encode::POSTER).exists() || earlier.is_some_and(|earlier| earlier.content != content) {
        work.poster(&film);
    }
    publish(total, &tracks)?;
    made.complete = true;
    put_json(&film.join(SOURCE_FILE), &made)?;
    remove_older(&film, &content);
    Ok(playlist)
}

/// Name of the folder in `root` that the file `name` has, or will get.
pub(crate) fn slug_for(root: &Path, name: &str) -> String {
    slug::free(name, |slug| match made(&root.join(slug)) {
        Some(made) => made.name == name,
        // An empty one is what a run left that was killed at its start.
        None => {
            fs::read_dir(root.join(slug)).map_or_else(|_| !root.join(slug).exists(), |mut all| all.next().is_none())
        }
    })
}

/// Held while a packager works in a root.
struct Lock(fs::File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that another thread forks just now, and that has not become its program yet, holds it too.
        let _ = rustix::fs::flock(&self.0, rustix::fs::FlockOperation::Unlock);
    }
}

/// One packager per root.
fn lock(root: &Path) -> Result<Lock, PackageError> {
    let path = root.join(LOCK_FILE);
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(PackageError::Busy(root.to_owned())),
        Err(error) => Err(PackageError::Io { path, source: error.into() }),
    }
}

/// The start of the content's hash.
fn fingerprint(source: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(source)?)?;
    Ok(hasher.finalize().to_hex()[..8].to_owned())
}

fn made(film: &Path) -> Option<Made> {
    let bytes = fs::read(film.join(SOURCE_FILE)).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|made: &Made| made.version == 1)
}

fn put_json(path: &Path, made: &Made) -> Result<(), PackageError> {
    let mut bytes = serde_json::to_vec_pretty(made).map_err(|error| at(path)(error.into()))?;
    bytes.push(b'\n');
    atomic::replace(path, &bytes, path).map_err(at(path))
}

/// Takes away what a killed run left half-made.
fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Takes away the renditions of an earlier content. What cannot be removed only takes room.
fn remove_older(film: &Path, content: &str) {
    let is_content = |name: &str| name.len() == content.len() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    for entry in fs::read_dir(film).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_content(&name)
            && name != content
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(%error, folder = %entry.path().display(), "an older version stays on the disk");
        }
    }
}
