/** Back-off: the delay before the next attempt to connect. Pure if the random numbers are given. */

/** A connection that lasts as long is a success. Shorter ones are not: another client may be taking over the id. */
export const STEADY_AFTER_MS = 10_000;

/** Doubling delays with jitter, so that a thousand pages do not reconnect in the same second. */
export class Backoff {
  #attempt = 0;

  /**
   * @param {number} shortest the first delay, milliseconds
   * @param {number} longest the maximum delay, milliseconds
   * @param {() => number} roll returns a number from 0 up to 1
   */
  constructor(shortest, longest, roll = Math.random) {
    this.shortest = shortest;
    this.longest = longest;
    this.roll = roll;
  }

  /**
   * Return the milliseconds to wait, between half and the whole of the doubled delay.
   *
   * @param {number} lived the duration of the lost connection, milliseconds; 0 if the broker never accepted it
   */
  next(lived) {
    if (lived >= STEADY_AFTER_MS) this.#attempt = 0;
    const delay = Math.min(this.longest, this.shortest * 2 ** Math.min(this.#attempt, 30));
    this.#attempt += 1;
    return delay * (0.5 + this.roll() / 2);
  }

  /** Use the longest delay from now on: an early attempt does not help, for example with a wrong password. */
  slowDown() {
    this.#attempt = 30;
  }
}
