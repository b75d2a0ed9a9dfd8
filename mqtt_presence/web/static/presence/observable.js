/** Observable objects: events, callbacks and iterators over immutable snapshots, for any framework. */

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
   * @param {() => Snapshot} take returns a snapshot of the present state
   */
  constructor(take) {
    super();
    this.#take = take;
  }

  /**
   * Return the present snapshot: frozen, and the same object until something changes.
   *
   * A bound function, as `subscribe` is, so that both can be passed on: `useSyncExternalStore(c.subscribe, c.getSnapshot)`.
   */
  getSnapshot = () => (this.#snapshot ??= Object.freeze(this.#take()));

  /**
   * Call a function after changes; simultaneous changes make one call.
   *
   * @param {() => void} callback
   * @returns {() => void} ends the subscription
   */
  subscribe = (callback) => {
    const subscriber = () => callback(); // the same callback may subscribe twice
    this.#subscribers.add(subscriber);
    return () => void this.#subscribers.delete(subscriber);
  };

  /**
   * Iterate over the snapshots from the present one on. A slow consumer misses some in between, never the last.
   * The iterator ends after a disconnect on purpose.
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
   * Notify all observers of a change, after the present task.
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
   * Dispatch a specific event, and `change`.
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
   * End the iterators after the last snapshot, since the connection was ended on purpose.
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
