//! The fleet simulator: thousands of viewers in virtual time, deterministic by seed.
//!
//! Each runs the very core that browsers run ([`marea_swarm::Swarm`]) and meets the others through the real signaling
//! shard. Around them are models: of the network ([`net`]), of the server's line ([`http`]), of hls.js ([`player`]), of a
//! page that starts ([`page`]), and of peers that want harm ([`script`]). No media byte exists; see [`film`].
//!
//! | figure | what it stands on |
//! |---|---|
//! | bytes | what the core asked for; playlists are real texts, piece lists have their real length |
//! | times | a fluid model of lines with round trips, losses and slow start; millisecond steps |
//! | CPU, memory | of the simulator itself, which is nearly all core |

pub mod calibrate;
pub mod cpu;
pub mod film;
pub mod http;
pub mod net;
pub mod page;
pub mod player;
pub mod report;
pub mod rng;
pub mod scenario;
pub mod script;
pub mod signal;
pub mod viewer;
pub mod wheel;
pub mod world;

use std::time::Instant;

pub use report::Figures;
pub use scenario::Scenario;

/// Runs a scenario and says what it came to.
pub fn run(scenario: &Scenario) -> Figures {
    let begun = Instant::now();
    let mut world = world::World::new(scenario);
    world.run();
    Figures::of(&world, begun.elapsed().as_secs_f64())
}
