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

/// Replaces or makes `path`. Mode and, where allowed, owner are those of `like` if it exists.
pub(crate) fn replace(path: &Path, bytes: &[u8], like: &Path) -> io::Result<()> {
    let (temp, folder) = write(path, bytes, like)?;
    temp.persist(path)?;
    sync(folder)
}

/// Makes `path`; `AlreadyExists` if it is there.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (temp, folder) = write(path, bytes, path)?;
    temp.persist_noclobber(path)?;
    sync(folder)
}

fn write<'a>(path: &'a Path, bytes: &[u8], like: &Path) -> io::Result<(NamedTempFile, &'a Path)> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
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

/// A rename lasts once its folder is on disk.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
