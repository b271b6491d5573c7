// The server as a peer: for pages that do not get its media by HTTP, and for viewers who meet nobody else.

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { createServer } from "node:http";
import { networkInterfaces } from "node:os";
import WebSocket from "ws";
import { inPairs, scenario } from "./lib/bed.mjs";
import { nothingRejected, totals, watched } from "./lib/expect.mjs";
import { scrape } from "./lib/metrics.mjs";
import { videoId } from "./lib/native.mjs";
import { program } from "./lib/paths.mjs";
import { run } from "./lib/process.mjs";
import { siteKey } from "./lib/signed.mjs";
import { eventually } from "./lib/wait.mjs";

const MEDIA = /\.(m4s|mp4|ts|pieces)$/;

/**
 * A seeder that is an edge, and a line to it over which some things do not come: all media, if nothing else is said.
 * @param {import("./lib/bed.mjs").Bed} bed
 * @param {boolean} signed
 */
async function brokenSite(bed, signed, cut = MEDIA) {
  const media = await bed.media({ seconds: 12 });
  const { file, key } = await siteKey(media);
  const args = ["--edge-port", "0", ...(signed ? ["--key", file] : [])];
  const { origin, video } = await bed.seeder(media, { args });
  // It has an id once it was asked for, and the edge is there a moment later.
  const id = await videoId(video);
  const edges = async () => (await scrape(origin)).sum("marea_signaling_peers", { kind: "edge" });
  await eventually("the edge to join", async () => (await edges()) === 1);
  let refused = 0;
  const line = createServer(async (request, response) => {
    const path = request.url ?? "/";
    if (cut.test(path)) {
      refused += 1;
      request.socket.destroy();
      return;
    }
    const answer = await fetch(origin + path);
    response.writeHead(answer.status, { "access-control-allow-origin": "*", "cache-control": "no-store" });
    response.end(Buffer.from(await answer.arrayBuffer()));
  });
  await new Promise((resolve) => line.listen(0, "127.0.0.1", () => resolve(undefined)));
  bed.keep(line, () => (line.closeAllConnections(), line.close()));
  const { port } = /** @type {import("node:net").AddressInfo} */ (line.address());
  const page = (/** @type {Record<string, string>} */ attributes) => ({
    script: `${origin}/marea.js`,
    attributes: { "data-signaling": `${origin.replace("http", "ws")}/signal`, ...attributes },
    videos: [{ src: `http://127.0.0.1:${port}/videos/${media.name}/master.m3u8` }],
  });
  const sent = async () =>
    (await scrape(origin)).sum("marea_seeder_sent_bytes_total", { via: "webrtc", kind: ["segment", "init"] });
  return { media, id, key, origin, page, sent, refused: () => refused };
}

/** The film came from the edge alone, and rightly. @param {any} viewer @param {any} media */
async function playedFromEdge(viewer, media) {
  const shot = await watched(viewer, media);
  const { edge, http, viewers, mirrors } = totals([shot]);
  assert.deepEqual({ http, viewers, mirrors }, { http: 0, viewers: 0, mirrors: 0 });
  assert.ok(edge > 0);
  return { shot, edge };
}

/**
 * Somebody who joins as edge, as any program on the server's machine may, and answers every offer without the site's key.
 * @param {import("./lib/bed.mjs").Bed} bed
 * @param {string} signaling
 * @param {string} video
 */
async function strangerAsEdge(bed, signaling, video) {
  const udp = createSocket("udp4");
  await new Promise((resolve) => udp.bind(0, () => resolve(undefined)));
  bed.keep(udp, () => udp.close());
  let packets = 0;
  udp.on("message", () => (packets += 1));
  const addresses = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  const candidates = addresses
    .filter(({ family }) => family === "IPv4")
    .map(({ address }, at) => `candidate:${at} 1 udp ${2 ** 30 + at} ${address} ${udp.address().port} typ host`);
  const key = Buffer.alloc(32, 9).toString("base64url");
  const sdp = [
    ...["v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0"],
    ...["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", "a=mid:0"],
    ...["a=ice-ufrag:abcd", `a=ice-pwd:${"x".repeat(24)}`, `a=fingerprint:sha-256 ${Array(32).fill("AB").join(":")}`],
    ...["a=setup:active", "a=sctp-port:5000", ...candidates.map((candidate) => `a=${candidate}`)],
    ...[`a=marea-edge:${key}.${Buffer.alloc(64, 9).toString("base64url")}`, ""],
  ].join("\r\n");
  const socket = new WebSocket(signaling);
  bed.keep(socket, () => socket.terminate());
  /** @type {string[]} */
  const heard = [];
  /** @type {any[]} */
  const offers = [];
  const say = (/** @type {object} */ message) => socket.send(JSON.stringify({ video, ...message }));
  socket.on("open", () => say({ type: "join", v: 1, kind: "edge", want: 8, connected: [] }));
  socket.on("message", (data) => {
    const message = JSON.parse(`${data}`);
    heard.push(message.type);
    if (message.type !== "offer") return;
    offers.push(message);
    const to = { to: message.from, conn: message.conn };
    say({ type: "answer", ...to, sdp });
    for (const candidate of candidates) say({ type: "candidate", ...to, candidate: { candidate, sdpMLineIndex: 0 } });
  });
  await eventually("the stranger to join", () => heard.includes("joined"));
  return { packets: () => packets, offers, heard };
}

inPairs("the server as a peer", () => {
  scenario(
    "a page whose server refuses all media plays from its edge",
    async (bed) => {
      const { media, page, sent, refused } = await brokenSite(bed, false);
      const viewer = await bed.viewer(page({}));
      await viewer.play();
      const { shot, edge } = await playedFromEdge(viewer, media);
      nothingRejected(shot, viewer.name);
      const kinds = shot.sessions[0].stats.peers.map((/** @type {{ kind: string }} */ { kind }) => kind);
      assert.deepEqual(kinds, ["edge"]);
      assert.ok(refused() > 0, "the server was asked first");
      assert.equal(await sent(), edge, "bytes that the seeder counts");
      bed.say(`${(edge / 1e6).toFixed(2)} MB from the edge; ${refused()} requests were refused`);
    },
    { timeout: 60_000 },
  );

  scenario(
    "a page whose server answers nothing by HTTP gets playlists and film from its edge",
    async (bed) => {
      const { media, id, key, page } = await brokenSite(bed, true, /./);
      const { videos, ...rest } = page({ "data-p2p-peers": "edge", "data-public-key": key });
      const named = videos.map(({ src }) => ({ src, attributes: { "data-marea-video-id": id } }));
      const viewer = await bed.viewer({ ...rest, videos: named });
      await viewer.play();
      const { shot, edge } = await playedFromEdge(viewer, media);
      nothingRejected(shot, viewer.name);
      const { startupMs } = shot.sessions[0].stats.playback;
      bed.say(`${(edge / 1e6).toFixed(2)} MB from the edge, first picture after ${Math.round(startupMs)} ms`);
    },
    { timeout: 60_000 },
  );

  scenario(
    "who meets edges only meets those that the site has signed, and shows itself to nobody else",
    async (bed) => {
      const { media, id, key, origin, page } = await brokenSite(bed, true);
      const signaling = `${origin.replace("http", "ws")}/signal`;
      const { output: video } = await run(program("marea-signaling"), ["announce-id", "--", id]);
      const unpinned = await bed.viewer(page({ "data-p2p-peers": "edge" }), { name: "without a key" });
      await unpinned.play();
      await unpinned.reason("signature-invalid");
      assert.deepEqual(unpinned.sockets, []);
      await unpinned.close();

      const stranger = await strangerAsEdge(bed, signaling, video);
      const viewer = await bed.viewer(page({ "data-p2p-peers": "edge", "data-public-key": key }), { name: "shy" });
      /** @type {any[]} */
      const said = [];
      viewer.devtools.on("Network.webSocketFrameSent", ({ response }) => said.push(JSON.parse(response.payloadData)));
      await viewer.play();
      await viewer.until("the stranger to be refused", () =>
        [...window.Marea.sessions][0].stats().peers.some(({ state }) => state === "banned"),
      );
      await viewer.playedTo(3);
      assert.equal(stranger.offers.length, 1);
      assert.equal(stranger.packets(), 0, "packets to whom the site has not signed");
      assert.ok(!stranger.heard.includes("candidate"), `${stranger.heard}`);

      // The same answer does bring packets of a viewer who meets everybody, and that one is not told of the other.
      const other = await bed.viewer(page({ "data-public-key": key }), { name: "open to all" });
      await other.play();
      await eventually("packets of the other viewer", () => stranger.packets() > 0, 20_000);
      const { shot } = await playedFromEdge(viewer, media);
      const peers = shot.sessions[0].stats.peers.map((/** @type {any} */ { kind, state }) => `${kind} ${state}`);
      assert.deepEqual(peers.sort(), ["edge banned", "edge open"], "no viewer");
      const errors = shot.events.filter((/** @type {any} */ { type }) => type === "error");
      assert.ok(errors.some((/** @type {any} */ { detail }) => detail.code === "signature-invalid"));
      // It has told nobody an address, the edge included.
      const types = said.map(({ type }) => type);
      assert.ok(types.includes("offer") && !types.includes("candidate") && !types.includes("answer"), `${types}`);
      for (const { sdp } of said.filter(({ type }) => type === "offer")) {
        assert.doesNotMatch(sdp, /a=candidate|c=IN IP[46] (?!0\.0\.0\.0)/);
      }
    },
    { timeout: 60_000 },
  );
});
