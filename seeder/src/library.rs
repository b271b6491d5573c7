//! The folder as viewers see it: playlists with tags, piece lists, and which videos there are.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use bytes::Bytes;
use marea_signaling::AnnounceId;
use marea_swarm::{playlist::Playlist, tags::MareaTag};
use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    catalogue::{Built, Catalogue, Known, Lookup, Role, folder},
    compose::{finish, sealed},
    config::{Config, LIVE_HASH_WAIT, PENDING_REUSE, PLAYLIST_CACHE, PLAYLIST_REST, SEQUENCE_AHEAD, VOD_PLAYLIST_AGE},
    files::{FileKey, Opened, Root},
    hasher::{Hasher, Urgency},
    hashes::{HashError, hash_file},
    index::{self, Indexed, Site, Span},
    metrics::Metrics,
    revoked::{self, Revocation},
    sign::{self, Signer, Stamp},
    state::State,
    video, walk,
};

mod films;
mod media;
mod scan;

pub(crate) use films::{Change, Films};

/// A playlist, and whether it was at hand.
pub(crate) struct Tagged {
    pub(crate) built: Arc<Built>,
    pub(crate) hit: bool,
}

/// A `.pieces` file.
pub(crate) struct List {
    pub(crate) bytes: Bytes,
    pub(crate) etag: String,
}

pub(crate) struct Library {
    root: Root,
    site: Site,
    state: State,
    catalogue: RwLock<Catalogue>,
    /// The videos, as signaling knows them.
    announced: marea_signaling::Catalogue,
    hasher: Arc<Hasher>,
    metrics: Arc<Metrics>,
    /// Held while an id is made, so that none is made twice.
    naming: Mutex<()>,
    rescan: Notify,
    /// Number of walks that have ended.
    scans: watch::Sender<u64>,
    /// Who signs the playlists.
    signer: RwLock<Option<Signer>>,
    /// The URL of signaling that playlists name, unless it runs here.
    signaling: RwLock<Option<String>>,
    /// The SEQ up to which is noted on disk.
    noted: Mutex<u64>,
    /// Nothing is hashed ahead: piece lists lie beside the media.
    verbatim: bool,
    /// What was withdrawn.
    revoked: RwLock<Vec<Revocation>>,
    /// Told of each video when it is withdrawn.
    on_revoked: OnceLock<OnRevoked>,
}

/// See [`Library::on_revoked`].
type OnRevoked = Box<dyn Fn(&AnnounceId) + Send + Sync>;

impl Library {
    /// Begins to hash what is below `root`, and enters the videos found there into `announced`. Must be called within a
    /// tokio runtime.
    pub(crate) fn start(
        root: Root,
        state: PathBuf,
        config: &Config,
        metrics: Arc<Metrics>,
        announced: marea_signaling::Catalogue,
        signer: Option<Signer>,
    ) -> Arc<Self> {
        let state = State::new(state);
        let noted = state.sequence();
        if let Some(signer) = &signer {
            signer.raise(noted);
        }
        let library = Arc::new(Self {
            root,
            site: Site::served(config.public_url.as_ref().map(url::Url::as_str)),
            state,
            catalogue: RwLock::default(),
            announced,
            hasher: Arc::new(Hasher::new(Arc::clone(&metrics))),
            metrics,
            naming: Mutex::new(()),
            rescan: Notify::new(),
            scans: watch::channel(0).0,
            signer: RwLock::new(signer),
            signaling: RwLock::new(config.signaling.clone()),
            noted: Mutex::new(noted),
            verbatim: config.verbatim,
            revoked: RwLock::default(),
            on_revoked: OnceLock::new(),
        });
        // Before anything is served or announced.
        library.read_revoked();
        let weak = Arc::downgrade(&library);
        library.hasher.start(move |file| {
            if let Some(library) = weak.upgrade() {
                library.hash(file);
            }
        });
        tokio::spawn(scan::watch(Arc::downgrade(&library), config.rescan_interval));
        library
    }

    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Whether the folder has `rel`, or has what the piece list `rel` is made of.
    pub(crate) async fn has(&self, rel: &str) -> bool {
        if self.root.is_nowhere() {
            return false;
        }
        let (root, rel) = (self.root.clone(), rel.to_owned());
        let look = move || {
            root.resolve(&rel).is_ok() || rel.strip_suffix(".pieces").is_some_and(|object| root.resolve(object).is_ok())
        };
        // If it cannot be looked for, it is looked for again, and that says why.
        spawn_blocking(look).await.unwrap_or(true)
    }

    /// From now on playlists are signed by `signer`.
    pub(crate) fn set_signer(&self, signer: Option<Signer>) {
        let mut known = self.signer.write().unwrap_or_else(PoisonError::into_inner);
        if let (Some(known), Some(signer)) = (&*known, &signer) {
            signer.raise(known.last());
        }
        *known = signer;
    }

    /// Makes sure that no later run signs with a SEQ of `seq` or less.
    pub(crate) fn note(&self, seq: u64) {
        let mut noted = lock(&self.noted);
        if seq > *noted {
            *noted = seq.saturating_add(SEQUENCE_AHEAD);
            self.state.keep_sequence(*noted);
        }
    }

    pub(crate) fn signer(&self) -> Option<Signer> {
        self.signer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on playlists name this URL of signaling.
    pub(crate) fn set_signaling(&self, signaling: Option<String>) {
        *self.signaling.write().unwrap_or_else(PoisonError::into_inner) = signaling;
    }

    pub(crate) fn signaling(&self) -> Option<String> {
        self.signaling.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// URL paths of the playlists that no other one names: one for each video, and those that stand alone.
    pub(crate) fn mains(&self) -> Vec<String> {
        let catalogue = self.read();
        let tagged = catalogue.playlists().filter(|(_, entry)| !matches!(entry.role, Role::Other));
        let mains = tagged.filter(|(rel, _)| !catalogue.has_parent(rel)).map(|(rel, _)| self.site.path(rel));
        let mut mains: Vec<String> = mains.collect();
        mains.sort();
        mains
    }

    /// `hear` is told of videos that are withdrawn from now on.
    pub(crate) fn on_revoked(&self, hear: impl Fn(&AnnounceId) + Send + Sync + 'static) {
        let _ = self.on_revoked.set(Box::new(hear));
    }

    /// What was withdrawn.
    pub(crate) fn revoked(&self) -> Vec<Revocation> {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads again what was withdrawn. What was once stays so while this runs, also if the file goes bad.
    fn read_revoked(&self) {
        let read = match self.state.revoked() {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "the list of withdrawn videos cannot be read: mend revoked.json in the state folder");
                return;
            }
        };
        let before = revoked::ids(&self.revoked());
        let new: Vec<AnnounceId> = revoked::ids(&read).difference(&before).copied().collect();
        if new.is_empty() {
            return;
        }
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        revoked.extend(read.into_iter().filter(|item| item.video.parse().is_ok_and(|id| !before.contains(&id))));
        drop(revoked);
        for id in &new {
            self.announced.remove(id);
            if let Some(hear) = self.on_revoked.get() {
                hear(id);
            }
        }
    }

    /// Whether the file `rel` belongs to a video that was withdrawn.
    pub(crate) fn is_revoked(&self, rel: &str) -> bool {
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        if revoked.is_empty() {
            return false;
        }
        let catalogue = self.read();
        let mut holder = Some(catalogue.video_folder(rel));
        // Media belongs to the nearest folder above it that has an id.
        while let Some(here) = holder {
            if let Some(video) = catalogue.video(&here) {
                let id = AnnounceId::of_video(video).to_string();
                return revoked.iter().any(|item| item.video == id);
            }
            holder = (!here.is_empty()).then(|| folder(&here).to_owned());
        }
        false
    }

    /// Ready once the folder was walked for the first time.
    pub(crate) async fn first_scan(&self) {
        let _ = self.scans.subscribe().wait_for(|scans| *scans > 0).await;
    }

    /// Walks the folder again, soon.
    pub(crate) fn rescan(&self) {
        self.rescan.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.hasher.stop();
        self.rescan.notify_one();
    }

    /// What is not as it should be, for people.
    pub(crate) fn health(&self) -> String {
        let mut lines = vec!["ready".to_owned()];
        if self.state.is_broken() {
            lines.push("degraded: the state folder cannot be written".to_owned());
        }
        match self.hasher.backlog() {
            0 => {}
            files => lines.push(format!("hashing: {files} files")),
        }
        lines.join("\n")
    }

    /// What is known of a file that is asked for; a change of its content is noticed.
    pub(crate) fn touch(&self, file: &str, key: FileKey, range: Span) -> Known {
        let known = self.read().known(file, key, range);
        if known.changed {
            self.write().invalidate(file);
            self.hasher.submit(file, Urgency::Asked);
        }
        known
    }

    /// The piece lists of `file`; none if they are not known (yet) or it has none.
    pub(crate) async fn list(self: &Arc<Self>, file: &str) -> Option<List> {
        let (library, file) = (Arc::clone(self), file.to_owned());
        let read = move || {
            let key = library.root.key(&file).ok()?;
            // Also while the end of a growing file is being hashed: what was there keeps its place.
            let hashes = library.read().fitting(&file, key)?;
            match hashes.list() {
                Ok(list) => list,
                Err(error) => {
                    tracing::warn!(%error, "hashes are made anew");
                    library.write().invalidate(&file);
                    library.hasher.submit(&file, Urgency::Asked);
                    None
                }
            }
        };
        let bytes = spawn_blocking(read).await.ok()??;
        let etag = format!("\"{}\"", &blake3::hash(&bytes).to_hex()[..32]);
        Some(List { bytes, etag })
    }

    /// The playlist `rel` with its tags. None if it is none that is tagged, and is served as it is.
    pub(crate) async fn playlist(self: &Arc<Self>, rel: &str) -> io::Result<Option<Tagged>> {
        let tagged = self.build(rel).await?;
        let waits = |tagged: &&Tagged| tagged.built.held_back && !tagged.built.pending.is_empty();
        let Some(Tagged { built, .. }) = tagged.as_ref().filter(waits) else {
            return Ok(tagged);
        };
        // The newest segments were just written: a moment later they are hashed and can be listed.
        let (built, mut done) = (Arc::clone(built), self.hasher.watch());
        let hashed = async {
            while !self.all_hashed(&built.pending).await {
                if done.changed().await.is_err() {
                    break;
                }
            }
        };
        let _ = timeout(LIVE_HASH_WAIT, hashed).await;
        self.build(rel).await
    }

    async fn all_hashed(self: &Arc<Self>, files: &[String]) -> bool {
        let (library, files) = (Arc::clone(self), files.to_vec());
        let check = move || !files.iter().any(|file| matches!(library.look_up(file), Some(Lookup::Pending)));
        spawn_blocking(check).await.unwrap_or(true)
    }

    async fn build(self: &Arc<Self>, rel: &str) -> io::Result<Option<Tagged>> {
        let (library, rel) = (Arc::clone(self), rel.to_owned());
        spawn_blocking(move || library.build_now(&rel)).await.map_err(io::Error::other)?
    }

    /// The playlist `rel` as it is signed now, with what of it is hashed. None if it is not signed, or is of a video that was
    /// withdrawn. Looks at the disk.
    pub(crate) fn signed(&self, rel: &str) -> Option<Bytes> {
        if self.is_revoked(rel) {
            return None;
        }
        let Tagged { built, .. } = self.build_now(rel).ok().flatten()?;
        built.signed.is_some().then(|| built.whole.packed.plain.clone())
    }

    /// Blocks on the disk, never on hashing.
    fn build_now(&self, rel: &str) -> io::Result<Option<Tagged>> {
        let key = self.root.key(rel)?;
        let (signer, signaling) = (self.signer(), self.signaling());
        let catalogue = self.read();
        if let Some(entry) = catalogue.entry(rel).filter(|entry| entry.key == key) {
            if matches!(entry.role, Role::Other) {
                return Ok(None);
            }
            let fresh = |built: &&Arc<Built>| {
                let settled = built.pending.is_empty() && !built.absent || built.at.elapsed() < PENDING_REUSE;
                // One that is held back for a hash is only good for the one who asked.
                let usable = settled && (!built.held_back || built.pending.is_empty());
                usable && built.signaling == signaling && built.is_signed_by(signer.as_ref())
            };
            let built = entry.built.as_ref().filter(fresh).cloned();
            drop(catalogue);
            if let Some(built) = built.filter(|built| !self.is_stale(built)) {
                return Ok(Some(Tagged { built, hit: true }));
            }
        } else {
            drop(catalogue);
        }
        let Some(indexed) = self.register(rel)? else { return Ok(None) };
        self.adopt_parents(rel, &indexed.playlist);
        let video = self.video_of(rel, indexed.video.as_deref())?;
        let name = sign::name(self.read().main(rel), rel);
        let life = sign::life(&indexed.playlist);
        let stamp = signer.as_ref().map(|signer| Stamp::new(signer, &video, &name, life));
        if let Some(stamp) = &stamp {
            self.note(stamp.seq);
        }
        let head = MareaTag { video: video.clone(), signaling, complete: true };
        let mut built = match &indexed.playlist {
            Playlist::Multivariant(_) => {
                let signaling = head.signaling.clone();
                let text = index::insert(&indexed.text, head, Vec::new(), usize::MAX);
                finish(sealed(stamp.as_ref(), text), signaling, VOD_PLAYLIST_AGE)
            }
            Playlist::Media(list) => self.build_media(rel, &indexed, list, head, stamp.as_ref()),
        };
        // With half of its life left, it still is good for whoever gets it from a cache.
        built.signed = stamp.map(|stamp| (stamp.signer.public(), built.at + life / 2));
        let built = Arc::new(built);
        self.write().keep(rel, &built, PLAYLIST_CACHE);
        Ok(Some(Tagged { built, hit: false }))
    }

    /// Reads a playlist and notes what it names. None if it is none that is tagged.
    fn register(&self, rel: &str) -> io::Result<Option<Indexed>> {
        let (key, text) = self.read_playlist(rel)?;
        let indexed = text.and_then(|text| index::index(&text, rel, &self.site));
        let is_new = self.read().entry(rel).is_none();
        let mut catalogue = self.write();
        match &indexed {
            None => catalogue.set(rel, key, Role::Other, &[]),
            Some(Indexed { playlist: list @ Playlist::Multivariant(_), .. }) => {
                catalogue.set(rel, key, Role::Multivariant(index::children(list, &self.site)), &[]);
            }
            Some(Indexed { playlist: Playlist::Media(list), .. }) => {
                catalogue.set(rel, key, Role::Media { ended: list.ended }, &index::items(list, &self.site));
                drop(catalogue);
                if is_new {
                    for (file, hashes) in self.state.load(rel) {
                        self.write().offer_hashes(&file, hashes);
                    }
                }
            }
        }
        Ok(indexed)
    }

    /// The text of a playlist (none if it is no text), read while nobody wrote to it.
    fn read_playlist(&self, rel: &str) -> io::Result<(FileKey, Option<String>)> {
        let mut tries = 0;
        loop {
            let Opened { file, key, changed, age, .. } = self.root.open(rel)?;
            let text = index::read(file)?;
            tries += 1;
            // An encoder that writes in place: what was read may be cut.
            let cut = age == 0 && text.as_ref().is_some_and(|text| !text.ends_with('\n'));
            if changed.elapsed().is_ok_and(|age| age < PLAYLIST_REST) || cut && tries < 3 {
                std::thread::sleep(PLAYLIST_REST);
            }
            let same = self.root.key(rel).is_ok_and(|now| now == key);
            if same && !cut || tries >= 3 {
                return Ok((key, text));
            }
        }
    }

    /// Reads the playlists of the folders above a media playlist that nobody is known to name: one of them may.
    fn adopt_parents(&self, rel: &str, playlist: &Playlist) {
        if matches!(playlist, Playlist::Multivariant(_)) || self.read().has_parent(rel) {
            return;
        }
        let mut above = Some(folder(rel));
        while let Some(here) = above {
            for name in walk::playlists_in(&self.root, here) {
                let known = self.read().entry(&name).is_some();
                if !known && name != rel {
                    // Broken ones are noted as such.
                    let _ = self.register(&name);
                }
            }
            above = (!here.is_empty()).then(|| folder(here));
        }
    }

    /// The id that `rel` carries: kept by its folder, else the one it carried already, else a new one.
    fn video_of(&self, rel: &str, carried: Option<&str>) -> io::Result<String> {
        let folder = self.read().video_folder(rel);
        if let Some(video) = self.read().video(&folder) {
            return Ok(video.to_owned());
        }
        let _naming = lock(&self.naming);
        if let Some(video) = self.known_video(&folder) {
            return Ok(video);
        }
        let video = match carried.filter(|video| video::is_usable(video)) {
            Some(video) => video.to_owned(),
            None => video::random()?,
        };
        let path = self.root.path().join(&folder);
        let video = match video::store(&path, &video) {
            Ok(()) => video,
            // Another process was faster, or the file is there and says something else (which was reported).
            Err(error) => match video::load(&path) {
                Ok(Some(video)) => video,
                _ if self.state.keep_video(&folder, &video) => video,
                _ => {
                    tracing::warn!(%error, "no place to keep the id of a video: it changes with the next start");
                    video
                }
            },
        };
        self.announce(&folder, &video);
        Ok(video)
    }

    /// The id of the video in `folder`; if it has none yet, that of `make`.
    pub(crate) fn video_in(&self, folder: &str, make: impl FnOnce() -> String) -> String {
        self.known_video(folder).unwrap_or_else(|| {
            let video = make();
            self.announce(folder, &video);
            video
        })
    }

    fn announce(&self, folder: &str, video: &str) {
        self.write().set_video(folder, video);
        let id = AnnounceId::of_video(video);
        if !revoked::ids(&self.revoked()).contains(&id) {
            self.announced.insert(id);
        }
    }

    /// The id of a folder, if it has one; from then on it is known.
    fn known_video(&self, folder: &str) -> Option<String> {
        if let Some(video) = self.read().video(folder) {
            return Some(video.to_owned());
        }
        let video = match video::load(&self.root.path().join(folder)) {
            Ok(video) => video,
            Err(error) => {
                tracing::warn!(%error, folder, "marea.json cannot be used: mend or delete it");
                None
            }
        };
        let video = video.or_else(|| self.state.videos().remove(folder))?;
        self.announce(folder, &video);
        Some(video)
    }

    fn look_up(&self, file: &str) -> Option<Lookup> {
        let key = self.root.key(file).ok()?;
        Some(self.read().look_up(file, key))
    }

    /// Hashes one file; runs on a thread of the hasher.
    fn hash(&self, file: &str) {
        let Ok(path) = self.root.resolve(file) else { return };
        let Ok(key) = self.root.key(file) else { return };
        let job = self.read().job(file, key);
        let Some((spans, old)) = job else { return };
        if old.as_ref().is_some_and(|old| old.key == key && old.covers(&spans)) {
            return;
        }
        let progress = |bytes| {
            self.metrics.hashed_bytes.inc_by(bytes);
            !self.hasher.is_stopped()
        };
        match hash_file(&path, &spans, old.as_deref(), &progress) {
            Ok(hashes) => self.write().set_hashes(file, Arc::new(hashes)),
            // Whoever asks for it next asks for its hash again.
            Err(HashError::Unstable | HashError::Stopped) => {}
            Err(HashError::Io(error)) => {
                tracing::warn!(%error, file, "cannot be hashed, so it is not shared");
                self.write().refuse(file, key);
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Catalogue> {
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Catalogue> {
        self.catalogue.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
