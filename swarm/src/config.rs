//! Every default of the core in one place, each with its reason.

use crate::ids::Millis;

/// Limits and targets of one swarm. `Config::default()` is what ships; hosts change only what their user asked for.
#[derive(Clone, Debug)]
pub struct Config {
    /// Neighbours to hold. More links spread claims and pieces faster, but each costs ~100 KB and keep-alives.
    pub neighbours: usize,
    /// Verified media kept, in bytes. Behind the playhead goes first.
    pub memory_limit: u64,
    /// How far ahead of the playhead peers are asked, in milliseconds of media. By HTTP nothing beyond the player's
    /// own requests is fetched.
    pub prefetch_ms: Millis,
    /// Upload ceiling in bytes per second; `None` is no ceiling beyond half of the measured uplink.
    pub upload_limit: Option<u64>,
    /// Most bytes uploaded per byte received (beyond [`Config::upload_allowance`]); `None` is unlimited (mirrors).
    pub max_upload_ratio: Option<f64>,
    /// Bytes that may be uploaded before the ratio counts: a newcomer's first pieces are as useful as any.
    pub upload_allowance: u64,
    /// Whether this peer answers requests at all.
    pub upload: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            neighbours: 10,
            memory_limit: 256 * 1024 * 1024,
            prefetch_ms: 60_000,
            upload_limit: Some(10_000_000 / 8),
            max_upload_ratio: Some(2.0),
            upload_allowance: 16 * 1024 * 1024,
            upload: true,
        }
    }
}

/// Time of silence after which another source is asked, in milliseconds: at least this, else 4 round trips.
pub const SILENCE_MS: Millis = 500;
/// A first request to a stranger, in pieces: what a silent liar can delay.
pub const STRANGER_PIECES: u32 = 2;
/// Pieces per claim group: 256 KiB, so that N viewers split a segment among them.
pub const GROUP_PIECES: u32 = 4;
/// Shortest guard before a deadline at which HTTP takes what is missing, in milliseconds (plus twice HTTP's time).
pub const GUARD_MS: Millis = 1_000;
/// Longest guard, in milliseconds, however slow the server is: else all would ask a server that is slow because all ask it.
pub const MAX_GUARD_MS: Millis = 10_000;
/// How late a piece may at least be before it is fetched elsewhere when it is urgent, in milliseconds.
pub const LATE_MS: f64 = 500.0;
/// A host whose timers come so late, in milliseconds, has no time to spare.
pub const STARVED_MS: f64 = 150.0;
/// With less than this buffered, in milliseconds, it gives nothing to others then.
pub const STARVED_BUFFER_MS: f64 = 10_000.0;
/// A load that came with less time left than this nearly stalled the player, in milliseconds.
pub const NEAR_MISS_MS: f64 = 500.0;
/// By how much the guard grows then, at least and at most, in milliseconds; twice as much each time.
pub const MARGIN_MS: f64 = 4_000.0;
/// See [`MARGIN_MS`].
pub const MAX_MARGIN_MS: f64 = 32_000.0;
/// What is left of it after each load that came in good time.
pub const MARGIN_DECAY: f64 = 0.9;
/// The last pieces of an object that are asked of a second neighbour when the first takes long.
pub const END_GAME_PIECES: u32 = 4;
/// What is long there, in milliseconds.
pub const END_GAME_MS: Millis = 1_500;
/// Most bytes that lie unsent in the `data` channel: control traffic shares the association and must not queue behind.
pub const UNSENT_BYTES: u32 = 65_536;
/// Longest upload queue in milliseconds at the rate at which we may send; beyond it BUSY is answered.
pub const UPLOAD_QUEUE_MS: Millis = 400;
/// Requests per second that one neighbour may make before it is banned as a flood.
pub const MAX_REQUESTS_PER_SECOND: u32 = 200;
/// Bytes of a piece list that count as one request more: so lists alone never bring a neighbour more control bytes than it
/// would bear from us.
pub const REQUEST_LIST_BYTES: u32 = 1_024;
/// Bytes of signed playlists that one neighbour gets per second.
pub const TEXT_BYTES_PER_SECOND: u32 = 64 * 1024;
/// Seconds of that which it may get at once: a film's playlists together are seldom larger.
pub const TEXT_BURST_SECONDS: u32 = 16;
/// Time for a neighbour's answer to TEXT_GET, in milliseconds; the text itself may take longer, at this rate at least, in
/// bytes per millisecond.
pub const TEXT_MS: Millis = 3_000;
/// See [`TEXT_MS`].
pub const TEXT_BYTES_PER_MS: Millis = 64;
/// Playlists looked for at once: a player asks for two or three.
pub const MAX_TEXTS: usize = 16;
/// New claims per second that one neighbour may bring; more are ignored. A swarm makes a few a second in all, and each is
/// passed on to everybody.
pub const MAX_CLAIMS_PER_SECOND: u32 = 20;
/// Claims remembered by nonce, so that each is passed on once. A flood takes a second or two.
pub const CLAIMS_REMEMBERED: usize = 128;
/// Claims remembered on objects that no playlist names yet.
pub const MAX_UNKNOWN_CLAIMS: usize = 64;
/// Control bytes per second that one neighbour may send before it is banned as a flood.
pub const MAX_CONTROL_BYTES_PER_SECOND: u32 = 256 * 1024;
/// How often an idle link is pinged, in milliseconds: NAT bindings live 30 s and more.
pub const PING_MS: Millis = 5_000;
/// A link with no sign of life for this long is closed, in milliseconds. Browsers notice a killed tab after 25 s.
pub const DEAD_MS: Millis = 15_000;
/// Time for HELLO with a right proof, in milliseconds.
pub const HELLO_MS: Millis = 10_000;
/// Announced objects remembered per neighbour that this peer's playlists do not (yet) name.
pub const MAX_UNKNOWN_OBJECTS: usize = 256;
/// Most pieces outstanding at one neighbour (4 MiB): bounds what a seek throws away.
pub const MAX_OUTSTANDING_PIECES: u32 = 64;
/// What a stranger is believed to deliver, in bytes per second (4 Mbit/s).
pub const STRANGER_RATE: f64 = 500_000.0;
/// A round trip this much above its minimum says that a line is full, in milliseconds: less is jitter.
pub const DELAY_MS: Millis = 100;
/// A round trip's minimum is that of the last one to two such spans, in milliseconds.
pub const RTT_MIN_MS: Millis = 10_000;
/// Round trips of this age and younger tell whether our own line is full, in milliseconds.
pub const DELAY_WINDOW_MS: Millis = 3_000;
/// How often a link that carries media is pinged, in milliseconds: delay is to be noticed soon.
pub const BUSY_PING_MS: Millis = 1_000;
/// Shortest time between two halvings of the upload rate, and from the last until it recovers, in milliseconds.
pub const BACK_OFF_MS: Millis = 3_000;
/// Share by which the upload rate recovers each second.
pub const RECOVERY: f64 = 0.1;
/// The upload rate is never halved below this, nor is the uplink believed to bear less, in bytes per second (256 kbit/s).
pub const UPLOAD_FLOOR: f64 = 32_000.0;
/// Longest time of one sample of the uplink, in milliseconds: a few round trips.
pub const UPLINK_SAMPLE_MS: Millis = 100;
/// Time at work after which the uplink is known, in milliseconds. A line that took what there was sooner is wider than any
/// default limit.
pub const UPLINK_KNOWN_MS: f64 = 40.0;
/// Time at work that a sample of the uplink is weighed against, in milliseconds: two samples of full length.
pub const UPLINK_MEMORY_MS: f64 = 200.0;
/// How much more a sample weighs that is faster than what is believed of the uplink.
pub const UPLINK_FASTER: f64 = 10.0;
/// A channel that took nothing for this long is stuck, in milliseconds.
pub const STUCK_MS: Millis = 1_000;
/// Our half of the uplink may be saved up for this long, in seconds: one segment's time, in which each is passed on once.
pub const SHARE_SECONDS: f64 = 4.0;
/// How often full channels are tried again that do not report, in milliseconds.
pub const BLOCKED_MS: Millis = 50;
/// Shortest wait for the right to send more, in milliseconds.
pub const PUMP_MS: Millis = 5;
/// How long a neighbour that was silent or busy is not asked again, in milliseconds.
pub const BUSY_MS: Millis = 1_000;
/// Most claims by HTTP under way at once: more would only fill the line. Of a slow server's there is one.
pub const MAX_CLAIM_FETCHES: usize = 4;
/// Bounds of the delay before a claim, in milliseconds (design §4: `D`). A claim takes half a second to reach everybody: who
/// waits less hears of others' too late.
pub const CLAIM_DELAY_MS: (f64, f64) = (250.0, 1_000.0);
/// A neighbour younger than this is not judged by what it brought, in milliseconds.
pub const TRIAL_MS: Millis = 20_000;
/// How often a full neighbourhood lets its worst neighbour go, in milliseconds: half of the pairings that signaling grants.
pub const REPLACE_MS: Millis = 60_000;
/// What the spread of a claimed group takes before it was measured, in milliseconds (design §4: `S`).
pub const SPREAD_MS: f64 = 3_000.0;
/// A claim outlives the spread at least this long, in milliseconds: else the group is fetched again and again.
pub const CLAIM_MS: Millis = 4_000;
/// Longest life of a claim that is believed, in milliseconds: a false one must not hold a group for long.
pub const MAX_CLAIM_MS: Millis = 15_000;
/// How long claims are doubted after one came to nothing, in milliseconds.
pub const DOUBT_MS: Millis = 300_000;
/// Viewers (on average) who fetch a group although another claims it, where claims are doubted: this times the logarithm of
/// how many viewers there are.
pub const DOUBTERS: f64 = 0.5;
/// First wait after HTTP failed while peers may still help, in milliseconds; doubles up to 8 times this.
pub const HTTP_RETRY_MS: Millis = 1_000;
/// Transfers that failed in a row until the server counts as out of reach: edges are then asked for what is asked of it, at once.
pub const HTTP_FAILURES: u32 = 2;
/// A rendition whose last request is older than this is no longer prefetched, in milliseconds.
pub const RENDITION_IDLE_MS: Millis = 20_000;
/// What came within this time is acted on together, in milliseconds: HAVEs and pieces come in swarms, and a round trip takes
/// longer.
pub const COALESCE_MS: Millis = 10;
/// How often what is urgent is looked at, in milliseconds.
pub const TICK_MS: Millis = 100;
/// How often the schedule is looked at when nothing happens, in milliseconds: the playhead moves.
pub const IDLE_TICK_MS: Millis = 1_000;
/// A playhead that is this far from where it was expected was moved, in milliseconds.
pub const SEEK_MS: f64 = 500.0;
/// HAVEs remembered of one unknown object.
pub const MAX_UNKNOWN_SETS: usize = 64;
/// Shortest time between two re-reads of a playlist because a neighbour is ahead of it, in milliseconds.
pub const RELOAD_MS: Millis = 1_000;
/// Spread of such re-reads, in milliseconds: everybody hears of a new segment at the same moment.
pub const RELOAD_SPREAD_MS: Millis = 200;
/// Shortest time over which a neighbour's rate is measured, in milliseconds.
pub const RATE_SAMPLE_MS: Millis = 200;
/// Most pieces in one REQUEST: a longer run is several, so that a cancelled one wastes little.
pub const REQUEST_PIECES: u32 = 4;
/// HTTP that takes more than this share of a segment's duration to bring it is too slow to play from.
pub const HTTP_PACE: f64 = 0.8;
/// Time after which a transfer's own speed is known, in milliseconds; one without a byte until then is slow.
pub const HTTP_SAMPLE_MS: Millis = 1_000;
/// A measured speed of HTTP says nothing of now after this time, in milliseconds.
pub const HTTP_MEMORY_MS: Millis = 60_000;
/// Age at which a measured speed of HTTP counts for a third beside the next, however little that brought, in milliseconds.
pub const HTTP_FRESH_MS: Millis = 10_000;
/// A server that was too slow is tried again by whoever is about to stall, first after this time, then after twice as long
/// each time, up to [`HTTP_MEMORY_MS`], in milliseconds.
pub const HTTP_TRIAL_AFTER_MS: Millis = 5_000;
/// More viewers than this are a crowd, which alone can make a server slow: each waits as many times as long as it is larger.
pub const HTTP_TRIAL_PEERS: u32 = 8;
/// How long such a trial lasts, in milliseconds: [`HTTP_SAMPLE_MS`] and as much again for its first byte.
pub const HTTP_TRIAL_MS: Millis = 2 * HTTP_SAMPLE_MS;
/// Most urgent transfers by HTTP at once.
pub const MAX_URGENT_FETCHES: usize = 6;
/// Spread of the guard, in milliseconds, so that viewers in step do not ask the server in step.
pub const GUARD_SPREAD_MS: f64 = 600.0;
/// Shortest life of a REQUEST, in milliseconds: the answer is of use even when it comes late for the playhead.
pub const MIN_REQUEST_MS: u32 = 3_000;
/// How long a swarm's first neighbours are waited for before signaling has answered, in milliseconds. Only loads whose
/// deadline is far wait: nobody's playback depends on it.
pub const JOIN_MS: Millis = 3_000;
/// The same from when signaling says that others are here: most connections open in a second.
pub const CONNECT_MS: Millis = 4_000;
/// The same for what the first neighbour has: its HAVEs follow its HELLO.
pub const FIRST_HAVE_MS: Millis = 500;
/// Contradicted words of neighbours remembered of one object that is not proven: a list of them is 128 KiB at most.
pub const MAX_SAID: usize = 8;
