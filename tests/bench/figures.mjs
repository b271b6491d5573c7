// From the record of a run to its figures, and from several runs to median and spread.

/** @typedef {any} Line One line of `viewers.jsonl`: a run of one engine. */

const MB = 1e6;

/** Bytes that the server sent because of this engine, signaling and the engine's own files apart. @param {Line} line */
export function serverBytes({ server }) {
  return server.segment + server.init + server.playlist + server.list + server.other;
}

/** @param {number[]} values */
const sum = (values) => values.reduce((total, value) => total + value, 0);

/** @param {(number | null)[]} values */
function mean(values) {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : sum(/** @type {number[]} */ (known)) / known.length;
}

/**
 * The figures of a run. `plain` is the plain player's run beside it.
 * @param {Line} line
 * @param {Line} [plain]
 * @returns {Record<string, number | null>}
 */
export function figures(line, plain) {
  const { server, people, peers, copy, cpu, settled } = line;
  const media = server.segment + server.init;
  return {
    server: serverBytes(line) / MB,
    copies: media / copy,
    late: settled ? settled.server / settled.made : null,
    share: peers / (peers + media),
    startup: mean(people.map(({ startup }) => startup)),
    stalls: sum(people.map(({ stalls }) => stalls)),
    stalled: sum(people.map(({ stalled }) => stalled)) / 1000,
    latency: mean(people.map(({ latency }) => latency ?? null)),
    edge: mean(people.map(({ edge }) => edge ?? null)),
    cpu,
    cpuPerGb: plain && peers > 0 ? ((cpu - plain.cpu) / peers) * 1e9 : null,
    weight: line.weight / 1000,
    // Nobody wants these; the report names them if they are not zero.
    unfinished: line.scenario === "live" ? 0 : people.filter(({ ended }) => !ended).length,
    wrong: sum(people.map(({ wrong }) => wrong)),
    hiccups: sum(people.map(({ hiccups }) => hiccups)) / 1000,
    idle: line.idle,
  };
}

/** @param {(number | null)[]} values @returns {{ median: number, min: number, max: number } | null} */
export function spread(values) {
  const known = /** @type {number[]} */ (values.filter((value) => value !== null)).sort((a, b) => a - b);
  if (known.length === 0) return null;
  const middle = known.length >> 1;
  const median = known.length % 2 ? known[middle] : (known[middle - 1] + known[middle]) / 2;
  return { median, min: known[0], max: known[known.length - 1] };
}

/** A run in one line, for the terminal. @param {Line} line */
export function summaryOf(line) {
  const { server, copies, late, share, startup, stalls, stalled, latency, edge, cpu, unfinished, wrong, idle } =
    figures(line);
  const show = (/** @type {number | null} */ value, digits = 2) => (value === null ? "-" : value.toFixed(digits));
  return (
    `${line.scenario} N=${line.viewers} ${line.engine}: server ${show(server)} MB, ${show(copies)} copies, ` +
    (late === null ? "" : `${show(late)} settled, `) +
    `${show((share ?? 0) * 100, 1)} % from peers, start ${show(startup, 0)} ms, ${stalls} stalls (${show(stalled, 1)} s), ` +
    (latency === null ? "" : `latency ${show(latency, 1)} s (edge ${show(edge, 1)}), `) +
    `CPU ${show(cpu, 1)} s, idle ${show((idle ?? 0) * 100, 0)} %` +
    (unfinished ? `, ${unfinished} did not finish` : "") +
    (wrong ? `, ${wrong} wrong buffers` : "")
  );
}
