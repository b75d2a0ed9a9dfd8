/** The server's clock for a client: `TimeSync` with real clocks and messages. All values are milliseconds. */

import * as clocks from "./clocks.js";
import {TimeSync} from "./time-sync.js";
import {decodeTimeReply, encodeTimeRequest} from "./client-messages.js";

/**
 * Server time over MQTT: the best of five round trips, repeated every ten minutes and after a step of the local clock by
 * more than five seconds.
 */
export class ServerClock {
  #how;
  #sync = new TimeSync();
  /** @type {((answered: boolean) => void)[]} */
  #waiting = [];

  /**
   * @param {object} how
   * @param {(payload: string) => boolean} how.ask sends a time request; returns false without a connection
   * @param {() => void} [how.changed] called after a new estimate
   * @param {() => number} [how.steady] a clock that never goes back
   * @param {() => number} [how.wall] epoch milliseconds
   */
  constructor({ask, changed = () => {}, steady = clocks.steady, wall = clocks.wall}) {
    this.#how = {ask, changed, steady, wall};
  }

  /** Whether the server has answered at least once. */
  get isSynced() {
    return this.#sync.estimate !== null;
  }

  /** Milliseconds that the server is ahead of the local wall clock; null while not synced. */
  get offset() {
    const {estimate} = this.#sync;
    return estimate === null ? null : estimate.base + this.#how.steady() - this.#how.wall();
  }

  /** The round trip of the estimate, whose error is at most half of it; null while not synced. */
  get roundTrip() {
    return this.#sync.estimate?.roundTrip ?? null;
  }

  /** Return the server time; the local wall clock until synced. */
  serverTime() {
    return new Date(this.at(this.#how.steady()) ?? this.#how.wall());
  }

  /**
   * Return the server time at a moment of the steady clock, epoch milliseconds; null while not synced.
   *
   * @param {number} steady
   */
  at(steady) {
    const estimate = this.#sync.estimate;
    return estimate === null ? null : Math.round(steady + estimate.base);
  }

  /**
   * Request the server time again.
   *
   * @returns {Promise<boolean>} true after the answers, false without one
   */
  resync() {
    this.#sync.restart();
    const answered = new Promise((/** @type {(answered: boolean) => void} */ resolve) => this.#waiting.push(resolve));
    this.#poll();
    return answered;
  }

  /** Request the server time if a request is due. Called about every second while connected. */
  tick() {
    this.#poll();
  }

  /**
   * Receive an answer.
   *
   * @param {Uint8Array} payload
   * @throws {import("./errors.js").PresenceError} `payload`: the message is not an answer
   */
  receive(payload) {
    const steady = this.#how.steady();
    const {t0, t1, t2} = decodeTimeReply(payload);
    if (!this.#sync.answer(t0, t1, t2, steady)) return;
    this.#how.changed();
    this.#poll();
  }

  /** Give up pending requests, since the connection was lost. */
  interrupted() {
    this.#sync.interrupted();
    this.#settle(false);
  }

  /** Request the server time at once if it is unknown, since the bridge has come online. */
  askIfUnknown() {
    this.#sync.askIfUnknown();
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
