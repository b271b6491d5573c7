import assert from "node:assert/strict";
import { test } from "node:test";

test("importing outside of a browser does nothing and does not fail", async () => {
  const marea = await import("../src/marea.js");
  assert.equal(marea.version, "test");
  assert.deepEqual(marea.sessions, []);
});
