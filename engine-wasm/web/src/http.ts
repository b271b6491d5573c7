/** The default way to the page's servers: `fetch`, with a byte range added where one is asked for. */

import type { HttpRequest, HttpSink, HttpTransport } from "./host-types.js";
import { FIRST_BYTE_TIMEOUT_MS, STALL_TIMEOUT_MS } from "./limits.js";

/** An `HttpTransport` over `fetch`. `init` is added to every request (credentials, headers). */
export function fetchTransport(init: RequestInit = {}): HttpTransport {
  return { start: (request, sink) => startFetch(request, sink, init) };
}

function startFetch(request: HttpRequest, sink: HttpSink, init: RequestInit): { abort(): void } {
  const controller = new AbortController();
  let over = false;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const fail = (status: number, message: string, timeout = false): void => {
    if (over) return;
    stop();
    sink.error(status, message, timeout);
  };
  const stop = (): void => {
    over = true;
    clearTimeout(timer);
    controller.abort();
  };
  const expect = (ms: number, what: string): void => {
    clearTimeout(timer);
    timer = setTimeout(() => fail(0, `${what} of ${request.url} did not come within ${ms} ms`, true), ms);
  };

  const run = async (): Promise<void> => {
    expect(FIRST_BYTE_TIMEOUT_MS, "the answer");
    const headers = new Headers(init.headers);
    if (request.range) headers.set("Range", `bytes=${request.range.start}-${request.range.end - 1}`);
    const response = await fetch(request.url, {
      ...init,
      headers,
      signal: controller.signal,
      ...(request.reload ? { cache: "reload" as const } : {}),
    });
    if (over) return;
    const offset = bodyOffset(response, request);
    if (typeof offset === "string") return fail(response.status, offset);
    sink.response(response.status, offset);
    if (!response.body) {
      if (!over) end();
      return;
    }
    const reader = response.body.getReader();
    while (!over) {
      expect(STALL_TIMEOUT_MS, "the next bytes");
      const { done, value } = await reader.read();
      if (over) return;
      if (done) return end();
      sink.data(value);
    }
  };
  const end = (): void => {
    over = true;
    clearTimeout(timer);
    sink.end();
  };

  run().catch((error: unknown) => fail(0, String(error)));
  return {
    abort: () => {
      if (!over) stop();
    },
  };
}

/** Where in the resource the body begins, or what is wrong with the answer. */
function bodyOffset(response: Response, request: HttpRequest): number | string {
  if (response.status === 200) return 0;
  if (response.status !== 206 || !request.range) return `HTTP ${response.status} for ${request.url}`;
  // Both headers may be hidden from us across origins; then the status has to do, and the hashes decide.
  const { start, end } = request.range;
  const stated = /^bytes (\d+)-(\d+)\//.exec(response.headers.get("Content-Range") ?? "");
  if (stated && (Number(stated[1]) !== start || Number(stated[2]) !== end - 1)) {
    return `bytes ${start}-${end - 1} of ${request.url} were asked for, the answer says "${stated[0]}"`;
  }
  return start;
}
