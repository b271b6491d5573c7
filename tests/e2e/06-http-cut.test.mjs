// The server's line breaks for ten seconds; neighbours bridge it.

import assert from "node:assert/strict";
import { scenario } from "./lib/bed.mjs";
import { atLeast, noStall, nothingRejected, rightBytes, summary, totals, wholeFilm } from "./lib/expect.mjs";
import { pause } from "./lib/wait.mjs";

/** Own buffer of 5 to 9 s: longer than the 5 s the promise asks for, shorter than the cut. */
const BUFFER = { maxBufferLength: 5, maxMaxBufferLength: 5, maxBufferSize: 0 };
const CUT_MS = 10_000;

scenario(
  "HTTP is cut for 10 s while the next 15 s are held by peers: no stall",
  async (bed) => {
    const media = await bed.media({ seconds: 40 });
    const seeder = await bed.seeder(media);
    const proxy = await bed.proxy(seeder.origin);
    const video = `${proxy.origin}/videos/${media.name}/master.m3u8`;
    const script = `${proxy.origin}/marea.js`;

    const holder = await bed.viewer({ script, videos: [{ src: video }] }, { name: "holder" });
    await holder.play();
    await holder.until("the whole film is buffered", () => {
      const element = /** @type {HTMLVideoElement} */ (document.getElementById("v0"));
      return window.__recorder.bufferedEnd(element) > element.duration - 1;
    });
    const viewer = await bed.viewer({ script, videos: [{ src: video }], ownPlayer: BUFFER }, { name: "viewer" });
    await viewer.play();
    await viewer.neighbours(1);
    await viewer.playedTo(2);
    await viewer.until("a buffer of 5 s", () => {
      const element = /** @type {HTMLVideoElement} */ (document.getElementById("v0"));
      return window.__recorder.bufferedEnd(element) - element.currentTime >= 5;
    });

    const before = await viewer.snapshot();
    const ahead = before.videos[0].buffered - before.videos[0].time;
    assert.ok(ahead < CUT_MS / 1000, `its own buffer of ${ahead} s alone would bridge the cut`);
    proxy.cut();
    // The cut itself is a matter of time, not of a state that could be waited for.
    await pause(CUT_MS);
    const during = await viewer.snapshot();
    proxy.mend();
    const fed = during.delivered.length - before.delivered.length;
    atLeast(fed, 2, "objects that reached the player while HTTP was cut");

    await viewer.ended();
    await holder.ended();
    const shots = [];
    for (const one of [holder, viewer]) {
      const shot = await one.snapshot();
      noStall(shot, one.name);
      nothingRejected(shot, one.name);
      await rightBytes(shot, media, one.name);
      await wholeFilm(shot, media, one.name);
      shots.push(shot);
    }
    bed.say(`${ahead.toFixed(1)} s were buffered, ${fed} objects came during the cut; ${summary(totals(shots))}`);
  },
  { timeout: 150_000 },
);
