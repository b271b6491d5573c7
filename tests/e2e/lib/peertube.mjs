// A folder as PeerTube writes it for a video: its names, and its list of hashes.

import { createHash, randomUUID } from "node:crypto";
import { readFile, readdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * Renames a ladder of one fMP4 file per rendition as PeerTube would, and writes `<uuid>-segments-sha256.json`.
 *
 * As PeerTube does it, the list names the ranges of `EXT-X-BYTERANGE` alone, so no init section.
 * @param {import("./media.mjs").Media} media
 * @param {(list: Record<string, Record<string, string>>) => unknown} [change] What is written instead of the list: text
 *   as it is, null for no file at all.
 * @returns {Promise<{ master: string, list: string }>} Names of the multivariant playlist and of the list.
 */
export async function peerTubeFolder(media, change = (list) => list) {
  const at = (/** @type {string} */ name) => join(media.dir, name);
  let text = await readFile(at("master.m3u8"), "utf8");
  /** @type {Record<string, Record<string, string>>} */
  const hashes = {};
  for (const name of await readdir(media.dir)) {
    const rendition = /^(.+)-fragmented\.mp4$/.exec(name)?.[1];
    if (!rendition) continue;
    const lines = text.split("\n");
    const height = /RESOLUTION=\d+x(\d+)/.exec(lines[lines.indexOf(`${rendition}.m3u8`) - 1])?.[1];
    const renamed = `${randomUUID()}-${height}`;
    text = text.replace(`\n${rendition}.m3u8`, `\n${renamed}.m3u8`);
    const playlist = (await readFile(at(`${rendition}.m3u8`), "utf8")).replaceAll(name, `${renamed}-fragmented.mp4`);
    await rename(at(name), at(`${renamed}-fragmented.mp4`));
    await rename(at(`${rendition}.m3u8`), at(`${renamed}.m3u8`));
    await writeFile(at(`${renamed}.m3u8`), playlist);
    const bytes = await readFile(at(`${renamed}-fragmented.mp4`));
    const ranges = [...playlist.matchAll(/^#EXT-X-BYTERANGE:(\d+)@(\d+)$/gm)].map(([, length, offset]) => {
      const first = Number(offset);
      const last = first + Number(length) - 1;
      const hash = createHash("sha256").update(bytes.subarray(first, last + 1));
      return [`${first}-${last}`, hash.digest("hex")];
    });
    hashes[`${renamed}-fragmented.mp4`] = Object.fromEntries(ranges);
  }
  const [master, list] = [`${randomUUID()}-master.m3u8`, `${randomUUID()}-segments-sha256.json`];
  await rename(at("master.m3u8"), at(master));
  await writeFile(at(master), text);
  const written = change(hashes);
  if (written !== null) await writeFile(at(list), typeof written === "string" ? written : JSON.stringify(written));
  return { master, list };
}
