/** The endpoint of a connection: arguments that both clients share, checked before anything else. */

import {PresenceError} from "./errors.js";
import {freshClientId} from "./ids.js";
import {requireName} from "./topics.js";

/** @typedef {import("./network-connection.js").Endpoint} Endpoint */

/**
 * @typedef {object} EndpointOptions
 * @property {string | null} [user] the name for the broker
 * @property {string | null} [password]
 * @property {string} [clientId] the id of this client among the user's clients; by default random, new for each page load.
 *   Two clients with one id cannot be connected at the same time
 * @property {number} [keepAlive] the keep alive, milliseconds: the broker publishes the will after one and a half.
 *   Timers of a hidden page run once a minute, so less than 60000 disconnects hidden pages
 * @property {number} [reconnectMin] milliseconds until the first attempt to reconnect; doubled each time, with jitter
 * @property {number} [reconnectMax] the longest delay, milliseconds
 * @property {import("./network-connection.js").MqttLibrary} [mqtt] another MQTT.js than the one in the package
 */

/**
 * Check the arguments.
 *
 * @param {string | URL} url `ws[s]://host:port/path`, or relative to the page; `http[s]` is read as `ws[s]`
 * @param {EndpointOptions} options
 * @returns {Endpoint}
 * @throws {PresenceError} `config`: an argument is wrong; the message has its name, but no password
 */
export function makeEndpoint(url, options) {
  const {user = null, password = null, clientId = freshClientId(), mqtt = null} = options;
  const {keepAlive = 60_000, reconnectMin = 1_000, reconnectMax = 30_000} = options;
  if (password !== null && user === null) {
    throw new PresenceError("config", "password is set but no user: MQTT 3.1.1 has no password without a user");
  }
  if (!(keepAlive >= 1_000 && keepAlive <= 65_535_000)) {
    throw new PresenceError("config", `keepAlive=${keepAlive} must be 1000 to 65535000 milliseconds`);
  }
  if (!(reconnectMin > 0 && reconnectMin <= reconnectMax && reconnectMax < Infinity)) {
    const what = `reconnectMin=${reconnectMin} must be milliseconds above 0 and at most reconnectMax=${reconnectMax}`;
    throw new PresenceError("config", what);
  }
  return {
    url: absolute(url),
    user,
    password,
    clientId: requireName("clientId", clientId),
    keepAlive,
    reconnectMin,
    reconnectMax,
    mqtt,
  };
}

/** @param {string | URL} text */
function absolute(text) {
  let url;
  try {
    url = new URL(text, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch {
    throw new PresenceError("config", "url is none: write ws[s]://host:port/path, or /path where there is a page");
  }
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (!/^wss?:$/.test(url.protocol)) {
    throw new PresenceError("config", `url begins with ${url.protocol} but a browser only has ws: and wss:`);
  }
  if (url.username || url.password) {
    throw new PresenceError("config", "url has a user or a password: pass {user, password} instead");
  }
  url.hash = "";
  return url.href;
}
