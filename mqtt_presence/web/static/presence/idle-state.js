/**
 * When a user is idle, as a function of activity, focus and checks. Pure: `now` comes as an argument, milliseconds
 * of any clock that only grows.
 *
 * The rules are those of the contract's ancestors: one report at the start and one for each transition; idle when
 * the last activity lies more than the threshold back, not when it lies exactly that far back. With `idleOnBlur` a
 * user is idle while the page is not in front, and what happens there then is no activity.
 */

import {PresenceError} from "./errors.js";

export const DEFAULT_THRESHOLD_MS = 60_000;
export const DEFAULT_INTERVAL_MS = 1_000;
export const MIN_INTERVAL_MS = 1_000;

/**
 * What to tell the bridge; the time of the clock that `now` is of.
 *
 * @typedef {{idle: boolean, lastActivity: number}} Report
 */

/**
 * Check the settings of a monitor, both in milliseconds.
 *
 * @param {number} threshold
 * @param {number} interval
 * @throws {PresenceError} `config`: the threshold is not above 0, or the interval below a second
 */
export function checkSettings(threshold, interval) {
  if (!(threshold > 0 && threshold < Infinity)) {
    throw new PresenceError("config", `threshold=${threshold} must be milliseconds above 0`);
  }
  if (!(interval >= MIN_INTERVAL_MS && interval < Infinity)) {
    throw new PresenceError("config", `interval=${interval} must be at least ${MIN_INTERVAL_MS} milliseconds`);
  }
}

/** A monitor that is stopped at first. Every method returns the report to send, or null. */
export class IdleState {
  isMonitoring = false;
  isIdle = false;
  /**
   * The last activity; null before the first start.
   *
   * @type {number | null}
   */
  lastActivity = null;
  #threshold = DEFAULT_THRESHOLD_MS;
  #idleOnBlur = false;
  #focused = true;

  /** What happens now is activity. */
  get counts() {
    return this.isMonitoring && (this.#focused || !this.#idleOnBlur);
  }

  /**
   * Begin; starting counts as activity.
   *
   * @param {{threshold: number, idleOnBlur?: boolean}} settings
   * @param {number} now
   * @returns {Report}
   * @throws {PresenceError} `usage`: it has begun
   */
  start({threshold, idleOnBlur = false}, now) {
    if (this.isMonitoring) {
      throw new PresenceError("usage", "the idle monitor is already running: stop it first");
    }
    this.#threshold = threshold;
    this.#idleOnBlur = idleOnBlur;
    this.isMonitoring = true;
    this.isIdle = false;
    this.lastActivity = now;
    return {idle: false, lastActivity: now};
  }

  /**
   * End; whoever was idle counts as active from now on.
   *
   * @param {number} now
   * @returns {Report | null}
   * @throws {PresenceError} `usage`: it is not running
   */
  stop(now) {
    if (!this.isMonitoring) {
      throw new PresenceError("usage", "the idle monitor is not running: start it first");
    }
    this.isMonitoring = false;
    if (!this.isIdle) return null;
    this.isIdle = false;
    this.lastActivity = now;
    return {idle: false, lastActivity: now};
  }

  /**
   * There was activity, just now or (in another tab) a moment ago. Without effect while it does not count.
   *
   * @param {number} now
   * @param {number} at when
   * @returns {Report | null}
   */
  ping(now, at = now) {
    if (!this.counts) return null;
    this.lastActivity = Math.max(this.lastActivity ?? at, at);
    return this.check(now);
  }

  /**
   * The page came to the front, which is activity, or left it.
   *
   * @param {boolean} focused
   * @param {number} now
   * @returns {Report | null}
   */
  focus(focused, now) {
    const came = focused && !this.#focused;
    this.#focused = focused;
    return came ? this.ping(now) : this.check(now);
  }

  /**
   * See whether the state has changed.
   *
   * @param {number} now
   * @returns {Report | null}
   */
  check(now) {
    if (!this.isMonitoring || this.lastActivity === null) return null;
    const idle = !this.counts || now - this.lastActivity > this.#threshold;
    if (idle === this.isIdle) return null;
    this.isIdle = idle;
    return {idle, lastActivity: this.lastActivity};
  }
}
