// One run: an engine, a scenario, a number of viewers. Gives the record of it.

import { launch, openViewer } from "../e2e/lib/browser.mjs";
import { startPageServer } from "../e2e/lib/page-server.mjs";
import { pause } from "../e2e/lib/wait.mjs";
import { loadavg } from "node:os";
import { ENGINES } from "./engines.mjs";
import { serverLine, viewerTag } from "./line.mjs";
import { CpuOfTree, machineIdle } from "./processes.mjs";
import { LIVE_SECONDS, SCENARIOS, SETTLED_SECONDS, UNSETTLED_SECONDS } from "./scenarios.mjs";

/** A wait that lasts at most this long is a late frame and no stall, in ms. */
const BLINK_MS = 100;

/** With this much media ahead, in s, it is the decoder that gets no time. Counted apart. */
const AHEAD_S = 2;

/** How long after its due end a film may still be playing, in s. */
const LATE_S = 60;

/** Runs in the page, once a second: as little as possible. */
function look() {
  const video = /** @type {HTMLVideoElement} */ (document.getElementById("v0"));
  const player = window.__players?.[0];
  const marea = window.__recorder.session(0)?.stats().bytes;
  const other = /** @type {any} */ (window).__p2pMediaLoader;
  const date = player?.playingDate;
  // By now it knows the player; looking for more takes time that is measured.
  if (video.currentTime > 0) window.__recorder.stop();
  return {
    time: video.currentTime,
    ended: video.ended,
    peers: marea ? marea.viewers : (other?.peers ?? 0),
    http: marea ? marea.http : (other?.http ?? 0),
    uploaded: marea ? marea.uploaded : (other?.uploaded ?? 0),
    wasted: marea?.wasted ?? null,
    connected: marea
      ? window.__recorder
          .session(0)
          .stats()
          .peers.filter((peer) => peer.state === "open").length
      : (other?.connected ?? 0),
    errors: other?.errors ?? [],
    reasons: marea ? window.__recorder.session(0).stats().reasons : [],
    latency: date ? (Date.now() - date.getTime()) / 1000 : null,
    edge: player && Number.isFinite(player.latency) ? player.latency : null,
  };
}

/**
 * @param {string} engineName
 * @param {string} scenarioName
 * @param {number} count Viewers.
 */
export async function watch(engineName, scenarioName, count) {
  const engine = ENGINES[engineName];
  const scenario = SCENARIOS[scenarioName];
  /** @type {(() => unknown)[]} */
  const undo = [];
  /** @template {{ close(): unknown }} T @param {T} thing @returns {T} */
  const keep = (thing) => {
    undo.push(() => thing.close());
    return thing;
  };
  try {
    const load = loadavg()[0];
    const footage = keep(await scenario.footage());
    const origin = keep(await engine.serve(footage.root));
    const line = keep(await serverLine({ ...origin, thin: scenario.thin }));
    const pages = keep(await startPageServer());
    const { script, config } = await engine.page(line.origin);
    const url = pages.add({ script, ownPlayer: config, videos: [{ src: line.origin + origin.path }] });
    const browser = keep(await launch());
    const cpu = new CpuOfTree(browser.process()?.pid ?? 0);
    const cpuBefore = cpu.read();
    const idleBefore = machineIdle().now;

    const begin = Date.now();
    const seconds = () => (Date.now() - begin) / 1000;
    /** @type {import("../e2e/lib/browser.mjs").Viewer[]} */
    const viewers = [];
    const joined = Array.from({ length: count }, async (_, at) => {
      await pause(at * scenario.stagger * 1000);
      const name = `viewer ${at + 1}`;
      const viewer = await openViewer(browser, url, { name, userAgent: viewerTag(at) });
      viewers[at] = viewer;
      await viewer.play();
    });
    // A viewer that cannot even open its page ends the run, not the program.
    const failed = Promise.all(joined).then(() => new Promise(() => {}));
    const lastJoin = (count - 1) * scenario.stagger;
    const end = footage.live ? LIVE_SECONDS : lastJoin + 60 + LATE_S;

    /** @type {number[][]} */
    const samples = [];
    /** @type {Awaited<ReturnType<typeof observe>>[]} */
    const latencies = [];
    async function observe() {
      const seen = await Promise.all(viewers.filter(Boolean).map((viewer) => viewer.page.evaluate(look)));
      const peers = seen.reduce((sum, one) => sum + one.peers, 0);
      samples.push([
        Math.round(seconds() * 10) / 10,
        line.bytes.segment + line.bytes.init,
        peers,
        round(cpu.read() - cpuBefore, 2),
      ]);
      return seen;
    }
    const all = (async () => {
      for (;;) {
        await pause(1000 - ((Date.now() - begin) % 1000));
        const seen = await observe();
        if (footage.live && seconds() >= lastJoin + SETTLED_SECONDS) latencies.push(seen);
        const over = seen.length === count && seen.every(({ ended }) => ended);
        if (footage.live ? seconds() >= end : over || seconds() >= end) return;
      }
    })();
    await Promise.race([all, failed]);
    const took = seconds();
    const idle = machineIdle(idleBefore).idle;
    const last = await Promise.all(viewers.map((viewer) => viewer.page.evaluate(look)));
    const shots = await Promise.all(viewers.map((viewer) => viewer.snapshot()));
    const cpuSeconds = samples[samples.length - 1][3];

    const known = footage.segments();
    const isSettled = (/** @type {number} */ time) =>
      time > begin + (lastJoin + SETTLED_SECONDS) * 1000 && time < begin + (took - UNSETTLED_SECONDS) * 1000;
    const people = shots.map((shot, at) => person(shot, last[at], latencies, at, footage));
    const { signaling, ...server } = line.bytes;
    return {
      scenario: scenarioName,
      viewers: count,
      engine: engineName,
      seconds: round(took, 1),
      load: round(load, 2),
      idle: round(idle, 3),
      /** One copy of what was watched. */
      copy: footage.live ? copyOf(shots) : known.reduce((sum, { bytes }) => sum + bytes, 0),
      server,
      signaling,
      requests: line.requests,
      ...(line.unknown.size > 0 && { unknown: [...line.unknown].slice(0, 5) }),
      ...(footage.live && {
        settled: settled(
          line.segments,
          known.filter(({ time }) => isSettled(time)),
        ),
      }),
      peers: last.reduce((sum, one) => sum + one.peers, 0),
      cpu: cpuSeconds,
      people,
      samples,
    };
  } finally {
    for (const act of undo.reverse())
      await Promise.resolve(act()).catch((error) => console.error(`clean-up: ${error}`));
  }
}

/** What one viewer saw. @param {any} shot @param {any} last @param {any[][]} latencies @param {number} at @param {import("./footage.mjs").Footage} footage */
function person(shot, last, latencies, at, footage) {
  const time = (/** @type {string} */ type) => shot.media.find((/** @type {any} */ event) => event.type === type)?.at;
  const waits = shot.stalls.filter((/** @type {any} */ stall) => stall.ms > BLINK_MS);
  const starved = waits.filter((/** @type {any} */ stall) => stall.buffered - stall.at < AHEAD_S);
  const sum = (/** @type {any[]} */ stalls) => stalls.reduce((total, { ms }) => total + ms, 0);
  const wrong = shot.delivered.filter(
    (/** @type {any} */ { url, range, sha256 }) => !footage.truth(new URL(url).pathname, range, sha256),
  );
  const median = (/** @type {"latency" | "edge"} */ key) => {
    const values = latencies.map((seen) => seen[at]?.[key]).filter((value) => value !== null && value !== undefined);
    values.sort((a, b) => a - b);
    return values.length === 0 ? null : round(values[values.length >> 1], 2);
  };
  const startup = time("playing") - time("play");
  return {
    startup: Number.isFinite(startup) ? startup : null,
    stalls: starved.length,
    stalled: sum(starved),
    hiccups: sum(waits) - sum(starved),
    played: round(last.time, 1),
    ended: last.ended,
    http: last.http,
    peers: last.peers,
    uploaded: last.uploaded,
    wasted: last.wasted,
    connected: last.connected,
    delivered: shot.delivered.length,
    wrong: wrong.length,
    ...(footage.live && { latency: median("latency"), edge: median("edge") }),
    ...(last.reasons.length > 0 && { reasons: last.reasons }),
    ...(last.errors.length > 0 && { errors: last.errors }),
    ...(shot.playerErrors.length > 0 && {
      playerErrors: shot.playerErrors
        .slice(0, 5)
        .map((/** @type {any} */ { details, fatal, at: when }) => `${details}${fatal ? " (fatal)" : ""} at ${when} ms`),
    }),
  };
}

/** Bytes of all segments that any player was given, once each. @param {any[]} shots */
function copyOf(shots) {
  const sizes = new Map();
  for (const { delivered } of shots)
    for (const { url, range, bytes, sn } of delivered)
      if (typeof sn === "number") sizes.set(`${url} ${JSON.stringify(range)}`, bytes);
  return [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
}

/**
 * What these segments weigh, and what the server sent of them.
 * @param {Map<string, number>} sent Bytes by path.
 * @param {{ name: string, bytes: number }[]} segments
 */
function settled(sent, segments) {
  const names = new Set(segments.map(({ name }) => name));
  const server = [...sent].reduce(
    (sum, [path, bytes]) => sum + (names.has(path.split("/").pop() ?? "") ? bytes : 0),
    0,
  );
  return { server, made: segments.reduce((sum, { bytes }) => sum + bytes, 0) };
}

/** @param {number} value @param {number} digits */
function round(value, digits) {
  return Number(value.toFixed(digits));
}
