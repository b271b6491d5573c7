// Pages that pin a key: what it signed is shared, everything else only plays.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { inPairs, scenario } from "./lib/bed.mjs";
import { noStall, nothingRejected, rightBytes, totals, watched, wholeFilm } from "./lib/expect.mjs";
import { files } from "./lib/media.mjs";
import { signedSite } from "./lib/signed.mjs";

/**
 * A signed folder behind plain nginx, signaling apart.
 * @param {import("./lib/bed.mjs").Bed} bed
 * @param {number} seconds
 */
async function site(bed, seconds) {
  const { media, key, script, web } = await signedSite(bed, seconds);
  const page = (/** @type {string} */ pinned) => ({
    script: web.origin + script,
    attributes: { "data-public-key": pinned },
    videos: [{ src: `${web.origin}/${media.name}/master.m3u8` }],
  });
  return { media, key, page };
}

/** A viewer whose page demands what it does not get sees the film all the same, alone. @param {any} viewer @param {any} media @param {string} reason */
async function playsAlone(viewer, media, reason) {
  await viewer.play();
  await viewer.reason(reason);
  const shot = await watched(viewer, media);
  assert.deepEqual(shot.sessions[0].reasons, [reason]);
  assert.equal(shot.sessions[0].state, "off");
  const { viewers } = totals([shot]);
  assert.equal(viewers, 0);
  assert.deepEqual(shot.sessions[0].stats.peers, []);
}

inPairs("signed playlists", () => {
  scenario(
    "viewers of a page that pins the key share, and one that pins another does not",
    async (bed) => {
      const { media, key, page } = await site(bed, 12);
      const stranger = `ed25519:${"A".repeat(43)}`;
      const first = await bed.viewer(page(key), { name: "first" });
      const second = await bed.viewer(page(`${stranger},${key}`), { name: "second" });
      await first.play();
      await first.playedTo(3, 20_000);
      await second.play();
      for (const viewer of [first, second]) {
        await viewer.ended();
        const shot = await viewer.snapshot();
        noStall(shot, viewer.name);
        nothingRejected(shot, viewer.name);
        await rightBytes(shot, media, viewer.name);
        await wholeFilm(shot, media, viewer.name);
      }
      const { viewers } = totals([await second.snapshot()]);
      assert.ok(viewers > 0, "the second got nothing from the first");
    },
    { timeout: 90_000 },
  );

  scenario(
    "a playlist that was changed after it was signed, and one of another key: they play and are not shared",
    async (bed) => {
      const { media, key, page } = await site(bed, 8);
      const other = await bed.viewer(page(`ed25519:${"A".repeat(43)}`), { name: "another key" });
      const old = await bed.viewer(page(key), {
        name: "no Ed25519",
        before: () => {
          SubtleCrypto.prototype.importKey = () => Promise.reject(new DOMException("", "NotSupportedError"));
        },
      });
      await Promise.all([playsAlone(other, media, "signature-invalid"), playsAlone(old, media, "insecure-page")]);
      for (const file of (await files(media.dir)).filter((file) => file.endsWith(".m3u8"))) {
        const path = join(media.dir, file);
        const text = await readFile(path, "utf8");
        if (!text.includes("#EXTINF")) continue;
        await writeFile(path, text.replace("#EXT-X-TARGETDURATION", "#EXT-X-CHANGED\n#EXT-X-TARGETDURATION"));
      }
      const changed = await bed.viewer(page(key), { name: "changed" });
      await changed.play();
      await changed.reason("signature-invalid");
      await changed.playedTo(3, 20_000);
      assert.equal(totals([await changed.snapshot()]).viewers, 0);
    },
    { timeout: 90_000 },
  );

  scenario(
    "bytes of the server that are not those that were signed never reach the player",
    async (bed) => {
      const { media, key, page } = await site(bed, 16);
      // Far enough from the start that the core is there when it is asked for.
      const wrong = (await files(media.dir)).filter((file) => file.endsWith("/003.m4s"));
      assert.ok(wrong.length > 1, `${wrong}`);
      for (const file of wrong) {
        const bytes = await readFile(join(media.dir, file));
        bytes[bytes.length >> 1] ^= 1;
        await writeFile(join(media.dir, file), bytes);
      }
      const viewer = await bed.viewer(page(key));
      await viewer.play();
      await viewer.reason("origin-hash-mismatch");
      const shot = await viewer.snapshot();
      await rightBytes(shot, media, viewer.name);
      const delivered = shot.delivered.map((/** @type {{ url: string }} */ { url }) => url);
      assert.deepEqual(
        delivered.filter((/** @type {string} */ url) => url.endsWith("/003.m4s")),
        [],
      );
    },
    { timeout: 90_000 },
  );
});
