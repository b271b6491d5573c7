// A mirror with no open port: it copies a signed film, joins its swarm, and gives viewers pieces and playlists over WebRTC.

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { scenario } from "./lib/bed.mjs";
import { atLeast, nothingRejected, rightBytes, totals, watched } from "./lib/expect.mjs";
import { nativePeer } from "./lib/native.mjs";
import { program } from "./lib/paths.mjs";
import { signedSite } from "./lib/signed.mjs";

/** @param {import("./lib/bed.mjs").Bed} bed */
async function mirroredSite(bed) {
  const { media, key, signaling, script, web } = await signedSite(bed, 24);
  const line = await bed.proxy(web.origin);
  const film = `${line.origin}/${media.name}/master.m3u8`;
  const root = await folder(bed);
  const args = ["mirror", film, "--root", root, "--signaling", signaling.url, "--public-key", key];
  const mirror = await bed.program(program("marea-seeder"), args, { name: "mirror", ready: null });
  await mirror.line(/: whole: /);
  return { media, line, mirror, page: shortPage(line.origin + script, key, film), key, signaling, web, script };
}

/** An empty folder. @param {import("./lib/bed.mjs").Bed} bed */
async function folder(bed) {
  const path = await mkdtemp(join(tmpdir(), "marea-mirror-"));
  return bed.keep(path, () => rm(path, { recursive: true }));
}

/** A page whose player keeps little ahead. @param {string} script @param {string} key @param {string} film */
function shortPage(script, key, film) {
  return {
    script,
    attributes: { "data-public-key": key },
    videos: [{ src: film }],
    ownPlayer: { maxBufferLength: 5, maxMaxBufferLength: 5, maxBufferSize: 0 },
  };
}

/**
 * Sends datagrams of strangers: connectivity checks for nobody, and what looks like DTLS.
 * @param {{ address: string, port: number }} to
 * @param {number} count
 */
async function flood({ address, port }, count) {
  const name = Buffer.from("abcd:efgh");
  const check = Buffer.alloc(36);
  check.writeUInt32BE((1 << 16) | 16);
  check.writeUInt32BE(0x2112a442, 4);
  check.writeUInt32BE((6 << 16) | name.length, 20);
  name.copy(check, 24);
  const dtls = Buffer.concat([Buffer.from([22, 254, 253]), Buffer.alloc(200, 7)]);
  const sockets = Array.from({ length: 200 }, () => createSocket("udp4"));
  const send = (/** @type {import("node:dgram").Socket} */ socket, /** @type {Buffer} */ bytes) =>
    new Promise((resolve) => socket.send(bytes, port, address, resolve));
  for (let sent = 0; sent < count; sent += sockets.length) {
    await Promise.all(sockets.map((socket, at) => send(socket, at % 2 ? check : dtls)));
  }
  sockets.forEach((socket) => socket.close());
}

/** Memory of a program, bytes. @param {number} pid */
async function memory(pid) {
  return Number(/VmRSS:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
}

scenario(
  "a home mirror gives a film over WebRTC, also when its origin is gone and strangers flood it",
  async (bed) => {
    const { media, line, mirror, page } = await mirroredSite(bed);
    const viewer = await bed.viewer(page);
    await viewer.play();
    await viewer.neighbours(1);
    await viewer.playedTo(1);
    await viewer.until("something came from the mirror", () =>
      [...window.Marea.sessions].some((session) => session.stats().bytes.mirrors > 0),
    );
    const before = await viewer.snapshot();
    assert.deepEqual(
      before.sessions[0].stats.peers.map((/** @type {{ kind: string }} */ { kind }) => kind),
      ["mirror"],
    );
    line.cut();
    const [pair] = await viewer.selectedPairs();
    assert.ok(pair, "no selected candidate pair");
    const memoryBefore = await memory(mirror.pid);
    await flood(pair.remote, 100_000);
    const grown = (await memory(mirror.pid)) - memoryBefore;
    assert.ok(grown < 16e6, `the mirror grew by ${grown} bytes`);
    const shot = await watched(viewer, media);
    nothingRejected(shot, viewer.name);
    const total = totals([shot]);
    atLeast(total.mirrors, total.all / 2, "bytes from the mirror");
    bed.say(
      `${(total.mirrors / 1e6).toFixed(2)} MB from the mirror, ${(total.http / 1e6).toFixed(2)} MB from the server`,
    );
    assert.equal(await mirror.stop(), 0);
    await viewer.until("the mirror has said goodbye", () =>
      [...window.Marea.sessions].every((session) => session.stats().peers.every(({ state }) => state === "closed")),
    );
  },
  { timeout: 120_000 },
);

/**
 * A page that is opened when the origin is gone. It must say itself whose word counts, which film it is, and where viewers meet.
 * @param {Omit<Awaited<ReturnType<typeof mirroredSite>>, "line" | "mirror">} site
 */
async function latePage({ media, page, key, signaling, web, script }) {
  const { video } = JSON.parse(await readFile(join(media.root, media.name, "marea.json"), "utf8"));
  return {
    ...page,
    video,
    script: web.origin + script,
    attributes: { "data-public-key": key, "data-signaling": signaling.url },
    videos: page.videos.map(({ src }) => ({ src, attributes: { "data-marea-video-id": video } })),
  };
}

scenario(
  "who comes when the origin is gone gets playlists and film from the home mirror alone",
  async (bed) => {
    const site = await mirroredSite(bed);
    const { media, line } = site;
    line.cut();
    const viewer = await bed.viewer(await latePage(site));
    await viewer.play();
    const shot = await watched(viewer, media);
    nothingRejected(shot, viewer.name);
    const total = totals([shot]);
    assert.equal(total.mirrors, total.all, "all came from the mirror");
    const { startupMs } = shot.sessions[0].stats.playback;
    bed.say(`${(total.mirrors / 1e6).toFixed(2)} MB from the mirror, first picture after ${Math.round(startupMs)} ms`);
  },
  { timeout: 120_000 },
);

scenario(
  "mirrors that lie are refused, and the film goes on from the one that does not",
  async (bed) => {
    const site = await mirroredSite(bed);
    const { media, line, signaling } = site;
    line.cut();
    const { video, ...page } = await latePage(site);
    const lie = { signaling: signaling.url, video, media: join(media.root, media.name), kind: "mirror" };
    const forger = await nativePeer(bed, { ...lie, script: "forged-text" });
    const poisoner = await nativePeer(bed, { ...lie, script: "wrong-pieces" });
    const viewer = await bed.viewer(page);
    await viewer.play();
    const shot = await watched(viewer, media);
    const { integrity, peers } = shot.sessions[0].stats;
    const asked = forger.events("text-asked").length + poisoner.events("text-asked").length;
    bed.say(`${asked} playlists asked of those that lie, ${integrity.rejected} things of theirs refused`);
    const banned = peers.filter((/** @type {{ state: string }} */ { state }) => state === "banned");
    assert.deepEqual(
      banned.map((/** @type {{ id: string }} */ { id }) => id),
      [poisoner.id],
    );
  },
  { timeout: 120_000 },
);

scenario(
  "an old playlist that once counted is refused",
  async (bed) => {
    const { media, key, signaling, script, web } = await signedSite(bed, 12);
    const here = join(media.root, media.name);
    const old = await folder(bed);
    await cp(here, old, { recursive: true });
    // It names no signaling any more, so it is signed anew.
    await bed.annotate(media.root, ["--key", join(media.root, ".site.key")]);
    const seq = async (/** @type {string} */ folder) =>
      Number(/,SEQ=(\d+)/.exec(await readFile(join(folder, "master.m3u8"), "utf8"))?.[1]);
    assert.ok((await seq(old)) < (await seq(here)), `${await seq(old)}, ${await seq(here)}`);
    const line = await bed.proxy(web.origin);
    const film = `${line.origin}/${media.name}/master.m3u8`;
    const site = { media, key, signaling, web, script, page: shortPage(line.origin + script, key, film) };
    const { video, ...page } = await latePage(site);
    const keeper = await nativePeer(bed, { signaling: signaling.url, video, media: old, kind: "mirror", name: "old" });
    const viewer = await bed.viewer(page);
    await viewer.play();
    await viewer.neighbours(1);
    await viewer.playedTo(1);
    line.cut();
    const again = () => window.__players[0].loadSource(window.__players[0].url);
    await viewer.page.evaluate(again);
    await viewer.until("the old playlist to be refused", () =>
      window.__recorder.events.some(
        ({ type, detail }) =>
          type === "error" && detail.code === "signature-invalid" && /neighbour/.test(detail.message),
      ),
    );
    assert.ok(keeper.events("text-asked").some(({ bytes }) => bytes > 0));
    line.mend();
    await viewer.page.evaluate(again);
    await viewer.play();
    await viewer.ended();
    const shot = await viewer.snapshot();
    await rightBytes(shot, media, viewer.name);
    nothingRejected(shot, viewer.name);
    const states = shot.sessions[0].stats.peers.map((/** @type {{ state: string }} */ { state }) => state);
    assert.ok(!states.includes("banned"), `who has an old one is no liar: ${states}`);
  },
  { timeout: 60_000 },
);
