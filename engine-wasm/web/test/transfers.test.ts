import assert from "node:assert/strict";
import { test } from "node:test";
import type { HttpRequest, HttpSink, HttpTransport } from "../src/host-types.js";
import { PIECE_SIZE, Store } from "../src/store.js";
import { type MediaFetch, Transfers } from "../src/transfers.js";

/** A server that a test answers by hand. */
class Server implements HttpTransport {
  requests: { request: HttpRequest; sink: HttpSink; aborted: boolean }[] = [];

  start(request: HttpRequest, sink: HttpSink): { abort(): void } {
    const entry = { request, sink, aborted: false };
    this.requests.push(entry);
    return { abort: () => (entry.aborted = true) };
  }
}

/** What the core was told, one line for each call. */
function recorder(server: HttpTransport): { transfers: Transfers; told: string[] } {
  const told: string[] = [];
  const transfers: Transfers = new Transfers(server, {
    response: (fetch, piece, restart) => told.push(`response ${fetch} ${piece} ${restart}`),
    data: (fetch, _object, bytes) => told.push(`data ${fetch} ${bytes.length}`),
    end: (fetch) => told.push(`end ${fetch} ${transfers.body(fetch)?.byteLength ?? "-"}`),
    failed: (fetch, _object, status) => told.push(`failed ${fetch} ${status}`),
    list: (fetch, bytes) => told.push(`list ${fetch} ${bytes.length}`) > 0,
    noRange: () => told.push("no range"),
  });
  return { transfers, told };
}

/** Pieces 1 and 2 of an object of three and a half that is a file of its own. */
const MIDDLE: MediaFetch = {
  fetch: 7,
  object: 0,
  size: 3.5 * PIECE_SIZE,
  url: "https://a.example/1.m4s",
  start: PIECE_SIZE,
  end: 3 * PIECE_SIZE,
  ranged: true,
  reload: false,
  firstPiece: 1,
};

async function begin(fetch: Partial<MediaFetch>) {
  const server = new Server();
  const { transfers, told } = recorder(server);
  transfers.media({ ...MIDDLE, ...fetch });
  assert.equal(server.requests.length, 0, "the core is not called back while it speaks");
  await Promise.resolve();
  const [entry] = server.requests;
  assert.ok(entry);
  return { entry, transfers, told };
}

test("a part that comes as asked is passed on from its first piece", async () => {
  const { entry, told } = await begin({});
  assert.deepEqual(entry.request.range, { start: PIECE_SIZE, end: 3 * PIECE_SIZE });
  entry.sink.response(206, PIECE_SIZE);
  entry.sink.data(new Uint8Array(PIECE_SIZE));
  entry.sink.data(new Uint8Array(PIECE_SIZE));
  assert.deepEqual(told, ["response 7 1 false", "data 7 65536", "data 7 65536", "end 7 -"]);
  assert.equal(entry.aborted, false, "its connection can be used again");
});

test("the whole file instead of a part is used from its start", async () => {
  const { entry, told } = await begin({});
  entry.sink.response(200, 0);
  entry.sink.data(new Uint8Array(MIDDLE.size));
  assert.deepEqual(told, ["no range", "response 7 0 true", `data 7 ${MIDDLE.size}`, "end 7 -"]);
});

test("of a larger file that comes whole, only an object at its start can be used", async () => {
  const first = await begin({ start: 0, end: MIDDLE.size, firstPiece: 0 });
  first.entry.sink.response(200, 0);
  first.entry.sink.data(new Uint8Array(10 * PIECE_SIZE));
  assert.deepEqual(first.told, ["no range", "response 7 0 false", `data 7 ${MIDDLE.size}`, "end 7 -"]);
  assert.equal(first.entry.aborted, true);

  const later = await begin({ start: 5 * PIECE_SIZE, end: 7 * PIECE_SIZE });
  later.entry.sink.response(200, 0);
  later.entry.sink.data(new Uint8Array(PIECE_SIZE));
  assert.deepEqual(later.told, ["no range", "failed 7 0"]);
  assert.equal(later.entry.aborted, true);
});

test("the body of a second try is at hand when it ends, and only then", async () => {
  const whole = { start: 0, end: MIDDLE.size, firstPiece: 0, ranged: false, reload: true };
  const { entry, transfers, told } = await begin(whole);
  assert.equal(entry.request.reload, true);
  entry.sink.response(200, 0);
  entry.sink.data(new Uint8Array(100));
  entry.sink.end();
  assert.deepEqual(told, ["response 7 0 false", "data 7 100", "end 7 100"]);
  assert.equal(transfers.body(7), null);
});

test("nothing is told of a transfer that was aborted", async () => {
  const { entry, transfers, told } = await begin({});
  transfers.abort(7);
  entry.sink.response(206, PIECE_SIZE);
  entry.sink.data(new Uint8Array(1));
  entry.sink.error(0, "aborted");
  await Promise.resolve();
  assert.deepEqual(told, []);
  assert.equal(entry.aborted, true);
});

test("a piece list is what was asked for, or none", async () => {
  for (const [length, told] of [
    [96, "list 3 96"],
    [97, "list 3 0"],
    [64, "list 3 64"],
  ] as const) {
    const server = new Server();
    const recorded = recorder(server);
    recorded.transfers.list(3, "https://a.example/1.m4s.pieces", 0, 96, false);
    await Promise.resolve();
    server.requests[0]?.sink.response(200, 0);
    server.requests[0]?.sink.data(new Uint8Array(length));
    server.requests[0]?.sink.end();
    assert.deepEqual(recorded.told, [told]);
  }
});

test("an early transfer is passed on from its first byte, with what comes later", () => {
  const { transfers, told } = recorder(new Server());
  const early = {
    locator: { url: "https://a.example/1.m4s" },
    chunks: [new Uint8Array(5)],
    state: "loading" as "loading" | "done" | "failed",
    onchange: (): void => {},
    abort: (): void => {},
  };
  transfers.adopt(early, 0, (number) => number + 100);
  early.chunks.push(new Uint8Array(6));
  early.onchange();
  early.state = "done";
  early.onchange();
  early.onchange();
  assert.deepEqual(told, ["data 100 5", "data 100 6", "end 100 -"]);
});

test("what is handed out is a copy, so that a detached buffer takes nothing from the store", () => {
  const store = new Store();
  store.keep(1, 1, new Uint8Array([9]));
  assert.equal(store.copy(1, PIECE_SIZE + 1), null, "it is not whole");
  store.keep(1, 0, new Uint8Array(PIECE_SIZE).fill(7));
  const copy = store.copy(1, PIECE_SIZE + 1);
  assert.ok(copy);
  structuredClone(copy, { transfer: [copy] });
  assert.equal(copy.byteLength, 0);
  assert.deepEqual([...(store.piece(1, 1) ?? [])], [9]);
  assert.equal(store.copy(1, PIECE_SIZE + 1)?.byteLength, PIECE_SIZE + 1);
  store.evict(1);
  assert.equal(store.bytes, 0);
});
