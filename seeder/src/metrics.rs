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
    webrtc,
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
    /// Fetched now for somebody else.
    coalesced,
    /// Held, but older than its origin says.
    stale,
    /// Asked of the origin for one client.
    bypass,
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OriginLabels {
    outcome: OriginOutcome,
}

/// How a request to the origin ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the label's value is the variant's name")]
pub(crate) enum OriginOutcome {
    ok,
    failed,
}

/// The seeder's counters.
pub(crate) struct Metrics {
    registry: Registry,
    sent: Family<SentLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    pub(crate) connections: Gauge,
    pub(crate) hashed_bytes: Counter,
    pub(crate) hash_backlog: Gauge,
    pub(crate) cache_bytes: Gauge,
    pub(crate) cache_evictions: Counter,
    origin: Family<OriginLabels, Counter>,
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
        let (cache_bytes, cache_evictions, origin) = (Gauge::default(), Counter::default(), Family::default());
        registry.register_with_unit(
            "marea_seeder_cache",
            "Disk that holds what came from the origin",
            Unit::Bytes,
            cache_bytes.clone(),
        );
        let evicted = "Objects deleted from the cache to make room";
        registry.register("marea_seeder_cache_evictions", evicted, cache_evictions.clone());
        registry.register("marea_seeder_origin_requests", "Requests to the origin that were shared", origin.clone());
        registry.register("marea_build", "This program", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        // Known from the start, so that rates begin at zero.
        for kind in [Kind::segment, Kind::init, Kind::playlist, Kind::list, Kind::engine, Kind::other] {
            for outcome in [Outcome::complete, Outcome::cancelled] {
                let _ = sent.get_or_create(&SentLabels { kind, via: Via::http, outcome });
            }
        }
        for outcome in [OriginOutcome::ok, OriginOutcome::failed] {
            let _ = origin.get_or_create(&OriginLabels { outcome });
        }
        Arc::new(Self {
            registry,
            sent,
            requests,
            connections,
            hashed_bytes,
            hash_backlog,
            cache_bytes,
            cache_evictions,
            origin,
        })
    }

    /// Counts `bytes` of a body written over HTTP.
    pub(crate) fn sent(&self, kind: Kind, outcome: Outcome, bytes: u64) {
        self.sent.get_or_create(&SentLabels { kind, via: Via::http, outcome }).inc_by(bytes);
    }

    /// Counts `bytes` of media given to peers. What was handed to a connection that then broke is counted too.
    pub(crate) fn sent_by_webrtc(&self, kind: Kind, bytes: u64) {
        let labels = SentLabels { kind, via: Via::webrtc, outcome: Outcome::complete };
        self.sent.get_or_create(&labels).inc_by(bytes);
    }

    /// Counts one answer.
    pub(crate) fn request(&self, kind: Kind, status: u16, cache: Cache) {
        self.requests.get_or_create(&RequestLabels { kind, status, cache }).inc();
    }

    /// Counts one request to the origin.
    pub(crate) fn origin_request(&self, outcome: OriginOutcome) {
        self.origin.get_or_create(&OriginLabels { outcome }).inc();
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
