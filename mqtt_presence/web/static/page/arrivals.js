/** Who has come and gone, told to screen readers now and then and in few words. Pure: `now` is an argument, milliseconds. */

import {visible} from "./display-names.js";

const PAUSE_MS = 10_000;
/** Where many come and go nobody wants to hear it all the time. */
const LONG_PAUSE_MS = 60_000;
const FEW = 3;

export class Arrivals {
  /** @type {Map<string, boolean>} */
  #moves = new Map();
  #next = 0;

  /** @param {number} now what is told until a moment later is how it was, not what has happened */
  constructor(now) {
    this.#next = now + PAUSE_MS / 2;
    this.quietUntil = this.#next;
  }

  /**
   * Take a change of somebody's status.
   *
   * @param {import("../presence/status-table.js").Change} change
   * @param {number} now
   */
  add({userId, before, after}, now) {
    const was = before?.online ?? false;
    const is = after?.online ?? false;
    if (was === is || now < this.quietUntil) return;
    if (this.#moves.has(userId)) this.#moves.delete(userId); // came and went
    else this.#moves.set(userId, is);
  }

  /** What was shown was stale: what comes now is how it is. @param {number} now */
  restart(now) {
    this.#moves.clear();
    this.quietUntil = now + PAUSE_MS / 2;
  }

  /**
   * Return what there is to say; empty: nothing, or not yet.
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
