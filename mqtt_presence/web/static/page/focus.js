/** Keeping the focus: when the focused element is removed, hidden or disabled, another near it gets the focus. */

const FOCUSABLE = "a[href], button, input, summary, h2[tabindex]";

/** @type {HTMLElement | null} */
let last = null;

/** Begin; for the rest of the page's life. */
export function keepFocus() {
  document.addEventListener("focusin", ({target}) => {
    last = target instanceof HTMLElement ? target : null;
  });
  document.addEventListener("focusout", () => queueMicrotask(forgetIfLeft));
  const observer = new MutationObserver(restore);
  observer.observe(document.body, {
    subtree: true,
    childList: true,
    attributes: true,
    attributeFilter: ["hidden", "disabled", "open"],
  });
}

/** Focus the title of the view that is shown. */
export function focusView() {
  titleOfView()?.focus({preventScroll: true});
}

/** The title of the view that is shown; null at the door. */
function titleOfView() {
  return [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".view h2"))].find(isUsable) ?? null;
}

/** A click beside everything takes the focus away on purpose. */
function forgetIfLeft() {
  if (document.activeElement === document.body && last !== null && isUsable(last)) last = null;
}

/** @param {MutationRecord[]} records */
function restore(records) {
  const {activeElement} = document;
  if (last === null || isUsable(last) || (activeElement !== document.body && activeElement !== last)) return;
  const next = last.isConnected ? near(last) : besideRemoved(last, records);
  (next ?? titleOfView())?.focus({preventScroll: true});
}

/**
 * The button of its form, else the nearest element before it in the same view.
 *
 * @param {HTMLElement} element it is in the document, hidden or disabled
 */
function near(element) {
  const submit = element.closest("form")?.querySelector("button[type='submit']");
  if (submit instanceof HTMLElement && isUsable(submit)) return submit;
  const view = element.closest(".view");
  return view === null ? null : focusables(view).filter((other) => follows(other, element)).at(-1);
}

/**
 * The row that has taken the place of a removed one.
 *
 * @param {HTMLElement} element
 * @param {MutationRecord[]} records
 */
function besideRemoved(element, records) {
  for (const {removedNodes, nextSibling, previousSibling} of records) {
    if (![...removedNodes].some((node) => node.contains(element))) continue;
    for (const row of [nextSibling, previousSibling]) {
      const found = row instanceof HTMLElement ? focusables(row)[0] : undefined;
      if (found !== undefined) return found;
    }
  }
  return null;
}

/** @param {Element} parent */
function focusables(parent) {
  return [.../** @type {NodeListOf<HTMLElement>} */ (parent.querySelectorAll(FOCUSABLE))].filter(isUsable);
}

/**
 * @param {Node} first
 * @param {Node} second
 */
const follows = (first, second) => Boolean(first.compareDocumentPosition(second) & Node.DOCUMENT_POSITION_FOLLOWING);

/** @param {HTMLElement} element */
const isUsable = (element) =>
  element.isConnected && !element.matches(":disabled") && element.closest("[hidden], dialog:not([open])") === null;
