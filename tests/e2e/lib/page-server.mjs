// Serves the pages of viewers. Run by itself (`node page-server.mjs ADDRESS`, pages as JSON on stdin) it serves from
// within another network namespace.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import * as paths from "./paths.mjs";

/**
 * A page with one or more videos.
 * @typedef {object} Page
 * @property {string} [script] URL of marea.js; absent: a page that does not know of it.
 * @property {Record<string, string>} [attributes] Of the script tag.
 * @property {{ id?: string, src?: string, attributes?: Record<string, string> }[]} videos
 * @property {Record<string, unknown>} [ownPlayer] The page has its own hls.js with this configuration instead of `src`;
 *   `fixedLevel` is a rendition that it stays at.
 * @property {string} [csp]
 * @property {string} [before] URL path of a further script before all others.
 */

/** @param {Page} page */
export function html({ script, attributes = {}, videos, ownPlayer, before }) {
  const attribute = ([name, value]) => ` ${name}="${escape(value)}"`;
  const list = (/** @type {Record<string, string>} */ all) => Object.entries(all).map(attribute).join("");
  /** @type {(video: Page["videos"][number], index: number) => string} */
  const video = ({ id, src, attributes: own = {} }, index) =>
    `<video id="${id ?? `v${index}`}" preload="none" width="320" height="180" controls playsinline` +
    `${src && !ownPlayer ? attribute(["src", src]) : ""}${src && ownPlayer ? attribute(["data-source", src]) : ""}${list(own)}></video>`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A page with a video</title>
<link rel="icon" href="data:,">
${before ? `<script src="${before}"></script>` : ""}
${ownPlayer ? `<script src="/hls.js"></script>` : ""}
${script ? `<script src="${escape(script)}" defer${list(attributes)}></script>` : ""}
<body>
${videos.map(video).join("\n")}
${ownPlayer ? `<script src="/own-player.js" data-config="${escape(JSON.stringify(ownPlayer))}" defer></script>` : ""}
</body>
</html>
`;
}

/** @param {string} text */
function escape(text) {
  return text.replace(/[&"<>]/g, (char) => `&#${char.charCodeAt(0)};`);
}

/** What a site's own player script does. */
const OWN_PLAYER = `
const { fixedLevel, ...config } = JSON.parse(document.currentScript.dataset.config);
window.__players = [...document.querySelectorAll("video")].map((video) => {
  const player = new Hls(config);
  if (fixedLevel !== undefined) player.once("hlsManifestParsed", () => (player.loadLevel = fixedLevel));
  player.attachMedia(video);
  let loaded = false;
  const load = () => { if (!loaded) { loaded = true; player.loadSource(video.dataset.source); } };
  if (config.autoStartLoad === false) load(); else video.addEventListener("play", load, { once: true });
  return player;
});
`;

/** A browser without WebRTC, as some companies configure theirs. */
const NO_WEBRTC = `
delete window.RTCPeerConnection;
delete window.webkitRTCPeerConnection;
delete window.RTCDataChannel;
`;

/**
 * @param {string} [host]
 * @param {number} [port]
 */
export async function startPageServer(host = "127.0.0.1", port = 0) {
  /** @type {Map<string, { body: string | Buffer, headers: Record<string, string> }>} */
  const served = new Map();
  const script = { "content-type": "text/javascript" };
  served.set("/hls.js", { body: await readFile(paths.hlsScript()), headers: script });
  served.set("/own-player.js", { body: OWN_PLAYER, headers: script });
  served.set("/no-webrtc.js", { body: NO_WEBRTC, headers: script });
  const server = createServer((request, response) => {
    const found = served.get((request.url ?? "").split("?")[0]);
    response.writeHead(found ? 200 : 404, { "cache-control": "no-store", ...found?.headers });
    response.end(found?.body);
  });
  await new Promise((resolve) => server.listen(port, host, () => resolve(undefined)));
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  const origin = `http://${host}:${address.port}`;
  let pages = 0;
  return {
    origin,
    /** Publishes a page; its URL. @param {Page} page */
    add(page) {
      const path = `/page-${(pages += 1)}`;
      const headers = {
        "content-type": "text/html; charset=utf-8",
        ...(page.csp && { "content-security-policy": page.csp }),
      };
      served.set(path, { body: html(page), headers });
      return origin + path;
    },
    close() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [host, port] = process.argv[2].split(":");
  const server = await startPageServer(host, Number(port));
  for (const page of JSON.parse(process.argv[3])) server.add(page);
  console.log(`listening on ${server.origin}`);
}
