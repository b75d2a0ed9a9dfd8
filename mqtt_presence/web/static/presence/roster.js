/** Who is in which state, from the retained messages on `status/+`. Pure: versions decide, not arrival. */

import {PresenceError} from "./errors.js";
import {decodeStatus} from "./wire.js";

/** @typedef {Readonly<import("./wire.js").UserStatus>} UserStatus */

/**
 * One user's status before and after; null: not there.
 *
 * @typedef {Readonly<{userId: string, before: UserStatus | null, after: UserStatus | null}>} Change
 */

/** The users of whom the broker has a status. */
export class Roster {
  /** @type {Map<string, UserStatus>} */
  users = new Map();
  /** How many messages had no effect: no status, or an old one. */
  ignored = {payload: 0, stale: 0};
  /**
   * The last version of users that were forgotten: what comes after is newer.
   *
   * @type {Map<string, number>}
   */
  #forgotten = new Map();
  /** @type {Set<string>} */
  #unconfirmed = new Set();
  /** @type {readonly UserStatus[]} */
  #sorted = Object.freeze(/** @type {UserStatus[]} */ ([]));
  /**
   * The users that `#sorted` does not show as they are now.
   *
   * @type {Set<string>}
   */
  #changed = new Set();

  /**
   * Take a message; null: nothing has changed.
   *
   * @param {string} userId of the topic
   * @param {Uint8Array} payload a status; empty: the user was forgotten
   * @returns {Change | null}
   */
  apply(userId, payload) {
    if (payload.length === 0) {
      this.#unconfirmed.delete(userId);
      return this.#remove(userId, true);
    }
    let after;
    try {
      after = decodeStatus(userId, payload);
    } catch (error) {
      if (!(error instanceof PresenceError)) throw error;
      this.ignored.payload += 1;
      return null;
    }
    this.#unconfirmed.delete(userId);
    const before = this.users.get(userId) ?? null;
    const known = before?.version ?? this.#forgotten.get(userId) ?? -1;
    if (after.version <= known) {
      if (after.version < known || before === null) this.ignored.stale += 1;
      return null;
    }
    this.#changed.add(userId);
    this.users.set(userId, after);
    this.#forgotten.delete(userId);
    return Object.freeze({userId, before, after});
  }

  /**
   * Return all users as they are now, sorted by id: a frozen array, the same until one changes.
   *
   * A broker sends thousands of users one by one, and a page may ask after each: only those that changed are moved.
   */
  sorted() {
    if (this.#changed.size === 0) return this.#sorted;
    const sorted = [...this.#sorted]; // not slice: V8 is slow at that with a frozen array
    for (const userId of this.#changed) {
      const at = placeOf(userId, sorted);
      const isThere = sorted[at]?.userId === userId;
      const status = this.users.get(userId);
      if (status === undefined) sorted.splice(at, isThere ? 1 : 0);
      else if (isThere) sorted[at] = status;
      else sorted.splice(at, 0, status);
    }
    this.#changed.clear();
    this.#sorted = Object.freeze(sorted);
    return this.#sorted;
  }

  /** Everybody has been named since `reconnected`; false: some may have changed or been forgotten meanwhile. */
  get isConfirmed() {
    return this.#unconfirmed.size === 0;
  }

  /** The broker will now send everything again: whom it does not name was forgotten meanwhile. */
  reconnected() {
    this.#unconfirmed = new Set(this.users.keys());
  }

  /**
   * The broker has sent everything: remove whom it did not name since `reconnected`.
   *
   * @returns {Change[]}
   */
  prune() {
    const gone = [...this.#unconfirmed];
    this.#unconfirmed.clear();
    return gone.flatMap((userId) => this.#remove(userId, false) ?? []);
  }

  /**
   * @param {string} userId
   * @param {boolean} keepVersion
   * @returns {Change | null}
   */
  #remove(userId, keepVersion) {
    const before = this.users.get(userId);
    if (before === undefined) return null;
    this.users.delete(userId);
    this.#changed.add(userId);
    if (keepVersion) this.#forgotten.set(userId, before.version);
    return Object.freeze({userId, before, after: null});
  }
}

/**
 * Return where a user is in an array sorted by id, or would be.
 *
 * @param {string} userId
 * @param {readonly UserStatus[]} sorted
 */
function placeOf(userId, sorted) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (/** @type {UserStatus} */ (sorted[middle]).userId < userId) low = middle + 1;
    else high = middle;
  }
  return low;
}
