// Small charts as SVG: no scripts, readable on a light and on a dark page.

const STYLE = `
  text { font: 12px system-ui, sans-serif; fill: #333; }
  .title { font-size: 14px; font-weight: 600; }
  .value { font-size: 11px; }
  .grid { stroke: #8884; }
  .spread { stroke: #333; }
  .floor { stroke: #333; stroke-width: 2; stroke-dasharray: 3 2; }
  .s0 { fill: #8a8f98; stroke: #8a8f98; } .s1 { fill: #d9822b; stroke: #d9822b; } .s2 { fill: #0f8b8d; stroke: #0f8b8d; }
  polyline { fill: none !important; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd; } .spread, .floor { stroke: #ddd; }
    .s0 { fill: #9aa1ac; stroke: #9aa1ac; } .s1 { fill: #f0a04b; stroke: #f0a04b; } .s2 { fill: #35b8ba; stroke: #35b8ba; }
  }`;

const WIDTH = 760;
const LEFT = 56;
const RIGHT = 16;
const TOP = 60;
const HEIGHT = 220;
const BOTTOM = 34;

/** @param {number} value */
const at = (value) => Number(value.toFixed(1));

/** @param {string} text */
const escape = (text) => text.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);

/** A round step that gives three to six lines up to `most`. @param {number} most */
function step(most) {
  const power = 10 ** Math.floor(Math.log10(most / 3));
  return [1, 2, 5, 10].map((factor) => factor * power).find((size) => most / size <= 6) ?? 10 * power;
}

/** @param {{ title: string, unit: string, series: string[], most: number, floor?: string }} frame @param {string[]} body */
function svg({ title, unit, series, most, floor }, body) {
  const lines = [];
  for (let value = 0, by = step(most); value <= most; value += by) {
    const y = at(TOP + HEIGHT * (1 - value / most));
    lines.push(`<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}"/>`);
    lines.push(`<text x="${LEFT - 6}" y="${y + 4}" text-anchor="end">${Number(value.toPrecision(6))}</text>`);
  }
  const legend = series.map(
    (name, index) =>
      `<rect class="s${index}" x="${LEFT + index * 150}" y="34" width="12" height="12"/><text x="${LEFT + 18 + index * 150}" y="44">${escape(name)}</text>`,
  );
  if (floor) {
    const x = LEFT + series.length * 150;
    legend.push(
      `<line class="floor" x1="${x}" x2="${x + 14}" y1="40" y2="40"/><text x="${x + 20}" y="44">${escape(floor)}</text>`,
    );
  }
  const height = TOP + HEIGHT + BOTTOM;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escape(`${title} (${unit})`)}">`,
    `<style>${STYLE}\n</style>`,
    `<text class="title" x="${LEFT}" y="20">${escape(`${title} (${unit})`)}</text>`,
    ...legend,
    ...lines,
    ...body,
    "</svg>\n",
  ].join("\n");
}

/**
 * Groups of bars with their spread.
 * @param {{ title: string, unit: string, series: string[], floor?: string, digits?: number,
 *   groups: { label: string, floor?: number, bars: ({ median: number, min: number, max: number } | null)[] }[] }} chart
 *   `bars` in the order of `series`.
 */
export function bars({ groups, digits = 2, ...frame }) {
  const most = 1.15 * Math.max(...groups.flatMap(({ bars }) => bars.map((bar) => bar?.max ?? 0)), 1e-9);
  const y = (/** @type {number} */ value) => at(TOP + HEIGHT * (1 - Math.max(0, value) / most));
  const room = (WIDTH - LEFT - RIGHT) / groups.length;
  const width = Math.min(40, (room * 0.8) / frame.series.length);
  const body = groups.flatMap(({ label, floor, bars }, group) => {
    const middle = LEFT + room * (group + 0.5);
    const begin = middle - (width * bars.length) / 2;
    const parts = bars.flatMap((bar, index) => {
      if (!bar) return [];
      const x = begin + width * index;
      const centre = at(x + width / 2);
      return [
        `<rect class="s${index}" x="${at(x + 1)}" y="${y(bar.median)}" width="${at(width - 2)}" height="${at(y(0) - y(bar.median))}"/>`,
        `<line class="spread" x1="${centre}" x2="${centre}" y1="${y(bar.min)}" y2="${y(bar.max)}"/>`,
        `<text class="value" x="${centre}" y="${at(y(bar.max) - 4)}" text-anchor="middle">${bar.median.toFixed(digits)}</text>`,
      ];
    });
    if (floor !== undefined)
      parts.push(
        `<line class="floor" x1="${at(begin)}" x2="${at(begin + width * bars.length)}" y1="${y(floor)}" y2="${y(floor)}"/>`,
      );
    parts.push(`<text x="${at(middle)}" y="${TOP + HEIGHT + 20}" text-anchor="middle">${escape(label)}</text>`);
    return parts;
  });
  return svg({ ...frame, most }, body);
}

/**
 * Lines over time.
 * @param {{ title: string, unit: string, series: string[], lines: [number, number][][] }} chart `lines` in the order of
 *   `series`, points as seconds and value.
 */
export function lines({ lines: all, ...frame }) {
  const points = all.flat();
  const most = 1.1 * Math.max(...points.map(([, value]) => value), 1e-9);
  const end = Math.max(...points.map(([time]) => time), 1);
  const x = (/** @type {number} */ time) => at(LEFT + ((WIDTH - LEFT - RIGHT) * time) / end);
  const y = (/** @type {number} */ value) => at(TOP + HEIGHT * (1 - value / most));
  const body = all.map(
    (line, index) =>
      `<polyline class="s${index}" points="${line.map(([time, value]) => `${x(time)},${y(value)}`).join(" ")}"/>`,
  );
  for (let time = 0, by = step(end); time <= end; time += by)
    body.push(`<text x="${x(time)}" y="${TOP + HEIGHT + 20}" text-anchor="middle">${time} s</text>`);
  return svg({ ...frame, most }, body);
}
