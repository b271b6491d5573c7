//! What the operator sees. No label holds a video, a peer, a token or an address.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{message::Kind, shard::Counts};

/// `marea_signaling_*`
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    peers: Family<KindLabel, Gauge>,
    /// Those of `peers` by kind: viewer, mirror, edge, tracker. They are set with each message.
    of_kind: [Gauge; 4],
    messages: Family<MessageLabels, Counter>,
    rejects: Family<ReasonLabel, Counter>,
    #[cfg(feature = "redis")]
    pub(crate) redis_up: Gauge,
    #[cfg(feature = "redis")]
    pub(crate) nodes: Gauge,
    #[cfg(feature = "redis")]
    node_messages: Family<DirectionLabel, Counter>,
    pub(crate) relay_seconds: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    kind: &'static str,
    direction: &'static str,
}

#[cfg(feature = "redis")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        // From half a millisecond, a relay on a quiet machine, to the 10 s after which nobody waits.
        let relay_seconds =
            Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0]);
        let peers = Family::<KindLabel, Gauge>::default();
        let gauge = |kind| -> Gauge { peers.get_or_create(&KindLabel { kind }).clone() };
        let kinds = [Kind::Viewer, Kind::Mirror, Kind::Edge].map(Kind::as_str);
        let of_kind = [kinds[0], kinds[1], kinds[2], "tracker"].map(gauge);
        let metrics = Self {
            connections: Gauge::default(),
            peers,
            of_kind,
            messages: Family::default(),
            rejects: Family::default(),
            #[cfg(feature = "redis")]
            redis_up: Gauge::default(),
            #[cfg(feature = "redis")]
            nodes: Gauge::default(),
            #[cfg(feature = "redis")]
            node_messages: Family::default(),
            relay_seconds,
        };
        metrics.set_peers(Counts::default());
        metrics
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("marea_signaling_connections", "Open WebSockets", self.connections.clone());
        registry.register("marea_signaling_peers", "Peers of all videos", self.peers.clone());
        let help = "Messages understood (in) and queued (out), by type";
        registry.register("marea_signaling_messages", help, self.messages.clone());
        registry.register("marea_signaling_rejects", "Messages and connections refused", self.rejects.clone());
        let help = "From reading a message to writing it to the other peer's socket";
        registry.register("marea_signaling_relay_seconds", help, self.relay_seconds.clone());
    }

    /// What there is only where there are other nodes.
    #[cfg(feature = "redis")]
    pub(crate) fn register_nodes(&self, registry: &mut Registry) {
        registry.register("marea_signaling_redis_up", "1 while Redis can be used", self.redis_up.clone());
        registry.register("marea_signaling_nodes", "Nodes that live, this one included", self.nodes.clone());
        registry.register("marea_signaling_node_messages", "Messages between nodes", self.node_messages.clone());
    }

    #[cfg(feature = "redis")]
    pub(crate) fn node_message(&self, direction: &'static str) {
        self.node_messages.get_or_create(&DirectionLabel { direction }).inc();
    }

    pub(crate) fn set_peers(&self, counts: Counts) {
        for (gauge, count) in self.of_kind.iter().zip([counts.viewers, counts.mirrors, counts.edges]) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn set_tracker_peers(&self, count: usize) {
        let [.., gauge] = &self.of_kind;
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The counter of messages of a type.
    pub(crate) fn messages(&self, kind: &'static str, direction: &'static str) -> Counter {
        self.messages.get_or_create(&MessageLabels { kind, direction }).clone()
    }

    pub(crate) fn reject(&self, reason: &'static str) {
        self.rejects.get_or_create(&ReasonLabel { reason }).inc();
    }
}
