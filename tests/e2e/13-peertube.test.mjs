// A video of PeerTube, its folder served by plain nginx: no tags of Marea, only PeerTube's list of SHA-256 hashes.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { inPairs, scenario } from "./lib/bed.mjs";
import { noStall, rightBytes, totals, wholeFilm } from "./lib/expect.mjs";
import { watchTogether } from "./lib/party.mjs";
import { peerTubeFolder } from "./lib/peertube.mjs";

/**
 * The folder behind nginx, signaling apart.
 * @param {import("./lib/bed.mjs").Bed} bed
 * @param {{ seconds?: number, change?: (list: any) => unknown }} [options] See `peerTubeFolder`.
 */
async function site(bed, options) {
  const media = await bed.media({ ladder: "light/single", seconds: options?.seconds });
  const { master, list } = await peerTubeFolder(media, options?.change);
  const signaling = await bed.signaling();
  const script = await bed.engineInto(media.root);
  const web = await bed.nginx(media.root);
  const url = (/** @type {string} */ file) => `${web.origin}/${media.name}/${file}`;
  const attributes = { "data-signaling": signaling.url, "data-sha256-url": url(list) };
  return { media, web, attributes, script: web.origin + script, video: url(master), list: url(list) };
}

/**
 * A viewer alone plays the film as if Marea was not there.
 * @param {string} name
 * @param {{ reason: string, change?: (list: any) => unknown, before?: () => void }} options
 */
function plain(name, { reason, change, before }) {
  scenario(
    name,
    async (bed) => {
      const { media, attributes, script, video } = await site(bed, { seconds: 8, change });
      const viewer = await bed.viewer({ script, attributes, videos: [{ src: video }] }, { before });
      await viewer.play();
      await viewer.reason(reason);
      await viewer.ended();
      const shot = await viewer.snapshot();
      noStall(shot, viewer.name);
      await rightBytes(shot, media, viewer.name);
      await wholeFilm(shot, media, viewer.name);
      assert.deepEqual(shot.sessions[0].reasons, [reason]);
      assert.equal(shot.sessions[0].state, "off");
      assert.equal(totals([shot]).viewers, 0);
      assert.deepEqual(viewer.pageErrors, []);
    },
    { timeout: 90_000 },
  );
}

inPairs("PeerTube", () => {
  scenario(
    "four viewers of a PeerTube video share it by its hash list alone",
    async (bed) => {
      const { media, web, attributes, script, video, list } = await site(bed);
      const { shots } = await watchTogether(bed, { media, script, video, attributes: () => attributes, share: 0.55 });
      for (const [at, viewer] of bed.viewers.entries()) {
        assert.equal(shots[at].sessions[0].stats.video, video, "the video is named by its playlist");
        assert.equal(viewer.requests.filter((url) => url === list).length, 1, `${viewer.name} reads the list once`);
      }
      const log = await readFile(web.accessLog, "utf8");
      assert.ok(!log.includes(".pieces"), "there are no piece lists to ask for");
    },
    { timeout: 240_000 },
  );

  plain("a missing list", { reason: "no-hash", change: () => null });
  plain("a garbled list", { reason: "no-hash", change: () => "<!doctype html><title>Not found</title>" });
  plain("the list of another video", {
    reason: "no-hash",
    change: (list) => Object.fromEntries(Object.entries(list).map(([file, hashes]) => [`other-${file}`, hashes])),
  });
  plain("a page without WebCrypto", {
    reason: "insecure-page",
    before: () => Object.defineProperty(Crypto.prototype, "subtle", { value: undefined }),
  });

  scenario(
    "a hash that is not that of the server's bytes: they play and are not shared",
    async (bed) => {
      let wrong = "";
      const { media, attributes, script, video } = await site(bed, {
        seconds: 16,
        // The second segment of every rendition, whichever is played.
        change: (list) => {
          for (const hashes of Object.values(list)) hashes[Object.keys(hashes)[1]] = wrong = "0".repeat(64);
          return list;
        },
      });
      assert.notEqual(wrong, "");
      const page = { script, attributes, videos: [{ src: video }] };
      for (const name of ["first", "second"]) {
        const viewer = await bed.viewer(page, { name });
        await viewer.play();
        await viewer.reason("origin-hash-mismatch");
      }
      for (const viewer of bed.viewers) {
        await viewer.ended();
        const shot = await viewer.snapshot();
        noStall(shot, viewer.name);
        await rightBytes(shot, media, viewer.name);
        await wholeFilm(shot, media, viewer.name);
        const banned = shot.events.filter((event) => event.type === "peer" && event.detail.state === "banned");
        assert.deepEqual(banned, [], `${viewer.name} banned somebody for the list's fault`);
      }
    },
    { timeout: 90_000 },
  );
});
