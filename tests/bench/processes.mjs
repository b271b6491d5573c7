// CPU time of a process and everything it started, from /proc.

import { readFileSync, readdirSync } from "node:fs";

/** Linux counts in ticks of 10 ms on every architecture that a browser runs on. */
const TICKS_PER_SECOND = 100;

/** CPU seconds of a tree, also of its processes that have ended since they were last seen. */
export class CpuOfTree {
  /** Ticks by process id and start time: ids are used again. @type {Map<string, number>} */
  #ticks = new Map();

  /** @param {number} root Process id. */
  constructor(root) {
    this.root = root;
  }

  /** Seconds so far. Call it every second, so that little of a process that ends is missed. */
  read() {
    /** @type {Map<number, { parent: number, key: string, ticks: number }>} */
    const all = new Map();
    for (const name of readdirSync("/proc")) {
      if (!/^\d+$/.test(name)) continue;
      const stat = statOf(name);
      if (stat) all.set(Number(name), stat);
    }
    for (const [pid, { key, ticks }] of all) if (this.#isOurs(pid, all)) this.#ticks.set(key, ticks);
    let sum = 0;
    for (const ticks of this.#ticks.values()) sum += ticks;
    return sum / TICKS_PER_SECOND;
  }

  /** @param {number} pid @param {Map<number, { parent: number }>} all */
  #isOurs(pid, all) {
    for (let at = pid; at > 1; at = all.get(at)?.parent ?? 0) if (at === this.root) return true;
    return false;
  }
}

/** @param {string} pid */
function statOf(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, in parentheses, may hold anything; fields are counted after it. See proc(5).
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const [parent, user, system, started] = [fields[1], fields[11], fields[12], fields[19]].map(Number);
    return { parent, key: `${pid} ${started}`, ticks: user + system };
  } catch {
    return null; // It has ended.
  }
}

/** Share of the whole machine that was idle since `before`, and the counters for the next call. @param {number[]} [before] */
export function machineIdle(before) {
  const [, ...fields] = readFileSync("/proc/stat", "utf8").split("\n")[0].split(/\s+/);
  const now = fields.slice(0, 8).map(Number);
  const spent = now.map((value, at) => value - (before?.[at] ?? 0));
  const all = spent.reduce((sum, value) => sum + value, 0);
  return { now, idle: all === 0 ? 0 : (spent[3] + spent[4]) / all };
}
