//! One connection from its first byte to its last: TLS or not, HTTP/1.1 or HTTP/2, with limits on clients that are slow or idle.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    body::{Body as _, Frame, SizeHint},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    body::Body,
    config::{HANDSHAKE_TIMEOUT, HEAD_LIMIT, MAX_STREAMS},
    meter::{Ledger, Meter},
    metrics::{Kind, Metrics, Outcome},
    server::Phase,
    service::{Reply, Service},
    tls::Tls,
    transport::Transport,
};

/// What HTTP/2 says first where no TLS agreed on it (RFC 9113 §3.4); no method begins so.
const PREFACE: &[u8] = b"PRI";

/// What all connections of a listener have in common.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) service: Arc<Service>,
    /// It answers `/metrics` and the like, and nothing else.
    pub(crate) admin: bool,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) stall_timeout: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) phases: watch::Receiver<Phase>,
}

/// Serves one connection to its end.
pub(crate) async fn serve(stream: std::net::TcpStream, peer: SocketAddr, terms: Terms) {
    let metrics = Arc::clone(&terms.service.metrics);
    metrics.connections.inc();
    // Clients go away all the time.
    if let Err(error) = converse(stream, peer, terms).await {
        tracing::debug!(%error, "a connection ended early");
    }
    metrics.connections.dec();
}

async fn converse(stream: std::net::TcpStream, peer: SocketAddr, terms: Terms) -> io::Result<()> {
    let stream = TcpStream::from_std(stream)?;
    tune(&stream);
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the client says nothing");
    let Some(tls) = terms.tls.clone() else {
        let mut first = [0; PREFACE.len()];
        let came = timeout(terms.header_timeout, stream.peek(&mut first)).await.map_err(late)??;
        return if came == first.len() && first == PREFACE {
            // Boxed, as all that most connections are not.
            Box::pin(http2(stream, peer, terms)).await
        } else {
            http1(stream, peer, terms).await
        };
    };
    let (stream, is_http2) = Box::pin(timeout(HANDSHAKE_TIMEOUT, tls.accept(stream))).await.map_err(late)??;
    if is_http2 { Box::pin(http2(stream, peer, terms)).await } else { Box::pin(http1(stream, peer, terms)).await }
}

fn tune(stream: &TcpStream) {
    // On failure it is only slower. The kernel sizes the send buffer by what the line takes: a limit on what lies unsent there cost
    // two fifths more processor time per byte of large files (docs/benchmarks.md, the edge).
    let _ = stream.set_nodelay(true);
}

async fn http1(stream: impl Transport, peer: SocketAddr, terms: Terms) -> io::Result<()> {
    let Terms { service, admin, phases, .. } = terms;
    let ledger = Ledger::default();
    let by_kernel = stream.sends_files();
    let meter = Meter::new(stream, ledger.clone(), Arc::clone(&service.metrics), terms.stall_timeout);
    let handler = service_fn(move |request| {
        let (service, ledger) = (Arc::clone(&service), ledger.clone());
        async move {
            let Reply { mut response, kind } = service.respond(request, peer, admin).await;
            match kind {
                None => ledger.expect_upgrade(),
                Some(kind) => {
                    let len = response.body().size_hint().exact();
                    let file = match response.body_mut() {
                        Body::File(file) if by_kernel => Some(file.hand_over()),
                        _ => None,
                    };
                    ledger.expect(kind, len, file);
                }
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(terms.header_timeout)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(meter), handler)
        .with_upgrades();
    run(connection, http1::UpgradeableConnection::graceful_shutdown, phases, std::future::pending()).await
}

async fn http2(stream: impl Transport, peer: SocketAddr, terms: Terms) -> io::Result<()> {
    let Terms { service, admin, phases, .. } = terms;
    let progress = Arc::new(Progress::default());
    let watched = Watched { io: stream, progress: Arc::clone(&progress) };
    let (metrics, count) = (Arc::clone(&service.metrics), Arc::clone(&progress));
    let handler = service_fn(move |request| {
        let service = Arc::clone(&service);
        let open = Open::new(Arc::clone(&count), Arc::clone(&metrics));
        async move {
            let Reply { response, kind } = service.respond(request, peer, admin).await;
            let kind = kind.unwrap_or(Kind::other);
            Ok::<_, Infallible>(response.map(|body| Counted { body, kind, sent: 0, whole: false, open }))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(HEAD_LIMIT as u32)
        .max_send_buf_size(HEAD_LIMIT * 4)
        .serve_connection(TokioIo::new(watched), handler);
    let given_up = stalled(progress, terms.stall_timeout, terms.header_timeout);
    run(connection, http2::Connection::graceful_shutdown, phases, given_up).await
}

/// Runs a connection until it ends, the server leaves (`leave` tells the client), or `given_up` is ready.
async fn run<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    leave: impl FnOnce(Pin<&mut C>),
    mut phases: watch::Receiver<Phase>,
    given_up: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut connection = pin!(connection);
    let mut given_up = pin!(given_up);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = given_up.as_mut() => return Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes")),
        _ = phases.wait_for(|phase| *phase >= Phase::Draining) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            leave(connection.as_mut());
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = given_up => Ok(()),
                _ = phases.wait_for(|phase| *phase == Phase::Over) => Ok(()),
            }
        }
    };
    ended.map_err(io::Error::other)
}

/// What goes on on an HTTP/2 connection.
#[derive(Default)]
struct Progress {
    /// Bytes written.
    written: AtomicU64,
    /// Requests whose answers have not ended.
    open: AtomicUsize,
}

/// Ready once the client has taken nothing for too long: a window that it never opens is no pending write, so each
/// connection is looked at now and then.
async fn stalled(progress: Arc<Progress>, stall: Duration, idle: Duration) {
    loop {
        let before = progress.written.load(Ordering::Relaxed);
        let open = progress.open.load(Ordering::Relaxed) > 0;
        sleep(if open { stall } else { idle }).await;
        let same = progress.written.load(Ordering::Relaxed) == before;
        if same && open == (progress.open.load(Ordering::Relaxed) > 0) {
            return;
        }
    }
}

/// A request whose answer has not ended.
struct Open {
    progress: Arc<Progress>,
    metrics: Arc<Metrics>,
}

impl Open {
    fn new(progress: Arc<Progress>, metrics: Arc<Metrics>) -> Self {
        progress.open.fetch_add(1, Ordering::Relaxed);
        Self { progress, metrics }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.progress.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that counts what is taken of it: on a connection that several answers share nobody can tell what of each was written.
struct Counted {
    body: Body,
    kind: Kind,
    sent: u64,
    whole: bool,
    open: Open,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => self.sent += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => {}
            None => self.whole = true,
        }
        self.whole |= self.body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let outcome = if self.whole { Outcome::complete } else { Outcome::cancelled };
        if self.sent > 0 {
            self.open.metrics.sent(self.kind, outcome, self.sent);
        }
    }
}

/// Counts what is written.
struct Watched<IO> {
    io: IO,
    progress: Arc<Progress>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.progress.written.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.progress.written.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
