/** Keeps a connection to the broker, from `start` to `stop`: opens a new one whenever it is lost. */

import {Backoff} from "./backoff.js";
import {steady} from "./clocks.js";
import {Connection, loadMqtt} from "./connection.js";
import {guard, PresenceError} from "./errors.js";
import {followPage} from "./page.js";
import {outsideTimers} from "./tasks.js";

/** @typedef {import("./connection.js").Endpoint} Endpoint */

/**
 * Whoever uses the connection. A session has one or several.
 *
 * @typedef {object} Part
 * @property {Readonly<Record<string, 0 | 1>>} filters what to subscribe to: topic filters with their QoS
 * @property {(connection: Connection, denied: Promise<string[] | null>) => void} up the broker has accepted the
 *   connection, and is asked for the subscriptions; `denied` tells those it does not grant, null: it has not answered
 * @property {(topic: string, payload: Uint8Array, retained: boolean) => void} message also those meant for other parts
 * @property {() => void} tick do what is due; called every second while it is up, in a hidden page every minute
 * @property {() => void} down the connection that was up has ended
 * @property {() => void} [changed] something else has: `error`
 */

const TICK_MS = 1_000;

export class Session {
  /** @type {Part[]} */
  #parts = [];
  /** @type {Connection | null} */
  #connection = null;
  /**
   * One for each `start`; whatever an old one still has to say is not listened to.
   *
   * @type {{backoff: Backoff, mqtt: import("./connection.js").MqttLibrary, tried: ((error: PresenceError | null) => void)
   *   | null, stopPage: () => void} | null}
   */
  #run = null;
  #starting = false;
  #suspended = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #ticking;

  /**
   * Why there is no connection; null: there is one, or none is wanted.
   *
   * @type {PresenceError | null}
   */
  error = null;

  /**
   * @param {Endpoint} endpoint where to, and as whom
   * @param {() => import("./connection.js").Will | null} will makes the will of a connection about to be opened
   */
  constructor(endpoint, will) {
    this.endpoint = endpoint;
    this.will = will;
  }

  /** The connection, while the broker has accepted it. */
  get connection() {
    return this.#connection?.isUp ? this.#connection : null;
  }

  /** It was started, and not stopped. */
  get isStarted() {
    return this.#starting || this.#run !== null;
  }

  /**
   * Let somebody use the connection.
   *
   * @param {Part} part
   * @returns {() => void} ends that
   */
  join(part) {
    this.#parts.push(part);
    if (this.connection !== null) this.#greet(part, this.connection);
    return () => {
      if (!this.#parts.includes(part)) return;
      this.#parts = this.#parts.filter((other) => other !== part);
      const alone = Object.keys(part.filters).filter((name) => !this.#parts.some((other) => name in other.filters));
      if (alone.length > 0) this.connection?.unsubscribe(alone);
    };
  }

  /**
   * Begin to connect.
   *
   * @param {number} timeout milliseconds to wait for the first connection
   * @param {boolean} wait false: do not wait; go on trying until it works
   * @throws {PresenceError} the first connection failed, and nothing goes on; `usage`: it has been started
   */
  async start(timeout, wait) {
    if (this.isStarted) throw new PresenceError("usage", "already connected: disconnect first");
    this.#starting = true;
    this.error = null;
    try {
      const mqtt = this.endpoint.mqtt ?? (await loadMqtt());
      if (!this.#starting) throw new PresenceError("lost", "disconnected while connecting");
      const stopPage = followPage({hide: () => this.#suspend(), show: () => this.#resume(), wake: () => this.#hurry()});
      const backoff = new Backoff(this.endpoint.reconnectMin, this.endpoint.reconnectMax);
      this.#run = {backoff, mqtt, tried: null, stopPage};
    } catch (error) {
      if (error instanceof PresenceError && error.code === "no-mqtt") this.error = error;
      throw error;
    } finally {
      this.#starting = false;
    }
    if (!wait) return this.#open();
    /** @type {PresenceError | null} */
    const failure = await new Promise((resolve) => {
      const late = new PresenceError("timeout", `${this.endpoint.url} did not answer in ${timeout / 1000} s`);
      const timer = setTimeout(() => resolve(late), timeout);
      if (this.#run !== null) {
        this.#run.tried = (error) => {
          clearTimeout(timer);
          resolve(error);
        };
      }
      this.#open();
    });
    if (failure === null) return;
    await this.stop(false);
    this.error = failure;
    throw failure;
  }

  /**
   * End the connection; without effect when there is none.
   *
   * @param {boolean} clean with a DISCONNECT; false: as if the network had failed, so that the will is published
   */
  async stop(clean) {
    this.#starting = false;
    const run = this.#run;
    if (run === null) return;
    run.stopPage();
    clearTimeout(this.#retry);
    this.#run = null;
    this.#suspended = false;
    this.error = null;
    run.tried?.(new PresenceError("lost", "disconnected while connecting"));
    const connection = this.#connection;
    if (connection !== null && clean && connection.isUp) await connection.disconnect();
    else connection?.abort();
  }

  #open() {
    const run = this.#run;
    if (run === null || this.#suspended || this.#connection !== null) return;
    clearTimeout(this.#retry);
    let began = 0;
    /** @type {Connection} */
    let connection;
    const hooks = {
      up: () => {
        began = steady();
        this.error = null;
        for (const part of this.#parts) this.#greet(part, connection);
        this.#ticking = setInterval(() => this.#parts.forEach((part) => part.tick()), TICK_MS);
        run.tried?.(null);
        run.tried = null;
      },
      /** @type {Part["message"]} */
      message: (topic, payload, retained) => this.#parts.forEach((part) => part.message(topic, payload, retained)),
      ended: (/** @type {PresenceError} */ error) => this.#ended(error, began),
    };
    try {
      connection = this.#connection = new Connection(run.mqtt, this.endpoint, this.will(), hooks);
    } catch (error) {
      if (!(error instanceof PresenceError)) throw error;
      this.#ended(error, 0);
    }
  }

  /**
   * @param {Part} part
   * @param {Connection} connection
   */
  #greet(part, connection) {
    const denied = connection.subscribe(part.filters);
    guard(() => part.up(connection, denied));
  }

  /**
   * @param {PresenceError} error
   * @param {number} began when it was up, 0: never
   */
  #ended(error, began) {
    this.#connection = null;
    clearInterval(this.#ticking);
    const run = this.#run;
    if (run !== null && !this.#suspended) {
      this.error = error;
      if (error.code === "bad-password") run.backoff.slowDown();
      const delay = run.backoff.next(began ? steady() - began : 0);
      if (run.tried === null) this.#retry = setTimeout(() => outsideTimers(() => this.#open()), delay);
    }
    for (const part of this.#parts) {
      if (began) part.down();
      else part.changed?.();
    }
    if (!this.#suspended) run?.tried?.(error);
  }

  /** The page goes away, perhaps into the back/forward cache, where a socket would stay open unattended. */
  #suspend() {
    this.#suspended = true;
    clearTimeout(this.#retry);
    this.#connection?.abort();
  }

  /** The page is back. */
  #resume() {
    this.#suspended = false;
    this.#open();
  }

  /** The network or the user is back: do not wait out the delay. A wrong password gets no better by that. */
  #hurry() {
    if (this.error?.code !== "bad-password") this.#open();
  }
}
