/** What the player loads before the swarm is there: by plain HTTP at once, and handed over when it comes. */

import type { EarlyFetch, HttpTransport, LoadCallbacks, Locator, SwarmHost } from "./host-types.js";
import { SLOW_START_MS, SLOW_START_RATE } from "./limits.js";
import { concat } from "./transfers.js";

/** One load of the player by our own streaming HTTP. It moves into the swarm while it runs, or is adopted afterwards. */
export class EarlyLoad implements EarlyFetch {
  chunks: Uint8Array[] = [];
  state: EarlyFetch["state"] = "loading";
  onchange: () => void = () => {};
  /** Bytes of the object that arrived so far. */
  private bytes = 0;
  private start = performance.now();
  private first = 0;
  /** Bytes before the object's first, if the server answers a range with everything. */
  private skip = 0;
  private adopted = false;
  private transfer: { abort(): void };
  /** The player's load, once the swarm has it. */
  private moved: { abort(): void } | null = null;
  private over = false;

  constructor(
    readonly locator: Locator,
    private mediaStartMs: number,
    private callbacks: LoadCallbacks,
    http: HttpTransport,
    /** Bytes came which are not the swarm's to count. */
    private arrived: (bytes: number) => void,
  ) {
    const { url, range } = locator;
    this.transfer = http.start(range ? { url, range } : { url }, {
      response: (_status, offset) => {
        this.skip = range ? range.start - offset : 0;
      },
      data: (bytes) => this.ondata(bytes),
      end: () => this.finish("done"),
      error: (status, message, timeout) => {
        this.finish("failed");
        this.tell(() => this.callbacks.fail(status, message, timeout ?? false));
      },
    });
    if (this.over) this.transfer.abort();
  }

  /** The swarm does not want the rest, or the player does not. */
  abort(): void {
    this.transfer?.abort();
  }

  /** The player does not want it any more. */
  cancel(): void {
    this.over = true;
    if (this.moved) this.moved.abort();
    else if (!this.adopted) this.abort();
  }

  /** The server's line is slow, or it does not answer: peers may help. */
  get slow(): boolean {
    const ms = performance.now() - this.start;
    if (this.state === "failed") return true;
    return this.state === "loading" && ms > SLOW_START_MS && this.bytes < SLOW_START_RATE * ms;
  }

  /** The player still waits for it. */
  get waiting(): boolean {
    return !this.over;
  }

  /** Gives it to the swarm, which knows the object and goes on with it. */
  moveTo(host: SwarmHost): void {
    this.adopted = true;
    // From here on the swarm counts these bytes, those that are here included.
    host.adopt(this);
    if (this.waiting) {
      this.moved = host.load(this.locator, this.mediaStartMs, {
        progress: (loaded, total) => this.callbacks.progress(loaded, total),
        done: (bytes, timing) => {
          const { start, first } = this;
          this.tell(() =>
            this.callbacks.done(bytes, { ...timing, start, first: first || timing.first, cached: false }),
          );
        },
        fail: (status, message, timeout) => this.tell(() => this.callbacks.fail(status, message, timeout)),
      });
    }
  }

  private ondata(bytes: Uint8Array): void {
    const skipped = Math.min(this.skip, bytes.length);
    this.skip -= skipped;
    const { range } = this.locator;
    const left = range ? range.end - range.start - this.bytes : Infinity;
    const part = bytes.slice(skipped, skipped + left);
    this.first ||= performance.now();
    this.bytes += part.length;
    this.chunks.push(part);
    if (!this.adopted) {
      this.arrived(bytes.length);
      if (this.waiting) this.callbacks.progress(this.bytes, range ? range.end - range.start : 0);
    }
    this.onchange();
    if (part.length === left) {
      this.abort();
      this.finish("done");
    }
  }

  private finish(state: "done" | "failed"): void {
    if (this.state !== "loading") return;
    this.state = state;
    if (state === "done" && !this.moved) {
      const timing = {
        start: this.start,
        first: this.first || performance.now(),
        end: performance.now(),
        cached: false,
      };
      this.tell(() => this.callbacks.done(concat(this.chunks), timing));
    }
    this.onchange();
  }

  /** The last word to the player, unless the swarm has taken over or it is gone. */
  private tell(last: () => void): void {
    if (this.over) return;
    this.over = true;
    last();
  }
}

/** A load that can wait a moment for the swarm. */
export class HeldLoad {
  private load: { abort(): void } | null = null;
  private over = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** `begin` starts it, once `spare`, which says how long it can still wait, in ms, has nothing left. */
  constructor(
    private begin: () => { abort(): void },
    private spare: () => number,
  ) {
    this.look();
  }

  private look(): void {
    const ms = this.spare();
    if (ms > 0) this.timer = setTimeout(() => this.look(), ms);
    else this.go();
  }

  /** The swarm is here, or will not come. */
  go(): void {
    clearTimeout(this.timer);
    if (!this.over) this.load ??= this.begin();
  }

  abort(): void {
    this.over = true;
    clearTimeout(this.timer);
    this.load?.abort();
  }
}

/** Bytes that a page's own loader brought, for the swarm to keep. */
export function finished(locator: Locator, bytes: ArrayBuffer): EarlyFetch {
  return { locator, chunks: [new Uint8Array(bytes.slice(0))], state: "done", onchange: () => {}, abort: () => {} };
}

/** Measures what plain HTTP can do, for the player's choice of a rendition. */
export class HttpRate {
  private rate = 0;
  private at = 0;

  /** Bytes per ms. It ages with a half-life of 30 s: who has not used HTTP for long does not know how fast it is. */
  get now(): number {
    return this.rate * 0.5 ** ((performance.now() - this.at) / 30_000);
  }

  /** The same transport, measured. */
  measure(http: HttpTransport): HttpTransport {
    return {
      start: (request, sink) => {
        let first = 0;
        let bytes = 0;
        const note = (): void => {
          if (bytes > 0) this.add(bytes, performance.now() - first);
          bytes = 0;
        };
        const transfer = http.start(request, {
          response: (status, offset) => sink.response(status, offset),
          data: (chunk) => {
            // What lay ready with the headers says nothing about the rate.
            if (first) bytes += chunk.length;
            else first = performance.now();
            sink.data(chunk);
          },
          end: () => {
            note();
            sink.end();
          },
          error: (status, message, timeout) => sink.error(status, message, timeout),
        });
        return {
          abort: () => {
            note();
            transfer.abort();
          },
        };
      },
    };
  }

  private add(bytes: number, ms: number): void {
    const sample = bytes / Math.max(ms, 1);
    const weight = this.at === 0 ? 1 : Math.max(0.2, 1 - 0.5 ** (ms / 2000));
    this.rate = this.now * (1 - weight) + sample * weight;
    this.at = performance.now();
  }
}
