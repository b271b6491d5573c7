// A mirror that lies: it passes on what an honest one has, changed.

import { createServer } from "node:http";

/**
 * @param {string} base URL of the honest mirror's copies.
 * @param {(path: string, bytes: Buffer) => Buffer | string | Promise<Buffer | string>} change What it says in place of these bytes.
 * @returns {Promise<{ base: string, asked: string[], close(): Promise<void> }>} `asked`: paths that it was asked for.
 */
export async function startLiar(base, change) {
  /** @type {string[]} */
  const asked = [];
  const server = createServer(async (request, response) => {
    const path = request.url ?? "/";
    asked.push(path);
    try {
      const { range } = request.headers;
      const answer = await fetch(base + path.slice(1), { headers: range ? { range } : {} });
      const bytes = Buffer.from(await answer.arrayBuffer());
      const said = answer.ok ? Buffer.from(await change(path, bytes)) : bytes;
      const contentRange = answer.headers.get("content-range");
      response.writeHead(answer.status, {
        "access-control-allow-origin": "*",
        "access-control-expose-headers": "content-range",
        "cache-control": "no-store",
        "content-length": said.length,
        ...(contentRange && { "content-range": contentRange }),
      });
      response.end(said);
    } catch (error) {
      response.destroy(error instanceof Error ? error : undefined);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    base: `http://127.0.0.1:${port}/`,
    asked,
    close() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve(undefined)));
    },
  };
}

/** A server that takes connections and never says a word. */
export async function startMute() {
  const server = createServer(() => {});
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    base: `http://127.0.0.1:${port}/`,
    close() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve(undefined)));
    },
  };
}
