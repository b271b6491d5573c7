// Mirrors of a signed video: viewers go on from them when the origin is gone, and take nothing from those that lie.

import assert from "node:assert/strict";
import { appendFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inPairs, originOf, scenario } from "./lib/bed.mjs";
import { atLeast, noStall, rightBytes, totals, watched, wholeFilm } from "./lib/expect.mjs";
import { startLiar, startMute } from "./lib/liar.mjs";
import { copyLadder } from "./lib/media.mjs";
import { program } from "./lib/paths.mjs";
import { siteKey } from "./lib/signed.mjs";
import { pause } from "./lib/wait.mjs";

/** A player that holds little, so that what comes late is missed, in the lower rendition. */
const SHORT = { maxBufferLength: 8, maxMaxBufferLength: 8, backBufferLength: 0, fixedLevel: 0 };

/**
 * A signed site at a seeder, and an honest mirror of it.
 * @param {import("./lib/bed.mjs").Bed} bed
 * @param {number} seconds
 */
async function site(bed, seconds) {
  const media = await bed.media({ ladder: "light/groups", seconds });
  const other = await copyLadder({ ladder: "light/groups", seconds: 4, name: "other", root: media.root });
  const { file, key } = await siteKey(media);
  const signaling = await bed.signaling();
  const edge = await bed.seeder(media, { args: ["--key", file, "--signaling", signaling.url, "--list-videos"] });
  const copies = await mkdtemp(join(tmpdir(), "marea-mirror-"));
  bed.keep(copies, () => rm(copies, { recursive: true, force: true }));
  const mirror = await bed.program(program("marea-seeder"), [
    "mirror",
    edge.origin,
    // Over HTTP alone: what it gave over WebRTC, other mirrors were not asked for.
    ...["--root", copies, "--listen", "127.0.0.1:0", "--public-key", key],
  ]);
  for (const name of [media.name, other.name]) await mirror.line(new RegExp(`${name}/master\\.m3u8: whole`), 60_000);
  const origin = originOf(mirror);
  const base = `${origin}/videos/${new URL(edge.origin).host.replace(":", "_")}/`;
  /** @type {(mirrors: string[], more?: Record<string, unknown>) => import("./lib/page-server.mjs").Page} */
  const page = (mirrors, more) => ({
    script: `${origin}/marea.js`,
    attributes: { "data-public-key": key, "data-mirrors": mirrors.join(" ") },
    videos: [{ src: edge.video }],
    ownPlayer: SHORT,
    ...more,
  });
  return { media, edge, base, page };
}

/** @param {any} viewer The player goes over to the other rendition, whose playlists it has not seen. */
const toHigh = (viewer) => viewer.page.evaluate(() => (window.__players[0].nextLevel = 1));

/** URLs that the viewer refused as not signed. @param {any} shot */
const refused = (shot) =>
  shot.events
    .filter((/** @type {any} */ { type, detail }) => type === "error" && detail.code === "signature-invalid")
    .map((/** @type {any} */ { detail }) => detail.message.split(" ")[0]);

/** @param {any} shot @param {string} folder */
const delivered = (shot, folder) => shot.delivered.filter((/** @type {any} */ { url }) => url.includes(folder)).length;

inPairs("mirrors", () => {
  scenario(
    "the origin is stopped in mid-film: the viewer goes on from a mirror, playlists included, whoever else is dead or lies",
    async (bed) => {
      const { media, edge, base, page } = await site(bed, 36);
      const liar = await startLiar(base, (path, bytes) => {
        if (path.endsWith(".m4s")) bytes[bytes.length >> 1] ^= 1;
        return bytes;
      });
      bed.keep(liar, liar.close);
      const mute = await startMute();
      bed.keep(mute, mute.close);
      // The honest one is farther away, so that the liar is asked for certain.
      const far = await startLiar(base, async (_, bytes) => {
        await pause(300);
        return bytes;
      });
      bed.keep(far, far.close);
      const viewer = await bed.viewer(page(["http://127.0.0.1:9/", mute.base, liar.base, far.base]));
      await viewer.play();
      await viewer.playedTo(3, 20_000);
      // As a machine that hangs: it takes connections and says nothing.
      process.kill(edge.program.pid, "SIGSTOP");
      bed.keep(edge, () => process.kill(edge.program.pid, "SIGCONT"));
      await toHigh(viewer);
      const shot = await watched(viewer, media);
      atLeast(delivered(shot, "/high/"), 3, "segments of the rendition that only the mirror told of");
      atLeast(totals([shot]).mirrors, 100_000, "bytes from mirrors");
      assert.ok(
        liar.asked.some((path) => path.endsWith(".m4s")),
        "the liar was never asked for media: this showed nothing",
      );
      bed.say(`${JSON.stringify(shot.sessions[0].stats.bytes)}, ${shot.sessions[0].stats.integrity.rejected} refused`);
    },
    { timeout: 120_000 },
  );

  scenario(
    "playlists of mirrors that are not what was signed, or older, are each refused",
    async (bed) => {
      const { media, edge, base, page } = await site(bed, 20);
      const take = async (/** @type {string} */ path) => Buffer.from(await (await fetch(base + path)).arrayBuffer());
      const old = await take(`videos/${media.name}/high/index.m3u8`);
      const stranger = await take("videos/other/master.m3u8");
      /** @type {Record<string, (path: string, bytes: Buffer) => Buffer | string | Promise<Buffer>>} */
      const lies = {
        "a swapped rendition": (path, bytes) =>
          path.endsWith("/high/index.m3u8") ? take(`videos/${media.name}/low/index.m3u8`) : bytes,
        "a KEY URI": (path, bytes) =>
          path.endsWith("/index.m3u8")
            ? String(bytes).replace("#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="https://evil.example/key"\n#EXTINF')
            : bytes,
        "an older SEQ": (path, bytes) => (path.endsWith("/high/index.m3u8") ? old : bytes),
      };
      const liars = await Promise.all(Object.values(lies).map((lie) => startLiar(base, lie)));
      for (const liar of liars) bed.keep(liar, liar.close);
      const foreign = await startLiar(base, (path, bytes) => (path.endsWith("/master.m3u8") ? stranger : bytes));
      bed.keep(foreign, foreign.close);

      // Signed anew: the viewer sees the newer one at the origin before the old one is offered to it.
      const { video } = JSON.parse(await readFile(join(media.dir, "marea.json"), "utf8"));
      await appendFile(join(media.dir, "high/index.m3u8"), "# changed\n");
      const viewer = await bed.viewer(page([...liars.map((liar) => liar.base), base]));
      const expired = await bed.viewer(page([base]), {
        name: "in two months",
        before: () => {
          const { now } = Date;
          Date.now = () => now() + 60 * 86_400_000;
        },
      });
      await Promise.all([viewer.play(), expired.play()]);
      await Promise.all([viewer.playedTo(2, 30_000), expired.playedTo(2, 30_000)]);
      const level = `${edge.origin}/videos/${media.name}/high/index.m3u8`;
      await viewer.page.evaluate(async (level) => {
        const session = window.__recorder.session(0);
        session.sawPlaylist(level, await (await fetch(level, { cache: "no-store" })).text(), false);
      }, level);
      await edge.program.stop("SIGKILL");
      // Nobody can give it the other rendition: the page goes back to the one that it has, as pages do. Whether hls.js
      // calls the failure fatal, after which it waits to be told to go on, depends on where it was.
      const overAndBack = expired.page.evaluate(async () => {
        const [player] = window.__players;
        const failed = new Promise((resolve) => {
          player.on("hlsError", (_, { details, fatal }) => details === "levelLoadError" && resolve(fatal));
        });
        player.nextLevel = 1;
        const fatal = await failed;
        player.nextLevel = 0;
        if (fatal) player.startLoad();
      });
      await toHigh(viewer);
      await viewer.until(
        "every liar was refused",
        (count) =>
          window.__recorder.events.filter(({ type, detail }) => type === "error" && detail.code === "signature-invalid")
            .length >= count,
        { args: [liars.length], timeout: 30_000 },
      );
      await overAndBack;
      await Promise.all([viewer.ended(), expired.ended()]);
      for (const one of [viewer, expired]) {
        const shot = await one.snapshot();
        noStall(shot, one.name);
        await rightBytes(shot, media, one.name);
        await wholeFilm(shot, media, one.name);
      }
      const seen = refused(await viewer.snapshot());
      for (const [at, what] of Object.keys(lies).entries())
        assert.ok(
          seen.some((/** @type {string} */ url) => url.startsWith(liars[at].base)),
          `${what} was not refused: ${seen}`,
        );
      assert.ok(refused(await expired.snapshot()).length > 0, "an expired signature was not refused");

      // With the origin dead from the start, the page says which video it is.
      const late = await bed.viewer(
        page([foreign.base, base], { videos: [{ src: edge.video, attributes: { "data-marea-video-id": video } }] }),
        { name: "late" },
      );
      await late.play();
      await late.playedTo(6, 30_000);
      const shot = await late.snapshot();
      await rightBytes(shot, media, late.name);
      assert.ok(
        refused(shot).some((/** @type {string} */ url) => url.startsWith(foreign.base)),
        `${refused(shot)}`,
      );
      assert.equal(totals([shot]).http, 0);
    },
    { timeout: 150_000 },
  );
});
