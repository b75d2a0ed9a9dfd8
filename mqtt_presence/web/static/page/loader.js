/** Data of the server for a view: asked again now and then, and kept, with their age, while there is no answer. */

import {Answers} from "./freshness.js";
import {useEffect, useLayoutEffect} from "./view.js";

/** @typedef {import("./page.js").Page} Page */
/** @typedef {import("./session.js").Session} Session */

/**
 * @template Question, Data
 * @typedef {object} Work
 * @property {(question: Question, now: Date, keep: (data: Data) => void, isOld: () => boolean) => Promise<Data>} load
 *   returns the data; `keep` shows a part of them before
 * @property {number} every milliseconds between two requests
 * @property {number} [afterChange] milliseconds from a change of a status to the next request
 */

/** Milliseconds between two requests, however many statuses change. */
const AT_MOST_EVERY_MS = 2_000;

/**
 * @template Question, Data
 */
export class Loader {
  /** @type {Data | null} */
  data = null;
  error = "";
  #answers;
  #key = "";
  #scope = "";
  /** @type {Question | null} */
  #question = null;
  #askedAt = -Infinity;
  #isAsking = false;
  #again = false;
  /** The number of questions; answers to earlier ones are ignored. */
  #round = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #soon;

  /**
   * @param {Page} page
   * @param {Session} session
   * @param {Work<Question, Data>} work
   */
  constructor(page, session, work) {
    this.page = page;
    this.session = session;
    this.work = work;
    this.#answers = new Answers(session.live);
  }

  /** The time of the data; null while current. */
  get asOf() {
    return this.#answers.asOf;
  }

  /**
   * Ask, at once and from now on.
   *
   * @param {Question} question
   * @param {string} scope the old data stay until the answer if they are of the same scope
   */
  ask(question, scope) {
    const key = JSON.stringify(question);
    if (this.#question !== null && key === this.#key) return;
    if (scope !== this.#scope) this.data = null;
    this.#scope = scope;
    this.#key = key;
    this.#question = question;
    this.#round += 1;
    this.#isAsking = false;
    void this.#load();
  }

  /** Stop asking; the data stay, for the next time. */
  close() {
    clearTimeout(this.#soon);
    this.#soon = undefined;
    this.#round += 1;
    this.#question = null;
  }

  /** Ask if the time has come; called every second. */
  tick() {
    if (performance.now() - this.#askedAt >= this.#answers.pause(this.work.every)) void this.#load();
  }

  /** Ask soon, because a status has changed. */
  soon() {
    if (this.work.afterChange === undefined || this.#soon !== undefined || this.#question === null) return;
    const wait = Math.max(this.work.afterChange, this.#askedAt + AT_MOST_EVERY_MS - performance.now());
    this.#soon = setTimeout(() => {
      this.#soon = undefined;
      void this.#load();
    }, wait);
  }

  /** Ask again now. */
  reload() {
    this.#again = this.#isAsking;
    void this.#load();
  }

  async #load() {
    const question = this.#question;
    if (question === null || this.#isAsking || document.visibilityState === "hidden") return;
    const round = this.#round;
    const isOld = () => round !== this.#round;
    this.#isAsking = true;
    this.#again = false;
    this.#askedAt = performance.now();
    const asked = this.#answers.ask(this.session.now());
    const keep = (/** @type {Data} */ data) => {
      if (isOld()) return;
      this.data = data;
      this.#answers.partlyAnswered(asked);
      this.page.paint();
    };
    try {
      const data = await this.work.load(question, asked.now, keep, isOld);
      if (isOld()) return;
      this.data = data;
      this.error = "";
      this.#answers.answered(asked);
    } catch (error) {
      if (isOld()) return;
      this.error = error instanceof Error ? error.message : String(error);
      this.#answers.failed();
    }
    this.#isAsking = false;
    if (this.#again) void this.#load();
    this.page.paint();
  }
}

/**
 * Use a loader in a component, for as long as it is shown. The session keeps it, with its data.
 *
 * @template Question, Data
 * @param {Page} page
 * @param {Session} session
 * @param {string} name
 * @param {Work<Question, Data>} work the same one for a name
 * @param {Question | null} question null for none
 * @param {string} [scope] data of another scope are not shown until the answer
 * @returns {Loader<Question, Data>}
 */
export function useLoader(page, session, name, work, question, scope = "") {
  const known = session.loaders.get(name);
  const loader = /** @type {Loader<Question, Data>} */ (known ?? new Loader(page, session, work));
  if (known === undefined) session.loaders.set(name, loader);
  useLayoutEffect(() => {
    if (question === null) loader.close();
    else loader.ask(question, scope);
  }, [loader, JSON.stringify(question), scope]);
  useEffect(() => {
    page.loaders.add(loader);
    return () => {
      page.loaders.delete(loader);
      loader.close();
    };
  }, [loader]);
  return loader;
}
