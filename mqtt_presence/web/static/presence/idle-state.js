/**
 * The idle state of a user as a function of activity, focus and checks. Pure: `now` is an argument, in milliseconds of
 * any clock that never goes back.
 *
 * There is one report at the start and one for each transition. A user is idle when the last activity is longer ago
 * than the threshold, and not yet at exactly the threshold. With `idleOnBlur` a user is also idle while another page is
 * in front, and events of this page do not count as activity then.
 */

import {PresenceError} from "./errors.js";

export const DEFAULT_THRESHOLD_MS = 60_000;
export const DEFAULT_INTERVAL_MS = 1_000;
export const MIN_INTERVAL_MS = 1_000;

/**
 * A report to the bridge; times are those of the clock of `now`.
 *
 * @typedef {{idle: boolean, lastActivity: number}} Report
 */

/**
 * Check the settings of a monitor, both in milliseconds.
 *
 * @param {number} threshold
 * @param {number} interval
 * @throws {PresenceError} `config`: the threshold is not above 0, or the interval is below a second
 */
export function checkSettings(threshold, interval) {
  if (!(threshold > 0 && threshold < Infinity)) {
    throw new PresenceError("config", `threshold=${threshold} must be milliseconds above 0`);
  }
  if (!(interval >= MIN_INTERVAL_MS && interval < Infinity)) {
    throw new PresenceError("config", `interval=${interval} must be at least ${MIN_INTERVAL_MS} milliseconds`);
  }
}

/** An idle state, stopped at first. Every method returns the report to send, or null. */
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

  /** Whether events of the page count as activity now. */
  get counts() {
    return this.isMonitoring && (this.#focused || !this.#idleOnBlur);
  }

  /**
   * Start; the start counts as activity.
   *
   * @param {{threshold: number, idleOnBlur?: boolean}} settings
   * @param {number} now
   * @returns {Report}
   * @throws {PresenceError} `usage`: already started
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
   * Stop; an idle user counts as active from now on.
   *
   * @param {number} now
   * @returns {Report | null}
   * @throws {PresenceError} `usage`: not started
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
   * Record activity, just now or (in another tab) a moment ago. Without effect while events do not count.
   *
   * @param {number} now
   * @param {number} at the time of the activity
   * @returns {Report | null}
   */
  ping(now, at = now) {
    if (!this.counts) return null;
    this.lastActivity = Math.max(this.lastActivity ?? at, at);
    return this.check(now);
  }

  /**
   * Record that the page came to the front, which is activity, or left it.
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
   * Check whether the state has changed.
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
