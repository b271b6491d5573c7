// The results that are kept, and the page that shows them.

import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as paths from "../e2e/lib/paths.mjs";

/** Where results are kept. */
export const FOLDER = join(paths.repo, "docs/benchmarks");

const PAGE = join(paths.repo, "docs/benchmarks.md");

/** All results in a file, one a line. @param {string} file @returns {Promise<any[]>} */
export async function kept(file) {
  const lines = existsSync(file) ? (await readFile(file, "utf8")).split("\n").filter(Boolean) : [];
  return lines.map((line) => JSON.parse(line));
}

/** Replaces what the page shows of a benchmark; the rest of it is written by hand. @param {string} bench @param {string} text */
export async function draw(bench, text) {
  const marks = [`<!-- ${bench}: drawn by \`cargo xtask bench ${bench} --report\` -->`, `<!-- end of ${bench} -->`];
  const page = await readFile(PAGE, "utf8");
  const [begin, end] = marks.map((mark) => page.indexOf(mark));
  if (begin < 0 || end < begin) throw new Error(`${PAGE} needs the lines ${marks.join(" and ")}`);
  await writeFile(PAGE, `${page.slice(0, begin + marks[0].length)}\n\n${text}\n\n${page.slice(end)}`);
}
