import assert from "node:assert/strict";
import { mock, test } from "node:test";
import type { HttpTransport, SwarmHost } from "../src/host-types.js";
import type { Playback } from "../src/playback.js";
import { StartLoads } from "../src/start-loads.js";

let now = 0;
mock.timers.enable({ apis: ["setTimeout"] });
mock.method(performance, "now", () => now);

/** A player that waits for its swarm, and what it loads: by plain HTTP, and by the swarm. */
function bed() {
  now = 1_000;
  const playback = { positionMs: 0, bufferMs: 0, rate: 1 };
  const loaded = { http: [] as string[], swarm: [] as string[] };
  let host: SwarmHost | null = null;
  const http: HttpTransport = {
    start: ({ url }) => {
      loaded.http.push(url);
      return { abort: () => {} };
    },
  };
  const starts = new StartLoads({
    host: () => host,
    expected: () => host === null,
    hashesComing: () => false,
    playback: () => playback as Playback,
    http: () => http,
    came: () => {},
  });
  const callbacks = { progress: () => {}, done: () => {}, fail: () => {} };
  return {
    playback,
    loaded,
    load: (url: string, mediaStartMs: number) => starts.load({ url }, mediaStartMs, callbacks),
    welcome: () => {
      const load: SwarmHost["load"] = ({ url }) => {
        loaded.swarm.push(url);
        return { abort: () => {} };
      };
      host = { load } as SwarmHost;
      starts.release();
    },
    pass: (ms: number) => {
      now += ms;
      mock.timers.tick(ms);
    },
  };
}

test("what comes first is loaded at once, what comes next when the playhead is near", () => {
  const { playback, loaded, load, pass } = bed();
  load("0", 0);
  load("1", 4_000);
  assert.deepEqual(loaded.http, ["0"]);
  playback.bufferMs = 4_000;
  // A start that takes long brings the second no nearer.
  for (let ms = 0; ms < 10_000; ms += 500) pass(500);
  assert.deepEqual(loaded.http, ["0"]);
  for (; playback.positionMs < 2_000; playback.positionMs += 500) pass(500);
  assert.deepEqual(loaded.http, ["0"]);
  for (; playback.positionMs < 3_500; playback.positionMs += 500) pass(500);
  assert.deepEqual(loaded.http, ["0", "1"]);
});

test("what is loaded may be too little to play: then the next does not wait", () => {
  const { loaded, load, pass } = bed();
  load("0", 0);
  load("1", 4_000);
  for (let ms = 0; ms < 3_000; ms += 500) pass(500);
  assert.deepEqual(loaded.http, ["0", "1"]);
});

test("the swarm takes what waits for it, but not what is not wanted any more", () => {
  const { loaded, load, welcome } = bed();
  load("0", 0);
  load("1", 4_000);
  load("2", 8_000).abort();
  welcome();
  assert.deepEqual(loaded, { http: ["0"], swarm: ["1"] });
});
