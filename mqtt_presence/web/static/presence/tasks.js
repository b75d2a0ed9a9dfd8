/** A way out of the timers of hidden pages. */

import {isVisible} from "./page.js";

/** @type {(() => void)[]} */
const waiting = [];
/** @type {MessageChannel | null} */
let channel = null;

/**
 * Call at once; in a hidden page as soon as may be, in a task of its own. Calls keep their order.
 *
 * What is done in a timer that came of a timer, and so on, gets no timer in a hidden page but once a minute, not even
 * with no delay (in Chromium, from the fifth on, after five minutes). The streams of MQTT.js go on by such timers: a
 * ping or a report that one of our timers makes would stay there, and the broker would take the client for gone. A
 * message to oneself is no timer, and what comes of it begins anew.
 *
 * @param {() => void} call
 */
export function outsideTimers(call) {
  if (waiting.length === 0 && isVisible()) return call();
  waiting.push(call);
  if (channel === null) {
    channel = new MessageChannel();
    channel.port1.onmessage = () => waiting.shift()?.();
    /** @type {any} */ (channel.port1).unref?.(); // Node waits for no more messages
  }
  channel.port2.postMessage(null);
}
