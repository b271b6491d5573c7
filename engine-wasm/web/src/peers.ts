/**
 * Connections to neighbours: one `RTCPeerConnection` with two negotiated data channels each (design §5).
 *
 * Only who got a `match` offers. Whatever comes through signaling is hostile: descriptions and candidates pass the core's
 * checks before the browser sees them, and everything that waits for something waits in a bounded queue with a timer.
 */

import {
  EARLY_CANDIDATE_MS,
  GONE_SILENCE_MS,
  MAX_CONNECTING,
  MAX_EARLY_CANDIDATES,
  MAX_EARLY_CONNECTIONS,
  MAX_PAGE_LINKS,
  SLOW_CONNECT_MS,
  OFFER_TIMEOUT_MS,
} from "./limits.js";
import { Link, type LinkHost } from "./link.js";
import type { Match, Outgoing, Relay } from "./signaling.js";

export type PeerKind = "viewer" | "mirror" | "edge";

/** What the neighbour table needs from its host. */
export interface PeersHost extends LinkHost {
  /** Whether a message would reach signaling now. */
  ready(): boolean;
  send(message: Outgoing): void;
  /** The core wants this many more. */
  want(): number;
  /** A link came, changed its state, or went. */
  changed(link: Link): void;
}

/** Links of all videos of this page. */
const pageLinks = new Set<Link>();

/** Names links towards the core: never reused in a page. */
let nextHandle = 0;

interface Early {
  candidates: (RTCIceCandidateInit | null)[];
  since: number;
}

export class Peers {
  /** Our id at signaling; set at `joined`. */
  self = "";
  iceServers: RTCIceServer[] = [];
  private links = new Map<number, Link>();
  private banned = new Set<string>();
  private early = new Map<string, Early>();

  constructor(
    private host: PeersHost,
    private edgeOnly: boolean,
  ) {}

  get(handle: number): Link | undefined {
    return this.links.get(handle);
  }

  all(): Iterable<Link> {
    return this.links.values();
  }

  /** Ids of those whose channels are open. */
  connected(): string[] {
    return [...this.links.values()].filter((link) => link.state === "open").map((link) => link.id);
  }

  /** How many more signaling should name: what the core wants, less those on their way, within the page's limit. */
  wanted(): number {
    const connecting = this.connecting();
    const room = Math.min(MAX_PAGE_LINKS - pageLinks.size, MAX_CONNECTING - connecting);
    return Math.max(0, Math.min(this.host.want() - connecting, room));
  }

  onmatch(peers: Match[]): void {
    for (const { peer, kind, near } of peers) {
      if (this.edgeOnly && kind !== "edge") continue;
      if (peer === this.self || this.banned.has(peer) || this.find(peer) || !this.room()) continue;
      const link = this.open(peer, randomId(), kind, near, true);
      void link?.offer();
    }
  }

  onrelay(message: Relay): void {
    const { from, conn, near } = message;
    if (this.banned.has(from)) return;
    const link = this.find(from, conn);
    switch (message.type) {
      case "offer":
        // Offers on a living connection restart its ICE.
        if (link) return void link.accept(message.sdp, near);
        return this.onoffer(from, conn, near, message.sdp);
      case "answer":
        return void link?.answered(message.sdp, near);
      case "candidate":
        // The site signs its addresses together with its answer.
        if (this.edgeOnly) return;
        if (link?.described) return void link.candidate(message.candidate, near);
        return this.keepEarly(link ?? null, from, conn, message.candidate);
      case "reject":
        if (link && link.state !== "open") link.close("rejected");
        return;
    }
  }

  /** Signaling lost this peer. A killed tab tells us nothing else for 15 s; but a link may well outlive signaling. */
  ongone(peer: string): void {
    for (const link of this.links.values()) {
      if (link.id !== peer) continue;
      if (link.state !== "open") link.close("gone");
      else link.closeIfSilent(GONE_SILENCE_MS);
    }
  }

  ban(handle: number, reason: string): void {
    this.links.get(handle)?.ban(reason);
  }

  /** Closes all at once: the page goes, or the video. */
  close(reason: string): void {
    for (const link of [...this.links.values()]) link.drop(reason);
    this.early.clear();
  }

  private onoffer(from: string, conn: string, near: boolean, sdp: string): void {
    const reject = (code: string): void => this.host.send({ type: "reject", to: from, conn, code });
    if (this.edgeOnly) return reject("edge-only"); // edges are met by our own offers
    const other = this.find(from);
    if (other?.offerer && other.state === "connecting" && !other.described && this.self < from) {
      return reject("glare"); // both offered: the smaller peer id's offer stands, and that is ours
    }
    // Either it lost the glare, or the peer has forgotten that connection.
    other?.close("replaced");
    if (!this.room()) return reject("full");
    const link = this.open(from, conn, "viewer", near, false);
    void link?.accept(sdp, near);
  }

  private open(peer: string, conn: string, kind: PeerKind, near: boolean, offerer: boolean): Link | null {
    let pc: RTCPeerConnection;
    try {
      pc = new RTCPeerConnection({ iceServers: this.iceServers });
    } catch (error) {
      // Chromium has a limit per page; ICE servers that do not parse throw too.
      this.host.trouble(`RTCPeerConnection: ${error}`);
      return null;
    }
    const { edgeOnly, host } = this;
    const link = new Link(pc, nextHandle++, peer, conn, kind, near, offerer, edgeOnly, host, {
      ready: () => this.host.ready(),
      send: (message) => this.host.send(message),
      changed: () => this.onchanged(link),
      early: () => this.takeEarly(peer, conn),
    });
    this.links.set(link.handle, link);
    pageLinks.add(link);
    this.host.changed(link);
    link.expireAfter(OFFER_TIMEOUT_MS);
    return link;
  }

  private onchanged(link: Link): void {
    if (link.state === "closed" || link.state === "banned") {
      if (link.state === "banned") this.banned.add(link.id);
      this.links.delete(link.handle);
      pageLinks.delete(link);
    }
    this.host.changed(link);
  }

  private find(peer: string, conn?: string): Link | undefined {
    for (const link of this.links.values()) {
      if (link.id === peer && (conn === undefined || link.conn === conn)) return link;
    }
    return undefined;
  }

  /** Connections that are being made and may still be expected to open. */
  private connecting(): number {
    const since = performance.now() - SLOW_CONNECT_MS;
    let count = 0;
    for (const link of this.links.values()) if (link.state === "connecting" && link.since > since) count += 1;
    return count;
  }

  private room(): boolean {
    return pageLinks.size < MAX_PAGE_LINKS && this.connecting() < MAX_CONNECTING;
  }

  /** Candidates overtake their description: both travel on their own. */
  private keepEarly(link: Link | null, from: string, conn: string, candidate: RTCIceCandidateInit | null): void {
    const now = performance.now();
    for (const [key, { since }] of this.early) if (now - since > EARLY_CANDIDATE_MS) this.early.delete(key);
    const key = `${from} ${conn}`;
    let early = this.early.get(key);
    if (!early) {
      if (!link && this.early.size >= MAX_EARLY_CONNECTIONS) return;
      early = { candidates: [], since: now };
      this.early.set(key, early);
    }
    if (early.candidates.length < MAX_EARLY_CANDIDATES) early.candidates.push(candidate);
  }

  private takeEarly(peer: string, conn: string): (RTCIceCandidateInit | null)[] {
    const key = `${peer} ${conn}`;
    const early = this.early.get(key);
    this.early.delete(key);
    // A link's own answer may take longer than strangers' candidates are kept.
    return early?.candidates ?? [];
  }
}

/** Names a connection among those of two peers: 9 random bytes, base64url. */
function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_");
}
