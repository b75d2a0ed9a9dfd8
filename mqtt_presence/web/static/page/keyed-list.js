/** The children of an element, one for each item: made once, changed in place, moved only when the order changes. */

/**
 * @template Item
 * @typedef {object} Row what stands for an item
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
   * @param {HTMLElement} parent nothing else adds to it
   * @param {(item: Item) => string} keyOf
   * @param {(item: Item) => Row<Item>} make
   */
  constructor(parent, keyOf, make) {
    this.parent = parent;
    this.keyOf = keyOf;
    this.make = make;
  }

  /**
   * Show these items, in this order.
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
    // What is moved loses the focus.
    if (focused instanceof HTMLElement && focused !== document.activeElement && this.parent.contains(focused)) {
      focused.focus({preventScroll: true});
    }
  }

  /** Make all of them anew with the next `show`. */
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
