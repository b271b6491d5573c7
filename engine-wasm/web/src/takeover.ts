/**
 * Plain `<video>` elements with an HLS source: our own hls.js plays them through Media Source Extensions, and the page
 * sees an element that behaves as before. The browser's own HLS player must not get the playlist, for its requests pass
 * every hook.
 */

import type Hls from "hls.js";
import type { ErrorData } from "hls.js";
import { loadBundle } from "./bundle.js";
import { serveSession } from "./hlsjs.js";
import { type Options, pageOptions, readAttributes } from "./options.js";
import { Session, sessions } from "./session.js";
import { absolute, isHls } from "./urls.js";

/** How often a broken decoder is restarted before the page is told. */
const MAX_RECOVERIES = 2;

/** `MediaError` codes. */
const NETWORK = 2;
const DECODE = 3;
const UNSUPPORTED = 4;

interface Natives {
  src: PropertyDescriptor;
  currentSrc: PropertyDescriptor;
  srcObject: PropertyDescriptor;
  load: () => void;
}

let natives: Natives | undefined;
const taken = new WeakMap<HTMLVideoElement, Takeover>();
/** Sessions that `attach` made before their element had a source. */
const expected = new WeakMap<HTMLVideoElement, Session>();

/** Above 0 while we or hls.js change an element: then nothing is intercepted. */
let internal = 0;

function internally<T>(action: () => T): T {
  internal++;
  try {
    return action();
  } finally {
    internal--;
  }
}

/** Takes over present and later elements of this document. */
export function installTakeover(): void {
  if (natives) return;
  natives = patch();
  const scan = (): void => document.querySelectorAll("video").forEach(consider);
  scan();
  new MutationObserver((records) => {
    for (const { target, addedNodes } of records) {
      if (target instanceof HTMLVideoElement) consider(target);
      if (target instanceof HTMLSourceElement) considerParent(target);
      for (const node of addedNodes) {
        if (!(node instanceof Element)) continue;
        if (node instanceof HTMLSourceElement) considerParent(node);
        for (const video of node.matches("video") ? [node] : node.querySelectorAll("video")) {
          consider(video as HTMLVideoElement);
        }
      }
    }
  }).observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: ["src"] });
}

/** The session of an element, with these options added; waits for a source if it has none. */
export function attachVideo(video: HTMLVideoElement, options: Partial<Options>): Session {
  installTakeover();
  const present = expected.get(video) ?? sessions.find((session) => session.video === video);
  if (present && present.state !== "stopped") {
    present.apply(options);
    return present;
  }
  const session = new Session(options);
  session.setVideo(video);
  expected.set(video, session);
  consider(video);
  return session;
}

function considerParent(source: HTMLSourceElement): void {
  if (source.parentNode instanceof HTMLVideoElement) consider(source.parentNode);
}

/** Takes an element over if what it would play is HLS. True if it is taken over now or was before. */
function consider(video: HTMLVideoElement): boolean {
  if (taken.has(video)) return true;
  const own = Element.prototype.getAttribute.call(video, "src");
  if (own !== null) return isHls(own) && take(video, own, false);
  for (const source of video.children) {
    if (!(source instanceof HTMLSourceElement)) continue;
    const { src, type } = source;
    if (src && isHls(src, type)) return take(video, src, true);
    // The browser plays the first that it can.
    if (src && (!type || video.canPlayType(type) !== "")) return false;
  }
  return false;
}

function take(video: HTMLVideoElement, src: string, bySource: boolean): boolean {
  if (video.dataset.marea === "off") return false;
  const options = { ...pageOptions, ...readAttributes(video, "video") };
  const mediaSource = mediaSourceClass();
  if (mediaSource && (options.webkit || !isWebKitPlayer(video))) {
    taken.set(video, new Takeover(video, src, bySource, mediaSource));
    return true;
  }
  const session = sessionFor(video);
  session.native = true;
  session.setVideo(video);
  session.apply({});
  return false;
}

function sessionFor(video: HTMLVideoElement): Session {
  const session = expected.get(video) ?? sessions.find((other) => other.video === video && other.native);
  expected.delete(video);
  return session && session.state !== "stopped" ? session : new Session();
}

function mediaSourceClass(): typeof MediaSource | undefined {
  const { MediaSource: standard, ManagedMediaSource: managed } = window as unknown as Record<
    string,
    typeof MediaSource | undefined
  >;
  const found = standard ?? managed;
  return found?.isTypeSupported?.('video/mp4; codecs="avc1.42E01E,mp4a.40.2"') ? found : undefined;
}

function isWebKitPlayer(video: HTMLVideoElement): boolean {
  return /^Apple/.test(navigator.vendor) && video.canPlayType("application/vnd.apple.mpegurl") !== "";
}

/** One source of one element. */
class Takeover {
  readonly url: string;
  readonly session: Session;
  private hls: Hls | null = null;
  private mediaSource: MediaSource;
  private objectUrl: string;
  private events = new AbortController();
  private recoveries = 0;
  private over = false;

  constructor(
    private video: HTMLVideoElement,
    /** As the page wrote it. */
    readonly src: string,
    /** A `<source>` child names it, not the element. */
    readonly bySource: boolean,
    mediaSource: typeof MediaSource,
  ) {
    this.url = absolute(src, video.baseURI);
    this.mediaSource = new mediaSource();
    this.objectUrl = URL.createObjectURL(this.mediaSource);
    const playing = !video.paused;
    // An empty source at once: the native load is aborted, and `play()` and controls work while hls.js is on its way.
    internally(() => {
      if (mediaSource !== window.MediaSource) video.disableRemotePlayback = true;
      this.setNativeSrc(this.objectUrl);
    });
    this.session = sessionFor(video);
    this.session.setVideo(video);
    if (playing) void video.play().catch(() => {});
    loadBundle().then(
      ({ Hls: hls }) => this.whenOpen(() => this.start(hls)),
      (error: unknown) => this.fallBack(error),
    );
  }

  /** Gives the element back, empty. */
  release(): void {
    if (this.over) return;
    this.over = true;
    taken.delete(this.video);
    this.events.abort();
    internally(() => {
      this.hls?.destroy();
      Element.prototype.removeAttribute.call(this.video, "src");
    });
    URL.revokeObjectURL(this.objectUrl);
    Reflect.deleteProperty(this.video, "error");
    this.session.destroy();
  }

  private setNativeSrc(url: string): void {
    natives?.src.set?.call(this.video, url);
  }

  private whenOpen(action: () => void): void {
    if (this.over) return;
    if (this.mediaSource.readyState === "open") return action();
    this.mediaSource.addEventListener("sourceopen", () => !this.over && action(), { once: true });
  }

  private start(hlsClass: typeof Hls): void {
    const { video } = this;
    const waits = video.paused && !video.autoplay;
    const hls = (this.hls = new hlsClass());
    serveSession(hls, this.session);
    hls.on("hlsError" as Parameters<Hls["on"]>[0], (_: unknown, data: unknown) => this.onerror(data as ErrorData));
    internally(() => hls.attachMedia({ media: video, mediaSource: this.mediaSource }));
    const { maxBufferLength, maxMaxBufferLength } = hls.config;
    if (waits && video.preload === "none") return this.atPlay(() => hls.loadSource(this.url));
    if (waits && video.preload === "metadata") {
      // The first picture and the length: one segment of each track.
      Object.assign(hls.config, { maxBufferLength: 1, maxMaxBufferLength: 1 });
      this.atPlay(() => Object.assign(hls.config, { maxBufferLength, maxMaxBufferLength }));
    }
    hls.loadSource(this.url);
  }

  private atPlay(action: () => void): void {
    if (!this.video.paused) return action();
    this.video.addEventListener("play", action, { once: true, signal: this.events.signal });
  }

  private onerror({ fatal, type, details, error }: ErrorData): void {
    if (!fatal || this.over || !this.hls) return;
    const { hls } = this;
    if ((type as string) === "mediaError" && this.recoveries++ < MAX_RECOVERIES) {
      return internally(() => hls.recoverMediaError());
    }
    hls.stopLoad();
    const manifest = details.startsWith("manifest");
    const code = manifest ? UNSUPPORTED : (type as string) === "networkError" ? NETWORK : DECODE;
    this.tellError(code, `${details}: ${error?.message ?? ""}`);
  }

  /** As the browser tells that it cannot play a source. */
  private tellError(code: number, message: string): void {
    const { video } = this;
    const error = {
      code,
      message,
      MEDIA_ERR_ABORTED: 1,
      MEDIA_ERR_NETWORK: 2,
      MEDIA_ERR_DECODE: 3,
      MEDIA_ERR_SRC_NOT_SUPPORTED: 4,
    };
    Object.defineProperty(video, "error", { configurable: true, get: () => error });
    video.dispatchEvent(new Event("error"));
  }

  /** Without hls.js, the browser's own player is better than nothing. */
  private fallBack(error: unknown): void {
    if (this.over) return;
    const { video, session, src, bySource } = this;
    const playing = !video.paused;
    console.warn("marea: plain <video> elements are left to the browser:", error);
    this.over = true;
    this.events.abort();
    taken.delete(video);
    internally(() => {
      if (bySource) {
        Element.prototype.removeAttribute.call(video, "src");
        natives?.load.call(video);
      } else {
        this.setNativeSrc(src);
      }
    });
    session.native = true;
    session.apply({});
    if (playing) void video.play().catch(() => {});
  }
}

/** Gives an element a new source. */
function setSource(video: HTMLVideoElement, src: string, natively: () => void): void {
  taken.get(video)?.release();
  for (const session of sessions.filter((other) => other.video === video && other.native)) session.destroy();
  if (!(isHls(src) && take(video, src, false))) internally(natively);
}

/** Puts our accessors in front of the element's own. Returns the latter. */
function patch(): Natives {
  const media = HTMLMediaElement.prototype;
  const own = (name: string): PropertyDescriptor => Object.getOwnPropertyDescriptor(media, name) ?? {};
  const found: Natives = {
    src: own("src"),
    currentSrc: own("currentSrc"),
    srcObject: own("srcObject"),
    load: media.load,
  };
  const { src, currentSrc, srcObject, load } = found;
  /** The take-over of an element, unless it is we who ask. */
  const of = (element: unknown): Takeover | undefined =>
    internal === 0 && element instanceof HTMLVideoElement ? taken.get(element) : undefined;
  const intercepts = (element: unknown): element is HTMLVideoElement =>
    internal === 0 && element instanceof HTMLVideoElement;

  Object.defineProperties(media, {
    src: {
      ...src,
      get(this: HTMLMediaElement) {
        const takeover = shown(this);
        return takeover ? (takeover.bySource ? "" : takeover.url) : src.get?.call(this);
      },
      set(this: HTMLMediaElement, value: string) {
        if (intercepts(this)) setSource(this, `${value}`, () => src.set?.call(this, value));
        else src.set?.call(this, value);
      },
    },
    currentSrc: {
      ...currentSrc,
      get(this: HTMLMediaElement) {
        return shown(this)?.url ?? currentSrc.get?.call(this);
      },
    },
    srcObject: {
      ...srcObject,
      set(this: HTMLMediaElement, value: MediaProvider | null) {
        of(this)?.release();
        srcObject.set?.call(this, value);
      },
    },
  });

  media.load = function (this: HTMLMediaElement): void {
    if (!intercepts(this)) return load.call(this);
    // A new start of the same source, or of the children as they are now.
    const takeover = taken.get(this);
    takeover?.release();
    if (takeover && !takeover.bySource) {
      if (take(this, takeover.src, false)) return;
    } else if (consider(this)) return;
    internally(() => load.call(this));
  };

  const { setAttribute, removeAttribute, getAttribute, hasAttribute } = Element.prototype;
  const isSrc = (name: string): boolean => `${name}`.toLowerCase() === "src";
  media.setAttribute = function (this: HTMLMediaElement, name: string, value: string): void {
    const natively = (): void => setAttribute.call(this, name, value);
    if (isSrc(name) && intercepts(this)) setSource(this, `${value}`, natively);
    else natively();
  };
  media.removeAttribute = function (this: HTMLMediaElement, name: string): void {
    const takeover = isSrc(name) ? of(this) : undefined;
    if (!takeover?.bySource) takeover?.release();
    if (!takeover) removeAttribute.call(this, name);
  };
  media.getAttribute = function (this: HTMLMediaElement, name: string): string | null {
    const takeover = isSrc(name) ? of(this) : undefined;
    return takeover ? (takeover.bySource ? null : takeover.src) : getAttribute.call(this, name);
  };
  media.hasAttribute = function (this: HTMLMediaElement, name: string): boolean {
    const takeover = isSrc(name) ? of(this) : undefined;
    return takeover ? !takeover.bySource : hasAttribute.call(this, name);
  };
  return found;
}

/** The take-over whose source the page is shown; hls.js is shown the same, so that it sees nothing odd. */
function shown(element: HTMLMediaElement): Takeover | undefined {
  return element instanceof HTMLVideoElement ? taken.get(element) : undefined;
}
