/** The client of a page: says that its user is here, and leaves a will. */

import {BridgeWatch} from "./bridge-watch.js";
import {steady, within} from "./clocks.js";
import {makeEndpoint} from "./endpoint.js";
import {PresenceError} from "./errors.js";
import {freshConnectionId} from "./ids.js";
import {IdleMonitor} from "./idle-monitor.js";
import {Observable} from "./observable.js";
import {ServerClock} from "./server-clock.js";
import {Session} from "./session.js";
import {requireName, Topics} from "./topics.js";
import {checkDuration, checkMeta, encodeActivity, encodeEnd, encodeLogin} from "./wire.js";

/** @typedef {import("./connection.js").Connection} Connection */

/**
 * @typedef {object} PresenceOptions
 * @property {string} [prefix] what the bridge puts before every topic
 * @property {string | null} [userAgent] what operators are shown; default: that of the browser
 * @property {number | null} [idleThreshold] milliseconds without activity until the bridge takes this client for idle
 * @property {number | null} [timeout] milliseconds of silence after which the bridge takes it for gone
 * @property {object | null} [meta] anything else to keep in the record, at most 2 KiB as JSON
 * @property {boolean} [announce] log in again when the bridge asks for it
 */

/**
 * @typedef {object} PresenceSnapshot
 * @property {string} user
 * @property {string} clientId
 * @property {boolean} connected
 * @property {string | null} connectionId
 * @property {boolean} bridgeConnected
 * @property {PresenceError | null} error
 * @property {boolean} isMonitoring
 * @property {boolean} isIdle
 * @property {Date | null} lastActivity
 * @property {boolean} isSynced
 * @property {number | null} offset
 * @property {number | null} roundTrip
 */

/**
 * Keeps a user shown as online for as long as the page is there and the network holds. If the connection is lost,
 * the broker says so for the client (its will), and the client comes back as a new connection.
 *
 * @extends {Observable<PresenceSnapshot>}
 */
export class PresenceClient extends Observable {
  #topics;
  #login;
  #session;
  #bridge = new BridgeWatch();
  #nextId = freshConnectionId();
  /**
   * The connection that is logged in: what is sent on it carries its id and no other. `began` is steady time.
   *
   * @type {{connection: Connection, connectionId: string, began: number, login: Promise<boolean>} | null}
   */
  #live = null;
  #bridgeState = "unknown";

  /**
   * @param {string | URL} url of the broker's WebSocket: `ws[s]://host:port/path`, or relative to the page
   * @param {PresenceOptions & import("./endpoint.js").EndpointOptions} [options]
   * @throws {PresenceError} `config`: an argument is wrong; the message names it
   */
  constructor(url, options = {}) {
    super(() => ({
      user: this.user,
      clientId: this.clientId,
      connected: this.connected,
      connectionId: this.connectionId,
      bridgeConnected: this.bridgeConnected,
      error: this.error,
      isMonitoring: this.monitor.isMonitoring,
      isIdle: this.monitor.isIdle,
      lastActivity: this.monitor.lastActivity,
      isSynced: this.clock.isSynced,
      offset: this.clock.offset,
      roundTrip: this.clock.roundTrip,
    }));
    const endpoint = makeEndpoint(url, options);
    if (endpoint.user === null) {
      throw new PresenceError("config", "user is not set: presence needs to know who this is");
    }
    /** @readonly */
    this.user = requireName("user", endpoint.user);
    /** @readonly */
    this.clientId = endpoint.clientId;
    this.#topics = new Topics(options.prefix);
    this.#login = {
      userAgent: options.userAgent === undefined ? (globalThis.navigator?.userAgent ?? null) : options.userAgent,
      idleThreshold: checkDuration("idleThreshold", options.idleThreshold ?? null),
      timeout: checkDuration("timeout", options.timeout ?? null),
      announce: options.announce ?? true,
      meta: checkMeta(options.meta ?? null),
    };
    encodeLogin({...this.#login, connectionId: this.#nextId, time: Date.now()}); // throws now rather than on connecting
    /** The server's clock. @readonly */
    this.clock = new ServerClock({ask: (payload) => this.#say("time", payload, 0), changed: () => this.#synced()});
    /** The idle monitor of this client. @readonly */
    this.monitor = new IdleMonitor({
      send: (idle, lastActivity) => this.#sendActivity(idle, lastActivity, 1),
      clock: this.clock,
      changed: () => this.emit("monitor"),
      channel: `mqtt-presence ${this.#topics.prefix}${this.user}`,
    });
    this.#session = new Session(endpoint, () => this.#will());
    /** @type {Record<string, 0 | 1>} */
    const filters = {[this.#topics.bridgeState]: 1, [this.#topics.reply(this.user, this.clientId)]: 0};
    if (this.#login.announce) filters[this.#topics.bridgeAnnounce] = 1;
    this.#session.join({
      filters,
      up: (connection) => this.#up(connection),
      message: (topic, payload, retained) => this.#message(topic, payload, retained),
      tick: () => this.clock.tick(),
      down: () => this.#down(),
      changed: () => this.#failed(),
    });
  }

  // The connection

  /**
   * Connect and log in, and from now on come back whenever the connection is lost.
   *
   * @param {object} [how]
   * @param {number} [how.timeout] milliseconds until the broker has acknowledged the login
   * @param {boolean} [how.wait] false: return at once, and go on trying even if the broker is not there yet
   * @throws {PresenceError} the broker cannot be reached, refuses us, or does not take the login
   */
  async connect({timeout = 10_000, wait = true} = {}) {
    const deadline = steady() + timeout;
    try {
      await this.#session.start(timeout, wait);
      if (wait && !(await within(deadline - steady(), this.#live?.login))) {
        await this.#session.stop(false);
        const late = steady() >= deadline;
        throw new PresenceError(
          late ? "timeout" : "lost",
          `${late ? `in ${timeout / 1000} s the broker did not` : "the connection was lost before the broker could"} ` +
            `acknowledge the login: may ${this.user} write ${this.#topics.input(this.user, this.clientId, "login")}?`,
        );
      }
    } finally {
      this.changed();
    }
  }

  /**
   * Log out and disconnect; without effect when not connected. The idle monitor stops.
   *
   * If the broker does not acknowledge the logout, the connection is given up without a DISCONNECT, so that at least
   * the will is published.
   *
   * @param {object} [how]
   * @param {number} [how.timeout] milliseconds to wait for the acknowledgement
   * @returns {Promise<boolean>} true: the broker has the logout; false: it does not, what it has is the will
   */
  async disconnect({timeout = 5_000} = {}) {
    this.monitor.close();
    const live = this.#live;
    let sent = false;
    if (live !== null) {
      const topic = this.#topics.input(this.user, this.clientId, "logout");
      const receipt = live.connection.publish(topic, encodeEnd(live.connectionId), 1);
      this.#live = null;
      this.changed();
      sent = await within(timeout, receipt);
    }
    await this.#session.stop(sent);
    this.endIteration();
    return sent;
  }

  /** The same as `disconnect`. */
  logout = this.disconnect;

  /** The broker is there, and the login is on its way. */
  get connected() {
    return this.connectionId !== null;
  }

  /** The id of the present connection, a new one for each; null while not connected. */
  get connectionId() {
    return this.#live?.connection.isUp ? this.#live.connectionId : null;
  }

  /** The bridge is there too, as `bridge/state` says. */
  get bridgeConnected() {
    return this.#bridge.online;
  }

  /** Why there is no connection; null: there is one, or none is wanted. */
  get error() {
    return this.#session.error;
  }

  // Activity and time

  /**
   * Give a sign of life, which counts as activity, also for the idle monitor. (With `idleOnBlur` and a page that is
   * not in front nothing counts: then it only says that the client is still there.)
   *
   * Not kept for later: when the connection comes back, its login counts as activity by itself.
   *
   * @returns {boolean} false: not connected, nothing was sent
   */
  heartbeat() {
    const beat = this.monitor.beat();
    return this.#sendActivity(beat?.idle ? true : null, beat?.lastActivity ?? null, 0);
  }

  /** The server's time; the local one until synced. */
  serverTime() {
    return this.clock.serverTime();
  }

  /** The server has told its time at least once. */
  get isSynced() {
    return this.clock.isSynced;
  }

  /** How far the server's clock is ahead of the local one, milliseconds; null: not synced. */
  get offset() {
    return this.clock.offset;
  }

  /** The round trip the estimate rests on, milliseconds; null: not synced. */
  get roundTrip() {
    return this.clock.roundTrip;
  }

  /** Ask the server's time again, now. Resolves when the answers are in: true; or false, there was none. */
  resync() {
    return this.clock.resync();
  }

  /**
   * Let a watcher use the connection.
   *
   * @internal
   * @param {import("./session.js").Part} part
   */
  join(part) {
    return this.#session.join(part);
  }

  /** @internal */
  get topics() {
    return this.#topics;
  }

  /**
   * @param {boolean | null} idle
   * @param {number | null} lastActivity
   * @param {0 | 1} qos
   */
  #sendActivity(idle, lastActivity, qos) {
    const live = this.#live;
    return live !== null && this.#say("activity", encodeActivity(live.connectionId, idle, lastActivity), qos);
  }

  /**
   * @param {"activity" | "time"} verb
   * @param {string} payload
   * @param {0 | 1} qos
   */
  #say(verb, payload, qos) {
    const live = this.#live;
    if (!live?.connection.isUp) return false;
    void live.connection.publish(this.#topics.input(this.user, this.clientId, verb), payload, qos);
    return true;
  }

  // What the session calls

  #will() {
    this.#nextId = freshConnectionId();
    return {topic: this.#topics.input(this.user, this.clientId, "will"), payload: encodeEnd(this.#nextId)};
  }

  /** @param {Connection} connection */
  #up(connection) {
    const began = steady();
    const login = this.#logIn(connection, this.#nextId, began);
    this.#live = {connection, connectionId: this.#nextId, began, login}; // only now: nothing goes before the login
    this.monitor.renew();
    this.clock.tick();
    this.emit("connect");
  }

  #down() {
    this.#live = null;
    this.#bridge.reset();
    this.clock.interrupted();
    this.emit("disconnect");
    this.#bridgeChanged();
    this.#failed();
  }

  #failed() {
    if (this.error !== null) this.emit("error", this.error);
  }

  #synced() {
    this.monitor.synced();
    this.emit("clock");
  }

  /**
   * @param {Connection} connection
   * @param {string} connectionId
   * @param {number} began
   */
  #logIn(connection, connectionId, began) {
    const payload = encodeLogin({...this.#login, connectionId, time: this.clock.at(began)});
    return connection.publish(this.#topics.input(this.user, this.clientId, "login"), payload, 1);
  }

  /**
   * @param {string} topic
   * @param {Uint8Array} payload
   * @param {boolean} retained
   */
  #message(topic, payload, retained) {
    try {
      if (topic === this.#topics.reply(this.user, this.clientId)) {
        this.clock.take(payload);
      } else if (topic === this.#topics.bridgeState) {
        if (this.#bridge.take(payload)) this.clock.encourage();
        this.#bridgeChanged();
      } else if (topic === this.#topics.bridgeAnnounce && !retained) {
        this.#answerAnnouncement();
      }
    } catch (error) {
      if (!(error instanceof PresenceError)) throw error; // what is no payload of ours has no effect
    }
  }

  #answerAnnouncement() {
    const live = this.#live;
    if (live === null) return;
    void this.#logIn(live.connection, live.connectionId, live.began); // at once: the timers of hidden pages are late
    this.monitor.renew();
  }

  #bridgeChanged() {
    if (this.#bridge.state === this.#bridgeState) return;
    this.#bridgeState = this.#bridge.state;
    this.emit("bridge");
  }
}
