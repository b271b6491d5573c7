/** The public types of the JavaScript interface. */

import type { HostStats } from "./host-types.js";
import type { Reason } from "./reasons.js";

/** Options in JavaScript; on `<script>` the same as `data-…`, on `<video>` as `data-marea-…`. */
export interface MareaOptions {
  /** URLs of signaling servers, tried in order. `wss:`, or `ws:` from an http page. */
  signaling?: string | string[];
  /** `on`: automatic, never silent. `ask`: nothing is shared before the viewer agrees. `off`: never. */
  p2p?: "on" | "ask" | "off";
  /** Viewers that must be here, this one included, before any is met. */
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
  /** PeerTube's hash list. */
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

export type SessionState = "off" | "asking" | "waiting" | "joining" | "active" | "stopped";

/** `session.stats()`. Bytes are payload of media objects; bitrates are bits per second. */
export interface SessionStats {
  statsVersion: 1;
  /** The video id; null while no playlist has said it. */
  video: string | null;
  state: SessionState;
  reasons: Reason[];
  bytes: HostStats["bytes"];
  peers: HostStats["peers"];
  playback: {
    /** From `play` to the first picture; 0 until then. */
    startupMs: number;
    stalls: number;
    stalledMs: number;
    bufferMs: number;
    /** Distance to the live edge; null if it is not live. */
    latencyMs: number | null;
  };
  integrity: HostStats["integrity"];
}

/** `detail` of the events that a session fires as `CustomEvent`s. */
export interface SessionEvents {
  state: { state: SessionState; reasons: Reason[] };
  peer: { id: string; kind: string; state: string };
  segment: { url: string; size: number; http: number; viewers: number; mirrors: number; edge: number };
  integrity: { kind: "piece" | "list" | "object"; source: "peer" | "http"; peer: string | null; url: string };
  error: { code: string; message: string; fatal: false };
  stats: SessionStats;
}
