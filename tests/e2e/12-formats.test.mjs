// Every layout of HLS is shared: the main promise, on footage of two packagers.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { inPairs, scenario } from "./lib/bed.mjs";
import { atLeast } from "./lib/expect.mjs";
import { files } from "./lib/media.mjs";
import { watchTogether } from "./lib/party.mjs";
import * as paths from "./lib/paths.mjs";

/** Least part of all media bytes that must come from viewers. */
const SHARE = 0.55;

/** @param {import("./lib/bed.mjs").Bed} bed @param {string} ladder */
async function four(bed, ladder) {
  const media = await bed.media({ ladder });
  const seeder = await bed.seeder(media);
  const { shots } = await watchTogether(bed, {
    media,
    script: seeder.script,
    video: seeder.video,
    share: SHARE,
  });
  return { media, seeder, shots };
}

/** Four pages that play 60 s, joining 10 s apart, with room for a machine that is busy. */
const timeout = 240_000;

inPairs("layouts", () => {
  scenario("MPEG-TS", async (bed) => void (await four(bed, "light/ts")), { timeout });

  scenario(
    "byte ranges: one fMP4 file for each rendition",
    async (bed) => {
      const { shots } = await four(bed, "light/single");
      for (const { delivered } of shots) assert.ok(delivered.every(({ range }) => range !== null));
    },
    { timeout },
  );

  scenario(
    "two groups of separate sound, and WebVTT subtitles",
    async (bed) => {
      const { shots } = await four(bed, "light/groups");
      for (const [at, viewer] of bed.viewers.entries()) {
        const texts = shots[at].delivered.filter(({ url }) => url.endsWith(".vtt"));
        atLeast(texts.length, 2, `${viewer.name}: subtitle segments`);
      }
    },
    { timeout },
  );

  scenario(
    "AES-128: ciphertext is shared, keys come from the server alone",
    async (bed) => {
      const { media, shots } = await four(bed, "light/aes");
      const key = readFileSync(join(media.dir, "film.key"));
      assert.equal(key.length, 16);
      for (const [at, viewer] of bed.viewers.entries()) {
        const asked = viewer.requests.filter((url) => url.endsWith("/film.key"));
        atLeast(asked.length, 1, `${viewer.name}: requests for the key`);
        // The swarm was never given it, nor anything of its size.
        const shared = shots[at].events.filter(({ type, detail }) => type === "segment" && !/\.ts$/.test(detail.url));
        assert.deepEqual(shared, [], `${viewer.name}: something else than segments went through the swarm`);
        assert.ok(shots[at].delivered.every(({ url }) => url.endsWith(".ts")));
      }
    },
    { timeout },
  );

  const shaka = join(paths.target, "media/shaka.missing");
  scenario(
    "a ladder by shaka-packager, with an I-frame playlist",
    async (bed) => {
      const { media, shots } = await four(bed, "shaka/segments");
      assert.ok((await files(media.dir)).includes("high/iframes.m3u8"));
      for (const [at, viewer] of bed.viewers.entries()) {
        assert.deepEqual(
          viewer.requests.filter((url) => url.includes("iframes")),
          [],
        );
        const kinds = new Set(shots[at].delivered.map(({ type }) => type));
        for (const kind of ["main", "audio"]) assert.ok(kinds.has(kind), `${viewer.name}: no ${kind} was delivered`);
      }
    },
    { timeout, skip: existsSync(shaka) && readFileSync(shaka, "utf8") },
  );
});
