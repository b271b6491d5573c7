//! STUN: a real Binding request (RFC 8489) over UDP.

use std::{io, time::Duration};

use tokio::{
    net::{UdpSocket, lookup_host},
    time::timeout,
};

use super::Visit;

/// Waits for the answer to each of the requests; UDP loses some.
const WAITS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// RFC 8489 §5.
const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

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
    let place = url.trim_start_matches("stun:").split('?').next().unwrap_or("");
    let has_port = place.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let place = if has_port { place.to_owned() } else { format!("{place}:3478") };
    let to = lookup_host(&place).await?.next().ok_or(io::ErrorKind::NotFound)?;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    let mut request = [0; 20];
    request[1] = 1;
    request[4..8].copy_from_slice(&MAGIC);
    getrandom::fill(&mut request[8..]).map_err(io::Error::other)?;
    let mut answer = [0; 1500];
    for wait in WAITS {
        socket.send(&request).await?;
        let fits = async {
            loop {
                let len = socket.recv(&mut answer).await?;
                // A success response to this very request.
                if len >= 20 && answer[..2] == [1, 1] && answer[4..20] == request[4..20] {
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
