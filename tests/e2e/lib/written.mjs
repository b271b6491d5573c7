// A live stream on a plain web server whose playlist the test writes itself, segment by segment, with the tags that `annotate`
// made. So anything can go wrong with it at a chosen segment.

import { createHash, randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { joinFootage, LiveStream } from "./live.mjs";
import { run } from "./process.mjs";

/** Seconds per segment. */
const SEGMENT = 2;

/** Segments of footage in the playlist. */
const WINDOW = 6;

/** Segments that are ready, more than any test plays. */
const READY = 60;

/**
 * @param {import("./bed.mjs").Bed} bed
 * @param {Partial<Shape>} [shape]
 */
export async function writtenStream(bed, shape = {}) {
  const root = await mkdtemp(join(tmpdir(), "marea-written-"));
  const stream = bed.keep(new WrittenStream(root, { past: 0, future: null, ...shape }), () => stream.close());
  await stream.prepare(bed);
  return stream;
}

/**
 * What the playlist lists beside the footage: segments that are named and tagged like others, byte ranges of one file, but
 * that nobody ever plays.
 * @typedef {object} Shape
 * @property {number} past Before it: how far back viewers may seek.
 * @property {number | null} future After it; then it is a film and not live. Null: live.
 */

export class WrittenStream {
  name = "live";
  /** SHA-256 of everything that a segment ever was, by name. @type {Map<string, Set<string>>} */
  versions = new Map();
  /** Segments below this number are listed. */
  head = WINDOW;
  /** Called for each segment before it is listed, by number. @type {Map<number, (file: string) => Promise<void>>} */
  faults = new Map();
  /** The playlist stays as it is. */
  stuck = false;
  /** Lines before the first segment. @type {string[]} */
  #top = [];
  /** Lines of each segment, its name last. @type {string[][]} */
  #blocks = [];
  #began = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #clock;
  /** What the clock has begun. @type {Promise<void>} */
  #steps = Promise.resolve();

  /** @param {string} root @param {Shape} shape */
  constructor(root, { past, future }) {
    this.root = root;
    this.past = past;
    this.future = future;
    this.unplayed = Array.from({ length: past + (future ?? 0) }, (_, at) => {
      const tag = `#EXT-X-MAREA-SEGMENT:SIZE=4096,BLAKE3=${randomBytes(32).toString("base64url")}`;
      return [tag, `#EXTINF:${SEGMENT}.000,`, `#EXT-X-BYTERANGE:4096@${at * 4096}`, "unplayed.ts"];
    });
    this.dir = join(root, this.name);
  }

  /** Cuts and tags the segments, starts the servers, and the playlist. @param {import("./bed.mjs").Bed} bed */
  async prepare(bed) {
    await mkdir(this.dir);
    const words =
      `-nostdin -loglevel error -stream_loop -1 -i ${await joinFootage(this.root)} -map 0:v -map 0:a ` +
      `-c copy -t ${READY * SEGMENT} -f hls -hls_time ${SEGMENT} -hls_playlist_type vod ` +
      `-hls_segment_filename ${this.dir}/%03d.ts ${this.dir}/film.m3u8`;
    const { code, output } = await run("ffmpeg", words.split(" "));
    if (code !== 0) throw new Error(`ffmpeg could not cut the footage: ${output}`);
    const signaling = await bed.signaling();
    await bed.annotate(this.root, ["--signaling", signaling.url]);
    const lines = (await readFile(join(this.dir, "film.m3u8"), "utf8")).split("\n");
    /** @type {string[]} */
    let block = [];
    for (const line of lines) {
      if (/^#EXT(INF|-X-MAREA-SEGMENT)/.test(line)) block.push(line);
      else if (/^#EXT-X-MAREA:/.test(line)) this.#top.push(line);
      else if (/\.ts$/.test(line)) {
        this.#blocks.push([...block, line]);
        block = [];
        await this.note(line);
      }
    }
    const script = await bed.engineInto(this.root);
    const web = await bed.nginx(this.root);
    this.script = web.origin + script;
    this.video = `${web.origin}/${this.name}/live.m3u8`;
    this.#began = Date.now() - WINDOW * SEGMENT * 1000;
    await this.#write();
    // One after the other, however long the disk takes.
    const step = () => (this.#steps = this.#steps.then(() => this.#step()));
    if (this.future === null) this.#clock = setInterval(step, SEGMENT * 1000);
  }

  /** When a segment was "filmed", in ms of `Date.now()`. @param {number} number */
  time(number) {
    return this.#began + number * SEGMENT * 1000;
  }

  /** Writes down what a segment is now. @param {string} name */
  async note(name) {
    const hash = createHash("sha256")
      .update(await readFile(join(this.dir, name)))
      .digest("hex");
    const known = this.versions.get(name);
    if (known) known.add(hash);
    else this.versions.set(name, new Set([hash]));
  }

  /** Takes a segment away, for `ms`. @param {number} number @param {number} ms */
  missing(number, ms) {
    this.faults.set(number, async (file) => {
      await rename(file, `${file}.late`);
      setTimeout(() => void rename(`${file}.late`, file).catch(() => {}), ms);
    });
  }

  /**
   * Puts another segment in the place of one whose tag is written, `ms` after it is listed: the same pictures, and the
   * name of the film's maker, which is in every segment, written otherwise.
   * @param {number} number @param {number} ms
   */
  replaced(number, ms) {
    this.faults.set(number, async (file) => {
      const other = Buffer.from((await readFile(file)).toString("latin1").replaceAll("FFmpeg", "Marea!"), "latin1");
      const put = async () => {
        await writeFile(`${file}.new`, other);
        await rename(`${file}.new`, file);
        await this.note(file.slice(this.dir.length + 1));
      };
      if (ms > 0) setTimeout(() => void put().catch(() => {}), ms);
      else await put();
    });
  }

  rightBytes = LiveStream.prototype.rightBytes;

  async close() {
    clearInterval(this.#clock);
    // The folder must not go while a playlist is being written into it.
    await this.#steps;
    await rm(this.root, { recursive: true, force: true });
  }

  async #step() {
    if (this.head === this.#blocks.length) return;
    this.head += 1;
    const name = this.#blocks[this.head - 1].at(-1) ?? "";
    await this.faults.get(this.head - 1)?.(join(this.dir, name));
    if (!this.stuck) await this.#write();
  }

  async #write() {
    const film = this.future !== null;
    const dated = this.#blocks.map((block, at) => [
      `#EXT-X-PROGRAM-DATE-TIME:${new Date(this.time(at)).toISOString()}`,
      ...block,
    ]);
    const all = film ? [...dated, ...this.unplayed] : [...this.unplayed, ...dated.slice(0, this.head)];
    const first = film ? 0 : this.head - WINDOW;
    const head = ["#EXTM3U", "#EXT-X-VERSION:4", `#EXT-X-TARGETDURATION:${SEGMENT}`, `#EXT-X-MEDIA-SEQUENCE:${first}`];
    const file = join(this.dir, "live.m3u8");
    const lines = [...head, ...this.#top, ...all.slice(first).flat(), ...(film ? ["#EXT-X-ENDLIST"] : []), ""];
    await writeFile(`${file}.new`, lines.join("\n"));
    await rename(`${file}.new`, file);
  }
}
