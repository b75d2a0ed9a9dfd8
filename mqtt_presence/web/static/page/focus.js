/** Keeps the focus: when the focused element is removed, hidden or disabled, one near it gets the focus. */

const FOCUSABLE = "a[href], button, input, summary, h2[tabindex]";

/** @type {HTMLElement | null} */
let last = null;

/** Start, until the page is closed. */
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

/** Focus the title of the present view. */
export function focusView() {
  titleOfView()?.focus({preventScroll: true});
}

/** Return the title of the present view, null before the login. */
function titleOfView() {
  return [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".view h2"))].find(isUsable) ?? null;
}

/** Forget the element after a click on the background, which removes the focus on purpose. */
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
 * Return the button of the element's form, or else the nearest element before it in the same view.
 *
 * @param {HTMLElement} element in the document, hidden or disabled
 */
function near(element) {
  const submit = element.closest("form")?.querySelector("button[type='submit']");
  if (submit instanceof HTMLElement && isUsable(submit)) return submit;
  const view = element.closest(".view");
  return view === null ? null : focusables(view).filter((other) => follows(other, element)).at(-1);
}

/**
 * Return the row in the place of a removed row.
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
