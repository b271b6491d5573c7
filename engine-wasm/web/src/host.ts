/** One video's swarm in this page: the core, its transfers, its neighbours, its signaling, tied together. */

import type { Engine } from "#engine";
import { type CoreHost, guarded } from "./core-host.js";
import {
  type EarlyFetch,
  type HostConfig,
  HostError,
  type HostStats,
  type LoadCallbacks,
  type Locator,
  type PlaylistInfo,
  type SwarmHost,
} from "./host-types.js";
import type { Link, LinkHost } from "./link.js";
import { TEXT_HURRY_MS, TEXT_PATIENCE_MS } from "./limits.js";
import { Load, type Travel } from "./loads.js";
import { Neighbourhood } from "./neighbourhood.js";
import { checkEdge } from "./signatures.js";
import { Store } from "./store.js";
import { Transfers } from "./transfers.js";
import { type Core, condemnCore, loadCore } from "./wasm.js";

/** Hosts that use the core: when it traps, it is gone for all of them. */
const hosts = new Set<Host>();

/** Makes the swarm's side of a video. Rejects with a `HostError`: `no-webrtc`, `no-wasm`, `csp`. */
export async function startHost(config: HostConfig): Promise<SwarmHost> {
  if (typeof RTCPeerConnection !== "function") {
    throw new HostError("no-webrtc", "this browser has no RTCPeerConnection, or something removed it");
  }
  return new Host(config, await loadCore());
}

class Host implements SwarmHost {
  /** Null once it is destroyed or the core has trapped. */
  private engine: Engine | null;
  /** The core is running: it must not be called again. */
  private inside = false;
  private suspended = false;
  private store = new Store();
  private loads = new Map<number, Load>();
  private nextLoad = 0;
  private transfers: Transfers;
  private neighbourhood: Neighbourhood;
  /** Objects that got bytes since the core was entered. */
  private touched = new Set<number>();
  private travels = new Map<number, Travel>();
  private urls = new Map<number, string>();
  /** The latest HTTP failure of an object, for people. */
  private failures = new Map<number, { message: string; timeout: boolean }>();
  private indexed: PlaylistInfo | null = null;
  /** Playlists that neighbours are asked for: who looks at what came, and what comes of it. */
  private texts = new Map<string, { judge(text: string): void; found: Promise<string | null> }>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private timerAt = Infinity;
  private limits: { memoryLimit: number; uploadLimit: number | null; maxUploadRatio: number | null };
  private upload = true;
  /** As the core last told them: they outlive it. */
  private counters: Float64Array = new Float64Array(10);

  constructor(
    private config: HostConfig,
    core: Core,
  ) {
    const { memoryLimit, uploadLimit, maxUploadRatio } = config;
    this.limits = { memoryLimit, uploadLimit, maxUploadRatio };
    this.transfers = new Transfers(config.media, {
      response: (fetch, piece, restart, mirror) =>
        this.run((core, now) => core.fetchResponse(now, fetch, piece, restart, mirror)),
      data: (fetch, object, bytes) => this.received(fetch, object, bytes),
      end: (fetch) => this.run((core, now) => core.fetchEnd(now, fetch)),
      failed: (fetch, object, status, message, timeout, elsewhere) => {
        this.failures.set(object, { message, timeout });
        this.run((core, now) => core.fetchFailed(now, fetch, status, elsewhere));
      },
      list: (fetch, bytes) => this.run((core, now) => core.listFetched(now, fetch, bytes)),
      noRange: (url) => {
        if (this.neighbourhood.lasting("no-range")) {
          this.trouble("no-range", `${url} is served without byte ranges: pieces cannot be fetched one by one`);
        }
      },
    });
    const seed = crypto.getRandomValues(new Uint8Array(32));
    this.engine = new core.Engine(guarded(this.coreHost()), config.videoId, seed, memoryLimit, performance.now());
    this.neighbourhood = new Neighbourhood(config, core.announceId(config.videoId), {
      links: this.linkHost(),
      want: () => this.run((core) => core.want()) ?? 0,
      joined: (peer, salt, population) => this.run((core, now) => core.joined(now, peer, salt, population)),
      population: (population) => this.run((core, now) => core.population(now, population)),
      closed: (link) => this.run((core, now) => core.peerClosed(now, link.handle)),
      trouble: (code, message) => this.trouble(code, message),
    });
    hosts.add(this);
    this.applyLimits();
    this.neighbourhood.start();
  }

  playlist(url: string, text: string): PlaylistInfo {
    this.indexed = null;
    this.run((core, now) => core.playlist(now, withoutDirectives(url), text));
    return (
      this.indexed ?? {
        kind: "invalid",
        video: null,
        signaling: null,
        complete: true,
        problem: null,
        objects: 0,
        segments: 0,
        ended: false,
      }
    );
  }

  knows(locator: Locator): boolean {
    return this.object(locator) >= 0;
  }

  load(locator: Locator, mediaStartMs: number, callbacks: LoadCallbacks): { abort(): void } | null {
    const object = this.object(locator);
    if (object < 0) return null;
    const id = this.nextLoad++;
    const { url, range } = locator;
    const load = this.run((core) => {
      const load = new Load(id, locator, object, core.size(object), core.arrived(object), callbacks);
      this.loads.set(id, load);
      return load;
    });
    if (!load) return null;
    this.urls.set(object, url);
    const known = this.run((core, now) =>
      core.request(now, id, url, range?.start ?? 0, range?.end ?? -1, mediaStartMs),
    );
    if (known === false) {
      this.loads.delete(id);
      return null;
    }
    // After a trap just now the load is on its way by plain HTTP.
    return {
      abort: () => {
        load.abort();
        if (this.loads.delete(id)) this.run((core, now) => core.cancel(now, id));
      },
    };
  }

  text(name: string, fits: (text: string) => Promise<boolean>, patient: boolean): Promise<string | null> {
    const known = this.texts.get(name);
    if (known) return known.found;
    const want = (): unknown => this.run((core, now) => core.wantText(now, name));
    let judge = (_text: string): void => {};
    const found = new Promise<string | null>((resolve) => {
      const settle = (text: string | null): void => {
        clearTimeout(timer);
        this.texts.delete(name);
        this.run((core) => core.settleText(name));
        resolve(text);
      };
      const timer = setTimeout(() => settle(null), patient ? TEXT_PATIENCE_MS : TEXT_HURRY_MS);
      judge = (text) => {
        if (text) void fits(text).then((good) => (good ? settle(text) : want()));
        else if (!patient) settle(null);
      };
    });
    this.texts.set(name, { judge, found });
    want();
    return found;
  }

  adopt(early: EarlyFetch): void {
    const object = this.object(early.locator);
    if (object < 0) return;
    this.urls.set(object, early.locator.url);
    this.transfers.adopt(early, object, (number) => this.run((core, now) => core.adopt(now, number, object)) ?? number);
  }

  playback(positionMs: number, rate: number, playing: boolean, bufferMs: number, lateMs: number): void {
    this.neighbourhood.position = positionMs / 1000;
    this.run((core, now) => core.playback(now, positionMs, rate, playing, bufferMs, lateMs));
  }

  setUpload(allowed: boolean): void {
    if (allowed === this.upload) return;
    this.upload = allowed;
    this.applyLimits();
  }

  setLimits(limits: { uploadLimit?: number | null; maxUploadRatio?: number | null; memoryLimit?: number }): void {
    this.limits = { ...this.limits, ...limits };
    this.applyLimits();
  }

  stats(): HostStats {
    this.run((core, now) => core.peers(now));
    this.counters = this.run((core) => core.counters()) ?? this.counters;
    const [http, viewers, mirrors, edge, uploaded, wasted, prefetched, verified, rejected, unfinished] = this
      .counters as unknown as [number, number, number, number, number, number, number, number, number, number];
    return {
      bytes: { http, viewers, mirrors, edge, uploaded, wasted, prefetched },
      peers: this.neighbourhood.peers(),
      integrity: { verified, rejected },
      viewers: this.neighbourhood.viewers,
      memory: this.store.bytes + (this.engine ? unfinished : 0),
    };
  }

  suspend(): void {
    if (this.suspended || !this.engine) return;
    this.suspended = true;
    this.leave("suspended");
  }

  resume(): void {
    if (!this.suspended || !this.engine) return;
    this.suspended = false;
    this.neighbourhood.start();
    this.arm();
  }

  destroy(): void {
    if (!this.engine) return;
    this.suspended = true;
    this.stats();
    this.leave("destroyed");
    const engine = this.engine;
    this.end();
    try {
      engine.free();
    } catch (error) {
      this.crash(error);
    }
  }

  /** The core is unusable. Whatever the player waits for comes by plain HTTP. */
  condemn(message: string): void {
    if (!this.engine) return;
    this.end();
    this.neighbourhood.condemn("no-wasm");
    this.trouble("no-wasm", message);
  }

  /** Runs the core, unless it is gone. What it asked for has happened when this returns. */
  private run<T>(call: (core: Engine, now: number) => T): T | undefined {
    const engine = this.engine;
    if (!engine) return undefined;
    if (this.inside) {
      // Whoever calls from inside an action can do without an answer.
      queueMicrotask(() => this.run(call));
      return undefined;
    }
    this.inside = true;
    let result: T | undefined;
    try {
      result = call(engine, performance.now());
    } catch (error) {
      this.crash(error);
      return undefined;
    } finally {
      this.inside = false;
    }
    if (this.touched.size > 0) this.report();
    this.arm();
    return result;
  }

  /** Tells loads how far their objects are. */
  private report(): void {
    const touched = this.touched;
    this.touched = new Set();
    const now = performance.now();
    for (const load of this.loads.values()) {
      if (touched.has(load.object)) load.progress(this.run((core) => core.arrived(load.object)) ?? 0, now);
    }
  }

  /** Sets the timer that the core wants. One that comes too early is cheaper than setting it anew for every frame. */
  private arm(): void {
    const next = this.engine && !this.suspended ? this.engine.nextTimeout() : -1;
    if (next < 0) {
      clearTimeout(this.timer);
      this.timerAt = Infinity;
      return;
    }
    if (this.timerAt <= next) return;
    clearTimeout(this.timer);
    this.timerAt = next;
    this.timer = setTimeout(
      () => {
        this.timerAt = Infinity;
        this.run((core, now) => {
          if (now >= core.nextTimeout()) core.timeout(now);
        });
      },
      Math.max(0, Math.ceil(next - performance.now())),
    );
  }

  private crash(error: unknown): void {
    const message = `the core failed: ${error}`;
    condemnCore(message);
    for (const host of [...hosts]) host.condemn(message);
  }

  private leave(reason: string): void {
    this.run((core, now) => core.leave(now));
    this.neighbourhood.stop(reason);
    clearTimeout(this.timer);
    this.timerAt = Infinity;
  }

  /** Gives back everything but connections. */
  private end(): void {
    hosts.delete(this);
    this.engine = null;
    clearTimeout(this.timer);
    this.transfers.abortAll();
    this.store.clear();
    const loads = [...this.loads.values()];
    this.loads.clear();
    for (const load of loads) load.loadPlainly(this.config.http);
  }

  private object({ url, range }: Locator): number {
    return this.run((core) => core.object(url, range?.start ?? 0, range?.end ?? -1)) ?? -1;
  }

  private applyLimits(): void {
    const { memoryLimit, uploadLimit, maxUploadRatio } = this.limits;
    this.run((core, now) => core.setLimits(now, memoryLimit, uploadLimit ?? -1, maxUploadRatio ?? -1, this.upload));
  }

  private received(fetch: number, object: number, bytes: Uint8Array): void {
    this.touch(object);
    this.run((core, now) => core.fetchData(now, fetch, bytes));
  }

  private touch(object: number): void {
    const now = performance.now();
    const travel = this.travels.get(object);
    if (travel) travel.last = now;
    else this.travels.set(object, { first: now, last: now });
    this.touched.add(object);
  }

  private take(request: number): Load | undefined {
    const load = this.loads.get(request);
    this.loads.delete(request);
    return load;
  }

  private trouble(code: string, message: string): void {
    queueMicrotask(() => this.config.events.error({ code, message, fatal: false }));
  }

  private linkHost(): LinkHost {
    return {
      checkSdp: (link, near, sdp) => this.run((core) => core.checkSdp(link.handle, near, sdp)),
      checkCandidate: (link, near, text) => this.run((core) => core.checkCandidate(link.handle, near, text)) ?? false,
      checkEdge: async (answer, offer) => {
        const { keys, videoId: video } = this.config;
        const problem = await checkEdge(answer, offer, { keys, video });
        if (problem) this.trouble(problem, "whoever answered as an edge is not this site's: it is not connected to");
        return !problem;
      },
      opened: (link, local, remote) =>
        this.run((core, now) => core.peerOpen(now, link.handle, link.id, link.offerer, local, remote)) ?? false,
      control: (link, bytes) => {
        this.run((core, now) => core.control(now, link.handle, bytes));
        // Its first right message is HELLO.
        if (!link.proven) this.run((core, now) => core.peers(now));
      },
      data: (link, bytes) => this.run((core, now) => core.data(now, link.handle, bytes)),
      drained: (link, bytes) => this.run((core, now) => core.buffered(now, link.handle, bytes)),
      trouble: (message) => this.trouble("no-webrtc", message),
    };
  }

  /** What the core asks for. Nothing here calls it back, or calls the page, before it has returned. */
  private coreHost(): CoreHost {
    const { events } = this.config;
    const link = (peer: number): Link | undefined => this.neighbourhood.link(peer);
    const who = (peer: number): Pick<Parameters<typeof events.integrity>[0], "source" | "peer"> =>
      peer < 0 ? { source: "http", peer: null } : { source: "peer", peer: link(peer)?.id ?? null };
    const later = (event: () => void): void => queueMicrotask(event);
    return {
      resolve: (base, reference) => {
        try {
          const url = new URL(reference, base);
          url.hash = "";
          return url.href;
        } catch {
          return undefined;
        }
      },
      digest: (url, start, end) => this.config.digest(url, start, end),
      indexed: (kind, video, signaling, complete, problem, objects, segments, ended) => {
        this.indexed = {
          kind: (["invalid", "multivariant", "media", "partial"] as const)[kind] ?? "invalid",
          video: video ?? null,
          signaling: signaling ?? null,
          complete,
          problem: problem === 2 ? "playlist-version" : problem === 1 ? "bad-tags" : null,
          objects,
          segments,
          ended,
        };
      },
      fetch: (fetch, object, url, start, end, ranged, reload, firstPiece, size) => {
        this.transfers.media({ fetch, object, size, url, start, end, ranged, reload, firstPiece });
      },
      fetchList: (fetch, url, start, len, ranged) => this.transfers.list(fetch, url, start, len, ranged),
      abortFetch: (fetch) => this.transfers.abort(fetch),
      sendControl: (peer, bytes) => link(peer)?.sendControl(bytes as Uint8Array<ArrayBuffer>),
      sendFrame: (peer, header, object, piece, offset, len) => {
        const to = link(peer);
        const bytes = this.store.piece(object, piece)?.subarray(offset, offset + len);
        if (!to || bytes?.length !== len) return 0;
        const message = new Uint8Array(header.length + len);
        message.set(header);
        message.set(bytes, header.length);
        to.sendData(message);
        return to.unsent;
      },
      keep: (object, piece, bytes) => {
        this.store.keep(object, piece, bytes as Uint8Array<ArrayBuffer>);
        this.touch(object);
      },
      evict: (object) => {
        this.store.evict(object);
        this.travels.delete(object);
        // A live stream has no last object.
        this.urls.delete(object);
        this.failures.delete(object);
      },
      deliver: (request, object) => {
        const load = this.take(request);
        if (!load) return;
        const bytes = this.store.copy(object, load.size);
        if (!bytes) return later(() => load.loadPlainly(this.config.http));
        const now = performance.now();
        load.deliver(bytes, this.travels.get(object) ?? { first: now, last: now });
        later(() => this.tellSegment(object, load));
      },
      deliverUnverified: (request, fetch) => {
        const load = this.take(request);
        if (this.config.pinned) return load?.fail(0, "the server's bytes are not those that were signed", false);
        const bytes = this.transfers.body(fetch);
        if (!bytes) return later(() => load?.loadPlainly(this.config.http));
        load?.deliver(bytes, { first: load.since, last: performance.now() });
      },
      originDiffers: (object) => {
        this.neighbourhood.lasting("origin-hash-mismatch");
        const url = this.urls.get(object) ?? "";
        this.trouble(
          "origin-hash-mismatch",
          `${url} is not what its playlist's hash says: it is not shared. Annotate the folder again`,
        );
      },
      check: (object, size, check) => {
        const bytes = this.store.copy(object, size);
        if (!bytes) return;
        const done = (digest: ArrayBuffer): unknown =>
          this.run((core, now) => core.checked(now, check, new Uint8Array(digest)));
        crypto.subtle.digest("SHA-256", bytes).then(done, (error: unknown) => this.crash(error));
      },
      fail: (request, status) => {
        const load = this.take(request);
        const failure = load && this.failures.get(load.object);
        load?.fail(status, failure?.message ?? `HTTP ${status}`, failure?.timeout ?? false);
      },
      close: (peer, banned, reason) => {
        const to = link(peer);
        if (banned) later(() => this.trouble("peer-banned", `peer ${to?.id} was banned: ${reason}`));
        this.neighbourhood.close(peer, banned, reason);
      },
      reloadPlaylist: (url) => later(() => events.reloadPlaylist(url)),
      text: (name, bytes) => {
        const text = new TextDecoder().decode(bytes);
        later(() => this.texts.get(name)?.judge(text));
      },
      textAsked: (peer, name) =>
        later(() => {
          const text = this.config.text(name) ?? "";
          this.run((core, now) => core.giveText(now, peer, name, text));
        }),
      refused: (what, object, peer) => {
        if (peer < 0) this.transfers.refuse(-1 - peer);
        const kind = what === 0 ? "piece" : what === 1 ? "list" : "object";
        const detail = { kind, ...who(peer), url: this.urls.get(object) ?? "" } as const;
        later(() => events.integrity(detail));
      },
      peer: (peer, kind, open, rtt, down, up, pieces) => {
        this.neighbourhood.report(peer, kind, open, rtt, down, up, pieces);
      },
    };
  }

  private tellSegment(object: number, load: Load): void {
    const [http = 0, viewers = 0, mirrors = 0, edge = 0] = this.run((core) => core.sources(object)) ?? [];
    this.config.events.segment({ url: load.locator.url, size: load.size, http, viewers, mirrors, edge });
  }
}

/** The URL of a playlist without the delivery directives of low-latency HLS: it is one playlist, however it is asked for. */
function withoutDirectives(url: string): string {
  if (!url.includes("_HLS_")) return url;
  const parsed = new URL(url);
  for (const name of [...parsed.searchParams.keys()]) {
    if (name.startsWith("_HLS_")) parsed.searchParams.delete(name);
  }
  return parsed.href;
}
