// `cargo xtask bench webrtc`: our seeder beside other senders over WebRTC, what an idle peer takes, and a crowd of peers.

import { readFileSync } from "node:fs";
import { appendFile, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import * as paths from "../e2e/lib/paths.mjs";
import { eventually } from "../e2e/lib/wait.mjs";
import { names, number } from "./options.mjs";
import { CpuOfTree, machineIdle } from "./processes.mjs";
import { RESULTS, report } from "./webrtc-report.mjs";
import { NEIGHBOURS, PIECES, RECEIVERS, SENDERS, line, marea, through } from "./webrtc-sides.mjs";

/** Where results go that nobody wants to keep. */
const TRIALS = join(paths.target, "bench/webrtc.jsonl");

/** Round trip in ms and share of lost datagrams. */
const LINES = [
  { rtt: 0, loss: 0 },
  { rtt: 40, loss: 0 },
  { rtt: 0, loss: 0.01 },
  { rtt: 40, loss: 0.01 },
];

/** Seconds before a measurement, in which windows grow, and of it. */
const [WARM, SECONDS] = [1, 3];

/** Peers of the crowd, and the bytes per second that they ask for in all. */
const [CROWD, CROWD_RATE] = [500, 100_000_000 / 8];

const { values: options } = parseArgs({
  options: {
    only: { type: "string", default: "native,chromium,idle,crowd" },
    senders: { type: "string", default: Object.keys(SENDERS).join(",") },
    receivers: { type: "string", default: "1,4" },
    lines: { type: "string", default: LINES.map(nameOf).join(",") },
    runs: { type: "string", default: "3" },
    append: { type: "boolean", default: false },
    report: { type: "boolean", default: false },
  },
});

/** @param {{ rtt: number, loss: number }} line */
function nameOf({ rtt, loss }) {
  return `${rtt}ms/${loss * 100}%`;
}

const runs = number(options.runs, "--runs", 100);
const senders = names(options.senders, SENDERS, "sender");
const ways = Object.fromEntries(LINES.map((way) => [nameOf(way), way]));
const chosen = names(options.lines, ways, "line").map((name) => ways[name]);
const counts = options.receivers.split(",").map((text) => number(text, "--receivers", CROWD));

/** @param {object} result */
async function keep(result) {
  const text = JSON.stringify({ at: new Date().toISOString().slice(0, 10), ...result });
  console.log(text);
  const file = options.append ? RESULTS : TRIALS;
  await mkdir(dirname(file), { recursive: true });
  await appendFile(file, `${text}\n`);
}

/** Resident memory of a process in KiB. @param {number} pid */
function memory(pid) {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? NaN);
}

/**
 * Connects so many receivers to a sender.
 * @param {import("./webrtc-sides.mjs").Sender} sender
 * @param {import("./webrtc-sides.mjs").Receivers} receivers
 * @param {number} count
 * @param {{ between?: ReturnType<typeof line>, pace?: number }} [options]
 */
async function connect(sender, receivers, count, { between, pace } = {}) {
  for (let id = 0; id < count; id += 1) {
    const video = sender.videos[Math.floor(id / NEIGHBOURS)];
    const { offer, announce } = await receivers.open(id, video ? { video, pieces: PIECES, pace } : undefined);
    const ports = await between?.open(id);
    const answer = await sender.answer(id, ports ? through(offer, ports.senderSide) : offer, announce);
    await receivers.answered(id, ports ? through(answer, ports.receiverSide) : answer);
  }
  await eventually(`${count} connections`, async () => (await receivers.count()).open === count);
}

/** What passes in some seconds, and what it costs the sender. @param {number} pid @param {import("./webrtc-sides.mjs").Receivers} receivers @param {number} seconds */
async function measure(pid, receivers, seconds) {
  const cpu = new CpuOfTree(pid);
  const look = async () => ({
    at: performance.now(),
    cpu: cpu.read(),
    ...(await receivers.count()),
    idle: machineIdle(),
  });
  const before = await look();
  await pause(seconds * 1_000);
  const after = await look();
  const spent = (after.at - before.at) / 1_000;
  const bytes = after.bytes - before.bytes;
  return {
    mbit: (8 * bytes) / spent / 1e6,
    cpu: (after.cpu - before.cpu) / (bytes / 1e9),
    core: (after.cpu - before.cpu) / spent,
    idle: machineIdle(before.idle.now).idle,
  };
}

/** One sender, some receivers. @param {string} name @param {keyof typeof RECEIVERS} kind @param {number} count @param {{ rtt: number, loss: number }} way */
async function load(name, kind, count, way) {
  const between = way.rtt > 0 || way.loss > 0 ? line(way.rtt / 2, way.loss) : undefined;
  const sender = await SENDERS[name]();
  const receivers = await RECEIVERS[kind]();
  try {
    await connect(sender, receivers, count, { between });
    await receivers.go();
    await eventually("the first byte", async () => (await receivers.count()).bytes > 0);
    // Few bytes come over a line with loss, and windows grow by the round trip.
    const slow = way.rtt > 0 ? 2 : 1;
    await pause(WARM * slow * 1_000);
    return await measure(sender.pid, receivers, SECONDS * (way.loss > 0 ? 2 : 1));
  } finally {
    await receivers.stop();
    await sender.stop();
    await between?.stop();
  }
}

/** Sender after sender, run after run. @param {keyof typeof RECEIVERS} kind */
async function compare(kind) {
  for (let run = 1; run <= runs; run += 1) {
    for (const way of chosen) {
      for (const count of counts) {
        for (const sender of senders) {
          const cell = { part: kind, sender, receivers: count, ...way, run };
          try {
            await keep({ ...cell, ...(await load(sender, kind, count, way)) });
          } catch (error) {
            await keep({ ...cell, failed: error instanceof Error ? error.message : String(error) });
          }
        }
      }
    }
  }
}

/** What connections take that carry nothing. */
async function idle() {
  for (const name of senders) {
    // All pages of a browser are one process or ten: its memory says nothing here.
    if (name === "chromium") continue;
    const count = name === "marea" ? CROWD : 100;
    const sender = name === "marea" ? await marea(Math.ceil(count / NEIGHBOURS)) : await SENDERS[name]();
    const receivers = await RECEIVERS.native();
    try {
      const before = memory(sender.pid);
      await connect(sender, receivers, count);
      // What connecting took is given back, or it is not.
      await pause(2_000);
      const cpu = new CpuOfTree(sender.pid);
      const [after, begun] = [memory(sender.pid), cpu.read()];
      await pause(10_000);
      await keep({
        part: "idle",
        sender: name,
        receivers: count,
        kib: (after - before) / count,
        core: (cpu.read() - begun) / 10,
      });
    } finally {
      await receivers.stop();
      await sender.stop();
    }
  }
}

/** Many who ask for little. */
async function crowd() {
  const sender = await marea(Math.ceil(CROWD / NEIGHBOURS));
  const receivers = await RECEIVERS.native();
  try {
    await connect(sender, receivers, CROWD, { pace: CROWD_RATE / CROWD });
    await receivers.go();
    await pause(4_000);
    const measured = await measure(sender.pid, receivers, 20);
    await keep({ part: "crowd", sender: "marea", receivers: CROWD, ...measured, kib: memory(sender.pid) });
  } finally {
    await receivers.stop();
    await sender.stop();
  }
}

/** @type {Record<string, () => Promise<void>>} */
const PARTS = { native: () => compare("native"), chromium: () => compare("chromium"), idle, crowd };

if (!options.report) for (const part of names(options.only, PARTS, "part")) await PARTS[part]();
if (options.report || options.append) await report();
process.exit(0);
