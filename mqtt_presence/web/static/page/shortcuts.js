/** The shortcut for the keyboard: `/` for the search of the view. */

const WRITABLE = "input:not([type='checkbox']), textarea, select, [contenteditable]";

/** Start, until the page is closed. */
export function listenForShortcuts() {
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target instanceof Element && event.target.closest(`${WRITABLE}, dialog`) !== null) return;
    const field = /** @type {HTMLInputElement | null} */ (document.querySelector(".view input[type='search']"));
    if (field === null) return;
    event.preventDefault(); // the slash is not part of the search
    field.select();
  });
}
