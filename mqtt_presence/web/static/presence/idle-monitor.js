/** The client's own idle monitor: `IdleState` with timers, the page's events, other tabs, and reports in server time. */

import * as clocks from "./clocks.js";
import {checkSettings, DEFAULT_INTERVAL_MS, DEFAULT_THRESHOLD_MS, IdleState} from "./idle-state.js";
import {followUser} from "./page.js";
import {SharedActivity} from "./shared-activity.js";

/** @typedef {import("./idle-state.js").Report} Report */

/**
 * Tells the bridge whether anybody is there, from what the user does and from `ping` calls of the program. Get it as
 * `client.monitor`.
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
   * The same in server time, fixed when it happens and never going back: the bridge drops a report whose activity is
   * older than one it has (contract A1), be it by the millisecond that a better estimate of the server time has
   * taken off. 0: the server time was not known yet.
   */
  #activeAt = 0;
  #reported = 0;
  /** @type {Date | null} */
  #lastActivity = null;

  /**
   * @param {object} how
   * @param {(idle: boolean, lastActivity: number) => boolean} how.send sends a report, in epoch milliseconds; false:
   *   there is no connection
   * @param {import("./server-clock.js").ServerClock} how.clock
   * @param {() => void} how.changed
   * @param {string} how.channel what tabs that share their activity have in common
   * @param {() => number} [how.steady] a clock that only grows, milliseconds
   */
  constructor({send, clock, changed, channel, steady = clocks.steady}) {
    this.#how = {send, clock, changed, channel, steady};
  }

  /** It runs. */
  get isMonitoring() {
    return this.#state.isMonitoring;
  }

  /** It runs, and nothing was done for longer than the threshold, or (`idleOnBlur`) the page is not in front. */
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
   * Begin to monitor. The start counts as activity and is reported, as soon as the server time is known.
   *
   * @param {object} [settings]
   * @param {number} [settings.threshold] idle when the last activity lies more than so many milliseconds back
   * @param {number} [settings.interval] how often to look, milliseconds, at least 1000
   * @param {boolean} [settings.idleOnBlur] idle while the page is not in front
   * @throws {import("./errors.js").PresenceError} `config`: a setting is wrong; `usage`: it runs
   */
  start({threshold = DEFAULT_THRESHOLD_MS, interval = DEFAULT_INTERVAL_MS, idleOnBlur = false} = {}) {
    checkSettings(threshold, interval);
    const report = this.#state.start({threshold, idleOnBlur}, this.#how.steady());
    this.#mark(this.#how.steady());
    this.#report(report);
    const shared = (this.#shared = new SharedActivity(this.#how.channel, (ago) => this.#act(this.#how.steady() - ago)));
    const leave = followUser({activity: () => this.ping(), focus: (focused) => this.#focus(focused)});
    const timer = setInterval(() => this.#check(), interval);
    this.#stop = () => {
      clearInterval(timer);
      leave();
      shared.close();
    };
  }

  /**
   * End the monitoring; whoever was idle is reported active, as of now.
   *
   * @throws {import("./errors.js").PresenceError} `usage`: it does not run
   */
  stop() {
    const report = this.#state.stop(this.#how.steady());
    this.#stop();
    if (report !== null) this.#mark(this.#how.steady());
    this.#report(report);
    this.#how.changed();
  }

  /** Say that there is activity, now. Without effect while the monitor is stopped. */
  ping() {
    if (!this.#state.counts) return;
    this.#act(this.#how.steady());
    this.#shared?.tell();
  }

  /**
   * What a heartbeat has to tell, having counted as activity.
   *
   * @internal
   * @returns {{idle: boolean, lastActivity: number | null} | null} null: the monitor is stopped
   */
  beat() {
    if (!this.isMonitoring) return null;
    this.ping();
    return {idle: this.isIdle, lastActivity: this.#activeAt || null};
  }

  /** Say again after a login what it does not tell: that the user is idle, or a report not sent. @internal */
  renew() {
    if (this.isMonitoring && (this.isIdle || this.#unsent)) this.#send(this.isIdle);
  }

  /** The server time has become known, or better known. @internal */
  synced() {
    if (this.#activeAt === 0 && this.#state.lastActivity !== null) {
      this.#mark(this.#at);
      this.#reported = this.#activeAt;
      this.renew();
    }
  }

  /** End the monitoring without a report: the connection ends as well. @internal */
  close() {
    this.#stop();
    if (this.isMonitoring) {
      this.#state.stop(this.#how.steady());
      this.#how.changed();
    }
  }

  /** @param {number} at by the steady clock */
  #act(at) {
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
      this.#shared?.tell();
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
