/** Arrivals and departures as short texts for screen readers. Pure: `now` is an argument, in milliseconds. */

import {visible} from "./display-names.js";

const PAUSE_MS = 10_000;
/** Milliseconds between two texts: with many users, constant announcements would disturb. */
const LONG_PAUSE_MS = 60_000;
const FEW = 3;

export class Arrivals {
  /** @type {Map<string, boolean>} */
  #moves = new Map();
  #next = 0;

  /** @param {number} now statuses until a moment later are the initial state, not arrivals */
  constructor(now) {
    this.#next = now + PAUSE_MS / 2;
    this.quietUntil = this.#next;
  }

  /**
   * Add a change of a user's status.
   *
   * @param {import("../presence/status-table.js").Change} change
   * @param {number} now
   */
  add({userId, before, after}, now) {
    const was = before?.online ?? false;
    const is = after?.online ?? false;
    if (was === is || now < this.quietUntil) return;
    if (this.#moves.has(userId)) this.#moves.delete(userId); // arrived and left
    else this.#moves.set(userId, is);
  }

  /** Treat the next statuses as the initial state, because the last ones were stale. @param {number} now */
  restart(now) {
    this.#moves.clear();
    this.quietUntil = now + PAUSE_MS / 2;
  }

  /**
   * Return the text that is due, empty if there is none.
   *
   * @param {number} now
   */
  nextText(now) {
    if (now < this.#next || this.#moves.size === 0) return "";
    this.#next = now + (this.#moves.size > FEW ? LONG_PAUSE_MS : PAUSE_MS);
    const names = (/** @type {boolean} */ come) =>
      [...this.#moves].filter(([, is]) => is === come).map(([name]) => visible(name));
    const text = [sentence(names(true), "is here", "are here"), sentence(names(false), "has left", "have left")];
    this.#moves.clear();
    return text.filter(Boolean).join(" ");
  }
}

/**
 * @param {string[]} names
 * @param {string} one
 * @param {string} many
 */
function sentence(names, one, many) {
  if (names.length === 0) return "";
  if (names.length === 1) return `${names[0]} ${one}.`;
  if (names.length > FEW) return `${names.length} people ${many}.`;
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)} ${many}.`;
}
