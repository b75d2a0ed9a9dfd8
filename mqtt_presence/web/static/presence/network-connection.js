/**
 * A network connection to the broker, from CONNECT to its end. The only module that imports MQTT.js.
 *
 * Every connection has its own MQTT.js client, which never reconnects. So unacknowledged messages, packet ids and the
 * will of an old connection cannot get into a new one. The version is MQTT 3.1.1, which every broker supports.
 */

import {guard, PresenceError} from "./errors.js";
import {outsideTimers} from "./tasks.js";

/**
 * The part of MQTT.js in use. With a bundler, pass `mqtt` of `import mqtt from "mqtt"`.
 *
 * @typedef {Pick<typeof import("mqtt"), "connect">} MqttLibrary
 */

/** @typedef {{topic: string, payload: string}} Will */

/**
 * The address of the broker, and the identity of the client.
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
 * Callbacks of a connection.
 *
 * @typedef {object} ConnectionHooks
 * @property {() => void} up the broker has accepted it
 * @property {(topic: string, payload: Uint8Array, retained: boolean) => void} message
 * @property {(error: PresenceError) => void} ended called once, at the end of the connection
 */

const CONNECT_TIMEOUT_MS = 10_000;
const DISCONNECT_TIMEOUT_MS = 2_000;

/** Bad user name or password, not authorized (MQTT 3.1.1 §3.2.2.3); which of the two depends on the broker. */
const BAD_PASSWORD = new Set([4, 5]);

/**
 * The keep-alive timer of MQTT.js. MQTT.js calls it every half keep alive, sends a PINGREQ at the second call, and
 * closes the connection at the third. Here the first call includes the second. A hidden page runs its timers once a
 * minute, so it would ping every two minutes otherwise, and brokers wait for one and a half keep alives (MQTT 3.1.1
 * §3.1.2.10). MQTT.js's own worker is no alternative: a strict Content-Security-Policy blocks it silently.
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

/** @typedef {new (url: string, protocols?: string | string[]) => WebSocket} SocketKind */

/** @type {SocketKind | undefined} */
let socketKind;

/**
 * Set the MQTT.js for all connections without one of their own, and the WebSocket where the platform has none.
 *
 * @param {MqttLibrary} library
 * @param {SocketKind} [kind]
 */
export function useMqtt(library, kind) {
  shipped = Promise.resolve(library);
  socketKind = kind;
}

/**
 * Load the MQTT.js of this package.
 *
 * @returns {Promise<MqttLibrary>}
 * @throws {PresenceError} `no-mqtt`: the package has none
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

/** A network connection; the constructor begins to open it. */
export class NetworkConnection {
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
   * @param {Will | null} will the message that the broker publishes if the connection is lost
   * @param {ConnectionHooks} hooks
   * @throws {PresenceError} `unreachable`: the browser refuses the URL
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
        createWebsocket: (url, protocols) => (this.#socket = new (socketKind ?? WebSocket)(url, protocols)),
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
    this.client.on("error", (error) => (this.#reason ??= this.#explain(error)));
    this.client.on("close", () => this.#finish(this.#reason ?? this.#explain(null)));
  }

  /**
   * Publish a message. Resolves to true when the broker has acknowledged it (QoS 1) or it is sent (QoS 0); to false when
   * the connection has ended.
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
   * Subscribe to topic filters with their QoS. Resolves to the filters that the broker refuses, or to null if the
   * connection ends before its answer.
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

  /** End the connection with a DISCONNECT, so that the broker discards the will. Resolves at its end. */
  async disconnect() {
    if (this.#end !== null) return;
    const ended = new Promise((resolve) => this.#onEnd.add(() => resolve(undefined)));
    const late = setTimeout(() => this.abort(), DISCONNECT_TIMEOUT_MS);
    this.#reason = new PresenceError("lost", "disconnected on purpose");
    this.client.end(false);
    await ended;
    clearTimeout(late);
  }

  /** Close the socket at once without a DISCONNECT, so that the broker publishes the will. For a page that is left. */
  abort() {
    if (this.#end !== null) return;
    // MQTT.js closes the socket a few timers later, and the timers of a frozen page do not run.
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
   * @param {(Error & {code?: unknown}) | null} error of MQTT.js; null if the connection closed without one
   * @returns {PresenceError}
   */
  #explain(error) {
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
