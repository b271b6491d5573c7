/** Types of the npm package: viewers of an HLS video carry it to each other. */

/** Options in JavaScript; on `<script>` the same as `data-…`, on `<video>` as `data-marea-…`. */
export interface MareaOptions {
  /** URLs of signaling servers, tried in order. `wss:`, or `ws:` from an http page. */
  signaling?: string | string[];
  /** `on`: automatic, never silent. `ask`: nothing is shared before the viewer agrees. `off`: never. */
  p2p?: "on" | "ask" | "off";
  /** Viewers that must be here, this one included, before any is met. Default 2. */
  minViewers?: number;
  /** Bits per second, or `"5mbps"`. */
  uploadLimit?: number | string;
  /** Most bytes sent for each byte received. */
  maxUploadRatio?: number;
  /** Bytes of media kept, or `"256mb"`. */
  memoryLimit?: number | string;
  /** `ed25519:<base64url>`: playlists must be signed by one of these keys. */
  publicKey?: string | string[];
  /** URLs that stand for the playlist's origin: what is at `https://origin/a` is at `<mirror>/a` too. With `publicKey` only. */
  mirrors?: string | string[];
  /** Given to the signaling server at joining; never part of a URL. */
  token?: string | (() => string | null | Promise<string | null>);
  /** URL of a hash list for playlists without tags: PeerTube's `segments-sha256.json`. */
  sha256Url?: string;
  /** Used instead of what signaling names; `[]` for none. */
  iceServers?: RTCIceServer[];
  /** Whom to meet: everybody, or only the site's own edges. */
  p2pPeers?: "all" | "edge";
  /** Take over in browsers that play HLS by WebKit, too. */
  webkit?: boolean;
  /** `overlay` shows figures over the player. */
  stats?: "overlay";
  /** Names the video in place of the playlist's `VIDEO` or its URL. */
  videoId?: string;
  /** Where `marea.wasm` is, if not beside the script. Page-wide. */
  wasmUrl?: string;
}

/** `off` for lasting reasons, `waiting` for passing ones (or before the first `play`), `stopped` after `destroy()`. */
export type SessionState = "off" | "asking" | "waiting" | "joining" | "active" | "stopped";

/** Why a video is not shared, or not fully. */
export type Reason =
  | "off"
  | "consent-pending"
  | "consent-refused"
  | "metered"
  | "hidden"
  | "gate"
  | "no-hash"
  | "bad-tags"
  | "private"
  | "insecure-page"
  | "no-wasm"
  | "csp"
  | "no-webrtc"
  | "no-ice-server"
  | "native-playback"
  | "other-engine"
  | "signaling-unreachable"
  | "signaling-refused"
  | "origin-refused"
  | "token-expired"
  | "video-unknown"
  | "udp-blocked"
  | "no-range"
  | "origin-hash-mismatch"
  | "signature-invalid"
  | "playlist-version"
  | "killed";

export interface PeerStats {
  id: string;
  kind: "viewer" | "mirror" | "edge";
  state: "connecting" | "open" | "closed" | "banned";
  rttMs: number;
  /** Bits per second. */
  downloadBitrate: number;
  uploadBitrate: number;
  /** Verified pieces that it brought. */
  pieces: number;
}

/** Bytes are payload of media objects: `http + viewers + mirrors + edge` is all that arrived. */
export interface SessionStats {
  statsVersion: 1;
  /** The video id; null while no playlist has said it. */
  video: string | null;
  state: SessionState;
  reasons: Reason[];
  bytes: {
    http: number;
    viewers: number;
    mirrors: number;
    edge: number;
    uploaded: number;
    /** Arrived and not used. */
    wasted: number;
    /** Verified and not yet asked for. */
    prefetched: number;
  };
  peers: PeerStats[];
  playback: {
    /** From `play` to the first picture; 0 until then. */
    startupMs: number;
    stalls: number;
    stalledMs: number;
    bufferMs: number;
    /** Distance to the live edge; null if it is not live. */
    latencyMs: number | null;
  };
  /** Pieces and lists. */
  integrity: { verified: number; rejected: number };
}

/** `detail` of the events that a session fires as `CustomEvent`s. */
export interface SessionEvents {
  state: { state: SessionState; reasons: Reason[] };
  peer: { id: string; kind: string; state: string };
  segment: { url: string; size: number; http: number; viewers: number; mirrors: number; edge: number };
  integrity: { kind: "piece" | "list" | "object"; source: "peer" | "http"; peer: string | null; url: string };
  error: { code: string; message: string; fatal: false };
  /** Once a second while sharing. */
  stats: SessionStats;
}

/** One video of one player. */
export interface Session extends EventTarget {
  readonly video: HTMLVideoElement | null;
  /** The hls.js instance, or null. */
  readonly player: object | null;
  /** Never rejects: resolves when it has joined, or once `reasons` is not empty. */
  readonly ready: Promise<void>;
  readonly state: SessionState;
  readonly reasons: readonly Reason[];
  stats(): SessionStats;
  /** Changes options; those that are not named stay. */
  setOptions(options: MareaOptions): void;
  /** Ends sharing and gives everything back. The player goes on by plain HTTP. */
  destroy(): void;
  addEventListener<Type extends keyof SessionEvents>(
    type: Type,
    listener: (event: CustomEvent<SessionEvents[Type]>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/**
 * Shares what a player plays: a `<video>` or an hls.js instance, before or after it has its source. The same player gives
 * the same session, with the options added. Never throws for a stream it cannot help: `session.reasons` says why.
 */
export function attach(player: HTMLVideoElement | object, options?: MareaOptions): Session;

/** The viewer's word, remembered for this site, for pages with a switch of their own. */
export function setConsent(share: boolean): void;

/** Sessions of this page, oldest first. */
export const sessions: readonly Session[];

/** The version of this script. */
export const version: string;
