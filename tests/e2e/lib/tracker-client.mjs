// Pages that know nothing of Marea: npm's bittorrent-tracker client.

import { build } from "esbuild";
import * as paths from "./paths.mjs";

/** The npm client for pages, as `TrackerClient`. */
export async function trackerClient() {
  const entry = {
    contents: 'import Client from "bittorrent-tracker/client"; globalThis.TrackerClient = Client;',
    resolveDir: paths.repo,
  };
  const { outputFiles } = await build({
    stdin: entry,
    bundle: true,
    write: false,
    format: "iife",
    platform: "browser",
    // Node's module, which bundlers of pages replace by a package.
    alias: { events: "bare-events" },
    define: { global: "globalThis", "process.browser": "true" },
  });
  return outputFiles[0].text;
}

/** In a page: a client that keeps what it is told in `window.told`, and says hello to each peer. */
export function joinAs(/** @type {string} */ url, /** @type {string} */ name, /** @type {number} */ hash) {
  const { TrackerClient } = /** @type {any} */ (window);
  const told = {
    updates: /** @type {any[]} */ ([]),
    heard: /** @type {string[]} */ ([]),
    trouble: /** @type {string[]} */ ([]),
  };
  const client = new TrackerClient({
    infoHash: new Uint8Array(20).fill(hash),
    peerId: new TextEncoder().encode(name.padEnd(20, "-")),
    announce: [url],
    rtcConfig: { iceServers: [] },
  });
  client.on("update", (/** @type {any} */ data) => told.updates.push(data));
  client.on("warning", (/** @type {Error} */ error) => told.trouble.push(`warning: ${error.message}`));
  client.on("error", (/** @type {Error} */ error) => told.trouble.push(`error: ${error.message}`));
  client.on("peer", (/** @type {any} */ peer) => {
    peer.on("connect", () => peer.send(`hello from ${name}`));
    peer.on("data", (/** @type {Uint8Array} */ data) => told.heard.push(new TextDecoder().decode(data)));
    peer.on("error", () => {});
  });
  client.start();
  Object.assign(window, { told, client });
}
