/** The idle monitor on a page: activity and reports. */

import assert from "node:assert/strict";
import {test} from "node:test";

import "./support/globals.js";
import {FakeClock, settle} from "./support/clock.js";
import {FakePage} from "./support/page.js";
import {IdleMonitor} from "../../mqtt_presence/web/static/presence/idle-monitor.js";
import {SharedActivity} from "../../mqtt_presence/web/static/presence/shared-activity.js";

const AHEAD = 90_000;
let channels = 0;

/** A monitor on a page, with a server whose clock is ahead, and what it has reported, in local time. */
function scene(t, {page = {}, synced = true, channel = `test ${(channels += 1)}`} = {}) {
  const clock = new FakeClock(t);
  const fakePage = page === null ? null : new FakePage(t, page);
  return {clock, page: fakePage, ...addMonitor(t, clock, {synced, channel})};
}

function addMonitor(t, clock, {synced = true, channel}) {
  const reports = [];
  const link = {up: true, synced};
  const serverAt = (steady) => (link.synced ? Math.round(steady + clock.wall - clock.steady + AHEAD) : null);
  const monitor = new IdleMonitor({
    send: (idle, lastActivity) => {
      if (link.up) reports.push([idle ? "idle" : "active", lastActivity - AHEAD - begin]);
      return link.up;
    },
    clock: {at: serverAt, serverTime: () => new Date(serverAt(clock.steady) ?? clock.wall)},
    changed: () => {},
    channel,
  });
  const begin = clock.wall;
  t.after(() => monitor.close());
  return {monitor, reports, link};
}

test("the start is reported, then each change, with the last activity in server time", async (t) => {
  const {clock, page, monitor, reports} = scene(t);
  assert.equal(monitor.lastActivity, null);
  monitor.start();
  assert.deepEqual([monitor.isMonitoring, monitor.isIdle], [true, false]);
  await clock.advance(10_000);
  page.act("click");
  await clock.advance(60_000);
  assert.equal(monitor.isIdle, false); // exactly the threshold
  await clock.advance(1_000);
  assert.equal(monitor.isIdle, true);
  assert.equal(monitor.lastActivity.getTime(), clock.wall + AHEAD - 61_000);
  await clock.advance(500);
  page.act("keydown");
  assert.deepEqual(reports, [["active", 0], ["idle", 10_000], ["active", 71_500]]);
});

for (const type of ["click", "keydown", "pointerdown", "pointermove", "touchstart", "touchmove", "wheel"]) {
  test(`${type} is activity`, async (t) => {
    const {clock, page, monitor} = scene(t);
    monitor.start({threshold: 5_000});
    await clock.advance(6_000);
    assert.equal(monitor.isIdle, true);
    page.act(type);
    assert.equal(monitor.isIdle, false);
  });
}

test("other events are none", async (t) => {
  const {clock, page, monitor} = scene(t);
  monitor.start({threshold: 5_000});
  await clock.advance(6_000);
  for (const type of ["scroll", "resize", "load", "message"]) page.act(type);
  assert.equal(monitor.isIdle, true);
});

test("a program records activity with ping", async (t) => {
  const {clock, monitor, reports} = scene(t, {page: null});
  monitor.ping(); // stopped: nothing
  assert.equal(monitor.lastActivity, null);
  monitor.start({threshold: 5_000});
  await clock.advance(6_000);
  monitor.ping();
  assert.deepEqual(reports, [["active", 0], ["idle", 0], ["active", 6_000]]);
});

test("threshold and interval are milliseconds: idle is seen with the next look", async (t) => {
  const {clock, monitor, reports} = scene(t);
  monitor.start({threshold: 10_000, interval: 4_000});
  await clock.advance(11_999);
  assert.equal(monitor.isIdle, false);
  await clock.advance(1);
  assert.equal(monitor.isIdle, true);
  assert.deepEqual(reports.at(-1), ["idle", 0]);
});

test("focus is activity", async (t) => {
  const {clock, page, monitor} = scene(t);
  monitor.start({threshold: 5_000});
  page.blur();
  await clock.advance(6_000);
  assert.equal(monitor.isIdle, true);
  page.focus();
  assert.equal(monitor.isIdle, false);
});

test("without idleOnBlur a page that is not in front is not idle by that, and actions there count", async (t) => {
  const {clock, page, monitor} = scene(t);
  monitor.start({threshold: 5_000});
  page.blur();
  page.show(false);
  await clock.advance(4_000);
  assert.equal(monitor.isIdle, false);
  page.act("wheel"); // over a window that has no focus
  await clock.advance(5_000);
  assert.equal(monitor.isIdle, false);
});

test("with idleOnBlur leaving the page is reported at once, and actions meanwhile do not count", async (t) => {
  const {clock, page, monitor, reports} = scene(t);
  monitor.start({idleOnBlur: true});
  await clock.advance(1_000);
  page.blur();
  assert.equal(monitor.isIdle, true);
  await clock.advance(1_000);
  page.act("wheel");
  monitor.ping();
  assert.equal(monitor.isIdle, true);
  await clock.advance(1_000);
  page.focus();
  assert.deepEqual(reports, [["active", 0], ["idle", 0], ["active", 3_000]]);
});

test("a hidden page counts as blurred, whatever has the focus in it", async (t) => {
  const {clock, page, monitor} = scene(t);
  monitor.start({idleOnBlur: true});
  page.show(false); // its document says it has the focus
  assert.equal(monitor.isIdle, true);
  await clock.advance(1_000);
  page.show(true);
  assert.equal(monitor.isIdle, false);
});

test("with idleOnBlur a start in the background is idle", (t) => {
  const {monitor, reports} = scene(t, {page: {focused: false}});
  monitor.start({idleOnBlur: true});
  assert.equal(monitor.isIdle, true);
  assert.deepEqual(reports.map(([state]) => state), ["active", "idle"]);
});

test("starting twice and stopping while stopped throw", (t) => {
  const {monitor, reports} = scene(t);
  assert.throws(() => monitor.stop(), {code: "usage"});
  monitor.start();
  assert.throws(() => monitor.start(), {code: "usage"});
  monitor.stop();
  assert.throws(() => monitor.stop(), {code: "usage"});
  assert.throws(() => monitor.start({interval: 10}), {code: "config"});
  assert.throws(() => monitor.start({threshold: 0}), {code: "config"});
  assert.equal(monitor.isMonitoring, false);
  assert.deepEqual(reports, [["active", 0]]);
});

test("stopping while idle reports active, now, and nothing listens or ticks any more", async (t) => {
  const {clock, page, monitor, reports} = scene(t);
  monitor.start({threshold: 5_000});
  await clock.advance(10_000);
  monitor.stop();
  assert.deepEqual(reports.at(-1), ["active", 10_000]);
  assert.deepEqual([monitor.isMonitoring, monitor.isIdle], [false, false]);
  assert.equal(clock.pending, 0);
  page.act("click");
  await clock.advance(60_000);
  assert.equal(reports.length, 3);
});

test("stopping while active reports nothing", async (t) => {
  const {clock, monitor, reports} = scene(t);
  monitor.start();
  await clock.advance(1_000);
  monitor.stop();
  assert.deepEqual(reports, [["active", 0]]);
});

test("a page that got no timers sees with the first that it is idle, and since when", async (t) => {
  const {clock, monitor, reports} = scene(t);
  monitor.start();
  await clock.sleep(600_000);
  assert.deepEqual(reports, [["active", 0], ["idle", 0]]);
});

test("constant movement is one activity for each fifth of a second", async (t) => {
  const {clock, page, monitor} = scene(t);
  const times = new Set();
  monitor.start();
  for (let n = 0; n < 100; n += 1) {
    await clock.advance(10);
    page.act("pointermove");
    times.add(monitor.lastActivity.getTime());
  }
  assert.ok(times.size <= 6, String(times.size));
});

test("after a login idle is repeated, and active only if it was not sent", async (t) => {
  const {clock, page, monitor, reports, link} = scene(t);
  monitor.start({threshold: 5_000});
  monitor.resend();
  assert.deepEqual(reports, [["active", 0]]); // the login says so itself
  await clock.advance(6_000);
  monitor.resend();
  assert.deepEqual(reports.slice(1), [["idle", 0], ["idle", 0]]);
  link.up = false;
  page.act("click");
  link.up = true;
  monitor.resend();
  monitor.resend();
  assert.deepEqual(reports.slice(3), [["active", 6_000]]);
});

test("while the server's time is not known nothing is reported; then what holds by then", async (t) => {
  const {clock, monitor, reports, link} = scene(t, {synced: false});
  monitor.start({threshold: 5_000});
  assert.equal(monitor.lastActivity.getTime(), clock.wall);
  await clock.advance(7_000);
  assert.deepEqual(reports, []);
  link.synced = true;
  monitor.synced();
  assert.deepEqual(reports, [["idle", 0]]);
  monitor.synced(); // better known: nothing new
  assert.equal(reports.length, 1);
});

test("a report is never older than the one before, however the server's time is corrected", async (t) => {
  const {clock, page, monitor, reports} = scene(t);
  monitor.start({threshold: 5_000});
  await clock.advance(6_000);
  clock.wall -= 60_000; // the estimate of the server's time goes back by a minute
  page.act("click");
  const [, [, idleAt], [, activeAt]] = reports;
  assert.equal(activeAt, idleAt + 1);
});

test("a heartbeat is activity, and says idle where nothing counts", async (t) => {
  const {clock, page, monitor} = scene(t);
  assert.equal(monitor.heartbeatReport(), null);
  monitor.start({idleOnBlur: true});
  await clock.advance(1_000);
  assert.deepEqual(monitor.heartbeatReport(), {idle: false, lastActivity: clock.wall + AHEAD});
  page.blur();
  await clock.advance(1_000);
  assert.deepEqual(monitor.heartbeatReport(), {idle: true, lastActivity: clock.wall + AHEAD - 1_000});
});

test("closing reports nothing", async (t) => {
  const {clock, monitor, reports} = scene(t);
  monitor.start({threshold: 5_000});
  await clock.advance(6_000);
  monitor.close();
  monitor.close();
  assert.equal(reports.length, 2);
  assert.deepEqual([monitor.isMonitoring, clock.pending], [false, 0]);
});

/** Wait for what really takes time: a BroadcastChannel has no clock to move. */
async function until(condition) {
  for (let turn = 0; turn < 2_000; turn += 1) {
    if (condition()) return;
    await settle();
  }
  assert.fail(`never: ${condition}`);
}

test("activity in one tab counts in the others, from its own time", async (t) => {
  const {clock, monitor, reports} = scene(t, {page: null, channel: "two tabs"});
  const other = addMonitor(t, clock, {channel: "two tabs"});
  const stranger = addMonitor(t, clock, {channel: "another user"});
  for (const each of [monitor, other.monitor, stranger.monitor]) each.start({threshold: 5_000});
  await clock.advance(6_000);
  assert.ok(monitor.isIdle && other.monitor.isIdle && stranger.monitor.isIdle);
  monitor.ping();
  await clock.sleep(500); // the message is on its way
  await until(() => !other.monitor.isIdle);
  assert.deepEqual(other.reports.at(-1), ["active", 6_000]);
  assert.deepEqual(reports.at(-1), ["active", 6_000]);
  assert.equal(stranger.monitor.isIdle, true);
  other.monitor.stop();
  monitor.stop();
  stranger.monitor.stop();
});

test("other tabs get five messages a second at most", async (t) => {
  const clock = new FakeClock(t);
  const heard = [];
  const [here, there] = [() => {}, (ago) => heard.push(ago)].map((call) => new SharedActivity("often", call));
  for (let n = 0; n < 10; n += 1) {
    here.announce();
    await clock.sleep(100);
  }
  await until(() => heard.length >= 5);
  await settle();
  assert.equal(heard.length, 5);
  here.close();
  there.close();
});
