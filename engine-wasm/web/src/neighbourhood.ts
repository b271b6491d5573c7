/** Signaling and links of one video, and what they add up to: state, reasons, the gate, the peers for `stats()`. */

import type { HostConfig, HostStats } from "./host-types.js";
import type { Link, LinkHost } from "./link.js";
import { MAX_ENDED_PEERS, UDP_BLOCKED_FAILURES } from "./limits.js";
import { Peers, type PeerKind } from "./peers.js";
import type { Reason } from "./reasons.js";
import { Signaling } from "./signaling.js";

/** What is told to the core, and asked of it. */
export interface NeighbourhoodHost {
  links: LinkHost;
  /** Neighbours that the core wants beyond those it has. */
  want(): number;
  joined(peer: string, salt: string, population: number): void;
  population(population: number): void;
  closed(link: Link): void;
  trouble(code: string, message: string): void;
}

type PeerStats = HostStats["peers"][number];

const KINDS: PeerKind[] = ["viewer", "mirror", "edge"];

export class Neighbourhood {
  /** Playhead in seconds. */
  position = 0;
  /** Viewers by signaling's count, this one included. */
  viewers = 1;
  private seeders = 0;
  private table: Peers;
  private signaling: Signaling;
  private stats = new Map<number, PeerStats>();
  /** Those that are gone, by id; the oldest go first. */
  private ended = new Map<string, PeerStats>();
  /** Reasons that stay for the session. */
  private kept = new Set<Reason>();
  /** Why signaling is not joined. */
  private unjoined: Reason | null = null;
  private iceServers = 0;
  /** Connections that came to nothing, while none ever opened. */
  private unreached = 0;
  private reached = false;
  private told = "";

  constructor(
    private config: HostConfig,
    announce: string,
    private host: NeighbourhoodHost,
  ) {
    const { signaling: urls, token, agreed } = config;
    const edgesOnly = config.peers === "edge";
    this.table = new Peers(
      {
        ...host.links,
        ready: () => this.signaling.ready,
        send: (message) => this.signaling.send(message),
        want: () => host.want(),
        changed: (link) => this.changed(link),
      },
      edgesOnly,
    );
    this.signaling = new Signaling(
      { urls, video: announce, token, agreed, edgesOnly },
      {
        want: () => (this.open() ? this.table.wanted() : 0),
        position: () => this.position,
        connected: () => this.table.connected(),
        joined: (joined) => {
          this.table.self = joined.peer;
          this.table.iceServers = config.iceServers ?? joined.ice;
          this.iceServers = this.table.iceServers.length;
          this.count(joined.viewers, joined.seeders);
          this.unjoined = null;
          host.joined(joined.peer, joined.salt, joined.viewers + joined.seeders);
        },
        population: (viewers, seeders) => {
          this.count(viewers, seeders);
          host.population(viewers + seeders);
          this.signaling.update();
        },
        match: (peers) => this.table.onmatch(peers),
        relay: (message) => this.table.onrelay(message),
        gone: (peer) => this.table.ongone(peer),
        revoked: () => {
          this.kept.add("killed");
          this.table.close("killed");
        },
        trouble: (reason, lasting, message) => {
          this.unjoined = reason;
          if (reason && lasting) this.kept.add(reason);
          if (reason && message) host.trouble(reason, message);
          this.tell();
        },
      },
    );
  }

  start(): void {
    this.tell();
    this.signaling.start();
  }

  /** Leaves signaling and closes every link at once. */
  stop(reason: string): void {
    this.signaling.stop();
    this.table.close(reason);
    this.tell();
  }

  /** The core is gone for good. */
  condemn(reason: Reason): void {
    this.kept.add(reason);
    this.stop(reason);
  }

  /** Adds a reason for the rest of the session; false if it was there. */
  lasting(reason: Reason): boolean {
    if (this.kept.has(reason)) return false;
    this.kept.add(reason);
    this.tell();
    return true;
  }

  link(handle: number): Link | undefined {
    return this.table.get(handle);
  }

  close(handle: number, banned: boolean, reason: string): void {
    if (banned) this.table.ban(handle, reason);
    else this.table.get(handle)?.close(reason);
  }

  /** What the core says of a neighbour. */
  report(handle: number, kind: number, open: boolean, rtt: number, down: number, up: number, pieces: number): void {
    const link = this.table.get(handle);
    if (!link) return;
    link.kind = KINDS[kind] ?? "viewer";
    const proven = open && !link.proven;
    link.proven = open;
    this.stats.set(handle, {
      ...describe(link),
      rttMs: rtt,
      downloadBitrate: down * 8,
      uploadBitrate: up * 8,
      pieces,
    });
    if (!proven) return;
    this.reached = true;
    this.kept.delete("udp-blocked");
    this.announce(link);
    this.tell();
  }

  peers(): PeerStats[] {
    const links = [...this.table.all()].map((link) => this.stats.get(link.handle) ?? describe(link));
    return [...links, ...this.ended.values()];
  }

  /** Below the gate nobody is met: no ICE is gathered, no SDP made. */
  private open(): boolean {
    return this.seeders > 0 || this.viewers + this.seeders >= this.config.minViewers;
  }

  private count(viewers: number, seeders: number): void {
    this.viewers = viewers;
    this.seeders = seeders;
    this.tell();
  }

  private changed(link: Link): void {
    if (link.state === "closed" || link.state === "banned") {
      const last = this.stats.get(link.handle) ?? describe(link);
      this.stats.delete(link.handle);
      this.ended.delete(link.id);
      this.ended.set(link.id, { ...last, ...state(link), downloadBitrate: 0, uploadBitrate: 0 });
      for (const id of this.ended.keys()) {
        if (this.ended.size <= MAX_ENDED_PEERS) break;
        this.ended.delete(id);
      }
      if (link.unreachable && !this.reached && ++this.unreached === UDP_BLOCKED_FAILURES) {
        this.lasting("udp-blocked");
      }
      this.host.closed(link);
      this.signaling.update();
    } else {
      this.ended.delete(link.id);
    }
    // "open" is told when its HELLO was right.
    if (link.state !== "open") this.announce(link);
    this.tell();
  }

  private announce(link: Link): void {
    const detail = { id: link.id, kind: link.kind, ...state(link) };
    queueMicrotask(() => this.config.events.peer(detail));
  }

  private tell(): void {
    const active = [...this.table.all()].some((link) => link.proven && link.state === "open");
    const joined = this.signaling.ready;
    const now = active ? "active" : joined ? "joined" : "joining";
    const reasons = new Set(this.kept);
    if (this.unjoined) reasons.add(this.unjoined);
    if (joined && !this.open()) reasons.add("gate");
    if (joined && this.iceServers === 0 && this.config.iceServers === null) reasons.add("no-ice-server");
    const told = [now, ...reasons].join();
    if (told === this.told) return;
    this.told = told;
    queueMicrotask(() => this.config.events.state(now, [...reasons]));
  }
}

/** What is known of a link before the core knows it. */
function describe(link: Link): PeerStats {
  return {
    id: link.id,
    kind: link.kind,
    ...state(link),
    rttMs: 0,
    downloadBitrate: 0,
    uploadBitrate: 0,
    pieces: 0,
  };
}

/** A link counts as open once its HELLO was right. */
function state(link: Link): { state: PeerStats["state"] } {
  return { state: link.state === "open" && !link.proven ? "connecting" : link.state };
}
