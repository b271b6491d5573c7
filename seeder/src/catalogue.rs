//! What is known of the folder: playlists, the files they name, hashes, ids. Plain data; no I/O.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};

use crate::{
    answer::Packed,
    files::FileKey,
    hashes::FileHashes,
    index::{Item, Span},
    sign::{PublicKey, Signer},
};

/// A text as it is served.
pub(crate) struct Text {
    pub(crate) packed: Packed,
    pub(crate) etag: String,
}

impl Text {
    pub(crate) fn new(text: String) -> Self {
        let etag = format!("\"{}\"", &blake3::hash(text.as_bytes()).to_hex()[..32]);
        Self { packed: Packed::new(text.into()), etag }
    }
}

/// A playlist as it is served.
pub(crate) struct Built {
    pub(crate) whole: Text,
    /// What who has read it lately needs of it.
    pub(crate) delta: Option<Text>,
    /// `Cache-Control: max-age`, seconds.
    pub(crate) max_age: u64,
    /// The `SIGNALING` in it.
    pub(crate) signaling: Option<String>,
    /// Who signed it, and when it is to be signed again.
    pub(crate) signed: Option<(PublicKey, Instant)>,
    /// Files that are not hashed yet.
    pub(crate) pending: Vec<String>,
    /// A file that it names is not there.
    pub(crate) absent: bool,
    /// It waits for the newest of a live playlist.
    pub(crate) held_back: bool,
    /// What it lists, on live.
    pub(crate) listed: Option<Arc<Listed>>,
    pub(crate) at: Instant,
    /// When the files that it lists were looked at last.
    pub(crate) checked: Mutex<Instant>,
}

/// What a live playlist listed.
#[derive(Default)]
pub(crate) struct Listed {
    /// Number of its first segment.
    pub(crate) first: u64,
    /// Number after that of its last one.
    pub(crate) end: u64,
    /// Its segments, as [`Item::name`] has them.
    pub(crate) segments: HashSet<u64>,
    /// The content of the files for which it has tags.
    pub(crate) keys: Vec<(String, FileKey)>,
}

impl Built {
    /// Whether its signature, or that it has none, will do.
    pub(crate) fn is_signed_by(&self, signer: Option<&Signer>) -> bool {
        match (&self.signed, signer) {
            (Some((key, renew)), Some(signer)) => *key == signer.public() && Instant::now() < *renew,
            (signed, signer) => signed.is_none() && signer.is_none(),
        }
    }

    /// Bytes that it keeps, its compressed forms not counted.
    fn size(&self) -> usize {
        self.whole.packed.plain.len() + self.delta.as_ref().map_or(0, |delta| delta.packed.plain.len())
    }
}

/// What a playlist is.
pub(crate) enum Role {
    /// It names these playlists.
    Multivariant(Vec<String>),
    /// It names objects; `ended` if no more will come.
    Media { ended: bool },
    /// It is not tagged.
    Other,
}

pub(crate) struct Entry {
    pub(crate) key: FileKey,
    pub(crate) role: Role,
    /// Files that it names.
    files: Vec<String>,
    pub(crate) built: Option<Arc<Built>>,
    /// As in the last that was built.
    pub(crate) listed: Option<Arc<Listed>>,
}

#[derive(Default)]
struct Media {
    /// Playlist to the parts that it names, and whether it grows.
    users: HashMap<String, (BTreeSet<Span>, bool)>,
    /// Those that are init sections.
    inits: HashSet<Span>,
    hashes: Option<Arc<FileHashes>>,
    /// The content that could not be hashed.
    refused: Option<FileKey>,
}

impl Media {
    fn spans(&self) -> BTreeSet<Span> {
        self.users.values().flat_map(|(spans, _)| spans).copied().collect()
    }

    /// Whether a live playlist names parts of it: it then grows at its end, and what was there stays.
    fn grows(&self) -> bool {
        self.users.values().any(|(spans, growing)| *growing && spans.iter().any(Option::is_some))
    }

    fn fits(&self, hashes: &FileHashes, key: FileKey) -> bool {
        hashes.key == key || self.grows() && hashes.key.ino == key.ino && hashes.key.size <= key.size
    }
}

/// Whether a file's hashes are at hand.
pub(crate) enum Lookup {
    Hashed(Arc<FileHashes>),
    /// To be hashed.
    Pending,
    /// It cannot be.
    Refused,
}

/// What playlists say of a file that is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// It is an init section.
    pub(crate) init: bool,
    /// Its name holds the hash of its content.
    pub(crate) named_by_hash: bool,
    /// It is not what was hashed.
    pub(crate) changed: bool,
}

#[derive(Default)]
pub(crate) struct Catalogue {
    entries: HashMap<String, Entry>,
    media: HashMap<String, Media>,
    /// Folder to id.
    videos: HashMap<String, String>,
    /// Media playlist to the multivariant playlists that name it.
    parents: HashMap<String, BTreeSet<String>>,
    /// Bytes of all built playlists.
    built: usize,
    /// Files that a live playlist names and that are not there, and since when.
    missing: HashMap<String, Instant>,
}

impl Catalogue {
    pub(crate) fn entry(&self, playlist: &str) -> Option<&Entry> {
        self.entries.get(playlist)
    }

    pub(crate) fn playlists(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(playlist, entry)| (playlist.as_str(), entry))
    }

    /// Takes over what a playlist says now.
    pub(crate) fn set(&mut self, playlist: &str, key: FileKey, role: Role, items: &[Item]) {
        let listed = self.entries.get(playlist).and_then(|entry| entry.listed.clone());
        self.remove(playlist);
        let growing = matches!(role, Role::Media { ended: false });
        let mut files = Vec::new();
        for item in items {
            let media = self.media.entry(item.file.clone()).or_default();
            let (spans, _) = media.users.entry(playlist.to_owned()).or_insert_with(|| {
                files.push(item.file.clone());
                (BTreeSet::new(), growing)
            });
            spans.insert(item.span);
            if item.kind == marea_swarm::tags::ObjectKind::Map {
                media.inits.insert(item.span);
            }
        }
        if let Role::Multivariant(children) = &role {
            for child in children {
                self.parents.entry(child.clone()).or_default().insert(playlist.to_owned());
            }
        }
        self.entries.insert(playlist.to_owned(), Entry { key, role, files, built: None, listed });
    }

    /// Forgets a playlist. Hashes of its files stay until [`sweep`](Self::sweep): it may come back changed.
    pub(crate) fn remove(&mut self, playlist: &str) {
        let Some(entry) = self.entries.remove(playlist) else { return };
        self.built -= entry.built.map_or(0, |built| built.size());
        for file in &entry.files {
            if let Some(media) = self.media.get_mut(file) {
                media.users.remove(playlist);
            }
        }
        if let Role::Multivariant(children) = &entry.role {
            for child in children {
                if let Some(parents) = self.parents.get_mut(child) {
                    parents.remove(playlist);
                    if parents.is_empty() {
                        self.parents.remove(child);
                    }
                }
            }
        }
    }

    /// Forgets files that no playlist names.
    pub(crate) fn sweep(&mut self) {
        self.media.retain(|_, media| !media.users.is_empty());
        self.missing.retain(|file, _| self.media.contains_key(file));
    }

    /// For how long `file` has been missing.
    pub(crate) fn missing_for(&mut self, file: &str) -> Duration {
        self.missing.entry(file.to_owned()).or_insert_with(Instant::now).elapsed()
    }

    /// `file` is there.
    pub(crate) fn found(&mut self, file: &str) {
        self.missing.remove(file);
    }

    /// Whether `file` was missing when it was looked for last.
    pub(crate) fn is_missing(&self, file: &str) -> bool {
        self.missing.contains_key(file)
    }

    /// Another run of an encoder writes `playlist`: what it writes on with is not what was there.
    pub(crate) fn restarted(&mut self, playlist: &str) {
        for file in self.files_of(playlist) {
            if let Some(media) = self.media.get_mut(&file).filter(|media| media.grows()) {
                media.hashes = None;
            }
        }
    }

    /// Keeps a built playlist while there is room (`limit` bytes in all).
    pub(crate) fn keep(&mut self, playlist: &str, built: &Arc<Built>, limit: usize) {
        if self.built + built.size() > limit {
            self.entries.values_mut().for_each(|entry| entry.built = None);
            self.built = 0;
        }
        if let Some(entry) = self.entries.get_mut(playlist) {
            self.built += built.size();
            entry.listed.clone_from(&built.listed);
            if let Some(old) = entry.built.replace(Arc::clone(built)) {
                self.built -= old.size();
            }
        }
    }

    /// The first multivariant playlist that names `playlist`, else itself.
    pub(crate) fn main<'a>(&'a self, playlist: &'a str) -> &'a str {
        self.parents.get(playlist).and_then(BTreeSet::first).map_or(playlist, String::as_str)
    }

    /// The folder whose id `playlist` carries: that of its [`main`](Self::main).
    pub(crate) fn video_folder(&self, playlist: &str) -> String {
        folder(self.main(playlist)).to_owned()
    }

    pub(crate) fn video(&self, folder: &str) -> Option<&str> {
        self.videos.get(folder).map(String::as_str)
    }

    pub(crate) fn set_video(&mut self, folder: &str, video: &str) {
        self.videos.insert(folder.to_owned(), video.to_owned());
    }

    /// Hashes of `file`, whose content is `key` now.
    pub(crate) fn look_up(&self, file: &str, key: FileKey) -> Lookup {
        let Some(media) = self.media.get(file) else { return Lookup::Refused };
        match &media.hashes {
            Some(hashes) if media.fits(hashes, key) && hashes.covers(&media.spans()) => {
                Lookup::Hashed(Arc::clone(hashes))
            }
            _ if media.refused == Some(key) => Lookup::Refused,
            _ => Lookup::Pending,
        }
    }

    /// Hashes of content `key` of `file`, of some of its parts at least.
    pub(crate) fn fitting(&self, file: &str, key: FileKey) -> Option<Arc<FileHashes>> {
        let media = self.media.get(file)?;
        media.hashes.clone().filter(|hashes| media.fits(hashes, key))
    }

    /// What to hash of `file`, and what is known already of the same content. None if nobody names it any more.
    pub(crate) fn job(&self, file: &str, key: FileKey) -> Option<(BTreeSet<Span>, Option<Arc<FileHashes>>)> {
        let media = self.media.get(file)?;
        let old = self.fitting(file, key);
        let mut spans = media.spans();
        if let Some(old) = old.as_ref().filter(|_| media.grows()) {
            // Parts that left a live playlist keep their place, so that the lists of the others do not move.
            spans.extend(old.objects.iter().map(|(span, _)| *span));
        }
        Some((spans, old))
    }

    pub(crate) fn set_hashes(&mut self, file: &str, hashes: Arc<FileHashes>) {
        if let Some(media) = self.media.get_mut(file) {
            media.hashes = Some(hashes);
            media.refused = None;
        }
    }

    /// Takes over what was stored; what is known since is newer.
    pub(crate) fn offer_hashes(&mut self, file: &str, hashes: FileHashes) {
        if let Some(media) = self.media.get_mut(file).filter(|media| media.hashes.is_none()) {
            media.hashes = Some(Arc::new(hashes));
        }
    }

    /// Content `key` of `file` cannot be hashed.
    pub(crate) fn refuse(&mut self, file: &str, key: FileKey) {
        if let Some(media) = self.media.get_mut(file) {
            media.refused = Some(key);
        }
    }

    /// Hashes of `file`, of whatever content.
    pub(crate) fn hashes(&self, file: &str) -> Option<&Arc<FileHashes>> {
        self.media.get(file)?.hashes.as_ref()
    }

    /// Whether a multivariant playlist names `playlist`.
    pub(crate) fn has_parent(&self, playlist: &str) -> bool {
        self.parents.contains_key(playlist)
    }

    /// The files that a playlist names.
    pub(crate) fn files_of(&self, playlist: &str) -> Vec<String> {
        self.entries.get(playlist).map(|entry| entry.files.clone()).unwrap_or_default()
    }

    /// The files of a playlist that have hashes.
    pub(crate) fn hashes_of(&self, playlist: &str) -> Vec<(String, Arc<FileHashes>)> {
        let files = self.entries.get(playlist).map_or(&[][..], |entry| &entry.files);
        files.iter().filter_map(|file| Some((file.clone(), Arc::clone(self.hashes(file)?)))).collect()
    }

    /// What is known of `file` with content `key`, of which `range` is asked for.
    pub(crate) fn known(&self, file: &str, key: FileKey, range: Span) -> Known {
        let Some(media) = self.media.get(file) else { return Known::default() };
        let init = media.inits.contains(&None) || range.is_some() && media.inits.contains(&range);
        let Some(hashes) = &media.hashes else { return Known { init, ..Known::default() } };
        let fits = media.fits(hashes, key);
        let named_by_hash = hashes.key == key
            && hashes.whole().is_some_and(|root| {
                let name = file.rsplit('/').next().unwrap_or(file);
                name.contains(&HEXLOWER.encode(&root.0[..8])) || name.contains(&BASE64URL_NOPAD.encode(&root.0[..12]))
            });
        Known { init, named_by_hash, changed: !fits }
    }

    /// `file` changed: what was built of it no longer holds.
    pub(crate) fn invalidate(&mut self, file: &str) {
        let Some(media) = self.media.get_mut(file) else { return };
        media.hashes = None;
        let users: Vec<String> = media.users.keys().cloned().collect();
        for user in users {
            if let Some(entry) = self.entries.get_mut(&user) {
                self.built -= entry.built.take().map_or(0, |built| built.size());
            }
        }
    }

    /// Files with hashes, to be compared with the disk.
    pub(crate) fn hashed_files(&self) -> Vec<String> {
        self.media.iter().filter(|(_, media)| media.hashes.is_some()).map(|(file, _)| file.clone()).collect()
    }
}

/// The folder of a file: empty for the root.
pub(crate) fn folder(rel: &str) -> &str {
    rel.rsplit_once('/').map_or("", |(folder, _)| folder)
}
