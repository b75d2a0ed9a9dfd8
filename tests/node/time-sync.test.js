/** The server's time: from questions and answers, and as a client has it. */

import assert from "node:assert/strict";
import {test} from "node:test";

import "./support/globals.js";
import {settle} from "./support/clock.js";
import {ServerClock} from "../../mqtt_presence/web/static/presence/server-clock.js";
import {ANSWER_TIMEOUT_MS, RESYNC_MS, ROUND_TRIPS, TimeSync} from "../../mqtt_presence/web/static/presence/time-sync.js";

const EPOCH = Date.UTC(2026, 10, 24);

/** Two machines and the way between them. */
class World {
  steady = 1_000;
  wall = EPOCH;
  sync = new TimeSync();

  constructor(ahead = 90_000) {
    this.ahead = ahead;
  }

  get server() {
    return this.wall + this.ahead;
  }

  wait(millis) {
    this.steady += millis;
    this.wall += millis;
  }

  poll() {
    return this.sync.poll(this.steady, this.wall);
  }

  roundTrip(there, back) {
    const t0 = this.poll();
    assert.notEqual(t0, null);
    this.wait(there);
    const at = Math.round(this.server);
    this.wait(back);
    assert.equal(this.sync.answer(t0, at, at, this.steady), true);
  }

  burst(there = 10, back = 10) {
    for (let n = 0; n < ROUND_TRIPS; n += 1) this.roundTrip(there, back);
  }

  get error() {
    return Math.abs(this.steady + this.sync.estimate.base - this.server);
  }
}

test("the best of five round trips wins, and bounds the error", () => {
  const world = new World();
  world.roundTrip(400, 0);
  assert.equal(world.error, 200);
  world.roundTrip(10, 10);
  world.roundTrip(0, 300);
  assert.ok(world.error <= 1);
  assert.equal(world.sync.estimate.roundTrip, 20);
});

test("a burst ends after five questions, and comes again after ten minutes", () => {
  const world = new World();
  world.burst();
  assert.equal(world.poll(), null);
  world.wait(RESYNC_MS - 1);
  assert.equal(world.poll(), null);
  world.wait(2);
  assert.notEqual(world.poll(), null);
});

test("a regular resync is believed as a whole only", () => {
  const world = new World();
  world.burst();
  world.wait(RESYNC_MS + 1);
  world.roundTrip(1_800, 100);
  assert.ok(world.error <= 1);
  for (let n = 1; n < ROUND_TRIPS; n += 1) world.roundTrip(20, 20);
  assert.equal(world.sync.estimate.roundTrip, 40);
});

test("a question without an answer is given up; after a burst of them there is a pause that grows", () => {
  const world = new World();
  let asked = world.poll();
  for (const pause of [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]) {
    for (let n = 0; n < ROUND_TRIPS; n += 1) {
      assert.notEqual(asked, null);
      assert.equal(world.poll(), null);
      world.wait(ANSWER_TIMEOUT_MS);
      asked = world.poll();
    }
    assert.equal(asked, null);
    world.wait(pause - 1);
    assert.equal(world.poll(), null);
    world.wait(1);
    asked = world.poll();
  }
});

test("answers to nothing, late, repeated and impossible ones are ignored", () => {
  const world = new World();
  const first = world.poll();
  assert.equal(world.sync.answer(first + 1, world.server, world.server, world.steady), false);
  assert.equal(world.sync.answer(first, world.server, world.server + 60_000, world.steady + 10), false);
  world.wait(ANSWER_TIMEOUT_MS);
  const second = world.poll();
  assert.equal(world.sync.answer(first, world.server, world.server, world.steady), false);
  assert.equal(world.sync.estimate, null);
  assert.equal(world.sync.answer(second, world.server, world.server, world.steady), true);
  assert.equal(world.sync.answer(second, world.server, world.server, world.steady), false);
});

for (const [jump, asks] of [
  [6_000, true],
  [-6_000, true],
  [4_000, false],
  [-4_000, false],
]) {
  test(`the wall clock is set by ${jump} ms: asks again: ${asks}; what is known of the server's time holds`, () => {
    const world = new World();
    world.burst();
    world.wall += jump;
    world.ahead -= jump;
    assert.equal(world.poll() !== null, asks);
    assert.ok(world.error <= 1);
  });
}

test("a machine that slept believes the first answer", () => {
  const world = new World();
  world.burst();
  world.wall += 3_600_000; // the steady clock stood still
  world.roundTrip(200, 200);
  assert.ok(world.error <= 1);
});

test("a burst that was interrupted begins again", () => {
  const world = new World();
  world.poll();
  world.sync.interrupted();
  world.burst();
  assert.equal(world.poll(), null);
});

test("a bridge that comes is asked at once, unless the time is known", () => {
  const world = new World();
  for (let n = 0; n < ROUND_TRIPS; n += 1) {
    world.poll();
    world.wait(ANSWER_TIMEOUT_MS);
  }
  assert.equal(world.poll(), null);
  world.sync.askIfUnknown();
  world.burst();
  world.sync.askIfUnknown();
  assert.equal(world.poll(), null);
});

const encode = (body) => new TextEncoder().encode(typeof body === "string" ? body : JSON.stringify(body));

/** A clock with a connection that may be there. */
function makeClock(world) {
  const asked = [];
  const heard = {changes: 0};
  const link = {up: true};
  const clock = new ServerClock({
    ask: (payload) => link.up && asked.push(JSON.parse(payload).t0) > 0,
    changed: () => (heard.changes += 1),
    steady: () => world.steady,
    wall: () => world.wall,
  });
  const answer = () => clock.receive(encode({t0: asked.at(-1), t1: world.server, t2: world.server}));
  return {clock, asked, answer, heard, link};
}

test("server time, offset and round trip follow from the answers; before them the local clock stands in", () => {
  const world = new World();
  const {clock, asked, answer, heard} = makeClock(world);
  assert.deepEqual([clock.isSynced, clock.offset, clock.roundTrip], [false, null, null]);
  assert.equal(clock.serverTime().getTime(), EPOCH);
  clock.tick();
  assert.equal(asked.length, 1);
  answer();
  assert.deepEqual([clock.isSynced, clock.offset, clock.roundTrip], [true, 90_000, 0]);
  assert.equal(clock.serverTime().getTime(), EPOCH + 90_000);
  assert.equal(asked.length, 2); // the next of the burst, at once
  assert.equal(heard.changes, 1);
  world.wall -= 1_000; // somebody sets the clock: the server's time goes on
  assert.equal(clock.offset, 91_000);
  assert.equal(clock.serverTime().getTime(), EPOCH + 90_000);
});

test("resync resolves when the answers are in", async () => {
  const world = new World();
  const {clock, answer, asked} = makeClock(world);
  const done = [];
  void clock.resync().then((answered) => done.push(answered));
  for (let n = 1; n < ROUND_TRIPS; n += 1) answer();
  await settle();
  assert.deepEqual(done, []);
  answer();
  await settle();
  assert.deepEqual(done, [true]);
  assert.equal(asked.length, ROUND_TRIPS);
});

test("resync says false when nobody answers, when there is no connection, and when it is lost", async () => {
  const world = new World();
  const {clock, link} = makeClock(world);
  const unanswered = clock.resync();
  for (let n = 0; n < ROUND_TRIPS; n += 1) {
    world.wait(ANSWER_TIMEOUT_MS);
    clock.tick();
  }
  assert.equal(await unanswered, false);
  const lost = clock.resync();
  clock.interrupted();
  assert.equal(await lost, false);
  link.up = false;
  assert.equal(await clock.resync(), false);
});

test("what is no answer is refused, and changes nothing", () => {
  const {clock} = makeClock(new World());
  clock.tick();
  const junk = ["", "{}", "[]", "x", {t0: 1, t1: "a", t2: 2}, {t0: 1, t1: 3, t2: 2}, {t0: 1, t1: -1, t2: 2}];
  for (const body of junk) assert.throws(() => clock.receive(encode(body)), {code: "payload"});
  assert.equal(clock.isSynced, false);
});
