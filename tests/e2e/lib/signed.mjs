// Sites that sign their playlists.

import { join } from "node:path";
import { program } from "./paths.mjs";
import { run } from "./process.mjs";

/**
 * Makes a key to sign with, hidden beside the media so that nothing takes it for media.
 * @param {import("./media.mjs").Media} media
 * @returns {Promise<{ file: string, key: string }>} `key` is its public half, as pages pin it.
 */
export async function siteKey(media) {
  const file = join(media.root, ".site.key");
  const { code, output } = await run(program("marea-seeder"), ["key", "new", "--key", file]);
  if (code !== 0) throw new Error(`key new ended with ${code}:\n${output}`);
  return { file, key: /ed25519:[\w-]{43}/.exec(output)?.[0] ?? "" };
}

/**
 * A signed folder behind plain nginx, signaling apart.
 * @param {import("./bed.mjs").Bed} bed
 * @param {number} seconds Of film.
 */
export async function signedSite(bed, seconds) {
  const media = await bed.media({ ladder: "light/groups", seconds });
  const signaling = await bed.signaling();
  const { file, key } = await siteKey(media);
  await bed.annotate(media.root, ["--signaling", signaling.url, "--key", file]);
  const script = await bed.engineInto(media.root);
  const web = await bed.nginx(media.root);
  return { media, key, signaling, script, web };
}
