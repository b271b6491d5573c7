/** The signaling client of one video (design C6): JSON text over a WebSocket that comes back by itself. */

import type { PeerKind } from "./peers.js";
import type { Reason } from "./reasons.js";
import {
  BACKOFF_MAX_MS,
  BACKOFF_MIN_MS,
  JOIN_TIMEOUT_MS,
  MAX_SIGNAL_LENGTH,
  POSITION_MS,
  UPDATE_MS,
} from "./limits.js";

/** What `joined` says. */
export interface Joined {
  /** Our peer id. */
  peer: string;
  viewers: number;
  seeders: number;
  salt: string;
  ice: RTCIceServer[];
}

/** A peer that signaling wants us to send an offer to. */
export interface Match {
  peer: string;
  kind: PeerKind;
  /** It has our own public address: private candidates may be tried. */
  near: boolean;
}

/** A relayed message of a peer. */
export type Relay =
  | { type: "offer" | "answer"; from: string; near: boolean; conn: string; sdp: string }
  | { type: "candidate"; from: string; near: boolean; conn: string; candidate: RTCIceCandidateInit | null }
  | { type: "reject"; from: string; near: boolean; conn: string; code: string };

/** A message to a peer. */
export type Outgoing =
  | { type: "offer" | "answer"; to: string; conn: string; sdp: string }
  | { type: "candidate"; to: string; conn: string; candidate: RTCIceCandidateInit | null }
  | { type: "reject"; to: string; conn: string; code: string };

/** What the client needs from its host. */
export interface SignalingHost {
  /** Neighbours wanted now: 0 below the gate. */
  want(): number;
  /** Position in the video, in seconds. */
  position(): number;
  /** Peers that we hold a connection to. */
  connected(): string[];
  joined(joined: Joined): void;
  population(viewers: number, seeders: number): void;
  match(peers: Match[]): void;
  relay(message: Relay): void;
  gone(peer: string): void;
  /** The video may not be shared any more. */
  revoked(): void;
  /** Why we are not joined; null when we are. `lasting`: no further attempt is made. */
  trouble(reason: Reason | null, lasting: boolean, message: string): void;
}

export interface SignalingConfig {
  /** Candidates, tried in order. */
  urls: string[];
  /** The announce id. */
  video: string;
  token: (() => Promise<string | null>) | null;
  /** The viewer said yes: what a server wants that asks first. */
  agreed: boolean;
  /** We meet edges alone: nobody is to be told of us. */
  edgesOnly: boolean;
}

/** Error codes that no further attempt with the same server heals, and what they are to people. All others are about
 * single messages: the session goes on. */
const REFUSALS: Record<string, Reason> = {
  "origin-refused": "origin-refused",
  "token-expired": "token-expired",
  "token-required": "signaling-refused",
  "token-invalid": "signaling-refused",
  "video-unknown": "video-unknown",
  "kind-refused": "signaling-refused",
  version: "signaling-refused",
};

export class Signaling {
  private socket: WebSocket | null = null;
  private joined = false;
  private stopped = true;
  /** Which of `urls` is tried. */
  private index = 0;
  private refused = new Map<number, Reason>();
  /** Candidates that failed since the last wait. */
  private failures = 0;
  private attempt = 0;
  private resume: string | undefined;
  /** The token was refused as expired and a fresh one is being tried. */
  private renewed = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private ticker: ReturnType<typeof setInterval> | undefined;
  private sentWant = -1;
  private sentAt = -Infinity;

  constructor(
    private config: SignalingConfig,
    private host: SignalingHost,
  ) {}

  /** Whether messages can be sent now. */
  get ready(): boolean {
    return this.joined;
  }

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.refused.clear();
    this.failures = 0;
    this.attempt = 0;
    this.connect();
  }

  /** Leaves and closes. `start` begins anew. */
  stop(): void {
    if (this.stopped) return;
    if (this.joined) this.post({ type: "leave" });
    this.stopped = true;
    this.resume = undefined;
    this.drop();
  }

  send(message: Outgoing): void {
    if (this.joined) this.post(message);
  }

  /** Tells the server what is wanted, if that has changed. Called when it may have; a ticker does the rest. */
  update(now = performance.now()): void {
    if (!this.joined) return;
    const want = this.host.want();
    // Whoever wanted nobody, since there was nobody, is told at once who has come.
    const first = this.sentWant === 0 && want > 0;
    if (now - this.sentAt < UPDATE_MS && !first) return;
    if (want === this.sentWant && now - this.sentAt < POSITION_MS) return;
    this.sentWant = want;
    this.sentAt = now;
    this.post({ type: "update", want, pos: Math.round(this.host.position()) });
  }

  private connect(): void {
    const url = this.config.urls[this.index];
    if (url === undefined) return this.giveUp("signaling-unreachable", "no signaling server is known");
    let socket: WebSocket;
    try {
      socket = new WebSocket(url);
    } catch (error) {
      // A malformed URL, or ws: from an https page.
      return this.refuse("signaling-refused", String(error));
    }
    this.socket = socket;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.fail(`${url} did not answer within ${JOIN_TIMEOUT_MS} ms`), JOIN_TIMEOUT_MS);
    socket.onopen = () => void this.join(socket);
    socket.onmessage = (event) => {
      if (socket === this.socket && typeof event.data === "string" && event.data.length <= MAX_SIGNAL_LENGTH) {
        this.receive(event.data);
      }
    };
    socket.onclose = () => {
      if (socket === this.socket) this.fail(`${url} closed the connection`);
    };
  }

  private async join(socket: WebSocket): Promise<void> {
    let token: string | null = null;
    try {
      token = (await this.config.token?.()) ?? null;
    } catch (error) {
      if (socket !== this.socket) return;
      // A ticket is as good.
      if (!this.resume) return this.giveUp("token-expired", `the page's token function failed: ${error}`);
    }
    if (socket !== this.socket) return;
    this.sentWant = this.host.want();
    this.sentAt = performance.now();
    this.post({
      type: "join",
      v: 1,
      kind: "viewer",
      want: this.sentWant,
      connected: this.host.connected(),
      pos: Math.round(this.host.position()),
      ...(this.config.edgesOnly ? { peers: "edge" } : {}),
      ...(this.resume ? { resume: this.resume } : {}),
      ...(token ? { token } : {}),
    });
  }

  private receive(text: string): void {
    let message: Record<string, unknown>;
    try {
      message = JSON.parse(text) as Record<string, unknown>;
    } catch {
      return;
    }
    if (typeof message !== "object" || message === null) return;
    if (typeof message.video === "string" && message.video !== this.config.video) return;
    const { from, conn } = message;
    switch (message.type) {
      case "joined":
        return this.onjoined(message);
      case "match":
        this.sentWant = -1; // The server has taken these off our wish.
        return this.host.match(matches(message.peers));
      case "offer":
      case "answer":
      case "candidate":
      case "reject":
        if (typeof from === "string" && typeof conn === "string") this.onrelay(message, message.type, from, conn);
        return;
      case "viewers":
        return this.host.population(count(message.viewers), count(message.seeders));
      case "gone":
        if (typeof message.peer === "string") this.host.gone(message.peer);
        return;
      case "revoked":
        this.host.revoked();
        return this.giveUp("killed", "the site has withdrawn this video");
      case "drain":
        return this.ondrain(count(message.withinMs));
      case "error":
        return this.onerror(String(message.code), String(message.message));
    }
  }

  private onjoined(message: Record<string, unknown>): void {
    if (typeof message.peer !== "string") return;
    const p2p = (message.policy as { p2p?: unknown } | undefined)?.p2p;
    if (p2p === "off") {
      this.host.revoked();
      return this.giveUp("killed", "the site has switched sharing off");
    }
    if (p2p === "ask" && !this.config.agreed) return this.giveUp("consent-pending", "");
    clearTimeout(this.timer);
    this.joined = true;
    this.attempt = 0;
    this.failures = 0;
    this.renewed = false;
    if (typeof message.resume === "string") this.resume = message.resume;
    this.host.joined({
      peer: message.peer,
      viewers: count(message.viewers),
      seeders: count(message.seeders),
      salt: String(message.salt ?? ""),
      ice: Array.isArray(message.ice) ? (message.ice as RTCIceServer[]) : [],
    });
    this.host.trouble(null, false, "");
    clearInterval(this.ticker);
    this.ticker = setInterval(() => this.update(), UPDATE_MS);
    // The gate may have opened by what `joined` says.
    this.sentAt = -Infinity;
    this.update();
    this.rejoinForSalt(message.saltUntil);
  }

  /** The salt of claims changes by the hour: joining again with our ticket brings the next one. */
  private rejoinForSalt(until: unknown): void {
    if (typeof until !== "number") return;
    const socket = this.socket;
    // Spread over a minute; and never at once, whatever the clocks say.
    const wait = Math.max(60_000, until - Date.now()) + Math.random() * 60_000;
    if (wait > 86_400_000) return;
    this.timer = setTimeout(() => {
      if (socket && socket === this.socket) void this.join(socket);
    }, wait);
  }

  private onrelay(message: Record<string, unknown>, type: Relay["type"], from: string, conn: string): void {
    const near = message.near === true;
    if (type === "candidate") {
      const candidate = message.candidate;
      if (candidate !== null && typeof candidate !== "object") return;
      this.host.relay({ type, from, near, conn, candidate: candidate as RTCIceCandidateInit | null });
    } else if (type === "reject") {
      this.host.relay({ type, from, near, conn, code: String(message.code) });
    } else if (typeof message.sdp === "string") {
      this.host.relay({ type, from, near, conn, sdp: message.sdp });
    }
  }

  private onerror(code: string, message: string): void {
    if (code === "token-expired" && this.config.token && !this.renewed) {
      this.renewed = true;
      this.drop();
      return this.connect();
    }
    const reason = REFUSALS[code];
    if (reason) this.refuse(reason, `${code}: ${message}`);
  }

  /** This candidate does not want us; the next one may. */
  private refuse(reason: Reason, message: string): void {
    this.refused.set(this.index, reason);
    this.drop();
    if (this.refused.size >= this.config.urls.length) return this.giveUp(reason, message);
    this.next();
    this.connect();
  }

  /** This candidate cannot be reached now. */
  private fail(message: string): void {
    const wasJoined = this.joined;
    this.drop();
    if (this.stopped) return;
    this.host.trouble("signaling-unreachable", false, message);
    // A server that had us comes first again: others have another swarm.
    this.failures += 1;
    if (!wasJoined && this.failures < this.config.urls.length - this.refused.size) {
      this.next();
      return this.connect();
    }
    if (!wasJoined) this.next();
    this.failures = 0;
    const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** this.attempt++);
    this.timer = setTimeout(() => this.connect(), Math.random() * ceiling);
  }

  private ondrain(withinMs: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.drop();
      this.connect();
    }, Math.random() * withinMs);
  }

  private giveUp(reason: Reason, message: string): void {
    this.stopped = true;
    this.drop();
    this.host.trouble(reason, true, message);
  }

  private next(): void {
    do this.index = (this.index + 1) % this.config.urls.length;
    while (this.refused.has(this.index));
  }

  private drop(): void {
    clearTimeout(this.timer);
    clearInterval(this.ticker);
    this.joined = false;
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  private post(message: { type: string } & Record<string, unknown>): void {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    this.socket.send(JSON.stringify({ ...message, video: this.config.video }));
  }
}

function matches(peers: unknown): Match[] {
  if (!Array.isArray(peers)) return [];
  return (peers as Record<string, unknown>[])
    .filter((entry) => typeof entry?.peer === "string")
    .map((entry) => ({
      peer: entry.peer as string,
      kind: entry.kind === "mirror" || entry.kind === "edge" ? entry.kind : "viewer",
      near: entry.near === true,
    }));
}

function count(value: unknown): number {
  return typeof value === "number" && value >= 0 ? Math.min(value, 0xffff_ffff) : 0;
}
