import assert from "node:assert/strict";
import { test } from "node:test";
import { Digests } from "../src/digests.js";

const HASH = "0123456789abcdef".repeat(4);
const OTHER = "f".repeat(64);

/** A list whose reads are answered in turn; the last answer stays. */
async function read(
  ...answers: { status: number; text: string }[]
): Promise<{ digests: Digests; changes: () => number }> {
  let reads = 0;
  let changes = 0;
  const answer = async (): Promise<{ status: number; text: string }> => {
    const next = answers[Math.min(reads++, answers.length - 1)];
    assert.ok(next);
    return next;
  };
  const digests = new Digests("https://tube.example/x-segments-sha256.json", answer, () => (changes += 1));
  await new Promise((resolve) => setTimeout(resolve, 1));
  return { digests, changes: () => changes };
}

const json = (value: unknown): { status: number; text: string } => ({ status: 200, text: JSON.stringify(value) });

test("a byte range is found by its file's name, whatever folder and query it has", async () => {
  const { digests, changes } = await read(json({ "u-720-fragmented.mp4": { "1354-248416": HASH } }));
  assert.equal(digests.state, "ready");
  assert.equal(changes(), 1);
  const found = digests.digest("https://cdn.example/a/u-720-fragmented.mp4?token=a/b", 1354, 248_417);
  assert.deepEqual([...(found ?? [])], [...Buffer.from(HASH, "hex")]);
  assert.equal(digests.digest("https://cdn.example/a/u-720-fragmented.mp4", 1354, 248_416), undefined);
  assert.equal(digests.digest("https://cdn.example/a/u-1080-fragmented.mp4", 1354, 248_417), undefined);
});

test("it covers a playlist that names one of its files", async () => {
  const { digests } = await read(json({ "a.mp4": { "0-9": HASH } }));
  assert.ok(digests.covers("#EXTM3U\n#EXTINF:4,\nhttps://cdn.example/v/a.mp4?x=1\r\n"));
  assert.ok(!digests.covers("#EXTM3U\n#a.mp4\n#EXTINF:4,\nb.mp4\n"));
});

for (const [what, answer] of Object.entries({
  "an error page": { status: 404, text: JSON.stringify({ "a.mp4": { "0-9": HASH } }) },
  "no JSON": { status: 200, text: "<!doctype html>" },
  "another JSON": json(["a.mp4"]),
  null: json(null),
  "hashes that are none": json({ "a.mp4": { "0-9": "12", "10-19": 7 }, "b.mp4": 3 }),
  "too much": { status: 200, text: " ".repeat(16 * 1024 * 1024) + JSON.stringify({ "a.mp4": { "0-9": HASH } }) },
})) {
  test(`${what} is no list`, async () => {
    const { digests, changes } = await read(answer);
    assert.equal(digests.state, "unusable");
    assert.equal(changes(), 1);
    assert.equal(digests.digest("https://a.example/a.mp4", 0, 10), undefined);
  });
}

test("names of an object's own machinery are names like others", async () => {
  const { digests } = await read({
    status: 200,
    text: `{"__proto__":{"0-9":"${HASH}"},"constructor":{"0-9":"${OTHER}"}}`,
  });
  assert.ok(digests.digest("https://a.example/__proto__", 0, 10));
  assert.equal(digests.digest("https://a.example/toString", 0, 10), undefined);
});

test("a list that grows is read again, and what it said first holds", { timeout: 10_000 }, async () => {
  const { digests, changes } = await read(
    json({ "a.mp4": { "0-9": HASH } }),
    json({ "a.mp4": { "0-9": OTHER, "10-19": OTHER } }),
  );
  const start = performance.now();
  digests.incomplete();
  digests.incomplete();
  while (changes() < 2) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(performance.now() - start >= 990, "not more than once a second");
  assert.deepEqual([...(digests.digest("https://a.example/a.mp4", 0, 10) ?? [])], [...Buffer.from(HASH, "hex")]);
  assert.deepEqual([...(digests.digest("https://a.example/a.mp4", 10, 20) ?? [])], [...Buffer.from(OTHER, "hex")]);
  digests.stop();
});
