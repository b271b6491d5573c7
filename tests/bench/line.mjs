// The line to the server: an HTTP proxy that counts every body byte by what it is, and can be thin. All engines get the
// same one; WebRTC does not pass here.

import { Agent, createServer, request as ask } from "node:http";
import { connect } from "node:net";
import { Shaper } from "./shaper.mjs";

/** Bytes that wait in a shaped answer before its server is told to wait. */
const QUEUED = 64 * 1024;

/**
 * What a body is, by its path; the first match counts. Playlists and piece lists are the price of an engine too.
 * @type {[string, RegExp][]}
 */
const KINDS = [
  ["playlist", /\.m3u8$/],
  ["init", /(^|\/)init\.mp4$/],
  ["segment", /\.(m4s|mp4|ts)$/],
  ["list", /\.pieces$/],
  ["script", /\.(js|wasm)$/],
];

/** @param {string} path */
export function kindOf(path) {
  return KINDS.find(([, pattern]) => pattern.test(path))?.[0] ?? "other";
}

/** How a viewer's page says who it is: in its User-Agent. @param {number} number */
export const viewerTag = (number) => `bench-viewer/${number}`;

/**
 * @typedef {object} Thin
 * @property {number} total Bit/s of the server's line.
 * @property {number} each Bit/s of each viewer's line.
 * @property {number} rtt ms
 */

/**
 * @param {{ origin: string, tracker?: string, thin?: Thin }} options `origin` answers all requests, `tracker` WebSockets
 *   at `/announce`.
 */
export async function serverLine({ origin, tracker, thin }) {
  const target = new URL(origin);
  const agent = new Agent({ keepAlive: true });
  const shaper = thin ? new Shaper(thin) : null;
  const half = thin ? thin.rtt / 2 : 0;
  /** Body bytes by kind, and signaling bytes of both directions. @type {Record<string, number>} */
  const bytes = { segment: 0, init: 0, playlist: 0, list: 0, script: 0, other: 0, signaling: 0 };
  /** @type {Record<string, number>} */
  const requests = {};
  /** Body bytes of each segment, by path. @type {Map<string, number>} */
  const segments = new Map();
  /** Kinds of paths that no pattern knows, so that nothing is missed silently. @type {Set<string>} */
  const unknown = new Set();
  /** @type {Set<import("node:net").Socket>} */
  const sockets = new Set();
  /** @type {WeakSet<import("node:net").Socket>} */
  const used = new WeakSet();

  const server = createServer((request, response) => {
    const path = new URL(request.url ?? "/", target).pathname;
    const kind = kindOf(path);
    if (kind === "other") unknown.add(path);
    requests[kind] = (requests[kind] ?? 0) + 1;
    // A request travels half a round trip; a new connection takes a whole one before it.
    const wait = half + (used.has(request.socket) ? 0 : 2 * half);
    used.add(request.socket);
    const viewer = /bench-viewer\/(\d+)/.exec(request.headers["user-agent"] ?? "")?.[1] ?? "";
    later(wait, () => {
      if (response.destroyed) return;
      forward(request, response, viewer, (count) => {
        bytes[kind] += count;
        if (kind === "segment") segments.set(path, (segments.get(path) ?? 0) + count);
      });
    });
  });

  /**
   * @param {import("node:http").IncomingMessage} request
   * @param {import("node:http").ServerResponse} response
   * @param {string} viewer
   * @param {(bytes: number) => void} count
   */
  function forward(request, response, viewer, count) {
    const { method, url: path, headers } = request;
    const up = ask({ host: target.hostname, port: target.port, method, path, headers, agent }, (answer) => {
      const { connection, "keep-alive": _, ...rest } = answer.headers;
      later(half, () => void response.writeHead(answer.statusCode ?? 502, rest));
      answer.on("error", () => response.destroy());
      if (shaper) shaped(answer, response, count, viewer);
      else direct(answer, response, count);
    });
    up.on("error", () => response.destroy());
    response.on("close", () => up.destroy());
    request.pipe(up);
  }

  /** @param {import("node:http").IncomingMessage} answer @param {import("node:http").ServerResponse} response @param {(bytes: number) => void} count */
  function direct(answer, response, count) {
    answer.on("data", (chunk) => {
      count(chunk.length);
      if (!response.write(chunk)) answer.pause();
    });
    response.on("drain", () => answer.resume());
    answer.on("end", () => response.end());
  }

  /** @param {import("node:http").IncomingMessage} answer @param {import("node:http").ServerResponse} response @param {(bytes: number) => void} count @param {string} viewer */
  function shaped(answer, response, count, viewer) {
    const stream = /** @type {Shaper} */ (shaper).open(viewer, {
      send(chunk) {
        count(chunk.length);
        later(half, () => void (response.destroyed || response.write(chunk)));
        if (stream.queued < QUEUED) answer.resume();
      },
      end: () => later(half, () => response.end()),
    });
    answer.on("data", (chunk) => {
      stream.push(chunk);
      if (stream.queued >= QUEUED) answer.pause();
    });
    answer.on("end", () => stream.finish());
    response.on("close", () => stream.drop());
  }

  server.on("upgrade", (request, socket, head) => {
    const to = tracker && request.url?.startsWith("/announce") ? new URL(tracker) : target;
    const up = connect(Number(to.port), to.hostname);
    const lines = [`${request.method} ${request.url} HTTP/1.1`];
    for (let i = 0; i < request.rawHeaders.length; i += 2)
      lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
    up.write(`${lines.join("\r\n")}\r\n\r\n`);
    up.write(head);
    const client = /** @type {import("node:net").Socket} */ (socket);
    for (const [from, into] of [
      [client, up],
      [up, client],
    ]) {
      sockets.add(from);
      from.setNoDelay(true);
      from.on("data", (chunk) => {
        bytes.signaling += chunk.length;
        later(half, () => void (into.destroyed || into.write(chunk)));
      });
      from.on("error", () => into.destroy());
      from.on("close", () => {
        sockets.delete(from);
        into.destroy();
      });
    }
  });

  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    origin: `http://127.0.0.1:${address.port}`,
    bytes,
    requests,
    segments,
    unknown,
    close() {
      shaper?.close();
      sockets.forEach((socket) => socket.destroy());
      server.closeAllConnections();
      agent.destroy();
      return new Promise((resolve) => server.close(() => resolve(undefined)));
    },
  };
}

/** Now, or after the line's delay: timers of one length keep their order. @param {number} ms @param {() => void} act */
function later(ms, act) {
  if (ms === 0) act();
  else setTimeout(act, ms);
}
