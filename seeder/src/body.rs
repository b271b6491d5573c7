//! Response bodies: bytes in memory, or a file read in chunks as fast as the client takes them.

use std::{
    fs::File,
    future::Future,
    io,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use hyper::body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::config::CHUNK;

/// The body of an answer.
pub(crate) enum Body {
    /// Bytes in memory; empty once sent.
    Memory(Bytes),
    /// A part of a file.
    File(FileBody),
    /// Bytes that come from elsewhere.
    Stream(StreamBody),
}

/// Bytes as they come, and how many are left if that is known. An error ends the connection.
pub(crate) struct StreamBody {
    bytes: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    left: Option<u64>,
}

impl StreamBody {
    pub(crate) fn new(bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static, len: Option<u64>) -> Self {
        Self { bytes: Box::pin(bytes), left: len }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let next = ready!(self.bytes.as_mut().poll_next(cx));
        if let (Some(Ok(bytes)), Some(left)) = (&next, &mut self.left) {
            *left = left.saturating_sub(bytes.len() as u64);
        }
        // One that ends early never looks like one that ended.
        Poll::Ready(match next {
            None if self.left.is_some_and(|left| left > 0) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            next => next,
        })
    }
}

/// The bytes from `at` to `end` of an open file. Read, not mapped: an operator's file that is cut short under a mapping
/// would kill the process.
pub(crate) struct FileBody {
    file: Arc<File>,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    pub(crate) fn new(file: File, start: u64, len: u64) -> Self {
        Self { file: Arc::new(file), at: start, end: start.saturating_add(len), reading: None }
    }

    fn next_len(&self) -> usize {
        usize::try_from(self.end - self.at).map_or(CHUNK, |left| left.min(CHUNK))
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.at >= self.end {
            return Poll::Ready(None);
        }
        let len = self.next_len();
        let chunk = if let Some(reading) = &mut self.reading {
            let read = ready!(Pin::new(reading).poll(cx));
            self.reading = None;
            read.unwrap_or_else(|panic| Err(io::Error::other(panic)))
        } else if let Some(cached) = read_cached(&self.file, self.at, len) {
            Ok(cached)
        } else {
            let (file, at) = (Arc::clone(&self.file), self.at);
            let mut reading = tokio::task::spawn_blocking(move || {
                let mut buf = BytesMut::zeroed(len);
                file.read_exact_at(&mut buf, at)?;
                Ok(buf.freeze())
            });
            match Pin::new(&mut reading).poll(cx) {
                Poll::Ready(read) => read.unwrap_or_else(|panic| Err(io::Error::other(panic))),
                Poll::Pending => {
                    self.reading = Some(reading);
                    return Poll::Pending;
                }
            }
        };
        if let Ok(bytes) = &chunk {
            self.at += bytes.len() as u64;
        }
        // An error aborts the connection: a file that was cut short never looks like one that ended.
        Poll::Ready(Some(chunk))
    }
}

/// Reads what lies in the page cache without blocking; none if the disk would have to be asked.
#[cfg(target_os = "linux")]
pub(crate) fn read_cached(file: &File, at: u64, len: usize) -> Option<Bytes> {
    use rustix::io::{ReadWriteFlags, preadv2};
    let mut buf = BytesMut::zeroed(len);
    let read = preadv2(file, &mut [io::IoSliceMut::new(&mut buf)], at, ReadWriteFlags::NOWAIT).ok()?;
    if read == 0 {
        return None;
    }
    buf.truncate(read);
    Some(buf.freeze())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn read_cached(_file: &File, _at: u64, _len: usize) -> Option<Bytes> {
    None
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Memory(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Memory(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::File(file) => file.poll_chunk(cx).map(|chunk| chunk.map(|read| read.map(Frame::data))),
            Self::Stream(stream) => stream.poll_chunk(cx).map(|chunk| chunk.map(|read| read.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Memory(bytes) => bytes.is_empty(),
            Self::File(file) => file.at >= file.end,
            Self::Stream(stream) => stream.left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = match self {
            Self::Memory(bytes) => Some(bytes.len() as u64),
            Self::File(file) => Some(file.end - file.at),
            Self::Stream(stream) => stream.left,
        };
        exact.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
