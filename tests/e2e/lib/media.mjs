// Copies of test ladders, and the truth about their bytes.

import { createHash } from "node:crypto";
import { cp, mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join, normalize, relative } from "node:path";
import * as paths from "./paths.mjs";

/**
 * A served root with one video in it. Tests may change it as they like.
 * @typedef {object} Media
 * @property {string} root What a server serves.
 * @property {string} name Folder of the video below `root`.
 * @property {string} dir `root/name`.
 * @property {() => Promise<void>} close
 */

/**
 * Copies a ladder to a temporary folder.
 * @param {{ ladder?: string, name?: string, seconds?: number, root?: string }} [options] `seconds` keeps only the first
 *   segments; `root` puts it beside an earlier copy.
 * @returns {Promise<Media>}
 */
export async function copyLadder({ ladder = "vod60", name = "video", seconds, root } = {}) {
  const own = root === undefined;
  root ??= await mkdtemp(join(tmpdir(), "marea-media-"));
  const dir = join(root, name);
  // A ladder that was served from where it lies has an id already; each copy is to be a video of its own.
  await cp(paths.ladder(ladder), dir, { recursive: true, filter: (source) => basename(source) !== "marea.json" });
  if (seconds !== undefined) for (const file of await playlists(dir)) await shorten(join(dir, file), seconds);
  return { root, name, dir, close: async () => void (own && (await rm(root, { recursive: true, force: true }))) };
}

/** All files below a folder, as relative paths. @param {string} dir @returns {Promise<string[]>} */
export async function files(dir) {
  const found = [];
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) found.push(relative(dir, join(entry.parentPath ?? entry.path, entry.name)));
  }
  return found.sort();
}

/** @param {string} dir */
export async function playlists(dir) {
  return (await files(dir)).filter((file) => file.endsWith(".m3u8"));
}

/** Drops every segment that starts after `seconds`, and files that nothing names then. @param {string} file @param {number} seconds */
async function shorten(file, seconds) {
  const lines = (await readFile(file, "utf8")).split("\n");
  if (!lines.some((line) => line.startsWith("#EXTINF"))) return;
  const kept = [];
  const dropped = new Set();
  let time = 0;
  for (let i = 0; i < lines.length; i += 1) {
    const duration = /^#EXTINF:([\d.]+)/.exec(lines[i]);
    if (!duration) {
      kept.push(lines[i]);
      continue;
    }
    const uri = lines.findIndex((line, at) => at > i && line !== "" && !line.startsWith("#"));
    if (time < seconds) kept.push(...lines.slice(i, uri + 1));
    else dropped.add(lines[uri]);
    time += Number(duration[1]);
    i = uri;
  }
  await writeFile(file, kept.join("\n"));
  for (const uri of dropped) if (!kept.includes(uri)) await rm(join(dirname(file), uri));
}

/**
 * A segment of a media playlist on disk; `range` if it is only a part of the file.
 * @typedef {{ file: string, range: { start: number, end: number } | null, duration: number, bytes: number }} Segment
 */

/**
 * What a media playlist on disk names, for coverage and sizes.
 * @param {string} file
 * @returns {Promise<{ init: string | null, segments: Segment[] }>}
 */
export async function readPlaylist(file) {
  const lines = (await readFile(file, "utf8")).split("\n").map((line) => line.trim());
  const init = lines.map((line) => /^#EXT-X-MAP:.*URI="([^"]+)"/.exec(line)?.[1]).find(Boolean) ?? null;
  /** @type {Segment[]} */
  const segments = [];
  let duration = 0;
  /** @type {Segment["range"]} */
  let range = null;
  for (const line of lines) {
    const extinf = /^#EXTINF:([\d.]+)/.exec(line);
    const part = /^#EXT-X-BYTERANGE:(\d+)(?:@(\d+))?/.exec(line);
    if (extinf) duration = Number(extinf[1]);
    else if (part) {
      // Without a start it continues where the one before it ended.
      const start = Number(part[2] ?? segments.at(-1)?.range?.end ?? 0);
      range = { start, end: start + Number(part[1]) };
    } else if (line && !line.startsWith("#")) {
      const path = join(dirname(file), line.split("?")[0]);
      segments.push({ file: path, range, duration, bytes: range ? range.end - range.start : (await stat(path)).size });
      range = null;
    }
  }
  return { init: init && join(dirname(file), init), segments };
}

/**
 * Media playlists of a video by role.
 * @param {Media} media
 * @returns {Promise<{ video: string[], audio: string[], bandwidth: number[] }>} Absolute paths; `video` in the order of the
 *   multivariant playlist.
 */
export async function renditions(media) {
  // PeerTube puts an id before it.
  const master = (await readdir(media.dir)).find((name) => name.endsWith("master.m3u8")) ?? "master.m3u8";
  const lines = (await readFile(join(media.dir, master), "utf8")).split("\n").map((line) => line.trim());
  const video = [];
  const bandwidth = [];
  for (const [at, line] of lines.entries()) {
    const rate = /^#EXT-X-STREAM-INF:(?:.*,)?BANDWIDTH=(\d+)/.exec(line);
    if (!rate) continue;
    video.push(join(media.dir, lines.slice(at + 1).find((next) => next && !next.startsWith("#")) ?? ""));
    bandwidth.push(Number(rate[1]));
  }
  const audio = lines
    .map((line) => /^#EXT-X-MEDIA:.*TYPE=AUDIO.*URI="([^"]+)"/.exec(line)?.[1])
    .filter((uri) => uri !== undefined)
    .map((uri) => join(media.dir, /** @type {string} */ (uri)));
  return { video, audio, bandwidth };
}

/** Cache of hashes; keyed with the time of change since tests rewrite files. @type {Map<string, string>} */
const hashes = new Map();

/**
 * SHA-256 of a file or of its bytes `[start, end)`, as hex.
 * @param {string} file
 * @param {{ start: number, end: number } | null} [range]
 */
export async function sha256(file, range = null) {
  const { mtimeMs, size } = await stat(file);
  const key = JSON.stringify([file, mtimeMs, size, range]);
  let hash = hashes.get(key);
  if (hash === undefined) {
    const bytes = await readFile(file);
    hash = createHash("sha256")
      .update(range ? bytes.subarray(range.start, range.end) : bytes)
      .digest("hex");
    hashes.set(key, hash);
  }
  return hash;
}

/**
 * The file behind a media URL. Servers of the tests put `root` at `/videos/` (the seeder) or at `/` (nginx).
 * @param {Media} media
 * @param {string} url
 */
export function fileOf(media, url) {
  const path = decodeURIComponent(new URL(url).pathname).replace(/^\/videos\//, "/");
  const file = normalize(join(media.root, path));
  if (!file.startsWith(media.root)) throw new Error(`${url} is outside of ${media.root}`);
  return file;
}
