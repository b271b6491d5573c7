/**
 * The seam between the page's side (script tag, players, consent: `session.ts`) and the swarm's side (wasm core, WebRTC,
 * signaling, HTTP: `host.ts`). One `SwarmHost` belongs to one video.
 */

import type { Reason } from "./reasons.js";

/** What a player asks for: an absolute URL without fragment and, for byte ranges, `[start, end)`. */
export interface Locator {
  url: string;
  range?: { start: number; end: number };
}

/** One HTTP transfer as the page configured it (its loader, its headers, its credentials), with only a range added. */
export interface HttpRequest {
  url: string;
  /** Absolute bytes `[start, end)` of the resource; absent for the whole resource. */
  range?: { start: number; end: number };
  /** Bypass the browser's cache (`cache: "reload"`): the first copy missed its hash. */
  reload?: boolean;
}

/** What `HttpTransport` tells about one transfer. Exactly one of `end` and `error` is called, unless aborted. */
export interface HttpSink {
  /** Status and headers are in. `offset` is the resource offset of the first byte that follows: `range.start` for a 206, 0 for a 200. `mirror`: not the playlist's own host answers. */
  response(status: number, offset: number, mirror?: boolean): void;
  data(bytes: Uint8Array): void;
  end(): void;
  /** HTTP status, or 0 for a network failure. `timeout` for one that took too long. `elsewhere`: another place would be asked. */
  error(status: number, message: string, timeout?: boolean, elsewhere?: boolean): void;
}

/** A transfer under way. */
export interface HttpHandle {
  abort(): void;
  /** What it brought is not what its hash says. */
  refuse?(): void;
}

/** How bytes come by HTTP. `http.ts` has the default over `fetch`; `hlsjs.ts` wraps a page's own loader. */
export interface HttpTransport {
  start(request: HttpRequest, sink: HttpSink): HttpHandle;
}

/** A transfer that the player's first requests began before wasm was there; handed to the swarm later (`adopt`). */
export interface EarlyFetch {
  locator: Locator;
  /** All chunks so far, in order. The same array grows until `done`. */
  chunks: Uint8Array[];
  state: "loading" | "done" | "failed";
  /** Replaced by the host at adoption; until then the early loader itself listens. Called after each new chunk or change of state. */
  onchange: () => void;
  abort(): void;
}

/** Result of indexing a playlist. */
export interface PlaylistInfo {
  /** "partial": a delta update that leaves out what was never read. */
  kind: "multivariant" | "media" | "partial" | "invalid";
  /** `VIDEO` of the tag, or null. */
  video: string | null;
  /** `SIGNALING` of the tag, or null. */
  signaling: string | null;
  /** `COMPLETE=NO` was there: tags are missing and the playlist is to be re-read. */
  complete: boolean;
  /** Wrong or too new tags ("bad-tags", "playlist-version"), else null. */
  problem: Reason | null;
  /** Objects with a hash that this playlist names. */
  objects: number;
  /** Media segments. */
  segments: number;
  /** Whether the playlist has ended (VOD). */
  ended: boolean;
}

export interface LoadCallbacks {
  /** Bytes of this object that are here, of all. Called at most a few times a second. */
  progress(loaded: number, total: number): void;
  /** A copy that the player may keep, transfer or detach. `timing` feeds the player's bandwidth estimate. */
  done(bytes: ArrayBuffer, timing: LoadTiming): void;
  /** HTTP failed; the player's own retry rules decide. */
  fail(status: number, message: string, timeout: boolean): void;
}

/** When the bytes of a load really travelled (ms of `performance.now()`): memory hits replay the rate of their arrival. */
export interface LoadTiming {
  first: number;
  start: number;
  end: number;
  /** Whole object was here before it was asked for. */
  cached: boolean;
}

export interface HostConfig {
  /** The video id as written (C2); only its announce id leaves the page. */
  videoId: string;
  /** Signaling candidates in order, all already allowed by C2. */
  signaling: string[];
  /** Shared by every request of this video. */
  http: HttpTransport;
  /** By it media and piece lists are fetched that are checked: `http`, or whatever mirror is faster. */
  media: HttpTransport;
  /** The signed playlist of this NAME, for neighbours that ask; null if there is none. */
  text(name: string): string | null;
  /** SHA-256 of bytes `[start, end)` of a resource, where hashes stand beside the playlists. */
  digest(url: string, start: number, end: number): Uint8Array | undefined;
  minViewers: number;
  /** Bits per second. */
  uploadLimit: number | null;
  maxUploadRatio: number | null;
  memoryLimit: number;
  iceServers: RTCIceServer[] | null;
  peers: "all" | "edge";
  token: (() => Promise<string | null>) | null;
  /** The page pins a key: bytes that miss a signed hash are not played, whoever sent them. */
  pinned: boolean;
  /** The keys that it pins. */
  keys: readonly string[];
  /** The viewer said yes; it was not just silence. */
  agreed: boolean;
  events: HostEvents;
}

export interface HostEvents {
  /** Joined or lost signaling, passing or lasting reasons; `active` once a neighbour is open. */
  state(state: "joining" | "joined" | "active", reasons: Reason[]): void;
  peer(detail: { id: string; kind: string; state: string }): void;
  segment(detail: { url: string; size: number; http: number; viewers: number; mirrors: number; edge: number }): void;
  integrity(detail: {
    kind: "piece" | "list" | "object";
    source: "peer" | "http";
    peer: string | null;
    url: string;
  }): void;
  error(detail: { code: string; message: string; fatal: false }): void;
  /** The core saw an object that no loaded playlist names: re-read this one soon. */
  reloadPlaylist(url: string): void;
}

export interface HostStats {
  bytes: {
    http: number;
    viewers: number;
    mirrors: number;
    edge: number;
    uploaded: number;
    wasted: number;
    prefetched: number;
  };
  peers: {
    id: string;
    kind: "viewer" | "mirror" | "edge";
    state: "connecting" | "open" | "closed" | "banned";
    rttMs: number;
    downloadBitrate: number;
    uploadBitrate: number;
    pieces: number;
  }[];
  integrity: { verified: number; rejected: number };
  viewers: number;
  /** Media bytes held in memory now. */
  memory: number;
}

/** The swarm's side of one video. Made by `startHost(config)`, which loads the wasm once per page. */
export interface SwarmHost {
  /** Indexes a playlist (again). Cheap; call for every playlist the player loads. */
  playlist(url: string, text: string): PlaylistInfo;
  /** Whether the object behind this locator is known by hash. */
  knows(locator: Locator): boolean;
  /** Asks for an object; `mediaStartMs` is where it starts on the player's timeline. Null if the locator is unknown: load it plainly. */
  load(locator: Locator, mediaStartMs: number, callbacks: LoadCallbacks): { abort(): void } | null;
  /**
   * The playlist of this NAME as a neighbour has it and `fits` takes it; null if none comes. `patient`: who is not here yet may
   * have it, too.
   */
  text(name: string, fits: (text: string) => Promise<boolean>, patient: boolean): Promise<string | null>;
  /** Takes over a transfer that began before the host was there. */
  adopt(early: EarlyFetch): void;
  /** Several times a second while playing, and on every seek, pause and rate change. */
  playback(positionMs: number, rate: number, playing: boolean, bufferMs: number, lateMs: number): void;
  /** Courtesy: hidden for 60 s, metered, low battery. */
  setUpload(allowed: boolean): void;
  setLimits(limits: { uploadLimit?: number | null; maxUploadRatio?: number | null; memoryLimit?: number }): void;
  stats(): HostStats;
  /** `pagehide`: closes every connection; `resume` after bfcache. */
  suspend(): void;
  resume(): void;
  /** Gives back connections, timers and memory. */
  destroy(): void;
}

/** Why a host could not be made. */
export class HostError extends Error {
  constructor(
    readonly reason: Reason,
    message: string,
  ) {
    super(message);
  }
}
