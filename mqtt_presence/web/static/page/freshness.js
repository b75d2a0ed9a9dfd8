/** Freshness of data: the time of the last known state while the broker, the bridge or the server is gone. Pure. */

/** Milliseconds between two requests while the data are out of date. */
const RETRY_MS = 3_000;

/** The freshness of statuses over MQTT. */
export class Live {
  /** The time of the last known state; null while current. @type {Date | null} */
  asOf = null;

  /**
   * Update the freshness.
   *
   * @param {boolean} stale whether the statuses are the last known state
   * @param {boolean} lost whether broker or bridge are gone, not only late as during a login
   * @param {Date} now
   */
  update(stale, lost, now) {
    if (!stale) this.asOf = null;
    else if (lost) this.asOf ??= now;
  }
}

/**
 * The freshness of answers from the database. They are no newer than the statuses, since the bridge that writes the
 * database receives them from the same broker.
 */
export class Answers {
  #live;
  /** The time of the data; null while current. @type {Date | null} */
  #asOf = null;
  /** The time of the request for the present data. @type {Date | null} */
  #asked = null;
  #failed = false;

  /** @param {Live} live */
  constructor(live) {
    this.#live = live;
  }

  /** The time of the data; null while current. */
  get asOf() {
    return (this.#asOf ??= this.#live.asOf);
  }

  /**
   * Return a new request, for `answered`.
   *
   * @param {Date} now
   */
  ask(now) {
    return {now, asOf: this.#live.asOf};
  }

  /**
   * Record that a part of the answer is shown. If the rest never arrives, the time of the data is that of the request.
   *
   * @param {{now: Date}} question
   */
  partlyAnswered({now}) {
    this.#asked ??= now;
  }

  /**
   * Record the answer: the data are as fresh as they were at the request.
   *
   * @param {{now: Date, asOf: Date | null}} question
   */
  answered({now, asOf}) {
    this.#asked = now;
    this.#asOf = asOf;
    this.#failed = false;
  }

  /** Record that the request failed, so that the old data stay. */
  failed() {
    this.#asOf ??= this.#asked;
    this.#failed = true;
  }

  /**
   * Return the milliseconds between two requests, short if newer data may arrive soon.
   *
   * @param {number} usual
   */
  pause(usual) {
    const isBack = this.asOf !== null && this.#live.asOf === null;
    return this.#failed || isBack ? RETRY_MS : usual;
  }
}
