// Runs the end-to-end tests, one file after the other: they measure time and share two cores with their browsers. Those that have
// one or two viewers leave room for as many more, and run two at a time.
// `node tests/e2e/run.mjs [NAME…]` runs only files whose name contains one of the words.

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { hasRoutedInterface, runInNamespace } from "./lib/network.mjs";

/** Files whose scenarios have two viewers at most, and run one after the other. */
const LIGHT = ["04-signaling-restart", "06-http-cut", "08-player-life", "10-nat", "17-home-mirror"];

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
const light = files.filter((file) => LIGHT.some((name) => file.includes(name)));
let status = 0;
for (const [some, concurrency] of /** @type {const} */ ([
  [files.filter((file) => !light.includes(file)), 1],
  [light, 2],
])) {
  if (some.length === 0) continue;
  const args = ["--test", `--test-concurrency=${concurrency}`, "--test-reporter=spec", ...some];
  // The others run all the same: a failure says more beside what they say.
  const done = spawnSync(process.execPath, args, { stdio: "inherit" });
  status = status || (done.status ?? 1);
}
process.exit(status);
