/** Whether the bridge is there, from `bridge/state`. Pure. */

import {decodeBridgeState} from "./wire.js";

/** What is known of the bridge on the present connection: nothing until it says something. */
export class BridgeWatch {
  /** @type {import("./wire.js").BridgeState | null} */
  #last = null;

  /** @returns {"online" | "offline" | "unknown"} */
  get state() {
    return this.#last?.state ?? "unknown";
  }

  get online() {
    return this.state === "online";
  }

  /** The connection to the broker was lost: nothing is known. */
  reset() {
    this.#last = null;
  }

  /**
   * Take a message; true: the bridge has just come.
   *
   * One older than what was heard (the late will of a bridge that another has replaced) is dropped.
   *
   * @param {Uint8Array} payload
   * @throws {import("./errors.js").PresenceError} `payload`: it is none
   */
  take(payload) {
    if (payload.length === 0) {
      this.reset();
      return false;
    }
    const state = decodeBridgeState(payload);
    const before = this.online;
    if (this.#last !== null && state.version < this.#last.version && !startedLater(state, this.#last)) return false;
    this.#last = state;
    return this.online && !before;
  }
}

/**
 * @param {import("./wire.js").BridgeState} state
 * @param {import("./wire.js").BridgeState} than
 */
function startedLater(state, than) {
  return state.startedAt !== null && than.startedAt !== null && state.startedAt > than.startedAt;
}
