//! Finding playlists below a folder.

use std::{fs, path::PathBuf};

use crate::{
    config::MAX_DEPTH,
    files::{self, Root},
};

/// All playlists below `root`, relative to it, folder by folder.
pub(crate) fn playlists(root: &Root) -> Vec<String> {
    let mut found = Vec::new();
    if root.is_nowhere() {
        return found;
    }
    find(root, "", 0, &mut found);
    found
}

/// The playlists in `folder`, relative to the root, in order.
pub(crate) fn playlists_in(root: &Root, folder: &str) -> Vec<String> {
    names(root, folder).into_iter().map(|(name, _)| name).filter(|name| files::is_playlist(name)).collect()
}

fn find(root: &Root, folder: &str, depth: usize, found: &mut Vec<String>) {
    found.extend(playlists_in(root, folder));
    if depth == MAX_DEPTH {
        return;
    }
    for (name, path) in names(root, folder) {
        // A link may lead out of the root or in circles: what lies behind one is tagged when it is asked for.
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            find(root, &name, depth + 1, found);
        }
    }
}

/// What is in a folder and may be served: path relative to the root, and real path.
fn names(root: &Root, folder: &str) -> Vec<(String, PathBuf)> {
    let path = root.path().join(folder);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(%error, folder = %path.display(), "a folder cannot be read");
            return Vec::new();
        }
    };
    let mut names: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
            Some((if folder.is_empty() { name } else { format!("{folder}/{name}") }, entry.path()))
        })
        .collect();
    names.sort();
    names
}
