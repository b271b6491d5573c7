// The three engines on the same page with the same hls.js, each with the server that its users have.

import { build } from "esbuild";
import Tracker from "bittorrent-tracker/server";
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { startNginx } from "../e2e/lib/nginx.mjs";
import * as paths from "../e2e/lib/paths.mjs";
import { start } from "../e2e/lib/process.mjs";
import { eventually } from "../e2e/lib/wait.mjs";
import { NAME } from "./footage.mjs";

/**
 * hls.js's worker takes buffers away that p2p-media-loader 2.3.1 still shares (its players then die), so nobody has it.
 * All else is hls.js's default.
 */
const HLS_CONFIG = { enableWorker: false };

/** nginx compresses text as a site would have it; the seeder does so by itself. */
const COMPRESSED = "gzip on; gzip_types application/vnd.apple.mpegurl application/javascript;";

/**
 * A server that runs.
 * @typedef {object} Origin
 * @property {string} origin
 * @property {string} path Of the multivariant playlist.
 * @property {string} [tracker] Origin of WebSockets at `/announce`.
 * @property {() => Promise<void>} close
 */

/**
 * @typedef {object} Engine
 * @property {string} label
 * @property {(root: string) => Promise<Origin>} serve
 * @property {(origin: string) => Promise<{ script?: string, config: Record<string, unknown> }>} page The script of the
 *   engine, and the configuration of the page's hls.js; `origin` is the line's.
 * @property {() => Promise<number>} weight Bytes of its scripts and wasm, gzip.
 */

/** @param {string} root @returns {Promise<Origin>} */
async function nginx(root) {
  const server = await startNginx(root, COMPRESSED);
  return { origin: server.origin, path: `/${NAME}/master.m3u8`, close: server.close };
}

/** @type {Record<string, Engine>} */
export const ENGINES = {
  plain: {
    label: "plain hls.js",
    serve: nginx,
    page: async () => ({ config: HLS_CONFIG }),
    weight: async () => 0,
  },
  p2pml: {
    label: "p2p-media-loader",
    async serve(root) {
      await writeFile(join(root, "p2p-media-loader.js"), await p2pMediaLoader());
      const server = await nginx(root);
      const tracker = new Tracker({ udp: false, http: false, ws: true, stats: false });
      await new Promise((resolve, reject) => {
        tracker.once("error", reject);
        tracker.listen(0, "127.0.0.1", () => resolve(undefined));
      });
      return {
        ...server,
        tracker: `http://127.0.0.1:${tracker.ws.address().port}`,
        async close() {
          await new Promise((resolve) => tracker.close(() => resolve(undefined)));
          await server.close();
        },
      };
    },
    async page(origin) {
      // Its own defaults but for servers of third parties: tracker and STUN.
      const core = { announceTrackers: [`${origin.replace("http", "ws")}/announce`], rtcConfig: { iceServers: [] } };
      return { script: `${origin}/p2p-media-loader.js`, config: { ...HLS_CONFIG, p2p: { core } } };
    },
    weight: async () => gzipped(Buffer.from(await p2pMediaLoader())),
  },
  marea: {
    label: "Marea",
    async serve(root) {
      const seeder = join(paths.repo, "target/release/marea-seeder");
      const program = await start(seeder, ["serve", "--root", root, "--listen", "127.0.0.1:0"]);
      const origin = program.ready.replace(/^listening on /, "").replace(/\/$/, "");
      const path = `/videos/${NAME}/master.m3u8`;
      // A site has its videos hashed long before anybody watches.
      const media = `${origin}/videos/${NAME}/index.m3u8`;
      await eventually(
        "a tagged playlist",
        async () => {
          const text = await (await fetch(media)).text();
          const segments = (text.match(/^#EXTINF/gm) ?? []).length;
          return segments > 0 && (text.match(/^#EXT-X-MAREA-SEGMENT/gm) ?? []).length >= segments;
        },
        60_000,
      );
      return { origin, path, close: async () => void (await program.stop()) };
    },
    page: async (origin) => ({ script: `${origin}/marea.js`, config: HLS_CONFIG }),
    async weight() {
      const files = await Promise.all(["marea.js", "marea.wasm"].map((name) => readFile(paths.engine(name))));
      return files.reduce((sum, bytes) => sum + gzipped(bytes), 0);
    },
  },
};

/** @param {Buffer} bytes */
function gzipped(bytes) {
  return gzipSync(bytes, { level: 9 }).length;
}

/** @type {Promise<string> | null} */
let bundle = null;

/** p2p-media-loader as one script, as small as a site could make it. */
export function p2pMediaLoader() {
  bundle ??= build({
    entryPoints: [join(paths.repo, "tests/bench/p2p-media-loader.mjs")],
    bundle: true,
    minify: true,
    write: false,
    format: "iife",
    target: "es2022",
    legalComments: "none",
    // Its own bundle brings its own replacements of Node's modules.
    conditions: ["p2pml:core-as-bundle"],
    define: { global: "globalThis", "process.env.NODE_ENV": '"production"' },
  }).then(({ outputFiles }) => outputFiles[0].text);
  return bundle;
}

/** Versions of what is compared. */
export async function versions() {
  const require = createRequire(import.meta.url);
  const root = JSON.parse(await readFile(join(paths.repo, "package.json"), "utf8")).devDependencies;
  const cargo = await readFile(join(paths.repo, "Cargo.toml"), "utf8");
  return {
    marea: /^version = "([^"]+)"/m.exec(cargo)?.[1] ?? "",
    "hls.js": require("hls.js/package.json").version,
    "p2p-media-loader-hlsjs": root["p2p-media-loader-hlsjs"],
    "bittorrent-tracker": root["bittorrent-tracker"],
  };
}
