//! Counters, as Prometheus reads them (design C5). No label names a video, a peer or an address.

use std::sync::Arc;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

/// What a response carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the label's value is the variant's name")]
pub(crate) enum Kind {
    segment,
    init,
    playlist,
    list,
    engine,
    other,
}

/// How bytes left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the label's value is the variant's name")]
pub(crate) enum Via {
    http,
}

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the label's value is the variant's name")]
pub(crate) enum Outcome {
    complete,
    cancelled,
}

/// Whether an answer was made for this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the label's value is the variant's name")]
pub(crate) enum Cache {
    /// Read from disk as it is.
    none,
    /// Held in memory.
    hit,
    /// Made now.
    miss,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SentLabels {
    kind: Kind,
    via: Via,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: Kind,
    status: u16,
    cache: Cache,
}

/// The seeder's counters.
pub(crate) struct Metrics {
    registry: Registry,
    sent: Family<SentLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    pub(crate) connections: Gauge,
    pub(crate) hashed_bytes: Counter,
    pub(crate) hash_backlog: Gauge,
}

impl Metrics {
    /// Begins to count; `more` adds the metrics of parts that have their own.
    pub(crate) fn new(more: impl FnOnce(&mut Registry)) -> Arc<Self> {
        let mut registry = Registry::default();
        more(&mut registry);
        let sent = Family::default();
        let requests = Family::default();
        let connections = Gauge::default();
        let hashed_bytes = Counter::default();
        let hash_backlog = Gauge::default();
        registry.register_with_unit(
            "marea_seeder_sent",
            "Body bytes written to sockets; a response that did not reach its end counts as cancelled",
            Unit::Bytes,
            sent.clone(),
        );
        registry.register("marea_seeder_requests", "Requests answered", requests.clone());
        registry.register("marea_seeder_connections", "Open connections", connections.clone());
        registry.register_with_unit("marea_seeder_hashed", "Media bytes hashed", Unit::Bytes, hashed_bytes.clone());
        registry.register("marea_seeder_hash_backlog", "Files waiting to be hashed", hash_backlog.clone());
        registry.register("marea_build", "This program", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        // Known from the start, so that rates begin at zero.
        for kind in [Kind::segment, Kind::init, Kind::playlist, Kind::list, Kind::engine, Kind::other] {
            for outcome in [Outcome::complete, Outcome::cancelled] {
                let _ = sent.get_or_create(&SentLabels { kind, via: Via::http, outcome });
            }
        }
        Arc::new(Self { registry, sent, requests, connections, hashed_bytes, hash_backlog })
    }

    /// Counts `bytes` of a body written over HTTP.
    pub(crate) fn sent(&self, kind: Kind, outcome: Outcome, bytes: u64) {
        self.sent.get_or_create(&SentLabels { kind, via: Via::http, outcome }).inc_by(bytes);
    }

    /// Counts one answer.
    pub(crate) fn request(&self, kind: Kind, status: u16, cache: Cache) {
        self.requests.get_or_create(&RequestLabels { kind, status, cache }).inc();
    }

    /// The text form (OpenMetrics 1.0).
    pub(crate) fn encode(&self) -> String {
        let mut out = String::new();
        if text::encode(&mut out, &self.registry).is_err() {
            tracing::error!("metrics could not be written as text");
        }
        out
    }
}
