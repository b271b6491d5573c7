import assert from "node:assert/strict";
import { test } from "node:test";
import { isMultivariant, mainTag } from "../src/playlists.js";
import { effect, explain, REASONS } from "../src/reasons.js";

const CODES =
  "off consent-pending consent-refused metered hidden gate no-hash bad-tags private insecure-page no-wasm csp no-webrtc " +
  "no-ice-server native-playback other-engine signaling-unreachable signaling-refused origin-refused token-expired " +
  "video-unknown udp-blocked no-range origin-hash-mismatch signature-invalid playlist-version killed";

test("all codes of the interface are there, each with one sentence", () => {
  assert.deepEqual([...REASONS].sort(), CODES.split(" ").sort());
  for (const reason of REASONS) assert.match(explain(reason), /^[A-Z].*\.$/, reason);
});

test("lasting reasons switch off, passing ones wait, and notes change nothing", () => {
  assert.equal(effect("no-webrtc"), "off");
  assert.equal(effect("gate"), "waiting");
  assert.equal(effect("origin-hash-mismatch"), "note");
});

test("the main tag is read before the core is there", () => {
  const tag = '#EXTM3U\r\n#EXT-X-MAREA:VERSION=1,PIECE=65536,VIDEO="abc",SIGNALING="wss://a/s"\r\n#EXTINF:4,\r\n';
  assert.deepEqual(mainTag(tag), { problem: null, video: "abc", signaling: "wss://a/s" });
  assert.equal(mainTag("#EXTM3U\n#EXT-X-MAREA-SEGMENT:SIZE=1\n"), null);
});

test("cut and too new tags are told apart", () => {
  assert.equal(mainTag("#EXTM3U\n#EXT-X-MAREA:VERSION=1,PIECE=65\n")?.problem, "bad-tags");
  assert.equal(mainTag("#EXTM3U\n#EXT-X-MAREA\n")?.problem, "bad-tags");
  assert.equal(mainTag("#EXTM3U\n#EXT-X-MAREA:VERSION=2,SHAPE=9\n")?.problem, "playlist-version");
});

test("a multivariant playlist names renditions", () => {
  assert.ok(isMultivariant("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n"));
  assert.ok(!isMultivariant("#EXTM3U\n#EXTINF:4,\n0.m4s\n"));
});
