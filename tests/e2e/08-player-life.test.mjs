// What viewers do to players all day.

import assert from "node:assert/strict";
import { scenario } from "./lib/bed.mjs";
import { atLeast, atMost, noStall, nothingRejected, rightBytes, summary, totals } from "./lib/expect.mjs";
import { renditions } from "./lib/media.mjs";
import { eventually } from "./lib/wait.mjs";

const SHORT_BUFFER = { maxBufferLength: 6, maxMaxBufferLength: 6, maxBufferSize: 0 };

/** A viewer that has the whole film. @param {import("./lib/bed.mjs").Bed} bed @param {import("./lib/page-server.mjs").Page} page */
async function holderOf(bed, page) {
  const holder = await bed.viewer(page, { name: "holder" });
  await holder.play();
  await holder.until("the whole film is buffered", () => {
    const video = /** @type {HTMLVideoElement} */ (document.getElementById("v0"));
    return window.__recorder.bufferedEnd(video) > video.duration - 1;
  });
  return holder;
}

scenario(
  "seeks forward and back, and a pause",
  async (bed) => {
    const media = await bed.media();
    const seeder = await bed.seeder(media);
    const page = { script: seeder.script, videos: [{ src: seeder.video }] };
    await holderOf(bed, page);
    const viewer = await bed.viewer({ ...page, ownPlayer: SHORT_BUFFER }, { name: "viewer" });
    await viewer.play();
    await viewer.playedTo(3);
    const moves = [];
    for (const target of [44, 12, 30]) {
      const asked = Date.now();
      await viewer.seek(target);
      await viewer.playedTo(target + 0.3, 15_000);
      await viewer.until(
        `playing on behind ${target} s`,
        (target) => {
          const { currentTime } = /** @type {HTMLVideoElement} */ (document.getElementById("v0"));
          return currentTime >= target + 2 && currentTime < target + 12;
        },
        { args: [target], timeout: 20_000 },
      );
      moves.push(`${target} s in ${Date.now() - asked - 2_000} ms`);
    }
    await viewer.page.evaluate(() => /** @type {HTMLVideoElement} */ (document.getElementById("v0")).pause());
    const paused = await viewer.page.evaluate(
      () => /** @type {HTMLVideoElement} */ (document.getElementById("v0")).currentTime,
    );
    const stats = await viewer.stats();
    assert.equal(stats.state, "active", "a pause ended the session");
    await viewer.play();
    await viewer.playedTo(paused + 3, 20_000);
    const shot = await viewer.snapshot();
    noStall(shot, viewer.name);
    nothingRejected(shot, viewer.name);
    await rightBytes(shot, media, viewer.name);
    const total = totals([shot]);
    atLeast(total.share, 0.3, "share from viewers around seeks");
    bed.say(`seeks: ${moves.join(", ")}; ${summary(total)}`);
  },
  { timeout: 150_000 },
);

scenario(
  "a rendition switch: both renditions are exchanged",
  async (bed) => {
    const media = await bed.media({ seconds: 24 });
    const seeder = await bed.seeder(media);
    const page = { script: seeder.script, videos: [{ src: seeder.video }] };
    // One holder per rendition: levels are in rising order of bandwidth.
    for (const level of [0, 1]) await holderOf(bed, { ...page, ownPlayer: { startLevel: level, fixedLevel: level } });
    const viewer = await bed.viewer(
      { ...page, ownPlayer: { ...SHORT_BUFFER, startLevel: 1, fixedLevel: 1 } },
      { name: "viewer" },
    );
    await viewer.play();
    await viewer.neighbours(2);
    await viewer.playedTo(5);
    await viewer.page.evaluate(() => (window.__players[0].nextLevel = 0));
    await viewer.until("the other rendition plays", () => window.__recorder.levels.some(({ level }) => level === 0), {
      timeout: 30_000,
    });
    await viewer.ended();
    const shot = await viewer.snapshot();
    noStall(shot, viewer.name);
    nothingRejected(shot, viewer.name);
    await rightBytes(shot, media, viewer.name);
    const { video } = await renditions(media);
    const urls = new Set(shot.delivered.filter((entry) => entry.type === "main").map((entry) => entry.url));
    assert.ok(urls.size >= 6, `${urls.size} picture segments of ${video.length} renditions`);
    const fromViewers = (level) =>
      shot.events.filter(
        (event) => event.type === "segment" && event.detail.viewers > 0 && levelOf(event.detail.url, video) === level,
      );
    bed.say(`${summary(totals([shot]))}; levels ${shot.levels.map(({ level }) => level).join(" → ")}`);
    for (const at of [0, 1]) atLeast(fromViewers(at).length, 1, `segments of rendition ${at} that came from viewers`);
  },
  { timeout: 150_000 },
);

/**
 * Which rendition a segment's URL belongs to: by folder, or by the digits that differ between the playlists' names.
 * @param {string} url
 * @param {string[]} playlists
 */
function levelOf(url, playlists) {
  const path = decodeURIComponent(new URL(url).pathname);
  const folder = path.slice(0, path.lastIndexOf("/"));
  return playlists.findIndex((playlist) =>
    folder.endsWith(playlist.slice(0, playlist.lastIndexOf("/")).split("/").slice(-2).join("/")),
  );
}

scenario(
  "two videos on one page: nothing leaks from one swarm to the other",
  async (bed) => {
    // The same bytes twice, under two video ids: a leak would be tempting.
    const media = await bed.media({ seconds: 16, name: "one" });
    const other = await bed.media({ seconds: 16, name: "two", root: media.root });
    const seeder = await bed.seeder(media);
    const one = seeder.video;
    const two = seeder.video.replace("/one/", "/two/");
    const only = await bed.viewer({ script: seeder.script, videos: [{ src: one }] }, { name: "only one" });
    await only.play();
    await only.until("the whole film is buffered", () => {
      const video = /** @type {HTMLVideoElement} */ (document.getElementById("v0"));
      return window.__recorder.bufferedEnd(video) > video.duration - 1;
    });
    const both = await bed.viewer({ script: seeder.script, videos: [{ src: two }, { src: one }] }, { name: "both" });
    await both.play("v0");
    await both.until("the first session joined", () =>
      ["active", "waiting"].includes(window.__recorder.session(0)?.state),
    );
    await both.play("v1");
    for (const id of ["v0", "v1"]) await both.ended(60_000, id);
    const shot = await both.snapshot();
    noStall(shot, both.name);
    nothingRejected(shot, both.name);
    await rightBytes(shot, media, both.name);
    assert.equal(shot.sessions.length, 2);
    const [lonely, shared] = shot.sessions.map((session) => session.stats);
    assert.notEqual(lonely.video, shared.video, "two folders got one video id");
    assert.equal(lonely.bytes.viewers, 0, "bytes of the second video reached the first one's swarm");
    assert.equal(lonely.bytes.uploaded, 0, "the first video's swarm uploaded to strangers");
    assert.deepEqual(lonely.peers, [], "the first video has neighbours");
    atLeast(shared.bytes.viewers, 1, "bytes from viewers for the second video");
    assert.equal(shared.peers.length, 1);
    void other;
    bed.say(`first: ${lonely.bytes.http} bytes by HTTP, alone; second: ${shared.bytes.viewers} bytes from its viewer`);
  },
  { timeout: 120_000 },
);

/** Runs in the page before all else: remembers timers that are pending, and who set them. */
function timerLedger() {
  const ledger = new Map();
  window.__timers = ledger;
  for (const kind of ["Timeout", "Interval"]) {
    const set = window[`set${kind}`];
    const clear = window[`clear${kind}`];
    window[`set${kind}`] = (callback, ms, ...args) => {
      const wrapped = (...given) => {
        if (kind === "Timeout") ledger.delete(id);
        return typeof callback === "function" ? callback(...given) : undefined;
      };
      const id = set.call(window, wrapped, ms, ...args);
      ledger.set(id, { kind, ms, stack: new Error().stack });
      return id;
    };
    window[`clear${kind}`] = (id) => {
      ledger.delete(id);
      clear.call(window, id);
    };
  }
}

scenario(
  "destroy() gives back connections, timers and memory, and the player plays on",
  async (bed) => {
    const media = await bed.media();
    const seeder = await bed.seeder(media);
    const page = { script: seeder.script, videos: [{ src: seeder.video }] };
    const holder = await holderOf(bed, page);
    const viewer = await bed.viewer(page, { name: "viewer", before: timerLedger });
    const idle = await viewer.memory();
    let closedSockets = 0;
    viewer.devtools.on("Network.webSocketClosed", () => (closedSockets += 1));
    await viewer.play();
    await viewer.neighbours(1);
    await viewer.until("megabytes from the other", () => window.__recorder.session(0).stats().bytes.viewers > 5e6);
    const used = await viewer.memory();
    const timers = () =>
      viewer.page.evaluate(() =>
        [...window.__timers.values()].map(({ stack }) => stack).filter((stack) => stack.includes("/marea.js")),
      );
    assert.notDeepEqual(await timers(), [], "the ledger of timers sees none while a session runs");

    await viewer.page.evaluate(() => {
      const session = window.__recorder.session(0);
      session.destroy();
      session.destroy();
      window.__state = session.state;
    });
    assert.equal(await viewer.page.evaluate(() => window.__state), "stopped");
    await viewer.until("every connection is closed", () => window.__recorder.openConnections() === 0);
    await viewer.until("the session is no longer listed", () => window.__recorder.session(0) === null);
    await holder.until("the other sees it go", () => {
      const { peers } = window.__recorder.session(0).stats();
      return peers.every((peer) => peer.state !== "open");
    });
    assert.equal(closedSockets, viewer.sockets.length, "WebSockets closed, of those opened");
    await eventually("no timer of marea.js is left", async () => (await timers()).length === 0, 15_000).catch(
      async () => assert.deepEqual(await timers(), [], "timers of marea.js that are left"),
    );
    const left = await viewer.memory();
    const { time } = (await viewer.snapshot()).videos[0];
    await viewer.playedTo(time + 2, 15_000);
    const mb = (/** @type {{ total: number }} */ memory) => (memory.total / 1e6).toFixed(1);
    bed.say(`memory: ${mb(idle)} MB idle, ${mb(used)} MB in use, ${mb(left)} MB after destroy()`);
    // The compiled engine and hls.js stay: a film's worth of buffers must not.
    atLeast(used.total - left.total, 4e6, "bytes given back by destroy()");
    atMost(left.total - idle.total, 4e6, "bytes held after destroy(), beyond those of the idle page");
    assert.deepEqual(viewer.pageErrors, []);
  },
  { timeout: 90_000 },
);
