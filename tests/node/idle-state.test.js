/** The rules of the idle monitor, without any clock. */

import assert from "node:assert/strict";
import {test} from "node:test";

import {checkSettings, IdleState} from "../../mqtt_presence/web/static/presence/idle-state.js";

const started = (settings = {}) => {
  const state = new IdleState();
  state.start({threshold: 60_000, ...settings}, 0);
  return state;
};

test("the start is reported as activity", () => {
  const state = new IdleState();
  assert.deepEqual([state.isMonitoring, state.isIdle, state.lastActivity], [false, false, null]);
  assert.deepEqual(state.start({threshold: 60_000}, 7), {idle: false, lastActivity: 7});
  assert.deepEqual([state.isMonitoring, state.isIdle, state.lastActivity], [true, false, 7]);
});

test("idle begins strictly after the threshold, and is reported once, with the last activity", () => {
  const state = started();
  assert.equal(state.check(60_000), null);
  assert.equal(state.isIdle, false);
  assert.deepEqual(state.check(60_001), {idle: true, lastActivity: 0});
  assert.equal(state.isIdle, true);
  assert.equal(state.check(90_000), null);
});

test("activity ends idleness, once, and is not reported before", () => {
  const state = started();
  assert.equal(state.ping(30_000), null);
  assert.equal(state.check(90_000), null);
  state.check(90_001);
  assert.deepEqual(state.ping(100_000), {idle: false, lastActivity: 100_000});
  assert.equal(state.ping(100_001), null);
});

test("activity of another tab counts from when it was", () => {
  const state = started();
  assert.equal(state.ping(50_000, 40_000), null);
  assert.equal(state.lastActivity, 40_000);
  assert.equal(state.ping(50_000, 10_000), null); // older than what is known
  assert.equal(state.lastActivity, 40_000);
  assert.deepEqual(state.check(100_001), {idle: true, lastActivity: 40_000});
  assert.equal(state.ping(200_000, 100_000), null); // newer, but long ago as well
  assert.equal(state.isIdle, true);
});

test("starting twice and stopping twice are errors, and change nothing", () => {
  const state = started();
  assert.throws(() => state.start({threshold: 1}, 5), {code: "usage", message: /already running: stop it first/});
  assert.equal(state.check(60_000), null);
  state.stop(6);
  assert.throws(() => state.stop(7), {code: "usage", message: /not running: start it first/});
});

test("stopping while idle reports active, as of now", () => {
  const state = started();
  state.check(60_001);
  assert.deepEqual(state.stop(70_000), {idle: false, lastActivity: 70_000});
  assert.deepEqual([state.isMonitoring, state.isIdle, state.lastActivity], [false, false, 70_000]);
});

test("stopping while active reports nothing", () => {
  const state = started();
  assert.equal(state.stop(50_000), null);
  assert.equal(state.lastActivity, 0);
});

test("nothing counts while stopped", () => {
  const state = started();
  state.stop(1);
  assert.equal(state.ping(10), null);
  assert.equal(state.focus(false, 20), null);
  assert.equal(state.focus(true, 30), null);
  assert.equal(state.check(1_000_000), null);
  assert.equal(state.lastActivity, 0);
});

test("it can be started again", () => {
  const state = started();
  state.check(60_001);
  state.stop(70_000);
  assert.deepEqual(state.start({threshold: 1_000}, 80_000), {idle: false, lastActivity: 80_000});
  assert.deepEqual(state.check(81_001), {idle: true, lastActivity: 80_000});
});

test("coming to the front is activity, leaving is not", () => {
  const state = started();
  assert.equal(state.focus(false, 10_000), null);
  assert.equal(state.lastActivity, 0);
  assert.equal(state.focus(true, 20_000), null);
  assert.equal(state.lastActivity, 20_000);
  assert.equal(state.focus(true, 30_000), null); // it was there
  assert.equal(state.lastActivity, 20_000);
});

test("without idleOnBlur a page that is not in front is idle by the threshold only, and actions count", () => {
  const state = started();
  assert.equal(state.focus(false, 1_000), null);
  assert.equal(state.ping(50_000), null);
  assert.equal(state.lastActivity, 50_000);
  assert.deepEqual(state.check(110_001), {idle: true, lastActivity: 50_000});
  assert.deepEqual(state.focus(true, 120_000), {idle: false, lastActivity: 120_000});
});

test("with idleOnBlur a page is idle at once when it leaves the front, and actions there do not count", () => {
  const state = started({idleOnBlur: true});
  assert.deepEqual(state.focus(false, 1_000), {idle: true, lastActivity: 0});
  assert.equal(state.ping(2_000), null);
  assert.deepEqual([state.isIdle, state.lastActivity, state.counts], [true, 0, false]);
  assert.deepEqual(state.focus(true, 3_000), {idle: false, lastActivity: 3_000});
  assert.equal(state.counts, true);
});

test("with idleOnBlur the threshold holds in front", () => {
  const state = started({idleOnBlur: true});
  assert.deepEqual(state.check(60_001), {idle: true, lastActivity: 0});
  assert.equal(state.focus(false, 61_000), null); // idle as before
});

test("invalid settings are named", () => {
  for (const threshold of [0, -1, NaN, Infinity, null]) {
    assert.throws(() => checkSettings(threshold, 1_000), {code: "config", message: /^threshold=.* above 0$/});
  }
  for (const interval of [0, 999, NaN, Infinity]) {
    assert.throws(() => checkSettings(1, interval), {code: "config", message: /^interval=.* at least 1000/});
  }
  checkSettings(1, 1_000);
});
