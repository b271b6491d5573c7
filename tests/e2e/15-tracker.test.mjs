// Pages that know nothing of Marea use signaling as their WebTorrent tracker: npm's bittorrent-tracker client, and
// p2p-media-loader.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { p2pMediaLoader } from "../bench/engines.mjs";
import { inPairs, scenario } from "./lib/bed.mjs";
import { scrape } from "./lib/metrics.mjs";
import { joinAs, trackerClient } from "./lib/tracker-client.mjs";
import { eventually } from "./lib/wait.mjs";

inPairs("WebTorrent's tracker protocol", () => {
  scenario("two pages with npm's client meet, scrape and leave", async (bed) => {
    const media = await bed.media({ seconds: 4 });
    const signaling = await bed.signaling();
    await writeFile(join(media.root, "tracker.js"), await trackerClient());
    const web = await bed.nginx(media.root);
    const url = signaling.url.replace("/signal", "/announce");
    const page = { before: `${web.origin}/tracker.js`, videos: [] };
    const [a, b] = [await bed.viewer(page), await bed.viewer(page)];
    await a.page.evaluate(joinAs, url, "a", 200);
    await a.until("a's announce to be answered", () => /** @type {any} */ (window).told.updates.length > 0);
    await b.page.evaluate(joinAs, url, "b", 200);
    await a.until("b's hello", () => /** @type {any} */ (window).told.heard.includes("hello from b"));
    await b.until("a's hello", () => /** @type {any} */ (window).told.heard.includes("hello from a"));
    const [update] = await b.page.evaluate(() => /** @type {any} */ (window).told.updates);
    assert.deepEqual([update.complete, update.incomplete], [0, 2]);
    assert.ok(update.interval >= 20, `an interval of ${update.interval} s`);

    // Of several hashes, one of them unknown: the client waits for all of them.
    const scraped = await b.page.evaluate((announce) => {
      const infoHash = ["c8", "c9"].map((byte) => byte.repeat(20));
      const { TrackerClient } = /** @type {any} */ (window);
      return new Promise((resolve, reject) =>
        TrackerClient.scrape({ announce, infoHash }, (/** @type {any} */ error, /** @type {any} */ results) =>
          error ? reject(error) : resolve(results),
        ),
      );
    }, url);
    const counts = ["c8", "c9"].map((byte) => scraped[byte.repeat(20)]?.incomplete);
    assert.deepEqual(counts, [2, 0], JSON.stringify(scraped));

    const peers = async () => (await scrape(signaling.origin)).sum("marea_signaling_peers", { kind: "tracker" });
    assert.equal(await peers(), 2);
    await a.page.evaluate(() => /** @type {any} */ (window).client.stop());
    await eventually("a to be gone", async () => (await peers()) === 1);
    await b.close();
    await eventually("b to be gone", async () => (await peers()) === 0);
    assert.deepEqual(await a.page.evaluate(() => /** @type {any} */ (window).told.trouble), []);
  });

  scenario("two pages with p2p-media-loader exchange segments", async (bed) => {
    const media = await bed.media({ seconds: 40 });
    const signaling = await bed.signaling();
    await writeFile(join(media.root, "p2p-media-loader.js"), await p2pMediaLoader());
    const web = await bed.nginx(media.root);
    const core = { announceTrackers: [signaling.url.replace("/signal", "/announce")], rtcConfig: { iceServers: [] } };
    const page = (/** @type {number} */ maxBufferLength) => ({
      script: `${web.origin}/p2p-media-loader.js`,
      videos: [{ src: `${web.origin}/${media.name}/master.m3u8` }],
      // Its worker takes buffers away that p2p-media-loader still shares. One rendition is one swarm.
      ownPlayer: { enableWorker: false, startLevel: 0, fixedLevel: 0, maxBufferLength, p2p: { core } },
    });
    // One has all of it; the other loads little by little, so that there is something left to load when they have met.
    const [a, b] = [await bed.viewer(page(60)), await bed.viewer(page(6))];
    await a.play();
    await a.until("the first to have the film", () => {
      const { buffered } = /** @type {HTMLVideoElement} */ (document.getElementById("v0"));
      return buffered.length > 0 && buffered.end(buffered.length - 1) > 39;
    });
    await b.play();
    await b.until("segments from a peer", () => /** @type {any} */ (window).__p2pMediaLoader.peers > 0);
    const { errors } = await b.page.evaluate(() => /** @type {any} */ (window).__p2pMediaLoader);
    assert.deepEqual(
      errors.filter((/** @type {string} */ error) => error.startsWith("onTrackerError")),
      [],
    );
  });
});
