//! What goes over a node's channel: a batch of messages, its version, who sent it, its number, and a MAC under the service's secret.
//!
//! `version (1) · sender (8) · number (8) · MAC (16) · JSON array of messages`; integers are big endian. The MAC covers all of it and
//! the receiver, so that nobody who can only write to Redis makes a match, and nothing is heard twice or by another node.

use std::{collections::HashMap, fmt};

use serde_json::value::RawValue;

use super::{NodeId, NodeMessage};

/// The oldest and newest version that this node reads.
pub(crate) const VERSIONS: (u8, u8) = (1, 1);

/// Largest frame: some batches of SDPs.
pub(crate) const MAX_FRAME: usize = 1024 * 1024;

const HEAD: usize = 1 + 8 + 8;
const MAC: usize = 16;

/// Why a frame was not read; the label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not of this service, changed, for another node, or no frame.
    Forged,
    /// Heard before.
    Replayed,
    /// Of a version that is not known here.
    Version,
}

impl Refusal {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Forged => "node-forged",
            Self::Replayed => "node-replayed",
            Self::Version => "node-version",
        }
    }
}

/// Writes and reads the frames of one node.
pub(crate) struct Framer {
    key: [u8; 32],
    own: NodeId,
    sent: u64,
    heard: HashMap<NodeId, u64>,
}

impl fmt::Debug for Framer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Framer({})", self.own)
    }
}

impl Framer {
    pub(crate) fn new(secret: &[u8; 32], own: NodeId) -> Self {
        Self { key: blake3::derive_key("marea signaling node 1", secret), own, sent: 0, heard: HashMap::new() }
    }

    /// A frame with messages that are JSON already.
    pub(crate) fn write(&mut self, to: NodeId, version: u8, messages: &[String]) -> Vec<u8> {
        self.sent += 1;
        let mut frame = Vec::with_capacity(HEAD + MAC + 2 + messages.iter().map(|text| text.len() + 1).sum::<usize>());
        frame.push(version);
        frame.extend(self.own.0.to_be_bytes());
        frame.extend(self.sent.to_be_bytes());
        let body = format!("[{}]", messages.join(","));
        frame.extend_from_slice(&self.mac(to, &frame, body.as_bytes()).as_bytes()[..MAC]);
        frame.extend(body.as_bytes());
        frame
    }

    /// Who sent it and what it says. Messages of kinds that are not known here are left out.
    pub(crate) fn read(&mut self, frame: &[u8]) -> Result<(NodeId, Vec<NodeMessage>), Refusal> {
        let (head, rest) = frame.split_at_checked(HEAD).ok_or(Refusal::Forged)?;
        let (mac, body) = rest.split_first_chunk::<MAC>().ok_or(Refusal::Forged)?;
        if frame.len() > MAX_FRAME {
            return Err(Refusal::Forged);
        }
        let ours = self.mac(self.own, head, body);
        let mut whole = [0; 32];
        whole[..MAC].copy_from_slice(mac);
        whole[MAC..].copy_from_slice(&ours.as_bytes()[MAC..]);
        // `Hash` compares in constant time.
        if ours != blake3::Hash::from_bytes(whole) {
            return Err(Refusal::Forged);
        }
        let number = |at: usize| head[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let (sender, number) = (NodeId(number(1)), number(9));
        if !(VERSIONS.0..=VERSIONS.1).contains(&head[0]) {
            return Err(Refusal::Version);
        }
        let last = self.heard.entry(sender).or_default();
        if number <= *last {
            return Err(Refusal::Replayed);
        }
        *last = number;
        let messages: Vec<&RawValue> = serde_json::from_slice(body).map_err(|_| Refusal::Forged)?;
        Ok((sender, messages.into_iter().filter_map(|raw| serde_json::from_str(raw.get()).ok()).collect()))
    }

    fn mac(&self, to: NodeId, head: &[u8], body: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.key).update(&to.0.to_be_bytes()).update(head).update(body).finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::SwarmId, ids::AnnounceId};

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn count() -> NodeMessage {
        NodeMessage::Count { swarm: SwarmId::Video(AnnounceId([1; 32])), numbers: (2, 0) }
    }

    fn text() -> String {
        serde_json::to_string(&count()).unwrap()
    }

    #[test]
    fn a_frame_is_read_once_by_its_receiver_and_by_nobody_else() {
        let (mut a, mut b) = (Framer::new(&[7; 32], A), Framer::new(&[7; 32], B));
        let frame = a.write(B, 1, &[text(), r#"{"dance":{"x":1}}"#.into()]);
        assert_eq!(Framer::new(&[7; 32], NodeId(3)).read(&frame), Err(Refusal::Forged));
        assert_eq!(Framer::new(&[8; 32], B).read(&frame), Err(Refusal::Forged));
        assert_eq!(b.read(&frame), Ok((A, vec![count()])));
        assert_eq!(b.read(&frame), Err(Refusal::Replayed));
        for at in 0..frame.len() {
            let mut changed = a.write(B, 1, &[text()]);
            let at = at.min(changed.len() - 1);
            changed[at] ^= 1;
            assert_eq!(b.read(&changed), Err(Refusal::Forged), "{at}");
        }
        for len in 0..HEAD + MAC {
            assert_eq!(b.read(&frame[..len]), Err(Refusal::Forged));
        }
    }

    #[test]
    fn another_version_is_told_from_a_forgery_and_new_fields_do_no_harm() {
        let (mut a, mut b) = (Framer::new(&[7; 32], A), Framer::new(&[7; 32], B));
        assert_eq!(b.read(&a.write(B, 2, &[text()])), Err(Refusal::Version));
        let newer = text().replace("\"numbers\"", "\"new\":[{}],\"numbers\"");
        assert_eq!(b.read(&a.write(B, 1, &[newer])), Ok((A, vec![count()])));
    }
}
