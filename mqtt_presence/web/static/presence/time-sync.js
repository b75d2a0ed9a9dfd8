/**
 * What time it is on the server, from questions and answers. Pure: the local clocks come as arguments, milliseconds.
 *
 * The estimate is tied to the steady clock, not to the wall clock that people set: server time is steady time
 * plus a base. Of several round trips the shortest wins: it bounds the error best.
 */

export const ROUND_TRIPS = 5;
export const ANSWER_TIMEOUT_MS = 2_000;
export const RESYNC_MS = 600_000;
export const MAX_JUMP_MS = 5_000;
const RETRY_MIN_MS = 5_000;
const RETRY_MAX_MS = 60_000;
const ROUNDING_MS = 2; // t1 and t2 are whole milliseconds

/**
 * Server time as one round trip saw it.
 *
 * @typedef {object} Estimate
 * @property {number} roundTrip milliseconds on the way, without the server's own time
 * @property {number} base server time in epoch milliseconds, less steady time
 */

/** Asks in bursts: at first, every ten minutes, after a jump of the wall clock, after no answer at all. */
export class TimeSync {
  /** @type {Estimate | null} */
  estimate = null;
  /** @type {Estimate | null} */
  #best = null;
  /** The estimate comes from a whole burst: replace it by a whole burst only. */
  #settled = false;
  #left = 0;
  /** @type {{t0: number, asked: number} | null} */
  #question = null;
  #due = -Infinity;
  #lostBursts = 0;
  #lastT0 = 0;
  /** @type {number | null} */
  #drift = null;

  /** A burst is under way, or begins with the next `poll`. */
  get isAsking() {
    return this.#left > 0 || this.#due === -Infinity;
  }

  /** The last burst has brought an answer. */
  get isAnswered() {
    return this.#settled;
  }

  /**
   * Return the t0 of a question to send now, or null. Call it often.
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
   * Take an answer; false: it answers nothing that was asked (late, repeated, or made up).
   *
   * @param {number} t0 of the question
   * @param {number} t1 when the server received it, epoch milliseconds
   * @param {number} t2 when the server answered, epoch milliseconds
   * @param {number} steady when the answer came
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
   * One round trip is over, with or without an answer.
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

  /** Begin a new burst with the next `poll`; the estimate stays until its first answer. */
  restart() {
    this.#question = null;
    this.#left = 0;
    this.#due = -Infinity;
    this.#settled = false;
  }

  /** The connection was lost: a burst under way begins again. */
  interrupted() {
    if (this.#left > 0) this.restart();
  }

  /** The bridge has just come: if there is no estimate yet, ask at once. */
  encourage() {
    if (this.estimate === null) {
      this.#lostBursts = 0;
      this.restart();
    }
  }
}
