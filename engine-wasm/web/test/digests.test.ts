import assert from "node:assert/strict";
import { test } from "node:test";
import { Digests } from "../src/digests.js";

const HASH = "0123456789abcdef".repeat(4);
const OTHER = "f".repeat(64);

/** A list that is read with this answer. */
async function read(answer: { status: number; text: string } | Error): Promise<Digests> {
  const reading = answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
  let digests!: Digests;
  await new Promise<void>((resolve) => (digests = new Digests(reading, resolve)));
  return digests;
}

const json = (value: unknown): { status: number; text: string } => ({ status: 200, text: JSON.stringify(value) });

test("a byte range is found by its file's name, whatever folder and query it has", async () => {
  const digests = await read(json({ "u-720-fragmented.mp4": { "1354-248416": HASH } }));
  assert.equal(digests.state, "ready");
  const found = digests.digest("https://cdn.example/a/u-720-fragmented.mp4?token=a/b", 1354, 248_417);
  assert.deepEqual([...(found ?? [])], [...Buffer.from(HASH, "hex")]);
  assert.equal(digests.digest("https://cdn.example/a/u-720-fragmented.mp4", 1354, 248_416), undefined);
  assert.equal(digests.digest("https://cdn.example/a/u-1080-fragmented.mp4", 1354, 248_417), undefined);
});

test("it covers a playlist that names one of its files", async () => {
  const digests = await read(json({ "a.mp4": { "0-9": HASH } }));
  assert.ok(digests.covers("#EXTM3U\n#EXTINF:4,\nhttps://cdn.example/v/a.mp4?x=1\r\n"));
  assert.ok(!digests.covers("#EXTM3U\n#a.mp4\n#EXTINF:4,\nb.mp4\n"));
});

for (const [what, answer] of Object.entries({
  "an error page": { status: 404, text: JSON.stringify({ "a.mp4": { "0-9": HASH } }) },
  "no answer": new Error("the network is away"),
  "no JSON": { status: 200, text: "<!doctype html>" },
  "another JSON": json(["a.mp4"]),
  null: json(null),
  "hashes that are none": json({ "a.mp4": { "0-9": "12", "10-19": 7 }, "b.mp4": 3, "c.ts": HASH }),
  "too much": { status: 200, text: " ".repeat(16 * 1024 * 1024) + JSON.stringify({ "a.mp4": { "0-9": HASH } }) },
})) {
  test(`${what} is no list`, async () => {
    const digests = await read(answer);
    assert.equal(digests.state, "unusable");
    assert.equal(digests.digest("https://a.example/a.mp4", 0, 10), undefined);
  });
}

test("names of an object's own machinery are names like others", async () => {
  const digests = await read({
    status: 200,
    text: `{"__proto__":{"0-9":"${HASH}"},"constructor":{"0-9":"${OTHER}"}}`,
  });
  assert.ok(digests.digest("https://a.example/__proto__", 0, 10));
  assert.equal(digests.digest("https://a.example/toString", 0, 10), undefined);
});
