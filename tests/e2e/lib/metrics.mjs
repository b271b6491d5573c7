// Prometheus text, as far as the tests need it.

/**
 * One reading of a `/metrics` page.
 * @typedef {{ name: string, labels: Record<string, string>, value: number }} Sample
 */

/** Reads `/metrics` of a server. @param {string} origin @returns {Promise<Metrics>} */
export async function scrape(origin) {
  const response = await fetch(`${origin}/metrics`);
  if (!response.ok) throw new Error(`${origin}/metrics answered ${response.status}`);
  return new Metrics(await response.text());
}

export class Metrics {
  /** @param {string} text */
  constructor(text) {
    /** @type {Sample[]} */
    this.samples = [];
    for (const line of text.split("\n")) {
      const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
      if (!match) continue;
      /** @type {Record<string, string>} */
      const labels = {};
      for (const [, key, value] of (match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[key] = value;
      this.samples.push({ name: match[1], labels, value: Number(match[3]) });
    }
  }

  /**
   * Sum of all samples of this name whose labels fit; an array fits any of its values.
   * @param {string} name
   * @param {Record<string, string | string[]>} [labels]
   */
  sum(name, labels = {}) {
    return this.samples
      .filter((sample) => sample.name === name)
      .filter((sample) => Object.entries(labels).every(([key, want]) => [want].flat().includes(sample.labels[key])))
      .reduce((total, sample) => total + sample.value, 0);
  }
}

/**
 * Media bytes that a seeder has sent by HTTP, by how the transfer ended.
 * @param {string} origin
 */
export async function mediaSent(origin) {
  const metrics = await scrape(origin);
  const of = (/** @type {string} */ outcome) =>
    metrics.sum("marea_seeder_sent_bytes_total", { kind: ["segment", "init"], outcome });
  return { complete: of("complete"), cancelled: of("cancelled") };
}
