//! The id of a video: 16 random bytes, kept in `marea.json` of the folder that holds its playlist (design C4).

use std::{fs, io, path::Path};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::{atomic, files::ID_FILE};

/// Longest `marea.json` that is read.
const MAX_FILE: u64 = 64 * 1024;

/// `marea.json`. Unknown fields are a later version's and stay as they are, since the file is never rewritten.
#[derive(Serialize, Deserialize)]
struct IdFile {
    version: u32,
    video: String,
}

/// A new id.
pub(crate) fn random() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(BASE64URL_NOPAD.encode(&bytes))
}

/// The id that `folder` keeps; none if it keeps none.
///
/// # Errors
/// The file cannot be read or says something else. It is then left as it is.
pub(crate) fn load(folder: &Path) -> io::Result<Option<String>> {
    let path = folder.join(ID_FILE);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() <= MAX_FILE => {}
        Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "too large")),
        // There is no such folder, either.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    let file: IdFile = serde_json::from_slice(&fs::read(path)?)?;
    if file.version == 1 && is_usable(&file.video) {
        Ok(Some(file.video))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "no \"version\": 1 with a \"video\""))
    }
}

/// Whether a text can stand in a `VIDEO` attribute as it is.
pub(crate) fn is_usable(video: &str) -> bool {
    (1..=256).contains(&video.len()) && !video.contains(['"', '\r', '\n'])
}

/// Keeps `video` in `folder`; `AlreadyExists` if another was kept there meanwhile.
pub(crate) fn store(folder: &Path, video: &str) -> io::Result<()> {
    let file = IdFile { version: 1, video: video.to_owned() };
    let mut bytes = serde_json::to_vec_pretty(&file)?;
    bytes.push(b'\n');
    atomic::create(&folder.join(ID_FILE), &bytes)
}
