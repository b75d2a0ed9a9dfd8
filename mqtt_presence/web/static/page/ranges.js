/** The period of a history: some lengths up to now, or two moments of one's own. Pure. */

/** @typedef {import("./route.js").Query} Query */
/** @typedef {{key: string, from: number, to: number, isOpen: boolean, label: string}} Range epoch milliseconds; open: up to now */

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const MINUTE = 60_000;

/** @type {{key: string, label: string, length: number}[]} */
export const LENGTHS = [
  {key: "1h", label: "1 h", length: HOUR},
  {key: "24h", label: "24 h", length: DAY},
  {key: "7d", label: "7 d", length: 7 * DAY},
  {key: "30d", label: "30 d", length: 30 * DAY},
];
const NAMES = new Map([["1h", "last hour"], ["24h", "last 24 hours"], ["7d", "last 7 days"], ["30d", "last 30 days"]]);

/**
 * Return the range in the address, 24 hours by default.
 *
 * @param {Query} query
 * @param {number} now epoch milliseconds
 * @returns {Range}
 */
export function rangeOf({range = "", from = "", to = ""}, now) {
  // In either order: while somebody changes both, one is behind the other.
  const [began = NaN, ended = NaN] = [Date.parse(from), Date.parse(to)].sort((a, b) => a - b);
  if (began <= ended) return {key: "free", from: began, to: Math.max(ended, began + MINUTE), isOpen: false, label: "period"};
  const found = LENGTHS.find(({key}) => key === range) ?? {key: "24h", length: DAY};
  return {key: found.key, from: now - found.length, to: now, isOpen: true, label: NAMES.get(found.key) ?? ""};
}

/**
 * Write a moment as a field for date and time has it, in local time.
 *
 * @param {number} millis
 */
export function toField(millis) {
  const local = new Date(Math.floor(millis / MINUTE) * MINUTE);
  return new Date(local.getTime() - local.getTimezoneOffset() * MINUTE).toISOString().slice(0, 16);
}

/**
 * Read a field for date and time; empty if it has none.
 *
 * @param {string} text
 */
export function fromField(text) {
  const time = new Date(text).getTime();
  return Number.isNaN(time) ? "" : new Date(time).toISOString();
}
