//! UDP: the sockets that all connections share, and the addresses under which others see them (STUN, RFC 8489).

use std::{
    collections::HashMap,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use str0m::net::Transmit;
use tokio::{
    io::Interest,
    net::{UdpSocket, lookup_host},
    sync::mpsc,
    task::JoinHandle,
    time::sleep,
};
use url::Url;

use super::random;
use crate::{
    config::{STUN_AGAIN, UDP_BUFFER},
    stun,
};

/// Longest datagram that is read: what WebRTC sends fits an Ethernet frame.
const MAX_DATAGRAM: usize = 2_048;

/// Most bytes of datagrams of one length that pass between us and the kernel as one (UDP GSO and GRO): an IP packet's.
const MAX_TOGETHER: usize = 65_000;

/// Datagrams read ahead; beyond that the kernel keeps them, or drops them as a full line would.
const READ_AHEAD: usize = 512;

/// A datagram that came.
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    /// The socket's own address.
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// One socket for each of our addresses, all of one port if that is free.
pub(super) struct Net {
    sockets: HashMap<SocketAddr, Bound>,
    port: u16,
    inbox: mpsc::Sender<Datagram>,
    /// What is random in the transactions of our own STUN requests: nobody else can answer them.
    secret: [u8; 8],
    asker: Option<JoinHandle<()>>,
    servers: Vec<String>,
    /// As STUN servers see them, by the socket's address.
    reflexive: HashMap<SocketAddr, SocketAddr>,
}

/// A socket, what its kernel can do, and who reads from it.
struct Bound {
    socket: Arc<UdpSocket>,
    state: Arc<UdpSocketState>,
    reader: JoinHandle<()>,
}

impl Drop for Net {
    fn drop(&mut self) {
        self.sockets.values().for_each(|bound| bound.reader.abort());
        if let Some(asker) = &self.asker {
            asker.abort();
        }
    }
}

impl Net {
    /// No socket yet; `port` 0 takes a free one.
    pub(super) fn new(port: u16) -> (Self, mpsc::Receiver<Datagram>) {
        let (inbox, datagrams) = mpsc::channel(READ_AHEAD);
        let net = Self {
            sockets: HashMap::new(),
            port,
            inbox,
            secret: random(),
            asker: None,
            servers: Vec::new(),
            reflexive: HashMap::new(),
        };
        (net, datagrams)
    }

    /// Takes sockets at the addresses from which `server` and the rest of the world are reached. Those that are there stay:
    /// connections live on them.
    pub(super) async fn open(&mut self, server: &Url) {
        let place =
            (server.host_str().unwrap_or("").trim_matches(['[', ']']), server.port_or_known_default().unwrap_or(443));
        let named: Vec<SocketAddr> = lookup_host(place).await.map(Iterator::collect).unwrap_or_default();
        // Documentation addresses (RFC 5737, RFC 3849) are routed as the internet is; nothing is sent there.
        let anywhere: [IpAddr; 2] =
            [Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()];
        let towards = named.into_iter().chain(anywhere.map(|ip| SocketAddr::new(ip, 9)));
        let mut fresh = false;
        for ip in towards.filter_map(source_towards) {
            if self.sockets.keys().any(|here| here.ip() == ip) {
                continue;
            }
            match self.bind(ip) {
                Ok(()) => fresh = true,
                Err(error) => tracing::warn!(%error, "cannot open a UDP socket for WebRTC"),
            }
        }
        if fresh {
            self.ask();
        }
    }

    fn bind(&mut self, ip: IpAddr) -> io::Result<()> {
        let socket = match udp(SocketAddr::new(ip, self.port)) {
            Err(error) if self.port != 0 => {
                // A firewall may let in that one only.
                tracing::warn!(port = self.port, %error, "this UDP port is not to be had for WebRTC: another one is taken");
                udp(SocketAddr::new(ip, 0))?
            }
            taken => taken?,
        };
        let socket = Arc::new(socket);
        let to = socket.local_addr()?;
        if self.port == 0 {
            self.port = to.port();
        }
        let state = Arc::new(UdpSocketState::new((&socket).into())?);
        let reader = tokio::spawn(read(Arc::clone(&socket), Arc::clone(&state), to, self.inbox.clone()));
        self.sockets.insert(to, Bound { socket, state, reader });
        Ok(())
    }

    /// The addresses of the sockets.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.sockets.keys().copied()
    }

    /// The addresses of sockets and those under which they are seen, where that is known.
    pub(super) fn reflexive(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> + '_ {
        self.reflexive.iter().map(|(&base, &seen)| (base, seen))
    }

    /// Sends datagrams, those of each connection in their order and together as far as they have one length. What the kernel has
    /// no room for is lost, as any may be.
    pub(super) fn send(&self, datagrams: &mut Vec<Transmit>) {
        datagrams.sort_by_key(|datagram| (datagram.source, datagram.destination));
        let mut joined = Vec::new();
        let mut rest = &datagrams[..];
        while let Some(first) = rest.first() {
            let Some(Bound { socket, state, .. }) = self.sockets.get(&first.source) else {
                rest = &rest[1..];
                continue;
            };
            let count = together(rest, state.max_gso_segments());
            let (taken, left) = rest.split_at(count);
            joined.clear();
            taken.iter().for_each(|datagram| joined.extend_from_slice(&datagram.contents));
            let transmit = quinn_udp::Transmit {
                destination: first.destination,
                ecn: None,
                contents: &joined,
                segment_size: (count > 1).then_some(first.contents.len()),
                src_ip: None,
            };
            let _ = socket.try_io(Interest::WRITABLE, || state.try_send(socket.into(), &transmit));
            rest = left;
        }
        datagrams.clear();
    }

    /// Asks these servers (`stun:` URLs, RFC 7064; others are left out) for our addresses from now on.
    pub(super) fn servers(&mut self, urls: Vec<String>) {
        let servers: Vec<String> = urls.into_iter().filter(|url| url.starts_with("stun:")).collect();
        if servers != self.servers {
            self.servers = servers;
            self.ask();
        }
    }

    fn ask(&mut self) {
        if let Some(asker) = self.asker.take() {
            asker.abort();
        }
        let sockets: Vec<Arc<UdpSocket>> = self.sockets.values().map(|bound| Arc::clone(&bound.socket)).collect();
        let (servers, secret) = (self.servers.clone(), self.secret);
        if servers.is_empty() || sockets.is_empty() {
            return;
        }
        self.asker = Some(tokio::spawn(async move {
            // A few quick ones, since UDP loses some; then as often as a NAT wants to hear of us.
            for round in 0u32.. {
                for server in &servers {
                    for to in resolve(server).await {
                        for socket in &sockets {
                            if socket.local_addr().is_ok_and(|here| here.is_ipv4() == to.is_ipv4()) {
                                let _ = socket.send_to(&stun::request(transaction(secret, round)), to).await;
                            }
                        }
                    }
                }
                sleep(STUN_AGAIN[(round as usize).min(STUN_AGAIN.len() - 1)]).await;
            }
        }));
    }

    /// Takes a datagram if it answers a STUN request of ours (None: it does not). `Some(Some(..))`: an address that is news.
    pub(super) fn answered(&mut self, datagram: &Datagram) -> Option<Option<(SocketAddr, SocketAddr)>> {
        let (transaction, seen) = stun::response(&datagram.bytes)?;
        if !transaction.starts_with(&self.secret) {
            return None;
        }
        let Some(seen) = seen.filter(|seen| *seen != datagram.to) else { return Some(None) };
        let before = self.reflexive.insert(datagram.to, seen);
        Some((before != Some(seen)).then_some((datagram.to, seen)))
    }
}

/// Reads from a socket, which is at `to`, until nobody wants it.
async fn read(socket: Arc<UdpSocket>, state: Arc<UdpSocketState>, to: SocketAddr, inbox: mpsc::Sender<Datagram>) {
    let len = (MAX_DATAGRAM * state.gro_segments()).min(1 << 16);
    let mut buffers = vec![vec![0; len]; BATCH_SIZE];
    let mut metas = [RecvMeta::default(); BATCH_SIZE];
    loop {
        let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        let read = || state.recv((&*socket).into(), &mut slices, &mut metas);
        // An error is an ICMP message about a datagram sent earlier: nothing is wrong with the socket.
        let Ok(count) = socket.async_io(Interest::READABLE, read).await else { continue };
        for (meta, buffer) in metas.iter().zip(&buffers).take(count) {
            for bytes in buffer[..meta.len].chunks(meta.stride.max(1)) {
                if inbox.send(Datagram { from: meta.addr, to, bytes: bytes.to_vec() }).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// How many of these, from the first, go to its receiver as datagrams of its length, of which only the last may be shorter.
fn together(datagrams: &[Transmit], most: usize) -> usize {
    let Some(first) = datagrams.first() else { return 0 };
    let len = first.contents.len();
    let most = most.min(MAX_TOGETHER / len.max(1)).max(1);
    let fits = |datagram: &&Transmit| {
        (datagram.source, datagram.destination) == (first.source, first.destination) && datagram.contents.len() == len
    };
    let count = datagrams.iter().take(most).take_while(fits).count();
    let shorter = datagrams.get(count).is_some_and(|datagram| {
        (datagram.source, datagram.destination) == (first.source, first.destination) && datagram.contents.len() < len
    });
    if shorter && count < most { count + 1 } else { count }
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel may give less; then a burst loses more.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    let _ = socket.set_send_buffer_size(UDP_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// The address from which this one is reached, if it can be one of ours that others know.
fn source_towards(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    // Nothing is sent.
    socket.connect(to).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    (!ip.is_unspecified() && !link_local).then_some(ip)
}

async fn resolve(url: &str) -> Vec<SocketAddr> {
    lookup_host(stun::place(url)).await.map(Iterator::collect).unwrap_or_default()
}

/// The transaction of one of our requests: what nobody else knows, and which one it is.
fn transaction(secret: [u8; 8], round: u32) -> stun::Transaction {
    let mut transaction = [0; 12];
    transaction[..8].copy_from_slice(&secret);
    transaction[8..].copy_from_slice(&round.to_be_bytes());
    transaction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_together_arrives_apart_and_whole() {
        let (mut net, _datagrams) = Net::new(0);
        net.bind(Ipv4Addr::LOCALHOST.into()).unwrap();
        let source = net.addresses().next().unwrap();
        net.sockets[&source].socket.writable().await.unwrap();
        let receivers = [(); 2].map(|()| std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let lengths = [100, 100, 100, 50, 100, 200, 200];
        let mut sent = Vec::new();
        for (at, len) in (0u8..).zip(lengths) {
            for receiver in &receivers {
                let (proto, destination) = (str0m::net::Protocol::Udp, receiver.local_addr().unwrap());
                sent.push(Transmit { proto, source, destination, contents: vec![at; len].into() });
            }
        }
        net.send(&mut sent);
        assert!(sent.is_empty());
        for receiver in receivers {
            receiver.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
            for (at, len) in (0u8..).zip(lengths) {
                let mut buffer = [0; 2_048];
                let (received, from) = receiver.recv_from(&mut buffer).unwrap();
                assert_eq!((&buffer[..received], from), (&vec![at; len][..], source));
            }
        }
    }
}
