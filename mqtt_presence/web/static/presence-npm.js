/** The entry of the npm package: `presence.js` with the MQTT.js that npm has installed, for bundlers and Node. */

import mqtt from "mqtt";

import {useMqtt} from "./presence/network-connection.js";

useMqtt(mqtt);

export * from "./presence.js";
