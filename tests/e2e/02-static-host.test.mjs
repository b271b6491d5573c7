// Any static host will do: plain nginx after `annotate`, signaling apart.

import assert from "node:assert/strict";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { inPairs, scenario } from "./lib/bed.mjs";
import { files } from "./lib/media.mjs";
import { watchTogether } from "./lib/party.mjs";

/** @param {import("./lib/bed.mjs").Bed} bed @param {{ lists: boolean, share: number }} options */
async function staticHost(bed, { lists, share }) {
  const media = await bed.media({ ladder: "light/groups" });
  const signaling = await bed.signaling();
  await bed.annotate(media.root, ["--signaling", signaling.url]);
  const pieces = (await files(media.dir)).filter((file) => file.endsWith(".pieces"));
  assert.ok(pieces.length > 20, `annotate wrote ${pieces.length} piece lists`);
  if (!lists) for (const file of pieces) await rm(join(media.dir, file));

  const script = await bed.engineInto(media.root);
  const web = await bed.nginx(media.root);
  const { total } = await watchTogether(bed, {
    media,
    script: web.origin + script,
    video: `${web.origin}/${media.name}/master.m3u8`,
    share,
  });

  // nginx counts what it handed to the kernel, cancelled answers included.
  const log = (await readFile(web.accessLog, "utf8")).split("\n").map((line) => line.split(" "));
  const sent = log
    .filter(([method, uri]) => method === "GET" && /\.(m4s|mp4)$/.test(uri ?? ""))
    .reduce((sum, [, , , bytes]) => sum + Number(bytes), 0);
  assert.ok(total.http <= sent * 1.02, `viewers count ${total.http} bytes, nginx sent only ${sent}`);
  const asked = log.filter(([, uri]) => uri?.endsWith(".pieces")).map(([, , status]) => status);
  bed.say(`nginx sent ${sent} bytes; piece lists asked: ${asked.length} (${[...new Set(asked)].join(", ")})`);
  return asked;
}

inPairs("static hosts", () => {
  scenario(
    "plain nginx after annotate, with signaling apart, serves viewers as well",
    async (bed) => {
      const asked = await staticHost(bed, { lists: true, share: 0.55 });
      assert.ok(asked.includes("200"), `no piece list was fetched: ${asked}`);
    },
    { timeout: 240_000 },
  );

  scenario(
    "without piece lists whole objects are exchanged",
    async (bed) => {
      const asked = await staticHost(bed, { lists: false, share: 0.45 });
      assert.ok(!asked.includes("200"), `a piece list was found although all were deleted: ${asked}`);
    },
    { timeout: 240_000 },
  );
});
