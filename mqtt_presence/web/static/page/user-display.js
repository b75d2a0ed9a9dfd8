/** How a user looks: in a colour of their own, with a mark for the state that is not a matter of colour alone. */

import {h, setAttribute, setText, setVariables} from "./dom.js";
import {hue, initial, visible} from "./display-names.js";

/** @typedef {"online" | "idle" | "offline"} State */

export const STATE_WORDS = {online: "Online", idle: "Idle", offline: "Offline"};

/**
 * A name as a pill, and its state.
 *
 * @param {string} user
 * @param {boolean} mine it is that of whose page this is
 */
export function pill(user, mine) {
  const state = h("span", {class: "unseen"});
  const element = h("span", {class: mine ? "pill mine" : "pill"}, avatar(user), name(user), state);
  setVariables(element, {"--hue": hue(user)});
  return {
    element,
    /** @param {State} now */
    update(now) {
      setAttribute(element, "data-state", now);
      setText(state, `, ${STATE_WORDS[now].toLowerCase()}`);
    },
  };
}

/**
 * The letter in a circle; the mark of the state is at its edge.
 *
 * @param {string} user
 */
export function avatar(user) {
  const element = h("span", {class: "avatar", "aria-hidden": "true"}, initial(user), h("i", {class: "mark-of-state"}));
  setVariables(element, {"--hue": hue(user)});
  return element;
}

/**
 * The name, which may be in any script and must not turn around what stands beside it.
 *
 * @param {string} user
 */
export const name = (user) => h("bdi", {class: "name", title: visible(user)}, visible(user));

/**
 * The name, leading to what operators may see of the user.
 *
 * @param {string} user
 */
export const linkToHistory = (user) => h("a", {href: `#history/${encodeURIComponent(user)}`, class: "name"}, name(user));

/**
 * Somebody as the first cell of a table's row.
 *
 * @param {string} user
 * @param {Node} label the name, or a link with it
 * @param {Node | null} tag
 */
export const someone = (user, label, tag = null) => h("div", {class: "someone"}, avatar(user), label, tag);

/** A state in a word. */
export function stateWord() {
  const element = h("span", {class: "state"});
  return {
    element,
    /** @param {State} state */
    update(state) {
      setAttribute(element, "data-state", state);
      setText(element, STATE_WORDS[state]);
    },
  };
}
