/** Creates and changes elements. Texts stay texts: no function here parses markup. */

/** @typedef {Node | string | null} Child */

/**
 * Create an element.
 *
 * @param {string} name
 * @param {Record<string, string | boolean | null>} [attributes] true for an attribute without a value, false and null for none
 * @param {...Child} children
 */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) setAttribute(element, key, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/**
 * Find an element of index.html.
 *
 * @template {HTMLElement} T
 * @param {string} id
 * @param {{new (): T}} kind
 * @returns {T}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new TypeError(`index.html has no ${kind.name} #${id}`);
  return element;
}

/**
 * Set a text if it differs: screen readers repeat a text that is set again.
 *
 * @param {HTMLElement} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * @param {Element} element
 * @param {string} name
 * @param {string | boolean | null} value
 */
export function setAttribute(element, name, value) {
  if (value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== (value === true ? "" : value)) {
    element.setAttribute(name, value === true ? "" : value);
  }
}

/**
 * Set variables of the style sheet by the CSSOM, which a strict Content-Security-Policy allows.
 *
 * @param {HTMLElement} element
 * @param {Record<string, string | number>} variables
 */
export function setVariables(element, variables) {
  for (const [name, value] of Object.entries(variables)) {
    if (element.style.getPropertyValue(name) !== String(value)) element.style.setProperty(name, String(value));
  }
}
