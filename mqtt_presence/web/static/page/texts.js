/** Texts of the page about errors and the state of the connection. Pure. */

/** @typedef {import("../presence/errors.js").PresenceError} PresenceError */

/**
 * Return the text for a failed login.
 *
 * @param {PresenceError} error
 * @param {{mqttUrl: string}} config
 */
export function explainError(error, {mqttUrl}) {
  switch (error.code) {
    case "bad-password":
      return "The broker does not know this name with this password.";
    case "no-mqtt":
      return NO_MQTT;
    case "unreachable":
      return `The broker cannot be reached at ${mqttUrl}. Is it running, and does it accept this page?`;
    case "timeout":
      return `The broker at ${mqttUrl} did not answer in time.`;
    case "config":
      return sentence(error.message.replace(/^user=("(?:[^"\\]|\\.)*")/, "The name $1"));
    default:
      return sentence(error.message);
  }
}

/** The text for an installation without MQTT.js. */
export const NO_MQTT =
  "MQTT.js is not part of this installation, so this page cannot connect. Install npm where the package is built " +
  "(Debian: apt-get install npm) and build it again. Broker, bridge and commands work without it.";

/** @param {string} text */
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.?!]$/.test(text) ? "" : ".");

/**
 * @typedef {object} Situation
 * @property {boolean} connected
 * @property {PresenceError | null} error
 * @property {"online" | "offline" | "unknown"} bridge
 * @property {boolean} stale whether the page shows the last known state
 * @property {number} unknownFor milliseconds without a state of the bridge
 */

/** Milliseconds to wait for the bridge's state, which is retained: without one, no bridge has run. */
const BRIDGE_IS_LATE_MS = 3_000;

/**
 * Return the state of the connection as a word and a sentence.
 *
 * @param {Situation} situation
 * @returns {{level: "good" | "wait" | "bad", word: string, notice: string}}
 */
export function describe({connected, error, bridge, stale, unknownFor}) {
  if (!connected) {
    if (error?.code === "bad-password") {
      const notice = "The broker no longer accepts this name and password. Sign out, and in again.";
      return {level: "bad", word: "Signed off", notice: notice + SHOWN};
    }
    return {level: "bad", word: "No broker", notice: `The connection to the broker is lost. Trying again.${SHOWN}`};
  }
  if (error?.code === "not-allowed") return {level: "bad", word: "Not allowed", notice: sentence(error.message)};
  if (bridge === "online" && stale) return {level: "wait", word: "Catching up", notice: ""};
  if (bridge === "online") return {level: "good", word: "Live", notice: ""};
  if (bridge === "unknown" && unknownFor < BRIDGE_IS_LATE_MS) return {level: "wait", word: "Connecting", notice: ""};
  const what =
    bridge === "offline"
      ? "The bridge is offline, so changes are not recorded."
      : "The state of the bridge is unknown, so changes may not be recorded.";
  return {level: "bad", word: "No bridge", notice: what + SHOWN};
}

const SHOWN = " This page shows the last known state.";
