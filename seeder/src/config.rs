//! What a seeder is told, and every default with its reason.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use marea_signaling::{
    Network, OriginRule,
    layered::{ConfigError, Layers, Setting, Shape, Values},
};
use url::Url;

/// Open connections at once; further ones wait in the kernel's queue. Each costs at most ~1 MiB of buffers.
pub const MAX_CONNECTIONS: usize = 4096;

/// Time for a client to send a request head, which is also how long an idle connection is kept: players ask at least
/// once per segment (2–10 s).
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that takes no byte for this long is cut off. A player that is paused for longer asks again.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for running responses after SIGTERM; a 10 s segment at the bitrate of its video fits.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Time over which viewers are asked to come back to signaling when this server leaves: their full jitter is 1 s.
pub const SIGNALING_DRAIN: Duration = Duration::from_secs(2);

/// Pause after `accept` failed, as by too many open files: long enough not to spin, too short to be noticed.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes read from a file and handed to the socket at a time, where they have to pass through this program (TLS, HTTP/2): small enough
/// to stay in the processor's cache on the way, and that 4096 slow readers fit in memory.
pub const CHUNK: usize = 64 * 1024;

/// Bytes that the kernel is asked to send from a file at a time, where it can (plain HTTP/1.1).
pub const SEND: usize = 1024 * 1024;

/// A file that was the one of its name so lately is not looked up again: what is asked for a thousand times a second is not looked up as
/// often, and nobody sees that it was replaced so much later.
pub const RECHECK: Duration = Duration::from_millis(20);

/// Open files that are kept for the next request. Of each the smallest are kept whole in memory, up to [`SMALL_FILE`].
pub const OPEN_FILES: usize = 1024;

/// See [`OPEN_FILES`]: 16 MiB in all at most.
pub const SMALL_FILE: u64 = 16 * 1024;

/// Time for a client to shake hands for TLS.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests at once on one HTTP/2 connection: more than a player ever makes.
pub const MAX_STREAMS: u32 = 128;

/// A response whose last byte was written counts as complete once the client asked again, closed in good order, or was
/// still there after this time; a connection reset before that counts it as cancelled.
pub const SETTLE_TIME: Duration = Duration::from_secs(1);

/// Longest request target, in bytes. The longest real ones carry signed queries of about 2 KiB.
pub const MAX_TARGET: usize = 8 * 1024;

/// hyper's limit on a request head and on body bytes it queues: one chunk is written before the next is read.
pub const HEAD_LIMIT: usize = 64 * 1024;

/// How often the folder is walked again for new, changed and vanished files.
pub const RESCAN_INTERVAL: Duration = Duration::from_secs(30);

/// Longest wait for the first walk before the server says it is ready: viewers of known videos may join at once.
pub const FIRST_SCAN_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest wait of a live playlist for the hashes of its newest segments (2 MB take about 5 ms).
pub const LIVE_HASH_WAIT: Duration = Duration::from_secs(1);

/// Segments at the end of a live playlist at which players begin (RFC 8216 §6.3.3).
pub const LIVE_EDGE: usize = 3;

/// Live playlists with more segments than this are offered as delta updates: below it a whole one, compressed, is no
/// more than about 8 KB.
pub const DELTA_SEGMENTS: usize = 100;

/// `CAN-SKIP-UNTIL` in target durations: the least that RFC 8216bis §4.4.3.8 allows. A player that read the playlist within
/// half of it may leave out what is older.
pub const SKIP_BOUNDARY: f64 = 6.0;

/// How long a live playlist is cut off before a segment whose file is not there yet, in target durations. Then it is listed
/// as it stands: playing on is up to the player.
pub const LATE_SEGMENT: f64 = 1.0;

/// How often the files of a live playlist that did not change are looked at: an encoder that starts anew writes over old
/// segments before it writes a playlist.
pub const LIVE_CHECK: Duration = Duration::from_secs(1);

/// A playlist that changed so lately may still be being written: it is read again once it has rested for this long.
pub const PLAYLIST_REST: Duration = Duration::from_millis(20);

/// Deepest folder below the root that is walked.
pub const MAX_DEPTH: usize = 32;

/// Tagged playlists kept in memory, in bytes.
pub const PLAYLIST_CACHE: usize = 64 * 1024 * 1024;

/// How long a VOD playlist without all its tags is served again before a new one is made: with many viewers at the door
/// and a film being hashed, reading it for each of them would slow the hashing.
pub const PENDING_REUSE: Duration = Duration::from_secs(1);

/// `Cache-Control: max-age` of VOD playlists, in seconds: tags and ids may change at any time, and asking again costs a
/// 304. Live ones have half a target duration, but no more than this.
pub const VOD_PLAYLIST_AGE: u64 = 10;

/// `Cache-Control: max-age` of files that have not changed for that long, in seconds. Operators do
/// replace files under their old names, and a cache cannot be called back.
pub const MAX_AGE: u64 = 3600;

/// How long the signature of a VOD or multivariant playlist counts: a mirror may serve it for so long while its origin is
/// dead, and so long does a withdrawn one live on.
pub const SIGNATURE_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long that of a live playlist counts at least, and in target durations: an older one is of no use to a viewer.
pub const SIGNATURE_LIFE_LIVE: Duration = Duration::from_secs(60);
/// See [`SIGNATURE_LIFE_LIVE`].
pub const SIGNATURE_LIFE_TARGETS: f64 = 6.0;

/// Longest wait of a mirror for the next bytes of its origin; then it tries again at its next pass.
pub const MIRROR_PATIENCE: Duration = Duration::from_secs(30);

/// Time between two passes of a mirror over what it copies. A withdrawn video is gone from it that soon.
pub const MIRROR_INTERVAL: Duration = Duration::from_secs(300);

/// Most bytes of disk for what came from the origin: a few films, on the smallest machine that one rents.
pub const CACHE_SIZE: u64 = 20_000_000_000;

/// Longest wait for the origin to connect, to answer, and then for its next bytes. Players give up after 10 to 20 s.
pub const ORIGIN_PATIENCE: Duration = Duration::from_secs(15);

/// Requests to the origin at once, and connections that are kept for the next ones: enough for a 1 Gbit/s line over 100 ms, few
/// enough for any origin.
pub const ORIGIN_CONNECTIONS: usize = 64;
/// See [`ORIGIN_CONNECTIONS`].
pub const ORIGIN_IDLE: usize = 16;

/// How long such a connection is kept: servers close theirs after 5 s (Node.js) to 75 s (nginx).
pub const ORIGIN_IDLE_TIME: Duration = Duration::from_secs(4);

/// How long a server that stops waits for what is still coming from the origin, after its last answer has ended.
pub const ORIGIN_CLOSE: Duration = Duration::from_millis(500);

/// How long what the origin refused or failed to give is not asked for again, and how long an origin that does not answer is left
/// alone: a live segment may be there a second later.
pub const NEGATIVE_AGE: Duration = Duration::from_secs(1);

/// How long an answer that was for one client only is taken to be so.
pub const PRIVATE_AGE: Duration = Duration::from_secs(60);

/// Failures in a row after which the origin as a whole is asked once a second only. A single broken file is not the origin.
pub const ORIGIN_FAILURES: u32 = 5;

/// How long media of an origin that does not say how long it counts is served without asking again.
pub const ORIGIN_MEDIA_AGE: Duration = Duration::from_secs(3600);

/// The same for playlists; live ones are asked for anew after half a target duration at the latest.
pub const ORIGIN_PLAYLIST_AGE: Duration = Duration::from_secs(1);

/// How long after that something is served at once while it is asked for again, where the origin does not say.
pub const STALE_WHILE_REVALIDATE: Duration = Duration::from_secs(60);

/// How long after that something is served while the origin fails, where it does not say: a night and a morning.
pub const STALE_IF_ERROR: Duration = Duration::from_secs(24 * 3600);

/// Bytes of an origin's answers that are in memory because the disk takes none, all in all.
pub const ORIGIN_MEMORY: usize = 256 * 1024 * 1024;

/// How much of that may stay there once it is whole.
pub const ORIGIN_MEMORY_CACHE: u64 = 64 * 1024 * 1024;

/// Bytes of hashes and piece lists of what came from the origin: about 60,000 segments, also those that had to make room.
pub const HASH_CACHE: u64 = 64 * 1024 * 1024;

/// Segments that are fetched ahead of viewers each time that a playlist with missing hashes is asked for: engines ask every 30 s, so a
/// film is hashed at twice the speed at which it is watched, and no further than it is watched.
pub const ORIGIN_AHEAD: usize = 16;

/// How many of them at once: viewers come first.
pub const ORIGIN_PREFETCH: usize = 4;

/// How long a segment that the origin does not have is not looked for again to be hashed.
pub const MISSING_AGE: Duration = Duration::from_secs(30);

/// Playlists of the origin whose segments are known by name. More than that are made up.
pub const ORIGIN_PLAYLISTS: usize = 16 * 1024;

/// How often the inbox is looked at. A file that did not change in between is whole.
pub const INBOX_INTERVAL: Duration = Duration::from_secs(2);

/// Pause before a file of the inbox is tried again that failed for want of room, rights or ffmpeg.
pub const INBOX_RETRY: Duration = Duration::from_secs(30);

/// Largest upload by the API, in bytes: two hours at the bitrate of a camera.
pub const MAX_UPLOAD: u64 = 50_000_000_000;

/// Bytes of disk that an upload leaves free.
pub const SPARE_DISK: u64 = 1_000_000_000;

/// Viewers of one video that are given pieces over WebRTC at once (half as many again are borne). Each costs about 0.5 MB and
/// keep-alives; viewers pass on what they got, so more would only halve each one's share.
pub const PEER_NEIGHBOURS: usize = 40;

/// Connections over WebRTC in all: 0.5 GB of memory at most.
pub const MAX_LINKS: usize = 1_000;

/// Pairs of addresses that are remembered of a connection: all that 20 candidates make with two addresses of ours, and more.
pub const LINK_ROUTES: usize = 64;

/// Datagrams that a connection sends to an address (all its ports together) from which none of its own has come: enough to open
/// a NAT of ours to two ports of it, too few to be of use against somebody whom a neighbour gives for himself.
pub const LINK_PROBES: u8 = 4;

/// Longest time from offer to open channels; signaling forgets an offer by then.
pub const LINK_OPEN: Duration = Duration::from_secs(30);

/// A connection on which nothing sent has arrived for so long is dead: three losses of one packet in a row take 7 s.
pub const LINK_PROGRESS: Duration = Duration::from_secs(8);

/// Least and most bytes that lie in the WebRTC stack per connection, under way or not: 256 KiB is what Chromium's socket takes
/// without loss, and 40 Mbit/s at 50 ms.
pub const LINK_WINDOW: (usize, usize) = (64 * 1024, 256 * 1024);

/// How long what lies there takes at the connection's pace; control messages wait behind it.
pub const LINK_WINDOW_TIME: Duration = Duration::from_millis(250);

/// Most bytes of control messages that wait for the WebRTC stack per connection: eight of the longest piece lists.
pub const LINK_CONTROL: usize = 1024 * 1024;

/// Time over which that pace is measured.
pub const LINK_RATE_SAMPLE: Duration = Duration::from_millis(200);

/// Time for goodbyes when the program ends.
pub const LINK_GOODBYE: Duration = Duration::from_millis(50);

/// What an upload limit allows at once after a pause: less than a frame's time at usual limits would leave the line idle.
pub const UPLOAD_BURST: Duration = Duration::from_millis(50);

/// Kernel buffers of a UDP socket, in bytes: hundreds of connections share it.
pub const UDP_BUFFER: usize = 1024 * 1024;

/// When STUN servers are asked again: soon, since UDP loses some, then as often as NATs forget (30 s and more).
pub const STUN_AGAIN: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(20)];

/// First and longest wait before a lost signaling server is tried again; the true one is random, up to it (`docs/protocol.md` §4).
pub const SIGNALING_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Longest silence of signaling, which pings every 30 s.
pub const SIGNALING_SILENCE: Duration = Duration::from_secs(90);

/// Messages to signaling at once and per second: under what it takes (300 and 20), so that a whole library can join.
pub const SIGNALING_BURST: f64 = 200.0;
/// See [`SIGNALING_BURST`].
pub const SIGNALING_PACE: f64 = 15.0;

/// How often an edge looks for new segments of live playlists; no player polls more often.
pub const EDGE_LOOK: Duration = Duration::from_secs(1);

/// How often it looks at films whose hashes are not all there, and at those where they are.
pub const EDGE_LOOK_FILM: (Duration, Duration) = (Duration::from_secs(5), RESCAN_INTERVAL);

/// Life of the tokens that a mirror or an edge signs for itself: it joins at once, and clocks differ.
pub const TOKEN_LIFE: Duration = Duration::from_secs(600);

/// How far ahead of the signatures their sequence numbers are noted on disk, in milliseconds: they must rise over restarts too,
/// wherever the clock goes, and a note a minute is little work.
pub const SEQUENCE_AHEAD: u64 = 60_000;

/// Folder in the root for ids and hashes where no `--state` and no `STATE_DIRECTORY` is given. Hidden, so never served.
pub const STATE_FOLDER: &str = ".marea";

/// Threads that hash: half of the machine, so that viewers never wait for a scan. One more is kept for live segments.
pub fn hash_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).max(1))
}

/// What `serve` is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Folder whose files are served under `/videos/`; none if there is only an [`origin`](Self::origin).
    pub root: Option<PathBuf>,
    /// Server whose files are served under `/videos/` where the folder has none.
    pub origin: Option<Url>,
    /// Hosts beside the origin's to which its redirects may lead.
    pub origin_host: Vec<String>,
    /// Query parameters that are part of what is asked of the origin.
    pub origin_query: Vec<String>,
    /// Most bytes of disk for what came from the origin.
    pub cache_size: u64,
    /// File with the token that changing requests carry.
    pub api_token: Option<PathBuf>,
    /// Address for HTTP; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address for STUN over UDP; the TCP address if none. Unused with [`signaling`](Self::signaling).
    pub udp: Option<SocketAddr>,
    /// UDP port on which the server is a WebRTC peer, too; it is none if not set.
    pub edge_port: Option<u16>,
    /// Ed25519 private key that lets it join as edge at signaling on another machine.
    pub peer_key: Option<PathBuf>,
    /// WebSocket URL written as `SIGNALING` into playlists. Without it the seeder runs signaling itself at `/signal`.
    pub signaling: Option<String>,
    /// Key file to sign playlists with; they are not signed if none.
    pub key: Option<PathBuf>,
    /// Playlists and piece lists are served as they lie in the folder, which a [`Mirror`](crate::Mirror) keeps.
    pub verbatim: bool,
    /// `/.well-known/marea` lists all videos, for mirrors.
    pub list_videos: bool,
    /// Folder whose media files are packaged into the root.
    pub inbox: Option<PathBuf>,
    /// Largest upload by the API, in bytes.
    pub max_upload: u64,
    /// Folder for hashes, and for ids of videos whose folder cannot be written; [`STATE_FOLDER`] in the root if none.
    pub state: Option<PathBuf>,
    /// URL at which viewers reach this server, such as `https://edge.example`.
    pub public_url: Option<Url>,
    /// Separate address for `/healthz`, `/readyz` and `/metrics`.
    pub admin_listen: Option<SocketAddr>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxy: Vec<Network>,
    /// Origins that may read and join; all if empty.
    pub allow_origin: Vec<OriginRule>,
    /// Open connections at once.
    pub max_connections: usize,
    /// Threads that serve connections; as many as the machine has cores if 0.
    pub threads: usize,
    /// Certificate chain and private key for `https:`, in PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How often the folder is walked again.
    pub rescan_interval: Duration,
    /// A client that takes no byte for this long is cut off.
    pub stall_timeout: Duration,
    /// Time for a client to send a request head.
    pub header_timeout: Duration,
}

impl Config {
    /// Serves `root` at `listen`; everything else as by default.
    pub fn new(root: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self {
            root: Some(root.into()),
            origin: None,
            origin_host: Vec::new(),
            origin_query: Vec::new(),
            cache_size: CACHE_SIZE,
            api_token: None,
            listen,
            udp: None,
            edge_port: None,
            peer_key: None,
            signaling: None,
            key: None,
            verbatim: false,
            list_videos: false,
            inbox: None,
            max_upload: MAX_UPLOAD,
            state: None,
            public_url: None,
            admin_listen: None,
            trusted_proxy: Vec::new(),
            allow_origin: Vec::new(),
            max_connections: MAX_CONNECTIONS,
            threads: 0,
            tls: None,
            rescan_interval: RESCAN_INTERVAL,
            stall_timeout: STALL_TIMEOUT,
            header_timeout: HEADER_TIMEOUT,
        }
    }
}

/// The settings of `marea-seeder serve`.
pub const LAYERS: Layers = Layers {
    prefix: "MAREA_SEEDER_",
    settings: &[
        Setting {
            key: "root",
            shape: Shape::Text,
            default: None,
            example: "DIR",
            help: "Folder to serve under /videos/. Playlists in it are tagged as they are served; the files themselves \
                   are never changed.",
        },
        Setting {
            key: "origin",
            shape: Shape::Text,
            default: None,
            example: "https://origin.example/hls/",
            help: "URL below which another server has HLS: what is not in --root is pulled from there, kept, and tagged. \
                   With it --root may be left out.",
        },
        Setting {
            key: "origin-host",
            shape: Shape::List,
            default: Some(""),
            example: "cdn.example",
            help: "Hosts beside the origin's own to which its redirects may lead. Their addresses have to be public.",
        },
        Setting {
            key: "origin-query",
            shape: Shape::List,
            default: Some(""),
            example: "token",
            help: "Query parameters that are passed on to the origin, each value as a file of its own. Others count only \
                   in URLs that the origin's playlists name: else anybody fills the disk with ?x=1, ?x=2 and so on.",
        },
        Setting {
            key: "cache-size",
            shape: Shape::Text,
            default: Some("20gb"),
            example: "20gb",
            help: "Most disk, in the state folder, for what came from the origin. It is there again after a restart.",
        },
        Setting {
            key: "api-token",
            shape: Shape::Text,
            default: None,
            example: "FILE",
            help: "File with a secret of 16 characters or more that requests of the API (/api/v1), and all that change \
                   something, carry (Authorization: Bearer). Without it there are none. Read again at SIGHUP.",
        },
        Setting {
            key: "listen",
            shape: Shape::Text,
            default: Some("127.0.0.1:8080"),
            example: "ADDR",
            help: "Address and port for HTTP. Loopback by default: TLS ends in front of it, and nothing is public by \
                   accident. Port 0 takes a free one.",
        },
        Setting {
            key: "udp",
            shape: Shape::Text,
            default: None,
            example: "ADDR",
            help: "Address and port for STUN. The same as --listen if not set; unused with --signaling.",
        },
        Setting {
            key: "signaling",
            shape: Shape::Text,
            default: None,
            example: "wss://signaling.example/signal",
            help: "WebSocket URL of a signaling server, written into the playlists. Without it this program is the \
                   signaling server for its own videos, at /signal.",
        },
        Setting {
            key: "edge-port",
            shape: Shape::Number,
            default: None,
            example: "3480",
            help: "UDP port on which this server also gives the videos of --root over WebRTC, as a peer of kind edge: for pages \
                   that cannot reach it by HTTP, and for viewers who meet nobody else (with --key). Off by default: such a \
                   byte costs the server as much as one by HTTP, and many times the CPU.",
        },
        Setting {
            key: "peer-key",
            shape: Shape::Text,
            default: None,
            example: "FILE",
            help: "Ed25519 private key in PEM, with --edge-port and --signaling: shows signaling on another machine, which \
                   lists its public key as `peer-key`, that this server may be an edge.",
        },
        Setting {
            key: "key",
            shape: Shape::Text,
            default: None,
            example: "FILE",
            help: "Key file (`marea-seeder key new`) to sign the playlists with, so that mirrors and viewers can check \
                   them. Read again at SIGHUP.",
        },
        Setting {
            key: "list-videos",
            shape: Shape::Switch,
            default: None,
            example: "",
            help: "List all videos at /.well-known/marea, so that mirrors can copy the site. Off by default: a video may \
                   be known only to those who were given its URL.",
        },
        Setting {
            key: "inbox",
            shape: Shape::Text,
            default: None,
            example: "DIR",
            help: "Folder whose media files are packaged into --root by ffmpeg as they come: one rendition first, then the \
                   ladder. They stay where they are. Needs a --root that this user may write to.",
        },
        Setting {
            key: "max-upload",
            shape: Shape::Text,
            default: Some("50gb"),
            example: "50gb",
            help: "Largest upload by the API. Two hours as a camera writes them fit in the default.",
        },
        Setting {
            key: "state",
            shape: Shape::Text,
            default: None,
            example: "DIR",
            help: "Folder for hashes, and for ids of videos whose folder cannot be written. If not set: \
                   STATE_DIRECTORY (systemd sets it), else .marea in --root, which is never served.",
        },
        Setting {
            key: "public-url",
            shape: Shape::Text,
            default: None,
            example: "https://edge.example",
            help: "URL at which viewers reach this server. Its host is what browsers are told for STUN; if not set, \
                   the host that each of them asked for.",
        },
        Setting {
            key: "admin-listen",
            shape: Shape::Text,
            default: None,
            example: "ADDR",
            help: "Separate address for /healthz, /readyz and /metrics. Without it /metrics answers only to direct \
                   loopback connections.",
        },
        Setting {
            key: "trusted-proxy",
            shape: Shape::List,
            default: Some(""),
            example: "10.0.0.0/8",
            help: "Proxies whose X-Forwarded-For is believed. None by default: anybody could write that header.",
        },
        Setting {
            key: "allow-origin",
            shape: Shape::List,
            default: Some(""),
            example: "https://www.example",
            help: "Pages that may read videos and join. All by default, as on any CDN; https://*.example names all \
                   subdomains.",
        },
        Setting {
            key: "max-connections",
            shape: Shape::Number,
            default: Some("4096"),
            example: "4096",
            help: "Open connections at once. Each costs at most 1 MiB; further ones wait.",
        },
        Setting {
            key: "threads",
            shape: Shape::Number,
            default: Some("0"),
            example: "0",
            help: "Threads that serve connections. 0 is one for each core.",
        },
        Setting {
            key: "tls-cert",
            shape: Shape::Text,
            default: None,
            example: "FILE",
            help: "Certificate chain in PEM, the server's own first: serves https: itself, by HTTP/2 too. Read again at \
                   SIGHUP, as after certbot's renewal. Without it TLS ends in front of this program, or nowhere.",
        },
        Setting {
            key: "tls-key",
            shape: Shape::Text,
            default: None,
            example: "FILE",
            help: "Private key of --tls-cert, in PEM.",
        },
    ],
};

impl Config {
    /// Reads the settings of [`LAYERS`].
    ///
    /// # Errors
    /// Names the setting that is missing or wrong, and where it was set.
    pub fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let origin: Option<Url> = values.parse("origin")?;
        let root = match (values.text("root"), &origin) {
            (None, None) => {
                return Err(values.refuse("root", "is missing: name the folder to serve, or a server by --origin"));
            }
            (root, _) => root.unwrap_or_default(),
        };
        let listen = values.parse("listen")?.ok_or_else(|| values.refuse("listen", "is missing: give ADDR:PORT"))?;
        let mut config = Self::new(root, listen);
        config.root = config.root.filter(|root| !root.as_os_str().is_empty());
        config.origin = match origin {
            Some(url) => Some(origin_url(url).map_err(|reason| values.refuse("origin", reason))?),
            None => None,
        };
        config.origin_host = values.list("origin-host").to_vec();
        config.origin_query = values.list("origin-query").to_vec();
        if let Some(size) = values.text("cache-size") {
            config.cache_size = byte_size(size).map_err(|reason| values.refuse("cache-size", reason))?;
        }
        config.api_token = values.text("api-token").map(PathBuf::from);
        config.udp = values.parse("udp")?;
        if let Some(port) = values.number("edge-port") {
            let port = u16::try_from(port).map_err(|_| values.refuse("edge-port", "must be a port, 0 to 65535"))?;
            if config.root.is_none() {
                return Err(
                    values.refuse("edge-port", "needs --root: what comes from --origin is not given over WebRTC")
                );
            }
            config.edge_port = Some(port);
        }
        config.peer_key = values.text("peer-key").map(PathBuf::from);
        config.signaling = match values.text("signaling") {
            Some(url) => Some(signaling_url(url).map_err(|reason| values.refuse("signaling", reason))?),
            None => None,
        };
        config.key = values.text("key").map(PathBuf::from);
        config.list_videos = values.switch("list-videos");
        config.inbox = values.text("inbox").map(PathBuf::from);
        if let Some(size) = values.text("max-upload") {
            config.max_upload = byte_size(size).map_err(|reason| values.refuse("max-upload", reason))?;
        }
        config.state = values.text("state").map(PathBuf::from);
        config.public_url = values.parse("public-url")?;
        if config.public_url.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https")) {
            return Err(values.refuse("public-url", "must begin with http:// or https://"));
        }
        config.admin_listen = values.parse("admin-listen")?;
        config.trusted_proxy = values.parse_list("trusted-proxy")?;
        config.allow_origin = values.parse_list("allow-origin")?;
        if let Some(connections) = values.number("max-connections") {
            config.max_connections = usize::try_from(connections)
                .ok()
                .filter(|connections| *connections > 0)
                .ok_or_else(|| values.refuse("max-connections", "must be at least 1"))?;
        }
        config.threads = values.number("threads").and_then(|threads| usize::try_from(threads).ok()).unwrap_or(0);
        config.tls = match (values.text("tls-cert"), values.text("tls-key")) {
            (Some(_), _) if !cfg!(feature = "tls") => {
                let what = "cannot be used: this program was built without TLS. Build it with `--features tls`";
                return Err(values.refuse("tls-cert", what));
            }
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            (Some(_), None) => return Err(values.refuse("tls-key", "is missing: name the private key of --tls-cert")),
            (None, Some(_)) => return Err(values.refuse("tls-cert", "is missing: name the certificate of --tls-key")),
        };
        Ok(config)
    }
}

/// Checks the URL of a signaling server.
///
/// # Errors
/// What is wrong with it and what to give instead.
pub fn signaling_url(text: &str) -> Result<String, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "ws" | "wss") && !text.contains('"') => Ok(text.to_owned()),
        Ok(url) => Err(format!("is a {}: URL: give one that begins with wss:// (or ws:// for tests)", url.scheme())),
        Err(error) => Err(format!("{text:?} is no URL ({error}): give one such as wss://signaling.example/signal")),
    }
}

/// Checks the URL of an origin.
fn origin_url(url: Url) -> Result<Url, String> {
    let path = url.path().to_ascii_lowercase();
    match url.scheme() {
        "https" if !cfg!(feature = "tls") => {
            Err("is https:, and this program was built without TLS: build it with `--features tls`".to_owned())
        }
        "http" | "https" if url.query().is_some() || url.fragment().is_some() => {
            Err("has a query or fragment: name the folder, and parameters by --origin-query".to_owned())
        }
        "http" | "https" if path.ends_with(".m3u8") => Err("is a playlist: name the folder above it".to_owned()),
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err("must begin with http:// or https://".to_owned()),
    }
}

/// Reads bytes: a number with kb, mb, gb or tb (powers of 1,000) or without.
///
/// # Errors
/// What to give instead.
pub fn byte_size(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale: u64 = match lower[digits.len()..].trim() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => 0,
    };
    let bytes = digits.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(scale)).filter(|_| scale > 0);
    bytes.ok_or_else(|| "give a size such as 20gb, 500mb or a number of bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_the_defaults_that_the_code_uses() {
        let matches = clap::Command::new("t").args(LAYERS.args()).get_matches_from(["t", "--root", "x"]);
        let values = LAYERS.load(&matches, std::iter::empty()).unwrap();
        let config = Config::from_values(&values).unwrap();
        assert_eq!(config.max_connections, MAX_CONNECTIONS);
        assert_eq!(config.cache_size, CACHE_SIZE);
        assert_eq!(config.max_upload, MAX_UPLOAD);
        assert_eq!(config.listen, ([127, 0, 0, 1], 8080).into());
    }
}
