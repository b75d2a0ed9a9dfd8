/** Marks a view as out of date: faded, with the time of its data. */

import {setAttribute, setText} from "./dom.js";
import {clockTime} from "./times.js";

/**
 * @param {HTMLElement} view
 * @param {HTMLElement} text
 * @param {Date | null} asOf the time of the data; null if they are current
 */
export function showAsOf(view, text, asOf) {
  setAttribute(view, "data-stale", asOf !== null);
  text.hidden = asOf === null;
  if (asOf !== null) setText(text, `as of ${clockTime(asOf)}`);
}
