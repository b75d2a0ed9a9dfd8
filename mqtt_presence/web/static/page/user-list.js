/** Selection and order of the users on the page: filter, search, own name first, limit. Pure. */

/** @typedef {Readonly<import("../presence/client-messages.js").UserStatus>} UserStatus */
/** @typedef {"all" | UserStatus["state"]} Filter */
/** @typedef {"state" | "name" | "since" | "login" | "connections"} Order */

/**
 * @typedef {object} Selection the user's choices
 * @property {string} me the user signed in here
 * @property {Filter} filter
 * @property {string} search part of the name, in any case
 * @property {Order} order
 * @property {boolean} reverse
 * @property {number} limit
 */

/**
 * @typedef {object} Selected
 * @property {UserStatus[]} shown
 * @property {number} matching the number of matching users, including those beyond the limit
 * @property {UserStatus[]} here users online or idle that match the search, whatever the filter
 * @property {Record<Filter, number>} counts numbers of all users
 */

const STATES = /** @type {const} */ (["online", "idle", "offline"]);
const collator = new Intl.Collator(undefined, {numeric: true, sensitivity: "base"});

/** Selects users. Names are sorted and folded once, not after each change of a status. */
export class UserList {
  /** The indexed names, in the order of the watcher. @type {string[]} */
  #names = [];
  /** @type {string[]} */
  #folded = [];
  /** Indexes into `#names`, sorted by name. @type {number[]} */
  #order = [];

  /**
   * @param {readonly UserStatus[]} users always in the same order
   * @param {Selection} selection
   * @returns {Selected}
   */
  select(users, selection) {
    this.#index(users);
    const search = fold(selection.search.trim());
    /** @type {Record<UserStatus["state"], UserStatus[]>} */
    const found = {online: [], idle: [], offline: []};
    const counts = {all: users.length, online: 0, idle: 0, offline: 0};
    for (const index of this.#order) {
      const user = /** @type {UserStatus} */ (users[index]);
      counts[user.state] += 1;
      if (search === "" || this.#folded[index]?.includes(search)) found[user.state].push(user);
    }
    const here = ownFirst([...found.online, ...found.idle], selection.me);
    const matching = selection.filter === "all" ? STATES.flatMap((state) => found[state]) : found[selection.filter];
    const sorted = selection.order === "state" && !selection.reverse ? matching : this.#sort(matching, selection);
    return {shown: ownFirst(sorted, selection.me).slice(0, selection.limit), matching: sorted.length, here, counts};
  }

  /** @param {readonly UserStatus[]} users */
  #index(users) {
    if (users.length === this.#names.length && users.every(({userId}, index) => userId === this.#names[index])) return;
    const names = users.map(({userId}) => userId);
    this.#names = names;
    this.#folded = names.map(fold);
    this.#order = [...names.keys()].sort((a, b) => collator.compare(names[a] ?? "", names[b] ?? ""));
  }

  /**
   * @param {UserStatus[]} users
   * @param {Selection} selection
   */
  #sort(users, {order, reverse}) {
    const place = new Map(this.#order.map((index, at) => [this.#names[index], at]));
    const byName = (/** @type {UserStatus} */ a, /** @type {UserStatus} */ b) =>
      (place.get(a.userId) ?? 0) - (place.get(b.userId) ?? 0);
    const compare = order === "name" ? byName : COMPARE[order];
    const sign = reverse ? -1 : 1;
    return [...users].sort((a, b) => sign * compare(a, b) || byName(a, b));
  }
}

/** @type {Record<Exclude<Order, "name">, (a: UserStatus, b: UserStatus) => number>} */
const COMPARE = {
  state: (a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state),
  since: (a, b) => newest(a.since, b.since),
  login: (a, b) => newest(a.lastLogin?.date, b.lastLogin?.date),
  connections: (a, b) => b.connections - a.connections,
};

/**
 * @param {Date | null | undefined} a
 * @param {Date | null | undefined} b
 */
const newest = (a, b) => (b?.getTime() ?? 0) - (a?.getTime() ?? 0);

/**
 * @param {UserStatus[]} users
 * @param {string} me
 */
function ownFirst(users, me) {
  const at = users.findIndex(({userId}) => userId === me);
  return at <= 0 ? users : [/** @type {UserStatus} */ (users[at]), ...users.slice(0, at), ...users.slice(at + 1)];
}

/** @param {string} text */
const fold = (text) => text.normalize("NFKC").toLowerCase();
