/** The error class of this library, with a `code` for each kind. */

/**
 * @typedef {"bad-password" | "refused" | "unreachable" | "timeout" | "not-allowed" | "lost" | "no-mqtt" | "config"
 *   | "usage" | "payload"} ErrorCode
 */

export class PresenceError extends Error {
  /**
   * @param {ErrorCode} code for programs
   * @param {string} message for people: the problem, the value and the remedy
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
 * Call a callback of the program; report its error as the browser does, and go on.
 *
 * @param {() => void} call
 */
export function guard(call) {
  try {
    call();
  } catch (error) {
    // Thrown in a task of its own, so that `window.onerror` gets it and our state stays consistent.
    queueMicrotask(() => {
      throw error;
    });
  }
}
