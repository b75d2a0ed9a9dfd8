/** A session: a user who signed in, present or only looking, until the page is left. */

import {PresenceClient, StatusWatcher} from "../presence.js";
import {Api} from "./api.js";
import {Arrivals} from "./arrivals.js";
import {Live} from "./freshness.js";
import {describe} from "./texts.js";
import {visible} from "./display-names.js";

/** @typedef {import("./api.js").Config} Config */
/** @typedef {{user: string, password: string | null, looks: boolean}} SignIn */

const RETRY_MS = 3_000;

export class Session {
  api = new Api();
  /** The freshness of the statuses. */
  live = new Live();
  /** The data of the views by name. @type {Map<string, unknown>} */
  loaders = new Map();
  /** Whether the server lets this visitor see connections and history; null until it has answered. @type {boolean | null} */
  operator = null;
  /** @type {string[]} */
  operatorBy = [];
  /** The state of the connection, as a word and a sentence. */
  situation = describe({connected: false, error: null, bridge: "unknown", stale: true, unknownFor: 0});
  /** The text for screen readers. */
  announcement = "";
  #arrivals = new Arrivals(performance.now());
  #unknownSince = performance.now();
  #ended = new AbortController();
  #isSettling = false;

  /**
   * @param {Config} config
   * @param {SignIn} signIn
   * @param {() => void} changed called after each change
   * @param {() => void} statusChanged called after a change of a user's status
   */
  constructor(config, {user, password, looks}, changed, statusChanged) {
    this.user = looks ? "" : user;
    this.changed = changed;
    const {prefix} = config;
    /** The client that makes the user present; null for who only looks. */
    this.client = looks ? null : new PresenceClient(config.mqttUrl, {user, password, prefix});
    this.watcher = this.client === null ? watcherOf(config, user, password) : new StatusWatcher(this.client);
    // A server that accepts no passwords gets none, since others may read it in the network.
    if (password !== null && config.operatorBy.includes("password")) this.api.useLogin(user, password);
    this.watcher.addEventListener("status", (event) => {
      const {detail} = /** @type {CustomEvent<import("../presence/status-table.js").Change>} */ (event);
      if (detail.userId !== this.user) this.#arrivals.add(detail, performance.now());
      statusChanged();
    });
    this.watcher.subscribe(() => this.look());
    this.client?.subscribe(changed);
    this.api.addEventListener("refused", () => void this.settle());
  }

  /**
   * Connect.
   *
   * @throws {import("../presence.js").PresenceError} the broker cannot be reached, or refuses the user
   */
  async begin() {
    if (this.client === null) await this.watcher.connect();
    else await this.client.connect();
    this.client?.monitor.start({threshold: 60_000, interval: 1_000, idleOnBlur: false});
    this.look();
    void this.settle();
  }

  async end() {
    this.#ended.abort();
    if (this.client === null) await this.watcher.close();
    else await this.client.disconnect();
  }

  /** The server's time. */
  now() {
    return this.client?.serverTime() ?? new Date(Date.now() + this.api.offset);
  }

  /** Update the state of the connection; also called every second. */
  look() {
    if (this.#ended.signal.aborted) return;
    const {connected, bridge, stale, error} = this.watcher.getSnapshot();
    const now = performance.now();
    if (bridge !== "unknown" || !connected) this.#unknownSince = now;
    const unknownFor = now - this.#unknownSince;
    this.situation = describe({connected, bridge, stale, error: error ?? this.client?.error ?? null, unknownFor});
    this.live.update(stale, this.situation.level === "bad", this.now());
    if (stale) this.#arrivals.restart(now);
    this.announcement = this.#arrivals.nextText(now) || this.announcement;
    this.changed();
  }

  /** Ask the server for the visitor's rights until it answers. Meanwhile the users are shown, which come over MQTT. */
  async settle() {
    if (this.#isSettling) return;
    this.#isSettling = true;
    while (!this.#ended.signal.aborted) {
      try {
        await this.askRights();
        break;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
    this.#isSettling = false;
  }

  /**
   * Ask the server once.
   *
   * @returns {Promise<boolean>} whether the visitor is an operator
   */
  async askRights() {
    const {operator, operatorBy} = await this.api.config();
    this.operator = operator;
    this.operatorBy = operatorBy;
    this.changed();
    return operator;
  }
}

/**
 * @param {Config} config
 * @param {string} user empty where the broker asks for none
 * @param {string | null} password
 */
function watcherOf({mqttUrl, prefix}, user, password) {
  const clientId = `look${Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  return new StatusWatcher(mqttUrl, {user: user || clientId, password, prefix, clientId});
}

/**
 * Return the title for the browser's tab, with the number of users online.
 *
 * @param {Session | null} session
 * @param {import("./route.js").Route} route
 */
export function titleOf(session, {view, user}) {
  const name = view === "person" ? `${visible(user)} – Presence` : "Presence";
  if (session === null) return "Presence";
  const {users, stale} = session.watcher.getSnapshot();
  return stale ? name : `${users.filter(({online}) => online).length.toLocaleString()} here – ${name}`;
}
