/** Selection and order of the users on the page: filter, search, own name first, limit. Pure. */

/** @typedef {Readonly<import("../presence/client-messages.js").UserStatus>} UserStatus */
/** @typedef {"all" | UserStatus["state"]} Filter */
/** @typedef {"state" | "name" | "since" | "seen" | "connections"} Order */

/**
 * @typedef {object} Selection the user's choices
 * @property {string} me the user signed in here, empty for none
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
 * @property {Record<Filter, number>} counts numbers of the users that match the search, in any state
 * @property {UserStatus[]} leftLast the users that left last, of those that match the search
 */

const STATES = /** @type {const} */ (["online", "idle", "offline"]);
const LEFT_LAST = 3;
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
    for (const index of this.#order) {
      const user = /** @type {UserStatus} */ (users[index]);
      if (search === "" || this.#folded[index]?.includes(search)) found[user.state].push(user);
    }
    const [online, idle, offline] = [found.online.length, found.idle.length, found.offline.length];
    const counts = {all: online + idle + offline, online, idle, offline};
    const matching = selection.filter === "all" ? STATES.flatMap((state) => found[state]) : found[selection.filter];
    const sorted = selection.order === "state" && !selection.reverse ? matching : this.#sort(matching, selection);
    const shown = ownFirst(sorted, selection.me).slice(0, selection.limit);
    return {shown, matching: sorted.length, counts, leftLast: latest(found.offline)};
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

/**
 * Return the time at which a user was there last; null while active, or if unknown.
 *
 * @param {UserStatus} user
 */
export const lastThere = ({state, lastActivity, lastSeen}) =>
  state === "online" ? null : state === "idle" ? (lastActivity ?? lastSeen) : lastSeen;

/** @type {Record<Exclude<Order, "name">, (a: UserStatus, b: UserStatus) => number>} */
const COMPARE = {
  state: (a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state),
  since: (a, b) => newest(a.since, b.since),
  seen: (a, b) => (b.state === "online" ? 1 : 0) - (a.state === "online" ? 1 : 0) || newest(lastThere(a), lastThere(b)),
  connections: (a, b) => b.connections - a.connections,
};

/**
 * Return those who left last, the latest first, without sorting all.
 *
 * @param {UserStatus[]} offline
 */
function latest(offline) {
  /** @type {UserStatus[]} */
  const found = [];
  for (const user of offline) {
    const at = found.findIndex(({since}) => newest(since, user.since) > 0);
    if (at !== -1) found.splice(at, 0, user);
    else found.push(user);
    found.length = Math.min(found.length, LEFT_LAST);
  }
  return found.filter(({since}) => since !== null);
}

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
