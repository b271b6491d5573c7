//! The client's side of STUN (RFC 8489): Binding requests and their answers. Both `doctor` and the WebRTC peer ask so.

use std::net::{IpAddr, SocketAddr};

/// RFC 8489 §5.
const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// RFC 8489 §14.3.
const USERNAME: u16 = 0x0006;
/// RFC 8489 §14.2.
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// What tells the answers of one request from others.
pub(crate) type Transaction = [u8; 12];

/// `HOST:PORT` of a `stun:` URL (RFC 7064).
pub(crate) fn place(url: &str) -> String {
    let place = url.trim_start_matches("stun:").split('?').next().unwrap_or("");
    let has_port = place.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { place.to_owned() } else { format!("{place}:3478") }
}

/// A Binding request.
pub(crate) fn request(transaction: Transaction) -> [u8; 20] {
    let mut request = [0; 20];
    request[1] = 1; // Binding
    request[4..8].copy_from_slice(&MAGIC);
    request[8..].copy_from_slice(&transaction);
    request
}

/// A success response to a Binding request: which one, and the address that it names, if it names one.
pub(crate) fn response(bytes: &[u8]) -> Option<(Transaction, Option<SocketAddr>)> {
    let (head, rest) = message(bytes, [1, 1])?;
    let seen = attribute(rest, XOR_MAPPED_ADDRESS).and_then(|value| unmask(value, &head[4..20]));
    Some((*head.last_chunk()?, seen))
}

/// The name of whom a connectivity check is for (RFC 8445 §7.2.2): the first half of the user name in a Binding request.
pub(crate) fn asked(bytes: &[u8]) -> Option<&str> {
    let (_, rest) = message(bytes, [0, 1])?;
    let name = std::str::from_utf8(attribute(rest, USERNAME)?).ok()?;
    name.split_once(':').map(|(ours, _)| ours)
}

/// Header and attributes of a message of this type.
fn message(bytes: &[u8], kind: [u8; 2]) -> Option<(&[u8; 20], &[u8])> {
    bytes.split_first_chunk().filter(|(head, _)| head[..2] == kind && head[4..8] == MAGIC)
}

fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some((head, after)) = rest.split_at_checked(4) {
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = after.get(..len)?;
        if kind == wanted {
            return Some(value);
        }
        rest = after.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

fn unmask(value: &[u8], mask: &[u8]) -> Option<SocketAddr> {
    let (head, address) = value.split_at_checked(4)?;
    let port = u16::from_be_bytes([head[2] ^ MAGIC[0], head[3] ^ MAGIC[1]]);
    let plain: Vec<u8> = address.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
    let ip = match (head[1], plain.len()) {
        (1, 4) => IpAddr::from(<[u8; 4]>::try_from(plain).ok()?),
        (2, 16) => IpAddr::from(<[u8; 16]>::try_from(plain).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The response of RFC 5769 §2.2.
    const RESPONSE: [u8; 48] = [
        0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87,
        0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63, 0x74, 0x6f, 0x72, 0x20,
        0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43,
    ];

    #[test]
    fn the_vector_of_rfc_5769_is_read_and_nothing_shorter() {
        let transaction = *RESPONSE[..20].last_chunk().unwrap();
        let address = "192.0.2.1:32853".parse().unwrap();
        assert_eq!(response(&RESPONSE), Some((transaction, Some(address))));
        assert_eq!(response(&request(transaction)), None, "a request is no answer");
        for len in 0..RESPONSE.len() {
            assert_ne!(response(&RESPONSE[..len]), Some((transaction, Some(address))), "cut at {len}");
        }
    }

    /// The request of RFC 5769 §2.1 up to its user name `evtj:h6vY`.
    const REQUEST: [u8; 68] = [
        0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87,
        0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73, 0x74, 0x20, 0x63, 0x6c,
        0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff, 0x00, 0x06, 0x00, 0x09, 0x65, 0x76,
        0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x00, 0x00, 0x00,
    ];

    #[test]
    fn whom_a_check_is_for_is_read_and_nothing_shorter() {
        assert_eq!(asked(&REQUEST), Some("evtj"));
        assert_eq!(asked(&RESPONSE), None);
        for len in 0..61 {
            assert_eq!(asked(&REQUEST[..len]), None, "cut at {len}");
        }
    }

    #[test]
    fn urls_may_leave_the_port_out() {
        assert_eq!(place("stun:edge.example"), "edge.example:3478");
        assert_eq!(place("stun:edge.example:99?transport=udp"), "edge.example:99");
        assert_eq!(place("stun:[2001:db8::1]:5"), "[2001:db8::1]:5");
    }
}
