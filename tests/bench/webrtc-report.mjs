// Draws `docs/benchmarks/webrtc.jsonl` as tables into docs/benchmarks.md.

import { join } from "node:path";
import { spread } from "./figures.mjs";
import { FOLDER, draw, kept } from "./page.mjs";

/** Every run that is kept, one a line. */
export const RESULTS = join(FOLDER, "webrtc.jsonl");

const OURS = "marea";

/** @param {any[]} runs @param {string} key @returns {number | undefined} */
const middle = (runs, key) => spread(runs.map((run) => run[key] ?? null))?.median;

/** @param {number | undefined} value @param {number} digits */
const show = (value, digits) => (value === undefined ? "–" : value.toFixed(digits));

/** Senders beside each other: a row for each line and number of receivers. @param {string} title @param {any[]} all @returns {string[]} */
function compared(title, all) {
  if (all.length === 0) return [];
  const senders = [...new Set(all.map(({ sender }) => sender))];
  const head = senders.map((sender) => `${sender} Mbit/s | ${sender} CPU s/GB`).join(" | ");
  const lines = [
    `### ${title}`,
    "",
    `| round trip, loss | receivers | runs | ${head} | best other ÷ marea |`,
    `| --- | --: | --: |${" --: | --: |".repeat(senders.length)} --: |`,
  ];
  const cellOf = (/** @type {any} */ { rtt, loss, receivers }) => `${rtt} ms, ${loss * 100} % | ${receivers}`;
  for (const cell of new Set(all.map(cellOf))) {
    const runs = all.filter((run) => cellOf(run) === cell);
    const of = (/** @type {string} */ sender) =>
      runs.filter((run) => run.sender === sender && run.failed === undefined);
    const cpus = senders.filter((sender) => sender !== OURS).map((sender) => middle(of(sender), "cpu"));
    const best = Math.min(...cpus.flatMap((cpu) => cpu ?? []));
    const ours = middle(of(OURS), "cpu");
    const figures = senders.map(
      (sender) => `${show(middle(of(sender), "mbit"), 1)} | ${show(middle(of(sender), "cpu"), 1)}`,
    );
    const ratio = show(ours === undefined || !Number.isFinite(best) ? undefined : best / ours, 2);
    lines.push(`| ${cell} | ${of(OURS).length} | ${figures.join(" | ")} | ${ratio} |`);
  }
  const failed = all.filter((run) => run.failed !== undefined);
  return [
    ...lines,
    "",
    ...(failed.length > 0 ? [`${failed.length} of ${all.length} runs failed and are left out.`, ""] : []),
  ];
}

/** @param {any[]} all @returns {string[]} */
function idle(all) {
  if (all.length === 0) return [];
  const lines = [
    "### Idle",
    "",
    "| sender | peers | KiB each | CPU, % of a core in all |",
    "| --- | --: | --: | --: |",
  ];
  for (const sender of new Set(all.map((run) => run.sender))) {
    const runs = all.filter((run) => run.sender === sender);
    const core = middle(runs, "core");
    lines.push(
      `| ${sender} | ${runs[0].receivers} | ${show(middle(runs, "kib"), 0)} | ${show(core && 100 * core, 1)} |`,
    );
  }
  return [...lines, ""];
}

/** @param {any[]} all @returns {string[]} */
function crowd(all) {
  if (all.length === 0) return [];
  const [mbit, core, cpu, kib] = ["mbit", "core", "cpu", "kib"].map((key) => middle(all, key));
  return [
    "### A crowd",
    "",
    `${all[0].receivers} connected peers, 40 to a swarm, each of whom asks for 0.2 Mbit/s: ${show(mbit, 1)} Mbit/s in all at ` +
      `${show(core && 100 * core, 0)} % of one core (${show(cpu, 1)} CPU s/GB), ${show(kib && kib / 1024, 0)} MiB resident. ` +
      `Runs: ${all.length}.`,
    "",
  ];
}

/** Draws all. */
export async function report() {
  const all = await kept(RESULTS);
  if (all.length === 0) throw new Error("no results are kept yet; make some: cargo xtask bench webrtc --append");
  const part = (/** @type {string} */ name) => all.filter((run) => run.part === name);
  const text = [
    ...compared("Native receivers", part("native")),
    ...compared("Chromium as receiver", part("chromium")),
    ...idle(part("idle")),
    ...crowd(part("crowd")),
  ].join("\n");
  await draw("webrtc", text.trimEnd());
}
