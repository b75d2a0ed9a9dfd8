/** The view library: Preact with templates. Texts in templates stay texts; nothing here parses markup. */

export {Fragment, html, render, useEffect, useLayoutEffect, useMemo, useRef, useState} from "../vendor/preact.js";

/**
 * Return a callback for `ref` that sets variables of the style sheet by the CSSOM, which a strict
 * Content-Security-Policy allows.
 *
 * @param {Record<string, string | number>} variables
 */
export const styled = (variables) => (/** @type {HTMLElement | null} */ element) => {
  if (element === null) return;
  for (const [name, value] of Object.entries(variables)) {
    if (element.style.getPropertyValue(name) !== String(value)) element.style.setProperty(name, String(value));
  }
};
