/** The presence of the bridge, from `bridge/state`. Pure. */

import {decodeBridgeState} from "./client-messages.js";

/** The state of the bridge on the present connection, unknown until its first message. */
export class BridgePresence {
  /** @type {import("./client-messages.js").BridgeState | null} */
  #last = null;

  /** @returns {"online" | "offline" | "unknown"} */
  get state() {
    return this.#last?.state ?? "unknown";
  }

  get online() {
    return this.state === "online";
  }

  /** Forget the state, after the connection to the broker was lost. */
  reset() {
    this.#last = null;
  }

  /**
   * Receive a message, and return whether the bridge has just come online.
   *
   * A message older than the last one is ignored, such as the late will of a bridge that was replaced.
   *
   * @param {Uint8Array} payload
   * @throws {import("./errors.js").PresenceError} `payload`: the message is not a state of the bridge
   */
  receive(payload) {
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
 * @param {import("./client-messages.js").BridgeState} state
 * @param {import("./client-messages.js").BridgeState} than
 */
function startedLater(state, than) {
  return state.startedAt !== null && than.startedAt !== null && state.startedAt > than.startedAt;
}
