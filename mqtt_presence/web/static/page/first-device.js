/** An empty list: how the first device, and the first other person, appear in it. */

import {html} from "./view.js";

/** @param {{config: import("./api.js").Config}} props */
export function FirstDevice({config}) {
  const {hostname, origin, pathname} = location;
  const broker = config.mqttPort === null ? "-h BROKER" : `-h ${hostname}${config.mqttPort === 1883 ? "" : ` -p ${config.mqttPort}`}`;
  const password = config.open === true ? "" : " -P PASSWORD";
  const topic = `${config.prefix}presence/lamp/lamp-1`;
  const command =
    `(echo {}; cat) | mosquitto_pub ${broker} -u lamp${password} -i lamp-1 -q 1 -l ` +
    `-t ${topic}/login --will-topic ${topic}/will --will-qos 1`;
  return html`
    <div class="card first" id="first-device">
      <h3>Nobody else is here yet</h3>
      <p>A device is online from its login to its end, whatever ends it. Try one in a terminal (Ctrl-D or Ctrl-C ends it):</p>
      <pre><code>${command}</code></pre>
      ${config.open !== true && html`<p class="hint">Its user needs a password at the broker: <code>mqtt-presence passwd lamp</code> for the broker of <code>up</code>.</p>`}
      <p>A person is online with this page open: <code>${origin}${pathname}</code> in another browser.</p>
      <p class="hint">Devices that have topics of their own, such as Tasmota or Zigbee2MQTT: <code>mqtt-presence profiles try</code>.</p>
    </div>`;
}
