//! Uploads: streamed into a hidden file of the inbox, which gets its name when it is whole. Whatever has come before a line
//! broke is kept, and can be gone on with.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{
    fs::{self, File},
    io::{AsyncSeekExt, AsyncWriteExt},
    time::timeout,
};

use super::Refusal;
use crate::{
    atomic,
    config::{SPARE_DISK, STALL_TIMEOUT},
    inbox::Inbox,
    package::slug_for,
};

/// Files that are not whole begin so.
const PARTIAL: &str = ".marea-upload-";

/// What became of a body.
pub(super) enum Stored {
    /// So many bytes are here, and there are more to come.
    Part(u64),
    /// All of it is in the inbox.
    Whole,
}

/// The bytes that a request brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// Where they begin.
    start: u64,
    /// How many; `None` if only their end will tell.
    len: Option<u64>,
    /// Bytes of the whole file, if they are not its rest.
    total: Option<u64>,
}

pub(super) struct Uploads {
    /// Most bytes of one.
    most: u64,
    /// Names that are being written to.
    open: Mutex<HashSet<String>>,
}

/// A name that is being written to.
struct Open<'a>(&'a Uploads, String);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Uploads {
    pub(super) fn new(most: u64) -> Self {
        Self { most, open: Mutex::default() }
    }

    /// Bytes that are here of the upload of `slug`.
    pub(super) async fn received(&self, folder: &Path, slug: &str) -> Result<u64, Refusal> {
        match fs::metadata(partial(folder, slug)).await {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores the body of `request` as the source of the video `slug`.
    pub(super) async fn store(
        &self,
        inbox: &Arc<Inbox>,
        root: &Path,
        slug: &str,
        request: Request<Incoming>,
    ) -> Result<Stored, Refusal> {
        let _open = self.open(slug)?;
        if slug_for(root, slug) != slug {
            let what = "There is a video of this name that was not made of an upload. Choose another name, or delete it first.";
            return Err(Refusal::new(StatusCode::CONFLICT, "name-taken", what));
        }
        let Piece { start, len, total } = piece(request.headers())?;
        let path = partial(inbox.folder(), slug);
        let here = self.received(inbox.folder(), slug).await?;
        if start != here && start != 0 {
            let what = format!("{here} bytes are here: go on from there, or begin anew at 0.");
            return Err(Refusal::new(StatusCode::CONFLICT, "wrong-offset", what));
        }
        let end = len.map(|len| start.saturating_add(len));
        self.fits(end.max(total).unwrap_or(start), end.map_or(0, |end| end - start), inbox.folder())?;
        let mut file = File::options().create(true).truncate(start == 0).write(true).open(&path).await?;
        file.seek(io::SeekFrom::Start(start)).await?;
        let written = self.write(&mut file, request.into_body(), start, end).await;
        // Also what came before the line broke.
        file.flush().await?;
        file.sync_all().await?;
        let at = written?;
        if total.is_some_and(|total| at < total) {
            return Ok(Stored::Part(at));
        }
        let target = inbox.folder().join(slug);
        fs::rename(&path, &target).await?;
        let (inbox, name) = (Arc::clone(inbox), slug.to_owned());
        tokio::task::spawn_blocking(move || {
            atomic::sync_folder_of(&target)?;
            inbox.take(&name)
        })
        .await
        .map_err(io::Error::other)??;
        Ok(Stored::Whole)
    }

    fn open(&self, slug: &str) -> Result<Open<'_>, Refusal> {
        let new = self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(slug.to_owned());
        if new {
            return Ok(Open(self, slug.to_owned()));
        }
        let what = "Another request uploads under this name. Wait for its end.";
        Err(Refusal::new(StatusCode::CONFLICT, "busy", what))
    }

    fn fits(&self, size: u64, more: u64, folder: &Path) -> Result<(), Refusal> {
        if size > self.most {
            return Err(self.too_large());
        }
        // Where the disk does not say, it will when it is full.
        if let Ok(disk) = rustix::fs::statvfs(folder)
            && more.saturating_add(SPARE_DISK) > disk.f_bavail.saturating_mul(disk.f_frsize)
        {
            return Err(io::Error::from(io::ErrorKind::StorageFull).into());
        }
        Ok(())
    }

    fn too_large(&self) -> Refusal {
        let what = format!("At most {} bytes are taken (--max-upload).", self.most);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", what)
    }

    /// Writes a body as it comes; where it ends.
    async fn write(&self, file: &mut File, mut body: Incoming, start: u64, end: Option<u64>) -> Result<u64, Refusal> {
        let broken = |what: String| Refusal::new(StatusCode::BAD_REQUEST, "incomplete", what);
        let mut at = start;
        loop {
            let frame = timeout(STALL_TIMEOUT, body.frame()).await;
            let frame = frame.map_err(|_| {
                let what = format!("No byte came for {} s.", STALL_TIMEOUT.as_secs());
                Refusal::new(StatusCode::REQUEST_TIMEOUT, "stalled", what)
            })?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| broken(format!("The body broke off at byte {at}: {error}.")))?;
            let Ok(bytes) = frame.into_data() else { continue };
            at += bytes.len() as u64;
            if at > end.unwrap_or(self.most) || at > self.most {
                return Err(self.too_large());
            }
            file.write_all(&bytes).await?;
        }
        match end {
            Some(end) if at < end => Err(broken(format!("The body ended at byte {at} of {end}."))),
            _ => Ok(at),
        }
    }
}

fn partial(folder: &Path, slug: &str) -> PathBuf {
    folder.join(format!("{PARTIAL}{slug}"))
}

/// What `Content-Range` and `Content-Length` say.
fn piece(headers: &HeaderMap) -> Result<Piece, Refusal> {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let length = text(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let Some(range) = headers.get(header::CONTENT_RANGE) else {
        return Ok(Piece { start: 0, len: length, total: length });
    };
    let parsed = range.to_str().ok().and_then(|range| {
        let (range, total) = range.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last, total): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
        let len = last.checked_sub(first)?.checked_add(1)?;
        (last < total && length.is_none_or(|length| length == len)).then_some(Piece {
            start: first,
            len: Some(len),
            total: Some(total),
        })
    });
    parsed.ok_or_else(|| {
        let what = "Content-Range must be such as \"bytes 1000-1999/5000\", and Content-Length fit it.";
        Refusal::new(StatusCode::BAD_REQUEST, "bad-range", what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(http::HeaderName, &str)]) -> Option<Piece> {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value"))).collect();
        piece(&headers).ok()
    }

    #[test]
    fn what_a_request_brings_is_in_its_headers() {
        let range = |text| read(&[(header::CONTENT_RANGE, text)]);
        assert_eq!(read(&[]), Some(Piece { start: 0, len: None, total: None }));
        assert_eq!(read(&[(header::CONTENT_LENGTH, "7")]), Some(Piece { start: 0, len: Some(7), total: Some(7) }));
        assert_eq!(range("bytes 10-19/20"), Some(Piece { start: 10, len: Some(10), total: Some(20) }));
        for wrong in
            ["bytes 10-19/19", "bytes 10-9/20", "bytes */20", "10-19/20", "bytes 0-18446744073709551615/1", "bytes -/"]
        {
            assert_eq!(range(wrong), None, "{wrong}");
        }
        let both = [(header::CONTENT_RANGE, "bytes 10-19/20"), (header::CONTENT_LENGTH, "11")];
        assert_eq!(read(&both), None);
    }
}
