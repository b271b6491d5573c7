// One Chromium per test file; viewers are separate browser contexts in it, as separate as strangers' profiles.

import { createHash } from "node:crypto";
import puppeteer from "puppeteer-core";
import * as paths from "./paths.mjs";
import { recorder } from "./recorder.mjs";

const FLAGS = [
  "--no-sandbox",
  "--no-first-run",
  "--mute-audio",
  "--disable-quic",
  "--disable-background-networking",
  // Players of a page start by themselves here, as after a click.
  "--autoplay-policy=no-user-gesture-required",
];

/** Several viewers share one browser, but each of them is looking. */
const LOOKING = [
  "--disable-background-timer-throttling",
  "--disable-backgrounding-occluded-windows",
  "--disable-renderer-backgrounding",
  "--disable-features=CalculateNativeWinOcclusion,IntensiveWakeUpThrottling",
];

/** Console lines kept per viewer for a failure's report. */
const KEPT_LINES = 300;

/**
 * @param {{ executablePath?: string, throttled?: boolean }} [options] `throttled`: tabs that nobody looks at get little time.
 */
export async function launch({ executablePath = paths.chromium, throttled = false } = {}) {
  const args = throttled ? FLAGS : [...FLAGS, ...LOOKING];
  return puppeteer.launch({ executablePath, pipe: true, headless: true, args, protocolTimeout: 120_000 });
}

/**
 * Opens a page as a new viewer.
 * @param {import("puppeteer-core").Browser} browser
 * @param {string} url
 * @param {{ name?: string, before?: Function, userAgent?: string }} [options] `before` runs
 *   in the page before anything else; `userAgent` is added to the browser's.
 */
export async function openViewer(browser, url, { name = "viewer", before, userAgent } = {}) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  const devtools = await page.createCDPSession();
  const viewer = new Viewer(name, context, page, devtools);
  page.on("console", (message) => viewer.log(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => {
    viewer.pageErrors.push(String(error));
    viewer.log(`page error: ${error}`);
  });
  page.on("requestfailed", (request) => viewer.log(`failed: ${request.url()} ${request.failure()?.errorText}`));
  await devtools.send("Network.enable");
  devtools.on("Network.webSocketCreated", ({ url: socket }) => viewer.sockets.push(socket));
  devtools.on("Network.requestWillBeSent", ({ request }) => viewer.requests.push(request.url));
  if (userAgent) await page.setUserAgent({ userAgent: `${await browser.userAgent()} ${userAgent}` });
  await page.evaluateOnNewDocument(recorder);
  if (before) await page.evaluateOnNewDocument(/** @type {any} */ (before));
  await page.goto(url, { waitUntil: "load" });
  return viewer;
}

export class Viewer {
  /** URLs of WebSockets the page opened. @type {string[]} */
  sockets = [];
  /** URLs the page asked for by HTTP. @type {string[]} */
  requests = [];
  /** Uncaught errors of the page. @type {string[]} */
  pageErrors = [];
  /** @type {string[]} */
  lines = [];
  gone = false;
  /** @type {Record<number, string>} */
  #hashes = {};

  /**
   * @param {string} name
   * @param {import("puppeteer-core").BrowserContext} context
   * @param {import("puppeteer-core").Page} page
   * @param {import("puppeteer-core").CDPSession} devtools
   */
  constructor(name, context, page, devtools) {
    this.name = name;
    this.context = context;
    this.page = page;
    this.devtools = devtools;
  }

  /** @param {string} line */
  log(line) {
    this.lines.push(line);
    if (this.lines.length > KEPT_LINES) this.lines.shift();
  }

  /** Starts playback, as a click does. */
  async play(id = "v0") {
    await this.page.evaluate((id) => {
      void (/** @type {HTMLVideoElement} */ (document.getElementById(id)).play().catch(() => {}));
    }, id);
  }

  /** @param {number} time */
  async seek(time, id = "v0") {
    await this.page.evaluate(
      (id, time) => {
        /** @type {HTMLVideoElement} */ (document.getElementById(id)).currentTime = time;
      },
      id,
      time,
    );
  }

  /**
   * Waits for a state of the page.
   * @param {string} what In words, for the failure.
   * @param {(...args: any[]) => unknown} predicate Runs in the page.
   * @param {{ timeout?: number, args?: unknown[], polling?: number }} [options]
   */
  async until(what, predicate, { timeout = 60_000, args = [], polling = 100 } = {}) {
    // Not puppeteer's waitForFunction: that needs `eval`, which a strict CSP forbids to the page.
    for (const end = Date.now() + timeout; ;) {
      const value = await this.page.evaluate(/** @type {any} */ (predicate), ...args);
      if (value) return value;
      if (Date.now() > end) throw new Error(`${this.name}: waited ${timeout} ms in vain for: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, polling));
    }
  }

  /** @param {number} time @param {number} [timeout] */
  playedTo(time, timeout = 60_000, id = "v0") {
    return this.until(
      `${id} played to ${time} s`,
      (id, time) => /** @type {HTMLVideoElement} */ (document.getElementById(id)).currentTime >= time,
      { timeout, args: [id, time] },
    );
  }

  ended(timeout = 120_000, id = "v0") {
    return this.until(
      `${id} played to its end`,
      (id) => /** @type {HTMLVideoElement} */ (document.getElementById(id)).ended,
      { timeout, args: [id] },
    );
  }

  /** @param {string} reason @param {number} [timeout] */
  reason(reason, timeout = 30_000, session = 0) {
    return this.until(
      `reason ${reason}`,
      (index, reason) => window.__recorder.session(index)?.stats().reasons.includes(reason),
      { timeout, args: [session, reason] },
    );
  }

  /** At least `count` open neighbours. @param {number} count @param {number} [timeout] */
  neighbours(count, timeout = 30_000, session = 0) {
    return this.until(
      `${count} open neighbours`,
      (index, count) =>
        (window.__recorder.session(index)?.stats().peers ?? []).filter((peer) => peer.state === "open").length >= count,
      { timeout, args: [session, count] },
    );
  }

  /** Everything that was written down so far, every hash done. */
  async snapshot() {
    await this.until("hashes of delivered bytes", () => window.__recorder.hashing === 0, { timeout: 30_000 });
    const shot = await this.page.evaluate(() => window.__recorder.snapshot());
    // Insecure pages have no WebCrypto: their bytes are hashed here.
    for (const [at, entry] of shot.delivered.entries()) {
      if (entry.sha256 || entry.bytes < 0) continue;
      this.#hashes[at] ??= createHash("sha256")
        .update(
          Buffer.from(await this.page.evaluate((at) => window.__recorder.delivered[at].base64 ?? "", at), "base64"),
        )
        .digest("hex");
      entry.sha256 = this.#hashes[at];
    }
    return shot;
  }

  /** `stats()` of a session. */
  async stats(session = 0) {
    return this.page.evaluate((index) => window.__recorder.session(index)?.stats() ?? null, session);
  }

  /** Bytes of the page's heap, its buffers and its wasm memories, after garbage collection. */
  async memory() {
    await this.devtools.send("HeapProfiler.collectGarbage");
    const usage = /** @type {any} */ (await this.devtools.send("Runtime.getHeapUsage"));
    return {
      heap: usage.usedSize,
      buffers: usage.backingStorageSize ?? 0,
      total: usage.usedSize + (usage.backingStorageSize ?? 0),
    };
  }

  /**
   * Opens another tab in front of it. Gives what brings it back to the front.
   * @param {{ frozen?: boolean }} [options] `frozen`: it gets no time at all, as in a browser that saves energy.
   */
  async hide({ frozen = false } = {}) {
    const front = await this.context.newPage();
    await front.bringToFront();
    await this.until("it is hidden", () => document.visibilityState === "hidden", { timeout: 5_000 });
    if (frozen) await this.devtools.send("Page.setWebLifecycleState", { state: "frozen" });
    return async () => {
      if (frozen) await this.devtools.send("Page.setWebLifecycleState", { state: "active" });
      await front.close();
      await this.page.bringToFront();
    };
  }

  /** Closes the tab; the page has no time to say good-bye. */
  async close() {
    if (this.gone) return;
    this.gone = true;
    await this.context.close().catch(() => {});
  }

  /** Kills the page's renderer process. */
  async crash() {
    this.gone = true;
    const crashed = new Promise((resolve) => this.page.once("error", resolve));
    this.devtools.send("Page.crash").catch(() => {});
    await crashed;
  }

  /** What the page's open connections run over: both candidates, and our description. */
  selectedPairs() {
    return this.page.evaluate(async () => {
      const pairs = [];
      for (const weak of window.__recorder.connections) {
        const pc = weak.deref();
        if (pc?.connectionState !== "connected") continue;
        const report = await pc.getStats();
        for (const entry of report.values()) {
          if (entry.type !== "transport" || !entry.selectedCandidatePairId) continue;
          const { localCandidateId, remoteCandidateId } = report.get(entry.selectedCandidatePairId);
          const [local, remote] = [report.get(localCandidateId), report.get(remoteCandidateId)];
          pairs.push({ local, remote, sdp: pc.localDescription.sdp });
        }
      }
      return pairs;
    });
  }

  /** What a failure's report needs. */
  async report() {
    const head = `--- ${this.name}`;
    const log = this.lines.slice(-40).map((line) => `    ${line}`);
    if (this.gone) return [`${head} (gone)`, ...log].join("\n");
    try {
      const shot = await this.page.evaluate(() => window.__recorder.snapshot());
      const tail = (list) => list.slice(-25).map((entry) => `    ${JSON.stringify(entry)}`);
      return [
        head,
        `  videos: ${JSON.stringify(shot.videos)} visibility: ${shot.visibility}`,
        ...shot.sessions.map((session) => `  session: ${JSON.stringify(session)}`),
        `  stalls: ${JSON.stringify(shot.stalls)}`,
        `  connections: ${shot.connections} open of ${shot.connectionsMade}; sockets: ${this.sockets.join(" ")}`,
        `  player errors: ${JSON.stringify(shot.playerErrors.slice(-10))}`,
        `  delivered: ${shot.delivered.length}, last: ${JSON.stringify(shot.delivered.slice(-5))}`,
        "  media events:",
        ...tail(shot.media),
        "  session events:",
        ...tail(shot.events.filter((event) => event.type !== "segment")),
        "  console:",
        ...log,
      ].join("\n");
    } catch (error) {
      return [head, `  no report: ${error}`, ...log].join("\n");
    }
  }
}
