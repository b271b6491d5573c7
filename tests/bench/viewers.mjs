// `cargo xtask bench viewers`: real viewers in Chromium, engine after engine, on this machine.

import { execFileSync } from "node:child_process";
import { appendFile, mkdir, rm } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual, parseArgs } from "node:util";
import { hasRoutedInterface, runInNamespace } from "../e2e/lib/network.mjs";
import * as paths from "../e2e/lib/paths.mjs";
import { ENGINES, versions } from "./engines.mjs";
import { fail, names, number } from "./options.mjs";
import { RESULTS, report, results } from "./report.mjs";
import { SCENARIOS } from "./scenarios.mjs";
import { summaryOf } from "./figures.mjs";
import { watch } from "./watch.mjs";

/** Where results go that nobody wants to keep. */
const TRIALS = join(paths.repo, "target/bench/viewers.jsonl");

/** Times that a run is tried that broke off. */
const ATTEMPTS = 2;

const { values: options } = parseArgs({
  options: {
    scenario: { type: "string", default: Object.keys(SCENARIOS).join(",") },
    viewers: { type: "string", default: "4" },
    engine: { type: "string", default: Object.keys(ENGINES).join(",") },
    runs: { type: "string", default: "3" },
    append: { type: "boolean", default: false },
    report: { type: "boolean", default: false },
  },
});

const scenarios = names(options.scenario, SCENARIOS, "scenario");
const engines = names(options.engine, ENGINES, "engine");
const sizes = options.viewers.split(",").map((text) => number(text, "--viewers", 32));
const runs = number(options.runs, "--runs", 100);

if (options.report) {
  await report().catch((error) => fail(error.message));
  process.exit(0);
}
if (!hasRoutedInterface() && !process.env.MAREA_E2E_NAMESPACE) {
  console.log("no routed network interface here: running in a network namespace");
  process.exit(runInNamespace([fileURLToPath(import.meta.url), ...process.argv.slice(2)]));
}

const file = options.append ? RESULTS : TRIALS;
await mkdir(dirname(file), { recursive: true });
if (!options.append) await rm(file, { force: true });

const machine = {
  cpu: cpus()[0]?.model.trim() ?? "unknown",
  cores: cpus().length,
  memory: Math.round(totalmem() / 2 ** 30),
  system: `${process.platform} ${process.arch}`,
};
// Runs of the same sources on the same machine are one series, whichever commands they came from.
const earlier = (options.append ? await results() : []).filter(
  (line) => line.versions.commit === commit() && isDeepStrictEqual(line.machine, machine),
);
const series = earlier[0]?.series ?? new Date().toISOString().slice(0, 19) + "Z";
const weights = Object.fromEntries(
  await Promise.all(engines.map(async (name) => [name, await ENGINES[name].weight()])),
);
const about = {
  series,
  machine,
  versions: {
    ...(await versions()),
    commit: commit(),
    chromium: execFileSync(paths.chromium, ["--version"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).replace(/[^\d.]*([\d.]+).*/s, "$1"),
    node: process.versions.node,
  },
};

let broken = 0;
for (let turn = 0; turn < runs; turn += 1) {
  for (const scenario of scenarios) {
    for (const viewers of sizes) {
      const before = earlier.filter((line) => line.scenario === scenario && line.viewers === viewers);
      const run = turn + Math.max(0, ...before.map((line) => line.run + 1));
      // Another engine begins each time, so that a machine that grows slower is slow for all alike.
      const order = engines.map((_, at) => engines[(at + run) % engines.length]);
      for (const engine of order) {
        const result = await attempts(engine, scenario, viewers);
        if (!result) continue;
        const line = { ...about, run, order: order.indexOf(engine), weight: weights[engine], ...result };
        await appendFile(file, `${JSON.stringify(line)}\n`);
        console.log(`${turn + 1}/${runs} ${summaryOf(line)}`);
      }
    }
  }
}
console.log(`results: ${file.slice(paths.repo.length + 1)}`);
if (options.append) await report();
process.exit(broken > 0 ? 1 : 0);

/** @param {string} engine @param {string} scenario @param {number} viewers */
async function attempts(engine, scenario, viewers) {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
    try {
      return await watch(engine, scenario, viewers);
    } catch (error) {
      console.error(`${scenario} ${engine} ${viewers}: attempt ${attempt} broke off: ${error}`);
    }
  }
  broken += 1;
  return null;
}

/** The last commit of what is measured, with a plus if files were changed after it. */
function commit() {
  const git = (/** @type {string[]} */ ...args) =>
    execFileSync("git", args, { cwd: paths.repo, encoding: "utf8" }).trim();
  try {
    const sources = ["swarm", "engine-wasm", "signaling", "seeder"];
    const changed = git("status", "--porcelain", "--", ...sources) !== "";
    return git("log", "-1", "--format=%h", "--abbrev=10", "--", ...sources) + (changed ? "+" : "");
  } catch {
    return "unknown";
  }
}
