import assert from "node:assert/strict";
import { mock, test } from "node:test";
import type { HttpRequest, HttpSink, HttpTransport } from "../src/host-types.js";
import { MIRROR_PATIENCE_MS, MIRROR_RETRY_MS } from "../src/limits.js";
import { Mirrors } from "../src/mirrors.js";

const MAIN = "https://origin.example/videos/tide/master.m3u8?token=secret";
const SEGMENT = "https://origin.example/videos/tide/1.m4s?token=secret";

// What waits for another place waits for as long as the page lives.
mock.timers.enable({ apis: ["setTimeout"] });

/** A transport whose requests a test answers. */
class Net implements HttpTransport {
  open: { url: string; sink: HttpSink; aborted: boolean }[] = [];

  start({ url }: HttpRequest, sink: HttpSink): { abort(): void } {
    const entry = { url, sink, aborted: false };
    this.open.push(entry);
    return { abort: () => (entry.aborted = true) };
  }

  /** The oldest request to this host. */
  take(host: string) {
    const at = this.open.findIndex(({ url }) => new URL(url).host === host);
    assert.ok(at >= 0, `nothing is asked of ${host}: ${this.open.map(({ url }) => url).join(" ")}`);
    const [entry] = this.open.splice(at, 1);
    assert.ok(entry);
    return entry;
  }
}

/** Places where everything is: the first `up` mirrors have shown that they are there. */
function bed(up: number, names = ["a.example", "b.example"]) {
  const [own, net] = [new Net(), new Net()];
  const mirrors = new Mirrors(
    MAIN,
    own,
    net,
    names.map((name) => `https://${name}/copy`),
  );
  for (const name of names.slice(0, up)) net.take(name).sink.response(200, 0);
  const told: string[] = [];
  const get = () =>
    mirrors.start(
      { url: SEGMENT },
      {
        response: (status, _, mirror) => told.push(`${status} ${mirror ? "mirror" : "origin"}`),
        data: (bytes) => told.push(`${bytes.length} bytes`),
        end: () => told.push("end"),
        error: (status, _message, _timeout, elsewhere) => told.push(`error ${status} ${elsewhere}`),
      },
    );
  return { own, net, mirrors, told, get };
}

test("a mirror is asked for media once it has shown the playlist, without the page's query", () => {
  const { own, net, get } = bed(0);
  assert.deepEqual(
    net.open.map(({ url }) => url),
    ["https://a.example/copy/videos/tide/master.m3u8", "https://b.example/copy/videos/tide/master.m3u8"],
  );
  get();
  assert.equal(own.open[0]?.url, SEGMENT, "none has yet");
  net.take("a.example").sink.response(200, 0);
  get();
  assert.equal(net.take("a.example").url.includes("secret"), false);
});

test("silent and failing places are left before anything was told", () => {
  const { own, net, get, told } = bed(1, ["a.example"]);
  const handle = get();
  const silent = [...own.open, ...net.open][0];
  mock.timers.tick(MIRROR_PATIENCE_MS);
  assert.equal(silent?.aborted, true);
  const other = own.open.length > 0 && own.open[0] !== silent ? own.open[0] : net.open.at(-1);
  assert.notEqual(other, silent);
  other?.sink.response(200, 0);
  other?.sink.data(new Uint8Array(7));
  silent?.sink.data(new Uint8Array(9));
  assert.deepEqual(told.slice(1), ["7 bytes"]);
  handle.abort();
});

test("a mirror that was only slow is soon asked again, also by what waits for a hanging origin", (t) => {
  let now = 0;
  t.mock.method(performance, "now", () => now);
  const { own, net, get, told } = bed(1, ["a.example"]);
  while (net.open.length === 0) get();
  net.take("a.example").sink.error(0, "reset");
  own.open = [];
  get();
  assert.equal(own.open.length, 1);
  now += MIRROR_RETRY_MS + MIRROR_PATIENCE_MS;
  mock.timers.tick(MIRROR_PATIENCE_MS);
  assert.equal(own.open[0]?.aborted, false, "nobody else is known to be there");
  net.take("a.example").sink.response(200, 0);
  mock.timers.tick(MIRROR_PATIENCE_MS);
  assert.equal(own.open[0]?.aborted, true);
  const { sink, url } = net.take("a.example");
  assert.match(url, /1\.m4s/);
  sink.response(200, 0);
  assert.deepEqual(told.slice(-1), ["200 mirror"]);
});

test("a place that breaks off is lost, and the core is told that there is another", () => {
  const { own, net, get, told } = bed(2);
  // Whatever is chosen, until it is the origin or a mirror.
  get();
  const entry = own.open[0] ?? net.open[0];
  entry?.sink.response(206, 0);
  entry?.sink.error(0, "reset");
  assert.equal(told.at(-1), "error 0 true");
});

test("what the origin withdraws is asked of nobody else", () => {
  const { own, get, told } = bed(0);
  get();
  own.open[0]?.sink.error(410, "gone");
  assert.deepEqual(told, ["error 410 false"]);
});

test("one that lied is never asked again", () => {
  const { own, net, mirrors, get } = bed(1, ["a.example"]);
  let handle = get();
  while (net.open.length === 0) handle = get();
  net.open[0]?.sink.response(200, 0);
  handle.refuse?.();
  net.open = [];
  own.open = [];
  for (let tries = 0; tries < 20; tries += 1) get();
  assert.equal(own.open.length, 20);
  assert.deepEqual(mirrors.copies(MAIN), []);
});
