/** What a table of users is made of: its heads, and cells with a time. */

import {h, setAttribute, setText} from "./dom.js";
import {ago, exactly, moment, roughly} from "./times.js";

/** A moment: how long it has been, or was ago, and when it was. */
export function makeTime() {
  const long = h("span", {class: "long"});
  const short = h("span", {class: "short"});
  const element = h("time", {}, long, short);
  return {
    element,
    /**
     * @param {Date | null} date
     * @param {Date} now
     * @param {boolean} past say that it was ago
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
 * The head of a column, which sorts by it if it can.
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
