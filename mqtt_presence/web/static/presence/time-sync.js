/**
 * Synchronization with the server time, by requests and answers. Pure: the local clocks are arguments, in milliseconds.
 *
 * The estimate depends on the steady clock, since the wall clock can be set: server time is steady time plus a base. Of
 * several round trips the shortest is used, because its error is the smallest.
 */

export const ROUND_TRIPS = 5;
export const ANSWER_TIMEOUT_MS = 2_000;
export const RESYNC_MS = 600_000;
export const MAX_JUMP_MS = 5_000;
const RETRY_MIN_MS = 5_000;
const RETRY_MAX_MS = 60_000;
const ROUNDING_MS = 2; // t1 and t2 are whole milliseconds

/**
 * The server time according to one round trip.
 *
 * @typedef {object} Estimate
 * @property {number} roundTrip milliseconds in the network, without the server's own time
 * @property {number} base server time in epoch milliseconds, minus steady time
 */

/** Sends requests in bursts: at first, every ten minutes, after a step of the wall clock, and after a burst without answer. */
export class TimeSync {
  /** @type {Estimate | null} */
  estimate = null;
  /** @type {Estimate | null} */
  #best = null;
  /** Whether the estimate is from a complete burst, so that only another complete burst replaces it. */
  #settled = false;
  #left = 0;
  /** @type {{t0: number, asked: number} | null} */
  #question = null;
  #due = -Infinity;
  #lostBursts = 0;
  #lastT0 = 0;
  /** @type {number | null} */
  #drift = null;

  /** Whether a burst is in progress, or begins with the next `poll`. */
  get isAsking() {
    return this.#left > 0 || this.#due === -Infinity;
  }

  /** Whether the last burst had an answer. */
  get isAnswered() {
    return this.#settled;
  }

  /**
   * Return the t0 of a request that is due, or null. To be called often.
   *
   * @param {number} steady
   * @param {number} wall epoch milliseconds
   * @returns {number | null}
   */
  poll(steady, wall) {
    const drift = wall - steady;
    if (this.#drift !== null && Math.abs(drift - this.#drift) > MAX_JUMP_MS) this.restart();
    this.#drift = drift;
    if (this.#question !== null && steady - this.#question.asked >= ANSWER_TIMEOUT_MS) this.#answered(steady);
    if (this.#left === 0 && steady >= this.#due) {
      this.#left = ROUND_TRIPS;
      this.#best = null;
    }
    if (this.#left === 0 || this.#question !== null) return null;
    this.#lastT0 = Math.max(this.#lastT0 + 1, Math.floor(steady * 1000));
    this.#question = {t0: this.#lastT0, asked: steady};
    return this.#lastT0;
  }

  /**
   * Receive an answer; return false if it belongs to no pending request (late, repeated, or invented).
   *
   * @param {number} t0 of the request
   * @param {number} t1 time of receipt at the server, epoch milliseconds
   * @param {number} t2 time of the answer at the server, epoch milliseconds
   * @param {number} steady time of the answer's arrival
   * @returns {boolean}
   */
  answer(t0, t1, t2, steady) {
    const question = this.#question;
    if (question === null || question.t0 !== t0) return false;
    const roundTrip = steady - question.asked - (t2 - t1);
    if (roundTrip < -ROUNDING_MS) return false;
    const base = (t1 + t2) / 2 - (question.asked + steady) / 2;
    const sample = {roundTrip: Math.max(0, roundTrip), base};
    if (this.#best === null || sample.roundTrip < this.#best.roundTrip) this.#best = sample;
    if (!this.#settled) this.estimate = this.#best;
    this.#answered(steady);
    return true;
  }

  /**
   * End one round trip, with or without an answer.
   *
   * @param {number} steady
   */
  #answered(steady) {
    this.#question = null;
    this.#left -= 1;
    if (this.#left > 0) return;
    if (this.#best === null) {
      this.#due = steady + Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(this.#lostBursts, 10));
      this.#lostBursts += 1;
    } else {
      this.estimate = this.#best;
      this.#settled = true;
      this.#due = steady + RESYNC_MS;
      this.#lostBursts = 0;
    }
  }

  /** Begin a new burst with the next `poll`; the estimate stays until the first answer. */
  restart() {
    this.#question = null;
    this.#left = 0;
    this.#due = -Infinity;
    this.#settled = false;
  }

  /** Begin a burst in progress again, since the connection was lost. */
  interrupted() {
    if (this.#left > 0) this.restart();
  }

  /** Begin a burst at once if there is no estimate, since the bridge has come online. */
  askIfUnknown() {
    if (this.estimate === null) {
      this.#lostBursts = 0;
      this.restart();
    }
  }
}
