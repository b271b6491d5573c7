/** HTTP transfers that the core asks for, and those that the page began before the core was there. */

import type { EarlyFetch, HttpHandle, HttpTransport } from "./host-types.js";
import { PIECE_SIZE } from "./store.js";

/** The core's ears for transfers; see `Engine` of the binding. */
export interface TransferEvents {
  response(fetch: number, firstPiece: number, restart: boolean, mirror: boolean): void;
  data(fetch: number, object: number, bytes: Uint8Array): void;
  end(fetch: number): void;
  failed(
    fetch: number,
    object: number,
    status: number,
    message: string,
    timeout: boolean,
    /** There is another place to fetch it from. */
    elsewhere: boolean,
  ): void;
  /** Empty if there is none to be had. False if it is a wrong one. */
  list(fetch: number, bytes: Uint8Array): boolean | undefined;
  /** The server does not do byte ranges. */
  noRange(url: string): void;
}

/** A transfer of media, as the core asked for it. */
export interface MediaFetch {
  fetch: number;
  object: number;
  /** Bytes of that object. */
  size: number;
  url: string;
  /** Bytes `[start, end)` of the resource. */
  start: number;
  end: number;
  ranged: boolean;
  reload: boolean;
  firstPiece: number;
}

/** A transfer under way. Its transport may report, and it may be aborted, before its handle is known. */
class Running {
  private aborted = false;
  handle: HttpHandle | null = null;

  /** `body`: what came so far, kept only for `reload`: it may have to be played though it misses its hash. */
  constructor(readonly body: Uint8Array[] | null) {}

  abort(): void {
    this.aborted = true;
    this.handle?.abort();
  }

  hold(handle: HttpHandle): void {
    this.handle = handle;
    if (this.aborted) handle.abort();
  }
}

/** Names of adopted transfers begin here (`Fetch::ADOPTED`). */
const ADOPTED = 2 ** 31;

export class Transfers {
  private running = new Map<number, Running>();
  private adopted = 0;

  constructor(
    private http: HttpTransport,
    private events: TransferEvents,
  ) {}

  /** Begins a transfer, but not before the caller is done: the core must not be called back while it speaks. */
  media(request: MediaFetch): void {
    const running = new Running(request.reload ? [] : null);
    this.running.set(request.fetch, running);
    queueMicrotask(() => {
      if (this.running.get(request.fetch) === running) this.startMedia(request, running);
    });
  }

  list(fetch: number, url: string, start: number, len: number, ranged: boolean): void {
    const running = new Running(null);
    this.running.set(fetch, running);
    queueMicrotask(() => {
      if (this.running.get(fetch) === running) this.startList(fetch, url, start, len, ranged, running);
    });
  }

  /** Takes over `early`, which brings the object from its first byte. `begin` tells the core and returns the name. */
  adopt(early: EarlyFetch, object: number, begin: (number: number) => number): void {
    const fetch = begin(this.adopted++ % ADOPTED);
    const running = new Running(null);
    running.hold({ abort: () => early.abort() });
    this.running.set(fetch, running);
    let passed = 0;
    const pump = (): void => {
      while (this.running.get(fetch) === running) {
        const chunk = early.chunks[passed];
        if (chunk) {
          passed += 1;
          this.events.data(fetch, object, chunk);
        } else {
          if (early.state === "loading") return;
          this.running.delete(fetch);
          if (early.state === "done") this.events.end(fetch);
          else this.events.failed(fetch, object, 0, `the first request for ${early.locator.url} failed`, false, false);
        }
      }
    };
    early.onchange = pump;
    pump();
  }

  abort(fetch: number): void {
    const running = this.running.get(fetch);
    if (!running) return;
    this.running.delete(fetch);
    queueMicrotask(() => running.abort());
  }

  abortAll(): void {
    for (const fetch of [...this.running.keys()]) this.abort(fetch);
  }

  /** What it brought misses its hash. */
  refuse(fetch: number): void {
    this.running.get(fetch)?.handle?.refuse?.();
  }

  /** The whole body of a `reload` transfer that has just ended. */
  body(fetch: number): ArrayBuffer | null {
    const body = this.running.get(fetch)?.body;
    return body ? concat(body) : null;
  }

  private startMedia(request: MediaFetch, running: Running): void {
    const { fetch, object, size, url, start, end, ranged, firstPiece } = request;
    const base = start - firstPiece * PIECE_SIZE;
    let left = ranged ? end - start : Infinity;
    const live = (): boolean => this.running.get(fetch) === running;
    const finish = (tell: () => void): void => {
      // The body stays until the core has decided about it, which it does at once.
      tell();
      this.running.delete(fetch);
    };
    const fail = (status: number, message: string, timeout = false, elsewhere = false): void =>
      finish(() => this.events.failed(fetch, object, status, message, timeout, elsewhere));
    const handle = this.http.start(
      { url, ...(ranged ? { range: { start, end } } : {}), ...(request.reload ? { reload: true } : {}) },
      {
        response: (status, offset, mirror = false) => {
          if (!live()) return;
          if (ranged && status === 200 && !mirror) this.events.noRange(url);
          if (offset === start) return this.events.response(fetch, firstPiece, false, mirror);
          if (offset === 0 && base === 0) {
            // The whole resource comes instead of a part: it is used from its start.
            left = size;
            return this.events.response(fetch, 0, true, mirror);
          }
          fail(0, `${url} was answered from byte ${offset}, bytes from ${start} were asked for`);
          running.abort();
        },
        data: (bytes) => {
          if (!live()) return;
          const part = bytes.length > left ? bytes.subarray(0, left) : bytes;
          left -= part.length;
          running.body?.push(part.slice());
          this.events.data(fetch, object, part);
          if (left > 0 || !live()) return;
          finish(() => this.events.end(fetch));
          // At its exact end a transfer closes by itself, and its connection can be used again.
          if (part !== bytes) running.abort();
        },
        end: () => {
          if (live()) finish(() => this.events.end(fetch));
        },
        error: (status, message, timeout, elsewhere) => {
          if (live()) fail(status, message, timeout, elsewhere);
        },
      },
    );
    running.hold(handle);
  }

  private startList(fetch: number, url: string, start: number, len: number, ranged: boolean, running: Running): void {
    const parts: Uint8Array[] = [];
    let got = 0;
    const finish = (bytes = new Uint8Array(0)): void => {
      if (this.running.get(fetch) !== running) return;
      this.running.delete(fetch);
      if (this.events.list(fetch, bytes) === false && bytes.length > 0) running.handle?.refuse?.();
    };
    const handle = this.http.start(
      { url, ...(ranged ? { range: { start, end: start + len } } : {}) },
      {
        response: (_status, offset) => {
          if (offset !== (ranged ? start : 0)) finish();
        },
        data: (bytes) => {
          got += bytes.length;
          // A web server's error page, most likely.
          if (got > len && !ranged) finish();
          else parts.push(bytes.slice());
          if (got > len) running.abort();
          if (got >= len) finish(new Uint8Array(concat(parts)).subarray(0, len));
        },
        end: () => finish(new Uint8Array(concat(parts))),
        error: () => finish(),
      },
    );
    running.hold(handle);
  }
}

/** One fresh buffer of all parts. */
export function concat(parts: Uint8Array[]): ArrayBuffer {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out.buffer;
}
