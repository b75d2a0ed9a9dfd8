/**
 * A page to order, with the real library, the MQTT.js that is shipped, and real sockets: does the JavaScript that comes
 * in lines of JSON, and answers in lines of JSON. tests/support/node.py holds the strings.
 */

import {createInterface} from "node:readline";

import WebSocket from "ws";

import "./support/globals.js";
import {FakePage} from "./support/page.js";
import {PresenceClient, StatusWatcher} from "../../mqtt_presence/web/static/presence.js";

const DEADLINE_MS = 20_000;
const scope = {};
const sockets = [];
const page = new FakePage({after() {}});

globalThis.WebSocket = class extends WebSocket {
  constructor(...how) {
    super(...how);
    sockets.push(this);
  }
};

async function until(condition) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const answer = condition();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`never: ${condition}; ${JSON.stringify(scope.client?.getSnapshot())}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const names = {scope, sockets, page, until, PresenceClient, StatusWatcher};
const AsyncFunction = Object.getPrototypeOf(until).constructor;

for await (const line of createInterface({input: process.stdin})) {
  let answer;
  try {
    const result = await new AsyncFunction(...Object.keys(names), JSON.parse(line))(...Object.values(names));
    answer = {result: result ?? null};
  } catch (error) {
    answer = {error: {code: error.code ?? error.name, message: error.message}};
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
