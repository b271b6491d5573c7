// Pages that know nothing of Marea use signaling as their WebTorrent tracker: npm's bittorrent-tracker client, and
// p2p-media-loader.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";
import { p2pMediaLoader } from "../bench/engines.mjs";
import { inPairs, scenario } from "./lib/bed.mjs";
import { scrape } from "./lib/metrics.mjs";
import * as paths from "./lib/paths.mjs";
import { eventually } from "./lib/wait.mjs";

/** The npm client for pages, as `TrackerClient`. */
async function trackerClient() {
  const entry = {
    contents: 'import Client from "bittorrent-tracker/client"; globalThis.TrackerClient = Client;',
    resolveDir: paths.repo,
  };
  const { outputFiles } = await build({
    stdin: entry,
    bundle: true,
    write: false,
    format: "iife",
    platform: "browser",
    // Node's module, which bundlers of pages replace by a package.
    alias: { events: "bare-events" },
    define: { global: "globalThis", "process.browser": "true" },
  });
  return outputFiles[0].text;
}

/** In a page: a client that keeps what it is told in `window.told`, and says hello to each peer. */
function joinAs(/** @type {string} */ url, /** @type {string} */ name, /** @type {number} */ hash) {
  const { TrackerClient } = /** @type {any} */ (window);
  const told = {
    updates: /** @type {any[]} */ ([]),
    heard: /** @type {string[]} */ ([]),
    trouble: /** @type {string[]} */ ([]),
  };
  const client = new TrackerClient({
    infoHash: new Uint8Array(20).fill(hash),
    peerId: new TextEncoder().encode(name.padEnd(20, "-")),
    announce: [url],
    rtcConfig: { iceServers: [] },
  });
  client.on("update", (/** @type {any} */ data) => told.updates.push(data));
  client.on("warning", (/** @type {Error} */ error) => told.trouble.push(`warning: ${error.message}`));
  client.on("error", (/** @type {Error} */ error) => told.trouble.push(`error: ${error.message}`));
  client.on("peer", (/** @type {any} */ peer) => {
    peer.on("connect", () => peer.send(`hello from ${name}`));
    peer.on("data", (/** @type {Uint8Array} */ data) => told.heard.push(new TextDecoder().decode(data)));
    peer.on("error", () => {});
  });
  client.start();
  Object.assign(window, { told, client });
}

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
