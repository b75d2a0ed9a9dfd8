/** Times and durations as text. Pure; durations are milliseconds. */

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const clock = new Intl.DateTimeFormat(undefined, {hour: "numeric", minute: "2-digit", second: "2-digit"});
const minute = new Intl.DateTimeFormat(undefined, {hour: "numeric", minute: "2-digit"});
const day = new Intl.DateTimeFormat(undefined, {weekday: "long", day: "numeric", month: "long"});
const shortDay = new Intl.DateTimeFormat(undefined, {day: "numeric", month: "short"});
const yearDay = new Intl.DateTimeFormat(undefined, {day: "numeric", month: "short", year: "numeric"});
const exact = new Intl.DateTimeFormat(undefined, {dateStyle: "full", timeStyle: "long"});

/** The time of day, with seconds. @param {Date} date */
export const clockTime = (date) => clock.format(date);

/** The day, in full. @param {Date} date */
export const dayName = (date) => day.format(date);

/** The day, short. @param {Date} date */
export const dayOf = (date) => shortDay.format(date);

/** The hour and minute. @param {Date} date */
export const hourTime = (date) => minute.format(date);

/** The date and time in full. @param {Date} date */
export const exactly = (date) => exact.format(date);

/**
 * A moment in its shortest form for today.
 *
 * @param {Date} date
 * @param {Date} now
 */
export function moment(date, now) {
  if (date.toDateString() === now.toDateString()) return minute.format(date);
  if (date.getFullYear() === now.getFullYear()) return `${shortDay.format(date)}, ${minute.format(date)}`;
  return yearDay.format(date);
}

/**
 * A duration in its greatest unit, which seldom changes.
 *
 * @param {number} millis
 */
export function roughly(millis) {
  if (millis < MINUTE) return "now";
  if (millis < HOUR) return `${Math.floor(millis / MINUTE)} min`;
  if (millis < 2 * DAY) return `${Math.floor(millis / HOUR)} h`;
  return `${Math.floor(millis / DAY)} days`;
}

/**
 * The time since a moment, in its greatest unit.
 *
 * @param {number} millis
 */
export const ago = (millis) => (millis < MINUTE ? "just now" : `${roughly(millis)} ago`);

/**
 * The time since a moment, in seconds while short.
 *
 * @param {number} millis
 */
export const secondsAgo = (millis) =>
  millis >= SECOND && millis < 5 * MINUTE ? `${duration(millis)} ago` : ago(millis);

/**
 * A duration in its two greatest units, as the commands print it: `3d 4h`, `12m 5s`.
 *
 * @param {number} millis
 */
export function duration(millis) {
  let left = Math.max(0, Math.floor(millis / SECOND));
  /** @type {string[]} */
  const parts = [];
  for (const [name, size] of /** @type {const} */ ([["d", 86_400], ["h", 3_600], ["m", 60], ["s", 1]])) {
    const count = Math.floor(left / size);
    left %= size;
    if (count || (name === "s" && parts.length === 0)) parts.push(`${count}${name}`);
    else if (parts.length) break;
  }
  return parts.slice(0, 2).join(" ");
}

/**
 * A difference of two clocks or a round trip: milliseconds while they are few.
 *
 * @param {number} millis
 */
export function small(millis) {
  const size = Math.abs(millis);
  if (size < 10) return `${millis.toFixed(1)} ms`;
  if (size < 10 * SECOND) return `${Math.round(millis)} ms`;
  return `${millis < 0 ? "-" : ""}${duration(size)}`;
}
