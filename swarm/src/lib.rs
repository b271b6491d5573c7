//! The sans-IO core of Marea: what an HLS playlist names, how its pieces are verified, what peers say to each other,
//! and who fetches what from whom.
//!
//! Nothing here reads a clock, opens a socket or owns a media byte. Time is an argument (milliseconds of any monotonic
//! clock), bytes stay with the host, and every decision leaves as an [`Action`]. The browser engine, the seeder and the
//! test beds run this same code.
//!
//! | module | what it holds |
//! |---|---|
//! | [`ids`] | roots, oids, pieces, the announce id |
//! | [`pieces`] | BLAKE3 chaining values, piece lists, the merge to the root |
//! | [`tags`] | the `EXT-X-MAREA` tags, read and written |
//! | [`playlist`] | the lenient playlist index: locators to objects |
//! | [`assembly`] | received bytes into hashed pieces, for hosts |
//! | [`wire`] | the messages between peers, encoded and decoded |
//! | [`proof`] | who may speak in a swarm |
//! | [`sdp`] | what of an SDP and of its candidates may reach a WebRTC stack |
//! | [`vectors`] | the golden vectors of `docs/protocol.md` |
//! | [`swarm`] | neighbours, scheduler, uploads: [`Swarm`] |
//! | [`base64url`] | bytes as text |
//! | [`config`] | every default, with its reason |

pub mod assembly;
pub mod base64url;
pub mod config;
pub mod fuzz;
pub mod ids;
mod map;
pub mod pieces;
pub mod playlist;
pub mod proof;
mod rng;
pub mod sdp;
pub mod swarm;
pub mod tags;
pub mod vectors;
pub mod wire;

pub use ids::{Millis, Oid, PIECE_SIZE, Root};
pub use swarm::{Action, Swarm};
