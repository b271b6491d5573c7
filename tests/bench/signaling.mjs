// `cargo xtask bench signaling`: our signaling beside other trackers, under the load of `marea-signaling-load`.

import { execFile, execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs, promisify } from "node:util";
import { freePort } from "../e2e/lib/nginx.mjs";
import * as paths from "../e2e/lib/paths.mjs";
import { start } from "../e2e/lib/process.mjs";
import { median } from "../e2e/lib/live.mjs";
import { aquatic, bittorrentTracker, marea, release } from "./trackers.mjs";

const { values: options } = parseArgs({
  options: { runs: { type: "string", default: "3" }, only: { type: "string", default: "load,paced,idle,restart" } },
});
const runs = Number(options.runs);
if (!Number.isInteger(runs) || runs < 1) {
  console.error(`error: --runs ${JSON.stringify(options.runs)} is no number from 1`);
  process.exit(2);
}

const exec = promisify(execFile);

/** Puts a load on a server. @param {string[]} urls @param {number | null} pid @param {string[]} args @returns {Promise<any>} */
async function load(urls, pid, args) {
  const script = 'ulimit -n 250000 2>/dev/null; exec taskset -c 0 "$@"';
  const command = ["-c", script, "sh", release("marea-signaling-load"), ...urls, ...args];
  if (pid !== null) command.push("--pid", String(pid));
  const { stdout } = await exec("sh", command, { maxBuffer: 1 << 24 });
  return JSON.parse(stdout);
}

const SERVERS = {
  marea: () => marea("announce"),
  "bittorrent-tracker": bittorrentTracker,
  aquatic_ws: aquatic,
};

/** @param {number | null | undefined} value @param {number} [digits] */
const show = (value, digits = 1) => (value === null || value === undefined ? "–" : value.toFixed(digits));

/** Server after server, run after run. @param {string} title @param {string[]} args */
async function besideOthers(title, args) {
  /** @type {Record<string, any[]>} */
  const results = {};
  for (let run = 1; run <= runs; run += 1) {
    for (const [name, begin] of Object.entries(SERVERS)) {
      const server = await begin();
      try {
        const result = await load([server.url], server.pid, ["--dialect", "tracker", ...args]);
        (results[name] ??= []).push(result);
        console.log(`${run}/${runs} ${title} ${name}: ${JSON.stringify(result)}`);
      } catch (error) {
        console.log(`${run}/${runs} ${title} ${name}: failed: ${error instanceof Error ? error.message : error}`);
      } finally {
        await server.stop();
      }
    }
  }
  /** @param {string} name @param {(result: any) => number} of */
  const middle = (name, of) => median((results[name] ?? []).map(of));
  const lines = [
    "| server | announces/s | answered | µs CPU/announce | ratio | relay p50/p99 ms | offer→answer p50/p99 ms | KiB idle → active |",
    "|---|---:|---:|---:|---:|---:|---:|---:|",
  ];
  const ours = middle("marea", (result) => result.cpuPerAnnounce);
  for (const name of Object.keys(SERVERS)) {
    const cpu = middle(name, (result) => result.cpuPerAnnounce);
    lines.push(
      `| ${name} | ${show(
        middle(name, (result) => result.announces / result.seconds),
        0,
      )} | ${show(
        middle(name, (result) => (100 * result.answers) / Math.max(1, result.offers)),
        0,
      )} % | ${show(cpu)} | ${show(ours / cpu, 2)} | ${show(middle(name, (r) => r.relayed?.p50 ?? NaN))} / ${show(
        middle(name, (r) => r.relayed?.p99 ?? NaN),
      )} | ${show(middle(name, (r) => r.answered?.p50 ?? NaN))} / ${show(
        middle(name, (r) => r.answered?.p99 ?? NaN),
      )} | ${show(middle(name, (r) => r.idle ?? NaN))} → ${show(middle(name, (r) => r.active ?? NaN))} |`,
    );
  }
  return [`### ${title}`, "", ...lines, ""];
}

/** As many silent members as fit. */
async function idle() {
  const lines = ["### Idle", ""];
  // What the system lets a process have open, and no more than the server takes.
  const files = execFileSync("sh", ["-c", "ulimit -n 250000 2>/dev/null; ulimit -n"], { encoding: "utf8" }).trim();
  const most = Math.min(100_000, (Number(files) || Infinity) - 500);
  // One address of the server has 28,000 ports for its clients.
  const hosts = [1, 2, 3, 4].map((last) => `127.0.0.${last}`);
  const server = await marea("signal", { listen: "0.0.0.0:0" });
  try {
    const { port } = new URL(server.url);
    const urls = hosts.map((host) => `ws://${host}:${port}/signal`);
    const args = ["--idle", "--connections", String(most), "--swarms", "10000", "--seconds", "30"];
    const result = await load(urls, server.pid, args);
    console.log(`idle: ${JSON.stringify(result)}`);
    const cpu = show((100 * result.cpu) / result.seconds);
    lines.push(
      `${result.open} members of 10,000 swarms, each on a socket of its own: ${show(result.active)} KiB each, ${cpu} % of a core ` +
        `(${files} open files are allowed here).`,
    );
  } finally {
    await server.stop();
  }
  return [...lines, ""];
}

/** Three nodes over Redis, each restarted in turn under 10,000 clients. */
async function restart() {
  const folder = await mkdtemp(join(tmpdir(), "marea-redis-"));
  const redisPort = String(await freePort());
  const redisArgs = ["--port", redisPort, "--bind", "127.0.0.1", "--save", "", "--dir", folder];
  const redis = await start(paths.redis, redisArgs, { ready: /Ready to accept connections/ });
  const secret = join(folder, "secret");
  await writeFile(secret, "rolling restart of three nodes of one service".padEnd(48, "."));
  const ports = [await freePort(), await freePort(), await freePort()];
  const begin = (/** @type {number} */ port) =>
    marea("signal", {
      listen: `127.0.0.1:${port}`,
      core: "0,1",
      args: ["--redis", `redis://127.0.0.1:${redisPort}`, "--secret", secret],
    });
  const nodes = [];
  try {
    for (const port of ports) nodes.push(await begin(port));
    const urls = nodes.map(({ url }) => url);
    const args = ["--connections", "10000", "--swarms", "500", "--once", "--seconds", "60"];
    const loading = load(urls, null, args);
    // Connecting, and all have joined.
    await pause(30_000);
    for (const [index, node] of nodes.entries()) {
      const ended = node.program.stop("SIGTERM");
      await ended;
      nodes[index] = await begin(ports[index] ?? 0);
      await pause(8_000);
    }
    const result = await loading;
    console.log(`restart: ${JSON.stringify(result)}`);
    return [
      "### Rolling restart",
      "",
      `Three nodes, 10,000 clients: ${result.returned} came back elsewhere, the busiest second ${show(result.peak, 2)} times the mean; ` +
        `${result.errors} errors, ${result.closed} lost connections, ${result.gone} neighbours reported as gone.`,
      "",
    ];
  } finally {
    for (const node of nodes) await node.stop();
    await redis.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** @type {Record<string, () => Promise<string[]>>} */
const PARTS = {
  load: () =>
    besideOthers("2,000 clients, 1,000 announces a second", [
      "--connections",
      "2000",
      "--swarms",
      "100",
      "--every",
      "2",
    ]),
  paced: () =>
    besideOthers("10,000 clients, 1,000 announces a second", [
      "--connections",
      "10000",
      "--swarms",
      "500",
      "--every",
      "10",
    ]),
  idle,
  restart,
};

const out = [];
for (const name of options.only.split(",")) {
  const part = PARTS[name];
  if (!part) {
    console.error(`error: unknown part ${JSON.stringify(name)}; there is ${Object.keys(PARTS).join(", ")}`);
    process.exit(2);
  }
  out.push(...(await part()));
}
const file = join(paths.target, "bench/signaling.md");
await mkdir(dirname(file), { recursive: true });
await writeFile(file, out.join("\n"));
console.log(`\n${out.join("\n")}`);
