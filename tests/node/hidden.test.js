/** Hidden pages, in which a timer that came of a timer waits a minute: what is sent does not start from one. */

import assert from "node:assert/strict";
import {AsyncLocalStorage} from "node:async_hooks";
import {test} from "node:test";
import {clearInterval as clearReal, setInterval as setReal} from "node:timers";

import "./support/globals.js";
import {FakeClock, settle} from "./support/clock.js";
import {FakeMqtt} from "./support/mqtt.js";
import {FakePage} from "./support/page.js";
import {PresenceClient} from "../../mqtt_presence/web/static/presence.js";
import {pingTimer} from "../../mqtt_presence/web/static/presence/network-connection.js";
import {outsideTimers} from "../../mqtt_presence/web/static/presence/tasks.js";

/** Wait for messages, which have no clock to move. */
async function until(condition) {
  for (let turn = 0; turn < 2_000 && !condition(); turn += 1) await settle();
  assert.ok(condition(), `never: ${condition}`);
}

test("a page that can be seen, and none at all, call at once", (t) => {
  const calls = [];
  outsideTimers(() => calls.push("no page"));
  new FakePage(t);
  outsideTimers(() => calls.push("visible"));
  assert.deepEqual(calls, ["no page", "visible"]);
});

test("a hidden page calls in a task of its own, soon, and in order, whatever becomes of the page", async (t) => {
  const page = new FakePage(t, {visible: false});
  const calls = [];
  outsideTimers(() => calls.push(1));
  outsideTimers(() => calls.push(2));
  page.show(true);
  outsideTimers(() => calls.push(3));
  assert.deepEqual(calls, []);
  await until(() => calls.length === 3);
  assert.deepEqual(calls, [1, 2, 3]);
  outsideTimers(() => calls.push(4));
  assert.equal(calls.length, 4);
});

test("in a hidden page pings, reports, answers and new connections do not start from a timer", async (t) => {
  const alive = setReal(() => {}, 1_000); // Node would not wait for the messages
  t.after(() => clearReal(alive));
  const timers = new AsyncLocalStorage();
  const clock = new FakeClock(t);
  const fake = {setTimeout: globalThis.setTimeout, setInterval: globalThis.setInterval};
  for (const name of ["setTimeout", "setInterval"]) {
    globalThis[name] = (call, delay) => fake[name](() => timers.run(name, call), delay);
  }
  new FakePage(t, {visible: false});
  const started = [];
  const mqtt = new FakeMqtt();
  const note = (what) => started.push([what, timers.getStore()]);
  const library = {
    connect(url, options) {
      note("connect");
      const connection = mqtt.connect(url, options);
      const {publish} = connection;
      connection.publish = (topic, ...rest) => {
        note(topic.split("/").at(-1));
        publish.call(connection, topic, ...rest);
      };
      return connection;
    },
  };
  const client = new PresenceClient("ws://localhost", {user: "alice", clientId: "tab", reconnectMin: 10, mqtt: library});
  t.after(() => client.disconnect({timeout: 1}));
  const connecting = client.connect();
  mqtt.last.accept();
  await connecting;
  client.monitor.start({threshold: 1_000});
  await until(() => mqtt.last.sent("time").length === 1);
  mqtt.last.tell(clock.wall);
  await until(() => started.some(([what]) => what === "activity"));
  await clock.advance(3_000);
  await until(() => mqtt.last.sent("activity").length === 2);
  timers.run("of MQTT.js", () => mqtt.last.deliver("bridge/announce", {within: 5}));
  const waiting = clock.pending;
  await until(() => clock.pending === waiting + 1);
  await clock.advance(5_000);
  await until(() => mqtt.last.sent("login").length === 2);
  mqtt.last.lose();
  await clock.advance(1_000);
  await until(() => mqtt.clients.length === 2);
  const ping = pingTimer.set(() => note("ping"), 30_000);
  await clock.advance(30_000);
  await until(() => started.some(([what]) => what === "ping"));
  pingTimer.clear(ping);
  assert.deepEqual(new Set(started.map(([what]) => what)), new Set(["connect", "login", "time", "activity", "ping"]));
  assert.deepEqual(started.filter(([, timer]) => timer !== undefined), []);
});
