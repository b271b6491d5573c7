// Waiting for states outside of pages.

import { isDeepStrictEqual } from "node:util";

/** @param {number} ms */
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Asks until the answer holds still for `still` ms: counters of transfers that just ended lag behind.
 * @template T
 * @param {() => Promise<T>} ask
 * @param {{ still?: number, timeout?: number }} [options]
 * @returns {Promise<T>}
 */
export async function settled(ask, { still = 2_000, timeout = 20_000 } = {}) {
  const end = Date.now() + timeout;
  let last = await ask();
  let since = Date.now();
  while (Date.now() - since < still) {
    if (Date.now() > end) throw new Error(`never held still: ${JSON.stringify(last)}`);
    await pause(200);
    const next = await ask();
    if (isDeepStrictEqual(next, last)) continue;
    last = next;
    since = Date.now();
  }
  return last;
}

/**
 * Asks until the answer is truthy, and gives it.
 * @template T
 * @param {string} what In words, for the failure.
 * @param {() => T | Promise<T>} ask
 * @param {number} [timeout]
 * @returns {Promise<NonNullable<T>>}
 */
export async function eventually(what, ask, timeout = 30_000) {
  for (const end = Date.now() + timeout; ; await pause(100)) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`waited ${timeout} ms in vain for: ${what}`);
  }
}
