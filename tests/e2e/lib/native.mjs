// The scripted native peer (`marea-peer`): what it says, one JSON object a line.

import * as paths from "./paths.mjs";
import { eventually } from "./wait.mjs";

/** VIDEO of the playlist behind this URL. @param {string} url */
export async function videoId(url) {
  return eventually(
    `VIDEO in ${url}`,
    async () => /#EXT-X-MAREA:.*VIDEO="([^"]+)"/.exec(await (await fetch(url)).text())?.[1],
  );
}

/**
 * Starts a native peer.
 * @param {import("./bed.mjs").Bed} bed
 * @param {{ signaling: string, video: string, media: string, script?: string, kind?: string, fetch?: boolean, name?: string }} options
 */
export async function nativePeer(
  bed,
  { signaling, video, media, script = "honest", kind = "viewer", fetch = false, name = script },
) {
  // As one word: a video id may begin with a dash.
  const args = ["--signaling", signaling, `--video=${video}`, "--media", media, "--script", script, "--kind", kind];
  if (fetch) args.push("--fetch", "all");
  const program = await bed.program(paths.program("marea-peer"), args, { name: `marea-peer ${name}`, ready: null });
  const joined = JSON.parse(await program.line(/"event":"joined"/));
  /** Events so far, of one kind. @param {string} [kind] @returns {any[]} */
  const events = (kind) =>
    program.lines
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line))
      .filter((event) => kind === undefined || event.event === kind);
  return { program, id: /** @type {string} */ (joined.peer), events };
}
