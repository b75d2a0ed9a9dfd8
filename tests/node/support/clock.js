/** A clock that stands still until a test moves it: the wall clock, the steady clock and the timers. */

const real = {
  now: Date.now,
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  clearInterval: globalThis.clearInterval,
};

/** Let everything run that waits for nothing but its turn. */
export const settle = async () => {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

export class FakeClock {
  #timers = new Map();
  #last = 0;

  /** @param {import("node:test").TestContext} test the clock is the real one again after it */
  constructor(test, {wall = Date.UTC(2026, 10, 24), steady = 5_000} = {}) {
    this.wall = wall;
    this.steady = steady;
    Date.now = () => this.wall;
    // Its own property, before that of the prototype, which old versions of Node do not let one assign.
    Object.defineProperty(performance, "now", {value: () => this.steady, configurable: true});
    const set = (call, delay, every) => {
      this.#last += 1;
      this.#timers.set(this.#last, {call, due: this.steady + Math.max(1, delay), every});
      return this.#last;
    };
    const clear = (id) => void this.#timers.delete(id);
    Object.assign(globalThis, {
      setTimeout: (call, delay = 0) => set(call, delay, null),
      setInterval: (call, delay) => set(call, delay, delay),
      clearTimeout: clear,
      clearInterval: clear,
    });
    test.after(() => this.#restore());
  }

  #restore() {
    Date.now = real.now;
    delete performance.now;
    const {setTimeout, clearTimeout, setInterval, clearInterval} = real;
    Object.assign(globalThis, {setTimeout, clearTimeout, setInterval, clearInterval});
  }

  /** How many timers wait: none should when all is closed. */
  get pending() {
    return this.#timers.size;
  }

  /** Let time pass, with the timers that are due meanwhile. */
  async advance(millis) {
    const end = this.steady + millis;
    await settle();
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.due <= end).sort(([, a], [, b]) => a.due - b.due)[0];
      if (due === undefined) break;
      const [id, timer] = due;
      this.#to(Math.max(timer.due, this.steady));
      if (timer.every === null) this.#timers.delete(id);
      else timer.due = this.steady + timer.every;
      timer.call();
      await settle();
    }
    this.#to(end);
  }

  /** Let time pass in which the browser runs no timer, as in a hidden or a frozen page; then each once. */
  async sleep(millis) {
    this.#to(this.steady + millis);
    await this.advance(0);
  }

  #to(steady) {
    this.wall += steady - this.steady;
    this.steady = steady;
  }
}
