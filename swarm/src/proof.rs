//! Placeholder: the proof of HELLO (design §5). Owned by the wire author.

/// Which side of the offer/answer a peer was: the two proofs of a connection must differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sent the offer.
    Offerer,
    /// Sent the answer.
    Answerer,
}

/// BLAKE3 keyed by `derive_key("marea swarm 1", video id)` over the sender's role, its nonce, and the sender's and the
/// receiver's DTLS fingerprint (SHA-256, raw).
pub fn proof(_swarm_key: &[u8; 32], _sender: Role, _nonce: &[u8; 16], _sender_fp: &[u8; 32], _receiver_fp: &[u8; 32]) -> [u8; 32] { [0; 32] }

/// The key of a swarm: only who knows the video id has it.
pub fn swarm_key(video: &str) -> [u8; 32] {
    blake3::derive_key("marea swarm 1", video.as_bytes())
}
