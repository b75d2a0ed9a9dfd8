/** The client's own idle monitor: `IdleState` with timers, events of the page, other tabs, and reports in server time. */

import * as clocks from "./clocks.js";
import {checkSettings, DEFAULT_INTERVAL_MS, DEFAULT_THRESHOLD_MS, IdleState} from "./idle-state.js";
import {followUser} from "./page-events.js";
import {SharedActivity} from "./shared-activity.js";

/** @typedef {import("./idle-state.js").Report} Report */

/**
 * Reports to the bridge whether the user is idle, from events of the page and from `ping` calls of the program. The
 * monitor of a client is `client.monitor`.
 */
export class IdleMonitor {
  #how;
  #state = new IdleState();
  /** @type {() => void} */
  #stop = () => {};
  /** @type {SharedActivity | null} */
  #shared = null;
  #unsent = false;
  /** The last activity by the steady clock. */
  #at = 0;
  /**
   * The last activity in server time; 0 while that is unknown. The value is fixed at the activity and never goes back:
   * the bridge ignores a report with an older activity than before (rule A1). A better estimate of the server time
   * would make it older by some milliseconds.
   */
  #activeAt = 0;
  #reported = 0;
  /** @type {Date | null} */
  #lastActivity = null;

  /**
   * @param {object} how
   * @param {(idle: boolean, lastActivity: number) => boolean} how.send sends a report, in epoch milliseconds; returns
   *   false without a connection
   * @param {import("./server-clock.js").ServerClock} how.clock
   * @param {() => void} how.changed
   * @param {string} how.channel the name that tabs with shared activity have in common
   * @param {() => number} [how.steady] a clock that never goes back, milliseconds
   */
  constructor({send, clock, changed, channel, steady = clocks.steady}) {
    this.#how = {send, clock, changed, channel, steady};
  }

  /** Whether the monitor is running. */
  get isMonitoring() {
    return this.#state.isMonitoring;
  }

  /** Whether the user is idle: no activity for longer than the threshold, or (`idleOnBlur`) another page in front. */
  get isIdle() {
    return this.#state.isIdle;
  }

  /** The last activity in server time; null before the first start. */
  get lastActivity() {
    if (this.#state.lastActivity === null) return null;
    const millis = this.#activeAt || Math.round(this.#how.clock.serverTime().getTime() - this.#how.steady() + this.#at);
    if (this.#lastActivity?.getTime() !== millis) this.#lastActivity = new Date(millis);
    return this.#lastActivity;
  }

  /**
   * Start the monitor. The start counts as activity, and is reported as soon as the server time is known.
   *
   * @param {object} [settings]
   * @param {number} [settings.threshold] milliseconds without activity after which the user is idle
   * @param {number} [settings.interval] milliseconds between two checks, at least 1000
   * @param {boolean} [settings.idleOnBlur] whether the user is idle while another page is in front
   * @throws {import("./errors.js").PresenceError} `config`: a setting is wrong; `usage`: the monitor is running
   */
  start({threshold = DEFAULT_THRESHOLD_MS, interval = DEFAULT_INTERVAL_MS, idleOnBlur = false} = {}) {
    checkSettings(threshold, interval);
    const report = this.#state.start({threshold, idleOnBlur}, this.#how.steady());
    this.#mark(this.#how.steady());
    this.#report(report);
    const shared = (this.#shared = new SharedActivity(this.#how.channel, (ago) => this.#recordActivity(this.#how.steady() - ago)));
    const leave = followUser({activity: () => this.ping(), focus: (focused) => this.#focus(focused)});
    const timer = setInterval(() => this.#check(), interval);
    this.#stop = () => {
      clearInterval(timer);
      leave();
      shared.close();
    };
  }

  /**
   * Stop the monitor. An idle user is reported active, as of now.
   *
   * @throws {import("./errors.js").PresenceError} `usage`: the monitor is not running
   */
  stop() {
    const report = this.#state.stop(this.#how.steady());
    this.#stop();
    if (report !== null) this.#mark(this.#how.steady());
    this.#report(report);
    this.#how.changed();
  }

  /** Record activity now. Without effect while the monitor is stopped. */
  ping() {
    if (!this.#state.counts) return;
    this.#recordActivity(this.#how.steady());
    this.#shared?.announce();
  }

  /**
   * Record a heartbeat as activity, and return the report to send with it.
   *
   * @internal
   * @returns {{idle: boolean, lastActivity: number | null} | null} null: the monitor is stopped
   */
  heartbeatReport() {
    if (!this.isMonitoring) return null;
    this.ping();
    return {idle: this.isIdle, lastActivity: this.#activeAt || null};
  }

  /** Repeat, after a login, a report that the login does not include: the idle state, or an unsent one. @internal */
  resend() {
    if (this.isMonitoring && (this.isIdle || this.#unsent)) this.#send(this.isIdle);
  }

  /** Send an unsent report, once the server time is known. @internal */
  synced() {
    if (this.#activeAt === 0 && this.#state.lastActivity !== null) {
      this.#mark(this.#at);
      this.#reported = this.#activeAt;
      this.resend();
    }
  }

  /** Stop the monitor without a report, because the connection ends as well. @internal */
  close() {
    this.#stop();
    if (this.isMonitoring) {
      this.#state.stop(this.#how.steady());
      this.#how.changed();
    }
  }

  /** @param {number} at by the steady clock */
  #recordActivity(at) {
    if (!this.#state.counts) return;
    const report = this.#state.ping(this.#how.steady(), at);
    this.#mark(at);
    this.#report(report);
  }

  /** @param {boolean} focused */
  #focus(focused) {
    const before = this.#state.lastActivity;
    const report = this.#state.focus(focused, this.#how.steady());
    if (this.#state.lastActivity !== before) {
      this.#mark(this.#how.steady());
      this.#shared?.announce();
    }
    this.#report(report);
  }

  #check() {
    this.#report(this.#state.check(this.#how.steady()));
  }

  /** @param {number} at by the steady clock */
  #mark(at) {
    this.#at = Math.max(this.#at, at);
    this.#activeAt = Math.max(this.#activeAt, this.#how.clock.at(this.#at) ?? 0);
    this.#how.changed();
  }

  /** @param {Report | null} report */
  #report(report) {
    if (report === null) return;
    if (!report.idle && this.#activeAt) this.#activeAt = Math.max(this.#activeAt, this.#reported + 1);
    this.#reported = this.#activeAt;
    this.#send(report.idle);
    this.#how.changed();
  }

  /** @param {boolean} idle */
  #send(idle) {
    this.#unsent = this.#activeAt === 0 || !this.#how.send(idle, this.#reported);
  }
}
