/** Random ids. */

/**
 * Make up an id; on plain-http pages too, where there is no `crypto.randomUUID`.
 *
 * @param {number} bytes how much chance; each makes two characters
 * @returns {string} hexadecimal
 */
function randomHex(bytes) {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(values, (value) => value.toString(16).padStart(2, "0")).join("");
}

/** Name a connection: new for each one (contract section 2). */
export const freshConnectionId = () => randomHex(16);

/**
 * Name a client: new for each page load. Not kept in sessionStorage, which a duplicated tab gets a copy of: two
 * clients of one name would push each other off the broker for ever.
 */
export const freshClientId = () => `js${randomHex(10)}`; // 22 characters: every broker takes 23 (MQTT 3.1.1 §3.1.3.1)
