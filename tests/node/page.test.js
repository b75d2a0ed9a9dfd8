/** The pure modules of the live page: selection, order, texts, names, times and timelines. */

import assert from "node:assert/strict";
import {test} from "node:test";

import {Arrivals} from "../../mqtt_presence/web/static/page/arrivals.js";
import {Answers, Live} from "../../mqtt_presence/web/static/page/freshness.js";
import {agent, hue, initial, visible} from "../../mqtt_presence/web/static/page/display-names.js";
import {devices, dropsADay, timeOnline} from "../../mqtt_presence/web/static/page/presence-figures.js";
import {fromField, rangeOf, toField} from "../../mqtt_presence/web/static/page/ranges.js";
import {hrefOf, parseRoute} from "../../mqtt_presence/web/static/page/route.js";
import {lastThere, UserList} from "../../mqtt_presence/web/static/page/user-list.js";
import {bars, endOf, marks} from "../../mqtt_presence/web/static/page/timeline.js";
import {ago, duration, roughly, secondsAgo, small} from "../../mqtt_presence/web/static/page/times.js";
import {past, stateOf} from "../../mqtt_presence/web/static/page/why-panel.js";
import {describe, explainError} from "../../mqtt_presence/web/static/page/texts.js";

const HOUR = 3_600_000;

// Whom to show

const user = (userId, state, more = {}) => ({
  userId,
  state,
  online: state !== "offline",
  since: null,
  lastLogin: null,
  lastActivity: null,
  lastSeen: null,
  connections: 0,
  version: 1,
  ...more,
});
const EVERYBODY = [user("B", "offline"), user("a10", "idle"), user("a2", "online"), user("me", "offline"), user("zoe", "online")];
const call = (selection, users = EVERYBODY) =>
  new UserList().select(users, {me: "me", filter: "all", search: "", order: "state", reverse: false, limit: 100, ...selection});
const names = ({shown}) => shown.map(({userId}) => userId);

test("the own name is first, then users online, idle and offline, each sorted by name", () => {
  assert.deepEqual(names(call({})), ["me", "a2", "zoe", "a10", "B"]);
  assert.deepEqual(names(call({order: "name"})), ["me", "a2", "a10", "B", "zoe"]);
  assert.deepEqual(names(call({order: "name", reverse: true})), ["me", "zoe", "B", "a10", "a2"]);
  assert.deepEqual(names(call({reverse: true})), ["me", "B", "a10", "a2", "zoe"]);
});

test("the counts follow the search, and not the filter", () => {
  const found = call({filter: "online", search: " ZO "});
  assert.deepEqual(names(found), ["zoe"]);
  assert.deepEqual(found.counts, {all: 1, online: 1, idle: 0, offline: 0});
  assert.deepEqual(call({filter: "online"}).counts, {all: 5, online: 2, idle: 1, offline: 2});
});

test("those who left last are offline, match the search, and are three", () => {
  const left = (userId, ms) => user(userId, "offline", {since: ms === null ? null : new Date(ms)});
  const users = [left("a", 1), left("b", 5), user("c", "online", {since: new Date(9)}), left("d", 3), left("e", 4), left("f", null)];
  const gone = (selection) => call(selection, users).leftLast.map(({userId}) => userId);
  assert.deepEqual(gone({}), ["b", "e", "d"]);
  assert.deepEqual(gone({search: "a", filter: "online"}), ["a"]);
  assert.deepEqual(gone({search: "f"}), []);
});

test("an active user is here now, an idle one was at the last activity, an absent one at the last sign of life", () => {
  const [seen, active] = [new Date(2), new Date(1)];
  const was = (state, more) => lastThere(user("u", state, {lastSeen: seen, ...more}));
  assert.deepEqual([was("online", {}), was("idle", {lastActivity: active}), was("idle", {}), was("offline", {})], [null, active, seen, seen]);
  const users = [user("a", "offline", {lastSeen: seen}), user("b", "online"), user("c", "idle", {lastActivity: active})];
  assert.deepEqual(names(call({order: "seen"}, users)), ["b", "a", "c"]);
});

test("the latest come first where time decides, who has none last", () => {
  const at = (ms) => ({since: new Date(ms)});
  const users = [user("a", "online", at(1)), user("b", "idle", at(3)), user("c", "offline"), user("d", "online", at(2))];
  assert.deepEqual(names(call({order: "since"}, users)), ["b", "d", "a", "c"]);
});

test("beyond the limit nobody is shown, but counted", () => {
  const many = Array.from({length: 250}, (_, index) => user(`u${index}`, "online"));
  const found = call({limit: 100}, many);
  assert.equal(found.shown.length, 100);
  assert.equal(found.matching, 250);
  assert.deepEqual(names(found).slice(0, 3), ["u0", "u1", "u2"]);
});

test("users that come and go are learned", () => {
  const userList = new UserList();
  const selection = {me: "", filter: "all", search: "", order: "name", reverse: false, limit: 9};
  assert.deepEqual(names(userList.select([user("b", "idle")], selection)), ["b"]);
  assert.deepEqual(names(userList.select([user("a", "idle"), user("b", "idle")], selection)), ["a", "b"]);
  assert.deepEqual(names(userList.select([user("a", "idle"), user("c", "idle")], selection)), ["a", "c"]);
});

// Names

test("invisible characters in a name are escaped, and joined emoji stay whole", () => {
  assert.equal(visible("e\u202evil\u200b\u{e0041}"), "e\\u202evil\\u200b\\u{e0041}");
  assert.equal(visible("👩‍🚀 Ольга עדי"), "👩‍🚀 Ольга עדי");
  assert.equal(visible("a\u200db"), "a\\u200db");
});

test("a name has one letter, also without a letter", () => {
  assert.deepEqual(["alice", "_zoe", "👩‍🚀x", "---", "ß"].map(initial), ["A", "Z", "👩‍🚀", "?", "SS"]);
});

test("a colour is always the same, and names differ", () => {
  assert.equal(hue("alice"), hue("alice"));
  const hues = new Set(Array.from({length: 100}, (_, index) => hue(`user-${index}`)));
  assert.ok(hues.size > 60, `${hues.size} hues`);
  for (const value of hues) assert.ok(value >= 0 && value < 360);
});

test("browsers are called by their names, others as they call themselves", () => {
  const webkit = "AppleWebKit/537.36 (KHTML, like Gecko)";
  assert.equal(agent(`Mozilla/5.0 (X11; Linux x86_64) ${webkit} Chrome/156.0.0.0 Safari/537.36`), "Chrome 156 on Linux");
  assert.equal(
    agent(`Mozilla/5.0 (Windows NT 10.0) ${webkit} Chrome/156.0.0.0 Safari/537.36 Edg/156.0.0.0`),
    "Edge 156 on Windows",
  );
  assert.equal(agent("Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0"), "Firefox 140 on Android");
  assert.equal(agent("my\u200bdevice 1.2"), "my\\u200bdevice 1.2");
});

// Times

test("durations are in the unit that fits", () => {
  assert.deepEqual([0, 59_999, 60_000, 47 * HOUR, 48 * HOUR].map(roughly), ["now", "now", "1 min", "47 h", "2 days"]);
  assert.deepEqual([59_999, 60_000].map(ago), ["just now", "1 min ago"]);
  assert.deepEqual([400, 4_000, 299_000, 300_000].map(secondsAgo), ["just now", "4s ago", "4m 59s ago", "5 min ago"]);
  assert.deepEqual([-5, 0, 61_000, 3_601_000, 90_061_000].map(duration), ["0s", "0s", "1m 1s", "1h", "1d 1h"]);
  assert.deepEqual([1.26, -12.3, 65_000, -65_000].map(small), ["1.3 ms", "-12 ms", "1m 5s", "-1m 5s"]);
});

// Timelines

const record = (loginTime, logoutTime, more = {}) => ({
  userId: "u",
  clientId: "c",
  connectionId: `${loginTime}`,
  loginTime,
  logoutTime,
  reason: logoutTime === null ? null : "logout",
  cause: null,
  idle: null,
  lastActivity: null,
  ...more,
});

test("a bar for each connection that was there, cut at both ends", () => {
  const placed = bars([record(50, null), record(-50, 20), record(-90, -10), record(null, null)], 0, 100);
  assert.deepEqual(
    placed.map(({left, width, cut, state}) => [left, width, cut, state]),
    [[0, 0.2, true, "ended"], [0.5, 0.5, false, "online"]],
  );
});

test("bars that overlap have lanes of their own, and a lane is used again", () => {
  const placed = bars([record(0, 50), record(10, 20), record(20, 30), record(60, 70)], 0, 100);
  assert.deepEqual(placed.map(({lane}) => lane), [0, 1, 1, 0]);
});

test("an idle connection is idle from its last activity", () => {
  const [bar] = bars([record(0, null, {idle: true, lastActivity: 25})], 0, 100);
  assert.deepEqual([bar.state, bar.idleFrom], ["idle", 0.25]);
});

test("an open connection goes no further than it is known to", () => {
  const records = [record(0, null), record(10, null, {idle: true, lastActivity: 20}), record(70, null), record(80, 90)];
  assert.deepEqual(
    bars(records, 0, 100, 60).map(({left, width, idleFrom}) => [left, width, idleFrom]),
    [[0, 0.6, 1], [0.1, 0.5, 0.2], [0.7, 0, 1], [0.8, 0.1, 1]],
  );
  assert.equal(bars([record(0, null)], 70, 170, 60).length, 0); // long before all that is shown
});

test("an end that nobody wanted is another state", () => {
  const reasons = ["logout", "superseded", "lost", "timeout", "unconfirmed"];
  const placed = bars(reasons.map((reason, index) => record(index, index + 1, {reason})), 0, 100);
  assert.deepEqual(placed.map(({state}) => state), ["ended", "ended", "lost", "lost", "lost"]);
});

test("an end has the broker's cause, if known", () => {
  assert.deepEqual(
    [record(0, 1), record(0, 1, {reason: "lost", cause: "keepAlive"})].map(endOf),
    ["logout", "lost (keepAlive)"],
  );
});

test("the labels are full hours where one is, or days of a longer period, at most eight", () => {
  const day = marks(HOUR / 2, 24.5 * HOUR, 5.5 * HOUR);
  assert.deepEqual(day.map(({at}) => (at / HOUR + 5.5) % 24), [6, 9, 12, 15, 18, 21, 0, 3]);
  assert.ok(day[0].left === 0 || day[0].left > 0);
  assert.deepEqual(marks(0, HOUR, 0).map(({at}) => at / HOUR * 6), [0, 1, 2, 3, 4, 5]);
  assert.deepEqual(marks(HOUR, 169 * HOUR, 0).map(({at}) => at / HOUR), [24, 48, 72, 96, 120, 144, 168]);
  assert.ok(marks(0, 40_000 * HOUR, 0).length <= 8);
});

// Figures of a user

test("a device is its latest connection; those that are open come first", () => {
  const of = (clientId, loginTime, logoutTime) => record(loginTime, logoutTime, {clientId, lastSeen: logoutTime ?? loginTime});
  const found = devices([of("a", 1, 5), of("b", 2, null), of("a", 6, 9), of("c", 0, 12)]);
  assert.deepEqual(found.map(({clientId, loginTime}) => [clientId, loginTime]), [["b", 2], ["c", 0], ["a", 6]]);
});

test("time online counts simultaneous connections once, within the period", () => {
  const records = [record(-50, 20), record(10, 30), record(40, 50), record(90, null), record(null, 60), record(200, null)];
  assert.equal(timeOnline(records, 0, 100), 30 + 10 + 10);
  assert.equal(timeOnline([], 0, 100), 0);
});

test("drops are ends without a logout, a day", () => {
  const DAY = 24 * HOUR;
  const ended = (at, reason) => record(0, at, {reason});
  const records = [ended(1, "lost"), ended(2, "logout"), ended(DAY, "timeout"), ended(3 * DAY, "unconfirmed"), record(0, null), ended(9 * DAY, "lost")];
  assert.equal(dropsADay(records, 0, 4 * DAY), 0.75);
  assert.equal(dropsADay(records, 0, HOUR), 1); // of a part of a day
});

// Addresses

test("an address has the view, the user and the choices", () => {
  assert.deepEqual(parseRoute("?state=offline&q=a+b", "#people"), {view: "people", user: "", query: {state: "offline", q: "a b"}});
  assert.deepEqual(parseRoute("", ""), {view: "people", user: "", query: {}});
  assert.deepEqual(parseRoute("", "#person/a%2Fb%25"), {view: "person", user: "a/b%", query: {}});
  assert.deepEqual(parseRoute("", "#history/old").view, "person"); // links of earlier versions
  assert.deepEqual(parseRoute("", "#person").view, "people");
  assert.deepEqual(parseRoute("", "#person/%ff").view, "people");
  for (const route of [
    {view: "history", user: "", query: {range: "7d"}},
    {view: "person", user: "<é/?#&>", query: {}},
    {view: "people", user: "", query: {q: "&=?#"}},
  ]) {
    const url = new URL(hrefOf(route), "http://host/below/");
    assert.equal(url.pathname, "/below/");
    assert.deepEqual(parseRoute(url.search, url.hash), route);
  }
  assert.equal(hrefOf({view: "people", query: {q: ""}}), "./#people");
});

test("a period is a length up to now, or two moments in any order", () => {
  const now = 100 * 24 * HOUR;
  assert.deepEqual([rangeOf({}, now).from, rangeOf({}, now).isOpen], [now - 24 * HOUR, true]);
  assert.equal(rangeOf({range: "7d"}, now).from, now - 7 * 24 * HOUR);
  const free = rangeOf({from: "2026-11-01T00:00:00.000Z", to: "2026-11-02T00:00:00.000Z"}, now);
  assert.deepEqual([free.key, free.isOpen, free.to - free.from], ["free", false, 24 * HOUR]);
  assert.deepEqual(rangeOf({from: "2026-11-02T00:00:00Z", to: "2026-11-01T00:00:00Z"}, now), free);
  assert.equal(rangeOf({from: "2026-11-02T00:00:00Z", to: "2026-11-02T00:00:00Z"}, now).key, "free");
  assert.equal(rangeOf({from: "2026-11-02T00:00:00Z", to: "junk"}, now).key, "24h");
  assert.equal(rangeOf({from: "junk", to: "junk", range: "junk"}, now).key, "24h");
  const minute = Date.parse("2026-11-01T10:20:00Z");
  assert.equal(Date.parse(fromField(toField(minute + 7_000))), minute);
  assert.equal(fromField(""), "");
});

// How true it is

const [T1, T2, T3, T4] = [1, 2, 3, 4].map((second) => new Date(second * 1_000));

test("what comes live is as of when something was lost, until all is back; while signing in nothing is lost", () => {
  const live = new Live();
  const seen = [];
  const looks = [[true, false, T1], [false, false, T1], [true, true, T2], [true, true, T3], [true, false, T4], [false, false, T4]];
  for (const [stale, lost, now] of looks) {
    live.update(stale, lost, now);
    seen.push(live.asOf);
  }
  assert.deepEqual(seen, [null, null, T2, T2, T2, null]);
});

test("answers are as old as what comes live, until they are asked for again after it is back", () => {
  const live = new Live();
  const answers = new Answers(live);
  answers.answered(answers.ask(T1));
  assert.deepEqual([answers.asOf, answers.pause(30_000)], [null, 30_000]);
  live.update(true, true, T2);
  assert.deepEqual([answers.asOf, answers.pause(30_000)], [T2, 30_000]);
  const early = answers.ask(T3);
  live.update(false, false, T3);
  assert.deepEqual([answers.asOf, answers.pause(30_000)], [T2, 3_000]);
  answers.answered(early);
  assert.equal(answers.asOf, T2); // asked before it was back
  answers.answered(answers.ask(T4));
  assert.deepEqual([answers.asOf, answers.pause(30_000)], [null, 30_000]);
});

test("without an answer what is shown is as of the one before, and asked for again soon", () => {
  const answers = new Answers(new Live());
  answers.failed();
  assert.deepEqual([answers.asOf, answers.pause(30_000)], [null, 3_000]); // nothing is shown yet
  answers.answered(answers.ask(T1));
  answers.answered(answers.ask(T2));
  answers.failed();
  answers.failed();
  assert.deepEqual([answers.asOf, answers.pause(30_000)], [T2, 3_000]);
  answers.answered(answers.ask(T3));
  assert.deepEqual([answers.asOf, answers.pause(30_000)], [null, 30_000]);
});

test("a first answer that does not come whole is as of when it was asked for", () => {
  const answers = new Answers(new Live());
  answers.partlyAnswered(answers.ask(T1));
  assert.equal(answers.asOf, null); // the rest is on its way
  answers.failed();
  assert.equal(answers.asOf, T1);
  answers.answered(answers.ask(T2));
  answers.partlyAnswered(answers.ask(T3));
  answers.failed();
  assert.equal(answers.asOf, T2); // some of it still is
});

// Words

const error = (code, message = "") => ({code, message});
const SITUATION = {connected: true, error: null, bridge: "online", stale: false, unknownFor: 0};

test("while broker and bridge are online there is no notice", () => {
  assert.deepEqual(describe(SITUATION), {level: "good", word: "Live", notice: ""});
  assert.equal(describe({...SITUATION, bridge: "unknown", unknownFor: 2_999}).notice, "");
});

test("after a reconnect the page is live once all statuses have arrived", () => {
  assert.deepEqual(describe({...SITUATION, stale: true}), {level: "wait", word: "Catching up", notice: ""});
});

test("an absent broker or bridge is named, with the age of the statuses", () => {
  assert.match(describe({...SITUATION, connected: false}).notice, /broker is lost.*last known/);
  assert.match(describe({...SITUATION, bridge: "offline"}).notice, /bridge is offline.*last known/);
  assert.match(describe({...SITUATION, bridge: "unknown", unknownFor: 3_000}).notice, /state of the bridge is unknown.*last known/);
  assert.match(describe({...SITUATION, connected: false, error: error("bad-password")}).notice, /Sign out/);
  assert.equal(describe({...SITUATION, error: error("not-allowed", "the broker does not let us")}).level, "bad");
});

test("a failed login has a text", () => {
  const told = (code, message) => explainError(error(code, message), {mqttUrl: "ws://b/mqtt"});
  assert.match(told("bad-password"), /does not know this name/);
  assert.match(told("unreachable"), /ws:\/\/b\/mqtt/);
  assert.match(told("no-mqtt"), /npm/);
  assert.equal(told("config", 'user="a/\\"b" must be short'), 'The name "a/\\"b" must be short.');
  assert.equal(told("refused", "it is full"), "It is full.");
});

// Screen readers

const change = (userId, was, is) => ({userId, before: {online: was}, after: {online: is}});

test("arrivals and departures are announced together, and not at the start", () => {
  const arrivals = new Arrivals(0);
  arrivals.add(change("early", false, true), 4_999);
  arrivals.add(change("alice", false, true), 6_000);
  arrivals.add(change("bob", false, true), 6_000);
  arrivals.add({userId: "carol", before: {online: true}, after: null}, 6_000);
  assert.equal(arrivals.nextText(6_000), "alice and bob are here. carol has left.");
  arrivals.add(change("dora", false, true), 6_500);
  assert.equal(arrivals.nextText(15_999), "");
  assert.equal(arrivals.nextText(16_000), "dora is here.");
});

test("a short visit is not announced, and neither is an idle user", () => {
  const arrivals = new Arrivals(-10_000);
  arrivals.add(change("alice", false, true), 0);
  arrivals.add(change("alice", true, false), 1);
  arrivals.add(change("bob", true, true), 1);
  assert.equal(arrivals.nextText(100_000), "");
});

test("many arrivals are announced as a number, and then none for a minute", () => {
  const arrivals = new Arrivals(-10_000);
  for (let index = 0; index < 9; index += 1) arrivals.add(change(`u${index}`, false, true), 0);
  assert.equal(arrivals.nextText(0), "9 people are here.");
  arrivals.add(change("alice", false, true), 1);
  assert.equal(arrivals.nextText(59_999), "");
  assert.equal(arrivals.nextText(60_000), "alice is here.");
});

test("statuses after a gap are not announced", () => {
  const arrivals = new Arrivals(-10_000);
  arrivals.add(change("alice", false, true), 0);
  arrivals.restart(1);
  arrivals.add(change("bob", false, true), 2);
  assert.equal(arrivals.nextText(100_000), "");
});

// Why

const explained = (past, more = {}) => ({
  clientId: "phone", connectionId: "c1", open: false, counts: false, idle: null, reason: "lost", cause: null, lastSeen: 0, past, due: [], ...more,
});

test("a change names its rule and trigger, and the last end its reason and cause", () => {
  const ended = {change: "ended", at: 9, rule: "B2", trigger: "check"};
  const corrected = {change: "corrected", at: 10, rule: "G1", trigger: "brokerReport"};
  assert.equal(past(explained([ended], {reason: "timeout"}), ended), "Ended by B2: a check of the bridge (timeout)");
  const both = explained([ended, corrected], {cause: "keepAlive"});
  assert.equal(past(both, ended), "Ended by B2: a check of the bridge");
  assert.equal(past(both, corrected), "End corrected by G1: a report of the broker (lost, keepAlive)");
  const old = {change: "opened", at: 1, rule: null, trigger: "unknown"};
  assert.equal(past(explained([old]), old), "Opened");
});

test("a record is open, idle, in its grace or ended", () => {
  assert.equal(stateOf(explained([], {open: true, counts: true})), "open");
  assert.equal(stateOf(explained([], {open: true, counts: true, idle: true})), "open, idle");
  assert.equal(stateOf(explained([], {counts: true})), "ended, in its grace");
  assert.equal(stateOf(explained([])), "ended");
});
