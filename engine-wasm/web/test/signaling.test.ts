import assert from "node:assert/strict";
import { test } from "node:test";
import { Signaling, type SignalingConfig } from "../src/signaling.js";

type Message = Record<string, unknown>;

/** A socket whose server is the test. */
class Socket {
  static readonly OPEN = 1;
  static all: Socket[] = [];
  readyState = 0;
  sent: Message[] = [];
  onopen?: () => void;
  onmessage?: (event: { data: string }) => void;
  onclose?: () => void;

  constructor(readonly url: string) {
    Socket.all.push(this);
  }

  /** Opens and returns the client's first message. */
  async join(): Promise<Message> {
    this.readyState = Socket.OPEN;
    this.onopen?.();
    while (this.sent.length === 0 && this.readyState === Socket.OPEN) await new Promise(setImmediate);
    return this.sent.shift() ?? {};
  }

  say(message: Message): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Message);
  }

  close(): void {
    this.readyState = 3;
  }
}

/** A client, what it told its host, and its sockets. */
function bed(
  config: Partial<SignalingConfig> = {},
  want = () => 3,
): { client: Signaling; told: string[]; sockets: Socket[] } {
  const sockets: Socket[] = (Socket.all = []);
  (globalThis as { WebSocket: unknown }).WebSocket = Socket;
  const told: string[] = [];
  const quiet = (): void => {};
  const client = new Signaling(
    { urls: ["wss://a/signal"], video: "v", token: null, agreed: false, edgesOnly: false, ...config },
    {
      want,
      position: () => 0,
      connected: () => [],
      joined: ({ peer }) => told.push(`joined ${peer}`),
      population: quiet,
      match: quiet,
      relay: quiet,
      gone: quiet,
      revoked: () => told.push("revoked"),
      trouble: (reason, lasting) => told.push(`${reason} ${lasting ? "lasting" : "passing"}`),
    },
  );
  client.start();
  return { client, told, sockets };
}

const joined = (p2p: string): Message => ({ type: "joined", video: "v", peer: "me", resume: "r", policy: { p2p } });

test("a server that switched sharing off ends it", async () => {
  const { client, told, sockets } = bed();
  await sockets[0]?.join();
  sockets[0]?.say(joined("off"));
  assert.deepEqual(told, ["revoked", "killed lasting"]);
  assert.equal(client.ready, false);
  assert.equal(sockets[0]?.readyState, 3);
  assert.equal(sockets.length, 1);
});

test("a server that asks first is joined by those who said yes only", async () => {
  const silent = bed();
  await silent.sockets[0]?.join();
  silent.sockets[0]?.say(joined("ask"));
  assert.deepEqual(silent.told, ["consent-pending lasting"]);
  const agreed = bed({ agreed: true });
  await agreed.sockets[0]?.join();
  agreed.sockets[0]?.say(joined("ask"));
  assert.deepEqual(agreed.told, ["joined me", "null passing"]);
  agreed.client.stop();
});

test("whoever was alone asks for neighbours at once, and after that once a second", async (context) => {
  let want = 0;
  const { client, sockets } = bed({}, () => want);
  context.after(() => client.stop());
  assert.equal((await sockets[0]?.join())?.["want"], 0);
  sockets[0]?.say(joined("on"));
  sockets[0]?.sent.splice(0);
  const now = performance.now();
  want = 3;
  client.update(now);
  want = 2;
  client.update(now + 100);
  assert.deepEqual(sockets[0]?.sent, [{ type: "update", want: 3, pos: 0, video: "v" }]);
  client.update(now + 1_100);
  assert.equal(sockets[0]?.sent.length, 2);
});

test("a video that is withdrawn in mid-film is left for good", async () => {
  const { client, told, sockets } = bed();
  await sockets[0]?.join();
  sockets[0]?.say(joined("on"));
  sockets[0]?.say({ type: "revoked", video: "v" });
  assert.deepEqual(told, ["joined me", "null passing", "revoked", "killed lasting"]);
  assert.equal(client.ready, false);
});

test("an expired token is renewed once by asking the page again", async () => {
  let calls = 0;
  const { told, sockets } = bed({ token: () => Promise.resolve(`token ${++calls}`) });
  assert.equal((await sockets[0]?.join())?.token, "token 1");
  const expired = { type: "error", code: "token-expired", message: "", ref: "v" };
  sockets[0]?.say(expired);
  assert.equal((await sockets[1]?.join())?.token, "token 2");
  sockets[1]?.say(expired);
  assert.deepEqual(told, ["token-expired lasting"]);
  assert.equal(sockets.length, 2);
});

test("a token that cannot be had matters only where no ticket is there", async () => {
  const { client, told, sockets } = bed({ token: () => Promise.reject(new Error("login")) });
  await sockets[0]?.join();
  assert.deepEqual(told, ["token-expired lasting"]);
  client.stop();

  let works = true;
  const token = (): Promise<string> => (works ? Promise.resolve("t") : Promise.reject(new Error("login")));
  const other = bed({ token });
  await other.sockets[0]?.join();
  other.sockets[0]?.say(joined("on"));
  works = false;
  other.sockets[0]?.say({ type: "drain", withinMs: 0 });
  while (other.sockets.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
  const again = await other.sockets[1]?.join();
  assert.deepEqual([again?.resume, again?.token], ["r", undefined]);
  other.client.stop();
});

test("refusals are told by their reason", async () => {
  for (const [code, reason] of [
    ["token-required", "signaling-refused"],
    ["token-invalid", "signaling-refused"],
    ["origin-refused", "origin-refused"],
    ["video-unknown", "video-unknown"],
  ]) {
    const { told, sockets } = bed();
    await sockets[0]?.join();
    sockets[0]?.say({ type: "error", code, message: "" });
    assert.deepEqual(told, [`${reason} lasting`]);
  }
});
