/** Snapshots, subscribers, events and iterators. */

import assert from "node:assert/strict";
import {test} from "node:test";

import "./support/globals.js";
import {settle} from "./support/clock.js";
import {Observable} from "../../mqtt_presence/web/static/presence/observable.js";

class Counter extends Observable {
  count = 0;

  constructor() {
    super(() => ({count: this.count}));
  }

  add(event = null) {
    this.count += 1;
    if (event === null) this.changed();
    else this.emit(event, this.count);
  }

  end() {
    this.endIteration();
  }
}

test("a snapshot is frozen, and the same until something changes", () => {
  const counter = new Counter();
  const {getSnapshot} = counter; // handed around, as React does
  const first = getSnapshot();
  assert.ok(Object.isFrozen(first));
  assert.equal(getSnapshot(), first);
  counter.add();
  assert.notEqual(getSnapshot(), first);
  assert.deepEqual([first.count, getSnapshot().count], [0, 1]);
});

test("several changes at once make one call, and every subscriber gets it", async () => {
  const counter = new Counter();
  const seen = [];
  const {subscribe} = counter;
  const call = () => seen.push(counter.getSnapshot().count);
  const stop = subscribe(call);
  subscribe(call); // the same again is another subscription
  counter.add();
  counter.add();
  assert.deepEqual(seen, []);
  await settle();
  assert.deepEqual(seen, [2, 2]);
  stop();
  stop();
  counter.add();
  await settle();
  assert.deepEqual(seen, [2, 2, 3]);
});

test("a change made by a subscriber is told as well", async () => {
  const counter = new Counter();
  const seen = [];
  counter.subscribe(() => {
    seen.push(counter.count);
    if (counter.count < 3) counter.add();
  });
  counter.add();
  await settle();
  assert.deepEqual(seen, [1, 2, 3]);
});

test("a subscriber that throws keeps the others from nothing, and is heard of", async (t) => {
  const counter = new Counter();
  const seen = [];
  const heard = [];
  const others = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error) => heard.push(error.message));
  t.after(() => {
    process.removeAllListeners("uncaughtException");
    for (const listener of others) process.on("uncaughtException", listener);
  });
  counter.subscribe(() => {
    throw new Error("mine");
  });
  counter.subscribe(() => seen.push(counter.count));
  counter.add();
  await settle();
  assert.deepEqual([seen, heard], [[1], ["mine"]]);
});

test("an event carries its detail, at once, and a change follows", async () => {
  const counter = new Counter();
  const seen = [];
  counter.addEventListener("more", ({detail}) => seen.push(`more ${detail}`));
  counter.addEventListener("change", () => seen.push("change"));
  counter.add("more");
  assert.deepEqual(seen, ["more 1"]);
  await settle();
  assert.deepEqual(seen, ["more 1", "change"]);
});

test("iteration begins with the present, skips what it is too slow for, never the last, and ends", async () => {
  const counter = new Counter();
  const seen = [];
  const iteration = (async () => {
    for await (const {count} of counter) {
      seen.push(count);
      if (count === 1) {
        counter.add();
        counter.add();
        await settle();
      }
    }
  })();
  await settle();
  assert.deepEqual(seen, [0]);
  counter.add();
  await settle();
  await settle();
  assert.deepEqual(seen, [0, 1, 3]);
  counter.add();
  counter.end();
  await iteration;
  assert.deepEqual(seen, [0, 1, 3, 4]);
});
