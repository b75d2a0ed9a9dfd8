/** The present route: the browser's address, followed and changed. */

import {hrefOf, parseRoute} from "./route.js";

/** @typedef {import("./route.js").Route} Route */

/** Milliseconds from a choice to its place in the address: browsers limit the changes. */
const WRITE_AFTER_MS = 300;

export class Router {
  /** @type {Route} */
  route = parseRoute(location.search, location.hash);
  /** The choices in each view, for the way back. @type {Partial<Record<import("./route.js").ViewName, import("./route.js").Query>>} */
  last = {};
  /** Counts the steps to a view: other choices in the same view are none. */
  steps = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #writing;

  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed;
    const read = () => {
      clearTimeout(this.#writing);
      this.route = parseRoute(location.search, location.hash);
      this.steps += 1;
      this.#remember();
      changed();
    };
    addEventListener("popstate", read);
    addEventListener("hashchange", read);
  }

  /**
   * Show another view, as a step that the browser can go back.
   *
   * @param {{view: import("./route.js").ViewName, user?: string, query?: import("./route.js").Query}} route
   */
  go({view, user = "", query = {}}) {
    clearTimeout(this.#writing);
    const before = this.route;
    this.route = {view, user, query};
    const isChoice = before.view === view && before.user === user && hrefOf(before) !== hrefOf(this.route);
    if (!isChoice) this.steps += 1;
    history.pushState(null, "", hrefOf(this.route));
    this.#remember();
    this.changed();
  }

  /**
   * Change choices of the present view.
   *
   * @param {import("./route.js").Query} query empty texts remove a choice
   */
  choose(query) {
    const merged = Object.entries({...this.route.query, ...query}).filter(([, value]) => value !== "");
    this.route = {...this.route, query: Object.fromEntries(merged)};
    this.#remember();
    clearTimeout(this.#writing);
    this.#writing = setTimeout(() => history.replaceState(null, "", hrefOf(this.route)), WRITE_AFTER_MS);
    this.changed();
  }

  #remember() {
    this.last[this.route.view] = this.route.query;
  }
}
