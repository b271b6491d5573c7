// Run in a network namespace whose machine has many addresses: viewers of one video, each from another network, and then some of
// one address, reach signaling through nginx with the documented file. Prints what each of them was told, as JSON.
// `node behind-nginx.mjs ALONE CROWD SNIPPET`

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import WebSocket from "ws";
import { temporaryPaths } from "./nginx.mjs";
import * as paths from "./paths.mjs";
import { start } from "./process.mjs";
import { eventually } from "./wait.mjs";

const [alone, crowd] = process.argv.slice(2, 4).map(Number);
const snippet = process.argv[4] ?? "";

/** Announce id of the video: any will do. */
const VIDEO = Buffer.alloc(32, 7).toString("base64url");

const dir = await mkdtemp(join(tmpdir(), "marea-proxy-"));
await writeFile(
  join(dir, "nginx.conf"),
  `daemon off; master_process off; pid ${dir}/pid; error_log stderr warn; worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http {
  access_log off;
  ${temporaryPaths(dir)}
  include ${snippet};
}
`,
);
// As the snippet says that it is to be started.
const signaling = await start(paths.program("marea-signaling"), [
  ...["--listen", "127.0.0.1:4080", "--udp", "0.0.0.0:3478", "--public-url", "https://video.example"],
  ...["--trusted-proxy", "127.0.0.1"],
]);
const nginx = await start(paths.nginx, ["-p", dir, "-c", join(dir, "nginx.conf")], { name: "nginx", ready: null });
await eventually("nginx to answer", () =>
  fetch("http://127.0.0.1/").then(
    () => true,
    () => false,
  ),
);

/** Viewer `at`: of a network of its own, or one of the crowd. */
async function joinFrom(/** @type {number} */ at) {
  const place = Math.min(at, alone);
  const localAddress = `11.${place >> 8}.${place & 255}.7`;
  const socket = new WebSocket("ws://127.0.0.1/signal", { headers: { Host: "video.example" }, localAddress });
  const viewer = { peer: "", matches: /** @type {any[]} */ ([]), errors: /** @type {string[]} */ ([]) };
  await new Promise((resolve) => {
    socket.on("open", () =>
      socket.send(JSON.stringify({ type: "join", v: 1, video: VIDEO, kind: "viewer", want: 4, connected: [] })),
    );
    socket.on("message", (data) => {
      const message = JSON.parse(`${data}`);
      if (message.type === "joined") viewer.peer = message.peer;
      if (message.type === "match") viewer.matches.push(...message.peers);
      if (message.type === "error") viewer.errors.push(message.code);
      resolve(null);
    });
    socket.on("error", (error) => {
      viewer.errors.push(`${error}`);
      resolve(null);
    });
  });
  return { viewer, socket };
}

const joined = [];
for (let at = 0; at < alone + crowd; at += 1) joined.push(await joinFrom(at));
await eventually("the last to be matched", () => joined.at(-1)?.viewer.matches.length, 10_000);
console.log(JSON.stringify(joined.map(({ viewer }) => viewer)));
for (const { socket } of joined) socket.terminate();
await nginx.stop();
await signaling.stop();
await rm(dir, { recursive: true, force: true });
