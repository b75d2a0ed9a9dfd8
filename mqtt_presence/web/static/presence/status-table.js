/** The status of every user, from the retained messages on `status/+`. Pure: versions decide, not the order of arrival. */

import {PresenceError} from "./errors.js";
import {decodeStatus} from "./client-messages.js";

/** @typedef {Readonly<import("./client-messages.js").UserStatus>} UserStatus */

/**
 * The status of a user before and after a message; null for no status.
 *
 * @typedef {Readonly<{userId: string, before: UserStatus | null, after: UserStatus | null}>} Change
 */

/** The users with a status on the broker. */
export class StatusTable {
  /** @type {Map<string, UserStatus>} */
  users = new Map();
  /** The number of ignored messages: invalid ones and old ones. */
  ignored = {payload: 0, stale: 0};
  /**
   * The last version of each forgotten user; only newer statuses are accepted.
   *
   * @type {Map<string, number>}
   */
  #forgotten = new Map();
  /** @type {Set<string>} */
  #unconfirmed = new Set();
  /** @type {readonly UserStatus[]} */
  #sorted = Object.freeze(/** @type {UserStatus[]} */ ([]));
  /**
   * The users whose entry in `#sorted` is out of date.
   *
   * @type {Set<string>}
   */
  #changed = new Set();

  /**
   * Apply a message, and return the change; null without one.
   *
   * @param {string} userId of the topic
   * @param {Uint8Array} payload a status; empty if the user was forgotten
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
   * Return all users, sorted by id: a frozen array, and the same one until a user changes.
   *
   * A broker sends thousands of users one by one, and a page may call this after each. So only changed users are moved.
   */
  sorted() {
    if (this.#changed.size === 0) return this.#sorted;
    const sorted = [...this.#sorted]; // V8's slice of a frozen array is slow
    for (const userId of this.#changed) {
      const at = indexFor(userId, sorted);
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

  /** Whether the broker has sent the status of every user since `reconnected`; others may have changed meanwhile. */
  get isConfirmed() {
    return this.#unconfirmed.size === 0;
  }

  /** Expect every status again. A user without one was forgotten meanwhile. */
  reconnected() {
    this.#unconfirmed = new Set(this.users.keys());
  }

  /**
   * Remove the users without a status since `reconnected`, after the broker has sent all of them.
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
 * Return the index of a user in an array sorted by id, or the index at which to insert the user.
 *
 * @param {string} userId
 * @param {readonly UserStatus[]} sorted
 */
function indexFor(userId, sorted) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (/** @type {UserStatus} */ (sorted[middle]).userId < userId) low = middle + 1;
    else high = middle;
  }
  return low;
}
