// Runs in the page: what a site does that uses p2p-media-loader with its own hls.js, and counts what it reports.

import { HlsJsP2PEngine } from "p2p-media-loader-hlsjs";

const Plain = /** @type {any} */ (window).Hls;
const counts = { http: 0, peers: 0, uploaded: 0, connected: 0, errors: /** @type {string[]} */ ([]) };
/** @type {any} */ (window).__p2pMediaLoader = counts;

/** @type {any} */ (window).Hls = class extends HlsJsP2PEngine.injectMixin(Plain) {
  /** @param {any} config */
  constructor(config) {
    super(config);
    const engine = /** @type {any} */ (this).p2pEngine;
    engine.addEventListener("onChunkDownloaded", (/** @type {number} */ bytes, /** @type {string} */ source) => {
      if (source === "p2p") counts.peers += bytes;
      else counts.http += bytes;
    });
    engine.addEventListener("onChunkUploaded", (/** @type {number} */ bytes) => (counts.uploaded += bytes));
    engine.addEventListener("onPeerConnect", () => (counts.connected += 1));
    for (const type of ["onPeerError", "onTrackerError", "onSegmentError"])
      engine.addEventListener(type, (/** @type {any} */ detail) => {
        if (counts.errors.length < 20) counts.errors.push(`${type}: ${detail?.error?.message ?? detail?.error}`);
      });
  }
};
