//! The videos of the root: what there is, and how one is deleted or withdrawn.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use http::StatusCode;
use serde::Serialize;

use super::{Refusal, is_slug};
use crate::{
    atomic,
    inbox::{Inbox, Progress, Stage},
    library::Library,
    revoked::{RevokeError, revoke},
    video,
};

/// Folders of deleted videos begin so until they are gone.
const DELETED: &str = ".marea-deleted-";
/// A picture of a video, in its folder.
const POSTER: &str = "poster.jpg";

/// One video.
#[derive(Debug, Serialize)]
pub(super) struct Video {
    slug: String,
    /// Path of its main playlist; none if there is nothing to play yet.
    playlist: Option<String>,
    /// Path of a picture of it.
    poster: Option<String>,
    /// Its id: whoever has it can share the video.
    video: Option<String>,
    /// It was withdrawn.
    revoked: bool,
    /// How far its file in the inbox is.
    packaging: Option<Progress>,
}

pub(super) struct Videos {
    library: Arc<Library>,
    state: PathBuf,
    inbox: Option<Arc<Inbox>>,
    /// Held while a video is deleted or withdrawn.
    changing: Mutex<()>,
}

impl Videos {
    pub(super) fn new(library: Arc<Library>, state: PathBuf, inbox: Option<Arc<Inbox>>) -> Self {
        sweep(library.root().path());
        Self { library, state, inbox, changing: Mutex::new(()) }
    }

    pub(super) fn inbox(&self) -> Option<&Arc<Inbox>> {
        self.inbox.as_ref()
    }

    pub(super) fn root(&self) -> &Path {
        self.library.root().path()
    }

    /// All videos in folders of their own below the root, and those that are to come.
    pub(super) fn list(&self) -> Result<Vec<Video>, Refusal> {
        let mut slugs: Vec<String> = fs::read_dir(self.root())?
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| is_slug(name))
            .collect();
        slugs.extend(self.inbox.iter().flat_map(|inbox| inbox.all()).map(|progress| progress.slug));
        slugs.sort();
        slugs.dedup();
        let mains = self.library.mains();
        let videos = slugs.iter().map(|slug| self.look(slug, &mains));
        Ok(videos.filter(|video| video.playlist.is_some() || video.packaging.is_some()).collect())
    }

    pub(super) fn get(&self, slug: &str) -> Result<Video, Refusal> {
        let video = self.look(slug, &self.library.mains());
        let there = video.playlist.is_some() || video.packaging.is_some();
        there.then_some(video).ok_or_else(|| Refusal::unknown(slug))
    }

    fn look(&self, slug: &str, mains: &[String]) -> Video {
        let folder = self.root().join(slug);
        let path = format!("/videos/{slug}/");
        // What was deleted is known to the library until it looks again.
        let playlist = mains.iter().find(|main| main.starts_with(&path) && folder.exists()).cloned();
        let poster = folder.join(POSTER).exists().then(|| format!("{path}{POSTER}"));
        let revoked = self.library.is_revoked(&format!("{slug}/"));
        let packaging = self.inbox.as_ref().and_then(|inbox| inbox.of(slug));
        let video = video::load(&folder).ok().flatten();
        Video { slug: slug.to_owned(), playlist, poster, video, revoked, packaging }
    }

    /// Deletes a video, and its file in the inbox.
    pub(super) fn delete(&self, slug: &str) -> Result<(), Refusal> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.root().join(slug);
        let packaging = self.inbox.as_ref().and_then(|inbox| inbox.of(slug));
        if packaging.as_ref().is_some_and(|progress| progress.state == Stage::Working) {
            let what = "It is being packaged. Try again when that has ended: its progress says when.";
            return Err(Refusal::new(StatusCode::CONFLICT, "busy", what));
        }
        if packaging.is_none() && !folder.is_dir() {
            return Err(Refusal::unknown(slug));
        }
        // The source first, or it would be packaged again.
        if let Some(inbox) = &self.inbox {
            inbox.remove(slug)?;
        }
        if folder.is_dir() {
            let hidden = tempfile::Builder::new().prefix(DELETED).tempdir_in(self.root())?.keep();
            // At once and as a whole: a killed run leaves nothing half there.
            fs::rename(&folder, hidden.join(slug))?;
            atomic::sync_folder_of(&folder)?;
            remove(&hidden);
            self.library.rescan();
        }
        Ok(())
    }

    /// Withdraws a video for good; its announce id.
    pub(super) fn revoke(&self, slug: &str) -> Result<String, Refusal> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let signer = self.library.signer();
        match revoke(self.root(), Some(&self.state), slug, signer.as_ref()) {
            Ok(id) => {
                self.library.rescan();
                Ok(id.to_string())
            }
            Err(RevokeError::Unknown(_)) => Err(Refusal::unknown(slug)),
            Err(RevokeError::Io { source, .. }) => Err(source.into()),
            Err(error @ RevokeError::State(_)) => Err(io::Error::other(error).into()),
        }
    }
}

/// Ends deletions that a killed run began.
fn sweep(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(DELETED) {
            remove(&entry.path());
        }
    }
}

/// What cannot be removed only takes room, and is tried again at the next start.
fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        tracing::warn!(%error, folder = %folder.display(), "a deleted video stays on the disk");
    }
}
