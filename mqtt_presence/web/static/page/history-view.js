/** The view of the last 24 hours, for operators: a line for each user, a bar for each connection. */

import {ApiError} from "./api.js";
import {showAsOf} from "./as-of.js";
import {byId, h, setText, setVariables} from "./dom.js";
import {Answers} from "./freshness.js";
import {makeLine, makeRow} from "./history-line.js";
import {KeyedList} from "./keyed-list.js";
import {visible} from "./display-names.js";
import {makePainter} from "./repaint.js";
import {bars, hours} from "./timeline.js";
import {hourTime} from "./times.js";

/** @typedef {import("./history-line.js").Line} Line */

/**
 * The period of the timeline, in epoch milliseconds.
 *
 * @typedef {object} Window
 * @property {number} from
 * @property {number} to now
 * @property {number} until the time of the data
 */

const HOUR_MS = 3_600_000;
const STEP = 25;
/** Simultaneous requests for users. */
const AT_ONCE = 2;
/** The position from which there is no room for a text to the right. */
const LAST_MARK = 0.9;
const ASK_EVERY_MS = 30_000;
const TYPED_MS = 300;
/** The HTTP status for an unknown user. */
const NOT_FOUND = 404;

export class HistoryView {
  /** @type {Line[]} */
  #lines = [];
  #isMore = false;
  #isAsked = false;
  #limit = STEP;
  #isOpen = false;
  #span;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #typed;
  /** The user whose details are shown, empty for none. */
  #user = "";
  #askedAt = -Infinity;
  #isAsking = false;
  #answers;
  /** The time of the data as shown. @type {Date | null} */
  #shownAsOf = null;
  /** The number of rounds of requests; answers to earlier rounds are ignored. */
  #round = 0;
  #view = byId("history", HTMLElement);
  #asOfText = byId("history-as-of", HTMLElement);
  #search = byId("history-search", HTMLInputElement);
  #error = byId("history-error", HTMLElement);
  #empty = byId("history-empty", HTMLElement);
  #more = byId("history-more", HTMLButtonElement);
  #hours = byId("hours", HTMLElement);
  #detail = byId("line-detail", HTMLElement);
  #title = byId("history-title", HTMLElement);
  #everyone = byId("everyone", HTMLElement);
  #rows = byId("line-rows", HTMLElement);
  #cut = byId("line-cut", HTMLElement);
  #list;
  #paint;

  /** @returns {Window} */
  #window = () => {
    const to = this.client.serverTime().getTime();
    return {from: to - this.#span, to, until: this.#answers.asOf?.getTime() ?? to};
  };

  /**
   * @param {import("./api.js").Api} api
   * @param {import("../presence/presence-client.js").PresenceClient} client
   * @param {import("./freshness.js").Live} live the age of the statuses
   * @param {number} hours the length of the timeline
   * @param {AbortSignal} signal ends the view
   */
  constructor(api, client, live, hours, signal) {
    this.api = api;
    this.client = client;
    this.#answers = new Answers(live);
    this.#span = hours * HOUR_MS;
    this.signal = signal;
    this.#paint = makePainter(() => this.#show());
    const lines = byId("lines", HTMLElement);
    lines.replaceChildren();
    this.#list = new KeyedList(lines, (/** @type {Line} */ {user}) => user, ({user}) => makeLine(user, this.#window));
    this.#search.value = "";
    this.#search.addEventListener("input", () => this.#searchSoon(), {signal});
    this.#more.addEventListener("click", () => this.#showMore(), {signal});
    signal.addEventListener("abort", () => this.close());
  }

  /** @param {string} user */
  open(user) {
    this.#isOpen = true;
    this.#user = user;
    this.#everyone.hidden = user === "";
    byId("history-search-field", HTMLElement).hidden = user !== "";
    const hours = `last ${this.#span / HOUR_MS} hours`;
    setText(this.#title, user === "" ? `The ${hours}` : `${visible(user)}, the ${hours}`);
    this.#paint();
    void this.#load();
  }

  close() {
    this.#isOpen = false;
    this.#isAsking = false;
    this.#round += 1;
  }

  tick() {
    const wait = this.#askedAt + this.#answers.pause(ASK_EVERY_MS) - performance.now();
    if (wait <= 0 && !this.#isAsking) void this.#load();
    if (this.#answers.asOf !== this.#shownAsOf) this.#paint();
  }

  #searchSoon() {
    clearTimeout(this.#typed);
    this.#typed = setTimeout(() => {
      this.#limit = STEP;
      void this.#load();
    }, TYPED_MS);
  }

  #showMore() {
    this.#limit += STEP;
    void this.#load();
  }

  async #load() {
    if (!this.#isOpen || document.visibilityState === "hidden") return;
    const round = ++this.#round;
    const isOld = () => round !== this.#round;
    this.#askedAt = performance.now();
    this.#isAsking = true;
    const question = this.#answers.ask(this.client.serverTime());
    try {
      const users = await this.#loadUsers();
      if (isOld()) return;
      const known = new Map(this.#lines.map((line) => [line.user, line]));
      this.#lines = users.map((user) => known.get(user) ?? {user, records: null, isCut: false});
      this.#isAsked = true;
      this.#answers.partlyAnswered(question);
      this.#paint();
      const missing = await this.#loadLines(question.now, isOld);
      if (isOld()) return;
      this.#answers.answered(question);
      setText(this.#error, this.#user === "" ? "" : missing);
    } catch (error) {
      if (isOld()) return;
      this.#answers.failed();
      setText(this.#error, error instanceof Error ? error.message : String(error));
    }
    this.#isAsking = false;
    this.#paint();
  }

  /**
   * Load the connections of all shown users.
   *
   * @param {Date} to
   * @param {() => boolean} isOld returns whether a later round has begun
   * @returns {Promise<string>} the server's message about an unknown user, who was forgotten meanwhile
   */
  async #loadLines(to, isOld) {
    const from = new Date(to.getTime() - this.#span);
    const waiting = [...this.#lines];
    let missing = "";
    const work = async () => {
      for (let line = waiting.shift(); line !== undefined && !isOld(); line = waiting.shift()) {
        try {
          const {items, next} = await this.api.history({user: line.user, from, to});
          Object.assign(line, {records: items, isCut: next !== null});
        } catch (error) {
          if (!(error instanceof ApiError) || error.status !== NOT_FOUND) throw error;
          Object.assign(line, {records: [], isCut: false});
          missing = error.message;
        }
        if (!isOld()) this.#paint();
      }
    };
    try {
      await Promise.all(Array.from({length: AT_ONCE}, work));
    } finally {
      waiting.length = 0; // after a failure, the other requests are not needed
    }
    return missing;
  }

  /** Load the user in the address, or all users up to the limit. */
  async #loadUsers() {
    this.#isMore = false;
    if (this.#user !== "") return [this.#user];
    const search = this.#search.value.trim();
    /** @type {string[]} */
    const users = [];
    /** @type {string | null} */
    let after = null;
    do {
      /** @type {import("./api.js").Page<string>} */
      const page = await this.api.users({search, after, limit: STEP});
      users.push(...page.items);
      after = page.next;
    } while (after !== null && users.length < this.#limit);
    this.#isMore = after !== null;
    return users;
  }

  #show() {
    if (this.signal.aborted) return;
    this.#shownAsOf = this.#answers.asOf;
    showAsOf(this.#view, this.#asOfText, this.#shownAsOf);
    const lines = this.#user === "" ? this.#lines : this.#lines.filter(({user}) => user === this.#user);
    this.#showHours();
    this.#list.show(lines);
    setText(this.#empty, this.#search.value.trim() === "" ? "No users yet." : "No user matches.");
    this.#empty.hidden = lines.length > 0 || !this.#isAsked;
    this.#more.hidden = this.#user !== "" || !this.#isMore;
    setText(this.#more, "Show more");
    this.#showDetail();
  }

  #showHours() {
    const {from, to} = this.#window();
    const marks = hours(from, to, 3, -new Date(to).getTimezoneOffset() * 60_000);
    this.#hours.replaceChildren(
      ...marks.map(({at, left}) => {
        const mark = h("span", {"data-last": left > LAST_MARK}, hourTime(new Date(at)));
        setVariables(mark, {"--left": left});
        return mark;
      }),
    );
  }

  #showDetail() {
    const line = this.#lines.find(({user}) => user === this.#user);
    this.#detail.hidden = this.#user === "" || !line?.records;
    if (!line?.records) return;
    const {from, to, until} = this.#window();
    const placed = bars(line.records, from, to, until).reverse();
    this.#rows.replaceChildren(...placed.map((bar) => makeRow(bar, new Date(to), new Date(until))));
    this.#cut.hidden = !line.isCut;
  }
}
