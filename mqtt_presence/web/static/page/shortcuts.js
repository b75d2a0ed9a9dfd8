/** Shortcuts for the keyboard: a link past the header, and `/` for the search. */

import {byId} from "./dom.js";
import {focusView} from "./focus.js";

const WRITABLE = "input:not([type='checkbox']), textarea, select, [contenteditable]";

/** Start, until the page is closed. */
export function listenForShortcuts() {
  byId("skip", HTMLElement).addEventListener("click", focusView);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target instanceof Element && event.target.closest(`${WRITABLE}, dialog`) !== null) return;
    const field = [.../** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("input[type='search']"))].find(
      (each) => each.closest("[hidden]") === null,
    );
    if (field === undefined) return;
    event.preventDefault(); // the slash is not part of the search
    field.select();
  });
}
