/** The view of the last 24 hours, for operators: a line for each user, a bar for each connection. */

import {byId, h, setText, setVariables} from "./dom.js";
import {makeLine, makeRow} from "./history-line.js";
import {KeyedList} from "./keyed-list.js";
import {visible} from "./names.js";
import {makePainter} from "./painter.js";
import {bars, hours} from "./timeline.js";
import {hourTime} from "./times.js";

/** @typedef {import("./history-line.js").Line} Line */

const HOUR_MS = 3_600_000;
const STEP = 25;
/** How many users are asked for at the same time. */
const AT_ONCE = 2;
/** There is no room for a text so far to the right. */
const LAST_MARK = 0.9;
const ASK_EVERY_MS = 30_000;
const TYPED_MS = 300;

export class History {
  /** @type {Line[]} */
  #lines = [];
  #isMore = false;
  #isAsked = false;
  #limit = STEP;
  #isOpen = false;
  #span;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #typed;
  /** The one user to show in detail; empty: none. */
  #user = "";
  #askedAt = -Infinity;
  /** Counts the rounds of asking: what an older one still brings is dropped. */
  #round = 0;
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

  /** From when until when the timeline goes, epoch milliseconds. */
  #window = () => {
    const to = this.client.serverTime().getTime();
    return {from: to - this.#span, to};
  };

  /**
   * @param {import("./api.js").Api} api
   * @param {import("../presence/presence-client.js").PresenceClient} client
   * @param {number} hours how far back it goes
   * @param {AbortSignal} signal ends it
   */
  constructor(api, client, hours, signal) {
    this.api = api;
    this.client = client;
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
    void this.#ask();
  }

  close() {
    this.#isOpen = false;
    this.#round += 1;
  }

  tick() {
    if (performance.now() - this.#askedAt >= ASK_EVERY_MS) void this.#ask();
  }

  #searchSoon() {
    clearTimeout(this.#typed);
    this.#typed = setTimeout(() => {
      this.#limit = STEP;
      void this.#ask();
    }, TYPED_MS);
  }

  #showMore() {
    this.#limit += STEP;
    void this.#ask();
  }

  async #ask() {
    if (!this.#isOpen || document.visibilityState === "hidden") return;
    const round = ++this.#round;
    const isOld = () => round !== this.#round;
    this.#askedAt = performance.now();
    try {
      const users = await this.#askUsers();
      if (isOld()) return;
      const known = new Map(this.#lines.map((line) => [line.user, line]));
      this.#lines = users.map((user) => known.get(user) ?? {user, records: null, isCut: false});
      this.#isAsked = true;
      this.#paint();
      const to = this.client.serverTime();
      const from = new Date(to.getTime() - this.#span);
      const waiting = [...this.#lines];
      const work = async () => {
        for (let line = waiting.shift(); line !== undefined && !isOld(); line = waiting.shift()) {
          const {items, next} = await this.api.history({user: line.user, from, to});
          Object.assign(line, {records: items, isCut: next !== null});
          if (!isOld()) this.#paint();
        }
      };
      await Promise.all(Array.from({length: AT_ONCE}, work));
      if (!isOld()) setText(this.#error, "");
    } catch (error) {
      if (!isOld()) setText(this.#error, error instanceof Error ? error.message : String(error));
    }
  }

  /** The one that the address names, or all, as far as they are shown. */
  async #askUsers() {
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
    const lines = this.#user === "" ? this.#lines : this.#lines.filter(({user}) => user === this.#user);
    this.#showHours();
    this.#list.show(lines);
    setText(this.#empty, this.#search.value.trim() === "" ? "Nobody has been here yet." : "Nobody is called so.");
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
    const {from, to} = this.#window();
    const placed = bars(line.records, from, to).reverse();
    this.#rows.replaceChildren(...placed.map((bar) => makeRow(bar, new Date(to))));
    this.#cut.hidden = !line.isCut;
  }
}
