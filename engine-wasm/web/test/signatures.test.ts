import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { checkEdge, checkSignature, nameOf } from "../src/signatures.js";

const DOCS = readFileSync("docs/signing.md", "utf8");
/** A block of the vectors in `docs/signing.md`. */
const block = (name: string): string => new RegExp(`\`\`\`${name}\n([^]*?)\`\`\``).exec(DOCS)?.[1] ?? "";
const TEXT = block("m3u8");
const KEY = block("key").trim();
const VIDEO = "q83vEjRWeJCrze8SNFZ4kA";
const NAME = "720p/index.m3u8";
const HASH = Uint8Array.from(Buffer.from(block("message").replace(/\s/g, ""), "hex").subarray(-32));
const SIGNED = TEXT.slice(0, TEXT.lastIndexOf("#EXT-X-MAREA-SIGNATURE"));

/** The hash of the vector's bytes; of any others another one. */
const hash = (text: string): Uint8Array => (text === SIGNED ? HASH : HASH.map((byte) => ~byte));
const check = (text: string, change: object = {}): ReturnType<typeof checkSignature> =>
  checkSignature(text, { keys: [KEY], video: VIDEO, name: NAME, ...change }, hash);

test("the vector of the documentation fits", async () => {
  assert.equal(await check(TEXT), null);
  assert.equal(await check(TEXT, { keys: [`ed25519:${"A".repeat(43)}`, KEY] }), null, "any pinned key will do");
});

test("from elsewhere it has to be unexpired and as new as what was seen", async (t) => {
  const elsewhere = (text: string, video = VIDEO): ReturnType<typeof checkSignature> =>
    checkSignature(text, { keys: [KEY], video, name: NAME }, hash, false);
  t.mock.timers.enable({ apis: ["Date"], now: 1_792_591_999_999 });
  assert.equal(await elsewhere(TEXT), null);
  assert.equal(await elsewhere(TEXT), null, "the same again");
  t.mock.timers.setTime(1_792_592_000_000);
  assert.equal(await elsewhere(TEXT), "signature-invalid");
  assert.equal(await check(TEXT), null, "from its own origin it counts");
});

for (const [what, text, change] of [
  ["no signature", SIGNED, {}],
  ["a changed KEY URI", TEXT.replace("k.key", "evil.key"), {}],
  ["a changed SEQ", TEXT.replace("SEQ=179", "SEQ=178"), {}],
  ["a changed EXPIRES", TEXT.replace("EXPIRES=179", "EXPIRES=199"), {}],
  ["a line after it", `${TEXT}#EXTINF:4,\nevil.ts\n`, {}],
  ["an empty line after it", `${TEXT}\n`, {}],
  ["a cut signature", TEXT.replace(/SIG=.*/, "SIG=AAAA"), {}],
  ["a signature that is no base64url", TEXT.replace(/SIG=.*/, "SIG=!"), {}],
  ["nothing", "", {}],
  ["a key that is not pinned", TEXT, { keys: [`ed25519:${"A".repeat(43)}`] }],
  ["another video", TEXT, { video: "AAAAAAAAAAAAAAAAAAAAAA" }],
  ["another rendition", TEXT, { name: "360p/index.m3u8" }],
  ["a playlist on another host", TEXT, { name: null }],
] as const) {
  test(`${what}: refused`, async () => assert.equal(await check(text, change), "signature-invalid"));
}

const EDGE_LINE = /answer_line (.*)/.exec(readFileSync("swarm/vectors/edge-1.txt", "utf8"))?.[1] ?? "";
const EDGE_KEY = `ed25519:${/marea-edge:([\w-]+)/.exec(EDGE_LINE)?.[1]}`;
const ANSWER = `v=0\r\ns=-\r\n${EDGE_LINE}\r\n`;
const FINGERPRINT = Array.from({ length: 32 }, (_, at) => (0x20 + at).toString(16)).join(":");
const OFFER = `v=0\r\na=fingerprint:sha-256 ${FINGERPRINT.toUpperCase()}\r\na=setup:actpass\r\n`;
const edge = (answer: string, offer = OFFER, change: object = {}): ReturnType<typeof checkEdge> =>
  checkEdge(answer, offer, { keys: [EDGE_KEY], video: VIDEO, ...change });

test("an edge's answer as the protocol has it fits", async () => {
  assert.equal(await edge(ANSWER), null);
  assert.equal(await edge(ANSWER, OFFER.toLowerCase()), null);
});

for (const [what, answer, offer, change] of [
  ["without a signature", "v=0\r\ns=-\r\n", OFFER, {}],
  [
    "with an address of somebody else's",
    ANSWER.replace("s=-", "s=-\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host"),
    OFFER,
    {},
  ],
  ["with a line after it", `${ANSWER}a=x\r\n`, OFFER, {}],
  ["with another key's signature", ANSWER, OFFER, { keys: [KEY] }],
  ["for another viewer", ANSWER, OFFER.replace("20:21", "21:20"), {}],
  ["for another video", ANSWER, OFFER, { video: "AAAAAAAAAAAAAAAAAAAAAA" }],
  ["with a signature that is no base64url", ANSWER.replace(/\..*/, ".A\r\n"), OFFER, {}],
  ["to no offer", ANSWER, "", {}],
] as const) {
  test(`an edge's answer ${what}: refused`, async () =>
    assert.equal(await edge(answer, offer, change), "signature-invalid"));
}

test("a browser without Ed25519 says so", async () => {
  const { importKey } = crypto.subtle;
  crypto.subtle.importKey = () => Promise.reject(new DOMException("", "NotSupportedError"));
  try {
    assert.equal(await check(TEXT), "insecure-page");
  } finally {
    crypto.subtle.importKey = importKey;
  }
});

test("names lead from the multivariant playlist", () => {
  const main = "https://a.example/v/b%20c/master.m3u8?t=1";
  for (const [url, name] of [
    [main, ""],
    ["https://a.example/v/b%20c/720p/index.m3u8?x", "720p/index.m3u8"],
    ["https://a.example/v/b c/%C3%BC.m3u8", "ü.m3u8"],
    ["https://a.example/v/audio/en.m3u8", "../audio/en.m3u8"],
    ["https://b.example/v/b%20c/720p/index.m3u8", null],
    ["https://a.example/%ff", null],
  ] as const) {
    assert.equal(nameOf(main, url), name, url);
  }
});
