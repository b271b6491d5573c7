import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { timerCame } from "../src/lateness.js";
import { BUSY_MS, BUSY_PATIENCE_MS, START_LOOK_MS, START_PATIENCE_MS } from "../src/limits.js";
import { Patience } from "../src/patience.js";

let now = 0;
Object.assign(globalThis, { document: { visibilityState: "visible" } });
mock.timers.enable({ apis: ["setTimeout"] });
mock.method(performance, "now", () => now);

/** A start, and how often it was looked at again. */
function bed() {
  now = 1_000;
  const start = { playable: false, slow: false };
  let looks = 0;
  const patience = new Patience({ playable: () => start.playable, slow: () => start.slow }, () => (looks += 1));
  // Step by step: a timer that comes late is a busy machine.
  const pass = (ms: number): void => {
    for (let left = ms; left > 0; left -= START_LOOK_MS) {
      const step = Math.min(left, START_LOOK_MS);
      now += step;
      mock.timers.tick(step);
    }
  };
  return { start, patience, pass, looks: () => looks };
}

test("a swarm waits for the picture, and is told to look again", () => {
  const { start, patience, pass, looks } = bed();
  assert.equal(patience.isOver(), false);
  assert.equal(patience.isOver(), false);
  pass(START_LOOK_MS);
  assert.equal(looks(), 1, "who asks twice is told once");
  start.playable = true;
  assert.equal(patience.isOver(), true);
  start.playable = false;
  assert.equal(patience.isOver(), true, "a start is over once");
});

test("it begins at once where the server is slow", () => {
  const { start, patience } = bed();
  assert.equal(patience.isOver(), false);
  start.slow = true;
  assert.equal(patience.isOver(), true);
});

test("it does not wait for ever, and not at all once the session is over", () => {
  const { patience, pass, looks } = bed();
  assert.equal(patience.isOver(), false);
  pass(START_PATIENCE_MS + 1);
  assert.equal(patience.isOver(), true);
  const other = bed();
  other.patience.isOver();
  other.patience.stop();
  other.pass(START_LOOK_MS);
  assert.deepEqual([looks(), other.looks()], [1, 0]);
});

test("a machine without time to spare gets it first", () => {
  const { start, patience, pass } = bed();
  for (let i = 0; i < 20; i += 1) timerCame(now - 4 * BUSY_MS);
  start.playable = true;
  start.slow = true;
  assert.equal(patience.isOver(), false, "it is the machine that is slow");
  for (let i = 0; i < 6; i += 1) pass(START_LOOK_MS);
  assert.equal(patience.isOver(), false, "not calm yet");
  for (let i = 0; i < 6; i += 1) {
    pass(START_LOOK_MS);
    patience.isOver();
  }
  assert.equal(patience.isOver(), true, "calm again");
  const other = bed();
  for (let i = 0; i < 20; i += 1) timerCame(now - 4 * BUSY_MS);
  assert.equal(other.patience.isOver(), false);
  now += BUSY_PATIENCE_MS + 1;
  assert.equal(other.patience.isOver(), true, "not for ever");
});
