//! What a peer does as the edge of a server: it signs its answers by the site's key (`docs/protocol.md` §5.1), so that viewers who
//! meet nobody else know it before they send it a packet; its playlists are those that the server signs; and its bytes are the
//! server's.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use marea_signaling::Signaling;
use marea_swarm::proof::Fingerprint;

use crate::{
    metrics::{Kind, Metrics},
    sign::Signer,
};

/// First line of what is signed.
const CONTEXT: &str = "marea-edge-1";

/// The attribute that holds the signature, the last line of an answer.
const ATTRIBUTE: &str = "a=marea-edge:";

/// Gives texts of playlists.
type Playlists = Box<dyn Fn(&str) -> Option<Bytes> + Send + Sync>;

/// What an edge has of its server.
pub(crate) struct EdgeSide {
    /// Signaling, if it runs in this process.
    pub(crate) signaling: Option<Signaling>,
    /// Whoever signs for the site now.
    pub(crate) signer: Box<dyn Fn() -> Option<Signer> + Send + Sync>,
    /// The playlist at this path below the server's root, as it is signed now, if it is.
    pub(crate) playlist: Playlists,
    pub(crate) metrics: Arc<Metrics>,
}

impl fmt::Debug for EdgeSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeSide").field("signaling", &self.signaling).finish_non_exhaustive()
    }
}

impl EdgeSide {
    /// Its counters are there from the start, so that rates begin at zero.
    pub(crate) fn begin(&self) {
        for kind in [Kind::segment, Kind::init] {
            self.metrics.sent_by_webrtc(kind, 0);
        }
    }

    /// An answer of ours in the swarm of `video` to the viewer whose certificate has this fingerprint.
    pub(super) fn signed(&self, answer: String, video: &str, viewer: &Fingerprint) -> String {
        match (self.signer)() {
            Some(signer) => signed(answer, video, viewer, &signer),
            None => answer,
        }
    }

    /// Counts bytes of segments and of init sections.
    pub(super) fn count(&self, [segments, inits]: [u64; 2]) {
        for (kind, bytes) in [(Kind::segment, segments), (Kind::init, inits)] {
            if bytes > 0 {
                self.metrics.sent_by_webrtc(kind, bytes);
            }
        }
    }
}

/// `answer`, whose last line is ended, with the signature as its last line. It covers all lines before, so that nobody can put
/// addresses of his own into an answer that he has of us.
fn signed(mut answer: String, video: &str, viewer: &Fingerprint, signer: &Signer) -> String {
    let mut message = format!("{CONTEXT}\n{video}\n").into_bytes();
    message.extend_from_slice(viewer);
    message.extend_from_slice(answer.as_bytes());
    let (key, signature) = (signer.public().0, signer.sign(&message));
    answer += ATTRIBUTE;
    answer += &BASE64URL_NOPAD.encode(&key);
    answer.push('.');
    answer += &BASE64URL_NOPAD.encode(&signature);
    answer.push_str("\r\n");
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of `docs/protocol.md` §9: the page's tests read the same file.
    const VECTOR: &str = include_str!("../../../swarm/vectors/edge-1.txt");

    #[test]
    fn the_golden_vector_holds() {
        let value = |name: &str| {
            let line = VECTOR.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} is missing"))
        };
        let viewer: Fingerprint = std::array::from_fn(|at| 0x20 + at as u8);
        let answer = "v=0\r\ns=-\r\n".to_owned();
        let signed = signed(answer, "q83vEjRWeJCrze8SNFZ4kA", &viewer, &Signer::new(&[7; 32]));
        let line = signed.strip_prefix("v=0\r\ns=-\r\n").unwrap();
        assert_eq!(line.trim_end(), value("answer_line"));
        assert!(line.ends_with("\r\n"));
    }
}
