// Runs the end-to-end tests, one file after the other: they measure time and share two cores with their browsers. Those that
// leave room for as many viewers more run two at a time.
// `node tests/e2e/run.mjs [NAME…]` runs only files whose name contains one of the words.

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { hasRoutedInterface, runInNamespace } from "./lib/network.mjs";

/** Files that run two at a time, after the others. */
const TOGETHER = [
  // Four viewers each, as many as the pairs within other files.
  ["01-four-viewers", "18-nodes"],
  // Two viewers at most at a time, or pages that play nothing.
  ["04-signaling-restart", "06-http-cut", "08-player-life", "10-nat", "15-tracker", "17-home-mirror", "19-proxy"],
];

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
/** @param {string[]} names */
const named = (names) => files.filter((file) => names.some((name) => file.includes(name)));
const together = TOGETHER.map(named);
const alone = files.filter((file) => !together.flat().includes(file));
let status = 0;
for (const [at, some] of [alone, ...together].entries()) {
  if (some.length === 0) continue;
  const args = ["--test", `--test-concurrency=${at === 0 ? 1 : 2}`, "--test-reporter=spec", ...some];
  // The others run all the same: a failure says more beside what they say.
  const done = spawnSync(process.execPath, args, { stdio: "inherit" });
  status = status || (done.status ?? 1);
}
process.exit(status);
