// Signaling is needed to meet, not to stay together.

import assert from "node:assert/strict";
import { scenario } from "./lib/bed.mjs";
import { noStall, nothingRejected, rightBytes, summary, totals } from "./lib/expect.mjs";

/** A player that buffers little, so that there is always something left to exchange. */
const SHORT_BUFFER = { maxBufferLength: 6, maxMaxBufferLength: 6, maxBufferSize: 0 };

scenario(
  "signaling stops and starts again: links and playback go on, matching resumes",
  async (bed) => {
    const media = await bed.media({ seconds: 40 });
    const signaling = await bed.signaling();
    const seeder = await bed.seeder(media, { args: ["--signaling", signaling.url] });
    const page = { script: seeder.script, videos: [{ src: seeder.video }], ownPlayer: SHORT_BUFFER };
    const listen = new URL(signaling.origin).host;

    const first = await bed.viewer(page, { name: "first" });
    await first.play();
    await first.playedTo(4);
    const second = await bed.viewer(page, { name: "second" });
    await second.play();
    await second.neighbours(1);
    await first.neighbours(1);

    await signaling.program.stop();
    for (const viewer of [first, second]) await viewer.reason("signaling-unreachable");
    const before = totals([await second.snapshot()]).viewers;
    const third = await bed.viewer(page, { name: "third" });
    await third.play();
    await third.reason("signaling-unreachable");
    await third.playedTo(4);
    await second.until(
      "bytes from a viewer while signaling is away",
      (before) => window.__recorder.session(0).stats().bytes.viewers > before,
      { args: [before] },
    );
    for (const viewer of [first, second]) {
      const open = (await viewer.stats()).peers.filter((peer) => peer.state === "open").length;
      assert.equal(open, 1, `${viewer.name} has ${open} open links while signaling is away`);
    }
    assert.equal(totals([await third.snapshot()]).viewers, 0, "the third met somebody without signaling");

    await bed.signaling({ listen });
    await third.neighbours(1, 60_000);
    await third.until("bytes from a viewer", () => window.__recorder.session(0).stats().bytes.viewers > 0, {
      timeout: 30_000,
    });
    for (const viewer of [first, second]) {
      await viewer.until(
        "the reason is gone",
        () => !window.__recorder.session(0).stats().reasons.includes("signaling-unreachable"),
        { timeout: 60_000 },
      );
    }
    for (const viewer of [first, second, third]) await viewer.ended();
    const shots = [];
    for (const viewer of [first, second, third]) {
      const shot = await viewer.snapshot();
      noStall(shot, viewer.name);
      nothingRejected(shot, viewer.name);
      await rightBytes(shot, media, viewer.name);
      shots.push(shot);
    }
    bed.say(summary(totals(shots)));
  },
  { timeout: 240_000 },
);
