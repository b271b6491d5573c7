// What goes wrong with live streams: playback recovers whenever hls.js by itself does, and as soon.

import assert from "node:assert/strict";
import { inPairs, scenario } from "./lib/bed.mjs";
import { launch } from "./lib/browser.mjs";
import { atMost } from "./lib/expect.mjs";
import { liveStream, whereIs } from "./lib/live.mjs";
import { pause } from "./lib/wait.mjs";
import { writtenStream } from "./lib/written.mjs";

/**
 * How much more time than hls.js by itself a viewer may lose, in ms. Two players with the same settings already differ by up
 * to a segment (2 s), by when each of them asks for the playlist.
 */
const LATER_MS = 2_000 + 2_000;

/** Who has not recovered after this time does not, in ms. */
const GIVE_UP_MS = 30_000;

/**
 * Two viewers who share and one with hls.js alone, all of them playing, with the same settings.
 * @param {import("./lib/bed.mjs").Bed} bed
 * @param {{ script: string, video: string }} stream
 * @param {{ browser?: import("puppeteer-core").Browser, player?: Record<string, unknown> }} [options] `player`: of hls.js.
 */
async function watch(bed, { script, video }, { browser, player = {} } = {}) {
  const page = { videos: [{ src: video }], ownPlayer: player };
  const plain = await bed.viewer(page, { name: "plain", browser });
  const sharing = [];
  for (const name of ["first", "second"]) sharing.push(await bed.viewer({ ...page, script }, { name, browser }));
  for (const viewer of [plain, ...sharing]) await viewer.play();
  for (const viewer of [plain, ...sharing]) {
    await viewer.until("it plays", () => window.__recorder.media.some(({ type }) => type === "playing"));
  }
  for (const viewer of sharing) await viewer.neighbours(1);
  return { plain, sharing };
}

/**
 * Lets something go wrong and waits until each viewer plays what was filmed afterwards. Whoever shares must do so if hls.js
 * alone does, and lose no more time by it: how far each was behind before does not count.
 * @param {import("./lib/bed.mjs").Bed} bed
 * @param {string} what
 * @param {Awaited<ReturnType<typeof watch>>} viewers
 * @param {() => Promise<number>} fault Gives the moment from which all is well again, in ms of `Date.now()`.
 */
async function recover(bed, what, { plain, sharing }, fault) {
  const all = [plain, ...sharing];
  const before = await Promise.all(all.map(whereIs));
  const moment = await fault();
  /** @param {import("./lib/browser.mjs").Viewer} viewer @param {number} index */
  const lost = async (viewer, index) => {
    for (let last = NaN; ; await pause(100)) {
      const { real, time } = await whereIs(viewer);
      const late = Date.now() - moment;
      if (late - real * 1000 > 0 && time > last) return late - before[index].real * 1000;
      if (late > GIVE_UP_MS) return Infinity;
      last = time;
    }
  };
  const [reference, ...ours] = await Promise.all(all.map(lost));
  const words = (/** @type {number} */ ms) => (ms === Infinity ? "for good" : `${(ms / 1000).toFixed(1)} s`);
  bed.say(`${what}: lost ${ours.map(words).join(", ")}; hls.js alone ${words(reference)}`);
  if (reference === Infinity) return;
  for (const ms of ours)
    assert.ok(ms <= reference + LATER_MS, `${what}: lost ${words(ms)}, hls.js alone ${words(reference)}`);
}

/**
 * Nobody who shares waited longer than hls.js alone.
 * @param {import("./lib/bed.mjs").Bed} bed
 * @param {Awaited<ReturnType<typeof watch>>} viewers
 * @param {{ rightBytes(shot: any, who: string): unknown }} stream
 */
async function noWorse(bed, { plain, sharing }, stream) {
  const waited = (/** @type {any} */ shot) => shot.stalls.reduce((sum, { ms }) => sum + ms, 0);
  const reference = waited(await plain.snapshot());
  for (const viewer of sharing) {
    const shot = await viewer.snapshot();
    stream.rightBytes(shot, viewer.name);
    const { bytes } = shot.sessions[0].stats;
    bed.say(`${viewer.name}: stalled ${waited(shot)} ms, plain ${reference} ms; from viewers ${bytes.viewers} bytes`);
    atMost(waited(shot), reference + LATER_MS, `${viewer.name}: ms of stalls beside hls.js alone`);
    assert.ok(bytes.viewers > 0, `${viewer.name} got nothing from the other: this says nothing about sharing`);
    assert.deepEqual(viewer.pageErrors, []);
  }
}

inPairs("live faults", () => {
  scenario(
    "an encoder is killed and restarted, with and without going on where it was",
    async (bed) => {
      const live = await liveStream(bed);
      const viewers = await watch(bed, await bed.seeder(live).then(async (seeder) => (await live.listed(4), seeder)));
      const restart = async (/** @type {boolean} */ append) => {
        await live.listed(live.listings.length + 2);
        await live.kill();
        await pause(1_000);
        const moment = Date.now();
        await live.encode({ append });
        return moment;
      };
      await recover(bed, "restart after a discontinuity", viewers, () => restart(true));
      await noWorse(bed, viewers, live);

      // hls.js does not come back by itself from numbers that run backwards: a page loads the source again.
      await recover(bed, "restart from the first number", viewers, async () => {
        const moment = await restart(false);
        await live.listed(live.listings.length + 4);
        for (const viewer of [viewers.plain, ...viewers.sharing]) {
          await viewer.page.evaluate(() => window.__players[0].loadSource(window.__players[0].url));
          await viewer.play();
        }
        return moment;
      });
      for (const viewer of viewers.sharing) live.rightBytes(await viewer.snapshot(), viewer.name);
    },
    { timeout: 180_000 },
  );

  scenario(
    "a segment is late, one is replaced, the playlist stands still and jumps",
    async (bed) => {
      const stream = await writtenStream(bed);
      const viewers = await watch(bed, { script: stream.script ?? "", video: stream.video ?? "" });
      const after = (/** @type {number} */ number) => stream.time(number + 1);
      await recover(bed, "a segment that is late", viewers, async () => {
        const number = stream.head + 1;
        stream.missing(number, 1_500);
        return after(number);
      });
      await recover(bed, "segments that were replaced", viewers, async () => {
        const number = stream.head + 1;
        stream.replaced(number, 0);
        stream.replaced(number + 2, 500);
        return after(number + 2);
      });
      await recover(bed, "a playlist that jumps", viewers, async () => {
        stream.stuck = true;
        const from = stream.head;
        while (stream.head < from + 8) await pause(100);
        stream.stuck = false;
        return after(stream.head);
      });
      await noWorse(bed, viewers, stream);
    },
    { timeout: 180_000 },
  );

  scenario(
    "a tab that was hidden and frozen for 20 s is back at the live edge",
    async (bed) => {
      const live = await liveStream(bed);
      const seeder = await bed.seeder(live);
      await live.listed(4);
      // As at home: what is hidden gets little time. A site that wants its viewers to catch up says so to hls.js.
      const browser = await launch({ throttled: true });
      bed.keep(browser, () => browser.close());
      const viewers = await watch(bed, seeder, {
        browser,
        player: { liveSyncDurationCount: 3, liveMaxLatencyDurationCount: 6 },
      });
      const all = [viewers.plain, ...viewers.sharing];
      await recover(bed, "frozen for 20 s", viewers, async () => {
        const shows = await Promise.all(all.map((viewer) => viewer.hide({ frozen: true })));
        await pause(20_000);
        await Promise.all(shows.map((show) => show()));
        // The browser has paused it.
        await Promise.all(all.map((viewer) => viewer.play()));
        return Date.now();
      });
      for (const viewer of viewers.sharing) {
        live.rightBytes(await viewer.snapshot(), viewer.name);
        await viewer.neighbours(1);
      }
    },
    { timeout: 120_000 },
  );
});
