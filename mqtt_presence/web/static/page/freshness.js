/** Since when what is shown is not known to be true any more: the broker, the bridge or the server is gone. Pure. */

/** How soon to ask again when what is shown is old. */
const RETRY_MS = 3_000;

/** What comes over MQTT. */
export class Live {
  /** When it was last true; null: it is now. @type {Date | null} */
  asOf = null;

  /**
   * Take how things are.
   *
   * @param {boolean} stale it is the last known state
   * @param {boolean} lost something is gone; false: it may only not be there yet, as while signing in
   * @param {Date} now
   */
  update(stale, lost, now) {
    if (!stale) this.asOf = null;
    else if (lost) this.asOf ??= now;
  }
}

/**
 * What the server answers from its database: no truer than what comes over MQTT, since the bridge that writes there
 * hears it from the same broker.
 */
export class Answers {
  #live;
  /** When what is shown was last true; null: it is now. @type {Date | null} */
  #asOf = null;
  /** When what is shown was asked for. @type {Date | null} */
  #asked = null;
  #failed = false;

  /** @param {Live} live */
  constructor(live) {
    this.#live = live;
  }

  /** When what is shown was last true; null: it is now. */
  get asOf() {
    return (this.#asOf ??= this.#live.asOf);
  }

  /**
   * Return a question, for `answered`.
   *
   * @param {Date} now
   */
  ask(now) {
    return {now, asOf: this.#live.asOf};
  }

  /**
   * A part of the answer is shown: should the rest never come, that part is of then.
   *
   * @param {{now: Date}} question
   */
  partlyAnswered({now}) {
    this.#asked ??= now;
  }

  /**
   * It was answered: what is shown is as true as it was when asked for.
   *
   * @param {{now: Date, asOf: Date | null}} question
   */
  answered({now, asOf}) {
    this.#asked = now;
    this.#asOf = asOf;
    this.#failed = false;
  }

  /** It was not: what is shown is that of the last time. */
  failed() {
    this.#asOf ??= this.#asked;
    this.#failed = true;
  }

  /**
   * Return how long to wait from one question to the next, milliseconds: not long when there is hope for something newer.
   *
   * @param {number} usual
   */
  pause(usual) {
    const isBack = this.asOf !== null && this.#live.asOf === null;
    return this.#failed || isBack ? RETRY_MS : usual;
  }
}
