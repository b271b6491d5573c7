// Signaling behind Debian's nginx, set up as the documentation says: it sees the addresses of viewers, not the proxy's.

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { scenario } from "./lib/bed.mjs";
import { mayUnshare, UNSHARE } from "./lib/network.mjs";
import * as paths from "./lib/paths.mjs";
import { run } from "./lib/process.mjs";

const VIEWERS = 500;

/** Further ones, of one home. */
const CROWD = 40;

/** A namespace in which every address of 11.0.0.0/8 is this machine's. */
const SETUP = `
ip link set lo up
ip route add local 11.0.0.0/8 dev lo
exec "$@"
`;

scenario(
  `${VIEWERS} viewers behind nginx are as many addresses`,
  async (bed) => {
    const script = join(dirname(fileURLToPath(import.meta.url)), "lib/behind-nginx.mjs");
    const inside = [process.execPath, script, `${VIEWERS}`, `${CROWD}`, join(paths.repo, "deploy/nginx.conf")];
    const { code, output } = await run("unshare", [...UNSHARE, "sh", "-ec", SETUP, "sh", ...inside]);
    assert.equal(code, 0, output);
    const line = output.split("\n").find((text) => text.startsWith("["));
    /** @type {{ peer: string, matches: { peer: string, near: boolean }[], errors: string[] }[]} */
    const viewers = JSON.parse(line ?? "[]");
    assert.equal(viewers.length, VIEWERS + CROWD);
    assert.deepEqual(
      viewers.flatMap(({ errors }) => errors),
      [],
    );
    const met = new Set(
      viewers.flatMap(({ peer, matches }) => (matches.length > 0 ? [peer, ...matches.map((one) => one.peer)] : [])),
    );
    const alone = viewers.filter(({ peer }) => !met.has(peer));
    assert.deepEqual(alone, [], "some met nobody");
    // Near is who shares an address: those of the crowd with each other, and nobody else.
    const crowd = new Set(viewers.slice(VIEWERS).map(({ peer }) => peer));
    let within = 0;
    for (const { peer, matches } of viewers) {
      for (const match of matches) {
        const same = crowd.has(peer) && crowd.has(match.peer);
        assert.equal(match.near, same, `${peer} and ${match.peer}`);
        within += Number(same);
      }
    }
    assert.ok(within > 0, "nobody of the crowd met another: this showed nothing");
    bed.say(`${viewers.reduce((sum, { matches }) => sum + matches.length, 0)} matches, ${within} within the crowd`);
  },
  { timeout: 120_000, skip: mayUnshare() ? false : "no network namespace may be made here" },
);
