//! What a connection's bytes go through: TCP, where the kernel can send files by itself, or TLS, where it cannot.

use std::{
    fs::File,
    io,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// A stream of bytes.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Whether [`poll_send_file`](Self::poll_send_file) works.
    fn sends_files(&self) -> bool {
        false
    }

    /// Writes bytes that more will follow at once, which are better not sent alone.
    fn poll_write_more(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        std::pin::Pin::new(self).poll_write(cx, bytes)
    }

    /// Sends up to `len` bytes of a file from `at` on.
    fn poll_send_file(&mut self, _: &mut Context<'_>, _: &File, _at: u64, _len: usize) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

#[cfg(target_os = "linux")]
impl Transport for TcpStream {
    fn sends_files(&self) -> bool {
        true
    }

    fn poll_write_more(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        use rustix::net::{SendFlags, send};
        when_writable(self, cx, || Ok(send(&*self, bytes, SendFlags::MORE | SendFlags::NOSIGNAL)?))
    }

    fn poll_send_file(&mut self, cx: &mut Context<'_>, file: &File, at: u64, len: usize) -> Poll<io::Result<usize>> {
        let sent = when_writable(self, cx, || {
            let mut at = at;
            Ok(rustix::fs::sendfile(&*self, file, Some(&mut at), len)?)
        });
        match sent {
            // The file ends before the answer does.
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            sent => sent,
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Transport for TcpStream {}

#[cfg(target_os = "linux")]
fn when_writable(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    mut write: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        std::task::ready!(stream.poll_write_ready(cx))?;
        match stream.try_io(tokio::io::Interest::WRITABLE, &mut write) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            written => return Poll::Ready(written),
        }
    }
}

#[cfg(feature = "tls")]
impl Transport for tokio_rustls::server::TlsStream<TcpStream> {}
