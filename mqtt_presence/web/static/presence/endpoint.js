/** How to reach the broker: the arguments that both clients share, checked before anything is touched. */

import {PresenceError} from "./errors.js";
import {freshClientId} from "./ids.js";
import {requireName} from "./topics.js";

/** @typedef {import("./connection.js").Endpoint} Endpoint */

/**
 * @typedef {object} EndpointOptions
 * @property {string | null} [user] as whom to connect
 * @property {string | null} [password]
 * @property {string} [clientId] which of the user's clients; default: a random one, new for each page load. No two may
 *   run at the same time
 * @property {number} [keepAlive] milliseconds until the broker notices that the network is gone, two thirds of them at
 *   least. A hidden page is run once a minute: with less than 60000 it is taken for gone
 * @property {number} [reconnectMin] milliseconds until the first attempt to reconnect; doubled each time, with jitter
 * @property {number} [reconnectMax] the longest delay, milliseconds
 * @property {import("./connection.js").MqttLibrary} [mqtt] MQTT.js, where it is not the one that comes with the package
 */

/**
 * Check the arguments.
 *
 * @param {string | URL} url `ws[s]://host:port/path`, or relative to the page; `http[s]` is read as `ws[s]`
 * @param {EndpointOptions} options
 * @returns {Endpoint}
 * @throws {PresenceError} `config`: one of them is wrong; the message names it and never shows the password
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
