/**
 * One network connection to the broker, from CONNECT to its end: the only importer of MQTT.js.
 *
 * Every connection has an MQTT.js client of its own that never reconnects, so that nothing of an old one
 * (unacknowledged messages, packet ids, the will) can get into a new one. MQTT 3.1.1, which every broker speaks.
 */

import {guard, PresenceError} from "./errors.js";
import {outsideTimers} from "./tasks.js";

/**
 * What we need of MQTT.js: pass `mqtt` of `import mqtt from "mqtt"` where a bundler finds it.
 *
 * @typedef {Pick<typeof import("mqtt"), "connect">} MqttLibrary
 */

/** @typedef {{topic: string, payload: string}} Will */

/**
 * Where to connect, and as whom.
 *
 * @typedef {object} Endpoint
 * @property {string} url absolute, `ws:` or `wss:`
 * @property {string | null} user
 * @property {string | null} password
 * @property {string} clientId
 * @property {number} keepAlive milliseconds
 * @property {number} reconnectMin milliseconds
 * @property {number} reconnectMax milliseconds
 * @property {MqttLibrary | null} mqtt
 */

/**
 * Whom to tell as a connection comes and goes.
 *
 * @typedef {object} ConnectionHooks
 * @property {() => void} up the broker has accepted it
 * @property {(topic: string, payload: Uint8Array, retained: boolean) => void} message
 * @property {(error: PresenceError) => void} ended once, whoever ended it
 */

const CONNECT_TIMEOUT_MS = 10_000;
const DISCONNECT_TIMEOUT_MS = 2_000;

/** Bad user name or password, not authorized (MQTT 3.1.1 §3.2.2.3); which of the two depends on the broker. */
const BAD_PASSWORD = new Set([4, 5]);

/**
 * The timer by which MQTT.js keeps the connection alive: it is called each half of the keep alive, sends a PINGREQ at
 * the second call and gives up at the third. Here the second comes with the first: where a hidden page gets its timers
 * once a minute, it would else ping once in two, and brokers wait for one keep alive and a half (MQTT 3.1.1
 * §3.1.2.10). Not MQTT.js's worker, which a strict Content-Security-Policy silently kills.
 *
 * @type {import("mqtt").IClientOptions["timerVariant"]}
 */
export const pingTimer = {
  set: (call, period) => {
    let first = true;
    const run = () => {
      if (first) call();
      first = false;
      call();
    };
    return /** @type {any} */ (setInterval(() => outsideTimers(run), period));
  },
  clear: (timer) => clearInterval(timer),
};

/** @type {Promise<MqttLibrary> | undefined} */
let shipped;

/**
 * Load the MQTT.js that came with the package.
 *
 * @returns {Promise<MqttLibrary>}
 * @throws {PresenceError} `no-mqtt`: it did not come with it
 */
export async function loadMqtt() {
  const url = new URL("../vendor/mqtt.esm.js", import.meta.url).href;
  try {
    shipped ??= import(/* @vite-ignore */ url).then((module) => module.default);
    return await shipped;
  } catch (error) {
    shipped = undefined;
    const what = `MQTT.js cannot be loaded from ${url}: build the package where npm is installed, or pass {mqtt}`;
    throw new PresenceError("no-mqtt", what, {cause: error});
  }
}

/** A connection that is being opened. */
export class Connection {
  isUp = false;
  /** @type {PresenceError | null} */
  #end = null;
  /** @type {PresenceError | null} */
  #reason = null;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Set<() => void>} */
  #onEnd = new Set();

  /**
   * @param {MqttLibrary} mqtt
   * @param {Endpoint} endpoint
   * @param {Will | null} will what the broker is to publish if the connection is lost
   * @param {ConnectionHooks} hooks
   * @throws {PresenceError} `unreachable`: the browser does not even try
   */
  constructor(mqtt, endpoint, will, hooks) {
    this.endpoint = endpoint;
    this.hooks = hooks;
    try {
      this.client = mqtt.connect(endpoint.url, {
        clientId: endpoint.clientId,
        ...(endpoint.user === null ? {} : {username: endpoint.user}),
        ...(endpoint.password === null ? {} : {password: endpoint.password}),
        ...(will === null ? {} : {will: {...will, payload: /** @type {any} */ (will.payload), qos: 1, retain: false}}),
        clean: true,
        protocolVersion: 4,
        keepalive: Math.ceil(endpoint.keepAlive / 1000),
        connectTimeout: CONNECT_TIMEOUT_MS,
        reconnectPeriod: 0, // a new connection is a new client: see above
        resubscribe: false,
        queueQoSZero: false,
        timerVariant: pingTimer,
        forceNativeWebSocket: true,
        createWebsocket: (url, protocols) => (this.#socket = new WebSocket(url, protocols)),
      });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      throw new PresenceError("unreachable", `${endpoint.url} cannot be reached: ${message}`, {cause: error});
    }
    this.client.on("connect", () => {
      if (this.#end !== null) return;
      this.isUp = true;
      guard(hooks.up);
    });
    this.client.on("message", (topic, payload, packet) => {
      if (this.isUp) guard(() => hooks.message(topic, payload, packet.retain));
    });
    this.client.on("error", (error) => (this.#reason ??= this.#understand(error)));
    this.client.on("close", () => this.#finish(this.#reason ?? this.#understand(null)));
  }

  /**
   * Publish; true: the broker has acknowledged it (QoS 1) or it is on its way (QoS 0). False: the connection ended.
   *
   * @param {string} topic
   * @param {string} payload
   * @param {0 | 1} qos
   * @returns {Promise<boolean>}
   */
  publish(topic, payload, qos) {
    return new Promise((resolve) => {
      if (!this.isUp) return resolve(false);
      const fail = () => resolve(false);
      this.#onEnd.add(fail);
      outsideTimers(() =>
        this.client.publish(topic, payload, {qos}, (error) => {
          this.#onEnd.delete(fail);
          resolve(!error);
        }),
      );
    });
  }

  /**
   * Subscribe to topic filters with their QoS. Returns those that the broker does not grant; null: it has not answered.
   *
   * @param {Record<string, 0 | 1>} filters
   * @returns {Promise<string[] | null>}
   */
  subscribe(filters) {
    const names = Object.keys(filters);
    const request = Object.fromEntries(names.map((name) => [name, {qos: filters[name] ?? 0}]));
    return new Promise((resolve) => {
      if (!this.isUp) return resolve(null);
      const fail = () => resolve(null);
      this.#onEnd.add(fail);
      outsideTimers(() =>
        this.client.subscribe(request, (_error, _granted, packet) => {
          this.#onEnd.delete(fail);
          const codes = packet?.granted;
          resolve(codes === undefined ? null : names.filter((_, index) => Number(codes[index]) >= 0x80));
        }),
      );
    });
  }

  /** @param {string[]} filters */
  unsubscribe(filters) {
    if (this.isUp) this.client.unsubscribe(filters, () => {});
  }

  /** End it with a DISCONNECT: the broker discards the will. Resolves when it has ended. */
  async disconnect() {
    if (this.#end !== null) return;
    const ended = new Promise((resolve) => this.#onEnd.add(() => resolve(undefined)));
    const late = setTimeout(() => this.abort(), DISCONNECT_TIMEOUT_MS);
    this.#reason = new PresenceError("lost", "disconnected on purpose");
    this.client.end(false);
    await ended;
    clearTimeout(late);
  }

  /** Give up the socket without a DISCONNECT: the broker publishes the will. At once, for a page that is going away. */
  abort() {
    if (this.#end !== null) return;
    // MQTT.js would close the socket a few timers later, which a frozen page does not get.
    this.#socket?.close();
    this.client.end(true);
    this.#finish(new PresenceError("lost", "the connection was given up"));
  }

  /** @param {PresenceError} error */
  #finish(error) {
    if (this.#end !== null) return;
    this.#end = error;
    this.isUp = false;
    for (const call of this.#onEnd) call();
    guard(() => this.hooks.ended(error));
  }

  /**
   * @param {(Error & {code?: unknown}) | null} error of MQTT.js; null: the connection just closed
   * @returns {PresenceError}
   */
  #understand(error) {
    const {url, user} = this.endpoint;
    const options = error === null ? {} : {cause: error};
    const why = error === null ? "" : `: ${error.message}`;
    if (this.isUp) return new PresenceError("lost", `the connection to ${url} was lost${why}`, options);
    if (typeof error?.code === "number") {
      return BAD_PASSWORD.has(error.code)
        ? new PresenceError("bad-password", `${url} does not know ${user ?? "us"} with this password`, options)
        : new PresenceError("refused", `${url} refuses us${why}`, options);
    }
    if (error?.message === "connack timeout") {
      return new PresenceError("timeout", `${url} did not answer in ${CONNECT_TIMEOUT_MS / 1000} s`, options);
    }
    return new PresenceError("unreachable", `${url} cannot be reached${why}`, options);
  }
}
