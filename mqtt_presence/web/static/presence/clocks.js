/** The two local clocks, in milliseconds: one to measure with, one that people set. */

/** Return milliseconds that only ever grow. They may stand still while the machine sleeps. */
export const steady = () => performance.now();

/** Return the wall clock, epoch milliseconds. */
export const wall = () => Date.now();

/**
 * Run at intervals, as often as they have passed: a hidden page gets its timers once a minute, and then MQTT.js, which
 * counts calls, would ping too late for the broker.
 *
 * @param {() => void} call
 * @param {number} period milliseconds
 * @returns {() => void} ends it
 */
export function every(call, period) {
  let stopped = false;
  let due = steady() + period;
  const timer = setInterval(() => {
    for (; !stopped && steady() >= due; due += period) call();
  }, period);
  return () => {
    stopped = true;
    clearInterval(timer);
  };
}
