// Hostile or broken input from the site's own side: playback is never worse than without Marea.

import assert from "node:assert/strict";
import { appendFile, readFile, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { inPairs, scenario } from "./lib/bed.mjs";
import { atLeast, noStall, nothingRejected, rightBytes, summary, totals, wholeFilm } from "./lib/expect.mjs";
import { files, playlists, readPlaylist, renditions } from "./lib/media.mjs";

/**
 * A static site with a tagged film, its own copy of the engine, and signaling apart.
 * @param {import("./lib/bed.mjs").Bed} bed
 * @param {{ seconds?: number, locations?: string, prepare?: (media: import("./lib/media.mjs").Media) => Promise<void>,
 *   after?: (media: import("./lib/media.mjs").Media) => Promise<void> }} [options] `prepare` before, `after` after annotate.
 */
async function site(bed, { seconds = 16, locations, prepare, after } = {}) {
  const media = await bed.media({ seconds });
  await prepare?.(media);
  const signaling = await bed.signaling();
  await bed.annotate(media.root, ["--signaling", signaling.url]);
  await after?.(media);
  const script = await bed.engineInto(media.root);
  const web = await bed.nginx(media.root, locations);
  return { media, web, signaling, script: web.origin + script, video: `${web.origin}/${media.name}/master.m3u8` };
}

/** An MP4 box that players skip: the file plays the same and has another hash. */
const FREE_BOX = Buffer.from([0, 0, 0, 12, 0x66, 0x72, 0x65, 0x65, 1, 2, 3, 4]);

/** hls.js that stays at the high rendition. */
const HIGH = { startLevel: 1, fixedLevel: 1 };

/** The rendition with the highest bandwidth. @param {import("./lib/media.mjs").Media} media */
async function highest(media) {
  const { video, bandwidth } = await renditions(media);
  return { path: video[bandwidth.indexOf(Math.max(...bandwidth))] };
}

inPairs("bad input", () => {
  scenario("a garbage playlist harms nobody, and the page's other video plays", async (bed) => {
    const garbage = Buffer.from(Array.from({ length: 5_000 }, (_, i) => (i * 7919) % 256));
    const { media, web, script, video } = await site(bed, {
      after: async (media) => {
        await writeFile(join(media.root, "garbage.m3u8"), garbage);
        await writeFile(
          join(media.root, "tags.m3u8"),
          '#EXTM3U\n#EXT-X-MAREA:VERSION=1,PIECE=65536,VIDEO="x"\n#EXTINF:nan\n#EXTINF:1e999,\n\0\xff\n#EXT-X-MAREA-SEGMENT:SIZE=-1\n',
        );
      },
    });
    const viewer = await bed.viewer({
      script,
      videos: [{ src: `${web.origin}/garbage.m3u8` }, { src: `${web.origin}/tags.m3u8` }, { src: video }],
    });
    for (const id of ["v0", "v1", "v2"]) await viewer.play(id);
    await viewer.ended(60_000, "v2");
    const shot = await viewer.snapshot();
    await rightBytes(
      { ...shot, delivered: shot.delivered.filter((entry) => /m4s|mp4/.test(entry.url)) },
      media,
      viewer.name,
    );
    assert.deepEqual(viewer.pageErrors, []);
    bed.say(`sessions: ${shot.sessions.map(({ state, reasons }) => `${state} [${reasons}]`).join(", ")}`);
  });

  scenario("a segment that is gone (404): the player does what it does without Marea", async (bed) => {
    const { media, script, video } = await site(bed, {
      after: async (media) => {
        // Gone from the rendition that is playing only.
        const high = await readPlaylist((await highest(media)).path);
        await rm(high.segments[2].file);
      },
    });
    for (const [name, page] of /** @type {const} */ ([
      ["without", {}],
      ["with", { script }],
    ])) {
      const viewer = await bed.viewer({ ...page, videos: [{ src: video }], ownPlayer: HIGH }, { name });
      await viewer.play();
      await viewer.ended(60_000);
      const shot = await viewer.snapshot();
      await rightBytes(shot, media, name);
      const missing = shot.playerErrors.filter((error) => error.details === "fragLoadError" && error.code === 404);
      atLeast(missing.length, 1, `${name} Marea: fragLoadError 404 seen by the player`);
      for (const session of shot.sessions) nothingRejected({ sessions: [session] }, name);
      bed.say(`${name} Marea: ${missing.length} × 404 seen by the player, played to the end`);
    }
  });

  scenario("cut tags: plays, and what is left of the tags is used or named", async (bed) => {
    const { media, script, video } = await site(bed, {
      after: async (media) => {
        for (const file of await playlists(media.dir)) {
          const path = join(media.dir, file);
          const text = await readFile(path, "utf8");
          let tags = 0;
          // Every other segment's tag is cut in the middle, as by a broken cache or an editor.
          const cut = text.replace(/^#EXT-X-MAREA-SEGMENT:.*$/gm, (line) =>
            (tags += 1) % 2 ? line.slice(0, line.length / 2) : line,
          );
          await writeFile(path, cut);
        }
      },
    });
    const shots = [];
    for (const name of ["first", "second"]) {
      const viewer = await bed.viewer({ script, videos: [{ src: video }] }, { name });
      await viewer.play();
      if (name === "first") await viewer.playedTo(4);
      else {
        await viewer.ended();
        await bed.viewers[0].ended();
      }
    }
    for (const viewer of bed.viewers) {
      const shot = await viewer.snapshot();
      noStall(shot, viewer.name);
      nothingRejected(shot, viewer.name);
      await rightBytes(shot, media, viewer.name);
      await wholeFilm(shot, media, viewer.name);
      assert.deepEqual(viewer.pageErrors, []);
      shots.push(shot);
    }
    bed.say(`${summary(totals(shots))}; reasons ${JSON.stringify(shots.map((shot) => shot.sessions[0]?.reasons))}`);
  });

  scenario("the main tag is cut: plain playback, bad-tags", async (bed) => {
    const { media, script, video } = await site(bed, {
      after: async (media) => {
        for (const file of await playlists(media.dir)) {
          const path = join(media.dir, file);
          const text = await readFile(path, "utf8");
          await writeFile(path, text.replace(/^(#EXT-X-MAREA:VERSION=1,PIECE=65).*$/m, "$1"));
        }
      },
    });
    const viewer = await bed.viewer({ script, videos: [{ src: video }] });
    await viewer.play();
    await viewer.reason("bad-tags");
    await viewer.playedTo(6);
    const shot = await viewer.snapshot();
    noStall(shot, viewer.name);
    await rightBytes(shot, media, viewer.name);
    assert.deepEqual(viewer.sockets, []);
    bed.say(`${shot.sessions[0].state}: ${shot.sessions[0].reasons}`);
  });

  scenario(
    "a segment replaced on the server after annotate: plays, is not shared, origin-hash-mismatch",
    async (bed) => {
      let replaced = "";
      const { media, script, video } = await site(bed, {
        after: async (media) => {
          const high = await readPlaylist((await highest(media)).path);
          replaced = high.segments[1].file;
          // Other bytes in the same length, which only a hash can tell: the minor version in the first box, which no
          // decoder reads. A bit of the picture might be one that it stumbles over.
          const bytes = await readFile(replaced);
          assert.equal(bytes.toString("latin1", 4, 8), "styp");
          bytes[15] ^= 1;
          await writeFile(replaced, bytes);
        },
      });
      for (const name of ["first", "second"]) {
        const viewer = await bed.viewer({ script, videos: [{ src: video }], ownPlayer: HIGH }, { name });
        await viewer.play();
        await viewer.playedTo(6);
        await viewer.reason("origin-hash-mismatch");
      }
      for (const viewer of bed.viewers) await viewer.ended();
      const shots = [];
      for (const viewer of bed.viewers) {
        const shot = await viewer.snapshot();
        noStall(shot, viewer.name);
        await rightBytes(shot, media, viewer.name);
        await wholeFilm(shot, media, viewer.name);
        const banned = shot.events.filter((event) => event.type === "peer" && event.detail.state === "banned");
        assert.deepEqual(banned, [], `${viewer.name} banned somebody for the server's fault`);
        const blamed = shot.events.filter((event) => event.type === "integrity");
        atLeast(blamed.length, 1, `${viewer.name}: integrity events`);
        assert.ok(
          blamed.every(({ detail }) => detail.source === "http"),
          `${viewer.name} blamed ${JSON.stringify(blamed)}`,
        );
        const shared = shot.events.filter(
          ({ type, detail }) =>
            type === "segment" &&
            basename(detail.url) === basename(replaced) &&
            dirname(detail.url).endsWith(basename(dirname(replaced))) &&
            detail.viewers > 0,
        );
        assert.deepEqual(shared, [], `${viewer.name}: the replaced segment came from a viewer`);
        shots.push(shot);
      }
      atLeast(totals([shots[1]]).viewers, 1, "bytes of other segments that came from the first viewer");
      bed.say(summary(totals(shots)));
    },
  );

  scenario(
    "two versions of one playlist in two viewers: both play, nobody is banned, nothing is exchanged",
    async (bed) => {
      const { media, signaling, script, video } = await site(bed);
      const first = await bed.viewer({ script, videos: [{ src: video }] }, { name: "first" });
      await first.play();
      await first.until("the whole film is buffered", () => {
        const element = /** @type {HTMLVideoElement} */ (document.getElementById("v0"));
        return window.__recorder.bufferedEnd(element) > element.duration - 1;
      });
      const old = await first.snapshot();
      await rightBytes(old, media, first.name);

      for (const file of await files(media.dir))
        if (/\.(m4s|mp4)$/.test(file)) await appendFile(join(media.dir, file), FREE_BOX);
      await bed.annotate(media.root, ["--signaling", signaling.url]);
      const second = await bed.viewer({ script, videos: [{ src: video }] }, { name: "second" });
      await second.play();
      for (const viewer of [first, second]) await viewer.neighbours(1);
      await second.ended();
      await first.ended();
      const shots = [await first.snapshot(), await second.snapshot()];
      await rightBytes(shots[1], media, second.name);
      for (const [at, shot] of shots.entries()) {
        noStall(shot, bed.viewers[at].name);
        nothingRejected(shot, bed.viewers[at].name);
      }
      assert.equal(shots[0].sessions[0].stats.video, shots[1].sessions[0].stats.video, "they are not in one swarm");
      const total = totals(shots);
      assert.equal(total.viewers, 0, `${total.viewers} bytes were exchanged between versions`);
      bed.say(`one swarm, two versions, ${total.http} bytes by HTTP, 0 exchanged`);
    },
  );

  scenario("segments that differ only in the query", async (bed) => {
    const { media, script, video, web } = await site(bed, {
      // One path for all: the query names the bytes, as some servers do.
      locations: `
    location ~ ^/video/(?:.*/)?one\\.(m4s|m4s\\.pieces)$ { rewrite ^(.*/)one\\.(m4s|m4s\\.pieces)$ $1$arg_of.$2? last; }
    `,
      after: async (media) => {
        for (const file of await playlists(media.dir)) {
          const path = join(media.dir, file);
          const text = await readFile(path, "utf8");
          await writeFile(
            path,
            text.replace(/^(?!#)(.*\/)?([^/\n]+)\.m4s$/gm, (_, dir, name) => `${dir ?? ""}one.m4s?of=${name}`),
          );
        }
      },
    });
    const check = await fetch(`${web.origin}/video/master.m3u8`);
    assert.equal(check.status, 200);
    for (const name of ["first", "second"]) {
      const viewer = await bed.viewer({ script, videos: [{ src: video }] }, { name });
      await viewer.play();
      await viewer.playedTo(3);
    }
    const shots = [];
    for (const viewer of bed.viewers) {
      await viewer.ended();
      const shot = await viewer.snapshot();
      noStall(shot, viewer.name);
      nothingRejected(shot, viewer.name);
      for (const entry of shot.delivered) {
        const of = new URL(entry.url).searchParams.get("of");
        if (of) entry.url = entry.url.replace(/one\.m4s\?.*/, `${of}.m4s`);
      }
      await rightBytes(shot, media, viewer.name);
      const distinct = new Set(shot.delivered.map((entry) => entry.url));
      atLeast(distinct.size, 9, `${viewer.name}: segments and init sections that reached the player`);
      shots.push(shot);
    }
    const total = totals(shots);
    atLeast(totals([shots[1]]).viewers, 1, "bytes that the second took from the first");
    bed.say(summary(total));
  });
});
