/** Operator access: the server's decision, by the login or after the token was entered. */

import {byId, setText} from "./dom.js";

const RETRY_MS = 3_000;

export class Operators {
  #button = byId("be-operator", HTMLButtonElement);
  #dialog = byId("token-dialog", HTMLDialogElement);
  #field = byId("token", HTMLInputElement);
  #error = byId("token-error", HTMLElement);
  #isSettling = false;

  /**
   * @param {import("./api.js").Api} api
   * @param {(operator: boolean) => void} allow called with the server's decision
   * @param {AbortSignal} signal ends the requests
   */
  constructor(api, allow, signal) {
    this.api = api;
    this.allow = allow;
    this.signal = signal;
    this.#button.addEventListener("click", () => this.#open(), {signal});
    byId("token-cancel", HTMLElement).addEventListener("click", () => this.#dialog.close(), {signal});
    byId("token-form", HTMLFormElement).addEventListener("submit", (event) => void this.#show(event), {signal});
    api.addEventListener("refused", () => void this.askUntilAnswered(), {signal});
    signal.addEventListener("abort", () => {
      this.#button.hidden = true;
      this.#dialog.close();
    });
  }

  /** Ask the server until it answers. Meanwhile the users are shown, which come over MQTT. */
  async askUntilAnswered() {
    if (this.#isSettling) return;
    this.#isSettling = true;
    while (!this.signal.aborted) {
      try {
        await this.ask();
        break;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
    this.#isSettling = false;
  }

  /**
   * Ask the server.
   *
   * @returns {Promise<boolean>}
   */
  async ask() {
    const {operator, operatorBy} = await this.api.config();
    if (this.signal.aborted) return false;
    this.allow(operator);
    this.#button.hidden = operator || !operatorBy.includes("token");
    return operator;
  }

  #open() {
    this.#field.value = "";
    setText(this.#error, "");
    this.#dialog.showModal();
  }

  /** @param {Event} event */
  async #show(event) {
    event.preventDefault();
    this.api.useToken(this.#field.value);
    try {
      if (await this.ask()) this.#dialog.close();
      else setText(this.#error, "This is not the token.");
    } catch (error) {
      setText(this.#error, error instanceof Error ? error.message : String(error));
    }
  }
}
