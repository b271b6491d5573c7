import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULTS, readAttributes, readOptions } from "../src/options.js";

/** What the console was told while `action` ran. */
function warnings(action: () => void): string[] {
  const { warn } = console;
  const lines: string[] = [];
  console.warn = (line: string) => lines.push(line);
  try {
    action();
  } finally {
    console.warn = warn;
  }
  return lines;
}

/** An element as far as options look at it. */
function element(attributes: Record<string, string>): Element {
  return { getAttribute: (name: string) => attributes[name] ?? null } as unknown as Element;
}

test("every attribute of the script tag is read", async () => {
  const read = readAttributes(
    element({
      "data-signaling": "wss://a.example/signal, wss://b.example/signal",
      "data-p2p": "ask",
      "data-min-viewers": "3",
      "data-upload-limit": "5mbps",
      "data-max-upload-ratio": "1.5",
      "data-memory-limit": "256mb",
      "data-public-key": `ed25519:${"A".repeat(43)}`,
      "data-token": "secret",
      "data-sha256-url": "/segments-sha256.json",
      "data-ice-servers": '[{"urls":"stun:stun.example"}]',
      "data-p2p-peers": "edge",
      "data-webkit": "",
      "data-stats": "overlay",
    }),
    "script",
  );
  const { token, ...rest } = read;
  assert.equal(await token?.(), "secret");
  assert.deepEqual(rest, {
    signaling: ["wss://a.example/signal", "wss://b.example/signal"],
    p2p: "ask",
    minViewers: 3,
    uploadLimit: 5e6,
    maxUploadRatio: 1.5,
    memoryLimit: 256e6,
    publicKey: [`ed25519:${"A".repeat(43)}`],
    sha256Url: "/segments-sha256.json",
    iceServers: [{ urls: "stun:stun.example" }],
    p2pPeers: "edge",
    webkit: true,
    stats: "overlay",
  });
});

test("a video's attributes carry a prefix and may name the video", () => {
  const video = element({ "data-marea-video-id": "tide", "data-marea-p2p": "off", "data-p2p": "on" });
  assert.deepEqual(readAttributes(video, "video"), { videoId: "tide", p2p: "off" });
});

test("a script tag cannot name the video of every player", () => {
  assert.deepEqual(readAttributes(element({ "data-video-id": "tide" }), "script"), {});
});

test("a bad value is named together with what is allowed, and the default stays", () => {
  for (const [name, value, allowed] of [
    ["p2p", "maybe", '"on", "ask", "off"'],
    ["upload-limit", "5 parsecs", "5mbps"],
    ["memory-limit", "-1", "256mb"],
    ["min-viewers", "0", "from 1"],
    ["ice-servers", "{}", "[] for none"],
    ["signaling", "https://a.example", "wss:"],
    ["public-key", "rsa:abc", "ed25519:"],
  ] as const) {
    let read = {};
    const lines = warnings(() => (read = readAttributes(element({ [`data-${name}`]: value }), "script")));
    assert.deepEqual(read, {}, name);
    assert.equal(lines.length, 1, name);
    for (const part of [`data-${name}`, value, allowed]) assert.ok(lines[0]?.includes(part), `${lines[0]}: ${part}`);
  }
});

test("options in JavaScript take numbers, lists and functions", async () => {
  const read = readOptions({ uploadLimit: 2e6, iceServers: [], signaling: "wss://a.example", token: async () => "t" });
  assert.equal(read.uploadLimit, 2e6);
  assert.deepEqual(read.iceServers, []);
  assert.deepEqual(read.signaling, ["wss://a.example"]);
  assert.equal(await read.token?.(), "t");
});

test("an unknown option is named", () => {
  assert.match(warnings(() => readOptions({ uplaodLimit: 1 } as object))[0] ?? "", /"uplaodLimit"/);
});

test("the page's word on sharing is unknown by default", () => {
  assert.equal(DEFAULTS.p2p, undefined);
  assert.equal(DEFAULTS.minViewers, 2);
});
