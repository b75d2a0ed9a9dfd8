/** The one kind of error that this library raises, told apart by `code`. */

/**
 * @typedef {"bad-password" | "refused" | "unreachable" | "timeout" | "not-allowed" | "lost" | "no-mqtt" | "config"
 *   | "usage" | "payload"} ErrorCode
 */

export class PresenceError extends Error {
  /**
   * @param {ErrorCode} code for programs
   * @param {string} message for people: what, which value, what to do
   * @param {ErrorOptions} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.name = "PresenceError";
    /** @readonly */
    this.code = code;
  }
}

/**
 * Report what somebody else's callback threw, as the browser would, and go on.
 *
 * @param {() => void} call
 */
export function guard(call) {
  try {
    call();
  } catch (error) {
    // Thrown where nothing of ours is on the stack: `window.onerror` sees it, and our state is whole.
    queueMicrotask(() => {
      throw error;
    });
  }
}
