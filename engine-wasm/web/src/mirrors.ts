/**
 * Mirrors of a video: other places where the files of its origin are by HTTP (`docs/signing.md`). Each transfer goes to the place
 * that is expected to bring it first, by what was measured; a place that does not answer, is slow, or lies is left for another.
 * Whoever uses this checks every byte.
 */

import type { HttpHandle, HttpRequest, HttpSink, HttpTransport } from "./host-types.js";
import { MIRROR_PATIENCE_MS, MIRROR_RETRY_MAX_MS, MIRROR_RETRY_MS } from "./limits.js";
import { WITHDRAWN } from "./playlists.js";

/** Bytes of the transfer by which places are compared: part of a segment. */
const TYPICAL = 500_000;

/** So much slower may a mirror be than the origin: it is there to spare it. */
const SPARING = 1.5;

/** A transfer at less than this part of another place's rate is given up. */
const SLOW = 4;

/** Bytes below which a transfer says nothing about the rate. */
const LEAST = 16_384;

/** Taken for the rate of a place that is not known, in bytes per ms: less than any video needs. */
const UNKNOWN_RATE = 50;

/** One place that has the files. */
class Place {
  /** It may be asked. A mirror has to show first that it is there. */
  up: boolean;
  /** To the first byte, in ms. */
  delay = 0;
  /** Bytes per ms; 0 if unknown. */
  rate = 0;
  /** Transfers under way. */
  running = 0;
  /** When it is looked at again while it is not up; infinite if it lied. */
  retryAt = 0;
  /** Pause before that the next time, in ms. */
  private pause = MIRROR_RETRY_MS;

  constructor(
    readonly http: HttpTransport,
    /** URL of the mirror that stands for the origin; empty for the origin itself. */
    readonly base: string,
  ) {
    this.up = !base;
  }

  fail(): void {
    this.up = false;
    if (this.retryAt < Infinity) this.retryAt = performance.now() + this.pause;
    this.pause = Math.min(2 * this.pause, MIRROR_RETRY_MAX_MS);
  }

  answered(delay: number): void {
    this.delay = (this.delay + delay) / 2;
  }

  brought(bytes: number, ms: number): void {
    const rate = bytes / (ms + 1);
    if (bytes <= LEAST) return;
    this.rate = ((this.rate || rate) + rate) / 2;
    this.pause = MIRROR_RETRY_MS;
  }
}

export class Mirrors implements HttpTransport {
  private origin: string;
  private places: Place[];

  /**
   * @param main The main playlist's URL: what lies at its origin lies below each of `bases` too.
   * @param own How the page loads from the origin.
   * @param http How mirrors are asked: they get nothing of the page's credentials.
   */
  constructor(
    private main: string,
    own: HttpTransport,
    http: HttpTransport,
    bases: string[],
  ) {
    this.origin = new URL("/", main).href;
    this.places = ["", ...bases].map((base) => new Place(base ? http : own, base && base.replace(/\/?$/, "/")));
    this.look();
  }

  /** Where `url` is at each mirror that has not lied. */
  copies(url: string): string[] {
    const usable = this.places.filter(({ base, retryAt }) => base && retryAt < Infinity);
    return usable.flatMap((place) => this.at(place, url) ?? []);
  }

  start(request: HttpRequest, sink: HttpSink): HttpHandle {
    const tried: Place[] = [];
    const other = (): Place | undefined => this.choose(request.url, tried);
    let place: Place;
    let stop: () => void;
    /** The sink has heard of an answer: another place cannot go on silently. */
    let told = false;
    const begin = (next: Place): void => {
      place = next;
      tried.push(next);
      const began = performance.now();
      let timer: ReturnType<typeof setTimeout>;
      let [first, bytes, live] = [0, 0, true];
      let handle: HttpHandle | undefined;
      const over = (): boolean => {
        if (!live) return true;
        live = false;
        clearTimeout(timer);
        next.running--;
        next.brought(bytes, performance.now() - first);
        return false;
      };
      stop = () => over() || handle?.abort();
      const lose = (status: number, message: string, timeout?: boolean): void => {
        if (over()) return;
        handle?.abort();
        const withdrawn = !next.base && WITHDRAWN.includes(status);
        if (!withdrawn) next.fail();
        const instead = withdrawn ? undefined : other();
        if (instead && !told) begin(instead);
        else sink.error(status, message, timeout, !!instead);
      };
      const watch = (): void => {
        clearTimeout(timer);
        // Where there is no other place now, there may be one the next time.
        timer = setTimeout(
          () => (other() ? lose(0, `${request.url} does not come`, true) : watch()),
          MIRROR_PATIENCE_MS,
        );
      };
      next.running++;
      watch();
      handle = next.http.start(
        { ...request, url: this.at(next, request.url) as string },
        {
          response: (status, offset) => {
            if (!live) return;
            told = true;
            next.answered(performance.now() - began);
            sink.response(status, offset, !!next.base);
          },
          data: (chunk) => {
            if (!live) return;
            const now = performance.now();
            // What lay ready with the headers says nothing about the rate.
            if (first) bytes += chunk.length;
            else first = now;
            watch();
            sink.data(chunk);
            if (now - began < MIRROR_PATIENCE_MS) return;
            const instead = other();
            if (instead && (instead.rate || UNKNOWN_RATE) * (now - first) > SLOW * bytes) lose(0, "too slow", true);
          },
          end: () => over() || sink.end(),
          error: lose,
        },
      );
      if (!live) handle.abort();
    };
    begin(other() as Place);
    return {
      abort: () => stop(),
      refuse: () => {
        if (!place.base) return;
        place.retryAt = Infinity;
        place.fail();
      },
    };
  }

  /** The place that would bring it first; the origin if none is up. */
  private choose(url: string, tried: Place[]): Place | undefined {
    this.look();
    const fastest = Math.max(...this.places.map(({ rate }) => rate)) || UNKNOWN_RATE;
    let best: Place | undefined;
    let least = Infinity;
    for (const place of this.places) {
      const { base, up, delay, rate, running } = place;
      // The origin is better than nothing, whatever is known of it.
      const cost = up
        ? (delay + TYPICAL / (rate || fastest)) * (1 + running) * (base ? 1 : SPARING)
        : base
          ? Infinity
          : 1e12;
      const drawn = cost * (1 + Math.random() / 2);
      if (drawn >= least || tried.includes(place) || !this.at(place, url)) continue;
      least = drawn;
      best = place;
    }
    return best;
  }

  private at({ base }: Place, url: string): string | undefined {
    if (!base) return url;
    // A query may hold what is between the viewer and the origin.
    return url.startsWith(this.origin) ? base + url.slice(this.origin.length).replace(/\?.*/s, "") : undefined;
  }

  /** Asks those that are not up for the main playlist, past the caches, when it is time. */
  private look(): void {
    for (const place of this.places) {
      const now = performance.now();
      if (place.up || place.retryAt > now) continue;
      place.retryAt = now + MIRROR_RETRY_MAX_MS;
      place.http.start(
        { url: this.at(place, this.main) as string, reload: true },
        {
          response: () => {
            place.up = place.retryAt < Infinity;
            place.answered(performance.now() - now);
          },
          data: () => {},
          end: () => {},
          error: () => place.fail(),
        },
      );
    }
  }
}
