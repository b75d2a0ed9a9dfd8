/** The view of the last 24 hours, for operators: a line for each user, a bar for each connection. */

import {byId, h, setAttribute, setText, setVariables} from "./dom.js";
import {KeyedList} from "./keyed-list.js";
import {avatar, name} from "./person.js";
import {visible} from "./names.js";
import {bars, hours} from "./timeline.js";
import {duration, hourTime, moment} from "./times.js";

/** @typedef {import("./api.js").ConnectionRecord} ConnectionRecord */
/** @typedef {import("./timeline.js").Bar} Bar */

const HOUR_MS = 3_600_000;
const STEP = 25;
const MOST_LANES = 6;
/** How many users are asked for at the same time. */
const AT_ONCE = 2;
/** There is no room for a text so far to the right. */
const LAST_MARK = 0.9;
const ASK_EVERY_MS = 30_000;
const TYPED_MS = 300;
const BAR_WORDS = {online: "here", idle: "idle", ended: "ended", lost: "lost"};

/** @typedef {{user: string, records: ConnectionRecord[] | null}} Line `records`: null: not known yet */

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
  #list;

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
    const lines = byId("lines", HTMLElement);
    lines.replaceChildren();
    this.#list = new KeyedList(lines, (/** @type {Line} */ {user}) => user, (line) => this.#makeLine(line));
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
    const hours = `the last ${this.#span / HOUR_MS} hours`;
    setText(this.#title, user === "" ? `T${hours.slice(1)}` : `${visible(user)}, ${hours}`);
    this.#show();
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
      const known = new Map(this.#lines.map(({user, records}) => [user, records]));
      this.#lines = users.map((user) => ({user, records: known.get(user) ?? null}));
      this.#isAsked = true;
      this.#show();
      const to = this.client.serverTime();
      const from = new Date(to.getTime() - this.#span);
      const waiting = [...this.#lines];
      const work = async () => {
        for (let line = waiting.shift(); line !== undefined && !isOld(); line = waiting.shift()) {
          line.records = (await this.api.history({user: line.user, from, to})).items;
          if (!isOld()) this.#show();
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
    const to = this.client.serverTime();
    const from = to.getTime() - this.#span;
    const marks = hours(from, to.getTime(), 3, -to.getTimezoneOffset() * 60_000);
    this.#hours.replaceChildren(
      ...marks.map(({at, left}) => {
        const mark = h("span", {"data-last": left > LAST_MARK}, hourTime(new Date(at)));
        setVariables(mark, {"--left": left});
        return mark;
      }),
    );
  }

  /** @param {Line} first */
  #makeLine({user}) {
    const track = h("ul", {class: "track"});
    const said = h("span", {class: "unseen"});
    const link = h("a", {class: "who", href: `#history/${encodeURIComponent(user)}`}, avatar(user), name(user));
    const element = h("li", {class: "row"}, link, said, track);
    const list = new KeyedList(track, (/** @type {Bar} */ {connection}) => `${connection.clientId}/${connection.connectionId}`, makeBar);
    return {
      element,
      /** @param {Line} line */
      update: ({records}) => {
        const to = this.client.serverTime().getTime();
        const placed = bars(records ?? [], to - this.#span, to).filter(({lane}) => lane < MOST_LANES);
        setAttribute(track, "aria-busy", records === null ? "true" : null);
        setVariables(track, {"--lanes": Math.max(1, ...placed.map(({lane}) => lane + 1))});
        setText(said, records === null ? "" : records.length === 1 ? "1 connection" : `${records.length} connections`);
        list.show(placed);
      },
    };
  }

  #showDetail() {
    const line = this.#lines.find(({user}) => user === this.#user);
    this.#detail.hidden = this.#user === "" || !line?.records;
    if (!line?.records) return;
    const now = this.client.serverTime();
    const placed = bars(line.records, now.getTime() - this.#span, now.getTime()).reverse();
    this.#rows.replaceChildren(...placed.map((bar) => makeRow(bar, now)));
  }
}

/** @param {Bar} first */
function makeBar({connection}) {
  const element = h("li", {class: "span"}, h("span", {class: "unseen"}));
  const text = /** @type {HTMLElement} */ (element.firstElementChild);
  return {
    element,
    /** @param {Bar} bar */
    update: (bar) => {
      setAttribute(element, "data-state", bar.state);
      setAttribute(element, "data-cut", bar.cut);
      setVariables(element, {"--left": bar.left, "--width": bar.width, "--lane": bar.lane, "--idle-from": bar.idleFrom});
      const said = `${visible(connection.clientId)}: ${life(bar)}`;
      setText(text, said);
      setAttribute(element, "title", said);
    },
  };
}

/** @param {Bar} bar */
function life({connection: {loginTime, logoutTime, reason}, state}) {
  const began = hourTime(new Date(Number(loginTime)));
  if (logoutTime === null) return `${BAR_WORDS[state]} since ${began}`;
  return `${began} – ${hourTime(new Date(logoutTime))}, ${reason ?? "ended"}`;
}

/**
 * @param {Bar} bar
 * @param {Date} now
 */
function makeRow({connection: {clientId, loginTime, logoutTime, reason}, state}, now) {
  const began = new Date(Number(loginTime));
  const ended = logoutTime === null ? null : new Date(logoutTime);
  const shown = state === "ended" || state === "lost" ? "offline" : state;
  return h(
    "tr",
    {role: "row"},
    h("th", {role: "rowheader", scope: "row", class: "code"}, h("bdi", {}, visible(clientId))),
    h("td", {role: "cell", "data-label": "From"}, moment(began, now)),
    h("td", {role: "cell", "data-label": "To"}, ended === null ? "–" : moment(ended, now)),
    h("td", {role: "cell", "data-label": "For"}, duration((ended ?? now).getTime() - began.getTime())),
    h("td", {role: "cell", "data-label": "State"}, h("span", {class: "state", "data-state": shown}, reason ?? BAR_WORDS[state])),
  );
}
