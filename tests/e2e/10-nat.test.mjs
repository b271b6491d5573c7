// Two homes behind ordinary routers meet through our own STUN, and through nobody else.

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { scenario } from "./lib/bed.mjs";
import { launch, openViewer } from "./lib/browser.mjs";
import { atLeast, noStall, nothingRejected, rightBytes, summary, totals } from "./lib/expect.mjs";
import { SERVER, natImpossible, startNat } from "./lib/nat.mjs";
import * as paths from "./lib/paths.mjs";

const impossible = natImpossible();
if (impossible) console.log(`SKIPPED: two viewers behind NAT: ${impossible}`);

scenario(
  "two homes behind port-restricted NAT exchange video",
  async (bed) => {
    const nat = await startNat();
    bed.keep(nat, nat.close);
    const media = await bed.media({ seconds: 20 });
    const seeder = await bed.program(
      "ip",
      nat.atServer(paths.program("marea-seeder"), ["serve", "--root", media.root, "--listen", `${SERVER}:8080`]),
      { name: "marea-seeder" },
    );
    assert.match(seeder.ready, new RegExp(`http://${SERVER}:8080`));
    const origin = `http://${SERVER}:8080`;
    const page = { script: `${origin}/marea.js`, videos: [{ src: `${origin}/videos/${media.name}/master.m3u8` }] };
    const server = fileURLToPath(new URL("lib/page-server.mjs", import.meta.url));
    await bed.program("ip", nat.atServer(process.execPath, [server, `${SERVER}:8081`, JSON.stringify([page])]), {
      name: "page server",
    });

    const viewers = [];
    for (const [at, executablePath] of nat.chromium.entries()) {
      const browser = await launch({ executablePath });
      bed.keep(browser, () => browser.close());
      const viewer = await openViewer(browser, `http://${SERVER}:8081/page-1`, { name: `home ${at + 1}` });
      bed.viewers.push(viewer);
      viewers.push(viewer);
      await viewer.play();
      await viewer.playedTo(4);
    }
    for (const viewer of viewers) await viewer.neighbours(1);
    const [pair] = await viewers[1].selectedPairs();
    assert.ok(pair, "no selected candidate pair");
    const reflexive = ["srflx", "prflx"];
    assert.ok(
      reflexive.includes(pair.local.candidateType) && reflexive.includes(pair.remote.candidateType),
      `they met over ${pair.local.candidateType} and ${pair.remote.candidateType}, not through the NATs`,
    );
    assert.match(pair.sdp, /\.local /, "Chromium's hiding of addresses is off");
    assert.doesNotMatch(pair.sdp, /192\.168\./, "a private address is in the SDP");
    for (const viewer of viewers) await viewer.ended();
    const shots = [];
    for (const viewer of viewers) {
      const shot = await viewer.snapshot();
      noStall(shot, viewer.name);
      nothingRejected(shot, viewer.name);
      await rightBytes(shot, media, viewer.name);
      shots.push(shot);
    }
    const total = totals(shots);
    atLeast(total.viewers, 1, "bytes that came through the NATs");
    bed.say(`${pair.local.candidateType} - ${pair.remote.candidateType}; ${summary(total)}`);
  },
  { timeout: 120_000, skip: impossible },
);
