/** The live page: login and logout, and the set of views. */

import {PresenceClient, PresenceError, StatusWatcher} from "../presence.js";
import {Api} from "./api.js";
import {Arrivals} from "./arrivals.js";
import {ConnectionsView} from "./connections-view.js";
import {byId, setAttribute, setText} from "./dom.js";
import {keepFocus} from "./focus.js";
import {Live} from "./freshness.js";
import {HistoryView} from "./history-view.js";
import {Operators} from "./operator-access.js";
import {UsersView} from "./users-view.js";
import {Route} from "./route.js";
import {listenForShortcuts} from "./shortcuts.js";
import {describe, NO_MQTT, explainError} from "./texts.js";
import {OwnView} from "./own-view.js";

const signInView = byId("sign-in-view", HTMLElement);
const signedIn = byId("signed-in", HTMLElement);
const form = byId("sign-in", HTMLFormElement);
const nameField = byId("name", HTMLInputElement);
const passwordField = byId("password", HTMLInputElement);
const enter = byId("enter", HTMLButtonElement);
const signInError = byId("sign-in-error", HTMLElement);
const signOut = byId("sign-out", HTMLButtonElement);
const link = byId("link", HTMLElement);
const skip = byId("skip", HTMLElement);
const linkText = byId("link-text", HTMLElement);
const notice = byId("notice", HTMLElement);
const announcer = byId("announcer", HTMLElement);

const TITLE = document.title;
const TICK_MS = 1_000;
const RETRY_MS = 3_000;

/** @returns {Promise<import("./api.js").Config>} */
async function configuration() {
  for (;;) {
    try {
      const config = await new Api().config();
      setText(notice, "");
      return config;
    } catch (error) {
      setText(notice, `${error instanceof Error ? error.message : error} Trying again.`);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/** @param {import("./api.js").Config} config */
function showSignIn(config) {
  setText(byId("version", HTMLElement), `mqtt-presence ${config.version}`);
  setText(
    byId("sign-in-hint", HTMLElement),
    config.open ? "Choose any name. Other users see it." : "Use your name and password for the broker.",
  );
  byId("password-field", HTMLElement).hidden = config.open === true;
  passwordField.required = config.open === false;
  if (!config.mqttJs) {
    setText(signInError, NO_MQTT);
    enter.disabled = true;
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void signIn(config);
  });
  welcome();
}

function welcome() {
  signedIn.hidden = true;
  signInView.hidden = false;
  nameField.focus();
}

/** @param {import("./api.js").Config} config */
async function signIn(config) {
  if (enter.disabled) return;
  enter.disabled = true;
  setText(enter, "Signing in…");
  setText(signInError, "");
  const user = nameField.value.trim();
  const password = passwordField.value === "" ? null : passwordField.value;
  try {
    const client = new PresenceClient(config.mqttUrl, {user, password, prefix: config.prefix});
    const watcher = new StatusWatcher(client);
    await client.connect();
    passwordField.value = "";
    const api = new Api();
    // A server that accepts no passwords gets none, since others may read it in the network.
    if (password !== null && config.operatorBy.includes("password")) api.useLogin(user, password);
    await runViews(client, watcher, api, config);
    welcome();
  } catch (error) {
    if (!(error instanceof PresenceError)) throw error;
    setText(signInError, explainError(error, config));
    (error.code === "bad-password" ? passwordField : nameField).focus();
  } finally {
    enter.disabled = false;
    setText(enter, "Sign in");
  }
}

/**
 * Run the views until the user signs out.
 *
 * @param {PresenceClient} client
 * @param {StatusWatcher} watcher
 * @param {Api} api
 * @param {import("./api.js").Config} config
 */
async function runViews(client, watcher, api, config) {
  const leaving = new AbortController();
  const {signal} = leaving;
  const you = new OwnView(client, signal);
  const live = new Live();
  const people = new UsersView(watcher, client, live, signal);
  const connections = new ConnectionsView(api, watcher, client, live, signal);
  const history = new HistoryView(api, client, live, config.historyHours, signal);
  const route = new Route({people, connections, history}, signal);
  const arrivals = new Arrivals(performance.now());
  let unknownSince = performance.now();
  const look = () => {
    const {connected, bridge, stale, error} = watcher.getSnapshot();
    if (bridge !== "unknown" || !connected) unknownSince = performance.now();
    const unknownFor = performance.now() - unknownSince;
    const situation = describe({connected, bridge, stale, error: error ?? client.error, unknownFor});
    setAttribute(link, "data-level", situation.level);
    setText(linkText, situation.word);
    setText(notice, situation.notice);
    live.update(stale, situation.level === "bad", client.serverTime());
    document.title = titleOf(watcher);
    if (stale) arrivals.restart(performance.now());
  };
  watcher.addEventListener("status", (event) => {
    const {detail} = /** @type {CustomEvent<import("../presence/status-table.js").Change>} */ (event);
    if (detail.userId !== client.user) arrivals.add(detail, performance.now());
  });
  signal.addEventListener("abort", watcher.subscribe(look));
  const ticking = setInterval(() => {
    look();
    you.paint();
    route.tick();
    const arrivalText = arrivals.nextText(performance.now());
    if (arrivalText !== "") setText(announcer, arrivalText);
  }, TICK_MS);
  look();
  const allow = (/** @type {boolean} */ operator) => {
    route.allow(operator);
    people.linkNames(operator);
  };
  void new Operators(api, allow, signal).askUntilAnswered();
  signInView.hidden = true;
  signedIn.hidden = skip.hidden = link.hidden = signOut.hidden = false;
  await new Promise((resolve) => signOut.addEventListener("click", resolve, {once: true}));
  leaving.abort();
  clearInterval(ticking);
  signedIn.hidden = skip.hidden = link.hidden = signOut.hidden = true;
  for (const text of [notice, announcer]) setText(text, "");
  document.title = TITLE;
  await client.disconnect();
}

/**
 * Return the title for the browser's tab, with the number of users online.
 *
 * @param {StatusWatcher} watcher
 */
function titleOf(watcher) {
  const {users, stale} = watcher.getSnapshot();
  return stale ? TITLE : `${users.filter(({online}) => online).length.toLocaleString()} here – ${TITLE}`;
}

keepFocus();
listenForShortcuts();
showSignIn(await configuration());
