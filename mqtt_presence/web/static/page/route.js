/** The present view, from the part of the address after `#`. Connections and history are for operators. */

import {byId, setAttribute} from "./dom.js";

/**
 * @typedef {object} View
 * @property {(rest: string) => void} [open] the view is shown; `rest` is the rest of the address
 * @property {() => void} [close]
 * @property {() => void} [tick] called every second while the view is shown
 */

export class Route {
  #allowed = false;
  #nav = byId("views", HTMLElement);
  /** @type {string | null} */
  #shown = null;

  /**
   * @param {Record<string, View>} views by the id of their element; the first is open to all users
   * @param {AbortSignal} signal ends the routing
   */
  constructor(views, signal) {
    this.views = views;
    window.addEventListener("hashchange", () => this.#show(true), {signal});
    signal.addEventListener("abort", () => this.allow(false));
    this.#show(false);
  }

  /** @param {boolean} operator */
  allow(operator) {
    if (operator === this.#allowed) return;
    this.#allowed = operator;
    this.#nav.hidden = !operator;
    this.#show(false);
  }

  tick() {
    if (this.#shown !== null) this.views[this.#shown]?.tick?.();
  }

  /** @param {boolean} byUser */
  #show(byUser) {
    const names = Object.keys(this.views);
    const [wanted = "", ...rest] = location.hash.slice(1).split("/");
    const name = this.#allowed && names.includes(wanted) ? wanted : (names[0] ?? "");
    if (this.#shown !== null && this.#shown !== name) this.views[this.#shown]?.close?.();
    this.#shown = name;
    for (const other of names) byId(other, HTMLElement).hidden = other !== name;
    for (const anchor of this.#nav.querySelectorAll("a")) {
      setAttribute(anchor, "aria-current", anchor.hash === `#${name}` ? "page" : null);
    }
    if (byUser) byId(`${name}-title`, HTMLElement).focus();
    this.views[name]?.open?.(decode(rest.join("/")));
  }
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}
