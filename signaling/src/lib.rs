//! Signaling for Marea: it tells the viewers of one video about each other, relays their WebRTC handshakes, and answers
//! STUN so that they learn their public addresses. No media passes through it and nothing is written to disk.
//!
//! | module | what it holds |
//! |---|---|
//! | [`service`] | [`Signaling`]: takes WebSocket upgrades from any hyper server |
//! | [`shard`] | the sans-IO core: swarms, matching, relays |
//! | [`message`] | the messages, read and written |
//! | [`tracker`] | the same for WebTorrent clients, in their own language and key space |
//! | [`stun`] | [`StunServer`]: RFC 8489 Binding over UDP |
//! | [`server`], [`config`] | the standalone server and its settings |
//! | [`defaults`] | every default, with its reason |
//! | [`cluster`] | several nodes of one service, over Redis |
//! | [`access`] | which videos and pages are served |
//! | [`token`] | tokens of viewers, mirrors and edges |
//! | [`sharing`] | what the site asks of its viewers |
//! | [`layered`] | settings from flags, environment, TOML and defaults; also used by `marea-seeder` |
//! | [`address`] | proxies, prefixes, what may be logged |
//! | [`ids`] | announce ids and peer ids |
//!
//! # Inside another server
//! ```no_run
//! # use marea_signaling::{Access, Catalogue, AnnounceId, Settings, Signaling, StunServer};
//! # async fn example() -> std::io::Result<()> {
//! let catalogue = Catalogue::default();
//! let stun = StunServer::bind("0.0.0.0:8080".parse().unwrap()).await?;
//! let settings = Settings {
//!     access: Access::Catalogue(catalogue.clone()),
//!     stun_port: Some(stun.local_addr().port()),
//!     ..Settings::with_random_secret()?
//! };
//! let signaling = Signaling::start(settings);
//! tokio::spawn(stun.run());
//! catalogue.insert(AnnounceId::of_video("Z6zb5Mm9X1m5nZ7u0yQ0bA"));
//! // In the hyper service, for requests to `/signal`, on a connection served `with_upgrades()`:
//! //     let response = signaling.upgrade(request, peer_address);
//! // When told to end:
//! signaling.drain(std::time::Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod access;
pub mod address;
mod asn;
mod bucket;
pub mod cluster;
pub mod config;
pub mod defaults;
pub mod ids;
pub mod layered;
pub mod message;
mod metrics;
mod random;
pub mod server;
pub mod service;
pub mod shard;
pub mod sharing;
pub mod stun;
mod ticket;
#[cfg(feature = "tls")]
pub mod tls;
pub mod token;
pub mod tracker;
pub mod turn;

pub use access::{Access, Catalogue, OriginRule, Origins, Rules};
pub use address::{ClientAddress, Network};
pub use asn::AsnDatabase;
pub use ids::{AnnounceId, PeerId};
pub use service::{Policy, Settings, Signaling, Stats};
pub use stun::StunServer;
