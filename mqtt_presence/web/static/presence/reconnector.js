/** The reconnector: keeps a connection to the broker from `start` to `stop`, and opens a new one after a loss. */

import {Backoff} from "./backoff.js";
import {steady} from "./clocks.js";
import {NetworkConnection, loadMqtt} from "./network-connection.js";
import {guard, PresenceError} from "./errors.js";
import {followPage} from "./page-events.js";
import {outsideTimers} from "./tasks.js";

/** @typedef {import("./network-connection.js").Endpoint} Endpoint */

/**
 * A user of the connection. A reconnector has one or several.
 *
 * @typedef {object} Part
 * @property {Readonly<Record<string, 0 | 1>>} filters the topic filters to subscribe to, with their QoS
 * @property {(connection: NetworkConnection, denied: Promise<string[] | null>) => void} up the broker has accepted the
 *   connection, and the subscriptions are sent; `denied` resolves to the refused filters, or to null without an answer
 * @property {(topic: string, payload: Uint8Array, retained: boolean) => void} message called for messages of other parts, too
 * @property {() => void} tick called every second while connected, in a hidden page every minute
 * @property {() => void} down the connection has ended
 * @property {() => void} [changed] `error` has changed
 */

const TICK_MS = 1_000;

export class Reconnector {
  /** @type {Part[]} */
  #parts = [];
  /** @type {NetworkConnection | null} */
  #connection = null;
  /**
   * The state since the last `start`; callbacks of an earlier one are ignored.
   *
   * @type {{backoff: Backoff, mqtt: import("./network-connection.js").MqttLibrary, tried: ((error: PresenceError | null) => void)
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
   * The reason for a missing connection; null while connected, or if no connection is wanted.
   *
   * @type {PresenceError | null}
   */
  error = null;

  /**
   * @param {Endpoint} endpoint
   * @param {() => import("./network-connection.js").Will | null} will returns the will of the next connection
   */
  constructor(endpoint, will) {
    this.endpoint = endpoint;
    this.will = will;
  }

  /** The connection, once the broker has accepted it. */
  get connection() {
    return this.#connection?.isUp ? this.#connection : null;
  }

  /** Whether the reconnector is running. */
  get isStarted() {
    return this.#starting || this.#run !== null;
  }

  /**
   * Add a part.
   *
   * @param {Part} part
   * @returns {() => void} removes the part
   */
  join(part) {
    this.#parts.push(part);
    if (this.connection !== null) this.#startPart(part, this.connection);
    return () => {
      if (!this.#parts.includes(part)) return;
      this.#parts = this.#parts.filter((other) => other !== part);
      const alone = Object.keys(part.filters).filter((name) => !this.#parts.some((other) => name in other.filters));
      if (alone.length > 0) this.connection?.unsubscribe(alone);
    };
  }

  /**
   * Start to connect.
   *
   * @param {number} timeout milliseconds to wait for the first connection
   * @param {boolean} wait false to return at once, and to retry until it works
   * @throws {PresenceError} the first connection failed, and the reconnector is stopped; `usage`: already started
   */
  async start(timeout, wait) {
    if (this.isStarted) throw new PresenceError("usage", "already connected: disconnect first");
    this.#starting = true;
    this.error = null;
    try {
      const mqtt = this.endpoint.mqtt ?? (await loadMqtt());
      if (!this.#starting) throw new PresenceError("lost", "disconnected while connecting");
      const stopPage = followPage({hide: () => this.#suspend(), show: () => this.#resume(), wake: () => this.#reconnectNow()});
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
   * End the connection; without effect if there is none.
   *
   * @param {boolean} clean true to send a DISCONNECT; false to let the broker publish the will
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
    /** @type {NetworkConnection} */
    let connection;
    const hooks = {
      up: () => {
        began = steady();
        this.error = null;
        for (const part of this.#parts) this.#startPart(part, connection);
        this.#ticking = setInterval(() => this.#parts.forEach((part) => part.tick()), TICK_MS);
        run.tried?.(null);
        run.tried = null;
      },
      /** @type {Part["message"]} */
      message: (topic, payload, retained) => this.#parts.forEach((part) => part.message(topic, payload, retained)),
      ended: (/** @type {PresenceError} */ error) => this.#ended(error, began),
    };
    try {
      connection = this.#connection = new NetworkConnection(run.mqtt, this.endpoint, this.will(), hooks);
    } catch (error) {
      if (!(error instanceof PresenceError)) throw error;
      this.#ended(error, 0);
    }
  }

  /**
   * @param {Part} part
   * @param {NetworkConnection} connection
   */
  #startPart(part, connection) {
    const denied = connection.subscribe(part.filters);
    guard(() => part.up(connection, denied));
  }

  /**
   * @param {PresenceError} error
   * @param {number} began the time at which the broker accepted the connection, 0 for never
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

  /** Close the connection of a page that is left: in the back/forward cache its socket would stay open. */
  #suspend() {
    this.#suspended = true;
    clearTimeout(this.#retry);
    this.#connection?.abort();
  }

  /** Connect again, since the page is back. */
  #resume() {
    this.#suspended = false;
    this.#open();
  }

  /** Skip the delay, since the network or the user is back. After a wrong password the delay stays. */
  #reconnectNow() {
    if (this.error?.code !== "bad-password") this.#open();
  }
}
