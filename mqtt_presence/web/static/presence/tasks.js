/** Tasks outside timers, which hidden pages delay. */

import {isVisible} from "./page-events.js";

/** @type {(() => void)[]} */
const waiting = [];
/** @type {MessageChannel | null} */
let channel = null;

/**
 * Call a function at once; in a hidden page as soon as possible, in a task of its own. Calls keep their order.
 *
 * In a hidden page, timers that were set by timers run once a minute, even without a delay (in Chromium, from the fifth
 * link of such a chain on, after five minutes). The streams of MQTT.js use such timers. So a ping or a report from one
 * of our timers would wait, and the broker would end the connection. A message from the page to itself is not a timer,
 * and timers set in its handler begin a new chain.
 *
 * @param {() => void} call
 */
export function outsideTimers(call) {
  if (waiting.length === 0 && isVisible()) return call();
  waiting.push(call);
  if (channel === null) {
    channel = new MessageChannel();
    channel.port1.onmessage = () => waiting.shift()?.();
    /** @type {any} */ (channel.port1).unref?.(); // so that Node can exit
  }
  channel.port2.postMessage(null);
}
