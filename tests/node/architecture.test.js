/** The imports of the browser client's modules. */

import assert from "node:assert/strict";
import {readdir, readFile} from "node:fs/promises";
import {test} from "node:test";

const STATIC = new URL("../../mqtt_presence/web/static/presence/", import.meta.url);
const files = (await readdir(STATIC)).filter((name) => name.endsWith(".js"));
const sources = new Map();
for (const name of files) sources.set(name, await readFile(new URL(name, STATIC), "utf8"));

const code = (name) => sources.get(name).replaceAll(/\/\*.*?\*\/|\/\/ [^\n]*/gs, "");
const imports = (name) => [...code(name).matchAll(/^import .*? from "(.*?)";$/gms)].map(([, from]) => from.replace("./", ""));
const modulesWith = (pattern) => files.filter((name) => pattern.test(code(name)));

/** A pure part, and all of ours that it may import. */
const PURE = {
  "errors.js": [],
  "clocks.js": [],
  "backoff.js": [],
  "time-sync.js": [],
  "ids.js": [],
  "idle-state.js": ["errors.js"],
  "topics.js": ["errors.js"],
  "client-messages.js": ["errors.js"],
  "bridge-presence.js": ["client-messages.js"],
  "status-table.js": ["errors.js", "client-messages.js"],
  "observable.js": ["errors.js"],
};

for (const [name, allowed] of Object.entries(PURE)) {
  test(`${name} knows only what is further in`, () => assert.deepEqual(imports(name), allowed));
}

test("rules get clock, timers and page as arguments", () => {
  for (const name of ["idle-state.js", "time-sync.js", "backoff.js", "status-table.js", "bridge-presence.js", "topics.js"]) {
    assert.doesNotMatch(code(name), /Date\.now|performance|setTimeout|setInterval|window|document|globalThis/, name);
  }
});

test("MQTT.js, the page, topics and JSON fields are each known in one place", () => {
  assert.deepEqual(modulesWith(/\bmqtt\.connect\b|vendor/), ["network-connection.js"]);
  assert.deepEqual(modulesWith(/addEventListener|visibilityState/), ["page-events.js"]);
  assert.deepEqual(modulesWith(/BroadcastChannel\(/), ["shared-activity.js"]);
  assert.deepEqual(modulesWith(/(presence|status|reply|bridge)\//), ["topics.js"]);
  assert.deepEqual(modulesWith(/JSON\.parse/), ["client-messages.js"]);
});

test("no import is from elsewhere, no page is kept from leaving, and sessionStorage is unused", () => {
  for (const name of files) {
    for (const from of imports(name)) assert.ok(files.includes(from), `${name} imports ${from}`);
    assert.doesNotMatch(code(name), /unload|sessionStorage|localStorage|randomUUID|innerHTML|eval\(/, name);
  }
});
