// Draws `docs/benchmarks/viewers.jsonl`: tables into docs/benchmarks.md, charts beside it.

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { bars, lines } from "./chart.mjs";
import { ENGINES } from "./engines.mjs";
import { figures, spread } from "./figures.mjs";
import { FOLDER, draw as drawPage, kept } from "./page.mjs";
import { SCENARIOS } from "./scenarios.mjs";

/** Every run that is kept, one a line. */
export const RESULTS = join(FOLDER, "viewers.jsonl");

/** The number of viewers that the charts show. */
const SHOWN = 4;

/** @typedef {import("./figures.mjs").Line} Line */
/** @typedef {Record<string, Record<string, number | null>[]>} Runs Figures by engine, in the order of the runs. */
/** @typedef {{ scenario: string, viewers: number, lines: Line[], runs: Runs }} Set */

/**
 * @typedef {object} Column
 * @property {string} key
 * @property {string} title
 * @property {number} digits
 * @property {boolean} [ratio] Whether one engine's divided by another's says something.
 * @property {number} [scale]
 */

/** @type {Column[]} */
const COLUMNS = [
  { key: "server", title: "server MB", digits: 1, ratio: true },
  { key: "copies", title: "copies", digits: 2, ratio: true },
  { key: "late", title: "copies, settled", digits: 2, ratio: true },
  { key: "share", title: "from peers %", digits: 1, scale: 100 },
  { key: "startup", title: "start ms", digits: 0, ratio: true },
  { key: "stalls", title: "stalls", digits: 0 },
  { key: "stalled", title: "stalled s", digits: 1 },
  { key: "latency", title: "latency s", digits: 1, ratio: true },
  { key: "edge", title: "behind edge s", digits: 1, ratio: true },
  { key: "cpu", title: "CPU s", digits: 1, ratio: true },
  { key: "cpuPerGb", title: "CPU s/GB from peers", digits: 0 },
  { key: "weight", title: "page kB", digits: 1 },
];

/** All results that are kept. @returns {Promise<Line[]>} */
export function results() {
  return kept(RESULTS);
}

/** Draws all. */
export async function report() {
  const sets = latest(await results());
  if (sets.length === 0) throw new Error("no results are kept yet; make some: cargo xtask bench viewers --append");
  await mkdir(FOLDER, { recursive: true });
  const charts = draw(sets);
  for (const { name, svg } of charts) await writeFile(join(FOLDER, name), svg);
  const text = [
    ...sets.flatMap(aboutMachine).filter((line, at, every) => every.indexOf(line) === at),
    ...charts.flatMap(({ name, title }) => ["", `![${title}](benchmarks/${name})`]),
    ...sets.flatMap(section),
  ];
  await drawPage("viewers", text.join("\n"));
}

/** Of each scenario and number of viewers the runs of its last series. @param {Line[]} all @returns {Set[]} */
function latest(all) {
  const sets = [];
  for (const scenario of Object.keys(SCENARIOS)) {
    const sizes = [...new Set(all.filter((line) => line.scenario === scenario).map(({ viewers }) => viewers))];
    for (const viewers of sizes.sort((a, b) => a - b)) {
      const runs = all.filter((line) => line.scenario === scenario && line.viewers === viewers);
      const last = runs
        .map(({ series }) => series)
        .sort()
        .pop();
      const lines = runs.filter(({ series }) => series === last);
      sets.push({ scenario, viewers, lines, runs: byEngine(lines) });
    }
  }
  return sets;
}

/** @param {Line[]} lines @returns {Runs} */
function byEngine(lines) {
  const plain = (/** @type {number} */ run) => lines.find((line) => line.engine === "plain" && line.run === run);
  /** @type {Runs} */
  const runs = {};
  for (const engine of Object.keys(ENGINES)) {
    const own = lines.filter((line) => line.engine === engine);
    if (own.length > 0)
      runs[engine] = own.map((line) => ({
        run: line.run,
        ...figures(line, engine === "plain" ? undefined : plain(line.run)),
      }));
  }
  return runs;
}

/** @param {Set} set @returns {string[]} */
function aboutMachine({ lines: [line] }) {
  const { machine, versions, series } = line;
  return [
    `Measured ${series.slice(0, 10)} on ${machine.cpu}, ${machine.cores} cores, ${machine.memory} GiB, ${machine.system}: ` +
      `Marea ${versions.marea} (${versions.commit}), hls.js ${versions["hls.js"]}, p2p-media-loader-hlsjs ` +
      `${versions["p2p-media-loader-hlsjs"]}, Chromium ${versions.chromium}.`,
  ];
}

/** @param {Set} set */
function section({ scenario, viewers, lines: runsOf, runs }) {
  const { title, startSegments } = SCENARIOS[scenario];
  const columns = COLUMNS.filter(({ key }) =>
    Object.values(runs).some((figures) => figures.some((one) => one[key] !== null && one[key] !== undefined)),
  );
  const row = (/** @type {string} */ name, /** @type {string[]} */ cells) => `| ${[name, ...cells].join(" | ")} |`;
  const count = Math.max(...Object.values(runs).map(({ length }) => length));
  const copy = spread(runsOf.map((line) => line.copy))?.median ?? 0;
  const rows = Object.entries(runs).map(([engine, figures]) =>
    row(
      ENGINES[engine].label,
      columns.map((column) => cell(column, figures)),
    ),
  );
  const compared = Object.keys(runs).filter((engine) => engine !== "marea" && runs.marea);
  const ratios = compared.map((engine) =>
    row(
      `Marea ÷ ${ENGINES[engine].label}`,
      columns.map((column) => ratio(column, runs.marea, runs[engine])),
    ),
  );
  const floor = {
    server: (copy / 1e6).toFixed(1),
    copies: `1.00 (${startSegments(viewers).toFixed(2)})`,
    late: "1.00",
    share: ((100 * (viewers - 1)) / viewers).toFixed(1),
    stalls: "0",
    stalled: "0.0",
  };
  return [
    "",
    `### ${viewers} viewers: ${title}`,
    "",
    row(
      "",
      columns.map(({ title }) => title),
    ),
    row(
      "---",
      columns.map(() => "--:"),
    ),
    ...rows,
    ...ratios,
    row(
      "floor",
      columns.map(({ key }) => floor[key] ?? ""),
    ),
    "",
    `${count} ${count === 1 ? "run" : "runs"} of each. ${remarks(runs).join(" ")}`.trim(),
  ];
}

/** What would be hidden by the figures of the table. @param {Runs} runs */
function remarks(runs) {
  const idle = spread(Object.values(runs).flatMap((figures) => figures.map((one) => one.idle)));
  const percent = (/** @type {number} */ value) => (100 * value).toFixed(0);
  const machine = idle ? [`The machine was idle for ${percent(idle.min)} to ${percent(idle.max)} % of the time.`] : [];
  const others = Object.entries(runs).flatMap(([engine, figures]) => {
    const sum = (/** @type {string} */ key) => figures.reduce((total, one) => total + (one[key] ?? 0), 0);
    const label = ENGINES[engine].label;
    return [
      ...(sum("unfinished") > 0 ? [`${label}: ${sum("unfinished")} viewers did not reach the end.`] : []),
      ...(sum("wrong") > 0 ? [`${label}: the player was given ${sum("wrong")} buffers with wrong bytes.`] : []),
    ];
  });
  return [...machine, ...others];
}

/** Median and, if there are several runs, spread. @param {Column} column @param {Runs[string]} figures */
function cell({ key, digits, scale = 1 }, figures) {
  const found = spread(figures.map((one) => one[key] ?? null));
  if (!found) return "";
  const [median, min, max] = [found.median, found.min, found.max].map((value) => (value * scale).toFixed(digits));
  return min === max ? median : `${median} (${min}–${max})`;
}

/** Median of the ratios run by run. @param {Column} column @param {Runs[string]} ours @param {Runs[string]} theirs */
function ratio({ key, ratio: meaningful }, ours, theirs) {
  if (!meaningful) return "";
  const pairs = ours.map((one) => {
    const [a, b] = [one[key], theirs.find(({ run }) => run === one.run)?.[key]];
    return a !== null && b ? a / b : null;
  });
  return spread(pairs)?.median.toFixed(2) ?? "";
}

/** @param {Set[]} sets */
function draw(sets) {
  const series = Object.values(ENGINES).map(({ label }) => label);
  const shown = sets.filter(({ viewers }) => viewers === SHOWN);
  /** @type {(key: string, chosen: Set[], label: (set: Set) => string, floor: boolean) => any[]} */
  const groups = (key, chosen, label, floor) =>
    chosen.map((set) => ({
      label: label(set),
      ...(floor && { floor: 1 }),
      bars: Object.keys(ENGINES).map((engine) => spread((set.runs[engine] ?? []).map((one) => one[key] ?? null))),
    }));
  const charts = [];
  const byScenario = [
    {
      name: "viewers-copies.svg",
      key: "copies",
      title: `Server copies of the film, ${SHOWN} viewers`,
      unit: "copies",
      floor: "one copy",
      digits: 2,
    },
    {
      name: "viewers-start.svg",
      key: "startup",
      title: `From play to picture, ${SHOWN} viewers`,
      unit: "ms",
      digits: 0,
    },
    { name: "viewers-cpu.svg", key: "cpu", title: `CPU time of the browser, ${SHOWN} viewers`, unit: "s", digits: 0 },
  ];
  if (shown.length > 0)
    for (const { name, key, ...rest } of byScenario) {
      const chart = { ...rest, series, groups: groups(key, shown, ({ scenario }) => scenario, Boolean(rest.floor)) };
      charts.push({ name, title: rest.title, svg: bars(chart) });
    }
  const sizes = sets.filter(({ scenario }) => scenario === "vod");
  if (sizes.length > 1) {
    const title = "Server copies of the film by number of viewers, 10 s apart";
    const chart = { title, unit: "copies", series, floor: "one copy" };
    const by = groups("copies", sizes, ({ viewers }) => `${viewers} viewers`, true);
    charts.push({ name: "viewers-number.svg", title, svg: bars({ ...chart, groups: by }) });
  }
  const live = shown.find(({ scenario }) => scenario === "live");
  if (live) {
    const title = `Sent by the server during a live stream, ${SHOWN} viewers, first run`;
    const over = Object.keys(ENGINES).map((engine) => {
      const samples = live.lines.find((line) => line.engine === engine && line.run === 0)?.samples ?? [];
      return samples.map((/** @type {number[]} */ [time, server]) => [time, server / 1e6]);
    });
    charts.push({ name: "viewers-live.svg", title, svg: lines({ title, unit: "MB", series, lines: over }) });
  }
  return charts;
}
