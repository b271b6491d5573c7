// What a site does to get all this: one script tag. And what a viewer sees of it.

import assert from "node:assert/strict";
import { inPairs, scenario } from "./lib/bed.mjs";
import { noStall, rightBytes } from "./lib/expect.mjs";
import { eventually } from "./lib/wait.mjs";

/**
 * Ways to give a `<video>` its source; each runs in the page.
 * @type {Record<string, (src: string) => void>}
 */
const ways = {
  "the property src": (src) => {
    const video = document.createElement("video");
    document.body.append(video);
    video.src = src;
  },
  "setAttribute before it is in the page": (src) => {
    const video = document.createElement("video");
    video.setAttribute("src", src);
    document.body.append(video);
  },
  "a <source> child": (src) => {
    const video = document.createElement("video");
    const source = document.createElement("source");
    Object.assign(source, { src, type: "application/vnd.apple.mpegurl" });
    video.append(source);
    document.body.append(video);
  },
  "a parser that brings it later, with autoplay": (src) => {
    const holder = document.createElement("div");
    holder.insertAdjacentHTML("beforeend", `<video autoplay src="${src}"></video>`);
    document.body.append(holder);
  },
};

inPairs("a plain <video>", () => {
  for (const [way, give] of Object.entries(ways)) {
    scenario(`by ${way}`, async (bed) => {
      const media = await bed.media({ seconds: 12 });
      const seeder = await bed.seeder(media);
      const viewer = await bed.viewer({ script: seeder.script, videos: [] });
      await viewer.page.evaluate(give, seeder.video);
      await viewer.page.evaluate(() => {
        const video = /** @type {HTMLVideoElement} */ (document.querySelector("video"));
        video.id = "v0";
        if (!video.autoplay) void video.play();
      });
      await viewer.playedTo(2, 20_000);
      await viewer.reason("gate");
      const shown = await viewer.page.evaluate(() => document.querySelector("video")?.currentSrc);
      assert.equal(shown, seeder.video, "currentSrc as the page sees it");
      const shot = await viewer.snapshot();
      noStall(shot, viewer.name);
      await rightBytes(shot, media, viewer.name);
      assert.equal(shot.sessions.length, 1);
      assert.deepEqual(viewer.pageErrors, []);
    });
  }

  scenario("another source: the old session ends, the new video has its own id", async (bed) => {
    const media = await bed.media({ seconds: 12, name: "one" });
    await bed.media({ seconds: 12, name: "two", root: media.root });
    const seeder = await bed.seeder(media);
    const viewer = await bed.viewer({ script: seeder.script, videos: [{ src: seeder.video }] });
    await viewer.play();
    await viewer.reason("gate");
    const first = (await viewer.stats()).video;
    await viewer.page.evaluate(
      (src) => {
        const video = /** @type {HTMLVideoElement} */ (document.getElementById("v0"));
        window.__sessions = [window.__recorder.session(0)];
        video.src = src;
        void video.play();
      },
      seeder.video.replace("/one/", "/two/"),
    );
    await viewer.until("the old session is stopped", () => window.__sessions[0].state === "stopped");
    await viewer.playedTo(2);
    await viewer.reason("gate");
    const second = (await viewer.stats()).video;
    assert.ok(first && second && first !== second, `video ids ${first} and ${second}`);
    assert.equal((await viewer.snapshot()).sessions.length, 1);
  });

  scenario('data-marea="off" leaves the element to the browser', async (bed) => {
    const media = await bed.media({ seconds: 12 });
    const seeder = await bed.seeder(media);
    const videos = [{ src: seeder.video, attributes: { "data-marea": "off" } }];
    const viewer = await bed.viewer({ script: seeder.script, videos });
    await viewer.play();
    await viewer.playedTo(2);
    const shot = await viewer.snapshot();
    assert.deepEqual(shot.sessions, []);
    assert.deepEqual(viewer.sockets, []);
    assert.equal(shot.delivered.length, 0, "our hls.js played it");
  });

  scenario("a playlist without tags is left alone: no-hash", async (bed) => {
    const media = await bed.media({ seconds: 12 });
    const script = await bed.engineInto(media.root);
    const web = await bed.nginx(media.root);
    const viewer = await bed.viewer({
      script: web.origin + script,
      videos: [{ src: `${web.origin}/video/master.m3u8` }],
    });
    await viewer.play();
    await viewer.playedTo(2);
    await viewer.reason("no-hash");
    assert.deepEqual(viewer.sockets, []);
    assert.deepEqual(
      viewer.requests.filter((url) => url.endsWith(".wasm")),
      [],
    );
  });
});

/**
 * Clicks a button of the notice as a person does. It lies in a closed shadow tree, so the browser is asked where it is.
 * @param {import("./lib/browser.mjs").Viewer} viewer
 * @param {string} text
 */
async function click(viewer, text) {
  const button = await findText(viewer, text);
  assert.ok(button, `no "${text}" is on the page`);
  const { model } = await viewer.devtools.send("DOM.getBoxModel", { backendNodeId: button });
  const [left, top, right, , , bottom] = model.border;
  await viewer.page.mouse.click((left + right) / 2, (top + bottom) / 2);
}

/** The element that holds this text, closed shadow trees included. @param {import("./lib/browser.mjs").Viewer} viewer @param {string} text */
async function findText(viewer, text) {
  const { root } = await viewer.devtools.send("DOM.getDocument", { depth: -1, pierce: true });
  const search = (/** @type {any} */ node) => {
    for (const child of [...(node.children ?? []), ...(node.shadowRoots ?? [])]) {
      if (child.nodeType === 3 && child.nodeValue.includes(text)) return node.backendNodeId;
      const found = search(child);
      if (found) return found;
    }
    return null;
  };
  return search(root);
}

inPairs("a page", () => {
  scenario("a page's own hls.js, made before the script came, by attach()", async (bed) => {
    const media = await bed.media({ seconds: 16 });
    const seeder = await bed.seeder(media);
    const page = { videos: [{ src: seeder.video }], ownPlayer: {} };
    const first = await bed.viewer({ ...page, script: seeder.script }, { name: "first" });
    await first.play();
    await first.playedTo(3);
    const viewer = await bed.viewer({ ...page, ownPlayer: { autoStartLoad: false } }, { name: "second" });
    const same = await viewer.page.evaluate(async (src) => {
      const script = Object.assign(document.createElement("script"), { src });
      const loaded = new Promise((resolve) => script.addEventListener("load", resolve));
      document.head.append(script);
      await loaded;
      const player = window.__players[0];
      const session = window.Marea.attach(player);
      player.startLoad();
      return session === window.Marea.attach(player) && session.player === player;
    }, seeder.script);
    assert.ok(same, "attach() twice gave two sessions, or another player");
    await viewer.play();
    await viewer.neighbours(1);
    await viewer.ended();
    const shot = await viewer.snapshot();
    noStall(shot, viewer.name);
    await rightBytes(shot, media, viewer.name);
    const { bytes } = shot.sessions[0].stats;
    assert.ok(bytes.viewers > 0, `bytes: ${JSON.stringify(bytes)}`);
    bed.say(`${bytes.viewers} bytes from the other viewer, ${bytes.http} by HTTP`);
  });

  scenario("sharing is never silent: a line says so, and Turn off is remembered", async (bed) => {
    const media = await bed.media({ seconds: 24 });
    const seeder = await bed.seeder(media);
    const page = { script: seeder.script, videos: [{ src: seeder.video }] };
    const other = await bed.viewer(page, { name: "other" });
    await other.play();
    const viewer = await bed.viewer(page, { name: "viewer" });
    await viewer.play();
    await viewer.neighbours(1);
    await eventually("the line over the player", () => findText(viewer, "can see each other"), 5_000);
    const focus = await viewer.page.evaluate(() => document.activeElement?.tagName);
    assert.equal(focus, "BODY", "the notice took the focus");
    await click(viewer, "Turn off");
    await viewer.reason("consent-refused", 5_000);
    await viewer.until("its connections are closed", () => window.__recorder.openConnections() === 0, {
      timeout: 5_000,
    });
    await viewer.ended();
    noStall(await viewer.snapshot(), viewer.name);

    const before = viewer.sockets.length;
    await viewer.page.reload({ waitUntil: "load" });
    await viewer.play();
    await viewer.reason("consent-refused");
    await viewer.playedTo(2);
    assert.equal(viewer.sockets.length, before, "it joined again although it was turned off");
  });
});
