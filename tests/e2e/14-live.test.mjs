// Live: viewers carry each other's video and stay as near to the live edge as the player by itself.

import assert from "node:assert/strict";
import { scenario } from "./lib/bed.mjs";
import { atLeast, atMost, noStall, nothingRejected, summary, totals } from "./lib/expect.mjs";
import { liveStream, median, whereIs } from "./lib/live.mjs";
import { pause } from "./lib/wait.mjs";

/** Seconds per segment. */
const SEGMENT = 2;

/** Segments listed from the first viewer's join to the end: about 70 s. */
const RUN = 35;

scenario(
  "four viewers of a live stream share it and are as near to the edge as without",
  async (bed) => {
    const live = await liveStream(bed, { segment: SEGMENT });
    const seeder = await bed.seeder(live);
    const videos = [{ src: seeder.video }];
    // All with hls.js as it is out of the box, by the page or by us: the same settings. They join in step with the
    // encoder, or how far they are behind would hang on the moment of their join.
    await live.listed(4);
    const first = live.listings.length;
    const plain = [];
    const sharing = [];
    for (let i = 0; i < 4; i += 1) {
      await live.nextListing();
      const page = { script: seeder.script, videos, ...(i % 2 ? {} : { ownPlayer: {} }) };
      const joins = [bed.viewer(page, { name: `viewer ${i + 1}` })];
      if (i % 3 === 0) joins.push(bed.viewer({ videos, ownPlayer: {} }, { name: `plain ${i / 3 + 1}` }));
      const [viewer, beside] = await Promise.all(joins);
      await live.nextListing();
      sharing.push(viewer);
      if (beside) plain.push(beside);
      await Promise.all([viewer, beside].map((who) => who?.play()));
    }
    /** @type {Map<import("./lib/browser.mjs").Viewer, Awaited<ReturnType<typeof whereIs>>[]>} */
    const samples = new Map([...plain, ...sharing].map((viewer) => [viewer, []]));
    await live.listed(first + RUN / 2);
    while (live.listings.length < first + RUN) {
      for (const [viewer, seen] of samples) seen.push(await whereIs(viewer));
      await pause(500);
    }

    const shots = [];
    for (const viewer of sharing) {
      const shot = await viewer.snapshot();
      noStall(shot, viewer.name);
      nothingRejected(shot, viewer.name);
      live.rightBytes(shot, viewer.name);
      // What a busy machine's decoder reports is judged as a stall, above.
      const errors = shot.playerErrors.filter(({ details }) => !details.startsWith("buffer"));
      assert.deepEqual(errors, [], `${viewer.name}: the player reported errors`);
      shots.push(shot);
    }
    const count = live.allDiffer();
    const total = totals(shots);
    bed.say(`${count} segments, all different; 4 viewers: ${summary(total)}`);

    /** @param {import("./lib/browser.mjs").Viewer} viewer @param {"hls" | "real" | "stats"} what */
    const behind = (viewer, what) => median((samples.get(viewer) ?? []).map((sample) => sample[what] ?? NaN));
    const list = (viewers, what) => viewers.map((viewer) => `${behind(viewer, what).toFixed(1)} s`).join(", ");
    for (const what of /** @type {const} */ (["hls", "real"])) {
      const [ours, theirs] = [sharing, plain].map((viewers) => median(viewers.map((viewer) => behind(viewer, what))));
      bed.say(`behind (${what}): ${list(sharing, what)}; plain hls.js: ${list(plain, what)}`);
      atMost(ours / theirs, 1.1, `latency (${what}) beside plain hls.js`);
    }
    for (const viewer of sharing) {
      for (const { hls, stats } of samples.get(viewer) ?? []) {
        assert.ok(Math.abs((stats ?? NaN) - hls) < 0.3, `${viewer.name}: latencyMs says ${stats} s, hls.js ${hls} s`);
      }
    }
    atLeast(total.share, 0.6, "share of media bytes that came from viewers");
  },
  { timeout: 240_000 },
);
