// Peers leave without a word, in the middle of a piece.

import assert from "node:assert/strict";
import { inPairs, scenario } from "./lib/bed.mjs";
import { noStall, nothingRejected, rightBytes, summary, totals, wholeFilm } from "./lib/expect.mjs";

/** @param {string} name @param {(viewer: import("./lib/browser.mjs").Viewer) => Promise<void>} leave */
function vanish(name, leave) {
  scenario(
    name,
    async (bed) => {
      const media = await bed.media({ seconds: 24 });
      const seeder = await bed.seeder(media);
      const page = { script: seeder.script, videos: [{ src: seeder.video }] };
      const holder = await bed.viewer(page, { name: "the one who leaves" });
      await holder.play();
      // Everything is in its buffer: whatever the newcomer misses, it will be asked for.
      await holder.until("the whole film is buffered", () => {
        const video = /** @type {HTMLVideoElement} */ (document.getElementById("v0"));
        return window.__recorder.bufferedEnd(video) > video.duration - 1;
      });
      const newcomer = await bed.viewer(page, { name: "newcomer" });
      await newcomer.play();
      // Its first bytes from the other: far more are asked for and under way.
      await newcomer.until(
        "first bytes from the other",
        () => window.__recorder.session(0)?.stats().bytes.viewers > 0,
        {
          polling: 10,
        },
      );
      await leave(holder);
      const cut = totals([await newcomer.snapshot()]);
      await newcomer.ended();
      const shot = await newcomer.snapshot();
      noStall(shot, newcomer.name);
      nothingRejected(shot, newcomer.name);
      await rightBytes(shot, media, newcomer.name);
      await wholeFilm(shot, media, newcomer.name);
      const total = totals([shot]);
      assert.ok(
        total.http > cut.http,
        `nothing was left to fetch (${cut.viewers} bytes had come): it did not leave in the middle`,
      );
      bed.say(`${cut.viewers} bytes had come from the one who left; in all ${summary(total)}`);
    },
    { timeout: 120_000 },
  );
}

inPairs("peers that vanish", () => {
  vanish("a neighbour's tab is closed in mid-piece: no stall", (viewer) => viewer.close());
  vanish("a neighbour's renderer is killed in mid-piece: no stall", (viewer) => viewer.crash());
});
