// Programs that take JSON objects, one a line, and answer likewise.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** How long an answer may take, in ms. */
const PATIENCE = 30_000;

/** A program on one core, driven by JSON lines. */
export class JsonLines {
  /** @type {{ fits: (message: any) => boolean, resolve: (message: any) => void }[]} */
  #waiting = [];
  #end = "";

  /** @param {string} core @param {string[]} command */
  constructor(core, command) {
    const script = 'ulimit -n 20000 2>/dev/null; exec taskset -c "$0" "$@"';
    this.name = command.join(" ");
    this.child = spawn("sh", ["-c", script, core, ...command], { stdio: ["pipe", "pipe", "inherit"] });
    this.pid = this.child.pid ?? 0;
    this.child.on("exit", (code, signal) => (this.#end = `${this.name} ended (${signal ?? code})`));
    // A program that is gone is found out by its silence.
    this.child.stdin.on("error", () => {});
    createInterface({ input: this.child.stdout }).on("line", (line) => {
      const message = JSON.parse(line);
      const at = this.#waiting.findIndex(({ fits }) => fits(message));
      if (at >= 0) this.#waiting.splice(at, 1)[0].resolve(message);
    });
  }

  /** @param {unknown} message */
  say(message) {
    this.child.stdin.write(`${JSON.stringify(message)}\n`);
  }

  /** Says something and waits for the answer. @param {unknown} message @param {(answer: any) => boolean} fits @returns {Promise<any>} */
  ask(message, fits) {
    return new Promise((resolve, reject) => {
      const give = () =>
        reject(new Error(this.#end || `${this.name} does not answer ${JSON.stringify(message).slice(0, 80)}`));
      const timer = setTimeout(give, PATIENCE);
      const done = (/** @type {any} */ answer) => {
        clearTimeout(timer);
        resolve(answer);
      };
      this.#waiting.push({ fits, resolve: done });
      this.say(message);
    });
  }

  async stop() {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill("SIGKILL");
    await ended;
  }
}
