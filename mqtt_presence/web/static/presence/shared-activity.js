/** What one tab does counts in all tabs of the same user in this browser. */

import {SAME_ACTIVITY_MS} from "./page.js";

/** Tells other tabs that something was done here, and hears of what was done there. */
export class SharedActivity {
  /** @type {BroadcastChannel | null} */
  #channel = null;
  #told = -Infinity;

  /**
   * @param {string} name the tabs that belong together have the same
   * @param {(ago: number) => void} heard something was done in another tab, so many milliseconds ago
   */
  constructor(name, heard) {
    if (typeof BroadcastChannel === "undefined") return;
    this.#channel = new BroadcastChannel(name);
    // All tabs have one wall clock, and none has the steady clock of another.
    this.#channel.onmessage = ({data}) => {
      if (typeof data?.at === "number") heard(Math.max(0, Date.now() - data.at));
    };
  }

  /** Something was done here, now. */
  tell() {
    const at = Date.now();
    if (Math.abs(at - this.#told) < SAME_ACTIVITY_MS) return;
    this.#told = at;
    this.#channel?.postMessage({at});
  }

  close() {
    this.#channel?.close();
  }
}
