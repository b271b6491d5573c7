// Pages that know nothing of Marea use signaling as their WebTorrent tracker: npm's bittorrent-tracker client, WebTorrent, and
// p2p-media-loader.

import assert from "node:assert/strict";
import { copyFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { p2pMediaLoader } from "../bench/engines.mjs";
import { inPairs, scenario } from "./lib/bed.mjs";
import { scrape } from "./lib/metrics.mjs";
import * as paths from "./lib/paths.mjs";
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

  scenario("two pages with WebTorrent exchange a file", async (bed) => {
    const media = await bed.media({ seconds: 4 });
    const signaling = await bed.signaling();
    await copyFile(
      join(paths.repo, "node_modules/webtorrent/dist/webtorrent.min.js"),
      join(media.root, "webtorrent.js"),
    );
    const web = await bed.nginx(media.root);
    const announce = [signaling.url.replace("/signal", "/announce")];
    const [a, b] = [await bed.viewer({ videos: [] }), await bed.viewer({ videos: [] })];
    for (const { page } of [a, b]) {
      await page.evaluate(async (script) => {
        const { default: WebTorrent } = await import(script);
        const client = new WebTorrent({ tracker: { rtcConfig: { iceServers: [] } } });
        const told = /** @type {string[]} */ ([]);
        client.on("error", (/** @type {any} */ error) => told.push(`${error}`));
        client.on("torrent", (/** @type {any} */ torrent) =>
          torrent.on("warning", (/** @type {any} */ warning) => told.push(`${warning}`)),
        );
        const sha256 = async (/** @type {BufferSource} */ bytes) =>
          Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))).join();
        Object.assign(window, { client, told, sha256 });
      }, `${web.origin}/webtorrent.js`);
    }
    const { magnet, hash } = await a.page.evaluate(async (announce) => {
      const bytes = new Uint8Array(1_000_000);
      for (let at = 0; at < bytes.length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
      const { client, sha256 } = /** @type {any} */ (window);
      const torrent = await new Promise((resolve) => client.seed(new File([bytes], "film.bin"), { announce }, resolve));
      return { magnet: torrent.magnetURI, hash: await sha256(bytes) };
    }, announce);
    const got = await b.page.evaluate(async (magnet) => {
      const { client, sha256 } = /** @type {any} */ (window);
      const torrent = await new Promise((resolve) => {
        const torrent = client.add(magnet);
        torrent.on("done", () => resolve(torrent));
      });
      return sha256(await (await torrent.files[0].blob()).arrayBuffer());
    }, magnet);
    assert.equal(got, hash);
    for (const { page } of [a, b])
      assert.deepEqual(await page.evaluate(() => /** @type {any} */ (window).told), [], "WebTorrent complains");
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
