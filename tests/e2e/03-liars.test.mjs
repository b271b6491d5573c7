// Lies told over real WebRTC: none reaches a player or another peer, each liar is known by its deeds, nobody honest pays.

import assert from "node:assert/strict";
import { inPairs, scenario } from "./lib/bed.mjs";
import { noStall, rightBytes, summary, totals } from "./lib/expect.mjs";
import { nativePeer, videoId } from "./lib/native.mjs";
import { eventually } from "./lib/wait.mjs";

/** Most that a viewer's heap and buffers may hold while it is attacked: the film is 2 MB, the idle page as much. */
const MEMORY_LIMIT = 16e6;

/**
 * What each lie looks like and what must follow.
 * `asked`: the lie is told only to who asks, so the liar must be the first that the viewer meets.
 * `proof`: the kind of `integrity` event that proves it, if it is one about bytes.
 * @type {{ script: string, lie: string, banned: boolean, asked?: boolean, proof?: "piece" | "list" }[]}
 */
const lies = [
  { script: "wrong-pieces", lie: "wrong pieces", banned: true, asked: true, proof: "piece" },
  { script: "forged-list", lie: "a forged list", banned: true, asked: true, proof: "list" },
  { script: "wrong-place", lie: "the right piece at a wrong place", banned: true, asked: true, proof: "piece" },
  { script: "zero-length", lie: "zero-length data", banned: true, asked: true },
  { script: "other-object", lie: "another object's bytes", banned: true, asked: true, proof: "piece" },
  { script: "half-piece-then-silence", lie: "half a piece, then silence", banned: false, asked: true },
  { script: "flood", lie: "a thousand requests a second", banned: true },
  { script: "garbage", lie: "garbage frames", banned: true },
  { script: "wrong-proof", lie: "a wrong proof", banned: true },
  { script: "announce-only", lie: "no knowledge of the video id", banned: true },
];

/** A player that buffers little: the lie meets one that still needs bytes, and so does the honest peer. */
const SHORT_BUFFER = { maxBufferLength: 4, maxMaxBufferLength: 4, maxBufferSize: 0 };

inPairs("liars", () => {
  for (const { script, lie, banned, asked, proof } of lies) {
    scenario(
      `${lie}: ${banned ? "the sender is banned" : "the sender is passed over"}, playback goes on`,
      async (bed) => {
        const media = await bed.media({ seconds: 16 });
        const seeder = await bed.seeder(media);
        const video = await videoId(seeder.video);
        const signaling = `${seeder.origin.replace("http", "ws")}/signal`;
        const peer = { signaling, video, media: media.dir };

        // Both claim to have everything; the honest one does.
        const liar = await nativePeer(bed, { ...peer, script, name: "liar" });
        const meetHonest = () => nativePeer(bed, { ...peer, name: "honest" });
        let honest = asked ? null : await meetHonest();
        const page = { script: seeder.script, videos: [{ src: seeder.video }], ownPlayer: SHORT_BUFFER };
        const viewer = await bed.viewer(page);
        await viewer.play();
        if (banned) {
          await viewer.until(
            "the liar is banned",
            (id) =>
              window.__recorder.events.some(
                (event) => event.type === "peer" && event.detail.id === id && event.detail.state === "banned",
              ),
            { args: [liar.id] },
          );
        } else {
          await eventually("the liar was asked", () => liar.events("traffic").some((event) => event.served > 0));
        }
        honest ??= await meetHonest();
        await viewer.until(
          "pieces from the honest peer",
          (id) =>
            window.__recorder
              .session(0)
              .stats()
              .peers.some((peer) => peer.id === id && peer.pieces > 4),
          { args: [honest.id] },
        );
        await viewer.playedTo(8);
        // Another peer takes what it can from the viewer, with nobody honest beside it, and compares it with the files.
        await honest.program.stop();
        const witness = await nativePeer(bed, { ...peer, fetch: true, name: "witness" });
        const given = () =>
          Math.max(0, ...witness.events("traffic").map((event) => (event.peer === liar.id ? 0 : event.received)));
        await eventually("the witness took a segment from the viewer", () => given() > 300_000);
        await eventually("the witness compared it with its file", () =>
          witness.events("fetched").some((event) => event.bytes > 300_000),
        );

        const shot = await viewer.snapshot();
        noStall(shot, viewer.name);
        await rightBytes(shot, media, viewer.name);

        const bans = shot.events.filter((event) => event.type === "peer" && event.detail.state === "banned");
        const banIds = [...new Set(bans.map((event) => event.detail.id))];
        assert.deepEqual(
          banIds,
          banned ? [liar.id] : [],
          `banned by the viewer (liar ${liar.id}, honest ${honest.id})`,
        );
        const blamed = shot.events.filter((event) => event.type === "integrity").map((event) => event.detail);
        for (const { source, peer } of blamed) {
          assert.deepEqual({ source, peer }, { source: "peer", peer: liar.id }, "somebody else was blamed");
        }
        if (proof) {
          const proven = blamed.some(({ kind }) => kind === proof);
          assert.ok(proven, `no integrity event of a ${proof}: ${JSON.stringify(blamed)}`);
        }

        const unequal = witness.events("fetched").filter((event) => !event.equal);
        assert.deepEqual(unequal, [], "the witness was given other bytes than the files");
        const refused = witness.events("refused").filter((event) => event.peer !== liar.id);
        assert.deepEqual(refused, [], `the witness refused somebody beside the liar ${liar.id}`);
        const memory = await viewer.memory();
        assert.ok(memory.total < MEMORY_LIMIT, `the viewer holds ${memory.total} bytes`);
        const taken = liar.events("closed").reduce((sum, event) => sum + event.received, 0);
        if (script === "wrong-proof" || script === "announce-only") {
          assert.equal(taken, 0, `whoever does not know the video id was given ${taken} bytes`);
        }
        bed.say(
          `${summary(totals([shot]))}; integrity ${JSON.stringify(shot.sessions[0].stats.integrity)}; ` +
            `memory ${(memory.total / 1e6).toFixed(1)} MB; ${given()} bytes compared by the witness`,
        );
      },
      { timeout: 120_000 },
    );
  }
});
