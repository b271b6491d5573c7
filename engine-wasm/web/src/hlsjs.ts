/**
 * hls.js: ours and the page's own. Its loaders for media and playlists are replaced by two of ours, which ask the
 * player's session first and otherwise leave everything to the loader that the page configured.
 */

import type Hls from "hls.js";
import type {
  FragmentLoaderContext,
  HlsConfig,
  LevelDetails,
  Loader,
  LoaderCallbacks,
  LoaderConfiguration,
  LoaderContext,
  LoaderStats,
  PlaylistLoaderContext,
} from "hls.js";
import { fetchTransport } from "./http.js";
import type { HttpTransport, LoadTiming, Locator } from "./host-types.js";
import { MIRROR_PATIENCE_MS } from "./limits.js";
import type { Options } from "./options.js";
import { WITHDRAWN } from "./playlists.js";
import { type PlayerSide, Session } from "./session.js";
import { absolute } from "./urls.js";

type HlsClass = typeof Hls;
type AnyLoader = Loader<LoaderContext>;
type LoaderClass = new (config: HlsConfig) => AnyLoader;

/** Players by the configuration object that hls.js hands to each loader. */
const adapters = new WeakMap<HlsConfig, Adapter>();

/** Classes that are hooked. */
const hooked = new WeakSet<object>();

/** Bytes per ms above which a rate says nothing more (1 Gbit/s). */
const MAX_RATE = 125_000;

/** Requests of the player that are remembered: more than it asks for again. */
const MAX_CONTEXTS = 100;

/** Longest wait for the first byte that hls.js is told, in ms: peers may be waited for on purpose. */
const MAX_TTFB_MS = 200;

/** Whether it looks like an hls.js instance. */
export function isHls(player: unknown): player is Hls {
  const hls = player as Partial<Hls> | null;
  return typeof hls === "object" && typeof hls?.loadSource === "function" && typeof hls.config === "object";
}

/** The session of an instance, with these options added. */
export function attachHls(hls: Hls, options: Partial<Options> = {}): Session {
  return adopt(hls).attach(options);
}

/** Lets an instance that has no source yet serve a session that is there already. */
export function serveSession(hls: Hls, session: Session): void {
  adopt(hls).session = session;
}

/** Hooks the global `Hls`, now or as soon as there is one. */
export function watchGlobal(): void {
  const holder = window as { Hls?: HlsClass };
  let value = holder.Hls;
  if (value) hook(value);
  Object.defineProperty(window, "Hls", {
    configurable: true,
    enumerable: true,
    get: () => value,
    set: (next: HlsClass | undefined) => {
      value = next;
      if (next) hook(next);
    },
  });
}

/** Makes every instance of this class ours as soon as it is given a source. */
function hook(hlsClass: HlsClass): void {
  try {
    const { DefaultConfig: config, prototype } = hlsClass;
    if (!config || typeof prototype?.loadSource !== "function" || hooked.has(prototype)) return;
    hooked.add(prototype);
    config.fLoader ??= FragmentLoader as unknown as HlsConfig["fLoader"];
    config.pLoader ??= PlaylistLoader as unknown as HlsConfig["pLoader"];
    const { loadSource } = prototype;
    prototype.loadSource = function (this: Hls, url: string): void {
      guard(() => adopt(this));
      loadSource.call(this, url);
    };
  } catch (error) {
    console.warn("marea: this Hls cannot be used", error);
  }
}

function adopt(hls: Hls): Adapter {
  let adapter = adapters.get(hls.config);
  if (!adapter) {
    adapter = new Adapter(hls);
    adapters.set(hls.config, adapter);
  }
  return adapter;
}

/** One hls.js instance: its session follows its source. */
class Adapter implements PlayerSide {
  session: Session | null = null;
  readonly fBase: LoaderClass;
  readonly pBase: LoaderClass;
  private given: Partial<Options> = {};
  /** The latest fragment or part asked for at each URL, for loaders that look at it. */
  private contexts = new Map<string, FragmentLoaderContext>();
  private url: string | null = null;
  private other: boolean;

  constructor(readonly player: Hls) {
    const { config } = player;
    const { fLoader, pLoader, loader } = config as unknown as Record<string, LoaderClass | undefined> & {
      loader: LoaderClass;
    };
    this.other = "p2pEngine" in player || "getEngine" in (fLoader ?? {});
    this.fBase = !fLoader || isOurs(fLoader) ? loader : fLoader;
    this.pBase = !pLoader || isOurs(pLoader) ? loader : pLoader;
    if (!this.other) {
      // A page may have wrapped ours, which serves as well.
      if (!isOurs(fLoader)) config.fLoader = FragmentLoader as unknown as HlsConfig["fLoader"];
      if (!isOurs(pLoader)) config.pLoader = PlaylistLoader as unknown as HlsConfig["pLoader"];
    }
    // Names of events, not the enumeration: this must work with the page's copy of hls.js.
    const on = player.on.bind(player) as unknown as (
      event: string,
      handle: (event: string, data: never) => void,
    ) => void;
    on("hlsManifestLoading", (_, { url }: { url: string }) => this.source(url));
    on("hlsMediaAttaching", (_, { media }: { media: HTMLMediaElement }) => this.media(media));
    // Requests that were under way when we came.
    for (const event of ["hlsLevelLoaded", "hlsAudioTrackLoaded"]) {
      on(event, (_, { details }: { details: LevelDetails }) => this.found(details));
    }
    on("hlsDestroying", () => this.session?.destroy());
    if (player.url) this.source(player.url);
  }

  attach(options: Partial<Options>): Session {
    this.given = { ...this.given, ...options };
    if (!this.session || this.session.state === "stopped") {
      this.session = new Session(this.given);
      if (this.url !== null) this.begin(this.session, this.url);
    } else {
      this.session.apply(options);
    }
    return this.session;
  }

  http(): HttpTransport {
    return this.streams()
      ? fetchTransport()
      : loaderTransport(this.player.config, this.fBase, (url) => this.context(url));
  }

  /** The page left loading to hls.js, so that our own `fetch` does the same with less waiting. */
  streams(): boolean {
    const { config } = this.player;
    const standard = (this.player.constructor as HlsClass).DefaultConfig?.loader as unknown;
    return this.fBase === standard && !config.xhrSetup && !config.fetchSetup;
  }

  remember(context: FragmentLoaderContext): void {
    if (this.streams()) return;
    const { contexts } = this;
    contexts.set(absolute(context.url, location.href), context);
    for (const url of contexts.keys()) if (contexts.size > MAX_CONTEXTS) contexts.delete(url);
  }

  private context(url: string): FragmentLoaderContext | undefined {
    return this.contexts.get(url) ?? [...this.contexts.values()].pop();
  }

  /** A source was set, perhaps another one than before. */
  source(url: string): void {
    const changed = this.url !== null && this.url !== url;
    this.url = url;
    const { session } = this;
    if (changed || !session) {
      session?.destroy();
      this.contexts.clear();
      this.session = new Session(this.given);
    }
    // One that was ended by the page stays so until its source changes.
    if (this.session && !this.session.begun) this.begin(this.session, url);
  }

  private begin(session: Session, url: string): void {
    session.otherEngine = this.other;
    session.begin(this, url);
    const { player } = this;
    if (player.media) this.media(player.media);
    for (const { details } of [...player.levels, ...(player.allAudioTracks ?? [])]) this.found(details);
  }

  private found(details: LevelDetails | undefined): void {
    if (details) guard(() => this.session?.foundPlaylist(details.url, details.m3u8));
  }

  private media(media: HTMLMediaElement): void {
    if (!(media instanceof HTMLVideoElement)) return;
    if (media.dataset.marea === "off") this.session?.destroy();
    else this.session?.setVideo(media);
  }
}

/** Whether it is one of our loaders, or made from one. */
function isOurs(loader: LoaderClass | undefined): boolean {
  return loader?.prototype instanceof BaseLoader;
}

function locatorOf({ url, rangeStart, rangeEnd }: LoaderContext): Locator {
  const full = absolute(url, location.href);
  return rangeEnd ? { url: full, range: { start: rangeStart ?? 0, end: rangeEnd } } : { url: full };
}

/** What both loaders share: the page's own loader does the work unless something better is known. */
abstract class BaseLoader implements AnyLoader {
  context: LoaderContext | null = null;
  /** Kept apart: hls.js' own loaders throw theirs away at `destroy`. */
  stats: LoaderStats;
  protected inner: AnyLoader;
  protected adapter: Adapter | undefined;

  constructor(config: HlsConfig, base: "fBase" | "pBase") {
    this.adapter = adapters.get(config);
    this.inner = new (this.adapter?.[base] ?? (config.loader as unknown as LoaderClass))(config);
    this.stats = this.inner.stats;
  }

  abstract load(context: LoaderContext, config: LoaderConfiguration, callbacks: LoaderCallbacks<LoaderContext>): void;

  abort(): void {
    this.inner.abort();
  }

  destroy(): void {
    this.context = null;
    this.inner.destroy();
  }

  getCacheAge(): number | null {
    return this.inner.getCacheAge?.() ?? null;
  }

  getResponseHeader(name: string): string | null {
    return this.inner.getResponseHeader?.(name) ?? null;
  }
}

/** Playlists pass through; the session sees their text and where redirects led. */
class PlaylistLoader extends BaseLoader {
  constructor(config: HlsConfig) {
    super(config, "pBase");
  }

  load(context: LoaderContext, config: LoaderConfiguration, callbacks: LoaderCallbacks<LoaderContext>): void {
    this.context = context;
    const type = (context as PlaylistLoaderContext).type as string;
    // The player's loader hears of a new source before we do.
    if (type === "manifest") guard(() => this.adapter?.source(context.url));
    const session = this.adapter?.session;
    if (!session) return this.inner.load(context, config, callbacks);
    // Subtitles go past us, unless their server is gone.
    let ours = type !== "subtitleTrack";
    let over = false;
    const succeed: LoaderCallbacks<LoaderContext>["onSuccess"] = (response, stats, given, details) => {
      over = true;
      const { data, url } = response;
      const first = type === "manifest";
      const proving =
        ours && typeof data === "string" ? guard(() => session.sawPlaylist(url || context.url, data, first)) : null;
      if (!proving) return callbacks.onSuccess(response, stats, given, details);
      void proving.then(() => {
        if (this.context) callbacks.onSuccess(response, stats, given, details);
      });
    };
    /** Takes it from a mirror; `fail` if none has it. */
    const mirrored = async (fail?: () => void): Promise<void> => {
      const text = over ? null : await session.mirrored(context.url);
      if (over || !this.context) return;
      if (text === null) return fail?.();
      over = ours = true;
      this.inner.abort();
      const { stats } = this;
      const { loading } = stats;
      loading.end = performance.now();
      loading.first ||= loading.end;
      stats.loaded = stats.total = text.length;
      // The abort was ours.
      stats.aborted = false;
      succeed({ url: context.url, data: text, code: 200 }, stats, context, null);
    };
    setTimeout(mirrored, MIRROR_PATIENCE_MS);
    this.inner.load(context, config, {
      ...callbacks,
      onSuccess: (...given) => over || succeed(...given),
      onError: (error, given, details, stats) => {
        if (ours) guard(() => session.playlistFailed(context.url, error.code));
        const fail = (): void => callbacks.onError(error, given, details, stats);
        if (WITHDRAWN.includes(error.code)) fail();
        else void mirrored(fail);
      },
      onTimeout: (...given) => void mirrored(() => callbacks.onTimeout(...given)),
      onAbort: (...given) => over || callbacks.onAbort?.(...given),
    });
  }

  override abort(): void {
    this.context = null;
    super.abort();
  }
}

/** Media segments, init sections and parts: from the swarm where the session has one. */
class FragmentLoader extends BaseLoader {
  private job: { abort(): void } | null = null;
  private callbacks: LoaderCallbacks<LoaderContext> | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** Bytes of a plain load that were counted. */
  private plain: Session | null = null;

  constructor(config: HlsConfig) {
    super(config, "fBase");
  }

  load(context: LoaderContext, config: LoaderConfiguration, callbacks: LoaderCallbacks<LoaderContext>): void {
    this.context = context;
    this.callbacks = callbacks;
    const session = this.adapter?.session;
    if (!session || session.state === "stopped") return this.inner.load(context, config, callbacks);
    const locator = locatorOf(context);
    guard(() => {
      this.adapter?.remember(context as FragmentLoaderContext);
      this.job = session.load(locator, this.mediaStart(context as FragmentLoaderContext), {
        progress: (loaded, total) => this.progress(loaded, total),
        done: (bytes, timing) => this.done(bytes, timing, session),
        fail: (status, message, timeout) => this.fail(status, message, timeout),
      });
    });
    if (!this.job) return this.loadPlainly(context, config, callbacks, session, locator);
    this.stats.loading.start = performance.now();
    // The swarm watches its own deadlines; this is the player's last word, as in its own loaders.
    const { maxLoadTimeMs } = config.loadPolicy;
    if (Number.isFinite(maxLoadTimeMs)) this.timer = setTimeout(() => this.timeout(), maxLoadTimeMs);
  }

  override abort(): void {
    if (!this.job) return this.abortPlain();
    const { callbacks, context, stats } = this;
    this.end();
    stats.aborted = true;
    if (context) callbacks?.onAbort?.(stats, context, null);
  }

  override destroy(): void {
    const { job } = this;
    this.countPlain();
    if (job && this.callbacks) this.stats.aborted = true;
    this.end();
    super.destroy();
  }

  /** Where it starts on the player's timeline, in ms. Init sections have no place there: before all, wanted now. */
  private mediaStart({ frag, part }: FragmentLoaderContext): number {
    if (frag?.sn === "initSegment") return -Infinity;
    return (part?.start ?? frag?.start ?? this.adapter?.session?.video?.currentTime ?? 0) * 1000;
  }

  private loadPlainly(
    context: LoaderContext,
    config: LoaderConfiguration,
    callbacks: LoaderCallbacks<LoaderContext>,
    session: Session,
    locator: Locator,
  ): void {
    this.plain = session;
    this.inner.load(context, config, {
      ...callbacks,
      onSuccess: (response, stats, given, details) => {
        const { data } = response;
        this.plain = null;
        if (data instanceof ArrayBuffer) guard(() => session.loadedPlainly(locator, data.byteLength, data));
        callbacks.onSuccess(response, stats, given, details);
      },
    });
  }

  private abortPlain(): void {
    this.countPlain();
    this.inner.abort();
  }

  /** Bytes of a plain load that ends before its end have travelled, too. */
  private countPlain(): void {
    const { plain } = this;
    this.plain = null;
    if (plain && this.context && this.stats?.loaded)
      plain.loadedPlainly(locatorOf(this.context), this.stats.loaded, null);
  }

  private progress(loaded: number, total: number): void {
    const { stats } = this;
    stats.loading.first ||= performance.now();
    stats.loaded = loaded;
    // Until it is whole, equal numbers would tell hls.js that it is.
    stats.total = Math.max(total, loaded + 1);
  }

  private done(bytes: ArrayBuffer, timing: LoadTiming, session: Session): void {
    const { callbacks, context, stats } = this;
    if (!callbacks || !context) return;
    this.end();
    stats.loaded = stats.total = bytes.byteLength;
    stats.chunkCount = 1;
    Object.assign(stats.loading, this.timesOf(bytes.byteLength, timing, session));
    const ms = stats.loading.end - stats.loading.first;
    stats.bwEstimate = ms > 0 ? (bytes.byteLength * 8000) / ms : 0;
    callbacks.onProgress?.(stats, context, bytes, null);
    callbacks.onSuccess({ url: context.url, data: bytes, code: 200 }, stats, context, null);
  }

  /**
   * When it was loaded, for hls.js' estimate of the bandwidth: at the rate at which the bytes really travelled. Two rates
   * must not drag the estimate down: peers that were given time because there was time (plain HTTP, as measured of late,
   * would have been faster), and objects that were here long before (the estimate stays what it was).
   */
  private timesOf(bytes: number, timing: LoadTiming, session: Session): { start: number; first: number; end: number } {
    const end = performance.now();
    const travelled = bytes / Math.max(timing.end - timing.first, 0.1);
    const known = timing.cached ? (this.adapter?.player.bandwidthEstimate ?? 0) / 8000 : 0;
    const rate = Math.min(MAX_RATE, Math.max(travelled, session.httpRate, known || 0));
    const first = end - bytes / rate;
    return { start: first - Math.min(Math.max(timing.first - timing.start, 0), MAX_TTFB_MS), first, end };
  }

  private fail(status: number, message: string, timeout: boolean): void {
    if (timeout) return this.timeout();
    const { callbacks, context, stats } = this;
    this.end();
    if (context) callbacks?.onError({ code: status, text: message }, context, null, stats);
  }

  private timeout(): void {
    const { callbacks, context, stats } = this;
    this.end();
    if (context) callbacks?.onTimeout(stats, context, null);
  }

  private end(): void {
    clearTimeout(this.timer);
    this.callbacks = null;
    const { job } = this;
    this.job = null;
    job?.abort();
  }
}

/** HTTP by the loader that the page configured: its headers, its credentials, with only the range added. */
function loaderTransport(
  config: HlsConfig,
  base: LoaderClass,
  contextOf: (url: string) => FragmentLoaderContext | undefined,
): HttpTransport {
  return {
    start(request, sink) {
      const loader = new base(config);
      const known = contextOf(request.url);
      const { start = 0, end = 0 } = request.range ?? {};
      const context = {
        ...known,
        url: request.url,
        responseType: "arraybuffer",
        type: "media-fragment",
        headers: {},
        rangeStart: start,
        rangeEnd: end,
        frag: known?.frag,
        part: null,
      } as unknown as LoaderContext;
      const loadPolicy = { ...config.fragLoadPolicy.default, errorRetry: null, timeoutRetry: null };
      const policy = { loadPolicy, timeout: loadPolicy.maxLoadTimeMs, maxRetry: 0, retryDelay: 0, maxRetryDelay: 0 };
      let over = false;
      const finish = (last: () => void): void => {
        if (over) return;
        over = true;
        last();
        loader.destroy();
      };
      loader.load(context, policy, {
        onSuccess: ({ code, data }) =>
          finish(() => {
            if (!(data instanceof ArrayBuffer))
              return sink.error(0, `the page's loader gave no bytes for ${request.url}`);
            // Some loaders do not say the status; then the length tells whether the range was heeded.
            const partial = end > 0 && (code === 206 || (code !== 200 && data.byteLength === end - start));
            sink.response(partial ? 206 : 200, partial ? start : 0);
            // A view could be detached by whoever else holds the buffer.
            sink.data(new Uint8Array(data.slice(0)));
            sink.end();
          }),
        onError: ({ code, text }) => finish(() => sink.error(code, text)),
        onTimeout: () => finish(() => sink.error(0, `${request.url} took too long`, true)),
      });
      return {
        abort: () => finish(() => loader.abort()),
      };
    },
  };
}

/** What goes wrong in here must never reach the player. */
function guard<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    console.error("marea:", error);
    return undefined;
  }
}
