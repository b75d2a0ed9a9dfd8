/** What happens to the page, and what the user does on it. Nothing where there is no page, as in Node. */

import {steady} from "./clocks.js";

/**
 * Follow the page.
 *
 * Never `unload` or `beforeunload`: they keep a page out of the back/forward cache and do not fire on phones.
 *
 * @param {object} hooks
 * @param {() => void} hooks.hide the page is left, for ever or into the back/forward cache
 * @param {() => void} hooks.show it is back from there
 * @param {() => void} hooks.wake it is looked at again, or the network is back
 * @returns {() => void} ends it
 */
export function followPage({hide, show, wake}) {
  const page = globalThis.window;
  if (page === undefined) return () => {};
  const listening = new AbortController();
  const {signal} = listening;
  page.addEventListener("pagehide", hide, {signal});
  page.addEventListener("pageshow", show, {signal}); // that of the load itself changes nothing
  page.addEventListener("online", wake, {signal});
  page.document.addEventListener("visibilitychange", () => isVisible() && wake(), {signal});
  return () => listening.abort();
}

/** The page can be seen, or there is none. */
export function isVisible() {
  return globalThis.document?.visibilityState !== "hidden";
}

/** The page is in front of the user; a hidden one is not, whatever has the focus in it. */
export function isFocused() {
  return isVisible() && (globalThis.document?.hasFocus() ?? true);
}

/** An activity so soon after another is the same: a mouse that moves says so a hundred times a second. */
export const SAME_ACTIVITY_MS = 200;
const ACTIVITIES = ["click", "keydown", "pointerdown", "pointermove", "touchstart", "touchmove", "wheel"];

/**
 * Follow what the user does on the page.
 *
 * @param {object} hooks
 * @param {() => void} hooks.activity
 * @param {(focused: boolean) => void} hooks.focus the page came to the front, or left it
 * @returns {() => void} ends it
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
