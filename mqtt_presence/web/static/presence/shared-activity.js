/** Shared activity: activity in one tab counts in all tabs of the same user in this browser. */

import {SAME_ACTIVITY_MS} from "./page-events.js";

/** Announces activity to other tabs, and receives theirs. */
export class SharedActivity {
  /** @type {BroadcastChannel | null} */
  #channel = null;
  #announcedAt = -Infinity;

  /**
   * @param {string} name the same for all tabs that share their activity
   * @param {(ago: number) => void} onActivity called with the age of an activity in another tab, milliseconds
   */
  constructor(name, onActivity) {
    if (typeof BroadcastChannel === "undefined") return;
    this.#channel = new BroadcastChannel(name);
    // Tabs share the wall clock, but not the steady clock.
    this.#channel.onmessage = ({data}) => {
      if (typeof data?.at === "number") onActivity(Math.max(0, Date.now() - data.at));
    };
  }

  /** Announce activity in this tab now. */
  announce() {
    const at = Date.now();
    if (Math.abs(at - this.#announcedAt) < SAME_ACTIVITY_MS) return;
    this.#announcedAt = at;
    this.#channel?.postMessage({at});
  }

  close() {
    this.#channel?.close();
  }
}
