//! One WebSocket, from the switch of protocols to its end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::timeout,
};
use tokio_websockets::{CloseCode, Config, Error, Limits, Message, ServerBuilder, WebSocketStream};

use super::{
    Inner,
    core::Core,
    hub::{Hub, Queued, Receiver},
    room::Seat,
};
use crate::{defaults, ids::ConnectionId, message::ErrorCode, shard::Client};

/// Time for the other side to take our close frame and send its own.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes gathered before they are written to the socket.
const FLUSH_THRESHOLD: usize = 8 * 1024;

/// What a WebSocket runs over: a connection from outside, or from this very process.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

type Socket<S> = WebSocketStream<S>;

/// How a connection ended.
enum End {
    /// The client closed it.
    Clean,
    /// We close it, with this.
    Ours(CloseCode, &'static str),
    /// It sent what is no WebSocket frame, or too long a one. The right close frame is already queued in the socket.
    Wrong,
    /// It broke, or is cut.
    Broken,
}

/// Waits for the switch and serves the connection until its end. `seat` is its room.
pub(super) async fn serve<C: Core>(
    (inner, hub): (Arc<Inner>, Arc<Hub<C>>),
    request: Request<Incoming>,
    client: Client,
    allowed: bool,
    seat: Seat,
) {
    let upgraded = match timeout(defaults::HANDSHAKE_TIMEOUT, hyper::upgrade::on(request)).await {
        Ok(Ok(upgraded)) => upgraded,
        Ok(Err(error)) => return tracing::debug!(%error, "the connection ended before it was a WebSocket"),
        Err(_) => return tracing::debug!("the connection did not become a WebSocket in time"),
    };
    let stream = TokioIo::new(upgraded);
    if allowed {
        serve_stream((inner, hub), stream, client).await;
    } else {
        refuse_origin::<C>(&inner, socket::<C, _>(stream)).await;
    }
    drop(seat);
}

/// Serves a connection that is a WebSocket already.
pub(super) async fn serve_stream<C: Core>(
    (inner, hub): (Arc<Inner>, Arc<Hub<C>>),
    stream: impl Stream,
    client: Client,
) {
    let (id, receiver) = hub.open(inner.clock.now(), client);
    talk(&inner, &hub, socket::<C, _>(stream), id, receiver).await;
}

fn socket<C: Core, S: Stream>(stream: S) -> Socket<S> {
    ServerBuilder::new()
        .config(Config::default().flush_threshold(FLUSH_THRESHOLD))
        .limits(Limits::default().max_payload_len(Some(C::MAX_MESSAGE)))
        .serve(stream)
}

async fn refuse_origin<C: Core>(inner: &Inner, mut socket: Socket<impl Stream>) {
    inner.metrics.reject(ErrorCode::OriginRefused.as_str());
    let say = async {
        socket.send(Message::text(C::origin_refusal())).await?;
        say_goodbye(&mut socket, CloseCode::POLICY_VIOLATION, "origin refused").await
    };
    let _ = timeout(defaults::WRITE_TIMEOUT, say).await;
}

async fn talk<C: Core>(
    inner: &Inner,
    hub: &Hub<C>,
    mut socket: Socket<impl Stream>,
    id: ConnectionId,
    mut receiver: Receiver,
) {
    let cut = receiver.cut.clone();
    let end = tokio::select! {
        end = converse(inner, hub, &mut socket, id, &mut receiver) => end,
        // Also in the middle of a write that its reader does not take.
        () = cut.cancelled() => End::Broken,
    };
    // The shard first: peers should not wait for a slow goodbye.
    hub.close(inner.clock.now(), id, !matches!(end, End::Broken));
    let goodbye = async {
        match end {
            End::Ours(code, reason) => say_goodbye(&mut socket, code, reason).await,
            End::Clean => socket.close().await,
            End::Wrong => linger(&mut socket).await,
            End::Broken => Ok(()),
        }
    };
    let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
}

/// Writes what is queued and reads on in vain: ending TCP with something unread would destroy our last words.
async fn linger(socket: &mut Socket<impl Stream>) -> Result<(), Error> {
    while let Some(Ok(_)) = socket.next().await {}
    let mut buffer = [0; 4096];
    while socket.get_mut().read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Closes and waits for the other side's close.
async fn say_goodbye(socket: &mut Socket<impl Stream>, code: CloseCode, reason: &str) -> Result<(), Error> {
    socket.send(Message::close(Some(code), reason)).await?;
    while let Some(message) = socket.next().await {
        message?;
    }
    Ok(())
}

/// Reads, writes and pings until one of them ends it.
async fn converse<C: Core>(
    inner: &Inner,
    hub: &Hub<C>,
    socket: &mut Socket<impl Stream>,
    id: ConnectionId,
    receiver: &mut Receiver,
) -> End {
    let mut heard = tokio::time::Instant::now();
    let mut pinged = false;
    // Set anew when it has come, not with each message.
    let mut silence = std::pin::pin!(tokio::time::sleep_until(heard + defaults::PING_AFTER));
    loop {
        tokio::select! {
            incoming = socket.next() => {
                heard = tokio::time::Instant::now();
                pinged = false;
                match incoming {
                    Some(Ok(message)) => {
                        if let Some(end) = hear(inner, hub, id, &message) {
                            return end;
                        }
                    }
                    Some(Err(Error::PayloadTooLong { .. })) => {
                        inner.metrics.reject("too-long");
                        return End::Wrong;
                    }
                    Some(Err(Error::Io(error))) => {
                        tracing::debug!(%error, "a connection broke");
                        return End::Broken;
                    }
                    Some(Err(error)) => {
                        tracing::debug!(%error, "a client does not speak WebSocket");
                        inner.metrics.reject("bad-frame");
                        return End::Wrong;
                    }
                    None => return End::Broken,
                }
            }
            Some(first) = receiver.queue.recv() => {
                match timeout(defaults::WRITE_TIMEOUT, write(inner, socket, first, receiver)).await {
                    Ok(Ok(None)) => {}
                    Ok(Ok(Some(end))) => return end,
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "a connection broke");
                        return End::Broken;
                    }
                    Err(_) => {
                        inner.metrics.reject("slow-reader");
                        return End::Broken;
                    }
                }
            }
            () = &mut silence => {
                let due = heard + if pinged { defaults::DEAD_AFTER } else { defaults::PING_AFTER };
                if tokio::time::Instant::now() < due {
                    silence.as_mut().reset(due);
                    continue;
                }
                silence.as_mut().reset(heard + defaults::DEAD_AFTER);
                if pinged {
                    inner.metrics.reject("silent");
                    return End::Broken;
                }
                pinged = true;
                let ping = socket.send(Message::ping(&b""[..]));
                if !matches!(timeout(defaults::WRITE_TIMEOUT, ping).await, Ok(Ok(()))) {
                    return End::Broken;
                }
            }
        }
    }
}

fn hear<C: Core>(inner: &Inner, hub: &Hub<C>, id: ConnectionId, message: &Message) -> Option<End> {
    let received = Instant::now();
    let now = inner.clock.now();
    if let Some(text) = message.as_text() {
        hub.run(received, |core, out| core.text(now, id, text, out));
    } else if message.is_binary() {
        hub.run(received, |core, out| core.binary(now, id, message.as_payload(), out));
    } else if message.is_close() {
        return Some(End::Clean);
    }
    None
}

/// Writes what is queued and flushes it.
async fn write(
    inner: &Inner,
    socket: &mut Socket<impl Stream>,
    first: Queued,
    receiver: &mut Receiver,
) -> Result<Option<End>, Error> {
    let mut relays = Vec::new();
    let mut next = Some(first);
    while let Some(queued) = next {
        match queued {
            Queued::Text { text, relayed } => {
                receiver.bytes.fetch_sub(text.len(), Ordering::Relaxed);
                relays.extend(relayed);
                socket.feed(Message::text(text)).await?;
            }
            Queued::Close(code, reason) => return Ok(Some(End::Ours(code, reason))),
        }
        next = receiver.queue.try_recv().ok();
    }
    socket.flush().await?;
    for received in relays {
        inner.metrics.relay_seconds.observe(received.elapsed().as_secs_f64());
    }
    Ok(None)
}
