// A live stream as a small site runs it: ffmpeg writes a sliding window of segments into a folder and deletes what has left
// it. The footage is ready-made and only cut anew, which costs next to nothing: the machine's time is the viewers'.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { WrongBytes } from "./expect.mjs";
import { fileOf } from "./media.mjs";
import * as paths from "./paths.mjs";
import { run, start } from "./process.mjs";
import { eventually, pause } from "./wait.mjs";

/** How often the folder is looked at, in ms: far more often than anything is deleted. */
const WATCH_MS = 40;

/**
 * How the stream is cut.
 * @typedef {object} Cut
 * @property {"fmp4" | "ts"} [type] fMP4 with sound of its own, or MPEG-TS with both in one.
 * @property {number} [segment] Seconds per segment, a multiple of 2.
 * @property {number} [window] Segments in the playlist.
 */

/**
 * A live stream. It can stand where tests expect `Media`.
 * @param {import("./bed.mjs").Bed} bed
 * @param {Cut & { encode?: boolean }} [options] `encode: false` leaves the folder empty.
 */
export async function liveStream(bed, { encode = true, ...cut } = {}) {
  const root = await mkdtemp(join(tmpdir(), "marea-live-"));
  const stream = bed.keep(new LiveStream(root, cut), () => stream.close());
  if (encode) await stream.encode();
  return stream;
}

export class LiveStream {
  name = "live";
  /** SHA-256 of everything that was ever listed, by path below `dir`: several if it was replaced. @type {Map<string, Set<string>>} */
  versions = new Map();
  /** Names of segments of the first rendition in the order in which they were listed; again if they are listed anew. @type {string[]} */
  listings = [];
  /** @type {import("./process.mjs").Program | null} */
  encoder = null;
  /** What was seen of each file, so that only changed ones are read. @type {Map<string, string>} */
  #seen = new Map();
  #watching = true;

  /** @param {string} root @param {Cut} cut */
  constructor(root, { type = "fmp4", segment = 2, window = 8 }) {
    this.root = root;
    this.dir = join(root, this.name);
    this.type = type;
    this.segment = segment;
    this.window = window;
    this.watched = this.#watch();
  }

  /** Media playlists below `dir`; the first decides what `listings` says. */
  get playlists() {
    return this.type === "fmp4" ? ["360p/index.m3u8", "audio/index.m3u8"] : ["main/index.m3u8"];
  }

  /**
   * Starts the encoder, which begins at the film's begin.
   * @param {{ append?: boolean }} [options] `append`: it goes on with the playlist that it finds, after a discontinuity.
   */
  async encode({ append = false } = {}) {
    const clip = await joinFootage(this.root);
    await mkdir(this.dir, { recursive: true });
    const flags = `delete_segments+program_date_time+independent_segments${append ? "+append_list" : ""}`;
    const fmp4 = this.type === "fmp4";
    const streams = fmp4 ? "v:0,agroup:a,name:360p a:0,agroup:a,default:yes,name:audio" : "v:0,a:0,name:main";
    const words =
      `-nostdin -loglevel warning -y -re -stream_loop -1 -i ${clip} -map 0:v -map 0:a -c copy -f hls ` +
      `-hls_time ${this.segment} -hls_list_size ${this.window} -hls_delete_threshold 3 -hls_flags ${flags} ` +
      `-hls_segment_type ${fmp4 ? "fmp4" : "mpegts"} -hls_segment_filename %v/%06d.${fmp4 ? "m4s" : "ts"} ` +
      `-hls_fmp4_init_filename init.mp4 -master_pl_name master.m3u8`;
    const args = [...words.split(" "), "-var_stream_map", streams, "%v/index.m3u8"];
    this.encoder = await start("ffmpeg", args, { ready: null, cwd: this.dir });
    return this.encoder;
  }

  /** Kills the encoder as a crash does: nothing is finished. */
  async kill() {
    await this.encoder?.stop("SIGKILL");
  }

  /** Waits until `count` segments were listed in all. @param {number} count */
  listed(count) {
    return eventually(`${count} segments listed`, () => this.listings.length >= count, 60_000 + count * 8_000);
  }

  /** Waits for the moment at which the next segment is listed, so that viewers join in step with the encoder. */
  nextListing() {
    return this.listed(this.listings.length + 1);
  }

  /**
   * What the player was given is what once was listed under that name.
   * @param {any} shot
   * @param {string} who
   * @returns {string[]} Names below `dir` in the order of delivery.
   */
  rightBytes(shot, who) {
    assert.ok(shot.delivered.length > 0, `${who}: nothing was delivered to the player`);
    return shot.delivered.map((entry) => {
      const name = relative(this.dir, fileOf(/** @type {any} */ (this), entry.url));
      const known = this.versions.get(name);
      assert.ok(known, `${who}: ${name} was delivered and never listed`);
      if (!known.has(entry.sha256)) {
        throw new WrongBytes(`${who}: ${name} has other bytes (${entry.bytes}) than the file had`);
      }
      return name;
    });
  }

  /** No two segments are equal: that would make sharing look better than it is. */
  allDiffer() {
    /** @type {Map<string, string>} */
    const names = new Map();
    for (const [name, hashes] of this.versions) {
      for (const hash of hashes) {
        assert.ok(!names.has(hash), `${name} and ${names.get(hash)} are equal`);
        names.set(hash, name);
      }
    }
    return names.size;
  }

  async close() {
    this.#watching = false;
    await this.watched;
    await this.encoder?.stop("SIGKILL");
    await rm(this.root, { recursive: true, force: true });
  }

  /** Writes down what is listed, before it is deleted. */
  async #watch() {
    /** @type {string[]} */
    let window = [];
    for (; this.#watching; await pause(WATCH_MS)) {
      for (const [index, playlist] of this.playlists.entries()) {
        const text = await this.#changed(playlist, (bytes) => bytes.toString());
        if (text === null) continue;
        const folder = dirname(playlist);
        const uris = text.split("\n").filter((line) => line && !line.startsWith("#"));
        const maps = [...text.matchAll(/^#EXT-X-MAP:.*URI="([^"]+)"/gm)].map(([, uri]) => uri);
        for (const uri of [...maps, ...uris]) await this.#note(join(folder, uri.split("?")[0]));
        if (index > 0) continue;
        this.listings.push(...uris.filter((uri) => !window.includes(uri)).map((uri) => join(folder, uri)));
        window = uris;
      }
    }
  }

  /** @param {string} name */
  async #note(name) {
    const hash = await this.#changed(name, (bytes) => createHash("sha256").update(bytes).digest("hex"));
    if (hash === null) return;
    const known = this.versions.get(name);
    if (known) known.add(hash);
    else this.versions.set(name, new Set([hash]));
  }

  /**
   * Reads a file if it has changed since the last time; null if not, or if it is not there.
   * @template T
   * @param {string} name
   * @param {(bytes: Buffer) => T} read
   */
  async #changed(name, read) {
    const file = join(this.dir, name);
    try {
      const { mtimeMs, size, ino } = await stat(file);
      const key = `${mtimeMs} ${size} ${ino}`;
      if (this.#seen.get(name) === key) return null;
      const value = read(await readFile(file));
      this.#seen.set(name, key);
      return value;
    } catch {
      return null;
    }
  }
}

/**
 * The light footage in one file, which ffmpeg can loop.
 * @param {string} folder Where it is put.
 */
export async function joinFootage(folder) {
  // No server takes it for media.
  const clip = join(folder, "clip.part");
  const words = `-nostdin -y -loglevel error -i ${join(paths.ladder("live"), "master.m3u8")} -c copy -f mp4 ${clip}`;
  const { code, output } = await run("ffmpeg", words.split(" "));
  if (code !== 0) throw new Error(`ffmpeg could not join the footage: ${output}`);
  return clip;
}

/**
 * Where a viewer is, read in its page at one moment.
 * @param {import("./browser.mjs").Viewer} viewer
 * @returns {Promise<{ hls: number, real: number, stats: number | null, time: number }>} Seconds behind the live edge by
 *   hls.js, behind the moment at which the picture was encoded, and by `stats()`; the playhead.
 */
export function whereIs(viewer) {
  return viewer.page.evaluate(() => {
    const player = window.__players?.[0] ?? window.__recorder.session(0).player;
    const video = /** @type {HTMLVideoElement} */ (document.getElementById("v0"));
    const ms = window.__recorder.session(0)?.stats().playback.latencyMs;
    return {
      hls: player.latency,
      real: player.playingDate ? (Date.now() - player.playingDate.getTime()) / 1000 : NaN,
      stats: typeof ms === "number" ? ms / 1000 : null,
      time: video.currentTime,
    };
  });
}

/** @param {number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
