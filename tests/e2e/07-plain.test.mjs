// Where Marea cannot or must not help, the page plays as if it were not there.

import assert from "node:assert/strict";
import { inPairs, scenario } from "./lib/bed.mjs";
import { noStall, rightBytes, totals } from "./lib/expect.mjs";
import { scrape } from "./lib/metrics.mjs";

/**
 * @param {string} name
 * @param {{ reason: string, state: string, page: (seeder: { origin: string, script: string, video: string }, pages: string) => Partial<import("./lib/page-server.mjs").Page>,
 *   wasm?: boolean, start?: (viewer: import("./lib/browser.mjs").Viewer) => Promise<void>,
 *   then?: (viewer: import("./lib/browser.mjs").Viewer) => Promise<void> }} options `wasm`: it may be asked for. `start`
 *   happens before playback, `then` after the checks.
 */
function plain(name, { reason, state, page, wasm = false, start, then }) {
  scenario(
    name,
    async (bed) => {
      const media = await bed.media({ seconds: 12 });
      const seeder = await bed.seeder(media);
      const pages = await bed.pages();
      const viewer = await bed.viewer({
        script: seeder.script,
        videos: [{ src: seeder.video }],
        ...page(seeder, pages.origin),
      });
      await start?.(viewer);
      await viewer.play();
      await viewer.reason(reason);
      await viewer.playedTo(6);
      const shot = await viewer.snapshot();
      noStall(shot, viewer.name);
      await rightBytes(shot, media, viewer.name);
      assert.equal(shot.sessions[0].state, state, `state with ${reason}`);
      assert.deepEqual(shot.sessions[0].reasons, [reason]);
      assert.deepEqual(viewer.sockets, [], "WebSockets were opened");
      assert.equal(shot.connectionsMade, 0, "WebRTC connections were made");
      assert.equal(totals([shot]).viewers, 0);
      const asked = viewer.requests.filter((url) => url.endsWith(".wasm"));
      if (!wasm) assert.deepEqual(asked, [], "wasm was asked for");
      const joins = (await scrape(seeder.origin)).sum("marea_signaling_messages_total", { kind: "join" });
      assert.equal(joins, 0, `${joins} joins reached signaling`);
      assert.deepEqual(viewer.pageErrors, []);
      bed.say(`${state}: ${reason}; ${shot.delivered.length} objects played`);
      await then?.(viewer);
    },
    { timeout: 90_000 },
  );
}

inPairs("plain playback", () => {
  plain("WebAssembly forbidden by the page's CSP", {
    reason: "csp",
    state: "off",
    wasm: true,
    page: ({ origin }) => ({
      csp: `default-src 'none'; script-src 'self' ${origin}; connect-src 'self' ${origin} ws:; media-src blob:; worker-src blob:; img-src data:`,
    }),
  });

  plain("RTCPeerConnection removed", {
    reason: "no-webrtc",
    state: "off",
    page: () => ({ before: "/no-webrtc.js" }),
  });

  plain('data-p2p="off"', {
    reason: "off",
    state: "off",
    page: () => ({ attributes: { "data-p2p": "off" } }),
  });

  plain('data-p2p="ask" before the answer, and after a yes it joins', {
    reason: "consent-pending",
    state: "asking",
    page: () => ({ attributes: { "data-p2p": "ask" } }),
    async then(viewer) {
      await viewer.page.evaluate(() => window.Marea.setConsent(true));
      await viewer.until("it joined", () => ["waiting", "active"].includes(window.__recorder.session(0).state), {
        timeout: 20_000,
      });
      assert.equal(viewer.sockets.length, 1, `after the yes: ${viewer.sockets}`);
    },
  });

  plain('data-p2p="ask", answered with no', {
    reason: "consent-refused",
    state: "off",
    page: () => ({ attributes: { "data-p2p": "ask" } }),
    start: (viewer) => viewer.page.evaluate(() => window.Marea.setConsent(false)),
  });
});
