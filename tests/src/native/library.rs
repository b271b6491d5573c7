//! The objects of a folder, found through its playlists and hashed from its files.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use marea_swarm::{
    Oid, Root,
    pieces::{Cv, ObjectHasher},
    playlist::{self, Locator, MediaPlaylist, Playlist},
};
use url::Url;

/// Why a folder is no library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No media playlist under it names a file.
    #[error("no media playlist under {0} names a file that is there")]
    Empty(PathBuf),
}

/// One object.
#[derive(Debug)]
pub struct Item {
    /// Its identity.
    pub root: Root,
    /// Its bytes.
    pub bytes: Bytes,
    /// Its piece list; one value for an object of one piece.
    pub list: Vec<Cv>,
}

/// Every object that the playlists of a folder name.
#[derive(Clone, Debug)]
pub struct Library {
    items: BTreeMap<Oid, Arc<Item>>,
    /// Playlists by NAME: the path from the folder of the multivariant one, which is the empty NAME.
    texts: BTreeMap<String, String>,
    video: Option<String>,
}

impl Library {
    /// Reads a playlist, or every playlist under a folder, and the files that they name. The objects are those of the
    /// files' bytes: tags need not be there, since `serve` adds them on the way out.
    pub fn load(path: &Path) -> Result<Self, LibraryError> {
        let mut library = Self { items: BTreeMap::new(), texts: BTreeMap::new(), video: None };
        // File URLs need an absolute path.
        let path = at(path, fs::canonicalize(path))?;
        library.scan(&path)?;
        if library.items.is_empty() { Err(LibraryError::Empty(path)) } else { Ok(library) }
    }

    /// `VIDEO` of the playlists' tags, if they have any.
    pub fn video(&self) -> Option<&str> {
        self.video.as_deref()
    }

    /// The objects, by oid.
    pub fn items(&self) -> impl ExactSizeIterator<Item = &Arc<Item>> {
        self.items.values()
    }

    /// The playlist of this NAME.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// The object with this oid.
    pub fn get(&self, oid: Oid) -> Option<&Arc<Item>> {
        self.items.get(&oid)
    }

    fn scan(&mut self, path: &Path) -> Result<(), LibraryError> {
        if path.is_dir() {
            for entry in at(path, fs::read_dir(path))? {
                self.scan(&at(path, entry)?.path())?;
            }
        } else if path.extension().is_some_and(|extension| extension == "m3u8") {
            self.playlist(path)?;
        }
        Ok(())
    }

    fn playlist(&mut self, path: &Path) -> Result<(), LibraryError> {
        let text = at(path, fs::read_to_string(path))?;
        let Ok(base) = Url::from_file_path(path) else { return Ok(()) };
        let resolve = |base: &str, reference: &str| Some(Url::parse(base).ok()?.join(reference).ok()?.into());
        let media = match playlist::parse(&text, base.as_str(), &resolve) {
            Ok(Playlist::Media(media)) => media,
            Ok(Playlist::Multivariant(list)) => {
                let media = list.variants.iter().map(|variant| Some(variant.url.as_str()));
                for url in media.chain(list.renditions.iter().map(|rendition| rendition.url.as_deref())).flatten() {
                    let child = Url::parse(url).ok();
                    if let Some(name) = child.as_ref().and_then(|child| base.make_relative(child))
                        && let Some(Ok(path)) = child.map(|child| child.to_file_path())
                    {
                        self.texts.insert(name, at(&path, fs::read_to_string(&path))?);
                    }
                }
                self.texts.insert(String::new(), text);
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        if let Some(tag) = &media.tag {
            self.video = Some(tag.video.clone());
        }
        for locator in locators(&media) {
            self.add(locator)?;
        }
        Ok(())
    }

    fn add(&mut self, locator: &Locator) -> Result<(), LibraryError> {
        let Some(path) = Url::parse(&locator.url).ok().and_then(|url| url.to_file_path().ok()) else { return Ok(()) };
        if !path.is_file() {
            return Ok(());
        }
        let mut bytes = Bytes::from(at(&path, fs::read(&path))?);
        if let Some(range) = locator.range {
            let end = usize::try_from(range.start + range.len).unwrap_or(usize::MAX);
            if end > bytes.len() {
                return Ok(());
            }
            bytes = bytes.slice(end - range.len as usize..end);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let mut hasher = ObjectHasher::new();
        hasher.update(&bytes);
        let hashed = hasher.finish();
        self.items.insert(hashed.root.oid(), Arc::new(Item { root: hashed.root, bytes, list: hashed.list }));
        Ok(())
    }
}

/// Everything that a playlist names, tagged or not.
fn locators(media: &MediaPlaylist) -> impl Iterator<Item = &Locator> {
    let maps = media.maps.iter().map(|map| &map.locator);
    let segments = media
        .segments
        .iter()
        .flat_map(|segment| std::iter::once(&segment.locator).chain(segment.parts.iter().map(|part| &part.locator)));
    maps.chain(segments).chain(media.trailing_parts.iter().map(|part| &part.locator))
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, LibraryError> {
    result.map_err(|source| LibraryError::Read { path: path.to_owned(), source })
}
