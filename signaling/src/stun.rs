//! STUN Binding (RFC 8489) over UDP: tells a client its public address and port.

mod codec;

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::net::UdpSocket;

pub use codec::{Answer, answer};

use crate::{address, bucket::Bucket, defaults, ids::Millis};

/// A UDP socket that answers Binding requests: at most [`defaults::STUN_RATE`] a second to one address and
/// [`defaults::STUN_TOTAL_RATE`] in all. Whatever is no Binding request is ignored.
#[derive(Debug)]
pub struct StunServer {
    socket: UdpSocket,
    address: SocketAddr,
    limiter: Limiter,
    requests: Family<Outcome, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl StunServer {
    /// Binds the socket. Bound to a wildcard address on a machine with several addresses, answers may leave from another
    /// one than was asked, and are lost then: bind to the public one.
    ///
    /// # Errors
    /// The address is in use or not of this machine.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, limiter: Limiter::new(), requests: Family::default() })
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Adds `marea_signaling_stun_requests_total{outcome="answered|refused|limited"}` to a registry.
    pub fn register_metrics(&self, registry: &mut Registry) {
        let help = "STUN Binding requests over UDP";
        registry.register("marea_signaling_stun_requests", help, self.requests.clone());
    }

    /// Answers for ever. Drop the future (or abort its task) to stop.
    pub async fn run(mut self) {
        let start = Instant::now();
        let mut buffer = [0; codec::MAX_REQUEST + 1];
        let mut reply = Vec::with_capacity(codec::MAX_REQUEST);
        loop {
            let (length, from) = match self.socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // Linux reports here that an earlier answer could not be delivered. Anything lasting must not spin.
                    tracing::debug!(%error, "STUN: receive failed");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let Some(kind) = answer(&buffer[..length], from, &mut reply) else { continue };
            let now = Millis::try_from(start.elapsed().as_millis()).unwrap_or(Millis::MAX);
            let outcome = match kind {
                _ if !self.limiter.allow(now, from.ip()) => "limited",
                Answer::Address => "answered",
                Answer::UnknownAttributes => "refused",
            };
            self.requests.get_or_create(&Outcome { outcome }).inc();
            if outcome != "limited"
                && let Err(error) = self.socket.send_to(&reply, from).await
            {
                tracing::debug!(%error, "STUN: answer could not be sent");
            }
        }
    }
}

/// Buckets for all addresses in a fixed amount of memory: addresses whose keyed hashes meet share one.
#[derive(Debug)]
struct Limiter {
    total: Bucket,
    buckets: Box<[Bucket]>,
    hasher: RandomState,
}

impl Limiter {
    fn new() -> Self {
        let bucket = Bucket::new(0, defaults::STUN_RATE, defaults::STUN_BURST);
        Self {
            total: Bucket::new(0, defaults::STUN_TOTAL_RATE, defaults::STUN_TOTAL_RATE),
            buckets: vec![bucket; defaults::STUN_BUCKETS].into(),
            hasher: RandomState::new(),
        }
    }

    fn allow(&mut self, now: Millis, ip: IpAddr) -> bool {
        let hash = self.hasher.hash_one(address::subscriber(ip.to_canonical()));
        let index = (hash % self.buckets.len() as u64) as usize;
        self.buckets[index].take(now, 1.0) && self.total.take(now, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_limited_and_does_not_starve_others() {
        let mut limiter = Limiter::new();
        let flood: IpAddr = "198.51.100.1".parse().unwrap();
        let allowed = (0..1000).filter(|_| limiter.allow(0, flood)).count();
        assert_eq!(allowed, defaults::STUN_BURST as usize);
        let others = (0..200u8).filter(|last| limiter.allow(0, IpAddr::from([203, 0, 113, *last]))).count();
        // One or two may share the flooded bucket.
        assert!(others >= 195, "{others}");
        assert!(limiter.allow(1000, flood));
    }
}
