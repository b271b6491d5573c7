//! What is simulated: who comes when, with which lines, to see what.

use marea_swarm::{Millis, config::Config};

use super::{cpu::Cpu, film::FilmSpec};

/// When viewers come.
#[derive(Clone, Copy, Debug)]
pub enum Arrivals {
    /// One every so many milliseconds.
    Every(f64),
    /// All at random times within so many milliseconds.
    Within(f64),
    /// A Poisson process with this mean time between two, in milliseconds.
    Poisson(f64),
}

/// What a peer does that is no honest viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Watches and shares.
    Viewer,
    /// Watches and never uploads.
    FreeRider,
    /// Announces everything and answers with wrong bytes.
    Polluter,
    /// Claims every group at once and brings nothing.
    FalseClaimer,
    /// Announces everything and never answers.
    Silent,
    /// Announces everything and answers with 1 kB/s.
    Trickler,
    /// As [`Role::Silent`], all from one network, with a fresh id again and again: grinders and Sybils.
    Sybil,
    /// A home mirror: does not watch, keeps everything and uploads without a ratio.
    Mirror,
}

/// Shares of the peers with each role; the rest are viewers.
pub type Crowd = &'static [(Role, f64)];

/// A line's classes: odds, uplink and downlink in bits per second.
pub type Lines = &'static [(f64, f64, f64)];

/// Homes: 20, 50 and 30 % at 1, 5 and 20 Mbit/s up.
pub const HOMES: Lines = &[(0.2, 1e6, 16e6), (0.5, 5e6, 50e6), (0.3, 20e6, 100e6)];

/// Behind which kind of router peers are: odds of open, port-restricted, symmetric; and the share without UDP.
#[derive(Clone, Copy, Debug)]
pub struct Nats {
    /// Odds of endpoint-independent mapping and filtering, of endpoint-independent mapping with filtering by port, of
    /// symmetric mapping.
    pub kinds: [f64; 3],
    /// Share that cannot use UDP at all.
    pub no_udp: f64,
}

/// The mix that the figures are about.
pub const INTERNET: Nats = Nats { kinds: [0.30, 0.55, 0.15], no_udp: 0.03 };
/// Everybody reaches everybody.
pub const OPEN: Nats = Nats { kinds: [1.0, 0.0, 0.0], no_udp: 0.0 };

/// The network between peers.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Access lines.
    pub lines: Lines,
    /// Routers.
    pub nats: Nats,
    /// Round trip over an access line alone in milliseconds, and across the whole map.
    pub rtt: (f64, f64),
    /// Odds and probability of packet loss of a peer's access line.
    pub loss: &'static [(f64, f64)],
}

/// Viewers at home all over one country.
pub const HOME_NETWORK: Network =
    Network { lines: HOMES, nats: INTERNET, rtt: (12.0, 50.0), loss: &[(0.7, 0.0001), (0.25, 0.001), (0.05, 0.01)] };

/// Browsers on one machine.
pub const LOOPBACK: Network =
    Network { lines: &[(1.0, 400e6, 800e6)], nats: OPEN, rtt: (0.5, 0.0), loss: &[(1.0, 0.0)] };

/// What a page and a player take, in milliseconds, whatever the network: they are measured in browsers.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// From the visit to the first playlist request.
    pub load: Millis,
    /// From the playlist until the core runs, beyond its download.
    pub engine: Millis,
    /// From the first segment to the first picture.
    pub picture: Millis,
    /// Bytes of the engine, compressed.
    pub engine_bytes: f64,
}

/// Compressed bytes of `marea.js` and `marea.wasm` (`cargo xtask build` prints them).
const ENGINE_BYTES: f64 = 113_000.0;

/// A home computer.
pub const PAGE: Page = Page { load: 150, engine: 120, picture: 80, engine_bytes: ENGINE_BYTES };

/// The machine of `bench viewers`: fitted to the starts of plain hls.js in docs/benchmarks/viewers.jsonl, alone and in crowds
/// of two, four and eight, and for `start_shared` to Marea's.
const BENCH: Cpu =
    Cpu { cores: 2.0, open: 1_700.0, start: 310.0, cold: 200.0, start_shared: 330.0, settle: 1_500.0, play: 0.12 };

/// One scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// One sentence for people.
    pub about: &'static str,
    /// Peers that come in all.
    pub viewers: usize,
    /// Seed of all that is random.
    pub seed: u64,
    /// What is played.
    pub film: FilmSpec,
    /// When they come.
    pub arrivals: Arrivals,
    /// Virtual milliseconds.
    pub span: Millis,
    /// Lines and routers.
    pub network: Network,
    /// Pages and players.
    pub page: Page,
    /// The machine that all of them share; `None`: each has its own.
    pub cpu: Option<Cpu>,
    /// The server's line in bits per second, shared by all; `None`: as fast as each wants.
    pub server_line: Option<f64>,
    /// Most bits per second of one connection to the server.
    pub server_each: f64,
    /// Round trip to the server beyond a peer's own access, in milliseconds.
    pub server_rtt: f64,
    /// Who they are.
    pub crowd: Crowd,
    /// This share leaves at this time: half of them by closing, half by being killed.
    pub leave: Option<(Millis, f64)>,
    /// Mean time that a viewer stays, in milliseconds; `None`: to the end.
    pub stay: Option<f64>,
    /// A viewer of a VOD leaves when it ends.
    pub leave_at_end: bool,
    /// Mean milliseconds between two seeks of a viewer.
    pub seeks: Option<f64>,
    /// Mean milliseconds between two changes of rendition.
    pub switches: Option<f64>,
    /// Without Marea: plain HLS over HTTP.
    pub http_only: bool,
    /// The core's settings: what ships.
    pub config: Config,
}

const fn vod(segments: usize) -> FilmSpec {
    FilmSpec { bitrates: &[2e6], segment_ms: 4000, segments, window: None, single_file: false }
}

const LIVE: FilmSpec =
    FilmSpec { bitrates: &[2e6], segment_ms: 4000, segments: 400, window: Some(6), single_file: false };

impl Scenario {
    fn base(name: &'static str, about: &'static str, film: FilmSpec) -> Self {
        Self {
            name,
            about,
            viewers: 1000,
            seed: 1,
            film,
            arrivals: Arrivals::Within(20_000.0),
            span: 120_000,
            network: HOME_NETWORK,
            page: PAGE,
            cpu: None,
            server_line: None,
            server_each: 100e6,
            server_rtt: 10.0,
            crowd: &[],
            leave: None,
            stay: None,
            leave_at_end: false,
            seeks: None,
            switches: None,
            http_only: false,
            config: Config::default(),
        }
    }

    /// The same crowd and server without Marea.
    pub fn over_http(&self) -> Self {
        // Nobody is there to share with: those who do not watch do not matter.
        Self { http_only: true, ..self.clone() }
    }

    /// Every scenario.
    pub fn all() -> Vec<Self> {
        let mut all = vec![
            Self::base("live", "Live, 2 Mbit/s, all within 20 s, homes all over a country", LIVE),
            Self {
                arrivals: Arrivals::Within(60_000.0),
                server_line: Some(20e6),
                leave: Some((90_000, 0.5)),
                span: 150_000,
                ..Self::base("thin-server", "Live on a 20 Mbit/s server line, half leave at 90 s in one second", LIVE)
            },
            Self {
                crowd: &[(Role::Polluter, 0.1), (Role::FalseClaimer, 0.1)],
                ..Self::base("liars", "Live with 10 % polluters and 10 % false claimers", LIVE)
            },
            Self {
                crowd: &[(Role::FreeRider, 0.4)],
                ..Self::base("free-riders", "Live with 40 % who never upload", LIVE)
            },
            Self {
                crowd: &[(Role::Sybil, 0.3)],
                ..Self::base("sybil", "Live with 30 % silent peers of one network that announce everything", LIVE)
            },
            Self {
                crowd: &[(Role::Silent, 0.1), (Role::Trickler, 0.1)],
                ..Self::base("sluggish", "Live with 10 % who announce and never answer and 10 % at 1 kB/s", LIVE)
            },
            Self { stay: Some(40_000.0), ..Self::base("churn", "Live; a viewer stays 40 s on average", LIVE) },
            Self { crowd: &[(Role::Mirror, 0.01)], ..Self::base("mirrors", "Live with 1 % home mirrors", LIVE) },
            Self {
                film: FilmSpec { bitrates: &[1e6, 2e6, 4e6], segments: 60, ..vod(60) },
                arrivals: Arrivals::Within(60_000.0),
                seeks: Some(30_000.0),
                switches: Some(20_000.0),
                span: 180_000,
                ..Self::base("seeks", "VOD of 240 s in three renditions, with seeks and changes of rendition", vod(60))
            },
            Self {
                arrivals: Arrivals::Within(1_000.0),
                span: 90_000,
                ..Self::base("flash", "60 s VOD, all within a second", vod(15))
            },
        ];
        all.extend([(2.0, "poisson-2"), (5.0, "poisson-5"), (10.0, "poisson-10"), (100.0, "poisson-100")].map(
            |(concurrent, name)| Self {
                // c viewers of a film of 240 s are there at once when one comes every 240 / c seconds.
                arrivals: Arrivals::Poisson(240_000.0 / concurrent),
                viewers: (concurrent * 12.0) as usize,
                span: 12 * 240_000,
                leave_at_end: true,
                ..Self::base(name, "VOD of 240 s, Poisson arrivals, viewers leave at its end", vod(60))
            },
        ));
        all
    }

    /// The scenarios of `bench viewers`, on one machine as there.
    pub fn calibration() -> Vec<Self> {
        let bed = |name, about, film| Self {
            viewers: 4,
            network: LOOPBACK,
            page: Page { load: 220, engine: 150, picture: 60, engine_bytes: ENGINE_BYTES },
            cpu: Some(BENCH),
            server_each: 800e6,
            server_rtt: 0.5,
            ..Self::base(name, about, film)
        };
        vec![
            Self {
                arrivals: Arrivals::Every(10_000.0),
                span: 110_000,
                ..bed("cal-vod", "60 s VOD, 10 s apart", vod(15))
            },
            Self {
                arrivals: Arrivals::Every(500.0),
                span: 80_000,
                ..bed("cal-flash", "60 s VOD, 0.5 s apart", vod(15))
            },
            Self {
                arrivals: Arrivals::Every(2_000.0),
                ..bed("cal-live", "Live for 120 s, 2 s apart", FilmSpec { window: Some(10), ..LIVE })
            },
            Self {
                arrivals: Arrivals::Every(10_000.0),
                span: 110_000,
                ..bed("cal-ranges", "60 s VOD in one file, 10 s apart", FilmSpec { single_file: true, ..vod(15) })
            },
            Self {
                arrivals: Arrivals::Every(500.0),
                span: 90_000,
                server_line: Some(16e6),
                server_each: 8e6,
                server_rtt: 40.0,
                ..bed("cal-thin", "60 s VOD 0.5 s apart on 16 Mbit/s in all, 8 each, 40 ms", vod(15))
            },
        ]
    }
}
