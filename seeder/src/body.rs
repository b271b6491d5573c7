//! Response bodies: bytes in memory, a file in chunks as fast as the client takes them, or a stream.

use std::{
    fs::File,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;
use hyper::body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::config::{CHUNK, SEND};

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
    /// The connection sends the file itself: only stand-ins go through hyper.
    by_kernel: bool,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

/// Stands in for bytes that the kernel sends from a file. Known by its place in memory; the zeros are never sent.
static STAND_IN: [u8; SEND] = [0; SEND];

/// Whether `bytes` only stand for those of a file.
pub(crate) fn is_stand_in(bytes: &[u8]) -> bool {
    let (start, at) = (STAND_IN.as_ptr().addr(), bytes.as_ptr().addr());
    !bytes.is_empty() && (start..start + SEND).contains(&at)
}

impl FileBody {
    pub(crate) fn new(file: Arc<File>, start: u64, len: u64) -> Self {
        Self { file, at: start, end: start.saturating_add(len), by_kernel: false, reading: None }
    }

    /// From now on gives stand-ins; the file and its first byte are for who sends it.
    pub(crate) fn hand_over(&mut self) -> (Arc<File>, u64) {
        self.by_kernel = true;
        (Arc::clone(&self.file), self.at)
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.at >= self.end {
            return Poll::Ready(None);
        }
        let most = if self.by_kernel { SEND } else { CHUNK };
        let len = usize::try_from(self.end - self.at).map_or(most, |left| left.min(most));
        let chunk = if let Some(reading) = &mut self.reading {
            let read = ready!(Pin::new(reading).poll(cx));
            self.reading = None;
            read.unwrap_or_else(|panic| Err(io::Error::other(panic)))
        } else if let Some(cached) = self.cached(len) {
            cached
        } else {
            let (file, at, by_kernel) = (Arc::clone(&self.file), self.at, self.by_kernel);
            let mut reading = tokio::task::spawn_blocking(move || {
                let bytes = read(&file, at, len)?;
                // It is in the page cache now.
                Ok(if by_kernel { Bytes::from_static(&STAND_IN[..len]) } else { bytes })
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

    /// The next `len` bytes if they are in the page cache, or what stands for them; none if the disk would have to be asked.
    fn cached(&self, len: usize) -> Option<io::Result<Bytes>> {
        if !is_cached(&self.file, self.at, len) {
            return None;
        }
        Some(if self.by_kernel { Ok(Bytes::from_static(&STAND_IN[..len])) } else { read(&self.file, self.at, len) })
    }
}

/// Reads exactly `len` bytes from `at` on.
pub(crate) fn read(file: &File, mut at: u64, len: usize) -> io::Result<Bytes> {
    let mut buf = Vec::with_capacity(len);
    while buf.len() < len {
        // Into memory that was not written to before: clearing it first would cost as much as reading.
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut buf), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => at += read as u64,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    buf.truncate(len);
    Ok(buf.into())
}

/// Whether the first and the last of `len` bytes can be had without waiting for a disk. What lies between them was read ahead with
/// them; if not, one answer waits.
#[cfg(target_os = "linux")]
pub(crate) fn is_cached(file: &File, at: u64, len: usize) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let there = |at| {
        let mut byte = [0];
        preadv2(file, &mut [io::IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT).is_ok_and(|read| read == 1)
    };
    len > 0 && there(at) && there(at + len as u64 - 1)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_cached(_file: &File, _at: u64, _len: usize) -> bool {
    false
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
