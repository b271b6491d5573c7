/**
 * One video of one player: decides whether it is shared, starts and ends its swarm, and tells the page about it
 * (design C3). Without a swarm, for whatever reason, the player loads as if this script was not there.
 */

import { consent, remembered, watchConsent } from "./consent.js";
import { isBatteryLow, isMetered, Presence, watchConnection } from "./courtesy.js";
import { Digests } from "./digests.js";
import { HttpRate } from "./early.js";
import { startHost } from "./host.js";
import {
  HostError,
  type HostStats,
  type HttpTransport,
  type LoadCallbacks,
  type Locator,
  type SwarmHost,
} from "./host-types.js";
import { fetchTransport } from "./http.js";
import { Mirrors } from "./mirrors.js";
import { DEFAULTS, type Options, pageOptions, readAttributes, readOptions } from "./options.js";
import { MIRROR_PATIENCE_MS } from "./limits.js";
import { lateness, timerCame } from "./lateness.js";
import { Patience } from "./patience.js";
import { Playback } from "./playback.js";
import { isDelta, isLive, isMultivariant, type MainTag, mainTag, Rereader, updateUrl, WITHDRAWN } from "./playlists.js";
import { effect, type Reason } from "./reasons.js";
import { checkSignature, nameOf } from "./signatures.js";
import { StartLoads } from "./start-loads.js";
import type { MareaOptions, SessionEvents, SessionState, SessionStats } from "./types.js";
import { absolute, originOf, playlistUrl, scriptUrl, signalingUrls } from "./urls.js";
import { loadCore } from "./wasm.js";

/** How often the swarm hears where the player is, in ms. */
const TICK_MS = 250;

/** Ticks between two `stats` events. */
const STATS_TICKS = 4;

/** Texts kept of one live playlist for a swarm that has not begun: the whole one and the newest delta updates. */
const MAX_PLAYLIST_TEXTS = 8;

/** Sessions of this page, oldest first. */
export const sessions: Session[] = [];

/** Called with each new session: the notice and the figures over the player. */
export const onsession: ((session: Session) => void)[] = [];

/** The player that a session serves, as its adapter tells it. */
export interface PlayerSide {
  /** The hls.js instance, or null where there is none. */
  player: HlsPlayer | null;
  /** How this page loads media. */
  http(): HttpTransport;
  /** `http` is our own streaming `fetch`: the page configured nothing. */
  streams(): boolean;
}

/** What a session uses of an hls.js instance. */
export interface HlsPlayer {
  readonly latency: number;
}

interface SeenPlaylist {
  /** As it was read last; delta updates after the whole one that they build on. */
  texts: string[];
  /** When, by `performance.now()`. */
  at: number;
  multivariant: boolean;
  tag: MainTag | null;
}

export class Session extends EventTarget {
  video: HTMLVideoElement | null = null;
  /** Never rejects: resolves when it has joined, or knows a reason. */
  readonly ready: Promise<void>;
  /** Another peer-to-peer engine serves this player. */
  otherEngine = false;
  /** The browser plays by itself. */
  native = false;
  private side: PlayerSide | null = null;
  private given: Partial<Options> = {};
  private resolveReady!: () => void;
  private now: { state: SessionState; reasons: Reason[] } = { state: "waiting", reasons: [] };
  private url = "";
  private over = false;
  private failure: Reason | null = null;
  /** Signaling says that viewers of this video are asked first. */
  private askFirst = false;
  private host: SwarmHost | null = null;
  private hostState: { state: "joining" | "joined" | "active"; reasons: Reason[] } | null = null;
  /** Counts attempts to start, so that one that was overtaken can be told. */
  private attempt = 0;
  private playback: Playback | null = null;
  private presence = new Presence();
  private away = false;
  private playlists = new Map<string, SeenPlaylist>();
  /** The media playlist seen last goes on. */
  private live = false;
  /** The playlist that the player was given, after redirects. */
  private mainUrl = "";
  /** Other places that have the files, and may be asked. */
  private mirrors: Mirrors | null = null;
  /** Texts whose signature fits a pinned key. */
  private signed = new Set<string>();
  private starts = new StartLoads({
    host: () => this.host,
    expected: () => this.played && this.expectsHost(),
    hashesComing: () => this.hashesComing,
    playback: () => this.playback,
    http: () => this.http(),
    came: (url, size) => this.tellPlain(url, size),
  });
  private patience = new Patience(
    {
      playable: () => (this.video?.readyState ?? 0) > 2,
      slow: () => this.starts.slow,
    },
    () => this.update(),
  );
  private rate = new HttpRate();
  /** Hashes beside playlists that have none. */
  private digests: Digests | null = null;
  /** Counters of swarms that ended. */
  private past: HostStats | null = null;
  private rereader = new Rereader(
    (url) => this.fetchText(url),
    (url, status, text) => (status === 200 ? this.reread(url, text) : this.playlistFailed(url, status)),
  );
  private ticker: ReturnType<typeof setInterval> | undefined;
  private ticks = 0;
  private unwatch: (() => void)[];
  /** The origin does not give the playlist, and neighbours may. */
  private originAway = false;
  /** Who waits for the swarm, or to hear that there will be none. */
  private awaiting: ((host: SwarmHost | null) => void)[] = [];

  constructor(given: Partial<Options> = {}) {
    super();
    this.ready = new Promise((resolve) => (this.resolveReady = resolve));
    this.given = given;
    const update = (): void => this.update();
    this.unwatch = [watchConsent(update), watchConnection(update)];
    sessions.push(this);
    for (const hear of onsession) hear(this);
  }

  /** The hls.js instance, or null. */
  get player(): HlsPlayer | null {
    return this.side?.player ?? null;
  }

  get state(): SessionState {
    return this.now.state;
  }

  get reasons(): readonly Reason[] {
    return this.now.reasons;
  }

  /** Options in force: of the script, the element, and JavaScript, each before those to its left. */
  get options(): Options {
    const element = this.video ? readAttributes(this.video, "video") : {};
    return { ...DEFAULTS, ...pageOptions, ...element, ...this.given };
  }

  /** Bytes per ms of plain HTTP, of late; 0 if unknown. */
  get httpRate(): number {
    return this.rate.now;
  }

  /** A swarm is there or on its way. */
  get sharing(): boolean {
    return this.hostState !== null;
  }

  /** The viewer has pressed play, or the element did it by itself. */
  get played(): boolean {
    return this.playback?.played ?? false;
  }

  /** Hashes were seen, or are on their way, so that the video could be shared. */
  get hashed(): boolean {
    const all = [...this.playlists.values()];
    if (all.length === 0) return this.originAway;
    return all.some(({ tag, multivariant }) => tag !== null || !multivariant) && this.tagProblem() === null;
  }

  // --- For adapters

  /** Binds the session to a player's source, once. */
  begin(side: PlayerSide, url: string): void {
    this.side = side;
    this.url = absolute(url, document.baseURI);
    // Until the player shows where redirects led.
    this.mainUrl ||= this.url;
    this.update();
  }

  /** A source was given to it. */
  get begun(): boolean {
    return this.url !== "" || this.over;
  }

  setVideo(video: HTMLVideoElement): void {
    if (video === this.video || this.over) return;
    this.playback?.stop();
    this.video = video;
    this.playback = new Playback(video, () => this.moved());
    this.playback.live = this.live;
    this.update();
  }

  /** A playlist that the player had loaded before we were there; `sawPlaylist` else. */
  foundPlaylist(url: string, text: string): void {
    if (text && !this.playlists.has(playlistUrl(url, this.url))) this.sawPlaylist(url, text, false);
  }

  /**
   * A playlist as the player got it. `first`: the one that it was given.
   * @returns Until when the player is to wait for it, so that what it asks for next is known; null: no longer.
   */
  sawPlaylist(url: string, text: string, first: boolean): Promise<void> | null {
    if (this.over) return null;
    const final = playlistUrl(url, this.url);
    if (first) this.mainUrl = final;
    const proving = this.index(final, text);
    this.update();
    // The player never waits for wasm, only for what takes a millisecond once that is here.
    return this.host && proving;
  }

  playlistFailed(url: string, status: number): void {
    if (!WITHDRAWN.includes(status) || !this.host || !this.playlists.has(playlistUrl(url, this.url))) return;
    this.fail("killed", `${url} was answered with ${status}: it is not shared any more`);
  }

  /** Asks for media; null if the player is to load it by itself. */
  load(locator: Locator, mediaStartMs: number, callbacks: LoadCallbacks): { abort(): void } | null {
    if (this.host) return this.host.load(locator, mediaStartMs, callbacks);
    if (!this.side?.streams() || !this.expectsHost()) return null;
    return this.starts.load(locator, mediaStartMs, callbacks);
  }

  /** The player loaded media by itself: `bytes` arrived. */
  loadedPlainly(locator: Locator, bytes: number, whole: ArrayBuffer | null): void {
    // Its tag may still come.
    this.starts.loaded(locator, bytes, whole, this.host ? this.hashesComing : this.expectsHost());
  }

  // --- For the page

  /** Changes options; those that are not named stay. */
  setOptions(options: MareaOptions): void {
    this.apply(readOptions(options));
  }

  apply(options: Partial<Options>): void {
    const before = this.options;
    this.given = { ...this.given, ...options };
    const after = this.options;
    const { uploadLimit, maxUploadRatio, memoryLimit } = after;
    this.host?.setLimits({ uploadLimit, maxUploadRatio, memoryLimit });
    const identity = ({
      signaling,
      videoId,
      minViewers,
      iceServers,
      p2pPeers,
      token,
      sha256Url,
      publicKey,
      mirrors,
    }: Options): unknown[] => [
      signaling.join(),
      publicKey.join(),
      mirrors.join(),
      sha256Url,
      videoId,
      minViewers,
      iceServers,
      p2pPeers,
      token,
    ];
    const old = identity(before);
    if (identity(after).some((value, at) => value !== old[at])) {
      this.failure = null;
      this.digests = null;
      this.mirrors = null;
      this.signed.clear();
      this.dropHost();
    }
    this.update();
  }

  stats(): SessionStats {
    const host = this.host?.stats();
    const { past, playback } = this;
    const bytes = add(add({ http: this.starts.bytes }, past?.bytes), host?.bytes);
    bytes.prefetched = host?.bytes.prefetched ?? 0;
    return {
      statsVersion: 1,
      video: this.videoId(),
      state: this.now.state,
      reasons: [...this.now.reasons],
      bytes,
      peers: host?.peers ?? past?.peers ?? [],
      playback: {
        startupMs: playback?.startupMs ?? 0,
        stalls: playback?.stalls ?? 0,
        stalledMs: playback?.stalledMs ?? 0,
        bufferMs: playback?.bufferMs ?? 0,
        latencyMs: this.live && this.player ? this.player.latency * 1000 : null,
      },
      integrity: {
        verified: (past?.integrity.verified ?? 0) + (host?.integrity.verified ?? 0),
        rejected: (past?.integrity.rejected ?? 0) + (host?.integrity.rejected ?? 0),
      },
    };
  }

  /** Ends sharing and gives everything back. The player goes on by plain HTTP. */
  destroy(): void {
    if (this.over) return;
    this.over = true;
    this.dropHost();
    this.tellAwaiting(null);
    for (const unwatch of this.unwatch) unwatch();
    this.playback?.stop();
    this.patience.stop();
    this.starts.forget();
    this.playlists.clear();
    this.signed.clear();
    const at = sessions.indexOf(this);
    if (at >= 0) sessions.splice(at, 1);
    this.update();
  }

  suspend(): void {
    this.host?.suspend();
  }

  resume(): void {
    this.host?.resume();
  }

  // --- State

  /** Looks at everything anew: starts or ends the swarm, and tells what has changed. */
  private update(): void {
    const blocker = this.over ? null : this.blocker();
    if (blocker) {
      this.starts.forget();
      this.dropHost();
      this.tellAwaiting(null);
    } else this.readDigests();
    // What a page's own loader brings cannot be held back until the picture is there.
    if (!this.hostState && this.played && this.expectsHost() && (!this.side?.streams() || this.patience.isOver()))
      this.start();
    const next = this.judge();
    const { state, reasons } = this.now;
    this.now = next;
    const joined = this.hostState !== null && this.hostState.state !== "joining";
    if (joined || next.reasons.length > 0 || next.state === "stopped") this.resolveReady();
    if (next.state !== state || next.reasons.join() !== reasons.join()) {
      this.fire("state", { state: next.state, reasons: [...next.reasons] });
    }
  }

  private judge(): { state: SessionState; reasons: Reason[] } {
    if (this.over) return { state: "stopped", reasons: [] };
    const blocker = this.blocker();
    if (blocker) {
      const state = blocker === "consent-pending" ? "asking" : effect(blocker) === "off" ? "off" : "waiting";
      return { state, reasons: [blocker] };
    }
    if (!this.hostState) return { state: "waiting", reasons: [] };
    const reasons = [...this.hostState.reasons];
    if (this.away) reasons.push("hidden");
    if (this.hostState.state === "active") return { state: "active", reasons };
    if (reasons.some((reason) => effect(reason) === "off")) return { state: "off", reasons };
    if (reasons.some((reason) => effect(reason) === "waiting")) return { state: "waiting", reasons };
    // Joined, but nobody is met yet: to the page still joining (design C3 has no state between).
    return { state: "joining", reasons };
  }

  /** Why there must be no swarm, most basic reason first. */
  private blocker(): Reason | null {
    const options = this.options;
    const word = consent(this.askFirst && options.p2p !== "off" ? "ask" : options.p2p);
    if (word === "off") return word;
    if (this.native) return "native-playback";
    if (this.otherEngine) return "other-engine";
    const tagProblem = this.tagProblem();
    if (tagProblem) return tagProblem;
    if (options.publicKey.length > 0 && !crypto.subtle) return "insecure-page";
    if (word !== "granted") return word;
    if (isMetered()) return "metered";
    return this.failure;
  }

  /** What is wrong with the playlists seen so far. */
  private tagProblem(): Reason | null {
    const all = [...this.playlists.values()];
    const tags = all.map(({ tag }) => tag).filter((tag) => tag !== null);
    const bad = tags.find((tag) => tag.problem !== null);
    if (bad && tags.every((tag) => tag.problem !== null)) return bad.problem;
    if (tags.length > 0 || all.every(({ multivariant }) => multivariant)) return null;
    if (!this.options.sha256Url) return "no-hash";
    if (!crypto.subtle) return "insecure-page";
    const { digests } = this;
    const covers = ({ texts }: SeenPlaylist): boolean => texts.some((text) => digests?.covers(text));
    return !digests || digests.state === "loading" || all.some(covers) ? null : "no-hash";
  }

  /** Hashes may still come for what has none yet. */
  private get hashesComing(): boolean {
    return this.rereader.busy || this.digests?.state === "loading";
  }

  /** Reads the list of hashes once a playlist has shown that it is needed. */
  private readDigests(): void {
    const { sha256Url } = this.options;
    if (this.over || this.digests || !sha256Url || !this.side || !this.hashed) return;
    if ([...this.playlists.values()].some(({ tag }) => tag !== null)) return;
    this.digests = new Digests(this.fetchText(absolute(sha256Url, document.baseURI)), () => this.reindex());
  }

  /** Tells the swarm of every playlist, and of what was loaded before it knew them. */
  private reindex(): void {
    this.indexAll();
    if (this.host) this.starts.adopt(this.host);
    this.update();
  }

  /** A swarm is to be expected once the viewer plays: what is loaded now is worth keeping for it. */
  private expectsHost(): boolean {
    return !this.over && !this.host && this.hashed && this.blocker() === null;
  }

  private videoId(): string | null {
    const { videoId } = this.options;
    if (videoId) return videoId;
    const main = this.playlists.get(this.mainUrl);
    for (const { tag } of main ? [main, ...this.playlists.values()] : this.playlists.values()) {
      if (tag?.video) return tag.video;
    }
    return this.mainUrl || null;
  }

  // --- The swarm

  private start(): void {
    if (!this.pinned) return this.join();
    const attempt = ++this.attempt;
    this.hostState = { state: "joining", reasons: [] };
    const all = [...this.playlists].flatMap(([url, { texts }]) => texts.map((text) => this.prove(url, text)));
    void Promise.all(all).then(() => attempt === this.attempt && this.join());
  }

  /** The page pins keys: only what they signed is shared. */
  private get pinned(): boolean {
    return this.options.publicKey.length > 0;
  }

  /** What is wrong with the signature of a text; null if nothing is. */
  private async check(url: string, text: string, own = true): Promise<Reason | null> {
    const { hash } = await loadCore();
    const keys = this.options.publicKey;
    const said = mainTag(text)?.video;
    // A mirror has no say in which video it is that the page shows.
    const video = this.playlists.get(this.mainUrl)?.tag?.video ?? (own ? said : this.videoId()) ?? "";
    const name = said === video ? nameOf(this.mainUrl, url) : null;
    return checkSignature(text, { keys, video, name }, hash, own);
  }

  /** Looks at the signature of a text. One that does not fit ends all sharing: the page is not given what it demands. */
  private async prove(url: string, text: string): Promise<void> {
    const attempt = this.attempt;
    try {
      const problem = await this.check(url, text);
      if (attempt !== this.attempt) return;
      if (problem)
        this.fail(problem, `${url} is not signed with a key that this page pins, or by one of another playlist`);
      else this.signed.add(text);
    } catch (error) {
      if (attempt === this.attempt) this.fail(error instanceof HostError ? error.reason : "no-wasm", String(error));
    }
  }

  /** The mirrors, where they are of use: what they bring can be checked by signed hashes alone. */
  private elsewhere(): Mirrors | null {
    const { mirrors, sha256Url } = this.options;
    if (!this.pinned || sha256Url || mirrors.length === 0 || !/^https?:/.test(this.mainUrl)) return null;
    return (this.mirrors ??= new Mirrors(
      this.mainUrl,
      this.http(),
      this.rate.measure(fetchTransport({ credentials: "omit" })),
      mirrors,
    ));
  }

  /** The playlist `url` as a mirror or a neighbour has it, if its owner's signature makes it as good; null if none has. */
  async mirrored(url: string): Promise<string | null> {
    if (this.blocker() !== null) return null;
    const take = async (copy: string): Promise<string> => {
      const signal = AbortSignal.timeout(MIRROR_PATIENCE_MS);
      const text = await (await fetch(copy, { credentials: "omit", cache: "no-cache", signal })).text();
      if (await this.fits(url, text, copy)) return text;
      throw copy;
    };
    const copies = this.elsewhere()?.copies(absolute(url, this.url)) ?? [];
    // Whoever is first, of those whose text fits.
    return Promise.any([...copies.map(take), this.neighbours(url)]).catch(() => null);
  }

  /** Whether a text that others have for the playlist `url` is one that its owner signed, and not an older one. */
  private async fits(url: string, text: string, from: string): Promise<boolean> {
    const problem = await this.check(playlistUrl(url, this.url), text, false);
    if (problem) this.fire("error", { code: problem, message: `${from} is refused`, fatal: false });
    else this.signed.add(text);
    return !problem;
  }

  /** The playlist `url` as a neighbour has it. Who has no playlist yet can ask only where the page says all that is in it. */
  private async neighbours(url: string): Promise<string> {
    const { signaling, videoId } = this.options;
    const name = nameOf(this.mainUrl, playlistUrl(url, this.url));
    const first = this.playlists.size === 0;
    if (this.pinned && name !== null && (first ? videoId && signaling.length > 0 : this.host)) {
      this.originAway = true;
      this.update();
      const host = this.host ?? (await new Promise<SwarmHost | null>((resolve) => this.awaiting.push(resolve)));
      const text = await host?.text(name, (text) => this.fits(url, text, `${url} from a neighbour`), first);
      if (text) return text;
    }
    throw url;
  }

  /** The signed playlist of this NAME, for neighbours. */
  private textToGive(name: string): string | null {
    for (const [url, { texts }] of this.playlists) {
      const [text = ""] = texts;
      // What is pieced together of delta updates is not what was signed.
      if (texts.length === 1 && this.signed.has(text) && nameOf(this.mainUrl, url) === name) return text;
    }
    return null;
  }

  private join(): void {
    const options = this.options;
    const videoId = this.videoId();
    if (!videoId || !this.side) return;
    // Of one origin with the main one: a playlist elsewhere has no say.
    const own = [...this.playlists].filter(([url]) => originOf(url) === originOf(this.mainUrl));
    const signaling = signalingUrls({
      configured: options.signaling,
      tag: own.map(([, { tag }]) => tag?.signaling).find((url) => url) ?? null,
      playlist: this.mainUrl,
      page: location.href,
      script: scriptUrl,
      signed: this.pinned,
    });
    if (signaling.length === 0) {
      return this.fail("signaling-refused", "no signaling server is allowed here: name one by data-signaling");
    }
    if (options.p2pPeers === "edge" && !this.pinned) {
      const what =
        'data-p2p-peers="edge" needs data-public-key, by which the site\'s edge is known: nobody is met without it';
      return this.fail("signature-invalid", what);
    }
    const attempt = ++this.attempt;
    const current = (): boolean => attempt === this.attempt;
    const { minViewers, uploadLimit, maxUploadRatio, memoryLimit, iceServers, p2pPeers: peers, token } = options;
    this.hostState = { state: "joining", reasons: [] };
    startHost({
      videoId,
      signaling,
      http: this.http(),
      media: this.elsewhere() ?? this.http(),
      digest: (url, start, end) => this.digests?.digest(url, start, end),
      text: (name) => this.textToGive(name),
      ...{ minViewers, uploadLimit, maxUploadRatio, memoryLimit, iceServers, peers, token },
      pinned: this.pinned,
      keys: options.publicKey,
      agreed: remembered() === "yes",
      events: {
        state: (state, reasons) => {
          if (!current()) return;
          this.hostState = { state, reasons };
          // The core is gone for this page: the player goes on by itself.
          if (reasons.includes("no-wasm")) this.failure = "no-wasm";
          this.askFirst ||= reasons.includes("consent-pending");
          this.update();
        },
        peer: (detail) => this.fire("peer", detail),
        segment: (detail) => this.fire("segment", detail),
        integrity: (detail) => this.fire("integrity", detail),
        error: (detail) => this.fire("error", detail),
        reloadPlaylist: (url) => current() && this.rereader.now(url),
      },
    }).then(
      (host) => (current() ? this.welcome(host) : host.destroy()),
      (error: unknown) => {
        if (!current()) return;
        const reason = error instanceof HostError ? error.reason : "no-wasm";
        this.fail(reason, error instanceof Error ? error.message : String(error));
      },
    );
  }

  private welcome(host: SwarmHost): void {
    this.host = host;
    this.indexAll();
    // The playhead first: the core then knows how urgent the rest is.
    this.tick();
    this.starts.adopt(host);
    this.starts.release();
    this.tellAwaiting(host);
    let due = performance.now() + TICK_MS;
    this.ticker = setInterval(() => {
      timerCame(due);
      due = performance.now() + TICK_MS;
      this.tick();
    }, TICK_MS);
    this.update();
  }

  private dropHost(): void {
    this.attempt++;
    this.hostState = null;
    clearInterval(this.ticker);
    this.rereader.stop();
    this.starts.release();
    const host = this.host;
    if (!host) return;
    this.host = null;
    const last = host.stats();
    const { past } = this;
    this.past = {
      ...last,
      bytes: add(add({}, past?.bytes), last.bytes),
      peers: last.peers.map((peer) => ({ ...peer, state: peer.state === "banned" ? "banned" : "closed" })),
      integrity: {
        verified: (past?.integrity.verified ?? 0) + last.integrity.verified,
        rejected: (past?.integrity.rejected ?? 0) + last.integrity.rejected,
      },
    };
    host.destroy();
  }

  private tellAwaiting(host: SwarmHost | null): void {
    for (const tell of this.awaiting.splice(0)) tell(host);
  }

  private fail(reason: Reason, message: string): void {
    this.failure = reason;
    this.dropHost();
    this.fire("error", { code: reason, message, fatal: false });
    this.update();
  }

  /** Play, pause, seek, rate. */
  private moved(): void {
    this.tellPlayback();
    this.update();
  }

  private tellPlayback(): void {
    const { video, playback } = this;
    if (!video || !playback) return;
    const playing = !video.paused && !video.ended;
    const rate = playing ? video.playbackRate : 0;
    this.host?.playback(video.currentTime * 1000, rate, playing, playback.bufferMs, lateness());
  }

  private tick(): void {
    this.tellPlayback();
    if (this.video) {
      const away = this.presence.isAway(this.video, performance.now());
      this.host?.setUpload(!away && !isBatteryLow());
      if (away !== this.away) {
        this.away = away;
        this.update();
      }
    }
    if (++this.ticks % STATS_TICKS === 0) this.fire("stats", this.stats());
  }

  // --- Playlists

  private index(url: string, text: string): Promise<void> | null {
    const before = isDelta(text) ? (this.playlists.get(url)?.texts ?? []) : [];
    // If some are missing when the core comes, it asks for the whole playlist.
    const texts = [...before.slice(0, 1), ...before.slice(1).slice(2 - MAX_PLAYLIST_TEXTS), text];
    const at = performance.now();
    const multivariant = isMultivariant(text);
    for (const old of this.playlists.get(url)?.texts ?? []) if (!texts.includes(old)) this.signed.delete(old);
    this.playlists.set(url, { texts, at, multivariant, tag: mainTag(text) });
    if (!multivariant) this.live = isLive(text);
    if (this.playback) this.playback.live = this.live;
    if (!this.hostState) return null;
    if (this.pinned && !this.signed.has(text)) return this.prove(url, text).then(() => this.indexInHost(url, text));
    this.indexInHost(url, text);
    return null;
  }

  private indexAll(): void {
    for (const [url, { texts }] of this.playlists) for (const text of texts) this.indexInHost(url, text);
  }

  private indexInHost(url: string, text: string): void {
    if (this.pinned && !this.signed.has(text)) return;
    const info = this.host?.playlist(url, text);
    // A live list is read again by the player itself.
    if (info?.kind === "media") this.rereader.incomplete(url, !info.complete && info.ended);
    const seen = this.playlists.get(url);
    if (info?.kind === "partial" && seen) {
      // A delta update of something that we have not read: the whole one is needed.
      seen.at = -Infinity;
      this.rereader.now(url);
    }
  }

  private reread(url: string, text: string): void {
    void (this.index(url, text) ?? Promise.resolve()).then(() => this.host && this.starts.adopt(this.host));
  }

  /** Reads a playlist again, conditionally where the way is our own. */
  private async fetchText(playlist: string): Promise<{ status: number; text: string }> {
    const seen = this.playlists.get(playlist);
    const url = seen ? updateUrl(playlist, seen.texts.at(-1) ?? "", performance.now() - seen.at) : playlist;
    if (this.side?.streams()) {
      const response = await fetch(url, { cache: "no-cache" });
      return { status: response.status, text: await response.text() };
    }
    return new Promise((resolve, reject) => {
      const decoder = new TextDecoder();
      let text = "";
      this.http().start(
        { url },
        {
          response: () => {},
          data: (bytes) => (text += decoder.decode(bytes, { stream: true })),
          end: () => resolve({ status: 200, text }),
          error: (status, message) => (status > 0 ? resolve({ status, text: "" }) : reject(new Error(message))),
        },
      );
    });
  }

  // --- HTTP

  private http(): HttpTransport {
    const { side } = this;
    if (!side) throw new Error("a session without a player loads nothing");
    // A page's own loader hands over everything at once, which says nothing about the rate.
    return side.streams() ? this.rate.measure(side.http()) : side.http();
  }

  private tellPlain(url: string, size: number): void {
    this.fire("segment", { url, size, http: size, viewers: 0, mirrors: 0, edge: 0 });
  }

  private fire<Type extends keyof SessionEvents>(type: Type, detail: SessionEvents[Type]): void {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

type Bytes = HostStats["bytes"];

function add(to: Partial<Bytes>, more: Partial<Bytes> | undefined): Bytes {
  const sum = (name: keyof Bytes): number => (to[name] ?? 0) + (more?.[name] ?? 0);
  return {
    http: sum("http"),
    viewers: sum("viewers"),
    mirrors: sum("mirrors"),
    edge: sum("edge"),
    uploaded: sum("uploaded"),
    wasted: sum("wasted"),
    prefetched: sum("prefetched"),
  };
}
