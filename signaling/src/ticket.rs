//! Resume tickets and salts: made from the server's secret, so that nothing has to be remembered.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;

use crate::{
    defaults,
    ids::{AnnounceId, Millis, PeerId},
    message::Kind,
};

/// Peer id, expiry (Unix ms, big endian), what it admits as, and their BLAKE3 under the ticket key.
const TICKET_LEN: usize = 16 + 8 + 1 + 32;

/// Makes and reads tickets and salts.
pub(crate) struct Tickets {
    ticket_key: [u8; 32],
    salt_key: [u8; 32],
    draw_key: [u8; 32],
}

/// What a client's `resume` is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Our own: the client keeps this id, and needs no token to be of this kind again.
    Proven(PeerId, Option<Kind>),
    /// Not ours, such as one from before a restart. The id may be what neighbours still know the client by; that is good
    /// enough to *not* match them, and for nothing else.
    Claimed(PeerId),
    /// Nothing.
    None,
}

impl Tickets {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self {
            ticket_key: blake3::derive_key("marea signaling resume 1", secret),
            salt_key: blake3::derive_key("marea signaling salt 1", secret),
            draw_key: blake3::derive_key("marea signaling draw 1", secret),
        }
    }

    /// A ticket for this peer of this video, which stands for its token if it was `admitted` as something by one.
    pub(crate) fn issue(&self, video: &AnnounceId, peer: PeerId, admitted: Option<Kind>, now: Millis) -> String {
        let expires = (now + defaults::TICKET_MS).to_be_bytes();
        let mut bytes = Vec::with_capacity(TICKET_LEN);
        bytes.extend_from_slice(&peer.0);
        bytes.extend_from_slice(&expires);
        bytes.push(admitted.map_or(0, to_byte));
        let mac = self.mac(video, &bytes);
        bytes.extend_from_slice(mac.as_bytes());
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// Reads a ticket of a client.
    pub(crate) fn read(&self, video: &AnnounceId, ticket: &str, now: Millis) -> Resume {
        if BASE64URL_NOPAD.decode_len(ticket.len()) != Ok(TICKET_LEN) {
            return Resume::None;
        }
        let Ok(bytes) = BASE64URL_NOPAD.decode(ticket.as_bytes()) else { return Resume::None };
        let (Some((peer, rest)), Some((signed, mac))) = (bytes.split_first_chunk(), bytes.split_last_chunk()) else {
            return Resume::None;
        };
        let Some((expires, [admitted, ..])) = rest.split_first_chunk() else { return Resume::None };
        let peer = PeerId(*peer);
        // `Hash` compares in constant time.
        let ours = self.mac(video, signed) == blake3::Hash::from_bytes(*mac);
        let proven = ours && u64::from_be_bytes(*expires) > now;
        if proven { Resume::Proven(peer, from_byte(*admitted)) } else { Resume::Claimed(peer) }
    }

    /// The salt of this video's claims, and when it ends (Unix ms). The same on every server with the same secret.
    pub(crate) fn salt(&self, video: &AnnounceId, now: Millis) -> (String, Millis) {
        let hour = now / defaults::SALT_MS;
        let mut hasher = blake3::Hasher::new_keyed(&self.salt_key);
        hasher.update(&video.0).update(&hour.to_be_bytes());
        (BASE64URL_NOPAD.encode(&hasher.finalize().as_bytes()[..16]), (hour + 1) * defaults::SALT_MS)
    }

    /// A number in `[0, 1)`, always the same for the same bytes.
    pub(crate) fn draw(&self, bytes: &[u8]) -> f64 {
        let hash = blake3::keyed_hash(&self.draw_key, bytes);
        let number = hash.as_bytes().first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        f64::from(number) / 2f64.powi(32)
    }

    fn mac(&self, video: &AnnounceId, signed: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.ticket_key).update(&video.0).update(signed).finalize()
    }
}

fn to_byte(kind: Kind) -> u8 {
    match kind {
        Kind::Viewer => 1,
        Kind::Mirror => 2,
        Kind::Edge => 3,
    }
}

fn from_byte(byte: u8) -> Option<Kind> {
    [Kind::Viewer, Kind::Mirror, Kind::Edge].into_iter().find(|kind| to_byte(*kind) == byte)
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_800_000_000_000;

    #[test]
    fn a_ticket_proves_its_peer_of_its_video_for_a_day_at_its_server() {
        let kinds = [None, Some(Kind::Viewer), Some(Kind::Mirror), Some(Kind::Edge)];
        kinds.into_iter().for_each(a_ticket_proves);
    }

    fn a_ticket_proves(kind: Option<Kind>) {
        let (video, other) = (AnnounceId([1; 32]), AnnounceId([2; 32]));
        let peer = PeerId([9; 16]);
        let tickets = Tickets::new(&[5; 32]);
        let ticket = tickets.issue(&video, peer, kind, NOW);
        assert_eq!(tickets.read(&video, &ticket, NOW), Resume::Proven(peer, kind));
        assert_eq!(Tickets::new(&[5; 32]).read(&video, &ticket, NOW + 1), Resume::Proven(peer, kind));
        assert_eq!(tickets.read(&other, &ticket, NOW), Resume::Claimed(peer));
        assert_eq!(tickets.read(&video, &ticket, NOW + defaults::TICKET_MS), Resume::Claimed(peer));
        assert_eq!(Tickets::new(&[6; 32]).read(&video, &ticket, NOW), Resume::Claimed(peer));
    }

    #[test]
    fn no_changed_ticket_is_proven() {
        let video = AnnounceId([1; 32]);
        let tickets = Tickets::new(&[5; 32]);
        let ticket =
            BASE64URL_NOPAD.decode(tickets.issue(&video, PeerId([9; 16]), Some(Kind::Viewer), NOW).as_bytes()).unwrap();
        for bit in 0..ticket.len() * 8 {
            let mut wrong = ticket.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(tickets.read(&video, &BASE64URL_NOPAD.encode(&wrong), NOW), Resume::Proven(..)));
        }
        for junk in ["", "abc", "é", &"A".repeat(1000)] {
            assert_eq!(tickets.read(&video, junk, NOW), Resume::None);
        }
    }

    #[test]
    fn the_salt_changes_with_the_hour_and_the_video() {
        let tickets = Tickets::new(&[5; 32]);
        let (video, other) = (AnnounceId([1; 32]), AnnounceId([2; 32]));
        let (salt, until) = tickets.salt(&video, NOW);
        assert!(until > NOW && until <= NOW + defaults::SALT_MS);
        assert_eq!(tickets.salt(&video, until - 1).0, salt);
        assert_ne!(tickets.salt(&video, until).0, salt);
        assert_ne!(tickets.salt(&other, NOW).0, salt);
    }
}
