/** How long to wait before the next attempt to connect. Pure but for the dice, which can be given. */

/** A connection that lasted this long counts as a success; a shorter one (somebody takes our id) does not. */
export const STEADY_AFTER_MS = 10_000;

/** Doubling delays with jitter, so that a thousand pages do not come back in one second. */
export class Backoff {
  #attempt = 0;

  /**
   * @param {number} shortest the first delay, milliseconds
   * @param {number} longest no delay is longer, milliseconds
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
   * @param {number} lived how long the connection just lost had been up, milliseconds; 0 when it never was
   */
  next(lived) {
    if (lived >= STEADY_AFTER_MS) this.#attempt = 0;
    const delay = Math.min(this.longest, this.shortest * 2 ** Math.min(this.#attempt, 30));
    this.#attempt += 1;
    return delay * (0.5 + this.roll() / 2);
  }

  /** The longest delays from now on: trying again soon will not help, e.g. with a wrong password. */
  slowDown() {
    this.#attempt = 30;
  }
}
