//! What a seeder is told, and every default with its reason.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Open connections at once; further ones wait in the kernel's queue. Each costs at most ~400 KiB of buffers.
pub const MAX_CONNECTIONS: usize = 4096;

/// Time for a client to send a request head, which is also how long an idle connection is kept: players ask at least
/// once per segment (2–10 s).
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that takes no byte for this long is cut off. A player that is paused for longer asks again.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for running responses after SIGTERM; a 10 s segment at the bitrate of its video fits.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after `accept` failed, as by too many open files: long enough not to spin, too short to be noticed.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes read from a file and handed to the socket at a time: big enough that reading costs little (measured: 64 KiB is
/// slow, 256 KiB is level with nginx), small enough that 4096 slow readers fit in memory.
pub const CHUNK: usize = 128 * 1024;

/// Bytes that may lie unsent in the kernel per connection. Bounds memory, and keeps the count of what a client that
/// went away was sent near what it got.
pub const UNSENT_LIMIT: u32 = 128 * 1024;

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

/// Deepest folder below the root that is walked.
pub const MAX_DEPTH: usize = 32;

/// Tagged playlists kept in memory, in bytes.
pub const PLAYLIST_CACHE: usize = 64 * 1024 * 1024;

/// `Cache-Control: max-age` of VOD playlists and of files that have not changed for that long, in seconds. Operators do
/// replace files under their old names, and a cache cannot be called back.
pub const MAX_AGE: u64 = 3600;

/// Folder in the root for ids and hashes where no `--state` and no `STATE_DIRECTORY` is given. Hidden, so never served.
pub const STATE_FOLDER: &str = ".marea";

/// Threads that hash: half of the machine, so that viewers never wait for a scan.
pub fn hash_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).max(1))
}

/// What `serve` is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Folder whose files are served under `/videos/`.
    pub root: PathBuf,
    /// Address for HTTP; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address for STUN over UDP; the TCP address if none. Unused with [`signaling`](Self::signaling).
    pub udp: Option<SocketAddr>,
    /// WebSocket URL written as `SIGNALING` into playlists. Without it the seeder runs signaling itself at `/signal`.
    pub signaling: Option<String>,
    /// Folder for hashes, and for ids of videos whose folder cannot be written.
    pub state: Option<PathBuf>,
    /// URL at which viewers reach this server, such as `https://edge.example`.
    pub public_url: Option<String>,
    /// Separate address for `/healthz`, `/readyz` and `/metrics`.
    pub admin_listen: Option<SocketAddr>,
    /// Proxies whose `X-Forwarded-For` is believed (addresses or CIDR blocks).
    pub trusted_proxy: Vec<String>,
    /// Origins that may read and join; all if empty.
    pub allow_origin: Vec<String>,
    /// Open connections at once.
    pub max_connections: usize,
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
            root: root.into(),
            listen,
            udp: None,
            signaling: None,
            state: None,
            public_url: None,
            admin_listen: None,
            trusted_proxy: Vec::new(),
            allow_origin: Vec::new(),
            max_connections: MAX_CONNECTIONS,
            rescan_interval: RESCAN_INTERVAL,
            stall_timeout: STALL_TIMEOUT,
            header_timeout: HEADER_TIMEOUT,
        }
    }
}
