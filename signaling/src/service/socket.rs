//! One WebSocket, from the switch of protocols to its end.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Instant, Sleep, timeout},
};

use super::{
    Inner,
    core::Core,
    frame::{self, CloseCode, Frames, Heard, Wrong},
    hub::Hub,
    mailbox::{Found, Mailbox, Queued},
    room::Seat,
};
use crate::{defaults, ids::ConnectionId, message::ErrorCode, shard::Client};

/// Time for the other side to take our close frame and send its own.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes read or written at once: a large announce, or all that came for one socket in a while.
const BUFFER: usize = 64 * 1024;

/// Messages of one socket until others have their turn: well below a millisecond's work.
const TURN: usize = 128;

thread_local! {
    /// What is just being read: a socket keeps only what is not yet whole.
    static INPUT: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
    /// What is just being written.
    static OUTPUT: RefCell<Vec<u8>> = RefCell::default();
}

/// What a WebSocket runs over: a connection from outside, or from this very process.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// How a connection ended.
enum End {
    /// The client closed it, with this.
    Clean(Option<CloseCode>),
    /// We close it, with this.
    Ours(CloseCode, &'static str),
    /// It sent what is no WebSocket frame, or too long a one.
    Wrong(Wrong),
    /// It broke, or is cut.
    Broken,
}

/// Waits for the switch and serves the connection until its end. `seat` is its room.
pub(super) async fn serve<C: Core>(
    (inner, hub): (Arc<Inner>, Arc<Hub<C>>),
    upgrade: OnUpgrade,
    client: Client,
    allowed: bool,
    seat: Seat,
) {
    let upgraded = match timeout(defaults::HANDSHAKE_TIMEOUT, upgrade).await {
        Ok(Ok(upgraded)) => upgraded,
        Ok(Err(error)) => return tracing::debug!(%error, "the connection ended before it was a WebSocket"),
        Err(_) => return tracing::debug!("the connection did not become a WebSocket in time"),
    };
    let stream = TokioIo::new(upgraded);
    if allowed {
        serve_stream((inner, hub), stream, client).await;
    } else {
        Box::pin(refuse_origin::<C>(&inner, stream)).await;
    }
    drop(seat);
}

/// Serves a connection that is a WebSocket already.
pub(super) async fn serve_stream<C: Core>(
    (inner, hub): (Arc<Inner>, Arc<Hub<C>>),
    stream: impl Stream,
    client: Client,
) {
    let (id, mailbox) = hub.open(inner.clock.now(), client);
    let heard_at = Instant::now();
    let mut conversation = Conversation {
        inner: &inner,
        hub: &hub,
        id,
        mailbox: &mailbox,
        line: Line::new(stream, C::MAX_MESSAGE),
        heard_at,
        pinged: false,
        write_at: heard_at,
        give_up_at: None,
        end: None,
    };
    let end = {
        let mut alarm = std::pin::pin!(tokio::time::sleep_until(heard_at + defaults::PING_AFTER));
        std::future::poll_fn(|cx| conversation.poll(cx, alarm.as_mut())).await
    };
    // The shard first: peers should not wait for a slow goodbye.
    hub.close(inner.clock.now(), id, !matches!(end, End::Broken));
    let line = conversation.line;
    // Rare, and large: not in every socket's future.
    let _ = Box::pin(timeout(CLOSE_TIMEOUT, say_goodbye(line, end))).await;
}

async fn refuse_origin<C: Core>(inner: &Inner, stream: impl Stream) {
    inner.metrics.reject(ErrorCode::OriginRefused.as_str());
    let mut line = Line::new(stream, C::MAX_MESSAGE);
    frame::text(&C::origin_refusal(), &mut line.unsent);
    let goodbye = say_goodbye(line, End::Ours(CloseCode::POLICY_VIOLATION, "origin refused"));
    let _ = timeout(defaults::WRITE_TIMEOUT, goodbye).await;
}

/// Closes, and waits for the other side's close where it is ours.
async fn say_goodbye(mut line: Line<impl Stream>, end: End) -> io::Result<()> {
    let (code, reason) = match &end {
        End::Clean(code) => (*code, String::new()),
        End::Ours(code, reason) => (Some(*code), (*reason).to_owned()),
        End::Wrong(wrong) => (Some(wrong.code()), wrong.to_string()),
        End::Broken => return Ok(()),
    };
    frame::close(code, &reason, &mut line.unsent);
    let Line { mut stream, mut frames, mut unread, unsent, .. } = line;
    stream.write_all(&unsent).await?;
    stream.flush().await?;
    match end {
        End::Ours(..) => loop {
            let used = match frames.read(&mut unread) {
                Ok(Some((_, Heard::Close(_)))) | Err(_) => break,
                Ok(read) => read.map(|(used, _)| used),
            };
            match used {
                Some(used) => drop(unread.drain(..used)),
                None if stream.read_buf(&mut unread).await? == 0 => break,
                None => {}
            }
        },
        // Reads on in vain: ending TCP with something unread would destroy our last words.
        End::Wrong(_) => while stream.read(&mut [0; 4096]).await? > 0 {},
        End::Clean(_) | End::Broken => {}
    }
    stream.shutdown().await
}

/// A stream and what lies on this side of it.
struct Line<S> {
    stream: S,
    frames: Frames,
    /// The start of what is not yet whole.
    unread: Vec<u8>,
    /// There may be whole messages in `unread`.
    more: bool,
    /// What the other side has not taken yet.
    unsent: Vec<u8>,
    /// All is written, but not flushed.
    flushing: bool,
    /// The newest ping, to be answered (RFC 6455 §5.5.3: the others need not be).
    pong: Option<Box<[u8]>>,
}

impl<S: Stream> Line<S> {
    fn new(stream: S, max_message: usize) -> Self {
        let frames = Frames::new(max_message);
        Self { stream, frames, unread: Vec::new(), more: false, unsent: Vec::new(), flushing: false, pong: None }
    }

    /// Writes; what is not taken at once is kept for [`Self::poll_flush`].
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, rest)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => rest = &rest[written..],
                Poll::Pending => {
                    self.unsent = rest.to_vec();
                    return Poll::Pending;
                }
            }
        }
        self.flushing = true;
        self.poll_flush(cx)
    }

    /// Writes what is left of earlier.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            return self.poll_write(cx, &unsent);
        }
        if self.flushing {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.flushing = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// A socket and the core that it talks to.
struct Conversation<'a, C, S> {
    inner: &'a Inner,
    hub: &'a Hub<C>,
    id: ConnectionId,
    mailbox: &'a Mailbox,
    line: Line<S>,
    heard_at: Instant,
    /// Nothing was heard since a ping.
    pinged: bool,
    /// Not before this does it write again.
    write_at: Instant,
    /// When a write that is not taken ends it.
    give_up_at: Option<Instant>,
    /// What was found in the mailbox after what is being written.
    end: Option<End>,
}

impl<C: Core, S: Stream> Conversation<'_, C, S> {
    /// Reads, writes and pings until one of them ends it.
    fn poll(&mut self, cx: &mut Context<'_>, mut alarm: Pin<&mut Sleep>) -> Poll<End> {
        let mut left = TURN;
        loop {
            let now = Instant::now();
            let look_at = match self.write(cx, now) {
                Ok(look_at) => look_at,
                Err(end) => return Poll::Ready(end),
            };
            // Who does not take what it is sent is not read either.
            if self.give_up_at.is_none() {
                if left == 0 {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                match self.read(cx, now, &mut left) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(end)) => return Poll::Ready(end),
                    Poll::Pending => {}
                }
            }
            let silence = self.heard_at + if self.pinged { defaults::DEAD_AFTER } else { defaults::PING_AFTER };
            if now >= silence {
                if self.pinged {
                    self.inner.metrics.reject("silent");
                    return Poll::Ready(End::Broken);
                }
                self.pinged = true;
                frame::ping(&mut self.line.unsent);
                continue;
            }
            let due = look_at.map_or(silence, |at| at.min(silence));
            // One that is set too early is set anew when it has come, not with each message.
            if due < alarm.deadline() || alarm.is_elapsed() {
                alarm.as_mut().reset(due);
            }
            if alarm.as_mut().poll(cx).is_ready() {
                continue;
            }
            if self.mailbox.sleep(cx.waker(), look_at.is_some()) {
                return Poll::Pending;
            }
        }
    }

    /// Writes what is there to write; when to look again, if something is left.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Option<Instant>, End> {
        let found = self.mailbox.look();
        if found == Found::Cut {
            return Err(End::Broken);
        }
        let mut written = self.line.poll_flush(cx);
        if matches!(written, Poll::Ready(Ok(()))) {
            if let Some(end) = self.end.take() {
                return Err(end);
            }
            self.give_up_at = None;
            if found == Found::Nothing && self.line.pong.is_none() {
                return Ok(None);
            }
            if now < self.write_at {
                return Ok(Some(self.write_at));
            }
            self.write_at = now + defaults::WRITE_PAUSE;
            written = self.write_mail(cx, now);
        }
        match written {
            Poll::Ready(Ok(())) => match self.end.take() {
                Some(end) => Err(end),
                None => Ok((self.mailbox.look() != Found::Nothing).then_some(self.write_at)),
            },
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "a connection broke");
                Err(End::Broken)
            }
            Poll::Pending => {
                let give_up_at = *self.give_up_at.get_or_insert(now + defaults::WRITE_TIMEOUT);
                if now >= give_up_at {
                    self.inner.metrics.reject("slow-reader");
                    return Err(End::Broken);
                }
                Ok(Some(give_up_at))
            }
        }
    }

    /// Writes what is in the mailbox, in one go.
    fn write_mail(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<io::Result<()>> {
        OUTPUT.with_borrow_mut(|output| {
            output.clear();
            if let Some(payload) = self.line.pong.take() {
                frame::pong(&payload, output);
            }
            self.mailbox.take(BUFFER, |queued| match queued {
                Queued::Text { text, relayed } => {
                    frame::text(&text, output);
                    if let Some(received) = relayed {
                        let took = now.into_std().saturating_duration_since(received);
                        self.inner.metrics.relay_seconds.observe(took.as_secs_f64());
                    }
                }
                Queued::Close(code, reason) => self.end = Some(End::Ours(code, reason)),
            });
            self.line.poll_write(cx, output)
        })
    }

    /// Reads once, and passes on what is whole.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant, left: &mut usize) -> Poll<Result<(), End>> {
        INPUT.with_borrow_mut(|input| {
            let mut read = 0;
            if !std::mem::take(&mut self.line.more) {
                let mut buffer = ReadBuf::new(input);
                if let Err(error) = ready!(Pin::new(&mut self.line.stream).poll_read(cx, &mut buffer)) {
                    tracing::debug!(%error, "a connection broke");
                    return Poll::Ready(Err(End::Broken));
                }
                read = buffer.filled().len();
                if read == 0 {
                    return Poll::Ready(Err(End::Broken));
                }
            }
            let new = &mut input[..read];
            let mut kept = std::mem::take(&mut self.line.unread);
            if kept.is_empty() {
                let used = self.hear(new, now, left)?;
                self.line.unread = new[used..].to_vec();
            } else {
                kept.extend_from_slice(new);
                let used = self.hear(&mut kept, now, left)?;
                if used < kept.len() {
                    kept.drain(..used);
                    self.line.unread = kept;
                }
            }
            self.line.more = *left == 0;
            Poll::Ready(Ok(()))
        })
    }

    /// Passes on the messages at the start of `bytes`; how many bytes they were.
    fn hear(&mut self, bytes: &mut [u8], received: Instant, left: &mut usize) -> Result<usize, End> {
        let mut used = 0;
        while *left > 0 {
            let heard = match self.line.frames.read(&mut bytes[used..]) {
                Ok(Some((length, heard))) => {
                    used += length;
                    heard
                }
                Ok(None) => break,
                Err(wrong) => {
                    tracing::debug!(%wrong, "a client does not speak WebSocket");
                    self.inner.metrics.reject(if wrong == Wrong::TooLong { "too-long" } else { "bad-frame" });
                    return Err(End::Wrong(wrong));
                }
            };
            *left -= 1;
            (self.heard_at, self.pinged) = (received, false);
            let (id, now) = (self.id, self.inner.clock.now());
            match heard {
                Heard::Text(text) => self.hub.run(received.into_std(), |core, out| core.text(now, id, &text, out)),
                Heard::Binary(data) => self.hub.run(received.into_std(), |core, out| core.binary(now, id, &data, out)),
                Heard::Ping(payload) => self.line.pong = Some(payload.into()),
                Heard::Close(code) => return Err(End::Clean(code)),
                Heard::Pong | Heard::Part => {}
            }
        }
        Ok(used)
    }
}
