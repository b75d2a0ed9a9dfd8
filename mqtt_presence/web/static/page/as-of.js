/** How a view says that it is old: faded, and with the time at which it was true. */

import {setAttribute, setText} from "./dom.js";
import {clockTime} from "./times.js";

/**
 * @param {HTMLElement} view
 * @param {HTMLElement} text
 * @param {Date | null} asOf null: it is true now
 */
export function showAsOf(view, text, asOf) {
  setAttribute(view, "data-stale", asOf !== null);
  text.hidden = asOf === null;
  if (asOf !== null) setText(text, `as of ${clockTime(asOf)}`);
}
