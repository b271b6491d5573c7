//! `mirror`: copies videos of another site and keeps them, checked byte for byte against its signed playlists.
//!
//! The copy lies below the root as it lies at its origin, host first (`edge.example/videos/tide/master.m3u8`), playlists as they
//! were signed. So it can be served by anything, and needs no trust: whoever takes it checks it as this did.
//!
//! A video is listed last: media first, then its media playlists, then the multivariant one. Each file is there whole or not at
//! all, and what a killed run left is hashed again, so a run can be stopped anywhere.

mod fetch;
mod files;
mod shelf;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, fs, io,
    path::PathBuf,
};

use http::StatusCode;
use marea_signaling::AnnounceId;
use marea_swarm::{
    ids::MAX_PLAYLIST_SIZE,
    playlist::{self, MediaPlaylist, Playlist},
    tags::{SignatureTag, Tag},
};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    files::{FileKey, relative},
    index::{self, Site},
    keys::KeyState,
    sign::{self, Expected, PublicKey, SignatureError, name, now_ms, verify},
    video,
    well_known::{self, Document},
};
use fetch::Fetcher;
use files::Wanted;

pub use fetch::FetchError;

/// Longest `/.well-known/marea` that is read.
const MAX_DOCUMENT: u64 = 4 * 1024 * 1024;

/// What a mirror remembers, hidden in its root.
const STATE_FILE: &str = ".marea-mirror.json";

/// What to mirror.
#[derive(Clone, Debug)]
pub struct MirrorPlan {
    /// Playlists, or sites (all that they list).
    pub urls: Vec<Url>,
    /// Folder for the copies.
    pub root: PathBuf,
    /// Keys that are trusted. If none, those that each origin names when it is first met.
    pub keys: Vec<PublicKey>,
    /// Most bytes of all copies.
    pub disk: Option<u64>,
}

/// What became of one video.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is here, as its origin has it.
    Whole {
        /// Files that it is made of, its playlists not counted.
        files: usize,
        /// Bytes of them.
        bytes: u64,
        /// Bytes that had to be fetched now.
        fetched: u64,
    },
    /// It would be copied ([`Mirror::look`]).
    Wanted {
        /// Files.
        files: usize,
        /// Bytes.
        bytes: u64,
    },
    /// Its origin has withdrawn it: it is deleted here.
    Dropped,
}

/// A line for people.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { files, bytes, fetched: 0 } => write!(f, "whole: {files} files, {bytes} bytes, nothing new"),
            Self::Whole { files, bytes, fetched } => {
                write!(f, "whole: {files} files, {bytes} bytes, {fetched} of them new")
            }
            Self::Wanted { files, bytes } => write!(f, "to be copied: {files} files, {bytes} bytes"),
            Self::Dropped => write!(f, "withdrawn by its origin, deleted here"),
        }
    }
}

/// Why a video is not copied. What is here of it already stays, as long as its signatures count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// The origin did not give something.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A playlist is not what its owner signed.
    #[error("{url} is refused: {source}")]
    Signature {
        /// The playlist.
        url: String,
        /// What is wrong with it.
        source: SignatureError,
    },
    /// A playlist that cannot be mirrored.
    #[error("{url} cannot be mirrored: {reason}")]
    Playlist {
        /// The playlist.
        url: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The origin's bytes are not those that the playlist names.
    #[error("{url}: these are not the bytes that the signed playlist names")]
    WrongBytes {
        /// The file.
        url: String,
    },
    /// Its owner has withdrawn it, signed.
    #[error("{url} was withdrawn by its owner")]
    Revoked {
        /// The playlist.
        url: String,
    },
    /// The origin names no key.
    #[error("{site} names no key at {}: give one by --public-key, or have its owner sign", well_known::PATH)]
    NoKey {
        /// The site.
        site: String,
    },
    /// There is no room.
    #[error("{url} needs {bytes} bytes, and --disk leaves {left}")]
    Full {
        /// The playlist.
        url: String,
        /// Bytes.
        bytes: u64,
        /// Bytes.
        left: u64,
    },
    /// The month is used up.
    #[error("{url} needs {bytes} bytes more, and --monthly leaves {left} of this month")]
    Month {
        /// The file that did not fit any more.
        url: String,
        /// Its bytes.
        bytes: u64,
        /// Bytes.
        left: u64,
    },
    /// A file cannot be written.
    #[error("{}: {source}. What is whole is kept; run it again once this is mended", path.display())]
    Disk {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What is remembered between runs. The playlists themselves say the rest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Memory {
    /// Keys that an origin named when it was first met, less those that it retired since.
    keys: BTreeMap<String, Vec<PublicKey>>,
    /// Highest SEQ seen, by key, video and name: also of what is not here any more.
    highest: BTreeMap<String, u64>,
    /// Playlists that were put down here, with the URL of the multivariant one: nothing else in the root is ever deleted.
    lists: BTreeMap<String, String>,
}

/// A mirror.
pub struct Mirror {
    plan: MirrorPlan,
    memory: Memory,
    /// Files whose bytes were checked in this run, with the hash of what was wanted of them.
    checked: HashMap<PathBuf, (FileKey, u64)>,
    /// Most bytes of media that may still be fetched.
    allowed: u64,
    /// Bytes of media that were fetched, by all runs.
    fetched: u64,
}

/// A playlist that was fetched and verified.
struct List {
    url: Url,
    rel: String,
    text: String,
    tag: SignatureTag,
    name: String,
    parsed: Playlist,
}

/// A video that was looked at: all that is to be here.
struct Found {
    video: String,
    /// The multivariant playlist last.
    lists: Vec<List>,
    files: BTreeMap<String, Wanted>,
}

impl Found {
    fn bytes(&self) -> u64 {
        self.files.values().map(Wanted::len).fold(0, u64::saturating_add)
    }
}

impl Mirror {
    /// Makes the root and reads what is remembered.
    ///
    /// # Errors
    /// The root cannot be made or read.
    pub fn new(plan: MirrorPlan) -> io::Result<Self> {
        fs::create_dir_all(&plan.root)?;
        let memory = match fs::read(plan.root.join(STATE_FILE)) {
            // Never begun anew in silence: then an older playlist would count again.
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Memory::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { plan, memory, checked: HashMap::new(), allowed: u64::MAX, fetched: 0 })
    }

    /// Most bytes of media that are fetched from now on; what does not fit is left for later.
    pub fn allow(&mut self, bytes: u64) {
        self.allowed = bytes;
    }

    /// Bytes of media that were fetched since it was made.
    #[must_use]
    pub fn fetched(&self) -> u64 {
        self.fetched
    }

    /// Looks at every video and says what would be copied; writes nothing.
    pub async fn look(&mut self) -> Vec<(Url, Result<Outcome, MirrorError>)> {
        self.pass(false).await
    }

    /// Copies what is new or changed, deletes what was withdrawn.
    pub async fn run(&mut self) -> Vec<(Url, Result<Outcome, MirrorError>)> {
        self.pass(true).await
    }

    async fn pass(&mut self, write: bool) -> Vec<(Url, Result<Outcome, MirrorError>)> {
        let mut outcomes = Vec::new();
        let mut left = self.plan.disk.unwrap_or(u64::MAX);
        for url in self.plan.urls.clone() {
            let videos = if is_playlist(&url) { Ok(vec![url.clone()]) } else { self.catalogue(&url).await };
            match videos {
                Err(error) => outcomes.push((url, Err(error))),
                Ok(videos) => {
                    for video in videos {
                        let outcome = self.video(&video, write, &mut left).await;
                        outcomes.push((video, outcome));
                    }
                }
            }
        }
        if write {
            self.expire();
        }
        outcomes
    }

    /// The playlists that a site lists, and those of it that are here already.
    async fn catalogue(&self, site: &Url) -> Result<Vec<Url>, MirrorError> {
        let document = document(&mut Fetcher::new(site), site).await?;
        let refused = |reason: &str| MirrorError::Playlist { url: site.to_string(), reason: reason.to_owned() };
        let listed = document
            .videos
            .ok_or_else(|| refused("it lists no videos: name playlists, or have its owner set --list-videos"))?;
        let listed = listed.iter().filter_map(|path| site.join(path).ok());
        // What it lists no more may have been withdrawn.
        let urls = listed.chain(self.memory.lists.values().filter_map(|url| url.parse().ok()));
        let urls: BTreeSet<Url> = urls.filter(|url| url.origin() == site.origin() && is_playlist(url)).collect();
        Ok(urls.into_iter().collect())
    }

    async fn video(&mut self, url: &Url, write: bool, left: &mut u64) -> Result<Outcome, MirrorError> {
        let mut fetcher = Fetcher::new(url);
        let found = match self.find(&mut fetcher, url).await {
            Ok(found) => found,
            Err(MirrorError::Fetch(error)) if write && self.is_withdrawn(&mut fetcher, url, &error).await => {
                self.drop_video(url)?;
                return Ok(Outcome::Dropped);
            }
            Err(MirrorError::Revoked { .. }) if write => {
                self.drop_video(url)?;
                return Ok(Outcome::Dropped);
            }
            Err(error) => return Err(error),
        };
        let (files, bytes) = (found.files.len(), found.bytes());
        if bytes > *left {
            return Err(MirrorError::Full { url: url.to_string(), bytes, left: *left });
        }
        *left -= bytes;
        if !write {
            return Ok(Outcome::Wanted { files, bytes });
        }
        let mut fetched = 0;
        for (rel, wanted) in &found.files {
            let path = self.plan.root.join(rel);
            let stamp = fingerprint(wanted);
            let known = self.checked.get(&path).copied();
            if known.is_some() && known == fs::metadata(&path).ok().map(|metadata| (FileKey::of(&metadata), stamp)) {
                continue;
            }
            if wanted.len() > self.allowed && !path.exists() {
                return Err(MirrorError::Month {
                    url: wanted.url.to_string(),
                    bytes: wanted.len(),
                    left: self.allowed,
                });
            }
            let copied = files::copy(&mut fetcher, path.clone(), wanted).await?;
            fetched += copied.fetched;
            self.fetched += copied.fetched;
            self.allowed = self.allowed.saturating_sub(copied.fetched);
            self.checked.insert(path, (copied.key, stamp));
        }
        self.publish(&found)?;
        Ok(Outcome::Whole { files, bytes, fetched })
    }

    /// Fetches and verifies all playlists of a video.
    async fn find(&mut self, fetcher: &mut Fetcher, url: &Url) -> Result<Found, MirrorError> {
        let document = document(fetcher, url).await;
        let revoked = document.as_ref().map(|document| document.revoked.clone()).unwrap_or_default();
        let keys = self.keys(document, url)?;
        let limit = MAX_PLAYLIST_SIZE as u64;
        let (main_url, bytes) = fetcher.text(url, limit).await?;
        let refused =
            |url: &Url, reason: &str| MirrorError::Playlist { url: url.to_string(), reason: reason.to_owned() };
        let main_rel = place(&main_url).ok_or_else(|| refused(&main_url, "its path cannot be that of a file"))?;
        let text = String::from_utf8(bytes).map_err(|_| refused(&main_url, "it is no text"))?;
        let own = text.lines().find_map(|line| match Tag::parse(line.trim()) {
            Some(Ok(Tag::Marea(tag))) => Some(tag.video),
            _ => None,
        });
        let video =
            own.ok_or_else(|| refused(&main_url, "it has no tags: serve it with marea-seeder, or annotate it"))?;
        // Another video in the place of this one would be put before everybody who watches this one.
        let here = self.plan.root.join(&main_rel);
        if let Ok(Some(known)) = video::load(here.parent().unwrap_or(&self.plan.root))
            && known != video
        {
            return Err(MirrorError::Signature { url: main_url.into(), source: SignatureError::ForeignVideo });
        }
        let id = AnnounceId::of_video(&video).to_string();
        if revoked.iter().any(|revoked| revoked.video == id && revoked.is_signed_by(&keys)) {
            return Err(MirrorError::Revoked { url: main_url.into() });
        }
        let main = self.list(&main_url, &main_rel, &main_rel, &video, &keys, text)?;
        let mut lists = Vec::new();
        if let Playlist::Multivariant(list) = &main.parsed {
            let mut urls: Vec<&str> = list.variants.iter().map(|variant| variant.url.as_str()).collect();
            urls.extend(list.renditions.iter().filter_map(|rendition| rendition.url.as_deref()));
            urls.sort_unstable();
            urls.dedup();
            let relative = index::children(&parse_at(&main)?, &Site::anywhere());
            for child in urls {
                let child = Url::parse(child).map_err(|_| refused(&main_url, "a rendition has no URL"))?;
                let rel = place(&child).filter(|rel| child.origin() == main_url.origin() && relative.contains(rel));
                let rel = rel.ok_or_else(|| {
                    refused(&main_url, &format!("it names {child}, not by a relative path below the same host"))
                })?;
                let (_, bytes) = fetcher.text(&child, limit).await?;
                let text = String::from_utf8(bytes).map_err(|_| refused(&child, "it is no text"))?;
                lists.push(self.list(&child, &rel, &main_rel, &video, &keys, text)?);
            }
        }
        lists.push(main);
        let mut files = BTreeMap::new();
        for list in &lists {
            if let Playlist::Media(media) = &list.parsed {
                add_files(&mut files, list, media)?;
            }
        }
        Ok(Found { video, lists, files })
    }

    /// Verifies one playlist.
    fn list(
        &self,
        url: &Url,
        rel: &str,
        main: &str,
        video: &str,
        keys: &[PublicKey],
        text: String,
    ) -> Result<List, MirrorError> {
        let name = name(main, rel);
        let signed_by = sign::split(&text).and_then(|(_, tag)| tag.ok()).map(|tag| PublicKey(tag.key));
        let highest = signed_by.and_then(|key| Some((key, *self.memory.highest.get(&line(key, video, &name))?)));
        let expected = Expected { video, name: &name, keys, now: now_ms(), highest };
        let tag = verify(&text, &expected).map_err(|source| MirrorError::Signature { url: url.to_string(), source })?;
        let resolve = |base: &str, reference: &str| Some(Url::parse(base).ok()?.join(reference).ok()?.to_string());
        let parsed = playlist::parse(&text, url.as_str(), &resolve)
            .map_err(|error| MirrorError::Playlist { url: url.to_string(), reason: error.to_string() })?;
        Ok(List { url: url.clone(), rel: rel.to_owned(), text, tag, name, parsed })
    }

    /// The keys that are trusted for what is at `url`.
    fn keys(&mut self, document: Result<Document, MirrorError>, url: &Url) -> Result<Vec<PublicKey>, MirrorError> {
        if !self.plan.keys.is_empty() {
            return Ok(self.plan.keys.clone());
        }
        let site = url.origin().ascii_serialization();
        let known = self.memory.keys.get(&site).cloned();
        // Without an answer, what is known still holds: the origin may be dead, and asked for nothing else.
        let document = match (document, &known) {
            (Ok(document), _) => document,
            (Err(_), Some(known)) => return Ok(known.clone()),
            (Err(error), None) => return Err(error),
        };
        let in_state = |retired: bool| {
            let keys = document.keys.iter().filter(move |key| (key.state == KeyState::Retired) == retired);
            keys.map(|key| key.key).collect::<Vec<_>>()
        };
        let retired = in_state(true);
        let keys: Vec<PublicKey> =
            known.unwrap_or_else(|| in_state(false)).into_iter().filter(|key| !retired.contains(key)).collect();
        if keys.is_empty() {
            return Err(MirrorError::NoKey { site: url.to_string() });
        }
        self.memory.keys.insert(site, keys.clone());
        Ok(keys)
    }

    /// Whether a site that is well does not give the playlist any more. A broken server answers 404 too, so that alone is
    /// not enough; 410 is.
    async fn is_withdrawn(&self, fetcher: &mut Fetcher, url: &Url, error: &FetchError) -> bool {
        match error.status() {
            Some(StatusCode::GONE) => true,
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) => {
                document(fetcher, url).await.is_ok()
            }
            _ => false,
        }
    }
}

/// What the highest SEQ is kept for.
fn line(key: PublicKey, video: &str, name: &str) -> String {
    format!("{key} {video} {name}")
}

fn is_playlist(url: &Url) -> bool {
    crate::files::is_playlist(url.path())
}

/// Where the file at `url` lies below the root: host, then path. None for a path that could lead elsewhere.
fn place(url: &Url) -> Option<String> {
    let host = url.host_str()?.trim_matches(['[', ']']).replace(':', "_");
    let host = match url.port() {
        Some(port) => format!("{host}_{port}"),
        None => host,
    };
    relative(&format!("{host}{}", url.path()))
}

fn parse_at(list: &List) -> Result<Playlist, MirrorError> {
    parse(&list.text, &list.rel)
}

/// A playlist as it is read where the copy lies: only what is named by relative paths is found there.
fn parse(text: &str, rel: &str) -> Result<Playlist, MirrorError> {
    let resolve = |base: &str, reference: &str| Some(Url::parse(base).ok()?.join(reference).ok()?.to_string());
    playlist::parse(text, &Site::anywhere().url(rel), &resolve)
        .map_err(|error| MirrorError::Playlist { url: rel.to_owned(), reason: error.to_string() })
}

/// Adds what a media playlist names.
fn add_files(files: &mut BTreeMap<String, Wanted>, list: &List, media: &MediaPlaylist) -> Result<(), MirrorError> {
    let url = &list.url;
    let refused = |reason: &str| Err(MirrorError::Playlist { url: url.to_string(), reason: reason.to_owned() });
    if !media.ended {
        return refused("it is live, and only films are mirrored");
    }
    let complete = media.tag.as_ref().is_some_and(|tag| tag.complete);
    let here: Vec<_> = match parse_at(list)? {
        Playlist::Media(here) => index::items(&here, &Site::anywhere()).into_iter().map(|item| item.file).collect(),
        Playlist::Multivariant(_) => Vec::new(),
    };
    let segments = media.segments.iter().filter(|segment| !segment.gap);
    let named = segments.map(|segment| (&segment.locator, segment.object));
    let named = named.chain(media.maps.iter().map(|map| (&map.locator, map.object)));
    for (locator, object) in named {
        let Some(object) = object.filter(|_| complete) else {
            return refused("not all of its segments have a hash (yet): try again later");
        };
        let place = Url::parse(&locator.url).ok().and_then(|url| Some((place(&url)?, url)));
        let Some((rel, at)) = place.filter(|(rel, at)| at.origin() == url.origin() && here.contains(rel)) else {
            return refused(&format!("it names {}, not by a relative path below the same host", locator.url));
        };
        let wanted = files.entry(rel).or_insert_with(|| Wanted { url: at, parts: BTreeMap::new() });
        let span = locator.range.map(|range| (range.start, range.len));
        if wanted.parts.insert(span, object).is_some_and(|other| other.root != object.root) {
            return refused("two playlists name different bytes at one place");
        }
    }
    Ok(())
}

/// A number for what is wanted of a file.
fn fingerprint(wanted: &Wanted) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    wanted.parts.iter().for_each(|(span, object)| (span, object.root, object.size, object.list_at).hash(&mut hasher));
    hasher.finish()
}

/// What a site says of itself.
async fn document(fetcher: &mut Fetcher, url: &Url) -> Result<Document, MirrorError> {
    let mut site = url.clone();
    site.set_path(well_known::PATH);
    site.set_query(None);
    let (site, bytes) = fetcher.text(&site, MAX_DOCUMENT).await?;
    let document: Document = serde_json::from_slice(&bytes).map_err(|error| FetchError::Broken {
        url: site.to_string(),
        reason: format!("it is not what marea-seeder answers there ({error})"),
    })?;
    if document.version != well_known::VERSION {
        let reason = format!("its version is {}, this program reads {}", document.version, well_known::VERSION);
        return Err(FetchError::Broken { url: site.into(), reason }.into());
    }
    Ok(document)
}
