/** The presence client of a page: logs its user in, and leaves a will with the broker. */

import {BridgePresence} from "./bridge-presence.js";
import {steady, within} from "./clocks.js";
import {makeEndpoint} from "./endpoint.js";
import {PresenceError} from "./errors.js";
import {freshConnectionId} from "./ids.js";
import {IdleMonitor} from "./idle-monitor.js";
import {Observable} from "./observable.js";
import {ServerClock} from "./server-clock.js";
import {Reconnector} from "./reconnector.js";
import {requireName, Topics} from "./topics.js";
import {outsideTimers} from "./tasks.js";
import {
  checkDuration,
  checkMeta,
  decodeAnnouncement,
  encodeActivity,
  encodeEnd,
  encodeLogin,
} from "./client-messages.js";

/** @typedef {import("./network-connection.js").NetworkConnection} NetworkConnection */

/**
 * @typedef {object} PresenceOptions
 * @property {string} [prefix] the beginning of every topic, as the bridge has it
 * @property {string | null} [userAgent] the user agent for operators; by default the browser's
 * @property {number | null} [idleThreshold] milliseconds without activity after which this client is idle
 * @property {number | null} [timeout] milliseconds without a sign of life after which the bridge ends the connection
 * @property {object | null} [meta] further data for the record, at most 2 KiB as JSON
 * @property {boolean} [announce] whether the client logs in again when the bridge requests it
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
 * Keeps a user online while the page is open and the network works. If the connection is lost, the broker publishes the
 * client's will, and the client reconnects as a new connection.
 *
 * @extends {Observable<PresenceSnapshot>}
 */
export class PresenceClient extends Observable {
  #topics;
  #login;
  #reconnector;
  #bridge = new BridgePresence();
  #nextId = freshConnectionId();
  /**
   * The connection that is logged in. Messages on it carry its id and no other. `began` is steady time.
   *
   * @type {{connection: NetworkConnection, connectionId: string, began: number, login: Promise<boolean>} | null}
   */
  #live = null;
  #bridgeState = "unknown";
  /** When an announcement is answered, in steady time; Infinity: there is none to answer. */
  #answerAt = Infinity;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #answerTimer;

  /**
   * @param {string | URL} url of the broker's WebSocket: `ws[s]://host:port/path`, or relative to the page
   * @param {PresenceOptions & import("./endpoint.js").EndpointOptions} [options]
   * @throws {PresenceError} `config`: an argument is wrong; the message has its name
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
    encodeLogin({...this.#login, connectionId: this.#nextId, time: Date.now()}); // throws here instead of in `connect`
    /** The server's clock. @readonly */
    this.clock = new ServerClock({ask: (payload) => this.#publish("time", payload, 0), changed: () => this.#synced()});
    /** The idle monitor of this client. @readonly */
    this.monitor = new IdleMonitor({
      send: (idle, lastActivity) => this.#sendActivity(idle, lastActivity, 1),
      clock: this.clock,
      changed: () => this.emit("monitor"),
      channel: `mqtt-presence ${this.#topics.prefix}${this.user}`,
    });
    this.#reconnector = new Reconnector(endpoint, () => this.#will());
    /** @type {Record<string, 0 | 1>} */
    const filters = {[this.#topics.bridgeState]: 1, [this.#topics.reply(this.user, this.clientId)]: 0};
    if (this.#login.announce) filters[this.#topics.bridgeAnnounce] = 1;
    this.#reconnector.join({
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
   * Connect and log in; reconnect whenever the connection is lost.
   *
   * @param {object} [how]
   * @param {number} [how.timeout] milliseconds until the broker has acknowledged the login
   * @param {boolean} [how.wait] false to return at once, and to retry even if the broker is not reachable yet
   * @throws {PresenceError} the broker is unreachable, refuses the connection, or does not acknowledge the login
   */
  async connect({timeout = 10_000, wait = true} = {}) {
    const deadline = steady() + timeout;
    try {
      await this.#reconnector.start(timeout, wait);
      if (wait && !(await within(deadline - steady(), this.#live?.login))) {
        await this.#reconnector.stop(false);
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
   * Without an acknowledgement of the logout, the connection is closed without a DISCONNECT, so that the broker
   * publishes the will.
   *
   * @param {object} [how]
   * @param {number} [how.timeout] milliseconds to wait for the acknowledgement
   * @returns {Promise<boolean>} whether the broker has acknowledged the logout
   */
  async disconnect({timeout = 5_000} = {}) {
    this.monitor.close();
    this.#forgetAnnouncement();
    const live = this.#live;
    let sent = false;
    if (live !== null) {
      const topic = this.#topics.input(this.user, this.clientId, "logout");
      const receipt = live.connection.publish(topic, encodeEnd(live.connectionId), 1);
      this.#live = null;
      this.changed();
      sent = await within(timeout, receipt);
    }
    await this.#reconnector.stop(sent);
    this.endIteration();
    return sent;
  }

  /** Alias of `disconnect`. */
  logout = this.disconnect;

  /** Whether the broker has accepted the connection, and the login is sent. */
  get connected() {
    return this.connectionId !== null;
  }

  /** The id of the present connection, new for each connection; null while not connected. */
  get connectionId() {
    return this.#live?.connection.isUp ? this.#live.connectionId : null;
  }

  /** Whether the bridge is online, according to `bridge/state`. */
  get bridgeConnected() {
    return this.#bridge.online;
  }

  /** The reason for a missing connection; null while connected, or if no connection is wanted. */
  get error() {
    return this.#reconnector.error;
  }

  // Activity and time

  /**
   * Send a sign of life, which counts as activity, also for the idle monitor. With `idleOnBlur` and another page in
   * front, a sign of life does not count as activity.
   *
   * Without a connection no message is sent later: the login of the next connection counts as activity by itself.
   *
   * @returns {boolean} whether the message was sent; false while not connected
   */
  heartbeat() {
    const beat = this.monitor.heartbeatReport();
    return this.#sendActivity(beat?.idle ? true : null, beat?.lastActivity ?? null, 0);
  }

  /** Return the server time; the local time until synced. */
  serverTime() {
    return this.clock.serverTime();
  }

  /** Whether the server time is known. */
  get isSynced() {
    return this.clock.isSynced;
  }

  /** Milliseconds that the server's clock is ahead of the local clock; null while not synced. */
  get offset() {
    return this.clock.offset;
  }

  /** The round trip of the estimate, milliseconds; null while not synced. */
  get roundTrip() {
    return this.clock.roundTrip;
  }

  /** Request the server time again. Resolves to true after the answers, to false without one. */
  resync() {
    return this.clock.resync();
  }

  /**
   * Share the connection with a watcher.
   *
   * @internal
   * @param {import("./reconnector.js").Part} part
   */
  join(part) {
    return this.#reconnector.join(part);
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
    return live !== null && this.#publish("activity", encodeActivity(live.connectionId, idle, lastActivity), qos);
  }

  /**
   * @param {"activity" | "time"} verb
   * @param {string} payload
   * @param {0 | 1} qos
   */
  #publish(verb, payload, qos) {
    const live = this.#live;
    if (!live?.connection.isUp) return false;
    void live.connection.publish(this.#topics.input(this.user, this.clientId, verb), payload, qos);
    return true;
  }

  // Callbacks of the reconnector

  #will() {
    this.#nextId = freshConnectionId();
    return {topic: this.#topics.input(this.user, this.clientId, "will"), payload: encodeEnd(this.#nextId)};
  }

  /** @param {NetworkConnection} connection */
  #up(connection) {
    const began = steady();
    const login = this.#logIn(connection, this.#nextId, began);
    this.#live = {connection, connectionId: this.#nextId, began, login}; // set here, so that no message precedes the login
    this.monitor.resend();
    this.clock.tick();
    this.emit("connect");
  }

  #down() {
    this.#live = null;
    this.#forgetAnnouncement(); // the login of the next connection answers, too
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
   * @param {NetworkConnection} connection
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
        this.clock.receive(payload);
      } else if (topic === this.#topics.bridgeState) {
        if (this.#bridge.receive(payload)) this.clock.askIfUnknown();
        this.#bridgeChanged();
      } else if (topic === this.#topics.bridgeAnnounce && !retained) {
        this.#receiveAnnouncement(decodeAnnouncement(payload));
      }
    } catch (error) {
      if (!(error instanceof PresenceError)) throw error; // an invalid payload has no effect
    }
  }

  /** @param {number} within milliseconds; one login answers several announcements */
  #receiveAnnouncement(within) {
    if (within === 0) return this.#answerAnnouncement();
    const at = steady() + Math.random() * within;
    if (this.#live === null || at >= this.#answerAt) return;
    this.#forgetAnnouncement();
    this.#answerAt = at;
    outsideTimers(() => {
      if (this.#answerAt !== at) return;
      const answer = () => this.#answerAt === at && this.#answerAnnouncement();
      this.#answerTimer = setTimeout(() => outsideTimers(answer), at - steady());
    });
  }

  #forgetAnnouncement() {
    clearTimeout(this.#answerTimer);
    this.#answerAt = Infinity;
  }

  #answerAnnouncement() {
    this.#forgetAnnouncement();
    const live = this.#live;
    if (live === null) return;
    void this.#logIn(live.connection, live.connectionId, live.began);
    this.monitor.resend();
  }

  #bridgeChanged() {
    if (this.#bridge.state === this.#bridgeState) return;
    this.#bridgeState = this.#bridge.state;
    this.emit("bridge");
  }
}
