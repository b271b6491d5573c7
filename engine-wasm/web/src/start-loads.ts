/** What a player asks for before its swarm is there: begun over plain HTTP, or held back a moment, and kept for the swarm. */

import { EarlyLoad, finished, HeldLoad } from "./early.js";
import type { EarlyFetch, HttpTransport, LoadCallbacks, Locator, SwarmHost } from "./host-types.js";
import { FAILED_PATIENCE_MS } from "./limits.js";
import type { Playback } from "./playback.js";

/**
 * While the swarm is starting, what the playhead reaches later than this waits for it, in ms. The start takes a second or
 * two, in which a fast server would give the player everything, and nothing would be left for viewers to bring.
 */
const HOLD_SLACK_MS = 1_500;

/** Media kept for a swarm that has not begun, in bytes: a player's first segments. */
const MAX_EARLY_BYTES = 32e6;

/** What is known of the player and of its swarm. */
export interface StartSide {
  host(): SwarmHost | null;
  /** The viewer has pressed play, and a swarm is to be expected. */
  expected(): boolean;
  /** Hashes may still come for what has none yet. */
  hashesComing(): boolean;
  playback(): Playback | null;
  http(): HttpTransport;
  /** An object came whole that no swarm tells of. */
  came(url: string, size: number): void;
}

export class StartLoads {
  /** Media bytes that came without a swarm. */
  bytes = 0;
  private early = new Set<EarlyLoad | EarlyFetch>();
  /** Loads that wait for the swarm. */
  private held = new Set<HeldLoad>();
  /** The first place that was asked for since there is nothing to play, in ms; infinite while there is. */
  private beginsMs = Infinity;

  constructor(private side: StartSide) {}

  /** A load has shown that the server's line is slow. */
  get slow(): boolean {
    return [...this.early].some((early) => early instanceof EarlyLoad && early.slow);
  }

  /** Loads by our own streaming HTTP: at once what the start needs, soon the rest. */
  load(locator: Locator, mediaStartMs: number, callbacks: LoadCallbacks): { abort(): void } {
    const spare = (): number => {
      const playback = this.side.playback();
      return (mediaStartMs - this.playhead(mediaStartMs) - HOLD_SLACK_MS) / Math.max(playback?.rate ?? 1, 1);
    };
    if (!this.side.expected() || spare() <= 0) return this.begin(locator, mediaStartMs, callbacks);
    const begin = (): { abort(): void } =>
      this.side.host()?.load(locator, mediaStartMs, callbacks) ?? this.begin(locator, mediaStartMs, callbacks);
    const until = performance.now() + spare();
    // What is loaded may be too little to begin with: then there is nothing to wait for.
    const waits = (): boolean => performance.now() < until || (this.side.playback()?.bufferMs ?? 0) > 0;
    return this.hold(begin, () => (waits() ? spare() : 0));
  }

  /** The player loaded media by itself: `bytes` arrived. */
  loaded(locator: Locator, bytes: number, whole: ArrayBuffer | null, keep: boolean): void {
    this.bytes += bytes;
    if (!whole) return;
    this.side.came(locator.url, whole.byteLength);
    if (keep) this.keep(finished(locator, whole));
  }

  /** Hands over what the player loaded before its hash was known. */
  adopt(host: SwarmHost): void {
    for (const early of this.early) {
      if (early.state === "failed" || !host.knows(early.locator)) continue;
      this.early.delete(early);
      // The swarm counts from here on.
      this.bytes -= size(early);
      if (early instanceof EarlyLoad) early.moveTo(host);
      else host.adopt(early);
    }
    // Without a re-read, nothing will be known that is not known now.
    if (!this.side.hashesComing()) this.early.clear();
  }

  /** Nothing waits any longer. */
  release(): void {
    const held = [...this.held];
    this.held.clear();
    for (const load of held) load.go();
  }

  /** There will be no swarm to keep anything for. */
  forget(): void {
    this.early.clear();
  }

  private hold(begin: () => { abort(): void }, spare: () => number): HeldLoad {
    const load = new HeldLoad(begin, spare);
    this.held.add(load);
    return load;
  }

  private begin(locator: Locator, mediaStartMs: number, callbacks: LoadCallbacks): { abort(): void } {
    let abort = (): void => load.cancel();
    const told: LoadCallbacks = {
      ...callbacks,
      done: (bytes, timing) => {
        // With a swarm, it has told already.
        if (!this.side.host()) this.side.came(locator.url, bytes.byteLength);
        callbacks.done(bytes, timing);
      },
      fail: (...given) => {
        if (!this.side.expected()) return callbacks.fail(...given);
        // Others may have what the server does not give.
        const until = performance.now() + FAILED_PATIENCE_MS;
        const again = (): { abort(): void } => {
          const load = this.side.host()?.load(locator, mediaStartMs, callbacks);
          if (!load) callbacks.fail(...given);
          return load ?? { abort: () => {} };
        };
        const held = this.hold(again, () => until - performance.now());
        abort = () => held.abort();
      },
    };
    const load = new EarlyLoad(locator, mediaStartMs, told, this.side.http(), (bytes) => {
      this.bytes += bytes;
    });
    this.keep(load);
    return { abort: () => abort() };
  }

  /** Where the player plays or, while it has nothing to play, will begin: the first place that it asks for. In ms. */
  private playhead(mediaStartMs: number): number {
    const { positionMs = 0, bufferMs = 0 } = this.side.playback() ?? {};
    if (bufferMs > 0) this.beginsMs = Infinity;
    else if (mediaStartMs > -Infinity) this.beginsMs = Math.min(this.beginsMs, mediaStartMs);
    return this.beginsMs === Infinity ? positionMs : Math.max(positionMs, this.beginsMs);
  }

  private keep(load: EarlyLoad | EarlyFetch): void {
    this.early.add(load);
    let held = 0;
    // The newest stay: they are nearest to what is wanted next.
    for (const early of [...this.early].reverse()) {
      held += size(early);
      if (held > MAX_EARLY_BYTES && early.state !== "loading") this.early.delete(early);
    }
  }
}

function size(early: EarlyFetch): number {
  return early.chunks.reduce((sum, chunk) => sum + chunk.length, 0);
}
