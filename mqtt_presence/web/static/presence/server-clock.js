/** The clock of the server as a client sees it: `TimeSync` with real clocks and messages. Milliseconds throughout. */

import * as clocks from "./clocks.js";
import {TimeSync} from "./time-sync.js";
import {decodeTimeReply, encodeTimeRequest} from "./wire.js";

/**
 * Server time, kept in step over MQTT: best of five round trips, again every ten minutes and after a jump of the
 * local clock by more than five seconds.
 */
export class ServerClock {
  #how;
  #sync = new TimeSync();
  /** @type {((answered: boolean) => void)[]} */
  #waiting = [];

  /**
   * @param {object} how
   * @param {(payload: string) => boolean} how.ask sends a time request; false: there is no connection
   * @param {() => void} [how.changed] there is a new estimate
   * @param {() => number} [how.steady] a clock that only grows
   * @param {() => number} [how.wall] epoch milliseconds
   */
  constructor({ask, changed = () => {}, steady = clocks.steady, wall = clocks.wall}) {
    this.#how = {ask, changed, steady, wall};
  }

  /** The server has answered at least once. */
  get isSynced() {
    return this.#sync.estimate !== null;
  }

  /** How far the server is ahead of the local wall clock; null: not synced. */
  get offset() {
    const {estimate} = this.#sync;
    return estimate === null ? null : estimate.base + this.#how.steady() - this.#how.wall();
  }

  /** The round trip the estimate rests on: it errs by half of it at most. Null: not synced. */
  get roundTrip() {
    return this.#sync.estimate?.roundTrip ?? null;
  }

  /** Return the server time; the local wall clock until synced. */
  serverTime() {
    return new Date(this.at(this.#how.steady()) ?? this.#how.wall());
  }

  /**
   * Return the server time at a moment of the steady clock, epoch milliseconds; null: not synced.
   *
   * @param {number} steady
   */
  at(steady) {
    const estimate = this.#sync.estimate;
    return estimate === null ? null : Math.round(steady + estimate.base);
  }

  /**
   * Ask again now.
   *
   * @returns {Promise<boolean>} when the answers are in: true; false: there was none
   */
  resync() {
    this.#sync.restart();
    const answered = new Promise((/** @type {(answered: boolean) => void} */ resolve) => this.#waiting.push(resolve));
    this.#poll();
    return answered;
  }

  /** Ask if it is time to. Called about every second while connected. */
  tick() {
    this.#poll();
  }

  /**
   * Take an answer.
   *
   * @param {Uint8Array} payload
   * @throws {import("./errors.js").PresenceError} `payload`: it is none
   */
  take(payload) {
    const steady = this.#how.steady();
    const {t0, t1, t2} = decodeTimeReply(payload);
    if (!this.#sync.answer(t0, t1, t2, steady)) return;
    this.#how.changed();
    this.#poll();
  }

  /** The connection was lost, and with it the answers under way. */
  interrupted() {
    this.#sync.interrupted();
    this.#settle(false);
  }

  /** The bridge has just come. */
  encourage() {
    this.#sync.encourage();
    this.#poll();
  }

  #poll() {
    const t0 = this.#sync.poll(this.#how.steady(), this.#how.wall());
    if (t0 !== null && !this.#how.ask(encodeTimeRequest(t0))) this.interrupted();
    else if (!this.#sync.isAsking) this.#settle(this.#sync.isAnswered);
  }

  /** @param {boolean} answered */
  #settle(answered) {
    for (const resolve of this.#waiting.splice(0)) resolve(answered);
  }
}
