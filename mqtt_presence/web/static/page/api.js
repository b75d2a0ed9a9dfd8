/** Access to the JSON API: resources for operators, and the configuration for everybody. */

import {explained, figuresOf, record} from "./answers.js";

/** @typedef {import("./answers.js").ConnectionRecord} ConnectionRecord */
/** @typedef {import("./answers.js").Explanation} Explanation */
/** @typedef {import("./answers.js").Figures} Figures */

/**
 * The settings that the page needs before a login.
 *
 * @typedef {object} Config
 * @property {string} mqttUrl relative to the page, or `ws[s]://…`
 * @property {boolean | null} open whether the broker asks for no password; null if unknown
 * @property {string} prefix
 * @property {boolean} operator whether the requester may see connections and history
 * @property {string[]} operatorBy the credentials of operators: `token`, `password`
 * @property {string} version
 * @property {boolean} mqttJs whether MQTT.js is installed
 * @property {number | null} mqttPort the broker's TCP port, if the page's server has the broker
 */

/**
 * @template Item
 * @typedef {{items: Item[], next: string | null}} Page
 */

export class ApiError extends Error {
  /**
   * @param {number} status of HTTP; 0 without an answer
   * @param {string} message
   * @param {ErrorOptions} [options]
   */
  constructor(status, message, options) {
    super(message, options);
    this.name = "ApiError";
    this.status = status;
  }
}

const LIMIT = "200";
const MOST_OF_A_USER = 1_000;
const MOST_IN_A_PAGE = "500";
const MOST_PAGES_OF_CSV = 100;
/** The server is busy: it verifies few passwords at the same time. */
const BUSY = 503;
const TRIES = 4;
const TRY_AGAIN_MS = 1_000;
const SECOND_MS = 1_000;
/** A database query takes up to five seconds at the server, and others may come first. */
const TIMEOUT_MS = 15_000;
/** The requester is not an operator, or not an operator any longer. */
const REFUSALS = new Set([401, 403]);

/** The API. Dispatches `refused` when the server refuses an answer that is for operators. */
export class Api extends EventTarget {
  /** @type {Record<string, string>} */
  #headers = {};
  /** Milliseconds that the server's clock is ahead, by the last answer; as exact as a header, to a second. */
  offset = 0;

  /**
   * Send requests with a user's password, which is kept in memory only.
   *
   * @param {string} user
   * @param {string} password
   */
  useLogin(user, password) {
    this.#headers = {Authorization: `Basic ${base64(`${user}:${password}`)}`};
  }

  /**
   * Send requests with the operators' token.
   *
   * @param {string} token
   */
  useToken(token) {
    this.#headers = {Authorization: `Bearer ${token}`};
  }

  /** @returns {Promise<Config>} */
  async config() {
    const fields = await this.#get("config", {});
    return {
      mqttUrl: String(fields.mqttUrl),
      open: typeof fields.open === "boolean" ? fields.open : null,
      prefix: fields.prefix ?? "",
      operator: fields.operator === true,
      operatorBy: fields.operatorBy ?? [],
      version: fields.version ?? "",
      mqttJs: fields.mqttJs === true,
      mqttPort: fields.mqttPort ?? null,
    };
  }

  /**
   * Return connections of all users: open ones sorted by user, or ended ones with the newest end first.
   *
   * @param {{open: boolean, after: string | null}} how
   * @returns {Promise<Page<ConnectionRecord>>}
   */
  async connections({open, after}) {
    const fields = await this.#get("connections", {open: String(open), after, limit: LIMIT});
    return {items: fields.connections.map(record), next: fields.next};
  }

  /**
   * Return users, sorted by name.
   *
   * @param {{search: string, after: string | null, limit: number}} how
   * @returns {Promise<Page<string>>}
   */
  async users({search, after, limit}) {
    const fields = await this.#get("users", {q: search || null, after, limit: String(limit)});
    return {items: fields.users.map((/** @type {{userId: string}} */ user) => user.userId), next: fields.next};
  }

  /**
   * Return the connections of a user in a period, the newest first, a thousand at most.
   *
   * @param {{user: string, from: Date, to: Date}} what
   * @returns {Promise<Page<ConnectionRecord>>}
   */
  async history({user, from, to}) {
    /** @type {ConnectionRecord[]} */
    const items = [];
    /** @type {string | null} */
    let before = null;
    do {
      // Not below users/: a path cannot contain the user `..`.
      const query = {user, from: from.toISOString(), to: to.toISOString(), before, limit: LIMIT};
      const fields = await this.#get("connections", query);
      items.push(...fields.connections.map(record));
      before = fields.next;
    } while (before !== null && items.length < MOST_OF_A_USER);
    return {items, next: before};
  }

  /**
   * Return the records that make a user's state, with the rules behind them.
   *
   * @param {string} user
   * @returns {Promise<Explanation>}
   */
  async why(user) {
    const fields = await this.#get(`users/${encodeURIComponent(user)}/why`, {});
    return {records: fields.records.map(explained)};
  }

  /**
   * Return the figures of a period, of all users.
   *
   * @param {{from: number, to: number}} period epoch milliseconds
   * @returns {Promise<Figures>}
   */
  async figures({from, to}) {
    const query = {from: new Date(from).toISOString(), to: new Date(to).toISOString()};
    return figuresOf(await this.#get("figures", query));
  }

  /**
   * Return all connections of a period as CSV, of a user or of all.
   *
   * @param {{user: string, from: Date, to: Date}} what
   */
  async csv({user, from, to}) {
    const period = {from: from.toISOString(), to: to.toISOString(), limit: MOST_IN_A_PAGE};
    const lists = user === "" ? [{...period, open: "false"}, {to: period.to, limit: MOST_IN_A_PAGE, open: "true"}] : [{...period, user}];
    const parts = [];
    for (const query of lists) {
      /** @type {Record<string, string | null> | null} */
      let next = query;
      while (next !== null) {
        if (parts.length === MOST_PAGES_OF_CSV) throw new ApiError(0, "There are more than 50,000 connections: choose a shorter period.");
        const answer = await this.#answer("connections.csv", next);
        const text = await answer.text();
        parts.push(parts.length === 0 ? text : text.replace(/^[^\n]*\n/, "")); // the names of the columns, once
        next = followingOf(answer);
      }
    }
    return new Blob(parts, {type: "text/csv;charset=utf-8"});
  }

  /**
   * Delete a user's records and status.
   *
   * @param {string} user
   */
  async forget(user) {
    await this.#answer("forgotten", {}, {user});
  }

  /**
   * @param {string} path
   * @param {Record<string, string | null>} query
   * @returns {Promise<any>}
   */
  async #get(path, query) {
    return (await this.#answer(path, query)).json();
  }

  /**
   * @param {string} path
   * @param {Record<string, string | null>} query
   * @param {object} [body] of a request that changes something
   */
  async #answer(path, query, body) {
    const url = new URL(`api/v1/${path}`, document.baseURI);
    for (const [name, value] of Object.entries(query)) if (value !== null) url.searchParams.set(name, value);
    for (let tried = 1; ; tried += 1) {
      const answer = await this.#fetch(url, body);
      if (answer.ok) return answer;
      if (REFUSALS.has(answer.status)) this.dispatchEvent(new Event("refused"));
      if (answer.status !== BUSY || tried === TRIES) throw new ApiError(answer.status, await refusalReason(answer));
      await new Promise((resolve) => setTimeout(resolve, TRY_AGAIN_MS * tried));
    }
  }

  /** @param {Response} answer */
  #compareClocks(answer) {
    const ahead = Date.parse(answer.headers.get("date") ?? "") - Date.now();
    if (Math.abs(ahead) > 2 * SECOND_MS) this.offset = ahead;
    else if (!Number.isNaN(ahead)) this.offset = 0;
  }

  /**
   * @param {URL} url
   * @param {object} [body]
   */
  async #fetch(url, body) {
    try {
      // Without the browser's own credentials, which it would request in a dialog.
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const headers = body === undefined ? this.#headers : {...this.#headers, "Content-Type": "application/json"};
      const how = body === undefined ? {} : {method: "POST", body: JSON.stringify(body)};
      const answer = await fetch(url, {...how, headers, credentials: "omit", cache: "no-store", signal});
      this.#compareClocks(answer);
      return answer;
    } catch (error) {
      throw new ApiError(0, "The server does not answer.", {cause: error});
    }
  }
}

/**
 * Return the query of the next page of a list, null after the last one.
 *
 * @param {Response} answer
 */
function followingOf(answer) {
  const found = /<([^>]*)>; *rel="?next/.exec(answer.headers.get("link") ?? "");
  return found === null ? null : Object.fromEntries(new URL(found[1] ?? "", answer.url).searchParams);
}

/** @param {Response} answer */
async function refusalReason(answer) {
  const fields = await answer.json().catch(() => ({}));
  const why = typeof fields?.detail === "string" ? fields.detail : `${answer.status} ${answer.statusText}`;
  return `The server refused this: ${why}.`;
}

/** @param {string} text */
const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
