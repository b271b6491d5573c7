// Runs the end-to-end tests, one file after the other: they measure time and share two cores with their browsers.
// `node tests/e2e/run.mjs [NAME…]` runs only files whose name contains one of the words.

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { hasRoutedInterface, runInNamespace } from "./lib/network.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const words = process.argv.slice(2);
const files = readdirSync(here)
  .filter((name) => name.endsWith(".test.mjs"))
  .filter((name) => words.length === 0 || words.some((word) => name.includes(word)))
  .sort()
  .map((name) => join(here, name));
if (files.length === 0) {
  console.error(`no test file is named like ${words.join(" or ")}`);
  process.exit(2);
}

if (!hasRoutedInterface() && !process.env.MAREA_E2E_NAMESPACE) {
  console.log("no routed network interface here: running in a network namespace");
  process.exit(runInNamespace([fileURLToPath(import.meta.url), ...words]));
}
const done = spawnSync(process.execPath, ["--test", "--test-concurrency=1", "--test-reporter=spec", ...files], {
  stdio: "inherit",
});
process.exit(done.status ?? 1);
