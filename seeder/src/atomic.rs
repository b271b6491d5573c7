//! Files that are there whole or not at all, also after a power cut.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use tempfile::{Builder, NamedTempFile};

/// Mode of files that had none before: whoever serves the folder may read them.
const MODE: u32 = 0o644;

/// Mode of files that hold a secret.
const SECRET_MODE: u32 = 0o600;

/// Replaces or makes `path`. Mode and, where allowed, owner are those of `like` if it exists.
pub(crate) fn replace(path: &Path, bytes: &[u8], like: &Path) -> io::Result<()> {
    let (temp, folder) = write(path, bytes, like)?;
    temp.persist(path)?;
    sync(folder)
}

/// Replaces or makes `path`, which only its owner may read.
pub(crate) fn replace_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Through links: a file that lies elsewhere stays there.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (temp, folder) = write_secret(&path, bytes)?;
    temp.persist(&path)?;
    sync(folder)
}

/// Makes `path`, which only its owner may read; `AlreadyExists` if it is there.
pub(crate) fn create_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (temp, folder) = write_secret(path, bytes)?;
    temp.persist_noclobber(path)?;
    sync(folder)
}

fn write_secret<'a>(path: &'a Path, bytes: &[u8]) -> io::Result<(NamedTempFile, &'a Path)> {
    // Never readable by others, not for a moment.
    let mode = Permissions::from_mode(SECRET_MODE);
    let folder = folder_of(path)?;
    let mut temp = Builder::new().prefix(".marea-").suffix(".tmp").permissions(mode).tempfile_in(folder)?;
    temp.write_all(bytes)?;
    temp.as_file().sync_all()?;
    Ok((temp, folder))
}

/// Makes `path`; `AlreadyExists` if it is there.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (temp, folder) = write(path, bytes, path)?;
    temp.persist_noclobber(path)?;
    sync(folder)
}

fn write<'a>(path: &'a Path, bytes: &[u8], like: &Path) -> io::Result<(NamedTempFile, &'a Path)> {
    let folder = folder_of(path)?;
    // Hidden, so that a server that walks the folder meanwhile does not take it for media.
    let mut temp = Builder::new().prefix(".marea-").suffix(".tmp").tempfile_in(folder)?;
    temp.write_all(bytes)?;
    let mode = match fs::metadata(like) {
        Ok(metadata) => {
            // Only root may give files away; the others own what they write.
            let _ = chown(temp.path(), Some(metadata.uid()), Some(metadata.gid()));
            metadata.permissions().mode()
        }
        Err(_) => MODE,
    };
    temp.as_file().set_permissions(Permissions::from_mode(mode & 0o7777))?;
    temp.as_file().sync_all()?;
    Ok((temp, folder))
}

/// Makes a rename to `path` last.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    sync(folder_of(path)?)
}

fn folder_of(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

/// A rename lasts once its folder is on disk.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
