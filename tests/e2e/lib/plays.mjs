// How a page's own hls.js plays something, as far as a viewer or a developer could tell.

/**
 * @typedef {object} Play
 * @property {string} name Of the player in the page, for `leave`.
 * @property {string} url
 * @property {number} [until] Second at which it is enough.
 * @property {boolean} [blob] The playlist's text is fetched and given to the player as a `blob:` URL.
 */

/**
 * What came of it.
 * @typedef {object} Played
 * @property {"ended" | "enough" | "fatal error" | "stuck"} end
 * @property {string[]} errors Details and status of errors that were fatal or cost a segment or a playlist.
 * @property {number} start Where the player began, in whole seconds.
 * @property {number} reached Where it ended, in whole seconds.
 * @property {number | null} duration In tenths of a second.
 * @property {string} picture Its last size.
 * @property {{ levels: number, sounds: number, texts: number }} tracks
 * @property {string[]} delivered URL, range and SHA-256 of what the player's loader was given, in order of their names.
 */

const CONFIG = {
  // The first rendition alone: which one a player chooses by its measurements is not the question here.
  startLevel: 0,
  capLevelToPlayerSize: false,
};

/** Faster than life, so that a dozen seconds take few. */
const RATE = 4;

/**
 * A playhead that has not moved for so long, in ms, will not any more; the second figure is for one that
 * has moved, after an error.
 */
const STUCK_MS = [10_000, 5_000];

/**
 * Plays it in the page of this viewer, which has an hls.js of its own.
 * @param {import("./browser.mjs").Viewer} viewer
 * @param {Play} play
 * @returns {Promise<Played>}
 */
export function plays(viewer, play) {
  return viewer.page.evaluate(inPage, play, { config: CONFIG, rate: RATE, stuckMs: STUCK_MS });
}

/** Ends a player of `plays`, which until then has stayed where it was. @param {import("./browser.mjs").Viewer} viewer @param {string} name */
export async function leave(viewer, name) {
  await viewer.page.evaluate((name) => /** @type {any} */ (window).__playing[name]?.(), name);
}

/**
 * Runs in the page.
 * @returns {Promise<Played>}
 */
async function inPage({ name, url, until = Infinity, blob = false }, { config, rate, stuckMs }) {
  const { Hls } = /** @type {any} */ (window);
  const video = document.createElement("video");
  video.muted = true;
  document.body.append(video);
  const hls = new Hls(config);
  /** @type {any} */ (window).__playing ??= {};
  /** @type {any} */ (window).__playing[name] = () => {
    hls.destroy();
    video.remove();
  };

  const delivered = new Map();
  const hashing = [];
  const Base = hls.config.fLoader ?? hls.config.loader;
  hls.config.fLoader = class extends Base {
    load(context, loadConfig, callbacks) {
      const onSuccess = (response, ...rest) => {
        const range = context.rangeEnd ? `${context.rangeStart ?? 0}-${context.rangeEnd}` : "";
        const { data } = response;
        if (data instanceof ArrayBuffer) {
          const hashed = crypto.subtle.digest("SHA-256", data).then((hash) => {
            const hex = Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
            delivered.set(`${context.url} ${range} ${hex}`, data.byteLength);
          });
          hashing.push(hashed);
        }
        return callbacks.onSuccess(response, ...rest);
      };
      super.load(context, loadConfig, { ...callbacks, onSuccess });
    }
  };

  const errors = new Set();
  let fatal = false;
  hls.on("hlsError", (_, data) => {
    fatal ||= data.fatal;
    const cost = data.fatal || /LoadError|LoadTimeOut|ParsingError|DecryptError|EmptyError/.test(data.details);
    if (cost) errors.add(`${data.details} ${data.response?.code ?? ""}`);
  });
  hls.once("hlsManifestParsed", () => (hls.loadLevel = 0));

  /** The same playlist at a URL that references cannot be relative to. */
  async function blobOf(url) {
    const text = await (await fetch(url)).text();
    return URL.createObjectURL(new Blob([text.replace(/^(?!#)(?=.)/gm, new URL(".", url).href)]));
  }

  let start = 0;
  const begin = () => {
    // There is a picture at the playhead: hls.js has gone to where the playlist wants it.
    start = video.currentTime;
    video.playbackRate = video.defaultPlaybackRate = rate;
  };
  video.addEventListener("loadeddata", begin, { once: true });
  hls.attachMedia(video);
  hls.loadSource(blob ? await blobOf(url) : url);
  // Slowly until then, so that it makes no difference how late a busy machine tells.
  video.playbackRate = video.defaultPlaybackRate = 0.1;
  void video.play().catch(() => {});

  /** @type {Played["end"]} */
  let end = "stuck";
  let last = -1;
  let since = performance.now();
  while (performance.now() - since < stuckMs[errors.size > 0 && video.currentTime > 0 ? 1 : 0]) {
    if (video.ended) end = "ended";
    else if (video.currentTime >= until) end = "enough";
    if (end !== "stuck") break;
    if (video.currentTime !== last) since = performance.now();
    last = video.currentTime;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  if (end === "enough") video.pause();
  if (end === "stuck" && fatal) end = "fatal error";
  await Promise.all(hashing);
  return {
    end,
    errors: [...errors].sort(),
    start: Math.round(start),
    reached: Math.round(end === "enough" ? until : video.currentTime),
    duration: Number.isFinite(video.duration) ? Math.round(video.duration * 10) / 10 : null,
    picture: `${video.videoWidth}x${video.videoHeight}`,
    tracks: { levels: hls.levels.length, sounds: hls.audioTracks.length, texts: hls.subtitleTracks.length },
    delivered: [...delivered.keys()].sort(),
  };
}
