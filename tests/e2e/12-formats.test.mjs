// Every layout of HLS is shared: the main promise, on footage of two packagers.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { inPairs, scenario } from "./lib/bed.mjs";
import { atLeast } from "./lib/expect.mjs";
import { MOVED, writeHardPlaylists } from "./lib/hard-playlists.mjs";
import { files } from "./lib/media.mjs";
import { watchTogether } from "./lib/party.mjs";
import * as paths from "./lib/paths.mjs";
import { leave, plays } from "./lib/plays.mjs";

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

  scenario(
    "what hls.js plays, it plays with Marea, and what ends it without ends it with",
    async (bed) => {
      const root = await mkdtemp(join(tmpdir(), "marea-hard-"));
      bed.keep(root, () => rm(root, { recursive: true, force: true }));
      const signaling = await bed.signaling();
      const [web, other] = [await bed.nginx(root, MOVED), await bed.nginx(root)];
      // Without tags for the page without Marea: they must not change anything either.
      const plain = await writeHardPlaylists(join(root, "plain"), `${other.origin}/plain`);
      const tagged = await writeHardPlaylists(join(root, "tagged"), `${other.origin}/tagged`);
      await bed.annotate(join(root, "tagged"), ["--signaling", signaling.url]);
      for (const { finish } of [plain, tagged]) await finish();

      const page = { videos: [], ownPlayer: {} };
      const script = web.origin + (await bed.engineInto(root));
      const without = await bed.viewer(page, { name: "without" });
      const first = await bed.viewer({ ...page, script }, { name: "first" });
      const second = await bed.viewer({ ...page, script }, { name: "second" });

      /** What comes of one playlist in a page, without what only says from which copy it came. */
      const of = async (
        /** @type {import("./lib/browser.mjs").Viewer} */ viewer,
        /** @type {string} */ side,
        /** @type {typeof plain.list[number]} */ hard,
      ) => {
        const { name, path, until, blob } = hard;
        const played = await plays(viewer, { name, url: `${web.origin}/${side}/${path}`, until, blob });
        const neutral = (url) => url.replaceAll(web.origin, "web:").replaceAll(other.origin, "other:");
        return { ...played, delivered: played.delivered.map((entry) => neutral(entry).replace(`/${side}/`, "/")) };
      };
      const differences = [];
      const waiting = [...plain.list];
      const worker = async () => {
        for (let hard = waiting.shift(); hard; hard = waiting.shift()) {
          const [expected, ...results] = await Promise.all([
            of(without, "plain", hard),
            // The second finds the first there, which has it all.
            of(first, "tagged", hard).then(async (played) => [played, await of(second, "tagged", hard)]),
          ]).then(([expected, results]) => [expected, ...results]);
          for (const viewer of [without, first, second]) await leave(viewer, hard.name);
          const { delivered, ...outcome } = expected;
          bed.say(`${hard.name}: ${JSON.stringify(outcome)}, ${delivered.length} loads`);
          for (const [at, result] of results.entries()) {
            const who = at === 0 ? "first" : "second";
            for (const key of Object.keys(expected)) {
              if (isDeepStrictEqual(result[key], expected[key])) continue;
              const [without, with_] = [expected[key], result[key]].map((value) => JSON.stringify(value));
              differences.push(`${hard.name}, ${who}: ${key} is ${with_}, without Marea it is ${without}`);
            }
          }
        }
      };
      await Promise.all([worker(), worker(), worker()]);
      assert.deepEqual(differences, []);
      const { events } = await second.snapshot();
      const shared = events.filter(({ type, detail }) => type === "segment" && detail.viewers > 0);
      bed.say(`${shared.length} objects came to the second viewer from the first`);
      atLeast(shared.length, 1, "objects that came from a viewer");
      for (const viewer of [first, second]) assert.deepEqual(viewer.pageErrors, without.pageErrors);
    },
    { timeout },
  );
});
