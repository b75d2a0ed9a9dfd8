/** The two local clocks, in milliseconds: a steady clock to measure with, and the wall clock. */

/** Return the steady clock, which never goes back. Some browsers stop it while the machine sleeps. */
export const steady = () => performance.now();

/** Return the wall clock, epoch milliseconds. */
export const wall = () => Date.now();

/**
 * Wait for a promise; return false if it did not resolve to true in time.
 *
 * @param {number} millis
 * @param {Promise<boolean> | null | undefined} promise
 * @returns {Promise<boolean>}
 */
export async function within(millis, promise) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const late = new Promise((/** @type {(value: boolean) => void} */ resolve) => {
    timer = setTimeout(() => resolve(false), Math.max(100, millis));
  });
  const answer = await Promise.race([promise ?? false, late]);
  clearTimeout(timer);
  return answer;
}
