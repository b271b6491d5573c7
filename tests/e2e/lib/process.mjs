// Programs under test: started on a free port, heard out to the last line, stopped by process id.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** Lines of output kept per program for a failure's report. */
const KEPT_LINES = 400;

/** How long a program may take to say that it listens, in ms: debug builds on a busy machine are slow to start. */
const READY_MS = 30_000;

/** @type {Set<import("node:child_process").ChildProcess>} */
const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/**
 * A running program.
 * @typedef {object} Program
 * @property {string} name
 * @property {number} pid
 * @property {string} ready First line that matched the ready pattern.
 * @property {string[]} lines Last lines of its output.
 * @property {(pattern: RegExp, timeout?: number) => Promise<string>} line Waits for a line, past ones included.
 * @property {(signal?: NodeJS.Signals) => Promise<number | string>} stop Ends it and waits; its exit code or signal.
 * @property {Promise<number | string>} exited
 */

/**
 * Starts a program and waits for its ready line.
 * @param {string} file
 * @param {string[]} args
 * @param {{ name?: string, ready?: RegExp | null, env?: Record<string, string>, cwd?: string }} [options]
 * @returns {Promise<Program>}
 */
export async function start(
  file,
  args,
  { name = file.split("/").pop() ?? file, ready = /^listening on (http:\/\/\S+)/, env, cwd } = {},
) {
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env }, cwd });
  running.add(child);
  /** @type {string[]} */
  const lines = [];
  /** @type {Set<(line: string) => void>} */
  const listeners = new Set();
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      lines.push(line);
      if (lines.length > KEPT_LINES) lines.shift();
      listeners.forEach((listener) => listener(line));
    });
  }
  /** @type {Promise<number | string>} */
  const exited = new Promise((resolve, reject) => {
    child.once("error", (error) => reject(new Error(`${name}: ${error.message}`)));
    child.once("close", (code, signal) => {
      running.delete(child);
      resolve(signal ?? code ?? 0);
    });
  });
  exited.catch(() => {});

  /** @type {Program["line"]} */
  const line = (pattern, timeout = READY_MS) =>
    new Promise((resolve, reject) => {
      const past = lines.find((text) => pattern.test(text));
      if (past !== undefined) return resolve(past);
      const give = (/** @type {string} */ why) => {
        done();
        reject(new Error(`${name}: ${why} before a line matched ${pattern}:\n${lines.join("\n")}`));
      };
      const timer = setTimeout(() => give(`${timeout} ms passed`), timeout);
      const listener = (/** @type {string} */ text) => {
        if (!pattern.test(text)) return;
        done();
        resolve(text);
      };
      const done = () => {
        clearTimeout(timer);
        listeners.delete(listener);
      };
      listeners.add(listener);
      exited.then(
        (code) => give(`it ended (${code})`),
        (error) => give(error.message),
      );
    });

  const stop = async (/** @type {NodeJS.Signals} */ signal = "SIGTERM") => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    const late = setTimeout(() => child.kill("SIGKILL"), 10_000);
    try {
      return await exited;
    } finally {
      clearTimeout(late);
    }
  };
  const program = { name, pid: child.pid ?? 0, ready: "", lines, line, stop, exited };
  if (ready) program.ready = await line(ready);
  return program;
}

/**
 * Runs a command to its end.
 * @param {string} file
 * @param {string[]} args
 * @returns {Promise<{ code: number | string, output: string }>}
 */
export async function run(file, args) {
  const program = await start(file, args, { ready: null });
  const code = await program.exited;
  return { code, output: program.lines.join("\n") };
}
