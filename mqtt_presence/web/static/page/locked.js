/** A view that is locked: the reason, and the ways to unlock it. */

import {visible} from "./display-names.js";
import {html, useState} from "./view.js";

/** @typedef {import("./page.js").Page} Page */
/** @typedef {import("./session.js").Session} Session */

const TITLES = new Map([["connections", "Connections"], ["history", "History"]]);

/** @param {{page: Page, session: Session, view: string}} props */
export const Locked = ({page, session, view}) => html`
  <section class="view" id=${view} aria-labelledby=${`${view}-title`}>
    <div class="head"><h2 id=${`${view}-title`} tabindex="-1">${TITLES.get(view)}</h2></div>
    <${Unlock} page=${page} session=${session} />
  </section>`;

/** The ways to become an operator. @param {{page: Page, session: Session}} props */
export function Unlock({page, session}) {
  const {operator, operatorBy} = session;
  if (operator === null) return html`<div class="card"><p class="hint">Asking the server for your rights…</p></div>`;
  return html`
    <div class="card locked" id="locked">
      <svg aria-hidden="true"><use href="#icon-lock" /></svg>
      <h3>For operators</h3>
      <p>Connections and history have addresses and devices, so only operators see them.</p>
      ${operatorBy.includes("token") && html`<${TokenForm} session=${session} />`}
      ${operatorBy.includes("password") && html`<${OtherUser} page=${page} session=${session} />`}
      ${operatorBy.length === 0 && html`<${NoWay} />`}
    </div>`;
}

/** @param {{session: Session}} props */
function TokenForm({session}) {
  const [token, setToken] = useState("");
  const [error, setError] = useState("");
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    session.api.useToken(token);
    try {
      setError((await session.askRights()) ? "" : "This is not the token.");
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    }
  };
  return html`
    <form id="token-form" onSubmit=${submit}>
      <label for="token">The token of this server</label>
      <div class="one-line">
        <input id="token" type="password" autocomplete="off" required value=${token}
          onInput=${(/** @type {any} */ event) => setToken(event.currentTarget.value)} />
        <button type="submit" class="primary">Unlock</button>
      </div>
      <p class="error" id="token-error" role="alert">${error}</p>
      <p class="hint">It is the setting <code>web_token</code>. Without one, <code>mqtt-presence up</code> makes it, and prints its file at each start.</p>
    </form>`;
}

/** @param {{page: Page, session: Session}} props */
const OtherUser = ({page, session}) => html`
  <p id="other-user">
    ${session.client === null ? "You are only looking." : html`You are <bdi>${visible(session.user)}</bdi>, who is no operator here.`}
    ${" "}Users in the setting <code>operator</code> see this with their password.
  </p>
  <p><button type="button" onClick=${() => void page.signOut()}>Sign in as another user</button></p>`;

const NoWay = () => html`
  <p>This server accepts no token and no operator’s password. One of these opens it:</p>
  <ul class="ways">
    <li>At the server itself, without a proxy: open <code>http://localhost:${location.port || "80"}/</code>.</li>
    <li>A token: set <code>web_token</code>, and enter it here.</li>
    <li>Passwords: <code>mqtt-presence passwd alice</code>, then <code>--operator alice</code> with <code>--no-open</code>.</li>
  </ul>`;
