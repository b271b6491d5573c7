// The main promise: viewers carry each other's video.

import assert from "node:assert/strict";
import { scenario } from "./lib/bed.mjs";
import { mediaSent } from "./lib/metrics.mjs";
import { watchTogether } from "./lib/party.mjs";
import { settled } from "./lib/wait.mjs";

scenario(
  "four viewers of one video take at most 45 % from the server and never stall",
  async (bed) => {
    const media = await bed.media();
    const seeder = await bed.seeder(media);
    const { total } = await watchTogether(bed, { media, script: seeder.script, video: seeder.video, share: 0.55 });

    // Nobody but these viewers ever asked this seeder, so both sides must tell the same story.
    const sent = await settled(() => mediaSent(seeder.origin));
    const got = total.http + total.edge;
    bed.say(`server: ${sent.complete} bytes in complete and ${sent.cancelled} in cancelled answers; viewers: ${got}`);
    assert.ok(
      got >= sent.complete * 0.98,
      `viewers count ${got} bytes, fewer than the ${sent.complete} of complete answers`,
    );
    assert.ok(
      got <= (sent.complete + sent.cancelled) * 1.02,
      `viewers count ${got} bytes, more than the ${sent.complete} + ${sent.cancelled} that were sent`,
    );
  },
  { timeout: 240_000 },
);
