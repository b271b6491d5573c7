// Assertions that several tests share. Each says the figures it saw.

import assert from "node:assert/strict";
import { relative } from "node:path";
import { fileOf, readPlaylist, renditions, sha256 } from "./media.mjs";

/** @typedef {any} Snapshot What `Viewer.snapshot()` gives. */

/** The player was handed bytes that are not the file's: never a matter of a busy machine. */
export class WrongBytes extends Error {}

/** Longest `waiting` that is no stall, in ms: a frame or two that a busy machine is late, which nobody sees. */
const BLINK_MS = 100;

/**
 * A `waiting` with this much media ahead of the playhead, in seconds, is a decoder that gets no time on a busy machine, not
 * a stall: the same happens to a file that is all there.
 */
const AHEAD_S = 2;

/** But our own work must not be what keeps the decoder waiting: all such waits together, in ms. */
const HICCUPS_MS = 1_500;

/**
 * No stall after the start. Both our own observation and the session's figure are asked.
 * @param {Snapshot} shot
 * @param {string} who
 */
export function noStall(shot, who) {
  const hiccup = (stall) => stall.buffered - stall.at >= AHEAD_S;
  const stalls = shot.stalls.filter((stall) => stall.ms > BLINK_MS && !hiccup(stall));
  assert.deepEqual(stalls, [], `${who} stalled: ${JSON.stringify(stalls)}`);
  const hiccups = shot.stalls.filter(hiccup).reduce((sum, stall) => sum + stall.ms, 0);
  assert.ok(hiccups <= HICCUPS_MS, `${who}: the decoder waited ${hiccups} ms for time: ${JSON.stringify(shot.stalls)}`);
  for (const { stats } of shot.sessions) {
    const { stalls: count, stalledMs } = stats.playback;
    const most = hiccups + BLINK_MS * (1 + shot.stalls.length);
    assert.ok(stalledMs <= most, `${who}: stats() count ${count} stalls of ${stalledMs} ms, we saw ${hiccups} ms`);
  }
}

/**
 * Every byte that the player's loader was given is the file's.
 * @param {Snapshot} shot
 * @param {import("./media.mjs").Media} media
 * @param {string} who
 * @returns {Promise<number>} Bytes compared.
 */
export async function rightBytes(shot, media, who) {
  let bytes = 0;
  assert.ok(shot.delivered.length > 0, `${who}: nothing was delivered to the player`);
  for (const entry of shot.delivered) {
    const file = fileOf(media, entry.url);
    if (entry.sha256 !== (await sha256(file, entry.range))) {
      const what = `${relative(media.root, file)} ${JSON.stringify(entry.range)}`;
      throw new WrongBytes(`${who}: ${what} has other bytes (${entry.bytes}) than the file`);
    }
    bytes += entry.bytes;
  }
  return bytes;
}

/**
 * Every segment of the timeline reached the player: one rendition of the picture and of the sound at each place.
 * @param {Snapshot} shot
 * @param {import("./media.mjs").Media} media
 * @param {string} who
 */
export async function wholeFilm(shot, media, who) {
  const { video, audio } = await renditions(media);
  const name = ({ file, range }) => `${relative(media.root, file)} ${JSON.stringify(range)}`;
  const got = new Set(shot.delivered.map(({ url, range }) => name({ file: fileOf(media, url), range })));
  for (const [kind, playlists] of Object.entries({ picture: video, sound: audio })) {
    const ladders = await Promise.all(playlists.map(readPlaylist));
    for (let at = 0; at < (ladders[0]?.segments.length ?? 0); at += 1) {
      const any = ladders.some(({ segments }) => segments[at] && got.has(name(segments[at])));
      assert.ok(any, `${who}: ${kind} segment ${at} never reached the player`);
    }
  }
}

/**
 * The film to its end, without a stall and every byte right.
 * @param {import("./browser.mjs").Viewer} viewer
 * @param {import("./media.mjs").Media} media
 */
export async function watched(viewer, media) {
  await viewer.ended();
  const shot = await viewer.snapshot();
  noStall(shot, viewer.name);
  await rightBytes(shot, media, viewer.name);
  await wholeFilm(shot, media, viewer.name);
  return shot;
}

/** Sums of `stats().bytes` over all sessions of these snapshots. @param {Snapshot[]} shots */
export function totals(shots) {
  const total = { http: 0, viewers: 0, mirrors: 0, edge: 0, uploaded: 0, wasted: 0, prefetched: 0 };
  for (const { sessions } of shots) {
    for (const { stats } of sessions) for (const key of Object.keys(total)) total[key] += stats.bytes[key];
  }
  const all = total.http + total.viewers + total.mirrors + total.edge;
  return { ...total, all, share: all === 0 ? 0 : (total.viewers + total.mirrors) / all };
}

/** @param {ReturnType<typeof totals>} total */
export function summary(total) {
  const mb = (/** @type {number} */ bytes) => `${(bytes / 1e6).toFixed(2)} MB`;
  return (
    `${(total.share * 100).toFixed(1)} % from viewers (${mb(total.viewers)}), ${mb(total.http + total.edge)} from the server, ` +
    `${mb(total.wasted)} wasted, ${mb(total.uploaded)} uploaded`
  );
}

/** @param {number} value @param {number} least @param {string} what */
export function atLeast(value, least, what) {
  assert.ok(value >= least, `${what}: ${value} is below ${least}`);
}

/** @param {number} value @param {number} most @param {string} what */
export function atMost(value, most, what) {
  assert.ok(value <= most, `${what}: ${value} is above ${most}`);
}

/** No session was given an `integrity` event and nothing was rejected. @param {Snapshot} shot @param {string} who */
export function nothingRejected(shot, who) {
  for (const { stats } of shot.sessions) {
    assert.equal(stats.integrity.rejected, 0, `${who}: ${stats.integrity.rejected} pieces or lists were rejected`);
    const banned = stats.peers.filter((peer) => peer.state === "banned");
    assert.deepEqual(banned, [], `${who} banned ${JSON.stringify(banned)}`);
  }
}
