// The four viewers of the main promise: they join a 60 s film one after the other and all watch it to its end.

import { atLeast, noStall, nothingRejected, rightBytes, summary, totals, wholeFilm } from "./expect.mjs";

/** Seconds of the film after which the next viewer joins. */
const STAGGER = 10;

/**
 * @param {import("./bed.mjs").Bed} bed
 * @param {{ media: import("./media.mjs").Media, script: string, video: string, share: number, viewers?: number,
 *   attributes?: (index: number) => Record<string, string> }} options `share` is the least part of all media bytes that must come from viewers,
 *   `attributes` are those of each viewer's script tag.
 * @returns {Promise<{ shots: any[], total: ReturnType<typeof totals> }>}
 */
export async function watchTogether(bed, { media, script, video, share, viewers: count = 4, attributes }) {
  const viewers = [];
  for (let i = 0; i < count; i += 1) {
    if (i > 0) await viewers[0].playedTo(STAGGER * i, 40_000);
    const viewer = await bed.viewer({ script, attributes: attributes?.(i), videos: [{ src: video }] });
    await viewer.play();
    viewers.push(viewer);
  }
  for (const viewer of viewers) await viewer.ended(150_000);
  const shots = [];
  for (const viewer of viewers) {
    const shot = await viewer.snapshot();
    noStall(shot, viewer.name);
    nothingRejected(shot, viewer.name);
    await rightBytes(shot, media, viewer.name);
    await wholeFilm(shot, media, viewer.name);
    shots.push(shot);
  }
  const total = totals(shots);
  bed.say(`${count} viewers: ${summary(total)}; at most ${((100 * (count - 1)) / count).toFixed(0)} % is possible`);
  bed.say(`start: ${shots.map((shot) => `${Math.round(shot.sessions[0].stats.playback.startupMs)} ms`).join(", ")}`);
  atLeast(total.share, share, "share of media bytes that came from viewers");
  return { shots, total };
}
