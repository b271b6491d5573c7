//! Every default of the signaling server, with its reason.

use std::time::Duration;

use crate::{
    ids::Millis,
    layered::{Layers, Setting, Shape},
};

/// The settings of `marea-signaling`: flags, `MAREA_SIGNALING_*`, TOML.
pub const LAYERS: Layers = Layers {
    prefix: "MAREA_SIGNALING_",
    settings: &[
        Setting {
            key: "listen",
            shape: Shape::Text,
            default: Some("127.0.0.1:4080"),
            example: "ADDR",
            help: "Address and port of HTTP and WebSockets. The default is reachable from this machine only, so that \
                   nothing is open to the world by accident; port 0 takes a free one.",
        },
        Setting {
            key: "udp",
            shape: Shape::Text,
            default: Some("same"),
            example: "ADDR",
            help: "Address and port of STUN over UDP. `same` takes the address and port of `listen`, so that one port \
                   number is opened in a firewall; `none` turns STUN off, and then viewers behind different routers do \
                   not find each other.",
        },
        Setting {
            key: "public-url",
            shape: Shape::Text,
            default: None,
            example: "https://signal.example",
            help: "How clients reach this server. Its host is what they are told as STUN server. Not set: the `Host` \
                   of each request, which is right unless a proxy changes it.",
        },
        Setting {
            key: "admin-listen",
            shape: Shape::Text,
            default: None,
            example: "127.0.0.1:4081",
            help: "A second address for /metrics, /healthz and /readyz, open to whoever reaches it. Not set: /metrics \
                   is answered on `listen`, to programs on this machine only.",
        },
        Setting {
            key: "trusted-proxy",
            shape: Shape::List,
            default: Some(""),
            example: "10.0.0.0/8",
            help: "Proxies (addresses or networks) whose X-Forwarded-For is believed. Empty: none, since anybody can \
                   write that header. Behind a proxy that is not listed there are no limits per address, and viewers \
                   in one home do not see that they are.",
        },
        Setting {
            key: "allow-origin",
            shape: Shape::List,
            default: Some(""),
            example: "https://video.example",
            help: "Pages that may connect, as `https://host[:port]` or `https://*.host`. Empty: every page, since \
                   videos are protected by ids that cannot be guessed; list yours to keep other sites from using \
                   this server.",
        },
        Setting {
            key: "tracker",
            shape: Shape::Switch,
            default: Some("true"),
            example: "true",
            help: "Answers WebTorrent clients and p2p-media-loader at /announce, /tracker/socket and / too, apart from \
                   Marea's viewers. On, since it costs nothing unused; `allow-origin` counts for it, tokens do not.",
        },
        #[cfg(feature = "tls")]
        Setting {
            key: "tls-cert",
            shape: Shape::Text,
            default: None,
            example: "/etc/marea/cert.pem",
            help: "Certificate chain in PEM: `https:` and `wss:` on `listen`, without a proxy. Read again at SIGHUP. Not set: plain.",
        },
        #[cfg(feature = "tls")]
        Setting {
            key: "tls-key",
            shape: Shape::Text,
            default: None,
            example: "/etc/marea/key.pem",
            help: "Private key of --tls-cert, in PEM.",
        },
        Setting {
            key: "asn-db",
            shape: Shape::Text,
            default: None,
            example: "/var/lib/GeoIP/GeoLite2-ASN.mmdb",
            help: "MaxMind DB file with autonomous system numbers: viewers of one operator are matched rather. Read again at \
                   SIGHUP. Not set: by network (/24, /48) alone.",
        },
        #[cfg(feature = "redis")]
        Setting {
            key: "redis",
            shape: Shape::List,
            default: Some(""),
            example: "redis://127.0.0.1:6379",
            help: "Redis by which several nodes find each other: `redis://`, `rediss://` (TLS), several of a cluster, or \
                   `redis+sentinel://HOST:26379/NAME`; or a file with them, since they may hold a password. Empty: one node, \
                   which needs none. All nodes need the same `secret`; without one they share one through Redis.",
        },
        Setting {
            key: "secret",
            shape: Shape::Text,
            default: None,
            example: "/etc/marea/secret",
            help: "File with 32 bytes or more that are this server's own, shared by all nodes of one service. Tickets \
                   are made with it. Not set: fresh ones at every start, and viewers get new ids then.",
        },
        Setting {
            key: "token-key",
            shape: Shape::List,
            default: Some(""),
            example: "/etc/marea/token.key",
            help: "Files with keys that check tokens: a secret of 32 bytes or more (HS256), or an Ed25519 key in PEM or \
                   as `ed25519:…` (EdDSA). Name the old and the new one while you change them. Mirrors and edges of \
                   other machines need a token.",
        },
        Setting {
            key: "require-token",
            shape: Shape::Switch,
            default: Some("false"),
            example: "false",
            help: "Viewers need a token too. Off, since videos are protected by ids that cannot be guessed; turn it on \
                   where somebody who may watch now may not be met later.",
        },
        Setting {
            key: "peer-key",
            shape: Shape::List,
            default: Some(""),
            example: "ed25519:…",
            help: "Public keys of mirrors and edges, which sign their own tokens with them. Empty: they need a token \
                   of `token-key`, or run on this machine.",
        },
        Setting {
            key: "turn",
            shape: Shape::List,
            default: Some(""),
            example: "turn:turn.example:3478?transport=udp",
            help: "URLs of a TURN server (coturn with `use-auth-secret`) for viewers who meet edges only, and for edges. Empty: \
                   none. Never told to viewers who meet each other: a relayed byte costs the site twice.",
        },
        Setting {
            key: "turn-secret",
            shape: Shape::Text,
            default: None,
            example: "/etc/marea/turn.secret",
            help: "File with the `static-auth-secret` of that server: credentials for two hours are made with it.",
        },
        Setting {
            key: "p2p",
            shape: Shape::Text,
            default: Some("on"),
            example: "on|ask|off",
            help: "What viewers of all videos are told: share, ask first, or not at all. Read again at SIGHUP; `off` \
                   is the switch that stops all sharing at once.",
        },
        Setting {
            key: "rollout",
            shape: Shape::Number,
            default: Some("100"),
            example: "100",
            help: "Percentage of viewers who share; the others are told `off`. Drawn by address, so that who \
                   takes part still does when it grows.",
        },
        Setting {
            key: "video-policy",
            shape: Shape::List,
            default: Some(""),
            example: "ID=25%",
            help: "Single videos: `ID=on`, `ID=ask`, `ID=off` or `ID=25%`, where ID is what `announce-id` prints. The \
                   strictest of this, `p2p` and `rollout` counts.",
        },
        Setting {
            key: "revoked",
            shape: Shape::List,
            default: Some(""),
            example: "ID",
            help: "Videos that may not be shared any more. After SIGHUP their viewers are told to stop, in mid-film.",
        },
    ],
};

/// How long clients have to come back elsewhere when the server ends. They spread over it; longer than a reconnect takes,
/// shorter than the 10 s after which container managers kill.
pub const DRAIN: Duration = Duration::from_secs(5);

// Sockets.

/// Largest message: an SDP of [`MAX_SDP`] in which every character is escaped in two, with room; more is closed (1009).
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Open WebSockets. 14 KiB each were measured: 1.4 GB, what a small server has.
pub const MAX_CONNECTIONS: usize = 100_000;
/// WebSockets of one subscriber (IPv4 address, IPv6 /64): a school behind one address, but not a whole server's worth.
pub const MAX_CONNECTIONS_PER_ADDRESS: usize = 1024;
/// Bytes that wait for a slow reader before it is dropped: some hundred messages, or ten of the largest.
pub const MAX_QUEUE: usize = 256 * 1024;
/// Time for one write to a socket: a reader that takes nothing for so long is gone.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause between two writes to one socket: answers to one announce come within a moment, and go out as one. What comes after a longer
/// silence goes at once.
pub const WRITE_PAUSE: Duration = Duration::from_millis(2);
/// Time for the HTTP request and for the switch to WebSocket.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A ping goes out after so long without anything received: below the 60 s at which proxies drop idle connections.
pub const PING_AFTER: Duration = Duration::from_secs(30);
/// Nothing received for so long, in spite of the ping: the client is gone.
pub const DEAD_AFTER: Duration = Duration::from_secs(60);

// Connections.

/// A connection that belongs to no video for so long is closed.
pub const IDLE_MS: Millis = 30_000;
/// Videos of one connection: a page with a few players and previews.
pub const MAX_VIDEOS: usize = 16;
/// Videos of one connection of a mirror or an edge, which has its right to be one proven: a whole library.
pub const MAX_SEEDER_VIDEOS: usize = 10_000;
/// Messages a second in the long run: a viewer needs far less than one.
pub const MESSAGE_RATE: f64 = 20.0;
/// Messages at once: offers or answers to [`MAX_MATCH`] peers with [`MAX_CANDIDATES`] each.
pub const MESSAGE_BURST: f64 = 300.0;
/// Wrong messages at once; after that the connection is closed. An honest client sends none.
pub const OFFENCE_BURST: f64 = 10.0;
/// Wrong messages that are forgiven, a second.
pub const OFFENCE_RATE: f64 = 0.1;
/// What a message over the rate weighs, in wrong ones: 200 of them close.
pub const RATE_OFFENCE: f64 = 0.05;

// Tokens.

/// Longest life of a token, in seconds (design §6): a link that was passed on is good for no longer.
pub const TOKEN_LIFE: f64 = 3600.0;
/// Seconds that clocks of pages' servers may be wrong.
pub const TOKEN_SKEW: f64 = 60.0;
/// Longest token, in characters: ours have 300.
pub const MAX_TOKEN: usize = 2048;

// The tracker (WebTorrent's dialect).

/// Largest message: ten offers of a browser with many interfaces, as one announce.
pub const MAX_TRACKER_MESSAGE: usize = 128 * 1024;
/// Offers of one announce that are passed on; the npm client makes 5, older ones 10.
pub const MAX_TRACKER_OFFERS: usize = 10;
/// An offer is answered within this or never: clients destroy theirs after 50 s.
pub const TRACKER_OFFER_MS: Millis = 60_000;
/// JSON bytes of an `offer_id`: 20 characters, each escaped in 6, and their quotes.
pub const MAX_OFFER_ID: usize = 128;
/// Swarms of one connection: a page's clients share one socket, and players have a swarm per quality.
pub const MAX_TRACKER_SWARMS: usize = 64;
/// Hashes of one scrape.
pub const MAX_SCRAPE: usize = 64;
/// Announces a second of one connection in the long run; a quality switch is two at once.
pub const TRACKER_ANNOUNCE_RATE: f64 = 2.0;
/// Announces at once: a page that comes back to all its swarms.
pub const TRACKER_ANNOUNCE_BURST: f64 = 64.0;
/// Offers a second of one connection.
pub const TRACKER_OFFER_RATE: f64 = 20.0;
/// Offers at once: five for each of a page's swarms.
pub const TRACKER_OFFER_BURST: f64 = 320.0;
/// Seconds until the next announce of a peer that has nobody or few: it should not wait long for the next newcomer.
pub const TRACKER_INTERVAL_MIN: u32 = 20;
/// Seconds until the next announce in a large swarm, where newcomers bring enough offers (as bittorrent-tracker).
pub const TRACKER_INTERVAL_MAX: u32 = 120;
/// Members that bring a swarm half way from one interval to the other.
pub const TRACKER_INTERVAL_HALF: u32 = 20;
/// A member that has not announced for so long is out, though its socket lives: twice what a slow client makes of the
/// longest interval, and what a page's forgotten streams should cost at most.
pub const TRACKER_PEER_MS: Millis = 600_000;
/// A connection in no swarm that has said nothing for so long is closed.
pub const TRACKER_IDLE_MS: Millis = 120_000;

// Relays.

/// Largest SDP, in bytes (design §5).
pub const MAX_SDP: usize = 16 * 1024;
/// Largest text of a candidate, in bytes: they have about 150.
pub const MAX_CANDIDATE: usize = 1024;
/// Candidates of each side in one `conn` (design §5), the closing null included.
pub const MAX_CANDIDATES: u8 = 20;
/// Characters of a `conn` or of a `reject`'s code.
pub const MAX_NAME: usize = 64;
/// An offer that was not answered for so long is dead (design C6).
pub const OFFER_MS: Millis = 30_000;

// Matching.

/// Most peers that a client may want, and is told of at once: the neighbours that the engine keeps (8–12).
pub const MAX_MATCH: u32 = 12;
/// Ids read of `connected`: above what any client keeps.
pub const MAX_CONNECTED: usize = 64;
/// Members looked at for one match: enough to find near ones, few enough for microseconds.
pub const SAMPLE: usize = 48;
/// Share of picks that ignore preference: it keeps the mesh of all viewers in one piece.
pub const RANDOM_PICKS: f64 = 0.15;
/// Distance in playback, in seconds, over which the preference for near positions fades: the engine's buffers.
pub const POSITION_SCALE: f64 = 60.0;
/// Other nodes answer within this or never: a few times what Redis and they need under load.
pub const ASK_MS: Millis = 2_000;
/// A member that still wants peers is looked at again after so long: failed handshakes have died by then.
pub const RETRY_MS: Millis = 30_000;
/// A pair whose handshake failed may be matched again after so long, doubled each time.
pub const REMATCH_FAILED_MS: Millis = 30_000;
/// The same where nobody else is there to be matched with: what failed was often a page that had just begun or a network
/// that changed, and waiting costs all that could be shared.
pub const REMATCH_ALONE_MS: Millis = 5_000;
/// The same for a pair whose offer was answered: most are connected, and the client ignores the second match.
pub const REMATCH_ANSWERED_MS: Millis = 120_000;
/// How often those times are doubled at most.
pub const REMATCH_DOUBLINGS: u32 = 4;
/// New peers of one membership at once (design §6); they come back within an hour.
pub const PAIRINGS_PER_VIDEO: f64 = 30.0;
/// New peers of one connection within an hour (design §6), whoever was told of whom: each learns an address. The same for all
/// connections of one network (/24, /48) together, as far as it meets others.
pub const PAIRINGS_PER_HOUR: f64 = 120.0;

// Membership.

/// Least time between two `viewers` to one client (design C6).
pub const VIEWERS_MS: Millis = 10_000;
/// How long a peer whose socket broke keeps its place, so that a short loss of the network costs nothing.
pub const GRACE_MS: Millis = 10_000;
/// How long a resume ticket is good (design §6).
pub const TICKET_MS: Millis = 24 * 3_600_000;
/// How long a salt is used (design §4).
pub const SALT_MS: Millis = 3_600_000;
/// How long the servers in `ice` may be used, in seconds: a day, since no credential is among them.
pub const ICE_TTL: u32 = 86_400;
/// The same where a TURN server is among them: clients join again for the next salt within an hour, and get new credentials.
pub const TURN_TTL: u32 = 7_200;

// Several nodes.

/// A node says so often that it lives.
pub const NODE_BEAT: Duration = Duration::from_secs(5);
/// One that has not said so for so long is no more: three beats.
pub const NODE_LEASE: Duration = Duration::from_secs(15);
/// What a dead node has left in Redis is taken out by the others after so long.
pub const NODE_FORGET: Duration = Duration::from_secs(60);
/// A node's row of a swarm is written anew so often, changed or not: what Redis has lost comes back, what it did not learn too.
pub const ROW_REFRESH: Duration = Duration::from_secs(30);
/// Least time between two writings of one row, the first and the last member apart.
pub const ROW_PACE: Duration = Duration::from_secs(1);
/// Redis forgets a swarm that nobody has written for so long: three refreshes.
pub const ROW_LIFE: Duration = Duration::from_secs(90);
/// All rows are written within this when Redis has come back.
pub const ROW_RETURN: Duration = Duration::from_secs(3);
/// An answer of Redis that takes longer will not come: it normally takes less than a millisecond.
pub const REDIS_TIMEOUT: Duration = Duration::from_secs(1);
/// Time to connect to a Redis server.
pub const REDIS_CONNECT: Duration = Duration::from_secs(2);
/// Wait before Redis is tried again, at first and at most.
pub const REDIS_RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// Commands under way at once; what comes meanwhile waits in the queue.
pub const REDIS_IN_FLIGHT: usize = 256;
/// Messages that wait for Redis, and frames that wait for this node: some seconds' worth. The rest is dropped, since clients try again.
pub const NODE_QUEUE: usize = 8192;
/// Bytes of messages in one frame; a longer message has one of its own.
pub const NODE_FRAME: usize = 64 * 1024;

// STUN.

/// Requests a second of one address in the long run; a browser sends one per connection and repeats it.
pub const STUN_RATE: f64 = 20.0;
/// Requests of one address at once: 12 neighbours, each with a few interfaces.
pub const STUN_BURST: f64 = 100.0;
/// Requests a second of all: what one core answers with ease; above it, spoofed floods are likelier than viewers.
pub const STUN_TOTAL_RATE: f64 = 20_000.0;
/// Buckets for addresses. They share by a keyed hash, so that memory stays the same whatever comes.
pub const STUN_BUCKETS: usize = 16_384;
