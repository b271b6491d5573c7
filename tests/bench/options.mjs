// What the benchmarks' options may be, and what is said of others.

/** @param {string} message @returns {never} */
export function fail(message) {
  console.error(`error: ${message}`);
  process.exit(2);
}

/** Names out of what there is, with commas between. @param {string} text @param {Record<string, unknown>} known @param {string} what */
export function names(text, known, what) {
  const list = text.split(",").filter(Boolean);
  const wrong = list.find((name) => !(name in known));
  if (wrong !== undefined || list.length === 0)
    fail(`unknown ${what} ${JSON.stringify(wrong ?? text)}; there is ${Object.keys(known).join(", ")}`);
  return list;
}

/** @param {string} text @param {string} what @param {number} most */
export function number(text, what, most) {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > most)
    fail(`${what} ${JSON.stringify(text)} is not 1 to ${most}`);
  return value;
}
