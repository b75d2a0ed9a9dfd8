/** The two local clocks, in milliseconds: one to measure with, one that people set. */

/** Return milliseconds that only ever grow. They may stand still while the machine sleeps. */
export const steady = () => performance.now();

/** Return the wall clock, epoch milliseconds. */
export const wall = () => Date.now();

/**
 * Wait for a promise; false: it was not true in time.
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
