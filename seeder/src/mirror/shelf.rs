//! What of a mirrored video is served, and what is taken down again: playlists put down last and taken away first.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
};

use marea_swarm::playlist::Playlist;
use url::Url;

use super::{Found, Mirror, MirrorError, STATE_FILE, files, line, parse, place};
use crate::{
    atomic,
    files::ID_FILE,
    index::{self, Site},
    peer::{Film, Part, TextAt},
    sign::{self, PublicKey, name, now_ms},
    video,
};

impl Mirror {
    /// Puts the playlists of a video down, all of whose media is here.
    pub(super) fn publish(&mut self, found: &Found) -> Result<(), MirrorError> {
        let root = self.plan.root.clone();
        let put = |path: PathBuf, bytes: &[u8]| {
            if fs::read(&path).is_ok_and(|old| old == bytes) {
                return Ok(());
            }
            let folder = path.parent().unwrap_or(&root);
            let written = fs::create_dir_all(folder).and_then(|()| atomic::replace(&path, bytes, &path));
            written.map_err(|source| MirrorError::Disk { path, source })
        };
        let main = found.lists.last().map(|main| main.url.to_string());
        for list in &found.lists {
            let highest =
                self.memory.highest.entry(line(PublicKey(list.tag.key), &found.video, &list.name)).or_default();
            *highest = list.tag.seq.max(*highest);
            self.memory.lists.extend(main.clone().map(|main| (list.rel.clone(), main)));
        }
        // What must never be forgotten comes before what is shown.
        self.save()?;
        if let Some(main) = found.lists.last() {
            let folder = root.join(&main.rel).with_file_name("");
            match video::load(&folder) {
                Ok(Some(_)) => {}
                _ => video::store(&folder, &found.video)
                    .map_err(|source| MirrorError::Disk { path: folder.join(ID_FILE), source })?,
            }
        }
        for list in &found.lists {
            let path = root.join(&list.rel);
            put(path.clone(), list.text.as_bytes())?;
            // One that had expired.
            let _ = fs::remove_file(files::partial(&path));
        }
        Ok(())
    }

    /// The videos that are here whole and whose signatures count, for a [`Peer`](crate::Peer) to share. Looks at the disk.
    pub fn films(&self) -> Vec<Film> {
        let mut films: BTreeMap<String, Film> = BTreeMap::new();
        for (rel, main) in &self.memory.lists {
            // One that was taken down, since its signature has expired or its video was withdrawn, is not there.
            let path = self.plan.root.join(rel);
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let Ok(playlist) = parse(&text, rel) else { continue };
            let Some(tag) = playlist.tag() else { continue };
            let film = films.entry(tag.video.clone()).or_insert_with(|| Film {
                video: tag.video.clone(),
                lists: Vec::new(),
                parts: Vec::new(),
                texts: HashMap::new(),
            });
            if let Some(main) = Url::parse(main).ok().as_ref().and_then(place) {
                film.texts.insert(name(&main, rel), TextAt::File(path));
            }
            let Playlist::Media(media) = playlist else { continue };
            for (locator, object) in media.locators() {
                let Some(file) = Site::anywhere().file(&locator.url) else { continue };
                let path = self.plan.root.join(&file);
                let start = locator.range.map_or(0, |range| range.start);
                match Part::find(locator, object, &path, start, &files::pieces(&path)) {
                    Ok(part) => film.parts.push(part),
                    // It was checked when it was copied, and will be again: the next pass mends it.
                    Err(error) => tracing::warn!(path = %path.display(), %error, "it is not shared"),
                }
            }
            film.lists.push(media.into());
        }
        films.into_values().collect()
    }

    /// Takes down what must not be given on any more: a signature on it has expired. Media stays: a new one may come.
    pub(super) fn expire(&self) {
        let now = now_ms();
        for rel in self.memory.lists.keys() {
            let path = self.plan.root.join(rel);
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let counts = sign::split(&text).is_some_and(|(_, tag)| tag.is_ok_and(|tag| tag.expires > now));
            if !counts && hide(&path).is_ok() {
                tracing::warn!(
                    playlist = rel,
                    "its signature has expired: it is not served until its origin signs anew"
                );
            }
        }
    }

    /// Deletes the copy of a video: its playlists first, so that nothing names what is gone.
    pub(super) fn drop_video(&mut self, url: &Url) -> Result<(), MirrorError> {
        let Some(rel) = place(url).filter(|rel| self.memory.lists.contains_key(rel)) else { return Ok(()) };
        let root = self.plan.root.clone();
        // Hidden, it tells a run after one that was killed here what is left to delete.
        hide(&root.join(&rel))?;
        let site = Site::anywhere();
        let read = |rel: &str| {
            let path = root.join(rel);
            let text = fs::read_to_string(&path).or_else(|_| fs::read_to_string(files::partial(&path))).ok()?;
            parse(&text, rel).ok()
        };
        let mut lists = read(&rel).map(|main| index::children(&main, &site)).unwrap_or_default();
        lists.push(rel.clone());
        let mut gone: Vec<String> = Vec::new();
        for list in &lists {
            if let Some(Playlist::Media(media)) = read(list) {
                gone.extend(index::items(&media, &site).into_iter().map(|item| item.file));
            }
        }
        gone.push(folder_file(&rel, ID_FILE));
        // What names others comes after them.
        for rel in gone.iter().chain(&lists) {
            let path = root.join(rel);
            self.checked.remove(&path);
            for path in [files::pieces(&path), files::partial(&path), path.clone()] {
                match fs::remove_file(&path) {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        return Err(MirrorError::Disk { path, source });
                    }
                    _ => {}
                }
            }
            self.memory.lists.remove(rel);
            remove_empty(&root, path.parent());
        }
        self.save()
    }

    /// Keeps what is remembered.
    fn save(&self) -> Result<(), MirrorError> {
        let path = self.plan.root.join(STATE_FILE);
        let bytes = serde_json::to_vec_pretty(&self.memory).map_err(io::Error::from);
        let saved = bytes.and_then(|bytes| match fs::read(&path) {
            Ok(old) if old == bytes => Ok(()),
            _ => atomic::replace(&path, &bytes, &path),
        });
        saved.map_err(|source| MirrorError::Disk { path, source })
    }
}

/// Takes a playlist out of what is served, and keeps it under a hidden name.
fn hide(path: &Path) -> Result<(), MirrorError> {
    match fs::rename(path, files::partial(path)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(MirrorError::Disk { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Removes folders that are empty now, up to `root`.
fn remove_empty(root: &Path, mut folder: Option<&Path>) {
    while let Some(here) = folder.filter(|here| here.starts_with(root) && *here != root) {
        if fs::remove_dir(here).is_err() {
            return;
        }
        folder = here.parent();
    }
}

fn folder_file(rel: &str, name: &str) -> String {
    rel.rsplit_once('/').map_or_else(|| name.to_owned(), |(folder, _)| format!("{folder}/{name}"))
}
