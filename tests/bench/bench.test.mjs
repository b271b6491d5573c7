// What the figures are made with: a wrong ruler would be worse than none.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bars, lines } from "./chart.mjs";
import { figures, spread } from "./figures.mjs";
import { kindOf } from "./line.mjs";
import { Shaper } from "./shaper.mjs";

/** Bytes that each stream got in `seconds`. @param {Shaper} shaper @param {Record<string, number>} got @param {number} seconds */
function pass(shaper, got, seconds) {
  const before = { ...got };
  for (let i = 0; i < seconds * 200; i += 1) shaper.tick(0.005);
  return Object.keys(got).map((name) => got[name] - before[name]);
}

/** @param {import("node:test").TestContext} t @param {string[]} names Of streams; those of one viewer begin with its letter. */
function thinLine(t, names) {
  const shaper = new Shaper({ total: 16_000_000, each: 8_000_000 });
  shaper.close();
  t.after(() => shaper.close());
  /** @type {Record<string, number>} */
  const got = {};
  for (const name of names) {
    got[name] = 0;
    const stream = shaper.open(name[0], { send: (chunk) => void (got[name] += chunk.length), end() {} });
    stream.push(Buffer.alloc(20_000_000));
  }
  return { shaper, got };
}

/** @param {number} value @param {number} wanted */
const near = (value, wanted) => assert.ok(Math.abs(value / wanted - 1) < 0.02, `${value} is not near ${wanted}`);

test("a viewer alone gets its own line's rate, not the server's", (t) => {
  const { shaper, got } = thinLine(t, ["a"]);
  near(pass(shaper, got, 4)[0], 4_000_000);
});

test("four viewers share the server's line alike, whoever has more requests", (t) => {
  const { shaper, got } = thinLine(t, ["a", "b1", "b2", "c", "d"]);
  const [one, a, b, three, four] = pass(shaper, got, 4);
  for (const bytes of [one, a + b, three, four]) near(bytes, 2_000_000);
  near(a, b);
});

test("capacity that nobody used is gone", (t) => {
  const shaper = new Shaper({ total: 16_000_000, each: 8_000_000 });
  shaper.close();
  for (let i = 0; i < 2_000; i += 1) shaper.tick(0.005);
  let bytes = 0;
  shaper.open("1", { send: (chunk) => void (bytes += chunk.length), end() {} }).push(Buffer.alloc(5_000_000));
  shaper.tick(0.005);
  assert.ok(bytes <= 8_000_000 / 8 / 40, `${bytes} bytes at once`);
});

test("an answer ends after its last byte, and not before", () => {
  const shaper = new Shaper({ total: 16_000_000, each: 8_000_000 });
  shaper.close();
  /** @type {string[]} */
  const seen = [];
  const stream = shaper.open("1", {
    send: (chunk) => void seen.push(`${chunk.length}`),
    end: () => void seen.push("end"),
  });
  stream.push(Buffer.alloc(1_000));
  stream.finish();
  for (let i = 0; i < 10; i += 1) shaper.tick(0.005);
  assert.deepEqual(seen, ["1000", "end"]);
});

test("bodies are counted by what they are", () => {
  const kinds = [
    "/videos/film/master.m3u8",
    "/film/init.mp4",
    "/film/000.m4s",
    "/film/film.mp4",
    "/film/000.m4s.pieces",
  ];
  assert.deepEqual(kinds.map(kindOf), ["playlist", "init", "segment", "segment", "list"]);
  assert.deepEqual(["/marea.js", "/marea.wasm", "/healthz"].map(kindOf), ["script", "script", "other"]);
});

const person = { startup: 500, stalls: 0, stalled: 0, hiccups: 0, ended: true, wrong: 0 };
const server = { segment: 30e6, init: 0, playlist: 1e6, list: 1e6, script: 9e6, other: 0 };
const run = {
  scenario: "vod",
  copy: 15e6,
  server,
  peers: 30e6,
  cpu: 50,
  weight: 0,
  idle: 0.5,
  people: [person, { ...person, startup: 700 }],
};

test("figures count playlists and lists as the server's work, and scripts apart", () => {
  const { server: mb, copies, share, startup, cpuPerGb } = figures(run, { ...run, cpu: 47 });
  assert.deepEqual(
    { mb, copies, share, startup, cpuPerGb },
    { mb: 32, copies: 2, share: 0.5, startup: 600, cpuPerGb: 100 },
  );
});

test("median and spread leave out what was not measured", () => {
  assert.deepEqual(spread([3, null, 1, 2]), { median: 2, min: 1, max: 3 });
  assert.deepEqual(spread([4, 1]), { median: 2.5, min: 1, max: 4 });
  assert.equal(spread([null]), null);
});

test("charts hold what they are given, and nothing that a page would run", () => {
  const frame = { title: "A & <B>", unit: "s", series: ["one", "two"] };
  const bar = { median: 2, min: 1, max: 3 };
  const drawn = [
    bars({ ...frame, floor: "least", groups: [{ label: "x", floor: 1, bars: [bar, null] }] }),
    lines({
      ...frame,
      lines: [
        [
          [0, 0],
          [10, 5],
        ],
        [],
      ],
    }),
  ];
  for (const svg of drawn) {
    assert.ok(svg.includes("A &#38; &#60;B&#62;") && !svg.includes("<script") && !svg.includes("NaN"), svg);
  }
});
