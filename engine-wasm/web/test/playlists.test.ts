import assert from "node:assert/strict";
import { test } from "node:test";
import { isDelta, updateUrl } from "../src/playlists.js";

const LONG = "#EXTM3U\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=NO,CAN-SKIP-UNTIL=24\n#EXTINF:4,\na.ts\n";

test("a delta update is asked for only by who has read the playlist lately", () => {
  assert.equal(updateUrl("https://a.example/l.m3u8", LONG, 11_900), "https://a.example/l.m3u8?_HLS_skip=YES");
  assert.equal(updateUrl("https://a.example/l.m3u8?t=1", LONG, 0), "https://a.example/l.m3u8?t=1&_HLS_skip=YES");
  assert.equal(updateUrl("https://a.example/l.m3u8", LONG, 12_000), "https://a.example/l.m3u8");
  assert.equal(updateUrl("https://a.example/l.m3u8", "#EXTM3U\n#EXTINF:4,\na.ts\n", 0), "https://a.example/l.m3u8");
  assert.equal(updateUrl("https://a.example/l.m3u8", LONG, Infinity), "https://a.example/l.m3u8");
});

test("a delta update is told by its tag", () => {
  assert.ok(isDelta("#EXTM3U\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n") && !isDelta(LONG));
});
