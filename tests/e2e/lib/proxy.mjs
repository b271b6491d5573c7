// A TCP proxy that can be cut: what a viewer's line to the server looks like when it breaks.

import { createServer, connect } from "node:net";

/**
 * @param {string} target Origin behind the proxy.
 * @returns {Promise<{ origin: string, cut(): void, mend(): void, close(): Promise<void> }>}
 */
export async function cuttableProxy(target) {
  const { hostname, port } = new URL(target);
  /** @type {Set<import("node:net").Socket>} */
  const sockets = new Set();
  let open = true;
  const server = createServer((client) => {
    if (!open) {
      client.destroy();
      return;
    }
    const upstream = connect(Number(port), hostname);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ]) {
      sockets.add(from);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  const cut = () => {
    open = false;
    sockets.forEach((socket) => socket.destroy());
  };
  return {
    origin: `http://127.0.0.1:${address.port}`,
    cut,
    mend() {
      open = true;
    },
    close() {
      cut();
      return new Promise((resolve) => server.close(() => resolve(undefined)));
    },
  };
}
