// Several signaling nodes over one Redis: pages that are connected to different ones are one swarm.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inPairs, scenario } from "./lib/bed.mjs";
import { scrape } from "./lib/metrics.mjs";
import { freePort } from "./lib/nginx.mjs";
import { watchTogether } from "./lib/party.mjs";
import * as paths from "./lib/paths.mjs";
import { joinAs, trackerClient } from "./lib/tracker-client.mjs";
import { eventually } from "./lib/wait.mjs";

/** Redis and two nodes that have reached it. @param {import("./lib/bed.mjs").Bed} bed */
async function twoNodes(bed) {
  const folder = await mkdtemp(join(tmpdir(), "marea-redis-"));
  bed.keep(folder, () => rm(folder, { recursive: true, force: true }));
  const port = String(await freePort());
  const options = { ready: /Ready to accept connections/ };
  await bed.program(paths.redis, ["--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", folder], options);
  const args = ["--redis", `redis://127.0.0.1:${port}`];
  const nodes = [await bed.signaling({ args }), await bed.signaling({ args })];
  for (const { origin } of nodes) {
    await eventually(
      "the nodes to see each other",
      async () => (await scrape(origin)).sum("marea_signaling_nodes") === 2,
    );
  }
  return nodes;
}

inPairs("signaling nodes", () => {
  scenario(
    "four viewers on two nodes share as if they were on one",
    async (bed) => {
      const media = await bed.media({ ladder: "light/groups" });
      const nodes = await twoNodes(bed);
      const seeder = await bed.seeder(media, { args: ["--signaling", nodes[0]?.url ?? ""] });
      await watchTogether(bed, {
        media,
        script: seeder.script,
        video: seeder.video,
        share: 0.55,
        attributes: (index) => ({ "data-signaling": nodes[index % 2]?.url ?? "" }),
      });
      for (const { origin } of nodes) {
        const metrics = await scrape(origin);
        assert.ok(metrics.sum("marea_signaling_node_messages_total") > 0, "the nodes said nothing to each other");
      }
    },
    { timeout: 240_000 },
  );

  scenario("pages with npm's tracker client meet across nodes", async (bed) => {
    const media = await bed.media({ seconds: 4 });
    const nodes = await twoNodes(bed);
    await writeFile(join(media.root, "tracker.js"), await trackerClient());
    const web = await bed.nginx(media.root);
    const page = { before: `${web.origin}/tracker.js`, videos: [] };
    const [a, b] = [await bed.viewer(page), await bed.viewer(page)];
    const [first, second] = nodes.map(({ url }) => url.replace("/signal", "/announce"));
    await a.page.evaluate(joinAs, first ?? "", "a", 200);
    await a.until("a's announce to be answered", () => /** @type {any} */ (window).told.updates.length > 0);
    await b.page.evaluate(joinAs, second ?? "", "b", 200);
    await a.until("b's hello", () => /** @type {any} */ (window).told.heard.includes("hello from b"));
    await b.until("a's hello", () => /** @type {any} */ (window).told.heard.includes("hello from a"));
    for (const viewer of [a, b]) {
      assert.deepEqual(await viewer.page.evaluate(() => /** @type {any} */ (window).told.trouble), []);
    }
  });
});
