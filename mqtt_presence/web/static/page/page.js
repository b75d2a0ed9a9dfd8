/** The page: configuration, session and route, and the painting of all of them after a change. */

import {PresenceError} from "../presence.js";
import {Api} from "./api.js";
import {App} from "./app.js";
import {makePainter} from "./repaint.js";
import {Router} from "./router.js";
import {Session, titleOf} from "./session.js";
import {forgetSignIn, keepSignIn, keptSignIn} from "./kept-sign-in.js";
import {explainError} from "./texts.js";
import {html, render} from "./view.js";

/** @typedef {import("./session.js").SignIn} SignIn */

const TICK_MS = 1_000;
const RETRY_MS = 3_000;

export class Page {
  /** @type {import("./api.js").Config | null} */
  config = null;
  /** @type {Session | null} */
  session = null;
  /** The error before a login, empty for none. */
  notice = "";
  signInError = "";
  /** Whether the password was wrong. */
  isWrongPassword = false;
  isSigningIn = false;
  /** The name in the form, for the next sign-in. */
  name = "";
  /** Whether the panel with the own clock and monitor is shown. */
  showsOwn = false;
  /** The loaders of the views that are shown. @type {Set<{tick(): void, soon(): void, reload(): void}>} */
  loaders = new Set();
  paint = makePainter(() => this.#paint());
  router = new Router(this.paint);

  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
  }

  /** Load the configuration, and sign in again after a reload. Never ends. */
  async run() {
    setInterval(() => this.#tick(), TICK_MS);
    this.paint();
    this.config = await this.#configuration();
    const kept = keptSignIn();
    if (kept !== null && this.config.mqttJs && this.config.open !== false) await this.signIn(kept);
    else this.paint();
  }

  /** @param {SignIn} signIn */
  async signIn(signIn) {
    const {config} = this;
    if (config === null || this.isSigningIn) return;
    this.isSigningIn = true;
    this.signInError = "";
    this.isWrongPassword = false;
    this.paint();
    try {
      const session = new Session(config, signIn, this.paint, () => this.#statusChanged());
      await session.begin();
      this.session = session;
      if (signIn.password === null) keepSignIn(signIn);
    } catch (error) {
      if (!(error instanceof PresenceError)) throw error;
      this.signInError = explainError(error, config);
      this.isWrongPassword = error.code === "bad-password";
    } finally {
      this.isSigningIn = false;
      this.paint();
    }
  }

  async signOut() {
    const {session} = this;
    this.session = null;
    this.showsOwn = false;
    forgetSignIn();
    this.paint();
    await session?.end();
  }

  async #configuration() {
    for (;;) {
      try {
        const config = await new Api().config();
        this.notice = "";
        return config;
      } catch (error) {
        this.notice = `${error instanceof Error ? error.message : error} Trying again.`;
        this.paint();
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  #tick() {
    this.session?.look();
    for (const loader of this.loaders) loader.tick();
    this.#showTitle(); // also of a hidden tab, which paints nothing
    this.paint();
  }

  #showTitle() {
    const title = titleOf(this.session, this.router.route);
    if (document.title !== title) document.title = title;
  }

  #statusChanged() {
    for (const loader of this.loaders) loader.soon();
  }

  #paint() {
    const focused = document.activeElement;
    render(html`<${App} page=${this} />`, this.root);
    this.#showTitle();
    // An element that is moved loses the focus.
    if (focused instanceof HTMLElement && focused !== document.activeElement && focused.isConnected) {
      focused.focus({preventScroll: true});
    }
  }
}
