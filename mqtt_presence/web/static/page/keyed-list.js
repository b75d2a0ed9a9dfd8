/** The children of an element, one for each item: created once, changed in place, moved only for a new order. */

/**
 * @template Item
 * @typedef {object} Row the element of an item
 * @property {HTMLElement} element
 * @property {(item: Item) => void} update
 */

/**
 * @template Item
 */
export class KeyedList {
  /** @type {Map<string, Row<Item>>} */
  #rows = new Map();

  /**
   * @param {HTMLElement} parent without other children
   * @param {(item: Item) => string} keyOf
   * @param {(item: Item) => Row<Item>} make
   */
  constructor(parent, keyOf, make) {
    this.parent = parent;
    this.keyOf = keyOf;
    this.make = make;
  }

  /**
   * Show items in their order.
   *
   * @param {readonly Item[]} items
   */
  show(items) {
    const focused = document.activeElement;
    const keys = new Set(items.map(this.keyOf));
    for (const [key, row] of this.#rows) {
      if (keys.has(key)) continue;
      row.element.remove();
      this.#rows.delete(key);
    }
    let place = this.parent.firstElementChild;
    for (const item of items) {
      const {element} = this.#row(item);
      if (element === place) place = place.nextElementSibling;
      else this.parent.insertBefore(element, place);
    }
    // An element that is moved loses the focus.
    if (focused instanceof HTMLElement && focused !== document.activeElement && this.parent.contains(focused)) {
      focused.focus({preventScroll: true});
    }
  }

  /** Create all elements again with the next `show`. */
  clear() {
    for (const {element} of this.#rows.values()) element.remove();
    this.#rows.clear();
  }

  /** @param {Item} item */
  #row(item) {
    const key = this.keyOf(item);
    let row = this.#rows.get(key);
    if (row === undefined) {
      row = this.make(item);
      this.#rows.set(key, row);
    }
    row.update(item);
    return row;
  }
}
