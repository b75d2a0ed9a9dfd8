/** The view of all connections, for operators: the open ones, and those that have ended if asked for. */

import {byId, h, setAttribute, setText} from "./dom.js";
import {KeyedList} from "./keyed-list.js";
import {agent, visible} from "./names.js";
import {linkToHistory, someone} from "./person.js";
import {makePainter} from "./painter.js";
import {endOf, stateOf} from "./timeline.js";
import {ago, exactly, moment} from "./times.js";

/** @typedef {import("./api.js").ConnectionRecord} ConnectionRecord */

const STEP = 100;
/** Somebody's status has changed: ask again, but not for each of many. */
const SOON_MS = 700;
const ASK_AT_LEAST_EVERY_MS = 15_000;
const ASK_AT_MOST_EVERY_MS = 2_000;
const IDLE_WORDS = new Map([[true, "yes"], [false, "no"]]);

export class Connections {
  /** @type {ConnectionRecord[]} */
  #records = [];
  #isMore = false;
  #limit = STEP;
  #isOpen = false;
  #asking = false;
  #askedAt = -Infinity;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #soon;
  #search = byId("connections-search", HTMLInputElement);
  #ended = byId("ended", HTMLInputElement);
  #error = byId("connections-error", HTMLElement);
  #empty = byId("connections-empty", HTMLElement);
  #more = byId("connections-more", HTMLButtonElement);
  #rows;
  #paint;

  /**
   * @param {import("./api.js").Api} api
   * @param {import("../presence/status-watcher.js").StatusWatcher} watcher says when something has changed
   * @param {import("../presence/presence-client.js").PresenceClient} client
   * @param {AbortSignal} signal ends it
   */
  constructor(api, watcher, client, signal) {
    this.api = api;
    this.client = client;
    this.signal = signal;
    this.#paint = makePainter(() => this.#show());
    const rows = byId("connections-rows", HTMLElement);
    rows.replaceChildren();
    this.#rows = new KeyedList(rows, keyOf, (/** @type {ConnectionRecord} */ record) => this.#makeRow(record));
    this.#search.value = "";
    this.#search.addEventListener("input", () => {
      this.#limit = STEP;
      this.#paint();
    }, {signal});
    this.#ended.addEventListener("change", () => this.#begin(), {signal});
    this.#more.addEventListener("click", () => this.#showMore(), {signal});
    watcher.addEventListener("status", () => this.#askSoon(), {signal});
    signal.addEventListener("abort", () => this.close());
  }

  open() {
    this.#isOpen = true;
    this.#begin();
  }

  close() {
    this.#isOpen = false;
    clearTimeout(this.#soon);
    this.#soon = undefined;
  }

  tick() {
    if (performance.now() - this.#askedAt >= ASK_AT_LEAST_EVERY_MS) void this.#ask();
    this.#paint();
  }

  #begin() {
    this.#limit = STEP;
    void this.#ask();
  }

  #askSoon() {
    if (!this.#isOpen || this.#soon !== undefined) return;
    const wait = Math.max(SOON_MS, this.#askedAt + ASK_AT_MOST_EVERY_MS - performance.now());
    this.#soon = setTimeout(() => {
      this.#soon = undefined;
      void this.#ask();
    }, wait);
  }

  #showMore() {
    this.#limit += STEP;
    void this.#ask();
    this.#paint();
  }

  async #ask() {
    if (this.#asking || !this.#isOpen || document.visibilityState === "hidden") return;
    this.#asking = true;
    this.#askedAt = performance.now();
    const ended = this.#ended.checked;
    try {
      const [records, isMore] = await this.#askPages(ended);
      this.#records = records;
      this.#isMore = isMore;
      setText(this.#error, "");
    } catch (error) {
      setText(this.#error, error instanceof Error ? error.message : String(error));
    } finally {
      this.#asking = false;
    }
    if (this.signal.aborted) return;
    if (ended !== this.#ended.checked) void this.#ask(); // changed meanwhile
    this.#paint();
  }

  /**
   * The open ones, then those that have ended.
   *
   * @param {boolean} ended
   * @returns {Promise<[ConnectionRecord[], boolean]>} and whether there are more
   */
  async #askPages(ended) {
    /** @type {ConnectionRecord[]} */
    const records = [];
    for (const open of ended ? [true, false] : [true]) {
      /** @type {string | null} */
      let after = null;
      do {
        if (records.length >= this.#limit) return [records, true];
        /** @type {import("./api.js").Page<ConnectionRecord>} */
        const page = await this.api.connections({open, after});
        records.push(...page.items);
        after = page.next;
      } while (after !== null);
    }
    return [records, false];
  }

  #show() {
    if (this.signal.aborted) return;
    const search = this.#search.value.trim().toLowerCase();
    const found = this.#records.filter((record) => textOf(record).includes(search));
    const shown = found.slice(0, this.#limit);
    this.#rows.show(shown);
    setText(this.#empty, this.#records.length === 0 ? "There are no connections." : "No connection is called so.");
    this.#empty.hidden = found.length > 0;
    const left = found.length - shown.length;
    this.#more.hidden = left === 0 && !this.#isMore;
    setText(this.#more, "Show more");
  }

  /** @param {ConnectionRecord} first */
  #makeRow({userId, clientId, connectionId, ipAddr, userAgent}) {
    const idle = h("span");
    const [activity, since, end] = [h("span"), h("span"), h("small", {class: "end"})];
    const element = h(
      "tr",
      {role: "row"},
      h("th", {role: "rowheader", scope: "row"}, someone(userId, linkToHistory(userId))),
      h(
        "td",
        {role: "cell", "data-label": "Connection", class: "code", title: `client ${visible(clientId)}, connection ${visible(connectionId)}`},
        h("bdi", {}, visible(clientId)),
        h("small", {}, visible(connectionId)),
      ),
      h("td", {role: "cell", "data-label": "Idle"}, idle),
      h("td", {role: "cell", "data-label": "Last activity", class: "nowrap"}, activity),
      h("td", {role: "cell", "data-label": "IP", class: "code nowrap"}, visible(ipAddr ?? "–")),
      h("td", {role: "cell", "data-label": "User agent", title: userAgent && visible(userAgent)}, h("bdi", {}, agent(userAgent ?? "–"))),
      h("td", {role: "cell", "data-label": "Since", class: "nowrap"}, since, end),
    );
    return {
      element,
      /** @param {ConnectionRecord} record */
      update: (record) => {
        const now = this.client.serverTime();
        const state = stateOf(record);
        setAttribute(element, "data-state", state === "online" || state === "idle" ? state : "offline");
        setText(idle, (record.idle !== null && IDLE_WORDS.get(record.idle)) || "–");
        setAttribute(idle, "class", state === "idle" || state === "online" ? `state-${state}` : "none");
        const last = record.lastActivity === null ? null : new Date(record.lastActivity);
        setText(activity, last === null ? "–" : ago(now.getTime() - last.getTime()));
        setAttribute(activity, "title", last && exactly(last));
        setText(since, record.loginTime === null ? "?" : moment(new Date(record.loginTime), now));
        setText(end, record.logoutTime === null ? "" : `${moment(new Date(record.logoutTime), now)} ${endOf(record)}`);
      },
    };
  }
}

/** @param {ConnectionRecord} record */
const keyOf = ({userId, clientId, connectionId}) => `${userId}/${clientId}/${connectionId}`;

/** @param {ConnectionRecord} record */
const textOf = ({userId, clientId, connectionId, ipAddr, userAgent}) =>
  `${userId}\n${clientId}\n${connectionId}\n${ipAddr ?? ""}\n${userAgent ?? ""}`.toLowerCase();
