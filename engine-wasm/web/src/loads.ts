/** The player's loads that are under way: progress, timing, delivery, and plain HTTP when there is no core any more. */

import type { HttpTransport, LoadCallbacks, LoadTiming, Locator } from "./host-types.js";
import { PROGRESS_MS } from "./limits.js";
import { concat } from "./transfers.js";

export class Load {
  readonly since = performance.now();
  /** Nothing is reported any more. */
  over = false;
  private first = 0;
  private progressAt = 0;
  private plain: { abort(): void } | null = null;

  constructor(
    readonly id: number,
    readonly locator: Locator,
    readonly object: number,
    readonly size: number,
    /** Bytes that were here when it was asked for. */
    private before: number,
    private callbacks: LoadCallbacks,
  ) {}

  progress(loaded: number, now: number): void {
    if (this.over) return;
    this.first ||= now;
    if (now - this.progressAt < PROGRESS_MS) return;
    this.progressAt = now;
    this.callbacks.progress(loaded, this.size);
  }

  /** Hands over a buffer of its own. `travel` is when the object's bytes arrived. Never before `load` has returned. */
  deliver(bytes: ArrayBuffer, travel: Travel): void {
    const timing = this.timing(travel);
    queueMicrotask(() => {
      if (this.over) return;
      this.over = true;
      this.callbacks.done(bytes, timing);
    });
  }

  fail(status: number, message: string, timeout: boolean): void {
    queueMicrotask(() => {
      if (this.over) return;
      this.over = true;
      this.callbacks.fail(status, message, timeout);
    });
  }

  abort(): void {
    this.over = true;
    this.plain?.abort();
  }

  /** Loads it as if there was no swarm. */
  loadPlainly(http: HttpTransport): void {
    const { url, range } = this.locator;
    const parts: Uint8Array[] = [];
    let skip = 0;
    let first = 0;
    const start = performance.now();
    this.plain = http.start(range ? { url, range } : { url }, {
      response: (_status, offset) => {
        skip = range ? Math.max(0, range.start - offset) : 0;
      },
      data: (bytes) => {
        first ||= performance.now();
        parts.push(bytes.slice());
      },
      end: () => {
        const whole = concat(parts);
        const bytes = range ? whole.slice(skip, skip + range.end - range.start) : whole;
        this.deliver(bytes, { first: first || start, last: performance.now() });
      },
      error: (status, message, timeout) => this.fail(status, message, timeout ?? false),
    });
    if (this.over) this.plain.abort();
  }

  /** Times as if all bytes had travelled at the rate of those that came since the load began. */
  private timing({ first, last }: Travel): LoadTiming {
    const fresh = this.size - this.before;
    if (fresh <= 0) return { start: first, first, end: last, cached: true };
    const end = performance.now();
    const stretch = this.size / fresh;
    const since = (at: number): number => end - (end - at) * stretch;
    return { start: since(this.since), first: since(Math.max(this.since, this.first || end)), end, cached: false };
  }
}

/** When the first and the last byte of an object arrived, in ms of `performance.now()`. */
export interface Travel {
  first: number;
  last: number;
}
