// Playlists written to be hard, over real footage: what people and packagers do, and what RFC 8216 (and its successor)
// allow. Each is a video of its own, in a folder of its own.

import { createCipheriv } from "node:crypto";
import { cp, mkdir, open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { readPlaylist } from "./media.mjs";
import * as paths from "./paths.mjs";

/**
 * One of them.
 * @typedef {object} Hard
 * @property {string} name What is hard about it.
 * @property {Record<string, string | Buffer | { at: number, bytes: Buffer }>} files In its folder; with `at` holes lie
 *   before its bytes. The player is given `index.m3u8`.
 * @property {string} [entry] What the player is given instead: a path from the folder, perhaps with a query. `FOLDER`
 *   in it is the folder's name.
 * @property {boolean} [blob] The player is given the text of `index.m3u8` as a `blob:` URL.
 * @property {(text: string, folder: string) => string} [after] Changes playlists after they were tagged: to what no tagger
 *   finds on its disk. `folder` is its own, from the root that is served.
 * @property {number} [until] A film that has no end is watched to this second.
 */

const PIECE = 65_536;

/** A place in a file that 32 bits do not count to. */
const FAR = 2 ** 32 + 12_345;

/** Segments of 4 s that each playlist takes from the film. */
const COUNT = 3;

/** The key of the encrypted ones. */
const KEY = Buffer.from("another 16 bytes");

/**
 * Copies the footage that the playlists name to `dir/media`, and writes each playlist to a folder beside it.
 * @param {string} dir
 * @param {string} other Where another host serves `dir`: a URL without a slash at its end.
 * @returns {Promise<{ list: (Hard & { path: string })[], finish: () => Promise<void> }>} `path`: of its entry in `dir`.
 *   `finish` does what is to be done after tagging.
 */
export async function writeHardPlaylists(dir, other) {
  const media = join(dir, "media");
  await mkdir(media, { recursive: true });
  for (const name of ["ts", "single", "groups"]) {
    await cp(join(paths.ladder(`light/${name}`)), join(media, name), { recursive: true });
  }
  const list = [];
  for (const [at, hard] of (await playlists(media, other)).entries()) {
    const folder = `${at + 1}`;
    for (const [name, content] of Object.entries(hard.files)) {
      const file = join(dir, folder, name);
      await mkdir(join(file, ".."), { recursive: true });
      if (typeof content === "string" || Buffer.isBuffer(content)) await writeFile(file, content);
      else await writeFar(file, content);
    }
    list.push({ ...hard, path: `${folder}/${(hard.entry ?? "index.m3u8").replace("FOLDER", folder)}` });
  }
  return {
    list,
    async finish() {
      for (const [at, { files, after }] of list.entries()) {
        for (const name of after ? Object.keys(files) : []) {
          const file = join(dir, `${at + 1}`, name);
          if (name.endsWith(".m3u8")) await writeFile(file, after?.(await readFile(file, "utf8"), `${at + 1}`) ?? "");
        }
      }
    },
  };
}

/** A file that takes little room and is long. @param {string} file @param {{ at: number, bytes: Buffer }} content */
async function writeFar(file, { at, bytes }) {
  const handle = await open(file, "w");
  await handle.write(bytes, 0, bytes.length, at);
  await handle.close();
}

/** Where servers of these playlists redirect from `DIR/moved/…` to `DIR/…`: an nginx location. */
export const MOVED = "location ~ ^/(\\w+)/moved/(.*)$ { return 302 /$1/$2$is_args$args; }";

/** @param {string} media @param {string} other @returns {Promise<Hard[]>} */
async function playlists(media, other) {
  const ts = await Promise.all(Array.from({ length: COUNT }, (_, i) => readFile(join(media, `ts/high/00${i}.ts`))));
  const high = await single(media, "high");
  const low = await single(media, "low");

  /** A media playlist. @param {string[]} lines @param {{ head?: string[], end?: string[] }} [options] */
  const list = (lines, { head = ["#EXT-X-VERSION:7"], end = ["#EXT-X-ENDLIST"] } = {}) =>
    ["#EXTM3U", "#EXT-X-TARGETDURATION:5", ...head, ...lines, ...end, ""].join("\n");
  /** Lines of the TS segments. @param {(name: string, at: number) => string[]} [entry] */
  const tsLines = (entry = (name) => ["#EXTINF:4,", `../media/ts/high/${name}`]) =>
    ts.flatMap((_, i) => entry(`00${i}.ts`, i));
  const plain = list(tsLines());
  /** A multivariant playlist. @param {string[]} lines */
  const master = (lines) => ["#EXTM3U", "#EXT-X-VERSION:7", ...lines, ""].join("\n");
  const variant = '#EXT-X-STREAM-INF:BANDWIDTH=600000,CODECS="avc1.42c00d,mp4a.40.2"';

  return [
    {
      name: "dots, queries and fragments in URLs",
      files: {
        "index.m3u8": list(
          tsLines((name, i) => ["#EXTINF:4,", `.././media/ts/../ts/./high/${name}?token=a%2Fb&n=${i}#t=${i}`]),
        ),
      },
    },
    {
      name: "names in unicode, percent signs, blanks and plus signs",
      files: {
        "ä ö ü.ts": ts[0],
        "映画 100% #2+3?.ts": ts[1],
        "Ω.ts": ts[2],
        "index.m3u8": list([
          "#EXTINF:4,",
          "ä ö ü.ts",
          "#EXTINF:4,",
          "%E6%98%A0%E7%94%BB%20100%25%20%232+3%3f.ts",
          "#EXTINF:4,",
          "./Ω.ts",
        ]),
      },
    },
    {
      name: "segments at another host",
      files: { "index.m3u8": plain },
      after: (text) => text.replaceAll(/^\.\.\/media/gm, `${other}/media`),
    },
    { name: "CRLF and a byte order mark", files: { "index.m3u8": `\ufeff${plain.replaceAll("\n", "\r\n")}` } },
    {
      name: "byte ranges without offsets after the first",
      files: {
        "index.m3u8": list([
          high.map,
          ...high.ranges.flatMap(({ start, length }, i) => [
            `#EXT-X-BYTERANGE:${length}${i === 0 ? `@${start}` : ""}`,
            "#EXTINF:4,",
            high.file,
          ]),
        ]),
      },
    },
    {
      name: "byte ranges of a transport stream in one file, back to front in the file",
      files: {
        "all.ts": Buffer.concat([...ts].reverse()),
        "index.m3u8": list(
          ts.flatMap((bytes, i) => [
            "#EXTINF:4,",
            `#EXT-X-BYTERANGE:${bytes.length}@${ts.slice(i + 1).reduce((sum, later) => sum + later.length, 0)}`,
            "all.ts",
          ]),
        ),
      },
    },
    {
      name: "byte ranges beyond 4 GiB",
      files: {
        "far.ts": { at: FAR, bytes: Buffer.concat(ts) },
        "index.m3u8": list(
          ts.flatMap((bytes, i) => [
            "#EXTINF:4,",
            `#EXT-X-BYTERANGE:${bytes.length}${i === 0 ? `@${FAR}` : ""}`,
            "far.ts",
          ]),
        ),
      },
    },
    {
      name: "redirects, of the playlist and of segments",
      entry: "../moved/FOLDER/index.m3u8",
      files: { "index.m3u8": plain },
      after: (text) => text.replaceAll(/^\.\.\/media/gm, "../moved/media"),
    },
    {
      name: "an init section in a file of its own, segments in ranges of another",
      files: {
        "start/init.mp4": high.init,
        "index.m3u8": list(['#EXT-X-MAP:URI="start/init.mp4"', ...high.lines]),
      },
    },
    {
      name: "an init section in the URL itself",
      files: {
        "index.m3u8": list([`#EXT-X-MAP:URI="data:video/mp4;base64,${high.init.toString("base64")}"`, ...high.lines]),
      },
    },
    {
      name: "variables: defined, from the query, and imported",
      entry: "index.m3u8?where=high&unused=1",
      files: {
        "index.m3u8": master([
          '#EXT-X-DEFINE:QUERYPARAM="where"',
          '#EXT-X-DEFINE:NAME="kind",VALUE="ts"',
          variant,
          "{$where}.m3u8?kind={$kind}",
        ]),
        "high.m3u8": list(
          tsLines((name) => ["#EXTINF:4,", `{$up}/{$kind}/{$where}/${name}`]),
          {
            head: [
              "#EXT-X-VERSION:11",
              '#EXT-X-DEFINE:QUERYPARAM="kind"',
              '#EXT-X-DEFINE:IMPORT="where"',
              '#EXT-X-DEFINE:NAME="up",VALUE="../media"',
            ],
          },
        ),
      },
    },
    {
      name: "a variable that is not defined",
      files: { "index.m3u8": list(tsLines((name) => ["#EXTINF:4,", `../media/{$nowhere}/${name}`])) },
    },
    {
      name: "a gap",
      files: {
        "index.m3u8": list(
          tsLines((name, i) => [
            "#EXTINF:4,",
            ...(i === 1 ? ["#EXT-X-GAP", "missing.ts"] : [`../media/ts/high/${name}`]),
          ]),
        ),
      },
    },
    {
      name: "version 12, tags that nobody knows, comments and blank lines everywhere",
      files: {
        "index.m3u8": list(
          tsLines((name, i) => [
            "# a comment",
            '#EXT-X-TOMORROW:A=1,B="two, three"',
            `#EXTINF:4.000,a title, with a comma and "quotes`,
            "",
            "#EXTREME nonsense",
            "## another",
            `#EXT-X-BITRATE:${500 + i}`,
            "   ",
            `  ../media/ts/high/${name}  `,
          ]),
          { head: ["", "# before", "#EXT-X-VERSION:12", "#EXT-X-INDEPENDENT-SEGMENTS", "#EXT-X-ALLOW-CACHE:YES"] },
        ),
      },
    },
    {
      name: "an event that has not ended",
      until: 11,
      files: { "index.m3u8": list(tsLines(), { head: ["#EXT-X-PLAYLIST-TYPE:EVENT"], end: [] }) },
    },
    {
      name: "a start in the middle",
      files: { "index.m3u8": list(tsLines(), { head: ["#EXT-X-START:TIME-OFFSET=5.2,PRECISE=YES"] }) },
    },
    {
      name: "dates and date ranges",
      files: {
        "index.m3u8": list(
          tsLines((name, i) => [
            `#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:${String(i * 4).padStart(2, "0")}.000+01:00`,
            ...(i === 1
              ? [
                  '#EXT-X-DATERANGE:ID="ad",START-DATE="2025-12-31T23:00:04Z",DURATION=2,X-A="b",SCTE35-OUT=0xFC002F',
                  "#EXT-OATCLS-SCTE35:/DAlAAA",
                ]
              : []),
            "#EXTINF:4,",
            `../media/ts/high/${name}`,
          ]),
        ),
      },
    },
    {
      name: "content steering to another host",
      files: {
        "steering.json": JSON.stringify({ VERSION: 1, TTL: 300, "PATHWAY-PRIORITY": ["far", "near"] }),
        "index.m3u8": master([
          '#EXT-X-CONTENT-STEERING:SERVER-URI="steering.json",PATHWAY-ID="far"',
          `${variant},PATHWAY-ID="near"`,
          "media.m3u8",
          `${variant},PATHWAY-ID="far"`,
          "media.m3u8?far",
        ]),
        "media.m3u8": plain,
      },
      after: (text, folder) => text.replace("media.m3u8?far", `${other}/${folder}/media.m3u8`),
    },
    {
      name: "codecs that no browser has, scores, and a rendition without any attribute",
      files: {
        "index.m3u8": master([
          '#EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS="xyz1.1,mp4a.40.2",SCORE=9.5,SUPPLEMENTAL-CODECS="dvh1.08.07/db4h"',
          "nowhere.m3u8",
          '#EXT-X-STREAM-INF:BANDWIDTH=700000,SCORE=1.0,CODECS="avc1.42c00d,mp4a.40.2",RESOLUTION=320x180,HDCP-LEVEL=NONE,ALLOWED-CPC="",STABLE-VARIANT-ID="a"',
          "media.m3u8",
        ]),
        "media.m3u8": plain,
      },
    },
    {
      name: "odd durations",
      files: {
        "index.m3u8": [
          "#EXTM3U",
          "#EXT-X-TARGETDURATION:4",
          "#EXTINF:4",
          "../media/ts/high/000.ts",
          "#EXTINF:3.99999999999999999,",
          "../media/ts/high/001.ts",
          "#EXTINF:   4.00001,\ttitle",
          "../media/ts/high/002.ts",
          "#EXT-X-ENDLIST",
        ].join("\n"),
      },
    },
    {
      name: "segments one byte under, at, and over a piece's border",
      files: {
        ...Object.fromEntries([-1, 0, 1].map((more, i) => [`${i}.m4s`, padded(high.segments[i], more)])),
        "init.mp4": high.init,
        "index.m3u8": list(['#EXT-X-MAP:URI="init.mp4"', ...[0, 1, 2].flatMap((i) => ["#EXTINF:4,", `${i}.m4s`])]),
      },
    },
    {
      name: "one rendition of sound in two groups",
      files: {
        "index.m3u8": master([
          '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="English",LANGUAGE="en",DEFAULT=YES,URI="audio.m3u8"',
          '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="b",NAME="English",LANGUAGE="en",DEFAULT=YES,URI="audio.m3u8"',
          `${variant},RESOLUTION=320x180,AUDIO="a"`,
          "high.m3u8",
          `${variant.replace("600000", "400000")},RESOLUTION=256x144,AUDIO="b"`,
          "low.m3u8",
        ]),
        "audio.m3u8": await part(media, "main-en"),
        "high.m3u8": await part(media, "high"),
        "low.m3u8": await part(media, "low"),
      },
    },
    {
      name: "one segment listed twice",
      files: {
        "index.m3u8": list([
          high.map,
          ...high.entry(0),
          "#EXT-X-DISCONTINUITY",
          high.map,
          ...high.entry(0),
          "#EXT-X-DISCONTINUITY",
          ...high.entry(1),
        ]),
      },
    },
    {
      name: "discontinuities between two init sections",
      files: {
        "index.m3u8": list(
          [
            high.map,
            ...high.entry(0),
            "#EXT-X-DISCONTINUITY",
            low.map,
            ...low.entry(0),
            "#EXT-X-DISCONTINUITY",
            high.map,
            ...high.entry(1),
          ],
          { head: ["#EXT-X-VERSION:7", "#EXT-X-MEDIA-SEQUENCE:4294967296", "#EXT-X-DISCONTINUITY-SEQUENCE:7"] },
        ),
      },
    },
    {
      name: "AES-128 with an IV, without one, and clear",
      files: {
        "film.key": KEY,
        "0.ts": encrypted(ts[0], Buffer.from("000102030405060708090a0b0c0d0e0f", "hex")),
        // Without an IV it is the media sequence number.
        "1.ts": encrypted(ts[1], Buffer.from("00000000000000000000000000000006", "hex")),
        "2.ts": ts[2],
        "index.m3u8": list(
          [
            '#EXT-X-KEY:METHOD=AES-128,URI="film.key",IV=0x000102030405060708090A0B0C0D0E0F',
            "#EXTINF:4,",
            "0.ts",
            '#EXT-X-KEY:METHOD=AES-128,KEYFORMAT="identity",KEYFORMATVERSIONS="1",URI="./film.key"',
            "#EXTINF:4,",
            "1.ts",
            "#EXT-X-KEY:METHOD=NONE",
            "#EXTINF:4,",
            "2.ts",
          ],
          { head: ["#EXT-X-VERSION:5", "#EXT-X-MEDIA-SEQUENCE:5"] },
        ),
      },
    },
    {
      name: "AES-128 of byte ranges",
      files: {
        "film.key": KEY,
        "all.ts": Buffer.concat(ts.map((bytes) => encrypted(bytes, Buffer.alloc(16, 7)))),
        "index.m3u8": list([
          `#EXT-X-KEY:METHOD=AES-128,URI="film.key",IV=0x${"07".repeat(16)}`,
          ...ts.flatMap((bytes, i) => [
            "#EXTINF:4,",
            `#EXT-X-BYTERANGE:${encryptedSize(bytes)}${i === 0 ? "@0" : ""}`,
            "all.ts",
          ]),
        ]),
      },
    },
    {
      // Nobody asks for the subtitles: what hls.js does when it misses a chosen playlist is a race of its own (the error
      // is fatal, and what has been loaded by then plays).
      name: "I-frame playlists, and subtitles that are not there",
      files: {
        "index.m3u8": master([
          '#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="text",NAME="English",LANGUAGE="en",DEFAULT=NO,AUTOSELECT=NO,URI="missing.m3u8"',
          '#EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID="cc",NAME="English",INSTREAM-ID="CC1"',
          `${variant},SUBTITLES="text",CLOSED-CAPTIONS="cc"`,
          "media.m3u8",
          '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=40000,URI="iframes.m3u8",CODECS="avc1.42c00d"',
          '#EXT-X-SESSION-DATA:DATA-ID="com.example.title",VALUE="a title"',
        ]),
        "media.m3u8": plain,
        "iframes.m3u8": list(
          tsLines((name) => ["#EXTINF:4,", "#EXT-X-BYTERANGE:18800@0", `../media/ts/high/${name}`]),
          { head: ["#EXT-X-VERSION:4", "#EXT-X-I-FRAMES-ONLY"] },
        ),
      },
    },
    { name: "a blob as playlist", blob: true, files: { "index.m3u8": plain } },
    {
      name: "a segment that is not there",
      files: {
        "index.m3u8": list(tsLines((name, i) => ["#EXTINF:4,", i === 1 ? "missing.ts" : `../media/ts/high/${name}`])),
      },
    },
    {
      name: "a range beyond the end of its file",
      files: {
        "index.m3u8": list([high.map, ...high.entry(0), "#EXTINF:4,", "#EXT-X-BYTERANGE:100000@99999999", high.file]),
      },
    },
    { name: "a page instead of a playlist", files: { "index.m3u8": "<!doctype html><title>404</title>\n" } },
    { name: "a playlist without segments", files: { "index.m3u8": list([]) } },
    { name: "no playlist at all", entry: "missing.m3u8", files: {} },
  ];
}

/**
 * A film in one file, as its playlist on disk describes it.
 * @param {string} media
 * @param {string} name
 */
async function single(media, name) {
  const { segments } = await readPlaylist(join(media, `single/${name}.m3u8`));
  const bytes = await readFile(segments[0].file);
  const ranges = segments.slice(0, COUNT).map(({ range, bytes: length }) => ({ start: range?.start ?? 0, length }));
  const file = `../media/single/${name}-fragmented.mp4`;
  const entry = (/** @type {number} */ i) => [
    "#EXTINF:4,",
    `#EXT-X-BYTERANGE:${ranges[i].length}@${ranges[i].start}`,
    file,
  ];
  return {
    file,
    ranges,
    entry,
    map: `#EXT-X-MAP:URI="${file}",BYTERANGE="${ranges[0].start}@0"`,
    lines: ranges.flatMap((_, i) => entry(i)),
    init: bytes.subarray(0, ranges[0].start),
    segments: ranges.map(({ start, length }) => bytes.subarray(start, start + length)),
  };
}

/** The beginning of a rendition with separate sound. @param {string} media @param {string} name */
async function part(media, name) {
  const lines = (await readFile(join(media, `groups/${name}/index.m3u8`), "utf8")).trim().split("\n");
  const from = lines.findIndex((line) => line.startsWith("#EXTINF"));
  return [...lines.slice(0, from + 2 * COUNT), "#EXT-X-ENDLIST", ""]
    .map((line) => line.replace(/URI="/, `URI="../media/groups/${name}/`))
    .map((line) => (line && !line.startsWith("#") ? `../media/groups/${name}/${line}` : line))
    .join("\n");
}

/** A segment with an MP4 box that players skip at its end, so that it is `more` bytes longer than whole pieces. */
function padded(/** @type {Buffer} */ segment, /** @type {number} */ more) {
  const size = Math.ceil((segment.length + 9) / PIECE) * PIECE + more - segment.length;
  const box = Buffer.alloc(size);
  box.writeUInt32BE(size, 0);
  box.write("free", 4, "latin1");
  return Buffer.concat([segment, box]);
}

/** @param {Buffer} bytes @param {Buffer} iv */
function encrypted(bytes, iv) {
  const cipher = createCipheriv("aes-128-cbc", KEY, iv);
  return Buffer.concat([cipher.update(bytes), cipher.final()]);
}

/** PKCS#7 fills up to the next 16 bytes, by 1 to 16. @param {Buffer} bytes */
function encryptedSize(bytes) {
  return (Math.floor(bytes.length / 16) + 1) * 16;
}
