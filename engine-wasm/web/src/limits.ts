/** Every fixed number of the page's network side in one place, each with its reason. */

/** Time to the first byte of an answer, in ms: players give up after 10 s too, and peers may still help until then. */
export const FIRST_BYTE_TIMEOUT_MS = 10_000;

/** Silence in the middle of a body, in ms. Longer than a lost mobile cell takes to come back. */
export const STALL_TIMEOUT_MS = 20_000;

/**
 * A load of a player's start is slow if it has lasted this long, in ms, and came at less than this rate, in bytes per ms (8 Mbit/s):
 * a busy machine alone is late, too, but then gets everything at once.
 */
export const SLOW_START_MS = 250;
export const SLOW_START_RATE = 1_000;

/** The longest that a load which failed before the swarm was there waits for it, in ms: the core loads in a second or two. */
export const FAILED_PATIENCE_MS = 5_000;

/** How often a start is looked at, in ms. */
export const START_LOOK_MS = 50;

/** The longest that a swarm waits for a start, in ms: one that takes so long has other troubles. */
export const START_PATIENCE_MS = 1_500;

/** A page whose timers come so late has no time to spare, in ms; and the longest that a swarm waits until it has. */
export const BUSY_MS = 100;
export const BUSY_PATIENCE_MS = 30_000;

/** Silence of a place while another one has the same files, in ms: long for a server, short against a player's buffer. */
export const MIRROR_PATIENCE_MS = 2_000;

/** The longest that neighbours are asked for a video's first playlist, in ms: some have to be met first. */
export const TEXT_PATIENCE_MS = 20_000;

/** The longest that those who are here are asked for another one, in ms: the player may have other ways. */
export const TEXT_HURRY_MS = 4_000;

/** Pause before a place that failed is looked at again, in ms: it may only have been slow, and may soon be the last one. */
export const MIRROR_RETRY_MS = 1_000;

/** Longest such pause, in ms: it doubles with each failure. */
export const MIRROR_RETRY_MAX_MS = 30_000;

/** Connections in this page, over all videos: the core wants 10 in one and has room for half as many newcomers. */
export const MAX_PAGE_LINKS = 15;

/** Connections that are being made at once, beyond those that are open: most reach somebody in under a second. */
export const MAX_CONNECTING = 8;

/** A connection that is not open after this time hardly ever opens, in ms: others are looked for meanwhile. */
export const SLOW_CONNECT_MS = 6_000;

/** An offer without an open channel after this time is dead, in ms (design C6). */
export const OFFER_TIMEOUT_MS = 30_000;

/** Candidates that came before their offer: how many, and for how long, in ms (design C6). */
export const MAX_EARLY_CANDIDATES = 32;
export const EARLY_CANDIDATE_MS = 10_000;

/** Candidates that we send for one description, the closing null included: signaling relays no more. */
export const MAX_SENT_CANDIDATES = 20;

/** Connections for which early candidates are kept. */
export const MAX_EARLY_CONNECTIONS = 16;

/** Bytes that a neighbour may send before both channels are open (design §5: an unproven neighbour holds 64 KiB). */
export const MAX_EARLY_BYTES = 65_536;

/** `bufferedAmount` below which the core is asked for more: a full frame is larger, so the event always comes. */
export const LOW_WATER_BYTES = 16_384;

/** Wait before ICE is restarted after "disconnected", in ms: most such states heal by themselves. */
export const ICE_RESTART_MS = 2_000;

/** Signaling says that a peer is gone but its channel still lives: silence until it is closed, in ms (pings: 5 s). */
export const GONE_SILENCE_MS = 7_000;

/** Full jitter of reconnects to signaling, in ms: first ceiling and last (design C6). */
export const BACKOFF_MIN_MS = 1_000;
export const BACKOFF_MAX_MS = 60_000;

/** Time for a signaling candidate to open and to say `joined`, in ms. */
export const JOIN_TIMEOUT_MS = 10_000;

/** Least time between two `update` messages, in ms, and how old the playback position may get there. */
export const UPDATE_MS = 1_000;
export const POSITION_MS = 30_000;

/** Largest signaling message that is read, in characters: an SDP has at most 16 KiB. */
export const MAX_SIGNAL_LENGTH = 128 * 1024;

/** Least time between two `progress` calls of a load, in ms. */
export const PROGRESS_MS = 250;

/** Peers that are gone and still shown in `stats()`. */
export const MAX_ENDED_PEERS = 32;

/** Connections that fail before any opens, until we say that this network blocks UDP. */
export const UDP_BLOCKED_FAILURES = 4;

/** Time for a last message (BYE) to leave before its connection is closed, in ms. */
export const FLUSH_MS = 200;
