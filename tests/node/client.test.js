/** Both clients over a fake MQTT.js: their messages to the broker, and their reconnects. */

import assert from "node:assert/strict";
import {getEventListeners} from "node:events";
import {cp, mkdtemp, rm, writeFile} from "node:fs/promises";
import {tmpdir} from "node:os";
import {join} from "node:path";
import {test} from "node:test";
import {pathToFileURL} from "node:url";

import "./support/globals.js";
import {FakeClock, settle} from "./support/clock.js";
import {FakeMqtt} from "./support/mqtt.js";
import {FakePage} from "./support/page.js";
import {PresenceClient, PresenceError, StatusWatcher} from "../../mqtt_presence/web/static/presence.js";
import {pingTimer} from "../../mqtt_presence/web/static/presence/network-connection.js";

const URL_ = "ws://broker.example:9001/mqtt";

function scene(t, {page = null, ...options} = {}) {
  const clock = new FakeClock(t);
  const fakePage = page && new FakePage(t, page);
  const mqtt = new FakeMqtt();
  const client = new PresenceClient(URL_, {
    user: "alice",
    password: "secret",
    clientId: "phone",
    userAgent: "test",
    reconnectMin: 1_000,
    mqtt,
    ...options,
  });
  t.after(() => client.disconnect({timeout: 1}));
  return {clock, page: fakePage, mqtt, client};
}

/** Connect, and be told the server's time: that of the local clock, plus this. */
async function connected(t, options = {}, ahead = 0) {
  const all = scene(t, options);
  const {client, mqtt, clock} = all;
  const connecting = client.connect();
  mqtt.last.accept();
  await connecting;
  sync(mqtt.last, clock.wall + ahead);
  return all;
}

function sync(connection, serverTime) {
  for (let n = 0; n < 5; n += 1) connection.tell(serverTime);
}

const log = (client, types) => {
  const seen = [];
  for (const type of types) client.addEventListener(type, () => seen.push(type));
  return seen;
};

test("connecting logs in with the id of the will, before any other message", async (t) => {
  const {client, mqtt} = scene(t, {idleThreshold: 60_000, timeout: 90_500, meta: {room: 7}});
  assert.deepEqual([client.connected, client.connectionId, client.error], [false, null, null]);
  const connecting = client.connect();
  const connection = mqtt.last;
  assert.equal(connection.url, URL_);
  const {clientId, username, password, clean, protocolVersion, keepalive, reconnectPeriod} = connection.options;
  assert.deepEqual([clientId, username, password, clean], ["phone", "alice", "secret", true]);
  assert.deepEqual([protocolVersion, keepalive, reconnectPeriod], [4, 60, 0]);
  const {will} = connection;
  assert.equal(will.topic, "presence/alice/phone/will");
  assert.match(will.connectionId, /^[0-9a-f]{32}$/);
  assert.deepEqual([connection.options.will.qos, connection.options.will.retain], [1, false]);
  connection.accept();
  await connecting;
  assert.deepEqual(connection.published[0], {
    ...{topic: "presence/alice/phone/login", qos: 1, connectionId: will.connectionId, userAgent: "test"},
    ...{idleThreshold: 60, timeout: 90.5, announce: true, meta: {room: 7}},
  });
  assert.deepEqual([client.connected, client.connectionId], [true, will.connectionId]);
  assert.deepEqual(connection.subscribed.sort(), ["bridge/announce", "bridge/state", "reply/alice/phone/time"]);
});

test("every topic has the prefix, and a client without `announce` does not subscribe to announcements", async (t) => {
  const {mqtt} = await connected(t, {prefix: "acme/", announce: false});
  assert.deepEqual(mqtt.last.subscribed.sort(), ["acme/bridge/state", "acme/reply/alice/phone/time"]);
  assert.deepEqual([...new Set(mqtt.last.published.map(({topic}) => topic))], [
    "acme/presence/alice/phone/login",
    "acme/presence/alice/phone/time",
  ]);
  assert.equal(mqtt.last.published[0].announce, undefined);
  assert.equal(mqtt.last.will.topic, "acme/presence/alice/phone/will");
});

test("each page load has a client id of its own, and keeps it while it reconnects", async (t) => {
  const {client, clock, mqtt} = await connected(t, {clientId: undefined});
  assert.match(client.clientId, /^js[0-9a-f]{20}$/);
  mqtt.last.lose();
  await clock.advance(1_000);
  assert.deepEqual(mqtt.clients.map(({options}) => options.clientId), [client.clientId, client.clientId]);
  assert.notEqual(new PresenceClient(URL_, {user: "alice"}).clientId, client.clientId);
});

test("a lost connection comes back as a new one, with a new id in will and login, and with its time", async (t) => {
  const {client, clock, mqtt} = await connected(t, {}, 90_000);
  const events = log(client, ["connect", "disconnect", "error"]);
  const first = mqtt.last;
  first.lose();
  assert.deepEqual([client.connected, client.connectionId, client.error.code], [false, null, "lost"]);
  await clock.advance(1_000);
  assert.equal(mqtt.clients.length, 2);
  const began = clock.wall;
  mqtt.last.accept();
  const [login] = mqtt.last.published;
  assert.notEqual(login.connectionId, first.will.connectionId);
  assert.equal(login.connectionId, mqtt.last.will.connectionId);
  assert.equal(login.time, began + 90_000);
  assert.deepEqual([client.connectionId, client.error], [login.connectionId, null]);
  assert.deepEqual(events, ["disconnect", "error", "connect"]);
});

test("callbacks of an old connection are ignored", async (t) => {
  const {client, clock, mqtt} = await connected(t);
  const old = mqtt.last;
  old.lose();
  await clock.advance(1_000);
  mqtt.last.accept();
  old.deliver("bridge/state", {state: "online", version: 9});
  const before = old.published.length;
  old.emit("connect");
  old.lose();
  assert.equal(old.published.length, before);
  assert.deepEqual([client.connected, client.bridgeConnected, mqtt.clients.length], [true, false, 2]);
});

test("delays grow, and a page that becomes visible again reconnects at once", async (t) => {
  const {clock, page, mqtt} = await connected(t, {page: {}});
  mqtt.last.lose();
  for (let n = 0; n < 6; n += 1) {
    await clock.advance(30_000);
    mqtt.last.lose();
  }
  assert.ok(mqtt.clients.length < 12, String(mqtt.clients.length));
  const before = mqtt.clients.length;
  page.show(false);
  assert.equal(mqtt.clients.length, before);
  page.show(true);
  assert.equal(mqtt.clients.length, before + 1);
  mqtt.last.lose();
  page.act("online"); // the network is back
  assert.equal(mqtt.clients.length, before + 2);
});

test("a wrong password is an error, and the first attempt is the only one", async (t) => {
  const {client, clock, mqtt} = scene(t);
  const connecting = client.connect();
  mqtt.last.refuse(5);
  await assert.rejects(connecting, (error) => {
    assert.ok(error instanceof PresenceError);
    assert.equal(error.code, "bad-password");
    assert.match(error.message, /does not know alice with this password/);
    assert.ok(!error.message.includes("secret"));
    return true;
  });
  assert.equal(client.getSnapshot().error.code, "bad-password");
  await clock.advance(100_000);
  assert.equal(mqtt.clients.length, 1);
  const again = client.connect(); // may be tried again
  mqtt.last.accept();
  await again;
  assert.equal(client.error, null);
});

test("other refusals and an unreachable broker are errors", async (t) => {
  const {client, mqtt} = scene(t);
  const refused = client.connect();
  mqtt.last.refuse(3);
  await assert.rejects(refused, {code: "refused"});
  const unreachable = client.connect();
  mqtt.last.lose();
  await assert.rejects(unreachable, {code: "unreachable", message: /cannot be reached/});
});

test("a password that became wrong is tried rarely, and not for a look at the page", async (t) => {
  const {client, clock, page, mqtt} = await connected(t, {page: {}, reconnectMax: 20_000});
  mqtt.last.lose();
  await clock.advance(1_000);
  mqtt.last.refuse(4);
  assert.equal(client.error.code, "bad-password");
  page.show(true);
  await clock.advance(9_000);
  assert.equal(mqtt.clients.length, 2);
  await clock.advance(11_000);
  assert.equal(mqtt.clients.length, 3);
});

test("a broker that never answers is a timeout, and is given up", async (t) => {
  const {client, clock, mqtt} = scene(t);
  const failed = assert.rejects(client.connect({timeout: 3_000}), {code: "timeout"});
  await clock.advance(3_000);
  await failed;
  assert.equal(mqtt.last.end_, "abort");
  await clock.advance(60_000);
  assert.equal(mqtt.clients.length, 1);
});

test("a login that is not acknowledged is an error that names the topic", async (t) => {
  const {client, clock, mqtt} = scene(t);
  const failed = assert.rejects(client.connect({timeout: 3_000}), {
    code: "timeout",
    message: /may alice write presence\/alice\/phone\/login/,
  });
  mqtt.last.acknowledges = false;
  mqtt.last.accept();
  await clock.advance(3_000);
  await failed;
  assert.equal(mqtt.last.end_, "abort");
});

test("without waiting it goes on trying until the broker is there", async (t) => {
  const {client, clock, mqtt} = scene(t);
  await client.connect({wait: false});
  mqtt.last.lose();
  await clock.advance(1_000);
  assert.equal(mqtt.clients.length, 2);
  assert.equal(client.error.code, "unreachable");
  mqtt.last.accept();
  assert.equal(client.connected, true);
});

test("connecting twice is an error, and disconnecting while connecting ends it", async (t) => {
  const {client, mqtt} = scene(t);
  const connecting = client.connect();
  await assert.rejects(client.connect(), {code: "usage"});
  const failed = assert.rejects(connecting, {code: "lost"});
  await client.disconnect();
  await failed;
  assert.equal(mqtt.last.end_, "abort");
});

test("disconnecting logs out, then disconnects, and stops the monitor", async (t) => {
  const {client, clock, mqtt} = await connected(t);
  client.monitor.start();
  const {connectionId} = client;
  const iteration = (async () => {
    let last;
    for await (last of client);
    return last;
  })();
  await settle();
  assert.equal(await client.disconnect(), true);
  const {topic, qos, connectionId: ended} = mqtt.last.published.at(-1);
  assert.deepEqual([topic, qos, ended], ["presence/alice/phone/logout", 1, connectionId]);
  assert.equal(mqtt.last.end_, "disconnect");
  assert.deepEqual([client.connected, client.monitor.isMonitoring, client.error], [false, false, null]);
  assert.equal((await iteration).connected, false);
  assert.equal(clock.pending, 0);
  assert.equal(await client.disconnect(), false);
});

test("without an acknowledgement of the logout, the broker publishes the will", async (t) => {
  const {client, clock, mqtt} = await connected(t);
  mqtt.last.acknowledges = false;
  const leaving = client.logout({timeout: 1_000});
  await clock.advance(1_000);
  assert.equal(await leaving, false);
  assert.equal(mqtt.last.end_, "abort");
});

test("it can connect again after a disconnect, as a new connection", async (t) => {
  const {client, mqtt} = await connected(t);
  const {connectionId} = client;
  await client.disconnect();
  const connecting = client.connect();
  mqtt.last.accept();
  await connecting;
  assert.notEqual(client.connectionId, connectionId);
});

// The bridge

test("the state of the bridge is its own, and unknown without a connection", async (t) => {
  const {client, mqtt} = await connected(t);
  const events = log(client, ["bridge"]);
  assert.equal(client.bridgeConnected, false);
  mqtt.last.deliver("bridge/state", {state: "online", version: 1}, true);
  assert.equal(client.bridgeConnected, true);
  mqtt.last.deliver("bridge/state", "junk");
  assert.equal(client.bridgeConnected, true);
  mqtt.last.deliver("bridge/state", {state: "offline", version: 1});
  assert.equal(client.bridgeConnected, false);
  mqtt.last.deliver("bridge/state", {state: "online", version: 2});
  mqtt.last.lose();
  assert.equal(client.bridgeConnected, false);
  assert.equal(events.length, 4);
});

test("an announcement is answered at once by the same login, and by idle if it is", async (t) => {
  const {client, clock, mqtt} = await connected(t);
  client.monitor.start({threshold: 5_000});
  await clock.advance(6_000);
  const began = clock.wall - 6_000;
  const before = mqtt.last.published.length;
  mqtt.last.deliver("bridge/announce", {}, true); // a retained one is none
  assert.equal(mqtt.last.published.length, before);
  mqtt.last.deliver("bridge/announce", {});
  const [login, report] = mqtt.last.published.slice(before);
  assert.equal(login.topic, "presence/alice/phone/login");
  assert.equal(login.connectionId, client.connectionId);
  assert.equal(login.time, began);
  assert.deepEqual([report.topic, report.idle], ["presence/alice/phone/activity", true]);
});

test("the answer to an announcement waits for a random moment of `within`, and is sent once", async (t) => {
  const {client, clock, mqtt} = await connected(t);
  t.mock.method(Math, "random", () => 0.5);
  const logins = () => mqtt.last.sent("login").length;
  mqtt.last.deliver("bridge/announce", {within: 10});
  mqtt.last.deliver("bridge/announce", {within: 20});
  await clock.advance(4_900);
  assert.equal(logins(), 1);
  await clock.advance(200);
  assert.equal(logins(), 2);
  assert.equal(mqtt.last.sent("login")[1].connectionId, client.connectionId);
  mqtt.last.deliver("bridge/announce", {within: 20});
  mqtt.last.deliver("bridge/announce", {within: 4});
  await clock.advance(2_100);
  assert.equal(logins(), 3);
  mqtt.last.deliver("bridge/announce", {within: 20});
  mqtt.last.deliver("bridge/announce", {});
  assert.equal(logins(), 4);
  mqtt.last.deliver("bridge/announce", {within: 1e300}); // at most an hour
  await clock.advance(1_700_000);
  assert.equal(logins(), 4);
  await clock.advance(200_000);
  assert.equal(logins(), 5);
});

test("an announcement with junk is answered at once", async (t) => {
  const {mqtt} = await connected(t);
  const junk = ["", "x", "[]", "5", ...['-1', '"5"', "null", "true", "[5]", "{}", "0", "NaN"].map((w) => `{"within":${w}}`)];
  for (const [number, payload] of junk.entries()) {
    mqtt.last.deliver("bridge/announce", payload);
    assert.equal(mqtt.last.sent("login").length, number + 2, payload);
  }
});

test("a new connection, or a logout, takes the place of the answer to an announcement", async (t) => {
  const {client, clock, mqtt} = await connected(t);
  mqtt.last.deliver("bridge/announce", {within: 3_600});
  mqtt.last.lose();
  await clock.advance(1_000);
  mqtt.last.accept();
  mqtt.last.deliver("bridge/announce", {within: 60});
  const leaving = client.disconnect();
  mqtt.last.deliver("bridge/announce", {within: 60});
  await leaving;
  await clock.advance(3_700_000);
  assert.deepEqual(mqtt.clients.map((each) => each.sent("login").length), [1, 1]);
});

// Activity and time

test("reports carry the connection's id, and idle is repeated after a reconnect", async (t) => {
  const {client, clock, mqtt} = await connected(t, {}, 90_000);
  client.monitor.start({threshold: 5_000});
  const began = clock.wall + 90_000;
  await clock.advance(6_000);
  const {connectionId} = client;
  const topic = "presence/alice/phone/activity";
  assert.deepEqual(mqtt.last.sent("activity"), [
    {topic, qos: 1, connectionId, idle: false, lastActivity: began},
    {topic, qos: 1, connectionId, idle: true, lastActivity: began},
  ]);
  mqtt.last.lose();
  await clock.advance(1_000);
  mqtt.last.accept();
  const {connectionId: next} = client;
  assert.deepEqual(mqtt.last.published.slice(0, 2).map(({topic: name}) => name), [
    "presence/alice/phone/login",
    topic,
  ]);
  assert.deepEqual(mqtt.last.sent("activity"), [{topic, qos: 1, connectionId: next, idle: true, lastActivity: began}]);
});

test("activity without a connection is in the next login", async (t) => {
  const {client, clock, mqtt} = await connected(t);
  client.monitor.start({threshold: 5_000});
  await clock.advance(6_000);
  mqtt.last.lose();
  client.monitor.ping();
  await clock.advance(1_000);
  mqtt.last.accept();
  assert.deepEqual(mqtt.last.sent("activity").map(({idle}) => idle), [false]);
});

test("a heartbeat is a sign of life without a state, and is not kept", async (t) => {
  const {client, clock, mqtt} = await connected(t);
  assert.equal(client.heartbeat(), true);
  const {connectionId} = client;
  const topic = "presence/alice/phone/activity";
  assert.deepEqual(mqtt.last.sent("activity"), [{topic, qos: 0, connectionId}]);
  client.monitor.start();
  await clock.advance(1_000);
  client.heartbeat();
  assert.deepEqual(mqtt.last.sent("activity").at(-1), {topic, qos: 0, connectionId, lastActivity: clock.wall});
  mqtt.last.lose();
  assert.equal(client.heartbeat(), false);
});

test("the server's time is asked for on connecting, and by resync", async (t) => {
  const {client, clock, mqtt} = scene(t);
  const events = log(client, ["clock"]);
  const connecting = client.connect();
  mqtt.last.accept();
  await connecting;
  assert.equal(client.isSynced, false);
  assert.equal(client.serverTime().getTime(), clock.wall);
  sync(mqtt.last, clock.wall + 3_600_000);
  assert.equal(events.length, 5);
  assert.deepEqual([client.isSynced, client.offset, client.roundTrip], [true, 3_600_000, 0]);
  assert.equal(client.serverTime().getTime(), clock.wall + 3_600_000);
  const resync = client.resync();
  sync(mqtt.last, clock.wall + 7_200_000);
  assert.equal(await resync, true);
  assert.equal(client.offset, 7_200_000);
  const interrupted = client.resync();
  mqtt.last.lose();
  assert.equal(await interrupted, false);
  assert.equal(client.offset, 7_200_000);
});

test("an answer to another client is none", async (t) => {
  const {client, mqtt} = scene(t);
  const connecting = client.connect();
  mqtt.last.accept();
  await connecting;
  const {t0} = mqtt.last.sent("time").at(-1);
  mqtt.last.deliver("reply/alice/laptop/time", {t0, t1: 1, t2: 1});
  mqtt.last.deliver("reply/alice/phone/time", {t0: t0 + 1, t1: 1, t2: 1});
  assert.equal(client.isSynced, false);
});

// The page

test("a page that goes away gives up the socket without a DISCONNECT, and one that is kept comes back", async (t) => {
  const {client, clock, page, mqtt} = await connected(t, {page: {}});
  client.monitor.start({threshold: 5_000});
  const {connectionId} = client;
  page.turn("pagehide", true);
  assert.equal(mqtt.last.end_, "abort");
  assert.equal(mqtt.last.sent("logout").length, 0);
  assert.deepEqual([client.connected, client.error], [false, null]);
  page.show(true);
  page.act("online");
  await clock.advance(60_000);
  assert.equal(mqtt.clients.length, 1); // not before it is back
  page.turn("pageshow", true);
  assert.equal(mqtt.clients.length, 2);
  mqtt.last.accept();
  assert.notEqual(client.connectionId, connectionId);
  assert.equal(client.connected, true);
  assert.deepEqual(mqtt.last.sent("activity").map(({idle}) => idle), [true]);
});

test("the pageshow of every load changes nothing", async (t) => {
  const {client, page, mqtt} = await connected(t, {page: {}});
  page.turn("pageshow", false);
  assert.deepEqual([client.connected, mqtt.clients.length], [true, 1]);
});

test("a page that goes away while it connects goes on when it is back", async (t) => {
  const {client, page, mqtt} = scene(t, {page: {}});
  const connecting = client.connect();
  page.turn("pagehide", true);
  page.turn("pageshow", true);
  mqtt.last.accept();
  await connecting;
  assert.deepEqual([client.connected, mqtt.clients.length], [true, 2]);
});

test("after a disconnect the page is left alone", async (t) => {
  const {client, page, mqtt} = await connected(t, {page: {}});
  await client.disconnect();
  page.turn("pagehide", true);
  page.turn("pageshow", true);
  page.show(true);
  assert.equal(mqtt.clients.length, 1);
  for (const type of ["pagehide", "pageshow", "online"]) assert.deepEqual(getEventListeners(page.window, type), []);
});

test("a keep alive of a minute holds where timers come once a minute, and a dead connection is noticed", async (t) => {
  const clock = new FakeClock(t);
  const calls = []; // of MQTT.js: at the second it pings, at the third it gives up
  const timer = pingTimer.set(() => calls.push(clock.steady), 30_000);
  await clock.sleep(60_000);
  assert.equal(calls.length, 2);
  await clock.sleep(60_000);
  assert.equal(calls.length, 3);
  pingTimer.clear(timer);
  assert.equal(clock.pending, 0);
});

// Arguments

test("arguments that cannot be are named", () => {
  const wrong = [
    [{}, /^user is not set/],
    [{user: "a/b"}, /^user=/],
    [{user: "a", prefix: "#"}, /^prefix=/],
    [{user: "a", idleThreshold: 0}, /^idleThreshold=0/],
    [{user: "a", timeout: -1}, /^timeout=-1/],
    [{user: "a", meta: [1]}, /^meta must be an object/],
    [{user: "a", meta: {a: 1n}}, /^meta cannot be written/],
    [{user: "a", meta: {a: "x".repeat(2_048)}}, /^meta has 2056 bytes/],
    [{user: "a", userAgent: "x".repeat(8_192)}, /^the login has .* shorten userAgent/],
  ];
  for (const [options, message] of wrong) {
    assert.throws(() => new PresenceClient(URL_, options), {code: "config", message}, String(message));
  }
});

test("an error of the browser keeps its message", async (t) => {
  const message = "An insecure WebSocket connection may not be initiated from a page loaded over HTTPS";
  const connect = () => {
    throw new Error(message);
  };
  const {client} = scene(t, {mqtt: {connect}});
  await assert.rejects(client.connect(), {code: "unreachable", message: new RegExp(message)});
});

test("without MQTT.js, the error of connecting has the remedy", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "presence-"));
  t.after(() => rm(directory, {recursive: true}));
  await writeFile(join(directory, "package.json"), '{"type": "module"}');
  const source = new URL("../../mqtt_presence/web/static/", import.meta.url);
  await cp(new URL("presence", source), join(directory, "presence"), {recursive: true});
  await cp(new URL("presence.js", source), join(directory, "presence.js"));
  const {PresenceClient: Bare} = await import(pathToFileURL(join(directory, "presence.js")));
  const client = new Bare(URL_, {user: "alice"});
  await assert.rejects(client.connect(), {code: "no-mqtt", message: /build the package where npm is installed/});
  assert.equal(client.getSnapshot().error.code, "no-mqtt");
});

// Watching

const status = (userId, version, state = "online") => ({userId, version, state, online: state !== "offline"});

test("a watcher shares the client's connection", async (t) => {
  const {client, clock, mqtt} = await connected(t);
  const watcher = new StatusWatcher(client);
  assert.ok(mqtt.last.subscribed.includes("status/+"));
  assert.deepEqual([watcher.connected, watcher.bridge, watcher.stale, watcher.size], [true, "unknown", true, 0]);
  const seen = [];
  watcher.addEventListener("status", ({detail}) => seen.push([detail.userId, detail.before?.state, detail.after?.state]));
  mqtt.last.deliver("bridge/state", {state: "online", version: 1}, true);
  mqtt.last.deliver("status/bob", status("bob", 1), true);
  mqtt.last.deliver("status/alice", status("alice", 4), true);
  mqtt.last.deliver("status/bob", status("bob", 2, "offline"));
  mqtt.last.deliver("status/bob", "");
  assert.deepEqual(seen, [
    ["bob", undefined, "online"],
    ["alice", undefined, "online"],
    ["bob", "online", "offline"],
    ["bob", "offline", undefined],
  ]);
  assert.deepEqual([watcher.stale, watcher.size, watcher.get("alice").version], [false, 1, 4]);
  const {users} = watcher.getSnapshot();
  assert.deepEqual(users.map(({userId}) => userId), ["alice"]);
  mqtt.last.lose();
  assert.deepEqual([watcher.stale, watcher.connected, watcher.size], [true, false, 1]);
  assert.equal(watcher.getSnapshot().error.code, "lost");
  await clock.advance(1_000);
  mqtt.last.accept();
  assert.ok(mqtt.last.subscribed.includes("status/+"));
  await assert.rejects(watcher.connect(), {code: "usage"});
});

test("users without a status after a reconnect are removed, once the bridge is online and no message follows", async (t) => {
  const {client, clock, mqtt} = await connected(t);
  const watcher = new StatusWatcher(client);
  mqtt.last.deliver("status/bob", status("bob", 1), true);
  mqtt.last.deliver("status/alice", status("alice", 1), true);
  mqtt.last.lose();
  await clock.advance(1_000);
  mqtt.last.accept();
  mqtt.last.deliver("status/alice", status("alice", 1), true);
  await clock.advance(60_000);
  assert.equal(watcher.size, 2); // no bridge: who knows
  mqtt.last.deliver("bridge/state", {state: "online", version: 1});
  await clock.advance(4_000);
  assert.equal(watcher.size, 2);
  await clock.advance(2_000);
  assert.deepEqual(watcher.getSnapshot().users.map(({userId}) => userId), ["alice"]);
});

test("statuses are stale after a reconnect, until the broker has sent all of them", async (t) => {
  const {client, clock, mqtt} = await connected(t);
  const watcher = new StatusWatcher(client);
  mqtt.last.deliver("bridge/state", {state: "online", version: 1}, true);
  for (const user of ["alice", "bob"]) mqtt.last.deliver(`status/${user}`, status(user, 1), true);
  assert.equal(watcher.getSnapshot().stale, false);
  mqtt.last.lose();
  await clock.advance(1_000);
  mqtt.last.accept();
  mqtt.last.deliver("bridge/state", {state: "online", version: 1}, true);
  assert.deepEqual([watcher.bridge, watcher.getSnapshot().stale], ["online", true]);
  mqtt.last.deliver("status/alice", status("alice", 2, "offline"), true);
  assert.equal(watcher.getSnapshot().stale, true);
  mqtt.last.deliver("status/bob", status("bob", 1), true); // as it was
  assert.equal(watcher.getSnapshot().stale, false);
});

test("a user without a status is removed although messages of others go on", async (t) => {
  const {client, clock, mqtt} = await connected(t);
  const watcher = new StatusWatcher(client);
  for (const user of ["alice", "bob"]) mqtt.last.deliver(`status/${user}`, status(user, 1), true);
  mqtt.last.lose();
  await clock.advance(1_000);
  mqtt.last.accept();
  mqtt.last.deliver("bridge/state", {state: "online", version: 1}, true);
  await clock.advance(3_000);
  mqtt.last.deliver("status/alice", status("alice", 2), true);
  for (let version = 3; version < 7; version += 1) {
    await clock.advance(1_000);
    mqtt.last.deliver("status/alice", status("alice", version));
  }
  assert.deepEqual([watcher.size, watcher.stale], [2, true]); // a retained one came four seconds ago
  await clock.advance(1_500);
  assert.deepEqual(watcher.getSnapshot().users.map(({userId}) => userId), ["alice"]);
  assert.equal(watcher.getSnapshot().stale, false);
});

test("a watcher that is closed leaves the connection and the other watchers alone", async (t) => {
  const {client, mqtt} = await connected(t);
  const [one, two] = [new StatusWatcher(client), new StatusWatcher(client)];
  await one.close();
  await one.close();
  assert.deepEqual(mqtt.last.unsubscribed, []);
  mqtt.last.deliver("status/bob", status("bob", 1), true);
  assert.deepEqual([one.size, two.size, one.connected, two.connected], [0, 1, false, true]);
  await two.close();
  assert.deepEqual(mqtt.last.unsubscribed, ["status/+"]);
  assert.equal(client.connected, true);
});

test("a watcher with a connection of its own needs no user and leaves no will", async (t) => {
  new FakeClock(t);
  const mqtt = new FakeMqtt();
  const watcher = new StatusWatcher(URL_, {mqtt});
  const connecting = watcher.connect();
  assert.equal(mqtt.last.options.will, undefined);
  assert.equal(mqtt.last.options.username, undefined);
  mqtt.last.accept();
  await connecting;
  assert.deepEqual(mqtt.last.subscribed, ["bridge/state", "status/+"]);
  assert.equal(watcher.connected, true);
  await watcher.close();
  assert.equal(mqtt.last.end_, "disconnect");
  assert.deepEqual([watcher.connected, watcher.stale], [false, true]);
});

test("a watcher without the right to read statuses has an error", async (t) => {
  new FakeClock(t);
  const mqtt = new FakeMqtt();
  const watcher = new StatusWatcher(URL_, {mqtt});
  const connecting = watcher.connect();
  mqtt.last.refuses = ["status/+"];
  mqtt.last.accept();
  await assert.rejects(connecting, {code: "not-allowed", message: /status\/\+/});
  assert.equal(watcher.getSnapshot().error.code, "not-allowed");
});
