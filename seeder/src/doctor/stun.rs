//! STUN: a real Binding request (RFC 8489) over UDP.

use std::{io, time::Duration};

use tokio::{
    net::{UdpSocket, lookup_host},
    time::timeout,
};

use super::Visit;
use crate::stun;

/// Waits for the answer to each of the requests; UDP loses some.
const WAITS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

impl Visit {
    /// Asks the server of a `stun:` URL (RFC 7064) for our address.
    pub(super) async fn stun(&mut self, url: &str) {
        let remedy = "let UDP through to this port (firewall, container, cloud): a proxy for HTTP does not forward it";
        match binding(url).await {
            Ok(()) => self.report.fine("stun", url, "answers"),
            Err(error) => {
                let says = format!("does not answer ({error}): viewers of different homes do not find each other");
                self.report.change("stun", url, says, remedy);
            }
        }
    }
}

async fn binding(url: &str) -> io::Result<()> {
    let to = lookup_host(stun::place(url)).await?.next().ok_or(io::ErrorKind::NotFound)?;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    let mut transaction = stun::Transaction::default();
    getrandom::fill(&mut transaction).map_err(io::Error::other)?;
    let mut answer = [0; 1500];
    for wait in WAITS {
        socket.send(&stun::request(transaction)).await?;
        let fits = async {
            loop {
                let len = socket.recv(&mut answer).await?;
                // A success response to this very request.
                if stun::response(&answer[..len]).is_some_and(|(answered, _)| answered == transaction) {
                    return Ok(());
                }
            }
        };
        if let Ok(answered) = timeout(wait, fits).await {
            return answered;
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}
