//! Walking the folder: finding playlists, hashing VOD ahead of its viewers, forgetting what is gone.

use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::timeout};

use super::Library;
use crate::{catalogue::Role, hasher::Urgency, walk};

/// Walks at once, then at each `interval` and whenever asked, until the library is gone or stopped.
pub(super) async fn watch(library: Weak<Library>, interval: Duration) {
    loop {
        let Some(library_now) = library.upgrade() else { return };
        let walk = {
            let library = Arc::clone(&library_now);
            move || library.walk()
        };
        if let Err(panic) = spawn_blocking(walk).await {
            tracing::error!(%panic, "the walk through the folder failed");
        }
        library_now.scans.send_modify(|scans| *scans += 1);
        if !library_now.verbatim {
            library_now.hash_all().await;
        }
        if library_now.hasher.is_stopped() {
            return;
        }
        let _ = timeout(interval, library_now.rescan.notified()).await;
    }
}

impl Library {
    /// Notes every playlist, and loads the ids of their videos. Makes no id: what nobody asks for needs none.
    fn walk(&self) {
        self.read_revoked();
        for rel in &walk::playlists(&self.root) {
            let Ok(key) = self.root.key(rel) else { continue };
            let known = self.read().entry(rel).is_some_and(|entry| entry.key == key);
            if known {
                continue;
            }
            if let Err(error) = self.register(rel) {
                tracing::debug!(%error, "a playlist cannot be read");
            }
        }
        let gone: Vec<String> = {
            let catalogue = self.read();
            let known = catalogue.playlists().map(|(rel, _)| rel);
            // Asked of the disk: one that was made during the walk is known, and was not found.
            known
                .filter(|rel| self.root.key(rel).is_err_and(|error| error.kind() == io::ErrorKind::NotFound))
                .map(str::to_owned)
                .collect()
        };
        for rel in &gone {
            self.write().remove(rel);
        }
        self.write().sweep();
        // Taken out of the loop: a guard in its head would be held throughout.
        let hashed = self.read().hashed_files();
        for file in hashed {
            let Ok(key) = self.root.key(&file) else { continue };
            let changed = self.read().known(&file, key, None).changed;
            if changed {
                self.write().invalidate(&file);
            }
        }
        let folders: Vec<String> = {
            let catalogue = self.read();
            let tagged = catalogue.playlists().filter(|(_, entry)| !matches!(entry.role, Role::Other));
            tagged.map(|(rel, _)| catalogue.video_folder(rel)).collect()
        };
        for folder in folders {
            self.known_video(&folder);
        }
        let catalogue = self.read();
        self.state.sweep(catalogue.playlists().map(|(rel, _)| rel));
    }

    /// Hashes what VOD playlists name, one playlist after the other, and saves each.
    async fn hash_all(self: &Arc<Self>) {
        let mut lists: Vec<String> = {
            let catalogue = self.read();
            let ended = catalogue.playlists().filter(|(_, entry)| matches!(entry.role, Role::Media { ended: true }));
            ended.map(|(rel, _)| rel.to_owned()).collect()
        };
        lists.sort();
        for rel in lists {
            let files = self.read().files_of(&rel);
            let library = Arc::clone(self);
            let submit = move || {
                let pending = |file: &String| matches!(library.look_up(file), Some(super::Lookup::Pending));
                let pending: Vec<String> = files.into_iter().filter(pending).collect();
                pending.iter().for_each(|file| library.hasher.submit(file, Urgency::Background));
                pending
            };
            let Ok(pending) = spawn_blocking(submit).await else { continue };
            let mut done = self.hasher.watch();
            for file in &pending {
                while self.hasher.is_busy_with(file) && !self.hasher.is_stopped() {
                    if done.changed().await.is_err() {
                        return;
                    }
                }
            }
            if self.hasher.is_stopped() {
                return;
            }
            if !pending.is_empty() {
                let library = Arc::clone(self);
                let _ = spawn_blocking(move || library.save(&rel)).await;
            }
        }
    }

    fn save(&self, rel: &str) {
        let files = self.read().hashes_of(rel);
        let saved = self.state.save(rel, files);
        let mut catalogue = self.write();
        for (file, hashes) in saved {
            // Unless it changed meanwhile: the lists move from memory to disk.
            if catalogue.hashes(&file).is_some_and(|known| known.key == hashes.key && known.objects == hashes.objects) {
                catalogue.set_hashes(&file, hashes);
            }
        }
    }
}
