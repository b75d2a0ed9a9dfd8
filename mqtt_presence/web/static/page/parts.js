/** Parts of several views: names, states, times, links, heads of columns, fields for a search. */

import {hue, initial, visible} from "./display-names.js";
import {hrefOf} from "./route.js";
import {clockTime, exactly, moment, ago, roughly} from "./times.js";
import {html, styled} from "./view.js";

/** @typedef {import("./page.js").Page} Page */
/** @typedef {"online" | "idle" | "offline"} State */

export const STATE_WORDS = {online: "Online", idle: "Idle", offline: "Offline"};

/**
 * A link within the page.
 *
 * @param {{page: Page, to: Parameters<typeof hrefOf>[0], children?: unknown} & Record<string, unknown>} props
 */
export function Link({page, to, children, ...rest}) {
  const go = (/** @type {MouseEvent} */ event) => {
    if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    page.router.go(to);
  };
  return html`<a href=${hrefOf(to)} onClick=${go} ...${rest}>${children}</a>`;
}

/** A letter in a circle of the user's own colour, with the mark of the state at its edge. @param {{user: string}} props */
export const Avatar = ({user}) => html`
  <span class="avatar" aria-hidden="true" ref=${styled({"--hue": hue(user)})}>${initial(user)}<i class="mark-of-state" /></span>`;

/** A name, isolated so that a right-to-left name does not reverse the text beside it. @param {{user: string}} props */
export const Name = ({user}) => html`<bdi class="name" title=${visible(user)}>${visible(user)}</bdi>`;

/**
 * The first cell of a user's row: the name leads to the user's page.
 *
 * @param {{page: Page, user: string, mine?: boolean}} props
 */
export const Someone = ({page, user, mine = false}) => html`
  <div class="someone">
    <${Avatar} user=${user} />
    <${Link} page=${page} to=${{view: "person", user}} class="name"><${Name} user=${user} /><//>
    ${mine && html`<span class="tag">you</span>`}
  </div>`;

/** A state as a word. @param {{state: State, children?: unknown} & Record<string, unknown>} props */
export const StateWord = ({state, children, ...rest}) => html`
  <span class="state" data-state=${state} ...${rest}>${children ?? STATE_WORDS[state]}</span>`;

/**
 * A time: the duration since then, and the date.
 *
 * @param {{at: Date | null, now: Date, past?: boolean}} props `past`: whether to add "ago"
 */
export function Time({at, now, past = false}) {
  if (at === null) return html`<span class="none">–</span>`;
  const passed = Math.max(0, now.getTime() - at.getTime());
  return html`
    <time datetime=${at.toISOString()} title=${exactly(at)}>
      <span class="long">${past ? ago(passed) : roughly(passed)}</span><span class="short">${moment(at, now)}</span>
    </time>`;
}

/** The age of data that are out of date. @param {{id: string, at: Date | null}} props */
export const AsOf = ({id, at}) => html`<p class="as-of" id=${id} hidden=${at === null}>${at && `as of ${clockTime(at)}`}</p>`;

/**
 * A field for a search, kept in the address.
 *
 * @param {{page: Page, id: string, label: string}} props
 */
export const Search = ({page, id, label}) => html`
  <div class="search">
    <svg aria-hidden="true"><use href="#icon-search" /></svg>
    <label class="unseen" for=${id}>${label}</label>
    <input id=${id} type="search" placeholder="Search" aria-keyshortcuts="/" autocomplete="off" autocapitalize="off"
      spellcheck=${false} value=${page.router.route.query.q ?? ""}
      onInput=${(/** @type {{currentTarget: HTMLInputElement}} */ {currentTarget}) => page.router.choose({q: currentTarget.value})} />
  </div>`;

/** @typedef {{order: string, reverse: boolean}} Sorting */

/**
 * Return the order in the address: `since`, or `-since` for the reverse one.
 *
 * @param {Page} page
 * @param {readonly string[]} orders the first one by default
 * @param {string} [name] of the choice, where a view has two lists
 * @returns {Sorting}
 */
export function sortingOf(page, orders, name = "sort") {
  const text = page.router.route.query[name] ?? "";
  const order = orders.find((each) => each === text.replace(/^-/, "")) ?? orders[0] ?? "";
  return {order, reverse: text.startsWith("-") && text.slice(1) === order};
}

/**
 * The heads of the columns of a table, each a button that sorts by it.
 *
 * @param {{page: Page, id?: string, columns: readonly (readonly [string, string | null])[], sorting: Sorting, first: string, name?: string}} props
 *   labels and orders, null for a column that does not sort; the order without a choice
 */
export const Heads = ({page, id, columns, sorting: {order, reverse}, first, name = "sort"}) => html`
  <thead role="rowgroup"><tr role="row" id=${id}>
    ${columns.map(([label, by]) => {
      if (by === null) return html`<th role="columnheader" scope="col" key=${label}>${label}</th>`;
      const sorted = order === by ? (reverse ? "descending" : "ascending") : undefined;
      const next = order === by && !reverse ? `-${by}` : by === first ? "" : by;
      return html`
        <th role="columnheader" scope="col" key=${label} aria-sort=${sorted}>
          <button type="button" onClick=${() => page.router.choose({[name]: next})}>${label}</button>
        </th>`;
    })}
  </tr></thead>`;

/**
 * Sort a copy by a value, the greatest time and the least text first; unknown values last.
 *
 * @template Item
 * @param {readonly Item[]} items
 * @param {(item: Item) => string | number | null} valueOf
 * @param {boolean} reverse
 */
export function sorted(items, valueOf, reverse) {
  const sign = reverse ? -1 : 1;
  return [...items].sort((a, b) => {
    const [x, y] = [valueOf(a), valueOf(b)];
    if (x === null || y === null) return x === y ? 0 : x === null ? 1 : -1;
    return sign * (typeof x === "number" && typeof y === "number" ? y - x : collator.compare(String(x), String(y)));
  });
}

const collator = new Intl.Collator(undefined, {numeric: true, sensitivity: "base"});
