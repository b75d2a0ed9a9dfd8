/** The view of all users: numbers, pills and a table. */

import {showAsOf} from "./as-of.js";
import {makeHead, makeTime} from "./table-cells.js";
import {byId, h, setAttribute, setText} from "./dom.js";
import {KeyedList} from "./keyed-list.js";
import {makePainter} from "./repaint.js";
import {linkToHistory, name, pill, someone, STATE_WORDS, stateWord} from "./user-display.js";
import {UserList} from "./user-list.js";

/** @typedef {Readonly<import("../presence/client-messages.js").UserStatus>} UserStatus */
/** @typedef {import("./user-list.js").Filter} Filter */
/** @typedef {import("./user-list.js").Order} Order */

const STEP = 100;
const MOST_PILLS = 60;
const MOST_IN_A_NARROW_TILE = 3;
const MOST_PILLS_ON_A_PHONE = 20;
const PHONE = matchMedia("(max-width: 679px)");

/** @type {{key: Filter, label: string}[]} */
const TILES = [
  {key: "all", label: "All"},
  {key: "online", label: STATE_WORDS.online},
  {key: "idle", label: STATE_WORDS.idle},
  {key: "offline", label: STATE_WORDS.offline},
];

/** @type {{label: string, order: Order | null}[]} */
const COLUMNS = [
  {label: "Name", order: "name"},
  {label: "State", order: "state"},
  {label: "Since", order: "since"},
  {label: "Last login", order: "login"},
  {label: "Last activity", order: null},
  {label: "Connections", order: "connections"},
];

export class UsersView {
  #userList = new UserList();
  /** @type {import("./user-list.js").Selection} */
  #selection = {me: "", filter: "all", search: "", order: "state", reverse: false, limit: STEP};
  #linked = false;
  #view = byId("people", HTMLElement);
  #asOfText = byId("as-of", HTMLElement);
  #search = byId("search", HTMLInputElement);
  #here = byId("here", HTMLElement);
  #empty = byId("people-empty", HTMLElement);
  #more = byId("people-more", HTMLButtonElement);
  #tiles = TILES.map(({key, label}) => this.#makeTile(key, label));
  #heads = COLUMNS.map(({label, order}) => makeHead(label, order, () => order !== null && this.#sort(order)));
  #restOfPills = h("li", {class: "rest-of-pills"});
  #pills;
  #rows;

  /**
   * @param {import("../presence/status-watcher.js").StatusWatcher} watcher
   * @param {import("../presence/presence-client.js").PresenceClient} client
   * @param {import("./freshness.js").Live} live the age of the statuses
   * @param {AbortSignal} signal ends the view
   */
  constructor(watcher, client, live, signal) {
    this.watcher = watcher;
    this.client = client;
    this.live = live;
    this.paint = makePainter(() => signal.aborted || this.#paint());
    this.#selection.me = client.user;
    this.#search.value = "";
    byId("tiles", HTMLElement).replaceChildren(...this.#tiles.map(({element}) => element));
    byId("people-head", HTMLElement).replaceChildren(...this.#heads.map(({element}) => element));
    const pills = byId("pills", HTMLElement);
    pills.replaceChildren();
    const rows = byId("people-rows", HTMLElement);
    rows.replaceChildren();
    this.#pills = new KeyedList(pills, userId, (/** @type {UserStatus} */ user) => makePill(user, this.#selection.me));
    this.#rows = new KeyedList(rows, userId, (/** @type {UserStatus} */ user) => this.#makeRow(user));
    this.#search.addEventListener("input", () => this.#select({search: this.#search.value, limit: STEP}), {signal});
    this.#more.addEventListener("click", () => this.#select({limit: this.#selection.limit + STEP}), {signal});
    signal.addEventListener("abort", watcher.subscribe(() => this.paint()));
    this.paint();
  }

  /**
   * Link names to their history, for operators.
   *
   * @param {boolean} linked
   */
  linkNames(linked) {
    if (linked === this.#linked) return;
    this.#linked = linked;
    this.#rows.clear();
    this.paint();
  }

  open() {
    this.paint();
  }

  /** Update the durations; called every second while the view is shown. */
  tick() {
    this.paint();
  }

  /** @param {Partial<import("./user-list.js").Selection>} selection */
  #select(selection) {
    Object.assign(this.#selection, selection);
    this.paint();
  }

  /** @param {Order} order */
  #sort(order) {
    this.#select({order, reverse: this.#selection.order === order && !this.#selection.reverse});
  }

  #paint() {
    if (this.#view.hidden) return;
    const {users} = this.watcher.getSnapshot();
    const {shown, matching, here, counts} = this.#userList.select(users, this.#selection);
    showAsOf(this.#view, this.#asOfText, this.live.asOf);
    for (const tile of this.#tiles) tile.update(counts, this.#selection.filter);
    const isLong = this.#tiles.some(({number}) => (number.textContent ?? "").length > MOST_IN_A_NARROW_TILE);
    setAttribute(byId("tiles", HTMLElement), "data-long", isLong);
    for (const head of this.#heads) head.update(this.#selection.order, this.#selection.reverse);
    this.#showPills(this.#selection.filter === "all" ? here : here.filter(({state}) => state === this.#selection.filter));
    this.#rows.show(shown);
    setText(this.#empty, this.#emptyText(users.length, matching));
    this.#empty.hidden = matching > 0;
    const left = matching - shown.length;
    setText(this.#more, `Show ${Math.min(left, STEP)} more of ${left.toLocaleString()}`);
    this.#more.hidden = left === 0;
  }

  /** @param {UserStatus[]} here */
  #showPills(here) {
    this.#here.hidden = here.length === 0;
    this.#restOfPills.remove();
    const most = PHONE.matches ? MOST_PILLS_ON_A_PHONE : MOST_PILLS;
    this.#pills.show(here.slice(0, most));
    if (here.length <= most) return;
    setText(this.#restOfPills, `and ${(here.length - most).toLocaleString()} more`);
    this.#pills.parent.append(this.#restOfPills);
  }

  /**
   * @param {number} known
   * @param {number} matching
   */
  #emptyText(known, matching) {
    if (matching > 0) return "";
    if (known === 0) return "No users yet.";
    if (this.#selection.search.trim() !== "") return `No ${this.#selection.filter === "all" ? "" : `${this.#selection.filter} `}user matches.`;
    return `No user is ${this.#selection.filter}.`;
  }

  /**
   * @param {Filter} key
   * @param {string} label
   */
  #makeTile(key, label) {
    const number = h("strong");
    const element = h("button", {type: "button", class: "tile", "data-state": key}, number, h("span", {}, label));
    element.addEventListener("click", () => this.#select({filter: key, limit: STEP}));
    return {
      element,
      number,
      /**
       * @param {Record<Filter, number>} counts
       * @param {Filter} filter
       */
      update(counts, filter) {
        setText(number, counts[key].toLocaleString());
        setAttribute(element, "aria-pressed", String(filter === key));
      },
    };
  }

  /** @param {UserStatus} first */
  #makeRow({userId}) {
    const mine = userId === this.#selection.me;
    const state = stateWord();
    const [since, login, activity] = [makeTime(), makeTime(), makeTime()];
    const connections = h("span");
    const element = h(
      "tr",
      {role: "row", class: mine ? "mine" : ""},
      h("th", {role: "rowheader", scope: "row"}, someone(userId, this.#linked ? linkToHistory(userId) : name(userId), mine ? h("span", {class: "tag"}, "you") : null)),
      h("td", {role: "cell"}, state.element),
      h("td", {role: "cell"}, since.element),
      h("td", {role: "cell", "data-label": "Last login"}, login.element),
      h("td", {role: "cell", "data-label": "Last activity"}, activity.element),
      h("td", {role: "cell", "data-label": "Connections"}, connections),
    );
    return {
      element,
      /** @param {UserStatus} user */
      update: (user) => {
        const now = this.client.serverTime();
        setAttribute(element, "data-state", user.state);
        state.update(user.state);
        since.update(user.since, now, false);
        login.update(user.lastLogin?.date ?? null, now, true);
        activity.update(user.lastActivity, now, true);
        setText(connections, user.connections ? String(user.connections) : "–");
        setAttribute(connections, "class", user.connections ? "" : "none");
      },
    };
  }
}

/** @param {UserStatus} user */
const userId = (user) => user.userId;

/**
 * @param {UserStatus} user
 * @param {string} me
 */
function makePill(user, me) {
  const made = pill(user.userId, user.userId === me);
  return {
    element: h("li", {}, made.element),
    /** @param {UserStatus} now */
    update: ({state}) => made.update(state),
  };
}
