/** The status watcher: the live status of all users. */

import {BridgePresence} from "./bridge-presence.js";
import {steady, within} from "./clocks.js";
import {makeEndpoint} from "./endpoint.js";
import {freshWatcherId} from "./ids.js";
import {PresenceError} from "./errors.js";
import {Observable} from "./observable.js";
import {PresenceClient} from "./presence-client.js";
import {StatusTable} from "./status-table.js";
import {Reconnector} from "./reconnector.js";
import {Topics} from "./topics.js";

/** @typedef {import("./network-connection.js").NetworkConnection} NetworkConnection */
/** @typedef {import("./status-table.js").UserStatus} UserStatus */

/**
 * @typedef {object} WatcherSnapshot
 * @property {readonly UserStatus[]} users sorted by id
 * @property {boolean} connected
 * @property {"online" | "offline" | "unknown"} bridge
 * @property {boolean} stale whether `users` may be out of date: broker or bridge are offline, or the broker has not sent
 *   the status of every user again since the last connection
 * @property {PresenceError | null} error
 */

/** All retained messages have arrived if none has for as long, and the bridge is online. */
const QUIET_MS = 5_000;

/**
 * Follows the status of all users. Older versions are ignored, and forgotten users are removed. Without a connection,
 * the watcher keeps the last known state and marks it as stale.
 *
 * @extends {Observable<WatcherSnapshot>}
 */
export class StatusWatcher extends Observable {
  #topics;
  /** @type {Reconnector | null} null for a watcher that shares a client's connection */
  #reconnector = null;
  /** @type {PresenceClient | null} the client whose connection the watcher shares */
  #client = null;
  #statuses = new StatusTable();
  #bridge = new BridgePresence();
  #connected = false;
  /** @type {PresenceError | null} */
  #denied = null;
  /**
   * Resolves to whether the broker has answered the subscription.
   *
   * @type {Promise<boolean> | null}
   */
  #subscribed = null;
  /** @type {number | null} */
  #pruneAt = null;
  /** @type {NetworkConnection | null} */
  #connection = null;
  #leave;

  /**
   * @param {PresenceClient | string | URL} source a client, to share its connection; or the URL of the broker's WebSocket
   * @param {{prefix?: string} & import("./endpoint.js").EndpointOptions} [options] for a connection of its own
   * @throws {PresenceError} `config`: an argument is wrong; the message has its name
   */
  constructor(source, options = {}) {
    super(() => ({
      users: this.#statuses.sorted(),
      connected: this.connected,
      bridge: this.bridge,
      stale: this.stale,
      error: this.error,
    }));
    const topics = source instanceof PresenceClient ? source.topics : new Topics(options.prefix);
    this.#topics = topics;
    /** @type {import("./reconnector.js").Part} */
    const part = {
      // The bridge's state comes first, so that a full queue of the broker drops users instead.
      filters: {[topics.bridgeState]: 1, [topics.statuses]: 1},
      up: (connection, denied) => this.#up(connection, denied),
      message: (topic, payload, retained) => this.#message(topic, payload, retained),
      tick: () => this.#tick(),
      down: () => this.#down(),
      changed: () => this.changed(),
    };
    if (source instanceof PresenceClient) {
      this.#client = source;
      this.#leave = source.join(part);
    } else {
      this.#reconnector = new Reconnector(makeEndpoint(source, {clientId: freshWatcherId(), ...options}), () => null);
      this.#leave = this.#reconnector.join(part);
    }
  }

  /**
   * Connect, and reconnect whenever the connection is lost. Not for a watcher that shares a client's connection.
   *
   * @param {object} [how]
   * @param {number} [how.timeout] milliseconds until the broker has accepted the connection and the subscription
   * @param {boolean} [how.wait] false to return at once, and to retry even if the broker is not reachable yet
   * @throws {PresenceError} the broker is unreachable, refuses the connection, or refuses to deliver statuses
   */
  async connect({timeout = 10_000, wait = true} = {}) {
    const session = this.#reconnector;
    if (session === null) throw new PresenceError("usage", "this watcher shares a connection: connect the client");
    const deadline = steady() + timeout;
    try {
      await session.start(timeout, wait);
      if (!wait) return;
      const answered = await within(deadline - steady(), this.#subscribed);
      const late = new PresenceError("timeout", `the broker did not acknowledge the subscription in ${timeout / 1000} s`);
      const error = answered ? this.#denied : late;
      if (error !== null) {
        await session.stop(true);
        throw error;
      }
    } finally {
      this.changed();
    }
  }

  /** Disconnect, or leave the client's connection; the known users stay. May be repeated. */
  async close() {
    if (this.#reconnector !== null) {
      await this.#reconnector.stop(true);
    } else {
      this.#leave();
      if (this.#connected) this.#down();
    }
    this.endIteration();
  }

  /** Whether the broker has accepted the connection. */
  get connected() {
    return this.#connected;
  }

  /** The state of the bridge; `unknown` while not connected. */
  get bridge() {
    return this.#bridge.state;
  }

  /** Whether the bridge is online, according to `bridge/state`. */
  get bridgeConnected() {
    return this.#bridge.online;
  }

  /**
   * Whether the statuses may be out of date: broker or bridge are offline, or they are back and the broker has not yet
   * sent all statuses again. The state of the bridge comes before the statuses.
   */
  get stale() {
    return !this.#connected || !this.#bridge.online || this.#denied !== null || !this.#statuses.isConfirmed;
  }

  /** The reason for missing statuses; null without a problem. */
  get error() {
    return this.#denied ?? this.#reconnector?.error ?? this.#client?.error ?? null;
  }

  /**
   * @param {string} userId
   * @returns {UserStatus | undefined}
   */
  get(userId) {
    return this.#statuses.users.get(userId);
  }

  /** The number of known users. */
  get size() {
    return this.#statuses.users.size;
  }

  /** The number of ignored messages: invalid ones (`payload`) and old ones (`stale`). */
  get ignored() {
    return {...this.#statuses.ignored};
  }

  // Callbacks of the reconnector

  /**
   * @param {NetworkConnection} connection
   * @param {Promise<string[] | null>} denied
   */
  #up(connection, denied) {
    this.#connected = true;
    this.#connection = connection;
    this.#denied = null;
    this.#pruneAt = null;
    this.#statuses.reconnected();
    this.#subscribed = denied.then((filters) => {
      if (connection !== this.#connection || !filters?.includes(this.#topics.statuses)) return filters !== null;
      const what = `the broker does not let us read ${this.#topics.statuses}: check its access rules`;
      this.#denied = new PresenceError("not-allowed", what);
      this.changed();
      return true;
    });
    this.changed();
  }

  #down() {
    this.#connected = false;
    this.#connection = null;
    this.#bridge.reset();
    this.#pruneAt = null;
    this.changed();
  }

  /**
   * @param {string} topic
   * @param {Uint8Array} payload
   * @param {boolean} retained
   */
  #message(topic, payload, retained) {
    if (topic === this.#topics.bridgeState) {
      this.#receiveBridgeState(payload);
    } else {
      const userId = this.#topics.parseStatus(topic);
      if (userId === null) return; // a message for the client that shares its connection
      // Live messages prove nothing about retained ones, and with many users they never pause.
      if (retained) this.#postponePrune();
      const before = this.stale;
      const change = this.#statuses.apply(userId, payload);
      if (change !== null) this.#emitStatus(change);
      else if (this.stale !== before) this.changed();
    }
  }

  /** @param {Uint8Array} payload */
  #receiveBridgeState(payload) {
    try {
      this.#bridge.receive(payload);
    } catch (error) {
      if (!(error instanceof PresenceError)) throw error;
      this.#statuses.ignored.payload += 1;
    }
    this.#postponePrune();
    this.changed();
  }

  #postponePrune() {
    this.#pruneAt = this.#bridge.online ? steady() + QUIET_MS : null;
  }

  #tick() {
    if (this.#pruneAt === null || steady() < this.#pruneAt) return;
    this.#pruneAt = null;
    for (const change of this.#statuses.prune()) this.#emitStatus(change);
  }

  /** @param {import("./status-table.js").Change} change */
  #emitStatus(change) {
    this.emit("status", change);
  }
}
