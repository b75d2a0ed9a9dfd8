/** Random ids. */

/**
 * Return a random id. Pages without TLS lack `crypto.randomUUID`, so it is not used.
 *
 * @param {number} bytes the number of random bytes, each of two characters
 * @returns {string} hexadecimal
 */
function randomHex(bytes) {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(values, (value) => value.toString(16).padStart(2, "0")).join("");
}

/** Return a new connection id (docs/protocol.md, "Client messages"). */
export const freshConnectionId = () => randomHex(16);

/**
 * Return a new client id, one for each page load. A duplicated tab gets a copy of sessionStorage, so an id kept there
 * would make the broker disconnect both tabs in turn.
 */
export const freshClientId = () => `js${randomHex(10)}`; // 22 characters: every broker accepts 23 (MQTT 3.1.1 §3.1.3.1)

/** Return a new client id of a page that only looks: a bridge that counts clients by itself does not count it. */
export const freshWatcherId = () => `watch-${randomHex(8)}`;
