//! A line with delay and loss: for each connection two UDP sockets, one towards the sender and one towards the receiver. What
//! comes to one leaves by the other, late or not at all. Descriptions are rewritten so that each side knows only its socket.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::say;

/// One connection to pass on.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    id: u32,
    address: IpAddr,
    /// In each direction.
    delay_ms: f64,
    /// Share of the datagrams, 0 to 1, in each direction.
    loss: f64,
}

/// Where each side is to send.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    id: u32,
    sender_side: u16,
    receiver_side: u16,
}

/// A socket and who was last heard on it.
struct End {
    socket: UdpSocket,
    other: Mutex<Option<SocketAddr>>,
}

impl End {
    fn new(address: IpAddr) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { socket: UdpSocket::bind((address, 0))?, other: Mutex::new(None) }))
    }

    fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }
}

/// Makes a line for each order on standard input until that ends.
pub(crate) fn run() -> Result<()> {
    for order in io::stdin().lines() {
        let order: Order = serde_json::from_str(&order?)?;
        let (sender, receiver) = (End::new(order.address)?, End::new(order.address)?);
        let ready = Ready { id: order.id, sender_side: sender.port()?, receiver_side: receiver.port()? };
        let delay = Duration::from_secs_f64(order.delay_ms / 1_000.0);
        // Runs repeat: each direction of each connection has its own, fixed, seed.
        let seed = u64::from(order.id) * 2 + 1;
        pass(Arc::clone(&sender), Arc::clone(&receiver), delay, order.loss, seed);
        pass(receiver, sender, delay, order.loss, seed + 1);
        say(&ready)?;
    }
    Ok(())
}

/// Passes on what comes to `from`, in order, until the program ends.
fn pass(from: Arc<End>, to: Arc<End>, delay: Duration, loss: f64, seed: u64) {
    let (queue, waiting) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut buffer = vec![0; 65_536];
        loop {
            // An error is an ICMP message about what was sent: whoever was there is gone.
            let Ok((len, source)) = from.socket.recv_from(&mut buffer) else { continue };
            *from.other.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
            // xorshift64, by Marsaglia.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let lost = ((state >> 11) as f64 / (1u64 << 53) as f64) < loss;
            if !lost && queue.send((Instant::now() + delay, buffer[..len].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        while let Ok((due, datagram)) = waiting.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let other = *to.other.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(other) = other {
                // Lost if the kernel has no room, as on any line.
                let _ = to.socket.send_to(&datagram, other);
            }
        }
    });
}
