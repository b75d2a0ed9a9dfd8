/** The view of one's own client: name, server time and idle monitor. */

import {byId, setAttribute, setText} from "./dom.js";
import {pill, stateWord} from "./user-display.js";
import {clockTime, dayName, exactly, secondsAgo, small} from "./times.js";

/** The same as in page.css. */
const WIDE = matchMedia("(min-width: 1020px)");

export class OwnView {
  #pill;
  #state = stateWord();
  #clock = byId("server-clock", HTMLElement);
  #date = byId("server-date", HTMLElement);
  #lastActivity = byId("last-activity", HTMLElement);
  #offset = byId("offset", HTMLElement);
  #roundTrip = byId("round-trip", HTMLElement);
  #more = byId("you-more", HTMLDetailsElement);
  #resync = byId("resync", HTMLButtonElement);
  #form = byId("monitor", HTMLFormElement);
  #threshold = byId("threshold", HTMLInputElement);
  #interval = byId("interval", HTMLInputElement);
  #onBlur = byId("idle-on-blur", HTMLInputElement);
  #startStop = byId("start-stop", HTMLButtonElement);
  #ping = byId("ping", HTMLButtonElement);
  #error = byId("monitor-error", HTMLElement);

  /**
   * @param {import("../presence/presence-client.js").PresenceClient} client
   * @param {AbortSignal} signal ends the view
   */
  constructor(client, signal) {
    this.client = client;
    this.#pill = pill(client.user, true);
    this.#state.element.setAttribute("id", "my-state");
    byId("self", HTMLElement).replaceChildren(this.#pill.element, this.#state.element);
    this.#resync.addEventListener("click", () => void this.#synchronize(), {signal});
    this.#ping.addEventListener("click", () => client.monitor.ping(), {signal});
    this.#form.addEventListener("submit", (event) => this.#toggle(event), {signal});
    signal.addEventListener("abort", client.subscribe(() => this.paint()));
    WIDE.addEventListener("change", () => this.#unfold(), {signal});
    this.#unfold();
    this.start();
    this.paint();
  }

  /** Start the monitor with the settings of the form. */
  start() {
    setText(this.#error, "");
    try {
      this.client.monitor.start({
        threshold: Number(this.#threshold.value) * 1000,
        interval: Number(this.#interval.value) * 1000,
        idleOnBlur: this.#onBlur.checked,
      });
    } catch (error) {
      setText(this.#error, error instanceof Error ? error.message : String(error));
    }
  }

  /** Show the present state; once a second, and after changes. */
  paint() {
    const {connected, isIdle, isMonitoring, isSynced, offset, roundTrip, lastActivity} = this.client.getSnapshot();
    const now = this.client.serverTime();
    const state = !connected ? "offline" : isIdle ? "idle" : "online";
    this.#pill.update(state);
    this.#state.update(state);
    setText(this.#clock, clockTime(now));
    setText(this.#date, isSynced ? dayName(now) : "your own clock, not the server’s");
    setText(this.#offset, offset === null ? "–" : signed(offset));
    setText(this.#roundTrip, roundTrip === null ? "–" : small(roundTrip));
    setText(this.#lastActivity, lastActivity === null ? "–" : secondsAgo(now.getTime() - lastActivity.getTime()));
    setAttribute(this.#lastActivity, "title", lastActivity === null ? null : exactly(lastActivity));
    setText(this.#startStop, isMonitoring ? "Stop" : "Start");
    for (const input of [this.#threshold, this.#interval, this.#onBlur]) input.disabled = isMonitoring;
    this.#ping.disabled = !isMonitoring;
    this.#resync.disabled = !connected;
  }

  /** Unfold all parts on a wide page, which has room for them. */
  #unfold() {
    this.#more.open = WIDE.matches;
  }

  /** @param {Event} event */
  #toggle(event) {
    event.preventDefault();
    if (this.client.monitor.isMonitoring) this.client.monitor.stop();
    else this.start();
  }

  async #synchronize() {
    setAttribute(this.#resync, "aria-busy", "true");
    const answered = await this.client.resync();
    setAttribute(this.#resync, "aria-busy", null);
    setText(this.#error, answered ? "" : "The bridge did not answer.");
  }
}

/** @param {number} millis */
const signed = (millis) => `${millis > 0 ? "+" : ""}${small(millis)}`;
