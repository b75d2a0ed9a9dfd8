/** Display of a user: a colour of the user's own, and a mark whose shape shows the state, too. */

import {h, setAttribute, setText, setVariables} from "./dom.js";
import {hue, initial, visible} from "./display-names.js";

/** @typedef {"online" | "idle" | "offline"} State */

export const STATE_WORDS = {online: "Online", idle: "Idle", offline: "Offline"};

/**
 * Make a pill with a name and its state.
 *
 * @param {string} user
 * @param {boolean} mine whether the user is the one signed in here
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
 * Make an avatar: a letter in a circle, with the mark of the state at its edge.
 *
 * @param {string} user
 */
export function avatar(user) {
  const element = h("span", {class: "avatar", "aria-hidden": "true"}, initial(user), h("i", {class: "mark-of-state"}));
  setVariables(element, {"--hue": hue(user)});
  return element;
}

/**
 * Make the name of a user, isolated so that a right-to-left name does not reverse the text beside it.
 *
 * @param {string} user
 */
export const name = (user) => h("bdi", {class: "name", title: visible(user)}, visible(user));

/**
 * Make the name of a user as a link to the user's history, for operators.
 *
 * @param {string} user
 */
export const linkToHistory = (user) => h("a", {href: `#history/${encodeURIComponent(user)}`, class: "name"}, name(user));

/**
 * Make the first cell of a user's row.
 *
 * @param {string} user
 * @param {Node} label the name, or a link with it
 * @param {Node | null} tag
 */
export const someone = (user, label, tag = null) => h("div", {class: "someone"}, avatar(user), label, tag);

/** Make an element with a state as a word. */
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
