/** The view of all connections, for operators: the open ones, and the ended ones on request. */

import {showAsOf} from "./as-of.js";
import {byId, h, setAttribute, setText} from "./dom.js";
import {Answers} from "./freshness.js";
import {KeyedList} from "./keyed-list.js";
import {agent, visible} from "./display-names.js";
import {linkToHistory, someone} from "./user-display.js";
import {makePainter} from "./repaint.js";
import {endOf, stateOf} from "./timeline.js";
import {ago, exactly, moment} from "./times.js";

/** @typedef {import("./api.js").ConnectionRecord} ConnectionRecord */

const STEP = 100;
/** Milliseconds from a change of a status to the next request, which serves many changes. */
const SOON_MS = 700;
const ASK_AT_LEAST_EVERY_MS = 15_000;
const ASK_AT_MOST_EVERY_MS = 2_000;
const IDLE_WORDS = new Map([[true, "yes"], [false, "no"]]);

export class ConnectionsView {
  /** @type {ConnectionRecord[]} */
  #records = [];
  #isMore = false;
  #isAsked = false;
  /** The number of connections to show, and the minimum to load. */
  #limit = STEP;
  #minimum = STEP;
  #isOpen = false;
  #asking = false;
  /** Whether to request again, because the filter has changed meanwhile. */
  #again = false;
  #askedAt = -Infinity;
  #answers;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #soon;
  #view = byId("connections", HTMLElement);
  #asOfText = byId("connections-as-of", HTMLElement);
  #search = byId("connections-search", HTMLInputElement);
  #ended = byId("ended", HTMLInputElement);
  #error = byId("connections-error", HTMLElement);
  #empty = byId("connections-empty", HTMLElement);
  #more = byId("connections-more", HTMLButtonElement);
  #rows;
  #paint;

  /**
   * @param {import("./api.js").Api} api
   * @param {import("../presence/status-watcher.js").StatusWatcher} watcher reports changes
   * @param {import("../presence/presence-client.js").PresenceClient} client
   * @param {import("./freshness.js").Live} live the age of the statuses
   * @param {AbortSignal} signal ends the view
   */
  constructor(api, watcher, client, live, signal) {
    this.api = api;
    this.client = client;
    this.#answers = new Answers(live);
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
    watcher.addEventListener("status", () => this.#reloadSoon(), {signal});
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
    if (performance.now() - this.#askedAt >= this.#answers.pause(ASK_AT_LEAST_EVERY_MS)) void this.#load();
    this.#paint();
  }

  #begin() {
    this.#limit = this.#minimum = STEP;
    this.#reload();
  }

  /** Request again after a change of the filter; a pending answer is out of date. */
  #reload() {
    this.#again = this.#asking;
    void this.#load();
  }

  #reloadSoon() {
    if (!this.#isOpen || this.#soon !== undefined) return;
    const wait = Math.max(SOON_MS, this.#askedAt + ASK_AT_MOST_EVERY_MS - performance.now());
    this.#soon = setTimeout(() => {
      this.#soon = undefined;
      void this.#load();
    }, wait);
  }

  #showMore() {
    const isRest = this.#matching().length > this.#limit;
    this.#minimum = (isRest ? this.#minimum : this.#records.length) + STEP;
    this.#limit += STEP;
    this.#reload();
    this.#paint();
  }

  async #load() {
    if (this.#asking || !this.#isOpen || document.visibilityState === "hidden") return;
    this.#asking = true;
    this.#again = false;
    this.#askedAt = performance.now();
    const question = this.#answers.ask(this.client.serverTime());
    try {
      const [records, isMore] = await this.#loadPages(this.#ended.checked);
      this.#records = records;
      this.#isMore = isMore;
      this.#isAsked = true;
      this.#answers.answered(question);
      setText(this.#error, "");
    } catch (error) {
      this.#answers.failed();
      setText(this.#error, error instanceof Error ? error.message : String(error));
    } finally {
      this.#asking = false;
    }
    if (this.signal.aborted) return;
    if (this.#again) void this.#load();
    this.#paint();
  }

  /**
   * Load the open connections, then the ended ones.
   *
   * @param {boolean} ended
   * @returns {Promise<[ConnectionRecord[], boolean]>} the connections, and whether there are more
   */
  async #loadPages(ended) {
    /** @type {ConnectionRecord[]} */
    const records = [];
    for (const open of ended ? [true, false] : [true]) {
      /** @type {string | null} */
      let after = null;
      do {
        if (records.length >= this.#minimum) return [records, true];
        /** @type {import("./api.js").Page<ConnectionRecord>} */
        const page = await this.api.connections({open, after});
        records.push(...page.items);
        after = page.next;
      } while (after !== null);
    }
    return [records, false];
  }

  /** Return the loaded connections that match the search, shown or not. */
  #matching() {
    const search = this.#search.value.trim().toLowerCase();
    return this.#records.filter((record) => textOf(record).includes(search));
  }

  #show() {
    if (this.signal.aborted) return;
    showAsOf(this.#view, this.#asOfText, this.#answers.asOf);
    const found = this.#matching();
    const isRest = found.length > this.#limit;
    this.#rows.show(found.slice(0, this.#limit));
    setText(this.#empty, this.#emptyText());
    this.#empty.hidden = found.length > 0 || !this.#isAsked;
    this.#more.hidden = !isRest && !this.#isMore;
    setText(this.#more, isRest || this.#search.value.trim() === "" ? "Show more" : "Search further");
  }

  #emptyText() {
    const loaded = this.#records.length;
    if (loaded === 0) return "There are no connections.";
    if (this.#isMore) return `No match among the first ${loaded.toLocaleString()}.`;
    return "No connection matches.";
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
