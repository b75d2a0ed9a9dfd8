/** Events of the page and of its user. Without a page, as in Node, there are no events. */

import {steady} from "./clocks.js";

/**
 * Follow the life cycle of the page.
 *
 * `unload` and `beforeunload` are not used: they keep a page out of the back/forward cache, and phones omit them.
 *
 * @param {object} hooks
 * @param {() => void} hooks.hide the page is left, for good or for the back/forward cache
 * @param {() => void} hooks.show the page is back from that cache
 * @param {() => void} hooks.wake the page is visible again, or the network is back
 * @returns {() => void} ends the observation
 */
export function followPage({hide, show, wake}) {
  const page = globalThis.window;
  if (page === undefined) return () => {};
  const listening = new AbortController();
  const {signal} = listening;
  page.addEventListener("pagehide", hide, {signal});
  page.addEventListener("pageshow", show, {signal}); // the event of the load itself is ignored
  page.addEventListener("online", wake, {signal});
  page.document.addEventListener("visibilitychange", () => isVisible() && wake(), {signal});
  return () => listening.abort();
}

/** Return whether the page is visible, or there is none. */
export function isVisible() {
  return globalThis.document?.visibilityState !== "hidden";
}

/** Return whether the page is visible and has the focus. */
export function isFocused() {
  return isVisible() && (globalThis.document?.hasFocus() ?? true);
}

/** Milliseconds in which further activity is ignored: a moving mouse makes a hundred events a second. */
export const SAME_ACTIVITY_MS = 200;
const ACTIVITIES = ["click", "keydown", "pointerdown", "pointermove", "touchstart", "touchmove", "wheel"];

/**
 * Follow the user's activity on the page.
 *
 * @param {object} hooks
 * @param {() => void} hooks.activity
 * @param {(focused: boolean) => void} hooks.focus the page came to the front, or left it
 * @returns {() => void} ends the observation
 */
export function followUser({activity, focus}) {
  const page = globalThis.window;
  if (page === undefined) return () => {};
  const listening = new AbortController();
  const options = {signal: listening.signal, capture: true, passive: true};
  let last = -Infinity;
  const acted = () => {
    const now = steady();
    if (now - last < SAME_ACTIVITY_MS) return;
    last = now;
    activity();
  };
  for (const name of ACTIVITIES) page.addEventListener(name, acted, options);
  const look = () => focus(isFocused());
  page.addEventListener("focus", look, options);
  page.addEventListener("blur", look, options);
  page.document.addEventListener("visibilitychange", look, options);
  look();
  return () => listening.abort();
}
