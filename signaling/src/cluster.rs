//! Several nodes of one service (`--redis URL`): viewers of a video meet though they are connected to different ones.
//!
//! Redis knows which node has how many peers of a swarm, never which peers and no address. A node that has somebody to match asks
//! another for some of *its* members; that one chooses, and both remember the pair, so that what the two say to each other finds its
//! way. All of it is soft state: without Redis each node goes on by itself, and what is there is written anew when it returns.
//!
//! | part | what it does |
//! |---|---|
//! | this file | what nodes tell each other |
//! | [`frame`] | the same as bytes: versioned, and authenticated by the service's secret |
//! | [`redis`] | the connection: rows, leases, queues |
//! | `shard/remote.rs`, `tracker/remote.rs` | what the cores do about it |

#[cfg(feature = "redis")]
mod frame;
#[cfg(feature = "redis")]
pub mod redis;

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    address,
    ids::{AnnounceId, PeerId},
    message::Kind,
    tracker::Id20,
};

/// A node: random, fresh at every start of a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// A swarm of either key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwarmId {
    /// Marea's viewers.
    Video(AnnounceId),
    /// WebTorrent's.
    Torrent(Id20),
}

/// Members of a swarm at one node: viewers and seeders, or those that have not everything and those that have.
pub type Numbers = (u32, u32);

/// What other nodes have of one swarm.
pub type Elsewhere = BTreeMap<NodeId, Numbers>;

/// A message from node to node. One that a node does not know is passed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeMessage {
    /// The sender has so many members now.
    Count {
        /// Of this swarm.
        swarm: SwarmId,
        /// How many.
        numbers: Numbers,
    },
    /// Choose some of your members for one of mine.
    Ask {
        /// The video.
        video: AnnounceId,
        /// Who wants peers.
        peer: Stranger,
        /// How many.
        count: u32,
        /// Not these: it has them.
        #[serde(default)]
        except: Vec<PeerId>,
    },
    /// The answer to `Ask`: none, if there is nobody.
    Found {
        /// The video.
        video: AnnounceId,
        /// Who wanted peers.
        peer: PeerId,
        /// Whom it may offer to.
        peers: Vec<FoundPeer>,
    },
    /// Something from a peer of the sender to one of the receiver.
    Relay {
        /// The video.
        video: AnnounceId,
        /// The sender's peer.
        from: PeerId,
        /// The receiver's.
        to: PeerId,
        /// The client's name for the connection.
        conn: String,
        /// What is relayed.
        body: RelayBody,
    },
    /// A peer of the sender has left.
    Gone {
        /// The video.
        video: AnnounceId,
        /// Who.
        peer: PeerId,
    },
    /// A peer that proved to be who it says is the sender's now.
    Moved {
        /// The video.
        video: AnnounceId,
        /// Who.
        peer: PeerId,
    },
    /// The answer to `Moved`: members of the sender that the peer is linked with.
    Linked {
        /// The video.
        video: AnnounceId,
        /// Who moved.
        peer: PeerId,
        /// Its neighbours.
        peers: Vec<FoundPeer>,
    },
    /// Offers of WebTorrent clients, each for one member of the receiver.
    Offers {
        /// The info hash.
        torrent: Id20,
        /// Who offers.
        peer: Id20,
        /// The offers.
        offers: Vec<TrackerOffer>,
    },
    /// The answer to one of them.
    Answer {
        /// The info hash.
        torrent: Id20,
        /// Who answers.
        peer: Id20,
        /// Who offered.
        to: Id20,
        /// `offer_id` and SDP.
        answer: TrackerOffer,
    },
}

impl NodeMessage {
    /// Whether the tracker reads it, not the shard.
    #[cfg(feature = "redis")]
    pub(crate) fn is_tracker(&self) -> bool {
        matches!(self, Self::Offers { .. } | Self::Answer { .. } | Self::Count { swarm: SwarmId::Torrent(_), .. })
    }
}

/// A peer of another node that wants to be matched.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stranger {
    /// Its id.
    pub peer: PeerId,
    /// What it is.
    pub kind: Kind,
    /// Where it plays, in seconds.
    #[serde(default)]
    pub pos: Option<f64>,
    /// Where it is.
    #[serde(default)]
    pub place: Option<Place>,
    /// The autonomous system that it is in.
    #[serde(default)]
    pub asn: Option<u32>,
    /// It meets edges only.
    #[serde(default)]
    pub edges_only: bool,
}

/// One of the peers of a [`NodeMessage::Found`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundPeer {
    /// Its id.
    pub peer: PeerId,
    /// What it is.
    pub kind: Kind,
    /// It has the public address of whoever asked.
    #[serde(default)]
    pub near: bool,
    /// Where it is.
    #[serde(default)]
    pub place: Option<Place>,
}

/// Where a peer is, as nodes compare it without telling: keyed hashes of its subscriber's address and of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// One home or office.
    pub subscriber: u64,
    /// One /24 or /48.
    pub prefix: u64,
}

/// As [`crate::message::Body`], for another node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayBody {
    /// An SDP.
    Offer(String),
    /// An SDP.
    Answer(String),
    /// JSON of an `RTCIceCandidateInit`; `None` after the last one.
    Candidate(Option<String>),
    /// Why the connection is not wanted.
    Reject(String),
}

/// An offer or answer of a WebTorrent client: JSON as it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrackerOffer {
    /// `offer_id`: any JSON value.
    pub id: Box<RawValue>,
    /// A JSON string.
    pub sdp: Box<RawValue>,
}

impl PartialEq for TrackerOffer {
    fn eq(&self, other: &Self) -> bool {
        (self.id.get(), self.sdp.get()) == (other.id.get(), other.sdp.get())
    }
}

/// Something that a core is told of the other nodes.
#[derive(Clone, Debug)]
pub enum NodeEvent {
    /// A message came. It is authentic.
    Message(NodeId, NodeMessage),
    /// What the others have of a swarm, all of it.
    Elsewhere(SwarmId, Elsewhere),
    /// A node is no more: its lease ended.
    Lost(NodeId),
    /// The others can be reached, or not.
    Reachable(bool),
}

/// How a core sees the nodes; made from the service's secret.
#[derive(Clone)]
pub struct Nodes {
    key: [u8; 32],
    /// This machine, for the one address that means another one on each.
    machine: Vec<u8>,
    /// Whether the others can be reached now.
    pub(crate) reachable: bool,
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nodes {{ reachable: {} }}", self.reachable)
    }
}

impl Nodes {
    /// `machine` is the same for two nodes exactly if loopback is the same to them.
    pub fn new(secret: &[u8; 32], machine: &[u8]) -> Self {
        let key = blake3::derive_key("marea signaling place 1", secret);
        Self { key, machine: machine.to_vec(), reachable: false }
    }

    pub(crate) fn place(&self, address: IpAddr) -> Place {
        if address.is_loopback() {
            let here = self.hash(b'm', &self.machine);
            return Place { subscriber: here, prefix: here };
        }
        let hash = |kind, address: IpAddr| match address {
            IpAddr::V4(address) => self.hash(kind, &address.octets()),
            IpAddr::V6(address) => self.hash(kind, &address.octets()),
        };
        Place { subscriber: hash(b's', address::subscriber(address)), prefix: hash(b'p', address::prefix(address)) }
    }

    fn hash(&self, kind: u8, bytes: &[u8]) -> u64 {
        let hash = blake3::Hasher::new_keyed(&self.key).update(&[kind]).update(bytes).finalize();
        hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(secret: u8, machine: &str, address: &str) -> Place {
        Nodes::new(&[secret; 32], machine.as_bytes()).place(address.parse().unwrap())
    }

    #[test]
    fn places_are_equal_where_addresses_are_near_and_say_nothing_to_strangers() {
        let home = place(1, "a", "203.0.113.7");
        assert_eq!(home, place(1, "b", "203.0.113.7"));
        let neighbour = place(1, "a", "203.0.113.8");
        assert!(home.subscriber != neighbour.subscriber && home.prefix == neighbour.prefix);
        assert_eq!(place(1, "a", "2001:db8::1"), place(1, "a", "2001:db8::2"));
        assert_ne!(home, place(2, "a", "203.0.113.7"));
        assert_eq!(place(1, "a", "127.0.0.1"), place(1, "a", "::1"));
        assert_ne!(place(1, "a", "127.0.0.1"), place(1, "b", "127.0.0.1"));
    }

    #[test]
    fn messages_are_read_as_they_are_written() {
        let (video, peer) = (AnnounceId([1; 32]), PeerId([2; 16]));
        let torrent = Id20([0xfe; 20]);
        let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
        let place = Some(Place { subscriber: 1, prefix: 2 });
        let found = FoundPeer { peer, kind: Kind::Mirror, near: true, place };
        for message in [
            NodeMessage::Count { swarm: SwarmId::Video(video), numbers: (3, 1) },
            NodeMessage::Count { swarm: SwarmId::Torrent(torrent), numbers: (3, 1) },
            NodeMessage::Ask {
                video,
                peer: Stranger { peer, kind: Kind::Viewer, pos: Some(1.5), place, asn: Some(64_496), edges_only: true },
                count: 4,
                except: vec![peer],
            },
            NodeMessage::Found { video, peer, peers: vec![found] },
            NodeMessage::Relay { video, from: peer, to: peer, conn: "c".into(), body: RelayBody::Candidate(None) },
            NodeMessage::Offers {
                torrent,
                peer: torrent,
                offers: vec![TrackerOffer { id: raw("\"\\u0000\""), sdp: raw("\"v=0\\r\\n\"") }],
            },
        ] {
            let text = serde_json::to_string(&message).unwrap();
            assert_eq!(serde_json::from_str::<NodeMessage>(&text).unwrap(), message, "{text}");
        }
    }
}
