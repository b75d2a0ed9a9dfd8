/** Figures from the records of one user: devices, time online, drops. Pure; times are epoch milliseconds. */

import {stateOf} from "./timeline.js";

/** @typedef {import("./api.js").ConnectionRecord} ConnectionRecord */

const DAY = 86_400_000;

/**
 * The latest connection of each client, the latest first.
 *
 * @param {readonly ConnectionRecord[]} records in any order
 * @returns {ConnectionRecord[]}
 */
export function devices(records) {
  /** @type {Map<string, ConnectionRecord>} */
  const found = new Map();
  for (const record of records) {
    const known = found.get(record.clientId);
    if (known === undefined || isLater(record, known)) found.set(record.clientId, record);
  }
  return [...found.values()].sort((a, b) => (isLater(a, b) ? -1 : 1));
}

/**
 * @param {ConnectionRecord} a
 * @param {ConnectionRecord} b
 */
function isLater(a, b) {
  if ((a.logoutTime === null) !== (b.logoutTime === null)) return a.logoutTime === null;
  return (a.lastSeen ?? a.loginTime ?? 0) > (b.lastSeen ?? b.loginTime ?? 0);
}

/**
 * The time in a period with at least one open connection.
 *
 * @param {readonly ConnectionRecord[]} records
 * @param {number} from
 * @param {number} to
 * @returns {number} milliseconds
 */
export function timeOnline(records, from, to) {
  const spans = records
    .filter(({loginTime}) => loginTime !== null)
    .map(({loginTime, logoutTime}) => [Math.max(from, Number(loginTime)), Math.min(to, logoutTime ?? to)])
    .filter(([began = 0, ended = 0]) => began < ended)
    .sort(([a = 0], [b = 0]) => a - b);
  let [total, covered] = [0, from];
  for (const [began = 0, ended = 0] of spans) {
    total += Math.max(0, ended - Math.max(began, covered));
    covered = Math.max(covered, ended);
  }
  return total;
}

/**
 * The number of connections a day that ended without a logout.
 *
 * @param {readonly ConnectionRecord[]} records
 * @param {number} from
 * @param {number} to
 */
export function dropsADay(records, from, to) {
  const dropped = records.filter((record) => {
    const {logoutTime} = record;
    return logoutTime !== null && logoutTime >= from && logoutTime <= to && stateOf(record) === "lost";
  });
  return dropped.length / Math.max(1, (to - from) / DAY);
}
