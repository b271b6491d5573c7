// Long playlists: a window of an hour to seek back in, a film of hours. What a viewer pays for them stays small.

import assert from "node:assert/strict";
import { inPairs, scenario } from "./lib/bed.mjs";
import { atMost } from "./lib/expect.mjs";
import { writtenStream } from "./lib/written.mjs";

/** Playlists that are read to measure how long it takes: the quickest counts, whatever else the machine does. */
const READS = 20;

/** Bounds are for a slow machine: ten times what was measured on two cores (docs/operations.md). */
const READ_MS_PER_SEGMENT = 0.05;
const BYTES_PER_SEGMENT = 10_000;
const CONTROL_BYTES = 1_024;
const SIGNALING_BYTES = 16_384;

/** Runs in the page: writes down the largest message of each data channel. */
function watchChannels() {
  window.__largest = {};
  const { send } = RTCDataChannel.prototype;
  RTCDataChannel.prototype.send = function (data) {
    const bytes = data.byteLength ?? data.size ?? data.length;
    window.__largest[this.label] = Math.max(window.__largest[this.label] ?? 0, bytes);
    return send.call(this, data);
  };
}

/**
 * Two viewers of a stream, once they share it.
 * @param {import("./lib/bed.mjs").Bed} bed
 * @param {Partial<import("./lib/written.mjs").Shape>} shape
 */
async function measure(bed, shape) {
  const stream = await writtenStream(bed, shape);
  const viewers = [];
  let signaling = 0;
  for (const name of ["first", "second"]) {
    const page = { script: stream.script, videos: [{ src: stream.video ?? "" }], ownPlayer: {} };
    const viewer = await bed.viewer(page, {
      name: `${name} of ${shape.past ?? 0} + ${shape.future ?? 0}`,
      before: watchChannels,
    });
    for (const event of /** @type {const} */ (["Network.webSocketFrameSent", "Network.webSocketFrameReceived"])) {
      viewer.devtools.on(event, ({ response }) => (signaling = Math.max(signaling, response.payloadData.length)));
    }
    await viewer.page.evaluate(() => {
      window.__parsed = [];
      window.__players[0].on("hlsLevelLoaded", (_, { stats }) => {
        window.__parsed.push(stats.parsing.end - stats.parsing.start);
      });
    });
    await viewer.play();
    await viewer.playedTo(1);
    viewers.push(viewer);
  }
  // Whoever reads the playlist first fetches what is new, and may do so all the time.
  await viewers[1].until("bytes to or from the other", () => {
    const { viewers = 0, uploaded = 0 } = window.__recorder.session(0)?.stats().bytes ?? {};
    return viewers + uploaded > 0;
  });
  const [viewer] = viewers;
  const read = await viewer.page.evaluate(async (reads) => {
    const player = window.__players[0];
    const session = window.__recorder.session(0);
    const { m3u8: text, url } = player.levels[0].details;
    const times = [];
    for (let i = 0; i < reads; i += 1) {
      // Each is another text, as on live.
      const changed = `${text}\n#${i}\n`;
      const from = performance.now();
      session.sawPlaylist(url, changed, false);
      times.push(performance.now() - from);
      // As the player reads it: one at a time.
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const { fragments } = player.levels[0].details;
    return {
      ms: Math.min(...times),
      hlsMs: Math.min(...window.__parsed),
      bytes: text.length,
      segments: fragments.length,
    };
  }, READS);
  const largest = viewers.map(({ page }) => page.evaluate(() => window.__largest.control ?? 0));
  const control = Math.max(...(await Promise.all(largest)));
  const { total } = await viewer.memory();
  for (const each of viewers) {
    const shot = await each.snapshot();
    stream.rightBytes(shot, each.name);
    assert.deepEqual(each.pageErrors, []);
  }
  return { ...read, control, signaling, memory: total };
}

/** @param {string} name @param {Partial<import("./lib/written.mjs").Shape>} short @param {Partial<import("./lib/written.mjs").Shape>} long */
function compare(name, short, long) {
  scenario(
    name,
    async (bed) => {
      const [little, much] = [await measure(bed, short), await measure(bed, long)];
      const more = much.segments - little.segments;
      assert.ok(more > 1_000, `only ${more} segments more`);
      const memory = much.memory - little.memory;
      for (const { segments, bytes, ms, hlsMs, control, signaling, memory: all } of [little, much]) {
        bed.say(
          `${segments} segments (${Math.round(bytes / 1000)} kB): read in ${ms.toFixed(1)} ms (by hls.js in ${hlsMs.toFixed(1)} ms), memory ${(all / 1e6).toFixed(1)} MB, ` +
            `largest message to a viewer ${control} bytes, to or from signaling ${signaling} bytes`,
        );
        atMost(control, CONTROL_BYTES, "bytes of a control message");
        atMost(signaling, SIGNALING_BYTES, "bytes of a signaling message");
      }
      atMost((much.ms - little.ms) / more, READ_MS_PER_SEGMENT, "ms per segment and read");
      atMost(memory / more, BYTES_PER_SEGMENT, "bytes of memory per segment");
    },
    { timeout: 120_000 },
  );
}

inPairs("long playlists", () => {
  compare("a live window of 1,800 segments", { past: 0 }, { past: 1_794 });
  compare("a film of 5,000 segments", { future: 0 }, { future: 4_940 });
});
