/** Positions of the bars in a timeline. Pure: times are epoch milliseconds, positions are fractions from 0 to 1. */

/** @typedef {import("./api.js").ConnectionRecord} ConnectionRecord */

/**
 * @typedef {object} Bar
 * @property {ConnectionRecord} connection
 * @property {"online" | "idle" | "ended" | "lost"} state
 * @property {number} left
 * @property {number} width
 * @property {number} idleFrom the fraction of the bar before the last activity; 1 for the whole bar
 * @property {number} lane the row, from 0; bars of one row do not overlap
 * @property {boolean} cut whether the connection began before the timeline
 */

const HOUR = 3_600_000;

/** Reasons of an end without a logout. */
const LOST = new Set(["lost", "timeout", "unconfirmed"]);

/**
 * Place the bars of one user.
 *
 * @param {readonly ConnectionRecord[]} connections
 * @param {number} from
 * @param {number} to now
 * @param {number} until the time up to which open connections are known to be open
 * @returns {Bar[]} sorted by begin
 */
export function bars(connections, from, to, until = to) {
  const span = to - from;
  /** @type {number[]} */
  const ends = [];
  return connections
    .filter(({loginTime, logoutTime}) => loginTime !== null && loginTime <= to && (logoutTime ?? until) >= from)
    .sort((a, b) => Number(a.loginTime) - Number(b.loginTime))
    .map((connection) => {
      const began = Math.max(from, Number(connection.loginTime));
      const ended = Math.max(began, Math.min(to, connection.logoutTime ?? until));
      const lane = firstFree(ends, began);
      ends[lane] = ended;
      const state = stateOf(connection);
      const active = Math.min(ended, Math.max(began, connection.lastActivity ?? began));
      return {
        connection,
        state,
        left: (began - from) / span,
        width: (ended - began) / span,
        idleFrom: state !== "idle" || ended === began ? 1 : (active - began) / (ended - began),
        lane,
        cut: Number(connection.loginTime) < from,
      };
    });
}

/** @param {ConnectionRecord} connection */
export function stateOf({logoutTime, idle, reason}) {
  if (logoutTime === null) return idle ? "idle" : "online";
  return LOST.has(reason ?? "") ? "lost" : "ended";
}

/**
 * Return the reason of an end as `mqtt-presence history` prints it: `lost (keepAlive)`.
 *
 * @param {ConnectionRecord} connection
 */
export const endOf = ({reason, cause}) => (reason ?? "ended") + (cause === null ? "" : ` (${cause})`);

/**
 * @param {number[]} ends the end of the last bar of each row
 * @param {number} began
 */
function firstFree(ends, began) {
  const lane = ends.findIndex((end) => end <= began);
  return lane === -1 ? ends.length : lane;
}

/** Steps between two labels: hours up to days. */
const STEPS = [HOUR / 6, HOUR, 3 * HOUR, 12 * HOUR, 24 * HOUR, 5 * 24 * HOUR, 30 * 24 * HOUR, 365 * 24 * HOUR];
const MOST_MARKS = 8;

/**
 * Return full hours or days as labels of a timeline, a few of them.
 *
 * @param {number} from
 * @param {number} to
 * @param {number} offset of the local time, milliseconds ahead of UTC
 * @returns {{at: number, left: number}[]}
 */
export function marks(from, to, offset) {
  const every = STEPS.find((step) => (to - from) / step <= MOST_MARKS) ?? to - from;
  const found = [];
  for (let at = Math.ceil((from + offset) / every) * every - offset; at < to; at += every) {
    found.push({at, left: (at - from) / (to - from)});
  }
  return found;
}
