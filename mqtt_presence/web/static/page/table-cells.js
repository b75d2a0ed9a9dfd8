/** Cells of a table: column heads, and cells with a time. */

import {h, setAttribute, setText} from "./dom.js";
import {ago, exactly, moment, roughly} from "./times.js";

/** Make a cell with a time: the duration since then, and the date. */
export function makeTime() {
  const long = h("span", {class: "long"});
  const short = h("span", {class: "short"});
  const element = h("time", {}, long, short);
  return {
    element,
    /**
     * @param {Date | null} date
     * @param {Date} now
     * @param {boolean} past whether to add "ago"
     */
    update(date, now, past) {
      const passed = date === null ? 0 : Math.max(0, now.getTime() - date.getTime());
      setText(long, date === null ? "–" : past ? ago(passed) : roughly(passed));
      setText(short, date === null ? "" : moment(date, now));
      setAttribute(element, "datetime", date?.toISOString() ?? null);
      setAttribute(element, "title", date === null ? null : exactly(date));
      setAttribute(element, "class", date === null ? "none" : "");
    },
  };
}

/**
 * Make the head of a column, a button if the table can be sorted by it.
 *
 * @param {string} label
 * @param {import("./user-list.js").Order | null} order
 * @param {() => void} click
 */
export function makeHead(label, order, click) {
  const button = order === null ? null : h("button", {type: "button"}, label);
  const element = h("th", {role: "columnheader", scope: "col"}, button ?? label);
  button?.addEventListener("click", click);
  return {
    element,
    /**
     * @param {import("./user-list.js").Order} now
     * @param {boolean} reverse
     */
    update(now, reverse) {
      setAttribute(element, "aria-sort", order !== now ? null : reverse ? "descending" : "ascending");
    },
  };
}
