//! The edge of Marea: serves HLS over HTTP, and tags every playlist so that viewers can verify and share what it names
//! (design C4).
//!
//! ```no_run
//! # async fn example() -> Result<(), marea_seeder::SeederError> {
//! use marea_seeder::{Config, Seeder};
//! let seeder = Seeder::bind(Config::new("/srv/videos", ([127, 0, 0, 1], 0).into())).await?;
//! println!("http://{}/videos/tide/master.m3u8", seeder.local_addr());
//! seeder.run(async { drop(tokio::signal::ctrl_c().await) }).await;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod annotate;
mod answer;
mod api;
mod atomic;
mod body;
mod catalogue;
mod compose;
pub mod config;
mod connection;
mod delta;
mod doctor;
mod edge;
mod engine;
mod error;
mod files;
mod hasher;
mod hashes;
mod inbox;
mod index;
mod keys;
mod library;
mod meter;
mod metrics;
mod mirror;
mod open;
mod origin;
mod package;
mod peer;
mod quota;
mod range;
mod revoked;
mod server;
mod service;
mod sign;
mod state;
mod stun;
mod tls;
mod token;
mod transport;
mod video;
mod walk;
mod well_known;
mod workers;

pub use annotate::{AnnotateError, Event, Mode, Summary, annotate};
pub use config::Config;
pub use doctor::{Checkup, DoctorError, Finding, Report, Verdict, doctor};
pub use error::SeederError;
pub use keys::{KeyError, KeyRing, KeyState, SiteKey};
pub use mirror::{FetchError, Mirror, MirrorError, MirrorPlan, Outcome};
pub use package::{PackageError, PackageEvent, package};
pub use peer::{Film, Peer, PeerPlan};
pub use quota::{Hours, Month};
pub use revoked::{RevokeError, revoke};
pub use server::{Control, Seeder};
pub use sign::{Expected, PublicKey, PublicKeyError, SignatureError, Signer, Stamp, name, verify};
