// The two sides of `cargo xtask bench webrtc`, and what lies between. All senders get core 1; whoever receives has core 0.

import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import WebSocket from "ws";
import { launch } from "../e2e/lib/browser.mjs";
import { scrape } from "../e2e/lib/metrics.mjs";
import { videoId } from "../e2e/lib/native.mjs";
import * as paths from "../e2e/lib/paths.mjs";
import { eventually } from "../e2e/lib/wait.mjs";
import { JsonLines } from "./json-lines.mjs";
import { receivingPage, sendingPage } from "./webrtc-page.mjs";
import { release, startOn } from "./trackers.mjs";

const [RECEIVING, SENDING] = ["0", "1"];

/** The machine's address that others would use; Chromium does not use loopback. */
export const ADDRESS =
  Object.values(networkInterfaces())
    .flatMap((all) => all ?? [])
    .find(({ family, internal }) => family === "IPv4" && !internal)?.address ?? "127.0.0.1";

/** Of a film that our sender has: objects of 2 MiB, as segments of 4 s are at 4 Mbit/s. Each film is a swarm of its own. */
const OBJECTS = 8;
export const PIECES = 32;
const PIECE = 65_536;

/** Neighbours of an edge in one swarm (`PEER_NEIGHBOURS` of the seeder). */
export const NEIGHBOURS = 40;

const exec = promisify(execFile);

/** What a page or program needs to know of a video of ours. @typedef {{ video: string, pieces: number, pace?: number }} Marea */

/**
 * A sender. `answer` takes an offer for receiver `id`; `video` and `announce` are those of a Marea peer.
 * @typedef {object} Sender
 * @property {number} pid
 * @property {(id: number, offer: string, announce: string) => Promise<string>} answer
 * @property {string[]} videos
 * @property {() => Promise<unknown>} stop
 */

/** A film of bytes that no two objects share. @param {string} folder @param {number} number */
async function film(folder, number) {
  await mkdir(folder, { recursive: true });
  const lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:4", "#EXT-X-PLAYLIST-TYPE:VOD"];
  for (let at = 0; at < OBJECTS; at += 1) {
    const bytes = new Uint32Array((PIECES * PIECE) / 4);
    for (let word = 0; word < bytes.length; word += 1)
      bytes[word] = Math.imul(word ^ (number << 24) ^ (at << 20), 2_654_435_761);
    await writeFile(join(folder, `${at}.m4s`), bytes);
    lines.push("#EXTINF:4,", `${at}.m4s`);
  }
  await writeFile(join(folder, "media.m3u8"), [...lines, "#EXT-X-ENDLIST", ""].join("\n"));
  const variant = "#EXT-X-STREAM-INF:BANDWIDTH=4200000";
  await writeFile(join(folder, "master.m3u8"), ["#EXTM3U", variant, "media.m3u8", ""].join("\n"));
}

/** `marea-seeder serve` as an edge, with its own signaling. @param {number} [films] @returns {Promise<Sender>} */
export async function marea(films = 1) {
  const folder = await mkdtemp(join(tmpdir(), "marea-webrtc-"));
  for (let at = 0; at < films; at += 1) await film(join(folder, `film-${at}`), at);
  const args = ["serve", "--root", folder, "--listen", "127.0.0.1:0", "--threads", "1", "--edge-port", "0"];
  const program = await startOn(SENDING, [release("marea-seeder"), ...args], { name: "marea-seeder" });
  const origin = /http:\/\/\S+/.exec(program.ready)?.[0] ?? "";
  /** @type {string[]} */
  const videos = [];
  for (let at = 0; at < films; at += 1) {
    videos.push(await videoId(`${origin}/videos/film-${at}/master.m3u8`));
    await videoId(`${origin}/videos/film-${at}/media.m3u8`);
  }
  const edges = async () => (await scrape(origin)).sum("marea_signaling_peers", { kind: "edge" });
  await eventually("the edge to join", async () => (await edges()) === films);
  /** @type {WebSocket[]} */
  const sockets = [];
  const answer = (/** @type {number} */ id, /** @type {string} */ offer, /** @type {string} */ video) =>
    new Promise((resolve, reject) => {
      // Signaling bounds how many meet from one network; these are strangers to each other.
      const localAddress = `127.0.${id % 250}.1`;
      const socket = new WebSocket(`${origin.replace("http", "ws")}/signal`, { localAddress });
      sockets.push(socket);
      const say = (/** @type {object} */ message) => socket.send(JSON.stringify({ video, ...message }));
      socket.on("error", reject);
      socket.on("open", () => say({ type: "join", v: 1, kind: "viewer", want: 1, connected: [], peers: "edge" }));
      socket.on("message", (data) => {
        const message = JSON.parse(`${data}`);
        if (message.type === "match") say({ type: "offer", to: message.peers[0].peer, conn: `c${id}`, sdp: offer });
        if (message.type === "answer") resolve(message.sdp);
        if (message.type === "error" || message.type === "reject") reject(new Error(`signaling: ${data}`));
      });
    });
  const stop = async () => {
    for (const socket of sockets) socket.terminate();
    await program.stop("SIGKILL");
    await rm(folder, { recursive: true, force: true });
  };
  return { pid: program.pid, answer, videos, stop };
}

/** A program that answers offers. @param {string[]} command @returns {Promise<Sender>} */
async function answering(command) {
  const program = new JsonLines(SENDING, command);
  const answer = async (/** @type {number} */ id, /** @type {string} */ offer) =>
    (await program.ask({ id, address: ADDRESS, offer }, (message) => message.id === id)).answer;
  return { pid: program.pid, answer, videos: [], stop: () => program.stop() };
}

/** Chromium on one core. @param {string} core @param {string[]} flags */
async function chromium(core, flags = []) {
  const folder = await mkdtemp(join(tmpdir(), "marea-chromium-"));
  const executablePath = join(folder, "chromium");
  await writeFile(executablePath, `#!/bin/sh\nexec taskset -c ${core} ${paths.chromium} "$@" ${flags.join(" ")}\n`);
  await chmod(executablePath, 0o755);
  const browser = await launch({ executablePath });
  const stop = async () => {
    await browser.close();
    await rm(folder, { recursive: true, force: true });
  };
  return { browser, pid: browser.process()?.pid ?? 0, stop };
}

/** A page that sends to all. @returns {Promise<Sender>} */
async function sendingChromium() {
  // Names under .local need a resolver for multicast; the receivers are not to depend on one.
  const { browser, pid, stop } = await chromium(SENDING, ["--disable-features=WebRtcHideLocalIpsWithMdns"]);
  const page = await browser.newPage();
  await page.evaluate(sendingPage);
  const answer = async (/** @type {number} */ _id, /** @type {string} */ offer) =>
    page.evaluate((sdp) => /** @type {any} */ (globalThis).answer(sdp), offer);
  return { pid, answer, videos: [], stop };
}

const TOOL = release("marea-webrtc");

/** What is compared. @type {Record<string, () => Promise<Sender>>} */
export const SENDERS = {
  marea: () => marea(),
  webrtc: () => answering([TOOL, "send"]),
  "node-datachannel": () =>
    answering([
      process.execPath,
      join(paths.repo, "tests/bench/webrtc-ndc.mjs"),
      join(paths.target, "tools/node-datachannel"),
    ]),
  chromium: sendingChromium,
};

/**
 * A receiver's side.
 * @typedef {object} Receivers
 * @property {(id: number, marea?: Marea) => Promise<{ offer: string, announce: string }>} open
 * @property {(id: number, answer: string) => Promise<unknown>} answered
 * @property {() => Promise<unknown>} go
 * @property {() => Promise<{ bytes: number, open: number }>} count
 * @property {() => Promise<unknown>} stop
 */

/** Native ones, in one process. @returns {Promise<Receivers>} */
async function native() {
  const program = new JsonLines(RECEIVING, [TOOL, "receive"]);
  return {
    open: (id, marea) => program.ask({ open: { id, address: ADDRESS, marea } }, (message) => message.id === id),
    answered: async (id, sdp) => program.say({ answer: { id, sdp } }),
    go: async () => program.say("go"),
    count: () => program.ask("count", ({ bytes }) => bytes !== undefined),
    stop: () => program.stop(),
  };
}

/** Pages, one for each. @returns {Promise<Receivers>} */
async function pages() {
  const { browser, stop } = await chromium(RECEIVING);
  /** @type {Map<number, { page: import("puppeteer-core").Page, offer: string, marea?: Marea }>} */
  const all = new Map();
  const hello = async (/** @type {string[]} */ ...args) =>
    JSON.parse((await exec(TOOL, ["hello", "--", ...args])).stdout);
  return {
    async open(id, marea) {
      const page = await browser.newPage();
      await page.evaluate(receivingPage);
      const offer = await page.evaluate(
        (pieces) => /** @type {any} */ (globalThis).offer(pieces),
        marea?.pieces ?? null,
      );
      all.set(id, { page, offer, marea });
      return { offer, announce: marea ? (await hello(marea.video)).announce : "" };
    },
    async answered(id, answer) {
      const { page, offer, marea } = all.get(id) ?? fail(`no receiver ${id}`);
      await page.evaluate((sdp) => /** @type {any} */ (globalThis).answered(sdp), answer);
      if (!marea) return;
      const bytes = [...Buffer.from((await hello(marea.video, offer, answer)).hello, "hex")];
      await page.evaluate((hello) => /** @type {any} */ (globalThis).hello(hello), bytes);
    },
    go: () =>
      Promise.all([...all.values()].map(({ page }) => page.evaluate(() => /** @type {any} */ (globalThis).go()))),
    async count() {
      const look = () => ({ bytes: /** @type {any} */ (globalThis).bytes, open: /** @type {any} */ (globalThis).open });
      const seen = await Promise.all([...all.values()].map(({ page }) => page.evaluate(look)));
      return { bytes: seen.reduce((sum, { bytes }) => sum + bytes, 0), open: seen.filter(({ open }) => open).length };
    },
    stop,
  };
}

/** @param {string} message @returns {never} */
function fail(message) {
  throw new Error(message);
}

export const RECEIVERS = { native, chromium: pages };

/** What lies between: delay in each direction in ms, and the share that is lost. @param {number} delay @param {number} loss */
export function line(delay, loss) {
  const program = new JsonLines(RECEIVING, [TOOL, "line"]);
  return {
    /** @param {number} id @returns {Promise<{ senderSide: number, receiverSide: number }>} */
    open: (id) => program.ask({ id, address: ADDRESS, delayMs: delay, loss }, (message) => message.id === id),
    stop: () => program.stop(),
  };
}

/** The description with this as its only candidate: the line's. @param {string} sdp @param {number} port */
export function through(sdp, port) {
  const lines = sdp.split("\r\n").filter((line) => !/^a=(candidate:|end-of-candidates)/.test(line));
  const signed = lines.findIndex((line) => line.startsWith("a=marea-edge:"));
  const at = signed < 0 ? lines.length - 1 : signed;
  lines.splice(at, 0, `a=candidate:1 1 udp 2130706431 ${ADDRESS} ${port} typ host`);
  return lines.join("\r\n");
}
