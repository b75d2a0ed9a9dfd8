/** The client of whoever wants to know who is there: all users, live. */

import {BridgeWatch} from "./bridge-watch.js";
import {steady, within} from "./clocks.js";
import {makeEndpoint} from "./endpoint.js";
import {PresenceError} from "./errors.js";
import {Observable} from "./observable.js";
import {PresenceClient} from "./presence-client.js";
import {Roster} from "./roster.js";
import {Session} from "./session.js";
import {Topics} from "./topics.js";

/** @typedef {import("./connection.js").Connection} Connection */
/** @typedef {import("./roster.js").UserStatus} UserStatus */

/**
 * @typedef {object} WatcherSnapshot
 * @property {readonly UserStatus[]} users sorted by id
 * @property {boolean} connected the broker is there
 * @property {"online" | "offline" | "unknown"} bridge
 * @property {boolean} stale `users` is the last known state, not the present one: broker or bridge are not there, or
 *   the broker has not named everybody again since the connection was lost
 * @property {PresenceError | null} error
 */

/** The retained messages have all come when no more have for so long, and the bridge is there. */
const QUIET_MS = 5_000;

/**
 * Follows everybody's status. What is older by `version` is dropped, and users that were forgotten go. While the
 * connection is lost it keeps the last known state and says that it is stale.
 *
 * @extends {Observable<WatcherSnapshot>}
 */
export class StatusWatcher extends Observable {
  #topics;
  /** @type {Session | null} null: that of a client */
  #session = null;
  /** @type {PresenceClient | null} whose connection this shares */
  #client = null;
  #roster = new Roster();
  #bridge = new BridgeWatch();
  #connected = false;
  /** @type {PresenceError | null} */
  #denied = null;
  /**
   * Whether the broker has answered the subscription.
   *
   * @type {Promise<boolean> | null}
   */
  #subscribed = null;
  /** @type {number | null} */
  #pruneAt = null;
  /** @type {Connection | null} */
  #connection = null;
  #leave;

  /**
   * @param {PresenceClient | string | URL} source a client, to share its connection; or the URL of the broker's WebSocket
   * @param {{prefix?: string} & import("./endpoint.js").EndpointOptions} [options] for a connection of its own
   * @throws {PresenceError} `config`: an argument is wrong; the message names it
   */
  constructor(source, options = {}) {
    super(() => ({
      users: this.#roster.sorted(),
      connected: this.connected,
      bridge: this.bridge,
      stale: this.stale,
      error: this.error,
    }));
    const topics = source instanceof PresenceClient ? source.topics : new Topics(options.prefix);
    this.#topics = topics;
    /** @type {import("./session.js").Part} */
    const part = {
      // The bridge's state first: where the users overflow the broker's queue, it is not among the dropped.
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
      this.#session = new Session(makeEndpoint(source, options), () => null);
      this.#leave = this.#session.join(part);
    }
  }

  /**
   * Connect, and from now on come back whenever the connection is lost. Not for a watcher that shares a client's.
   *
   * @param {object} [how]
   * @param {number} [how.timeout] milliseconds until the broker has accepted the connection and the subscription
   * @param {boolean} [how.wait] false: return at once, and go on trying even if the broker is not there yet
   * @throws {PresenceError} the broker cannot be reached, refuses us, or does not let us read the users' status
   */
  async connect({timeout = 10_000, wait = true} = {}) {
    const session = this.#session;
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

  /** Disconnect, or leave the client's connection; the users stay as they were. May be repeated. */
  async close() {
    if (this.#session !== null) {
      await this.#session.stop(true);
    } else {
      this.#leave();
      if (this.#connected) this.#down();
    }
    this.endIteration();
  }

  /** The broker is there. */
  get connected() {
    return this.#connected;
  }

  /** Whether the bridge is there, as it says itself; `unknown` while not connected. */
  get bridge() {
    return this.#bridge.state;
  }

  /** The bridge is there too, as `bridge/state` says. */
  get bridgeConnected() {
    return this.#bridge.online;
  }

  /**
   * What is shown is the last known state: broker or bridge are not there, or they are back and the broker has not yet
   * named everybody again. (The bridge's state comes before the users'.)
   */
  get stale() {
    return !this.#connected || !this.#bridge.online || this.#denied !== null || !this.#roster.isConfirmed;
  }

  /** Why nothing comes; null: nothing is wrong. */
  get error() {
    return this.#denied ?? this.#session?.error ?? this.#client?.error ?? null;
  }

  /**
   * @param {string} userId
   * @returns {UserStatus | undefined}
   */
  get(userId) {
    return this.#roster.users.get(userId);
  }

  /** How many users are known. */
  get size() {
    return this.#roster.users.size;
  }

  /** How many messages were dropped: no status (`payload`), or an old one (`stale`). */
  get ignored() {
    return {...this.#roster.ignored};
  }

  // What the session calls

  /**
   * @param {Connection} connection
   * @param {Promise<string[] | null>} denied
   */
  #up(connection, denied) {
    this.#connected = true;
    this.#connection = connection;
    this.#denied = null;
    this.#pruneAt = null;
    this.#roster.reconnected();
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
      this.#takeBridge(payload);
    } else {
      const userId = this.#topics.parseStatus(topic);
      if (userId === null) return; // for the client whose connection this is
      // What comes live says nothing of the retained ones; where many come and go it never ceases.
      if (retained) this.#postponePrune();
      const before = this.stale;
      const change = this.#roster.apply(userId, payload);
      if (change !== null) this.#tell(change);
      else if (this.stale !== before) this.changed();
    }
  }

  /** @param {Uint8Array} payload */
  #takeBridge(payload) {
    try {
      this.#bridge.take(payload);
    } catch (error) {
      if (!(error instanceof PresenceError)) throw error;
      this.#roster.ignored.payload += 1;
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
    for (const change of this.#roster.prune()) this.#tell(change);
  }

  /** @param {import("./roster.js").Change} change */
  #tell(change) {
    this.emit("status", change);
  }
}
