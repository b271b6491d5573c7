// The servers of `cargo xtask bench signaling`, each started for one run. All get core 1; the load has core 0.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { freePort } from "../e2e/lib/nginx.mjs";
import * as paths from "../e2e/lib/paths.mjs";
import { start } from "../e2e/lib/process.mjs";

/** Programs as users run them. @param {string} name */
export const release = (name) => join(paths.target, "release", name);

/** Open files: each client is one, and the usual limit is few. */
const FILES = 250_000;

/**
 * Starts a program on one core, with as many open files as the system gives.
 * @param {string} core
 * @param {string[]} command
 * @param {Parameters<typeof start>[2]} options
 */
export function startOn(core, [file, ...args], options) {
  const script = `ulimit -n ${FILES} 2>/dev/null; exec taskset -c ${core} "$@"`;
  return start("sh", ["-c", script, "sh", file ?? "", ...args], options);
}

/**
 * @typedef {object} Running
 * @property {string} url Where its clients connect.
 * @property {number} pid
 * @property {() => Promise<unknown>} stop
 */

/** @param {import("../e2e/lib/process.mjs").Program} program @param {string} url @param {() => Promise<unknown>} [more] @returns {Running} */
const running = (program, url, more) => ({
  url,
  pid: program.pid,
  async stop() {
    await program.stop("SIGKILL");
    await more?.();
  },
});

/** Waits until a port is listened on. @param {number} port @param {import("../e2e/lib/process.mjs").Program} program */
async function listens(port, program) {
  for (let tries = 0; tries < 200; tries += 1) {
    try {
      await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(500) });
      return;
    } catch (error) {
      // An answer that is no HTTP is one.
      if (/** @type {any} */ (error).cause?.code !== "ECONNREFUSED") return;
      await pause(50);
    }
  }
  throw new Error(`${program.name} does not listen:\n${program.lines.join("\n")}`);
}

/** Ours. @param {"announce" | "signal"} path @param {{ listen?: string, core?: string, args?: string[] }} [options] */
export async function marea(path, { listen = "127.0.0.1:0", core = "1", args = [] } = {}) {
  const flags = ["--listen", listen, "--udp", "none", "--trusted-proxy", "127.0.0.1", ...args];
  const program = await startOn(core, [release("marea-signaling"), ...flags], { name: "marea-signaling" });
  const origin = /http:\/\/\S+/.exec(program.ready)?.[0] ?? "";
  const { port } = new URL(origin);
  return { ...running(program, `ws://127.0.0.1:${port}/${path}`), program };
}

/** npm's bittorrent-tracker. */
export async function bittorrentTracker() {
  const port = await freePort();
  const code = `
    import Server from "bittorrent-tracker/server";
    const server = new Server({ udp: false, http: false, ws: true, stats: false });
    server.on("error", (error) => console.error(String(error)));
    server.on("warning", () => {});
    server.listen(${port}, "127.0.0.1", () => console.log("ready"));`;
  const command = [process.execPath, "--input-type=module", "-e", code];
  const program = await startOn("1", command, { name: "bittorrent-tracker", ready: /^ready/, cwd: paths.repo });
  return running(program, `ws://127.0.0.1:${port}/`);
}

/** aquatic_ws of crates.io, built by xtask. */
export async function aquatic() {
  const port = await freePort();
  const folder = await mkdtemp(join(tmpdir(), "marea-aquatic-"));
  const config = join(folder, "config.toml");
  await writeFile(config, `[network]\naddress = "127.0.0.1:${port}"\n`);
  const command = [join(paths.target, "tools/aquatic/bin/aquatic_ws"), "-c", config];
  const program = await startOn("1", command, { name: "aquatic_ws", ready: null });
  await listens(port, program);
  return running(program, `ws://127.0.0.1:${port}/`, () => rm(folder, { recursive: true, force: true }));
}
