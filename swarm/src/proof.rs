//! Who may speak in a swarm: the proof in HELLO (design §5, `docs/protocol.md`).
//!
//! It shows that its sender knows the video id, and binds that knowledge to the two DTLS certificates of this very
//! connection. So a signaling server, which knows only the announce id, can neither join nor sit in between, and a proof
//! is worth nothing on any other connection.

/// SHA-256 of a DTLS certificate: the raw bytes of the SDP's `a=fingerprint:sha-256`.
pub type Fingerprint = [u8; 32];

/// Keeps proofs apart from whatever else the swarm's key may be used for one day.
const DOMAIN: &[u8] = b"marea hello 1";

/// Which side of the offer/answer a peer was: the two proofs of a connection must differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sent the offer.
    Offerer,
    /// Sent the answer.
    Answerer,
}

impl Role {
    /// The other side.
    pub fn other(self) -> Self {
        match self {
            Self::Offerer => Self::Answerer,
            Self::Answerer => Self::Offerer,
        }
    }
}

/// The key of a swarm: only who knows the video id has it. `video` is taken as written, never decoded.
pub fn swarm_key(video: &str) -> [u8; 32] {
    blake3::derive_key("marea swarm 1", video.as_bytes())
}

/// BLAKE3 keyed by [`swarm_key`] over the domain (`marea hello 1`), one byte for the sender's role (0 offerer,
/// 1 answerer), the sender's nonce, and the sender's and the receiver's DTLS fingerprint.
pub fn proof(
    swarm_key: &[u8; 32],
    sender: Role,
    nonce: &[u8; 16],
    sender_fp: &Fingerprint,
    receiver_fp: &Fingerprint,
) -> [u8; 32] {
    *hash(swarm_key, sender, nonce, sender_fp, receiver_fp).as_bytes()
}

/// Whether `claimed` is what the sender had to prove. Takes the same time whatever differs.
pub fn verify(
    swarm_key: &[u8; 32],
    sender: Role,
    nonce: &[u8; 16],
    sender_fp: &Fingerprint,
    receiver_fp: &Fingerprint,
    claimed: &[u8; 32],
) -> bool {
    // `blake3::Hash` compares in constant time.
    hash(swarm_key, sender, nonce, sender_fp, receiver_fp) == blake3::Hash::from_bytes(*claimed)
}

fn hash(
    swarm_key: &[u8; 32],
    sender: Role,
    nonce: &[u8; 16],
    sender_fp: &Fingerprint,
    receiver_fp: &Fingerprint,
) -> blake3::Hash {
    let role = match sender {
        Role::Offerer => 0,
        Role::Answerer => 1,
    };
    blake3::Hasher::new_keyed(swarm_key)
        .update(DOMAIN)
        .update(&[role])
        .update(nonce)
        .update(sender_fp)
        .update(receiver_fp)
        .finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_fits_one_video_one_side_and_one_pair_of_certificates() {
        let key = swarm_key("tide");
        let (nonce, ours, theirs) = ([1; 16], [2; 32], [3; 32]);
        let right = proof(&key, Role::Offerer, &nonce, &ours, &theirs);
        assert!(verify(&key, Role::Offerer, &nonce, &ours, &theirs, &right));

        assert!(!verify(&swarm_key("ebb"), Role::Offerer, &nonce, &ours, &theirs, &right));
        assert!(!verify(&key, Role::Answerer, &nonce, &ours, &theirs, &right));
        assert!(!verify(&key, Role::Offerer, &[0; 16], &ours, &theirs, &right));
        assert!(!verify(&key, Role::Offerer, &nonce, &theirs, &ours, &right));
        assert!(!verify(&key, Role::Offerer, &nonce, &ours, &[4; 32], &right));
        let mut bent = right;
        bent[31] ^= 1;
        assert!(!verify(&key, Role::Offerer, &nonce, &ours, &theirs, &bent));
    }
}
