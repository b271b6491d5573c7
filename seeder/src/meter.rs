//! Counts body bytes where they are written to the socket, and cuts off readers that stall.
//!
//! hyper says when it has *taken* a body, not when the kernel has. So the connection counts itself: HTTP/1 answers come
//! in order, each is a head up to an empty line and then exactly as many bytes as announced. The service announces each
//! answer with [`Ledger::expect`] before hyper writes it.

use std::{
    collections::VecDeque,
    fs::File,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::{
    body::is_stand_in,
    config::SETTLE_TIME,
    metrics::{Kind, Metrics, Outcome},
    transport::Transport,
};

/// An answer that hyper is about to write.
#[derive(Debug)]
enum Expected {
    /// A head and so many body bytes; those of a file from a given one on, if the kernel is to send them.
    Body { kind: Kind, len: u64, file: Option<(Arc<File>, u64)> },
    /// A head and a body in chunks.
    Chunks { kind: Kind },
    /// A head after which the connection is another protocol's.
    Upgrade,
}

/// Answers announced by the service of one connection, oldest first.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<VecDeque<Expected>>>);

impl Ledger {
    /// The next answer has `len` body bytes on the wire (0 for HEAD, 304 and the like), or comes in chunks if nobody knows.
    /// With `file` its body is stand-ins ([`is_stand_in`]) for that file's bytes from a given one on.
    pub(crate) fn expect(&self, kind: Kind, len: Option<u64>, file: Option<(Arc<File>, u64)>) {
        self.push(len.map_or(Expected::Chunks { kind }, |len| Expected::Body { kind, len, file }));
    }

    /// The next answer is `101 Switching Protocols`.
    pub(crate) fn expect_upgrade(&self) {
        self.push(Expected::Upgrade);
    }

    fn push(&self, expected: Expected) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(expected);
    }

    /// hyper's own refusals are not announced; they carry no body.
    fn pop(&self) -> Expected {
        let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        next.unwrap_or(Expected::Body { kind: Kind::other, len: 0, file: None })
    }
}

enum Position {
    /// In a head; so many bytes of the CR LF CR LF that ends it were seen.
    Head {
        ending: u8,
    },
    Body {
        kind: Kind,
        sent: u64,
        left: u64,
        file: Option<(Arc<File>, u64)>,
    },
    /// In a body that comes in chunks (RFC 9112 §7.1).
    Chunks {
        kind: Kind,
        sent: u64,
        at: Chunk,
    },
    /// After an upgrade: not ours to count.
    Foreign,
}

/// Where in a chunked body.
#[derive(Clone, Copy)]
enum Chunk {
    /// In a line with a size, which reads so far as this.
    Size(u64),
    /// So many bytes are left, and the CR LF after them.
    Data(u64),
    /// The LF after the bytes is left.
    Feed,
    /// So many bytes of the CR LF that ends the body are left.
    End(u8),
}

/// A connection that keeps the counters.
pub(crate) struct Meter<IO: Transport> {
    io: IO,
    ledger: Ledger,
    metrics: Arc<Metrics>,
    position: Position,
    /// The last answer, written whole, while the client may still turn out to be gone.
    unsettled: Option<(Kind, u64)>,
    settle: Option<Pin<Box<Sleep>>>,
    stall: Option<Pin<Box<Sleep>>>,
    stall_timeout: Duration,
}

impl<IO: Transport> Meter<IO> {
    pub(crate) fn new(io: IO, ledger: Ledger, metrics: Arc<Metrics>, stall_timeout: Duration) -> Self {
        let position = Position::Head { ending: 0 };
        Self { io, ledger, metrics, position, unsettled: None, settle: None, stall: None, stall_timeout }
    }

    fn settle(&mut self, outcome: Outcome) {
        self.settle = None;
        if let Some((kind, len)) = self.unsettled.take() {
            self.metrics.sent(kind, outcome, len);
        }
    }

    /// Follows `bytes` that the kernel took.
    fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.position {
                Position::Foreign => return,
                Position::Head { ending } => {
                    let mut used = 0;
                    while used < bytes.len() && *ending < 4 {
                        *ending = match (bytes[used], *ending) {
                            (b'\r', 0 | 2) | (b'\n', 1 | 3) => *ending + 1,
                            (b'\r', _) => 1,
                            _ => 0,
                        };
                        used += 1;
                    }
                    bytes = &bytes[used..];
                    if *ending == 4 {
                        self.position = match self.ledger.pop() {
                            Expected::Upgrade => Position::Foreign,
                            Expected::Body { len: 0, .. } => Position::Head { ending: 0 },
                            Expected::Body { kind, len, file } => Position::Body { kind, sent: 0, left: len, file },
                            Expected::Chunks { kind } => Position::Chunks { kind, sent: 0, at: Chunk::Size(0) },
                        };
                    }
                }
                Position::Chunks { kind, sent, at: Chunk::Data(left) } => {
                    let used = bytes.len().min(usize::try_from(*left + 2).unwrap_or(usize::MAX));
                    *sent += (used as u64).min(*left);
                    let whole = used as u64 >= *left + 2;
                    let rest = left.saturating_sub(used as u64);
                    let over = (used as u64).saturating_sub(*left);
                    self.position = match (whole, over) {
                        (true, _) => Position::Chunks { kind: *kind, sent: *sent, at: Chunk::Size(0) },
                        (false, 1) => Position::Chunks { kind: *kind, sent: *sent, at: Chunk::Feed },
                        (false, _) => Position::Chunks { kind: *kind, sent: *sent, at: Chunk::Data(rest) },
                    };
                    bytes = &bytes[used..];
                }
                Position::Chunks { kind, sent, at } => {
                    let byte = bytes[0];
                    bytes = &bytes[1..];
                    *at = match (*at, byte) {
                        (Chunk::Size(0), b'\n') => Chunk::End(2),
                        (Chunk::Size(size), b'\n') => Chunk::Data(size),
                        (Chunk::Size(size), digit) => {
                            let digit = char::from(digit).to_digit(16).map(u64::from);
                            Chunk::Size(digit.map_or(size, |digit| size.saturating_mul(16).saturating_add(digit)))
                        }
                        (Chunk::End(left), _) => Chunk::End(left.saturating_sub(1)),
                        (Chunk::Feed, _) => Chunk::Size(0),
                        (Chunk::Data(left), _) => Chunk::Data(left),
                    };
                    if matches!(at, Chunk::End(0)) {
                        let whole = (*kind, *sent);
                        self.position = Position::Head { ending: 0 };
                        self.settle(Outcome::complete);
                        self.unsettled = Some(whole);
                    }
                }
                Position::Body { kind, sent, left, .. } => {
                    let used = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *sent += used as u64;
                    *left -= used as u64;
                    bytes = &bytes[used..];
                    if *left == 0 {
                        let whole = (*kind, *sent);
                        self.position = Position::Head { ending: 0 };
                        // A pipelining client has read nothing of the one before either, but it asked on.
                        self.settle(Outcome::complete);
                        self.unsettled = Some(whole);
                    }
                }
            }
        }
    }

    /// Writes what can be written in one go: plain bytes up to the next stand-in, or of the file that it stands for.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let stand_in = bufs.iter().position(|buf| is_stand_in(buf));
        let first = bufs.iter().position(|buf| !buf.is_empty());
        // What would be written does not fit what was announced: rather no answer than a wrong one.
        let mixed =
            || Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a file's bytes came in another way")));
        match (&self.position, stand_in, first) {
            (Position::Body { sent, left, file: Some((file, start)), .. }, Some(at), Some(first)) if at == first => {
                let len = usize::try_from(*left).map_or(bufs[at].len(), |left| left.min(bufs[at].len()));
                let file = Arc::clone(file);
                self.io.poll_send_file(cx, &file, start + sent, len)
            }
            (Position::Body { left: 1.., file: Some(_), .. }, _, Some(_)) => mixed(),
            (_, Some(at), Some(first)) if at == first => mixed(),
            (_, Some(_), Some(first)) => self.io.poll_write_more(cx, &bufs[first]),
            _ => Pin::new(&mut self.io).poll_write_vectored(cx, bufs),
        }
    }

    /// Turns a write that waits for too long into an error, which ends the connection.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let timeout = self.stall_timeout;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes")))
    }
}

impl<IO: Transport> AsyncRead for Meter<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            // More was asked, or the connection was closed in good order: the last answer has been read.
            Poll::Ready(Ok(())) => {
                this.settle(Outcome::complete);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                this.settle(Outcome::cancelled);
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                if this.unsettled.is_some() {
                    let settle = this.settle.get_or_insert_with(|| Box::pin(sleep(SETTLE_TIME)));
                    if settle.as_mut().poll(cx).is_ready() {
                        this.settle(Outcome::complete);
                    }
                }
                Poll::Pending
            }
        }
    }
}

impl<IO: Transport> AsyncWrite for Meter<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        match this.poll_bytes(cx, bufs) {
            Poll::Ready(Ok(written)) => {
                this.stall = None;
                let mut left = written;
                for buf in bufs {
                    let used = left.min(buf.len());
                    this.advance(&buf[..used]);
                    left -= used;
                }
                Poll::Ready(Ok(written))
            }
            Poll::Ready(Err(error)) => {
                this.settle(Outcome::cancelled);
                Poll::Ready(Err(error))
            }
            Poll::Pending => this.wait(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<IO: Transport> Drop for Meter<IO> {
    fn drop(&mut self) {
        self.settle(Outcome::complete);
        if let Position::Body { kind, sent, .. } | Position::Chunks { kind, sent, .. } = self.position {
            self.metrics.sent(kind, Outcome::cancelled, sent);
        }
    }
}
