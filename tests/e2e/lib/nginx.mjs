// Debian's nginx as a site would run it for HLS files: static files, CORS, right types. Nothing of Marea is in it.

import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as paths from "./paths.mjs";
import { start } from "./process.mjs";

/** Directives that keep nginx's own files in a folder. @param {string} dir */
export const temporaryPaths = (dir) =>
  ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${dir}/${name};`).join(" ");

/**
 * Serves a folder.
 * @param {string} root
 * @param {string} [locations] Further `location` blocks.
 * @returns {Promise<{ origin: string, program: import("./process.mjs").Program, accessLog: string, close(): Promise<void> }>}
 */
export async function startNginx(root, locations = "") {
  const dir = await mkdtemp(join(tmpdir(), "marea-nginx-"));
  await chmod(dir, 0o755);
  const port = await freePort();
  const accessLog = join(dir, "access.log");
  await writeFile(
    join(dir, "nginx.conf"),
    `
daemon off;
master_process off;
pid ${dir}/pid;
error_log stderr warn;
events { worker_connections 256; }
http {
  log_format media '$request_method $uri $status $body_bytes_sent $http_range';
  access_log ${accessLog} media;
  ${temporaryPaths(dir)}
  types {
    application/vnd.apple.mpegurl m3u8;
    video/mp4 mp4 m4s;
    video/mp2t ts;
    application/octet-stream pieces;
    application/javascript js;
    application/wasm wasm;
  }
  default_type application/octet-stream;
  sendfile on;
  server {
    listen 127.0.0.1:${port};
    root ${root};
    add_header Access-Control-Allow-Origin * always;
    add_header Access-Control-Expose-Headers "Content-Range, Content-Length, ETag";
    add_header Timing-Allow-Origin *;
    ${locations}
    location / {
      if ($request_method = OPTIONS) {
        add_header Access-Control-Allow-Origin * always;
        add_header Access-Control-Allow-Headers "Range, If-None-Match";
        return 204;
      }
    }
  }
}
`,
  );
  const program = await start(paths.nginx, ["-p", dir, "-c", join(dir, "nginx.conf")], { name: "nginx", ready: null });
  const origin = `http://127.0.0.1:${port}`;
  await answers(origin, program);
  return {
    origin,
    program,
    accessLog,
    async close() {
      await program.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** nginx says nothing when it is ready, so it is asked until it answers. @param {string} origin @param {import("./process.mjs").Program} program */
async function answers(origin, program) {
  let ended = false;
  program.exited.finally(() => (ended = true));
  for (let tries = 0; tries < 200; tries += 1) {
    if (ended) throw new Error(`nginx ended at its start:\n${program.lines.join("\n")}`);
    try {
      await fetch(origin);
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  throw new Error(`nginx did not answer at ${origin}:\n${program.lines.join("\n")}`);
}

export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  await new Promise((resolve) => server.close(resolve));
  return port;
}
