// Lies told over real WebRTC: none reaches a player or another peer, each liar is known by its deeds, nobody honest pays.

import assert from "node:assert/strict";
import { scenario } from "./lib/bed.mjs";
import { noStall, rightBytes, summary, totals } from "./lib/expect.mjs";
import { nativePeer, videoId } from "./lib/native.mjs";
import { eventually } from "./lib/wait.mjs";

/** Most that a viewer's heap and buffers may hold while it is attacked: a 12 s film is 2 MB, the idle page about 10 MB. */
const MEMORY_LIMIT = 64e6;

/**
 * What each lie looks like and what must follow.
 * `proof`: the kind of `integrity` event that proves it, if it is one about bytes.
 * @type {{ script: string, lie: string, banned: boolean, proof?: "piece" | "list" }[]}
 */
const lies = [
  { script: "wrong-pieces", lie: "wrong pieces", banned: true, proof: "piece" },
  { script: "forged-list", lie: "a forged list", banned: true, proof: "list" },
  { script: "wrong-place", lie: "the right piece at a wrong place", banned: true, proof: "piece" },
  { script: "zero-length", lie: "zero-length data", banned: true },
  { script: "other-object", lie: "another object's bytes", banned: true, proof: "piece" },
  { script: "half-piece-then-silence", lie: "half a piece, then silence", banned: false },
  { script: "flood", lie: "a thousand requests a second", banned: true },
  { script: "garbage", lie: "garbage frames", banned: true },
  { script: "wrong-proof", lie: "a wrong proof", banned: true },
  { script: "announce-only", lie: "no knowledge of the video id", banned: true },
];

for (const { script, lie, banned, proof } of lies) {
  scenario(
    `${lie}: ${banned ? "the sender is banned" : "the sender is passed over"}, playback goes on`,
    async (bed) => {
      const media = await bed.media({ seconds: 12 });
      const seeder = await bed.seeder(media);
      const video = await videoId(seeder.video);
      const signaling = `${seeder.origin.replace("http", "ws")}/signal`;
      const peer = { signaling, video, media: media.dir };

      // The liar claims to have everything, as the honest one does who really has.
      const liar = await nativePeer(bed, { ...peer, script, name: "liar" });
      const honest = await nativePeer(bed, { ...peer, name: "honest" });
      const viewer = await bed.viewer({ script: seeder.script, videos: [{ src: seeder.video }] });
      await viewer.play();

      const met = await eventually("the liar met the viewer", () =>
        // A liar whose HELLO is refused never counts a link as open.
        liar.events("open").length + liar.events("closed").length > 0 ? true : null,
      );
      assert.ok(met);
      if (banned) {
        await viewer.until(
          "the liar is banned",
          (id) =>
            window.__recorder.events.some(
              (event) => event.type === "peer" && event.detail.id === id && event.detail.state === "banned",
            ),
          { args: [liar.id] },
        );
      }
      await viewer.playedTo(10);
      // Another peer takes what it can from the viewer, with nobody honest beside it, and compares it with the files.
      await honest.program.stop();
      const witness = await nativePeer(bed, { ...peer, fetch: true, name: "witness" });
      await eventually("the witness took four objects from the viewer", () => witness.events("fetched").length >= 4);

      const shot = await viewer.snapshot();
      noStall(shot, viewer.name);
      await rightBytes(shot, media, viewer.name);

      const bans = shot.events.filter((event) => event.type === "peer" && event.detail.state === "banned");
      const banIds = [...new Set(bans.map((event) => event.detail.id))];
      assert.deepEqual(banIds, banned ? [liar.id] : [], `banned by the viewer (liar ${liar.id}, honest ${honest.id})`);
      const blamed = shot.events.filter((event) => event.type === "integrity");
      for (const { detail } of blamed) {
        assert.equal(detail.source, "peer", `the server was blamed: ${JSON.stringify(detail)}`);
        assert.equal(detail.peer, liar.id, `somebody else was blamed: ${JSON.stringify(detail)}`);
      }
      if (proof)
        assert.ok(
          blamed.some(({ detail }) => detail.kind === proof),
          `no integrity event of a ${proof}: ${JSON.stringify(blamed)}`,
        );

      const unequal = witness.events("fetched").filter((event) => !event.equal);
      assert.deepEqual(unequal, [], "the witness was given other bytes than the files");
      const refused = witness.events("refused").filter((event) => event.peer !== liar.id);
      assert.deepEqual(refused, [], `the witness refused somebody beside the liar ${liar.id}`);
      const given = witness.events("traffic").filter((event) => event.peer !== liar.id);
      assert.ok(
        given.some((event) => event.received > 0),
        "nothing came to the witness from the viewer",
      );
      const memory = await viewer.memory();
      assert.ok(memory.total < MEMORY_LIMIT, `the viewer holds ${memory.total} bytes`);

      const received = liar.events("closed").reduce((sum, event) => sum + event.received, 0);
      if (script === "wrong-proof" || script === "announce-only") {
        assert.equal(received, 0, `whoever does not know the video id was given ${received} bytes`);
      }
      bed.say(
        `${summary(totals([shot]))}; integrity ${JSON.stringify(shot.sessions[0].stats.integrity)}; ` +
          `memory ${(memory.total / 1e6).toFixed(1)} MB`,
      );
    },
    { timeout: 120_000 },
  );
}
