// The footage of all scenarios: the first rendition of the demo's film (720p, 2 Mbit/s, 4 s), picture and sound in one
// segment, cut by ffmpeg without encoding. Sound of its own would only add small objects to every engine.

import { createHash } from "node:crypto";
import { existsSync, readdirSync, statSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as paths from "../e2e/lib/paths.mjs";
import { start } from "../e2e/lib/process.mjs";
import { eventually } from "../e2e/lib/wait.mjs";

export const SEGMENT_SECONDS = 4;
export const VOD_SECONDS = 60;
/** Segments in the live playlist. */
export const WINDOW = 10;

/** Folder of the video below the served root. */
export const NAME = "film";

const HLS = `-map 0:v:0 -map 0:a:0 -c copy -f hls -hls_time ${SEGMENT_SECONDS} -hls_segment_type fmp4 -master_pl_name master.m3u8`;
const FLAGS = "-hls_flags independent_segments";

/** ffmpeg's options after the input, by layout. */
const CUTS = {
  files: `${HLS} ${FLAGS} -hls_playlist_type vod -hls_segment_filename %03d.m4s -hls_fmp4_init_filename init.mp4`,
  // PeerTube's layout.
  ranges: `${HLS} ${FLAGS}+single_file -hls_playlist_type vod -hls_segment_filename film.mp4`,
  live:
    `${HLS} ${FLAGS}+delete_segments+program_date_time -hls_list_size ${WINDOW} -hls_delete_threshold 3 ` +
    `-hls_segment_filename %06d.m4s -hls_fmp4_init_filename init.mp4`,
};

/** @param {string} options */
const words = (options) => options.split(" ");

/**
 * A folder to serve. `segmentBytes()` is what one copy of its segments weighs; `truth` says whether bytes that a player
 * was given are the file's; `close` removes it.
 * @typedef {object} Footage
 * @property {string} root
 * @property {boolean} live
 * @property {() => { name: string, time: number, bytes: number }[]} segments When each was finished (ms, Unix; 0 for VOD), and
 *   its size.
 * @property {(path: string, range: { start: number, end: number } | null, sha256: string) => boolean} truth
 * @property {() => Promise<void>} close
 */

/** The film as one file, so that every layout is cut from the same bytes. @param {string} folder */
async function film(folder) {
  const file = join(folder, "film.mp4");
  const master = join(paths.ladder("demo/bigbuckbunny"), "master.m3u8");
  await ffmpeg(folder, words(`-i ${master} -map 0:v:0 -map 0:a:0 -c copy -f mp4 ${file}`));
  return file;
}

/** @param {string} cwd @param {string[]} args */
async function ffmpeg(cwd, args) {
  const program = await start("ffmpeg", [...words("-nostdin -loglevel error -y"), ...args], { ready: null, cwd });
  const code = await program.exited;
  if (code !== 0) throw new Error(`ffmpeg ended with ${code}:\n${program.lines.join("\n")}`);
}

/** @param {"files" | "ranges"} layout @returns {Promise<Footage>} */
export async function vod(layout) {
  const root = await mkdtemp(join(tmpdir(), "marea-bench-"));
  const source = await mkdtemp(join(tmpdir(), "marea-film-"));
  const dir = join(root, NAME);
  await mkdir(dir);
  try {
    const input = await film(source);
    // ffmpeg cuts by decoding time, which runs ahead: without a bit less a lone frame becomes a segment of its own.
    await ffmpeg(dir, words(`-i ${input} -t ${VOD_SECONDS - 0.1} ${CUTS[layout]} index.m3u8`));
  } finally {
    await rm(source, { recursive: true, force: true });
  }
  const files = new Map();
  for (const name of readdirSync(dir)) if (/\.(mp4|m4s)$/.test(name)) files.set(name, await readFile(join(dir, name)));
  const playlist = await readFile(join(dir, "index.m3u8"), "utf8");
  const segments =
    layout === "ranges"
      ? [...playlist.matchAll(/^#EXT-X-BYTERANGE:(\d+)/gm)].map(([, size]) => ({
          name: "film.mp4",
          bytes: Number(size),
        }))
      : [...files].flatMap(([name, { length }]) => (name.endsWith(".m4s") ? [{ name, bytes: length }] : []));
  return {
    root,
    live: false,
    segments: () => segments.map((segment) => ({ ...segment, time: 0 })),
    truth(path, range, sha256) {
      const bytes = files.get(path.split("/").pop());
      return bytes !== undefined && hash(range ? bytes.subarray(range.start, range.end) : bytes) === sha256;
    },
    close: () => rm(root, { recursive: true, force: true }),
  };
}

/** A running encoder whose window is full. @returns {Promise<Footage>} */
export async function live() {
  const root = await mkdtemp(join(tmpdir(), "marea-bench-"));
  const source = await mkdtemp(join(tmpdir(), "marea-film-"));
  const dir = join(root, NAME);
  await mkdir(dir);
  const input = await film(source);
  const args = words(`-nostdin -loglevel warning -y -re -i ${input} ${CUTS.live} index.m3u8`);
  const encoder = await start("ffmpeg", args, { ready: null, cwd: dir });
  /** @type {Map<string, { time: number, bytes: number, sha256: string }>} */
  const seen = new Map();
  // ffmpeg lists a segment when it is finished, and deletes it 13 segments later.
  const watch = setInterval(() => void look().catch(() => {}), 500);
  async function look() {
    const listed = (await readFile(join(dir, "index.m3u8"), "utf8")).match(/^\d+\.m4s$/gm) ?? [];
    const init = existsSync(join(dir, "init.mp4")) ? ["init.mp4"] : [];
    for (const name of [...init, ...listed]) {
      if (seen.has(name)) continue;
      const bytes = await readFile(join(dir, name));
      seen.set(name, { time: statSync(join(dir, name)).mtimeMs, bytes: bytes.length, sha256: hash(bytes) });
    }
  }
  await eventually(`${WINDOW} live segments`, () => seen.size > WINDOW, 90_000);
  return {
    root,
    live: true,
    segments: () =>
      [...seen].flatMap(([name, { time, bytes }]) => (name === "init.mp4" ? [] : [{ name, time, bytes }])),
    truth: (path, _, sha256) => seen.get(path.split("/").pop() ?? "")?.sha256 === sha256,
    async close() {
      clearInterval(watch);
      await encoder.stop("SIGKILL");
      for (const folder of [root, source]) await rm(folder, { recursive: true, force: true });
    },
  };
}

/** @param {Buffer} bytes */
function hash(bytes) {
  return createHash("sha256").update(bytes).digest("hex");
}
