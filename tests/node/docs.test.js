/** docs/browser.md names all there is. */

import assert from "node:assert/strict";
import {readFile} from "node:fs/promises";
import {test} from "node:test";

import "./support/globals.js";
import {FakeMqtt} from "./support/mqtt.js";
import {PresenceClient, StatusWatcher} from "../../mqtt_presence/web/static/presence.js";

const read = (path) => readFile(new URL(`../../${path}`, import.meta.url), "utf8");
const STATIC = "mqtt_presence/web/static/presence";
const docs = (await read("docs/browser.md")).replaceAll(/^```.*?^```/gms, "");

/** The names in code: `a`, `a()`, `{a, b}`, `a = 1`. */
const named = new Set([...docs.matchAll(/`([^`]+)`/g)].flatMap(([, code]) => code.match(/[\w-]+/g) ?? []));

const assertNamed = (names) => {
  const all = [...names];
  assert.ok(all.length > 0);
  assert.deepEqual(all.filter((name) => !named.has(name)), []);
};

const members = (kind) => Object.getOwnPropertyNames(kind.prototype).filter((name) => name !== "constructor");

test("every option is documented", async () => {
  const sources = [await read(`${STATIC}/presence-client.js`), await read(`${STATIC}/endpoint.js`)].join();
  assertNamed([...sources.matchAll(/@property \{.*?\} \[(\w+)\]/g)].map(([, name]) => name));
});

test("everything public is documented", () => {
  const client = new PresenceClient("ws://localhost", {user: "alice", mqtt: new FakeMqtt()});
  const internal = new Set(["join", "topics"]);
  assertNamed(members(PresenceClient).filter((name) => !internal.has(name)));
  assertNamed(members(StatusWatcher).filter((name) => !internal.has(name)));
  assertNamed(Object.keys(client.getSnapshot()));
  assertNamed(Object.keys(new StatusWatcher(client).getSnapshot()));
});

test("every event and every error code is documented", async () => {
  const sources = [await read(`${STATIC}/presence-client.js`), await read(`${STATIC}/status-watcher.js`)].join();
  assertNamed([...sources.matchAll(/\.emit\("(\w+)"/g)].map(([, name]) => name));
  const [, codes] = (await read(`${STATIC}/errors.js`)).match(/@typedef \{([^}]*)\} ErrorCode/);
  assertNamed(codes.match(/[\w-]+/g).filter((code) => code !== "payload")); // that one stays inside
});
