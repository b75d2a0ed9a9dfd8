/** The whole page as a component: header, notice, and the sign-in or the view of the address. */

import {ConnectionsView} from "./connections-view.js";
import {focusView} from "./focus.js";
import {HistoryView} from "./history-view.js";
import {Locked} from "./locked.js";
import {OwnPanel} from "./own-panel.js";
import {Avatar, Link, Name} from "./parts.js";
import {PeopleView} from "./people-view.js";
import {PersonView} from "./person-view.js";
import {SignInView} from "./sign-in-view.js";
import {html, useEffect, useRef} from "./view.js";

/** @typedef {import("./page.js").Page} Page */
/** @typedef {import("./session.js").Session} Session */

/** @type {readonly ["people" | "connections" | "history", string][]} */
const TABS = [["people", "People"], ["connections", "Connections"], ["history", "History"]];

/** @param {{page: Page}} props */
export function App({page}) {
  const {session, config, notice} = page;
  return html`
    <${Header} page=${page} />
    <p class="notice" id="notice" role="status">${notice || session?.situation.notice || ""}</p>
    <p class="unseen" id="announcer" aria-live="polite">${session?.announcement ?? ""}</p>
    <main>
      ${session !== null && config !== null
        ? html`<${SignedIn} page=${page} session=${session} />`
        : config !== null && html`<${SignInView} page=${page} config=${config} />`}
    </main>
    <footer class="foot"><span id="version">mqtt-presence ${config?.version ?? ""}</span></footer>`;
}

/** @param {{page: Page}} props */
function Header({page}) {
  const {session} = page;
  return html`
    <header class="bar">
      <button type="button" class="skip" id="skip" hidden=${session === null} onClick=${focusView}>Skip the header</button>
      <h1 class="brand"><svg aria-hidden="true"><use href="#icon-brand" /></svg><span>Presence</span></h1>
      ${session !== null && html`
        <nav class="views" id="views" aria-label="Views">
          ${TABS.map(([view, label]) => html`
            <${Link} page=${page} key=${view} to=${{view, query: page.router.last[view]}} aria-current=${isCurrent(page, view) ? "page" : undefined}>
              ${label}${view !== "people" && session.operator === false && html`<${Lock} />`}
            <//>`)}
        </nav>
        <p class="link" id="link" data-level=${session.situation.level}>
          <span class="light" aria-hidden="true"></span><span id="link-text">${session.situation.word}</span>
        </p>`}
      <button type="button" class="quiet icon" id="theme">
        <span class="to-dark"><svg aria-hidden="true"><use href="#icon-moon" /></svg><span class="unseen">Dark appearance</span></span>
        <span class="to-light"><svg aria-hidden="true"><use href="#icon-sun" /></svg><span class="unseen">Light appearance</span></span>
      </button>
      ${session !== null && html`
        <${Own} page=${page} session=${session} />
        <button type="button" class="quiet" id="sign-out" onClick=${() => void page.signOut()}>
          ${session.client === null ? "Leave" : "Sign out"}
        </button>`}
    </header>`;
}

/**
 * Whether a tab leads to the present view; a person's page belongs to the people.
 *
 * @param {Page} page
 * @param {string} tab
 */
const isCurrent = ({router: {route}}, tab) => (route.view === "person" ? "people" : route.view) === tab;

const Lock = () => html`<svg class="lock" aria-hidden="true"><use href="#icon-lock" /></svg><span class="unseen"> (locked)</span>`;

/** One's own name and state, which opens the panel with the clock and the monitor. @param {{page: Page, session: Session}} props */
function Own({page, session: {client}}) {
  if (client === null) return html`<span class="tag" id="looking" title="Nobody sees you">Only looking</span>`;
  const {connected, isIdle} = client.getSnapshot();
  const state = !connected ? "offline" : isIdle ? "idle" : "online";
  const toggle = () => {
    page.showsOwn = !page.showsOwn;
    page.paint();
  };
  return html`
    <button type="button" class="quiet own" id="own" data-state=${state} aria-expanded=${page.showsOwn} aria-controls="you"
      title="Your clock and your idle monitor" onClick=${toggle}>
      <${Avatar} user=${client.user} /><span class="own-name"><${Name} user=${client.user} /></span>
      <span class="unseen">, you: <span id="my-state">${state.charAt(0).toUpperCase() + state.slice(1)}</span></span>
    </button>`;
}

/** @param {{page: Page, session: Session}} props */
function SignedIn({page, session}) {
  const {steps} = page.router;
  const seen = useRef(steps);
  useEffect(() => {
    if (seen.current !== steps) focusView();
    seen.current = steps;
  }, [steps]);
  return html`
    <div class="signed-in" id="signed-in">
      ${session.client !== null && html`<${OwnPanel} page=${page} client=${session.client} isShown=${page.showsOwn} />`}
      <${View} page=${page} session=${session} />
    </div>`;
}

/** @param {{page: Page, session: Session}} props */
function View({page, session}) {
  const {view, user} = page.router.route;
  if (view === "people") return html`<${PeopleView} page=${page} session=${session} />`;
  if (view === "person") return html`<${PersonView} key=${user} page=${page} session=${session} user=${user} />`;
  if (session.operator !== true) return html`<${Locked} key=${view} page=${page} session=${session} view=${view} />`;
  if (view === "connections") return html`<${ConnectionsView} page=${page} session=${session} />`;
  return html`<${HistoryView} page=${page} session=${session} />`;
}
