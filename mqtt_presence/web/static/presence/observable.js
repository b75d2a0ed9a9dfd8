/** What can be watched: events, callbacks and iterators over immutable snapshots, for any framework and none. */

import {guard} from "./errors.js";

/**
 * @template {object} Snapshot
 */
export class Observable extends EventTarget {
  /** @type {() => Snapshot} */
  #take;
  /** @type {Readonly<Snapshot> | null} */
  #snapshot = null;
  /** @type {Set<() => void>} */
  #subscribers = new Set();
  /** @type {Set<{wake: () => void, ended: boolean}>} */
  #iterators = new Set();
  #telling = false;

  /**
   * @param {() => Snapshot} take makes a snapshot of what there is now
   */
  constructor(take) {
    super();
    this.#take = take;
  }

  /**
   * Return everything as it is now: frozen, and the same object until something changes.
   *
   * An arrow, as `subscribe` is, so that it can be handed around: `useSyncExternalStore(c.subscribe, c.getSnapshot)`.
   */
  getSnapshot = () => (this.#snapshot ??= Object.freeze(this.#take()));

  /**
   * Be called after changes; several at once make one call.
   *
   * @param {() => void} callback
   * @returns {() => void} ends it
   */
  subscribe = (callback) => {
    const subscriber = () => callback(); // the same callback may subscribe twice
    this.#subscribers.add(subscriber);
    return () => void this.#subscribers.delete(subscriber);
  };

  /**
   * Follow the snapshots, beginning with the present one. Whoever is slow misses those in between, never the last.
   * Ends after a disconnect on purpose.
   *
   * @returns {AsyncGenerator<Readonly<Snapshot>, void, undefined>}
   */
  async *[Symbol.asyncIterator]() {
    const iterator = {wake: () => {}, ended: false};
    this.#iterators.add(iterator);
    try {
      let last = null;
      for (;;) {
        const snapshot = this.getSnapshot();
        if (snapshot !== last) {
          last = snapshot;
          yield snapshot;
        } else if (iterator.ended) {
          return;
        } else {
          await new Promise((resolve) => (iterator.wake = () => resolve(undefined)));
        }
      }
    } finally {
      this.#iterators.delete(iterator);
    }
  }

  /**
   * Something has changed: tell everybody, once what is going on now is done.
   *
   * @protected
   */
  changed() {
    this.#snapshot = null;
    if (this.#telling) return;
    this.#telling = true;
    queueMicrotask(() => {
      this.#telling = false;
      this.dispatchEvent(new Event("change"));
      for (const subscriber of this.#subscribers) guard(subscriber);
      for (const iterator of this.#iterators) iterator.wake();
    });
  }

  /**
   * Dispatch an event of its own, and `change`.
   *
   * @protected
   * @param {string} type
   * @param {unknown} [detail]
   */
  emit(type, detail = null) {
    this.changed();
    this.dispatchEvent(new CustomEvent(type, {detail}));
  }

  /**
   * It was ended on purpose: iterators end too, once they have seen the last snapshot.
   *
   * @protected
   */
  endIteration() {
    for (const iterator of this.#iterators) {
      iterator.ended = true;
      iterator.wake();
    }
  }
}
