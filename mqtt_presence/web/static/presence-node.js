/** The entry of the npm package in Node: as `presence-npm.js`, with the WebSocket of `ws` for Node before 22. */

import mqtt from "mqtt";
import {WebSocket} from "ws";

import {useMqtt} from "./presence/network-connection.js";

useMqtt(mqtt, globalThis.WebSocket ?? /** @type {any} */ (WebSocket));

export * from "./presence.js";
