/** The small pure parts: delays, ids, topics, arguments, the bridge's state, the users' states. */

import assert from "node:assert/strict";
import {test} from "node:test";

import "./support/globals.js";
import {FakePage} from "./support/page.js";
import {Backoff} from "../../mqtt_presence/web/static/presence/backoff.js";
import {BridgePresence} from "../../mqtt_presence/web/static/presence/bridge-presence.js";
import {makeEndpoint} from "../../mqtt_presence/web/static/presence/endpoint.js";
import {freshClientId, freshConnectionId, freshWatcherId} from "../../mqtt_presence/web/static/presence/ids.js";
import {StatusTable} from "../../mqtt_presence/web/static/presence/status-table.js";
import {Topics, requireName} from "../../mqtt_presence/web/static/presence/topics.js";

const encode = (body) => new TextEncoder().encode(typeof body === "string" ? body : JSON.stringify(body));

// Delays

test("delays double up to the longest, and begin again after a connection that held", () => {
  const backoff = new Backoff(1_000, 30_000, () => 1);
  assert.deepEqual(
    [0, 0, 0, 9_999, 0, 0, 0].map((lived) => backoff.next(lived)),
    [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000],
  );
  assert.equal(backoff.next(10_000), 1_000);
});

test("a random part is up to half of a delay", () => {
  assert.equal(new Backoff(1_000, 30_000, () => 0).next(0), 500);
});

test("slowing down takes the longest delays", () => {
  const backoff = new Backoff(1_000, 30_000, () => 1);
  backoff.slowDown();
  assert.equal(backoff.next(0), 30_000);
});

// Ids

test("ids are random, need no secure context, and fit every broker", () => {
  const {randomUUID} = crypto;
  assert.ok(randomUUID);
  Object.defineProperty(crypto, "randomUUID", {value: undefined, configurable: true}); // as on http://192.168.1.2
  try {
    assert.match(freshConnectionId(), /^[0-9a-f]{32}$/);
    assert.match(freshClientId(), /^js[0-9a-f]{20}$/); // every broker accepts 23 characters
    assert.match(freshWatcherId(), /^watch-[0-9a-f]{16}$/);
    assert.notEqual(freshConnectionId(), freshConnectionId());
    assert.notEqual(freshClientId(), freshClientId());
  } finally {
    delete crypto.randomUUID;
  }
});

// Topics

test("topics are those of the protocol, under the prefix", () => {
  const topics = new Topics("acme");
  assert.equal(topics.input("alice", "phone", "login"), "acme/presence/alice/phone/login");
  assert.equal(topics.reply("alice", "phone"), "acme/reply/alice/phone/time");
  assert.deepEqual(
    [topics.statuses, topics.bridgeState, topics.bridgeAnnounce],
    ["acme/status/+", "acme/bridge/state", "acme/bridge/announce"],
  );
  assert.equal(topics.parseStatus("acme/status/alice"), "alice");
  for (const other of ["status/alice", "acme/status/", "acme/status/a/b", "acme/bridge/state", "x/acme/status/a"]) {
    assert.equal(topics.parseStatus(other), null, other);
  }
  assert.equal(new Topics().statuses, "status/+");
  assert.equal(new Topics("a/b/").statuses, "a/b/status/+");
});

test("prefixes with wildcards, empty levels or a dollar are refused", () => {
  for (const prefix of ["a/+/", "#", "/", "a//b", "$SYS", "a\u0000", "\uffff", "a\ufdd0", "a/\u{1fffe}/"]) {
    assert.throws(() => new Topics(prefix), {code: "config", message: /^prefix=/}, prefix);
  }
});

test("names that are no level of a topic are refused", () => {
  const planes = Array.from({length: 17}, (_, plane) => plane << 16);
  const last = planes.flatMap((plane) => [0xfffe, 0xffff].map((n) => String.fromCodePoint(plane | n)));
  for (const name of [...last, "\ufdd0", "a\ufdef", "", "a/b", "+", "#", "a\n", "\u009f", "\ud800", "x".repeat(129), 7, null, undefined]) {
    assert.throws(() => requireName("user", name), {code: "config", message: /^user=/}, String(name));
  }
  for (const name of ["a", "<b>", "\ufdcf\ufdf0\ufffd\u{1fffd}", "Zoë", "😀", "x".repeat(128), "😀".repeat(128)]) {
    assert.equal(requireName("user", name), name);
  }
});

// Arguments

test("the url may be relative to the page, and http is read as ws", (t) => {
  new FakePage(t, {url: "https://example.org/a/page.html?x"});
  const url = (text) => makeEndpoint(text, {}).url;
  assert.equal(url("/mqtt"), "wss://example.org/mqtt");
  assert.equal(url("mqtt"), "wss://example.org/a/mqtt");
  assert.equal(url("http://10.0.0.1:9001/#x"), "ws://10.0.0.1:9001/");
  assert.equal(url(new URL("ws://[::1]:9001/mqtt")), "ws://[::1]:9001/mqtt");
});

test("invalid arguments are named, without the password", () => {
  const ws = "ws://localhost";
  const wrong = [
    ["/mqtt", {}, /^url is none/],
    ["mqtt://localhost", {}, /^url begins with mqtt:/],
    ["ws://alice:secret@localhost", {}, /^url has a user or a password/],
    [ws, {password: "secret"}, /^password is set but no user/],
    [ws, {clientId: "a/b"}, /^clientId=/],
    [ws, {keepAlive: 500}, /^keepAlive=500/],
    [ws, {keepAlive: NaN}, /^keepAlive=NaN/],
    [ws, {reconnectMin: 0}, /^reconnectMin=0/],
    [ws, {reconnectMin: 2, reconnectMax: 1}, /^reconnectMin=2 .*reconnectMax=1/],
  ];
  for (const [url, options, message] of wrong) {
    assert.throws(
      () => makeEndpoint(url, options),
      (error) => error.code === "config" && message.test(error.message) && !error.message.includes("secret"),
    );
  }
});

// The bridge

test("the bridge is online after its message on this connection", () => {
  const bridge = new BridgePresence();
  assert.deepEqual([bridge.state, bridge.online], ["unknown", false]);
  assert.equal(bridge.receive(encode({state: "online", version: 1})), true);
  assert.equal(bridge.receive(encode({state: "online", version: 2})), false);
  assert.equal(bridge.online, true);
  assert.equal(bridge.receive(encode({state: "offline", version: 3})), false);
  assert.equal(bridge.state, "offline");
  bridge.reset();
  assert.equal(bridge.state, "unknown");
});

test("the late will of a bridge that was replaced is dropped; one that began anew is not", () => {
  const bridge = new BridgePresence();
  const [early, late] = ["2026-11-24T10:00:00.000Z", "2026-11-24T11:00:00.000Z"];
  bridge.receive(encode({state: "online", version: 5, startedAt: early}));
  bridge.receive(encode({state: "offline", version: 4, startedAt: early}));
  assert.equal(bridge.online, true);
  bridge.receive(encode({state: "offline", version: 1, startedAt: late}));
  assert.equal(bridge.online, false);
});

test("an empty state is forgotten, and junk is refused", () => {
  const bridge = new BridgePresence();
  bridge.receive(encode({state: "online", version: 5}));
  for (const junk of ["x", [], {}, {state: "on"}, {state: "online", version: -1}, {state: "online", startedAt: "1"}]) {
    assert.throws(() => bridge.receive(encode(junk)), {code: "payload"});
  }
  assert.equal(bridge.online, true);
  bridge.receive(encode(""));
  assert.equal(bridge.state, "unknown");
});

// The users

const status = (userId, version, state = "online") =>
  encode({userId, version, state, online: state !== "offline", connections: state === "offline" ? 0 : 1});

test("a status is read whole, frozen, with dates", () => {
  const roster = new StatusTable();
  const moment = "2026-11-24T21:47:00.123Z";
  const body = {
    ...{userId: "alice", state: "idle", online: true, idle: true, since: moment, lastActivity: moment, lastSeen: moment},
    ...{lastLogin: {date: moment, ipAddr: "::1"}, connections: 2, version: 17, more: "ignored"},
  };
  const {before, after, userId} = roster.apply("alice", encode(body));
  const date = new Date(moment);
  assert.deepEqual([userId, before], ["alice", null]);
  assert.deepEqual(after, {
    ...{userId: "alice", state: "idle", online: true, idle: true, since: date, lastActivity: date, lastSeen: date},
    ...{lastLogin: {date, ipAddr: "::1", userAgent: null}, connections: 2, version: 17},
  });
  assert.ok(Object.isFrozen(after) && Object.isFrozen(after.lastLogin));
});

test("versions decide, not arrival", () => {
  const roster = new StatusTable();
  roster.apply("alice", status("alice", 2));
  assert.equal(roster.apply("alice", status("alice", 1, "offline")), null);
  assert.equal(roster.apply("alice", status("alice", 2, "offline")), null); // the same once more
  assert.equal(roster.users.get("alice").state, "online");
  const {before, after} = roster.apply("alice", status("alice", 3, "offline"));
  assert.deepEqual([before.version, after.version], [2, 3]);
  assert.deepEqual(roster.ignored, {payload: 0, stale: 1});
});

test("a forgotten user is removed, and returns with a newer version only", () => {
  const roster = new StatusTable();
  roster.apply("alice", status("alice", 2));
  assert.equal(roster.apply("alice", encode("")).after, null);
  assert.equal(roster.apply("alice", encode("")), null);
  assert.equal(roster.apply("alice", status("alice", 2)), null);
  assert.equal(roster.apply("alice", status("alice", 3)).before, null);
});

test("a user without a status after a reconnect was forgotten meanwhile", () => {
  const roster = new StatusTable();
  roster.apply("alice", status("alice", 2));
  roster.apply("bob", status("bob", 2));
  roster.reconnected();
  roster.apply("bob", status("bob", 2));
  assert.deepEqual(roster.prune().map(({userId}) => userId), ["alice"]);
  assert.deepEqual(roster.prune(), []);
  assert.deepEqual(roster.sorted().map(({userId}) => userId), ["bob"]);
  assert.notEqual(roster.apply("alice", status("alice", 1)), null); // its database may be new as well
});

test("users are sorted, and their array is frozen", () => {
  const roster = new StatusTable();
  for (const name of ["bob", "Zoë", "alice"]) roster.apply(name, status(name, 1));
  assert.deepEqual(roster.sorted().map(({userId}) => userId), ["Zoë", "alice", "bob"]);
  const sorted = roster.sorted();
  assert.ok(Object.isFrozen(sorted));
  assert.equal(roster.sorted(), sorted);
  roster.apply("bob", status("bob", 2, "offline"));
  assert.deepEqual(roster.sorted().map(({version}) => version), [1, 1, 2]);
  assert.deepEqual(sorted.map(({version}) => version), [1, 1, 1]);
});

test("whatever comes and goes, the array is that of the users, sorted", () => {
  const roster = new StatusTable();
  let seed = 7;
  const roll = (below) => (seed = (seed * 16_807) % 2_147_483_647) % below;
  for (let step = 1; step < 3_000; step += 1) {
    const name = `user${roll(60)}`;
    roster.apply(name, roll(3) ? status(name, step) : encode(""));
    if (roll(4)) continue; // some changes at once
    assert.deepEqual(roster.sorted().map(({userId}) => userId), [...roster.users.keys()].sort());
    assert.ok(roster.sorted().every((user) => user === roster.users.get(user.userId)));
  }
});

test("sorting after each of thousands of users is fast", () => {
  const roster = new StatusTable();
  const began = performance.now();
  for (let n = 0; n < 5_000; n += 1) {
    const name = `user${(n * 7_919) % 5_000}`;
    roster.apply(name, status(name, 1));
    roster.sorted();
  }
  assert.equal(roster.sorted().length, 5_000);
  assert.ok(performance.now() - began < 2_000, `${performance.now() - began} ms`); // sorting each time took 8000
});

test("an invalid status is counted, and has no effect", () => {
  const roster = new StatusTable();
  const good = {userId: "alice", state: "online", online: true, version: 1};
  const junk = [
    "x",
    "[]",
    "null",
    {...good, userId: "bob"},
    {...good, state: "away"},
    {...good, online: 1},
    {...good, idle: "no"},
    {...good, version: 1.5},
    {...good, version: undefined},
    {...good, connections: -1},
    {...good, since: "yesterday"},
    {...good, since: "2026-11-24T21:47:00"},
    {...good, lastLogin: {}},
    {...good, lastLogin: "now"},
    {...good, more: "x".repeat(9_000)},
  ];
  for (const body of junk) assert.equal(roster.apply("alice", encode(body)), null, JSON.stringify(body));
  assert.equal(roster.apply("alice", new Uint8Array([0xff])), null);
  assert.deepEqual(roster.ignored, {payload: junk.length + 1, stale: 0});
  assert.notEqual(roster.apply("alice", encode(good)), null);
});
