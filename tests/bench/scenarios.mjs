// What is played, when viewers join, and over which line.

import { live, vod, VOD_SECONDS } from "./footage.mjs";

/** Seconds of live stream watched after the first join. */
export const LIVE_SECONDS = 120;

/** Seconds after the last join from which a live swarm is taken to be settled. */
export const SETTLED_SECONDS = 20;

/** Seconds before the end after which a new segment is no longer looked at: somebody may only be about to ask for it. */
export const UNSETTLED_SECONDS = 16;

/**
 * @typedef {object} Scenario
 * @property {string} title
 * @property {number} stagger Seconds between joins.
 * @property {() => Promise<import("./footage.mjs").Footage>} footage
 * @property {import("./line.mjs").Thin} [thin]
 * @property {(viewers: number) => number} startSegments Copies of the film if each later viewer takes only its first
 *   segment from the server, and everything else is sent once.
 */

const film = `${VOD_SECONDS} s film`;

/** One segment of the film for each viewer after the first. @param {number} viewers */
const oneEach = (viewers) => 1 + ((viewers - 1) * 4) / VOD_SECONDS;

/** @type {Record<string, Scenario>} */
export const SCENARIOS = {
  vod: {
    title: `${film}, watched to its end, viewers join 10 s apart`,
    stagger: 10,
    footage: () => vod("files"),
    startSegments: oneEach,
  },
  flash: {
    title: `${film}, watched to its end, viewers join 0.5 s apart`,
    stagger: 0.5,
    footage: () => vod("files"),
    startSegments: oneEach,
  },
  live: {
    title: `live, ${LIVE_SECONDS} s, 10 segments in the playlist, viewers join 2 s apart`,
    stagger: 2,
    footage: live,
    startSegments: (viewers) => 1 + ((viewers - 1) * 4) / LIVE_SECONDS,
  },
  ranges: {
    title: `${film} as byte ranges of one file, viewers join 10 s apart`,
    stagger: 10,
    footage: () => vod("ranges"),
    startSegments: oneEach,
  },
  thin: {
    title: `${film}, viewers join 0.5 s apart, server line 16 Mbit/s, 8 per viewer, 40 ms round trip`,
    stagger: 0.5,
    footage: () => vod("files"),
    thin: { total: 16_000_000, each: 8_000_000, rtt: 40 },
    startSegments: oneEach,
  },
};
