import assert from "node:assert/strict";
import { test } from "node:test";
import { isHls, playlistUrl, type SignalingChoice, signalingUrls } from "../src/urls.js";

const PAGE = "https://page.example/watch";
const base: SignalingChoice = {
  configured: [],
  tag: null,
  playlist: "https://media.example/v/master.m3u8",
  page: PAGE,
  script: "https://edge.example/marea.js",
  signed: false,
};

test("what the page configured comes first, all of it", () => {
  const configured = ["wss://one.example/signal", "wss://two.example/signal"];
  assert.deepEqual(signalingUrls({ ...base, configured, tag: "wss://tag.example/signal" }), configured);
});

test("a playlist of a third party's server has no say", () => {
  assert.deepEqual(signalingUrls({ ...base, tag: "wss://tag.example/signal" }), ["wss://edge.example/signal"]);
});

test("the tag counts for playlists of the page's or the script's origin", () => {
  for (const playlist of ["https://page.example/v.m3u8", "https://edge.example/v.m3u8"]) {
    assert.deepEqual(signalingUrls({ ...base, playlist, tag: "wss://tag.example/s" }), ["wss://tag.example/s"]);
  }
});

test("without a tag the playlist's own server is asked", () => {
  assert.deepEqual(signalingUrls({ ...base, playlist: "https://page.example/v.m3u8" }), ["wss://page.example/signal"]);
});

test("a refused candidate falls through to the next", () => {
  const choice = { ...base, playlist: "https://page.example/v.m3u8", configured: ["ws://plain.example/signal"] };
  assert.deepEqual(signalingUrls({ ...choice, tag: "wss://tag.example/s" }), ["wss://tag.example/s"]);
  assert.deepEqual(signalingUrls({ ...choice, tag: "ws://tag.example/s" }), ["wss://page.example/signal"]);
});

test("ws: is for http pages only, and nothing is left if all is refused", () => {
  const http = { ...base, page: "http://localhost:8080/", script: "http://127.0.0.1:8000/marea.js" };
  assert.deepEqual(signalingUrls(http), ["ws://127.0.0.1:8000/signal"]);
  assert.deepEqual(signalingUrls({ ...http, page: PAGE }), []);
  assert.deepEqual(signalingUrls({ ...base, script: undefined }), []);
});

test("HLS is told by its type, else by its path", () => {
  assert.ok(isHls("/v/master.m3u8?token=1"));
  assert.ok(isHls("/play?id=1", "application/vnd.apple.mpegurl"));
  assert.ok(isHls("/play?id=1", "application/x-mpegURL; charset=utf-8"));
  assert.ok(!isHls("/v/master.m3u8", "video/mp4"));
  assert.ok(!isHls("/v/film.mp4?x=.m3u8"));
  assert.ok(!isHls("blob:https://page.example/1.m3u8"));
});

test("delivery directives do not make another playlist", () => {
  const url = playlistUrl("live.m3u8?_HLS_msn=7&_HLS_part=1&a=b#x", "https://media.example/v/");
  assert.equal(url, "https://media.example/v/live.m3u8?a=b");
});
