//! Reading Binding requests and writing their answers (RFC 8489 §5, §14).

use std::net::{IpAddr, SocketAddr};

/// Longer datagrams are no requests of ours: the minimum MTU of IPv6 less its headers.
pub(super) const MAX_REQUEST: usize = 1232;

const HEADER: usize = 20;
const COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// Attributes below 0x8000 that a request may carry and that change nothing here: USERNAME, MESSAGE-INTEGRITY, REALM,
/// NONCE, MESSAGE-INTEGRITY-SHA256, PASSWORD-ALGORITHM, USERHASH, PRIORITY, USE-CANDIDATE.
const HARMLESS: [u16; 9] = [0x0006, 0x0008, 0x0014, 0x0015, 0x001c, 0x001d, 0x001e, 0x0024, 0x0025];

/// Unknown attributes that an error lists: the answer must not be much longer than the request.
const MAX_UNKNOWN: usize = 4;

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The client's address.
    Address,
    /// Error 420: the request has attributes that a server must understand, and this one does not.
    UnknownAttributes,
}

/// Writes the answer to the datagram `packet` from `from` into `out`, or returns `None` if it is no Binding request.
pub fn answer(packet: &[u8], from: SocketAddr, out: &mut Vec<u8>) -> Option<Answer> {
    let (header, attributes) = packet.split_first_chunk::<HEADER>()?;
    let well_formed = packet.len() <= MAX_REQUEST
        && read_u16(header, 0) == Some(BINDING_REQUEST)
        && header[4..8] == COOKIE
        && read_u16(header, 2).map(usize::from) == Some(attributes.len())
        && attributes.len() % 4 == 0;
    if !well_formed {
        return None;
    }
    let unknown = unknown_attributes(attributes)?;
    out.clear();
    if unknown.is_empty() {
        write_header(out, BINDING_SUCCESS, header);
        write_address(out, from, header);
    } else {
        write_header(out, BINDING_ERROR, header);
        write_attribute(out, ERROR_CODE, &[0, 0, 4, 20]);
        let list: Vec<u8> = unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        write_attribute(out, UNKNOWN_ATTRIBUTES, &list);
    }
    let length = u16::try_from(out.len() - HEADER).ok()?;
    out[2..4].copy_from_slice(&length.to_be_bytes());
    Some(if unknown.is_empty() { Answer::Address } else { Answer::UnknownAttributes })
}

/// Attributes that must be understood and are not; `None` if the attributes do not fill their room.
fn unknown_attributes(mut rest: &[u8]) -> Option<Vec<u16>> {
    let mut unknown = Vec::new();
    while !rest.is_empty() {
        let (kind, length) = (read_u16(rest, 0)?, usize::from(read_u16(rest, 2)?));
        rest = rest.get(4 + length.next_multiple_of(4)..)?;
        if kind < 0x8000 && !HARMLESS.contains(&kind) && unknown.len() < MAX_UNKNOWN {
            unknown.push(kind);
        }
    }
    Some(unknown)
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn write_header(out: &mut Vec<u8>, kind: u16, request: &[u8; HEADER]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    // Cookie and transaction id.
    out.extend_from_slice(&request[4..]);
}

fn write_attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// XOR-MAPPED-ADDRESS: port and address, xored with cookie and transaction id (§14.2).
fn write_address(out: &mut Vec<u8>, from: SocketAddr, request: &[u8; HEADER]) {
    let mask = &request[4..];
    // On a dual-stack socket an IPv4 client looks like an IPv6 one.
    let (family, ip) = match from.ip().to_canonical() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mut value = vec![0, family];
    value.extend(from.port().to_be_bytes().iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    value.extend(ip.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    write_attribute(out, XOR_MAPPED_ADDRESS, &value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(attributes: &[u8]) -> Vec<u8> {
        let mut packet = vec![0, 1];
        packet.extend((attributes.len() as u16).to_be_bytes());
        packet.extend(COOKIE);
        packet.extend(*b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae");
        packet.extend(attributes);
        packet
    }

    fn respond(packet: &[u8], from: &str) -> Option<(Answer, Vec<u8>)> {
        let mut out = vec![9; 3];
        answer(packet, from.parse().unwrap(), &mut out).map(|kind| (kind, out))
    }

    #[test]
    fn addresses_are_as_in_the_vectors_of_rfc_5769() {
        // §2.2 and §2.3, the XOR-MAPPED-ADDRESS of both responses.
        let (kind, reply) = respond(&request(&[]), "192.0.2.1:32853").unwrap();
        assert_eq!(kind, Answer::Address);
        assert_eq!(reply[..4], [1, 1, 0, 12]);
        assert_eq!(reply[4..20], request(&[])[4..20]);
        assert_eq!(reply[20..], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        let (_, reply) = respond(&request(&[]), "[2001:db8:1234:5678:11:2233:4455:6677]:32853").unwrap();
        let expected =
            *b"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9";
        assert_eq!(reply[20..], expected);
        // An IPv4 client on a dual-stack socket.
        let (_, mapped) = respond(&request(&[]), "[::ffff:192.0.2.1]:32853").unwrap();
        assert_eq!(mapped[20..], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
    }

    #[test]
    fn attributes_that_must_be_understood_are_refused_by_name() {
        // SOFTWARE (optional, padded), USERNAME (harmless): fine.
        let fine = [0x80, 0x22, 0, 1, b'x', 0, 0, 0, 0, 6, 0, 0];
        assert_eq!(respond(&request(&fine), "192.0.2.1:1").unwrap().0, Answer::Address);
        // CHANGE-REQUEST (RFC 5780).
        let (kind, reply) = respond(&request(&[0, 3, 0, 4, 0, 0, 0, 6]), "192.0.2.1:1").unwrap();
        assert_eq!(kind, Answer::UnknownAttributes);
        assert_eq!(reply[..2], [1, 0x11]);
        assert_eq!(reply[20..], [0, 9, 0, 4, 0, 0, 4, 20, 0, 10, 0, 2, 0, 3, 0, 0]);
        assert_eq!(usize::from(reply[3]), reply.len() - HEADER);
        let many: Vec<u8> = (0..50u8).flat_map(|kind| [0x70, kind, 0, 0]).collect();
        let (_, reply) = respond(&request(&many), "192.0.2.1:1").unwrap();
        assert!(reply.len() < request(&many).len());
    }

    #[test]
    fn what_is_no_binding_request_is_ignored() {
        let good = request(&[]);
        let mut response = good.clone();
        response[0] = 1;
        let mut indication = good.clone();
        indication[1] = 0x11;
        let mut old = good.clone();
        old[4] = 0;
        let mut longer = good.clone();
        longer.push(0);
        for wrong in [&[][..], &[0; 20], &good[..19], &response, &indication, &old, &longer] {
            assert_eq!(respond(wrong, "192.0.2.1:1"), None);
        }
        // Attributes that overrun the message.
        assert_eq!(respond(&request(&[0x80, 0x22, 0, 5, 0, 0, 0, 0]), "192.0.2.1:1"), None);
        assert_eq!(respond(&request(&[0; 1300]), "192.0.2.1:1"), None);
    }

    proptest! {
        #[test]
        fn no_datagram_upsets_it(mut packet in proptest::collection::vec(any::<u8>(), 0..100), good in any::<bool>()) {
            if good && packet.len() >= HEADER {
                let length = (packet.len() - HEADER) as u16;
                packet[..2].copy_from_slice(&[0, 1]);
                packet[2..4].copy_from_slice(&length.to_be_bytes());
                packet[4..8].copy_from_slice(&COOKIE);
            }
            if let Some((_, reply)) = respond(&packet, "[2001:db8::1]:9") {
                prop_assert!(reply.len() <= packet.len() + 24);
            }
        }
    }
}
