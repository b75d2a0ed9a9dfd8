/** The sign-in: with a name, to be present, or only to look, which makes nobody present. */

import {NO_MQTT} from "./texts.js";
import {html, useEffect, useRef, useState} from "./view.js";

/** @typedef {import("./page.js").Page} Page */

/** @param {{page: Page, config: import("./api.js").Config}} props */
export function SignInView({page, config}) {
  const [user, setUser] = useState(page.name);
  const [password, setPassword] = useState("");
  const nameField = useRef(/** @type {HTMLInputElement | null} */ (null));
  const passwordField = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => nameField.current?.focus(), []);
  useEffect(() => {
    if (page.signInError !== "" && !page.isSigningIn) (page.isWrongPassword ? passwordField : nameField).current?.focus();
  }, [page.signInError, page.isSigningIn]);
  const signIn = (/** @type {boolean} */ looks) => {
    page.name = user;
    return page.signIn({user: user.trim(), password: password === "" ? null : password, looks});
  };
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    void signIn(false);
  };
  const look = (/** @type {{currentTarget: HTMLButtonElement}} */ {currentTarget}) => {
    // An open broker needs no name of who only looks.
    if (config.open === true || currentTarget.form?.reportValidity()) void signIn(true);
  };
  const isBlocked = !config.mqttJs || page.isSigningIn;
  return html`
    <section class="sign-in-view" id="sign-in-view" aria-labelledby="sign-in-title">
      <form class="card" id="sign-in" onSubmit=${submit}>
        <svg class="mark" aria-hidden="true"><use href="#icon-brand" /></svg>
        <h2 id="sign-in-title">Who is here?</h2>
        <p class="hint" id="sign-in-hint">
          ${config.open ? "Choose any name. Other users see it." : "Use your name and password for the broker."}
        </p>
        <label for="name">Your name</label>
        <input id="name" name="username" autocomplete="username" autocapitalize="off" spellcheck=${false} required
          ref=${nameField} value=${user} onInput=${(/** @type {any} */ event) => setUser(event.currentTarget.value)} />
        ${config.open !== true && html`
          <div id="password-field">
            <label for="password">Password</label>
            <input id="password" name="password" type="password" autocomplete="current-password"
              required=${config.open === false} ref=${passwordField} value=${password}
              onInput=${(/** @type {any} */ event) => setPassword(event.currentTarget.value)} />
          </div>`}
        <p class="error" id="sign-in-error" role="alert">${config.mqttJs ? page.signInError : NO_MQTT}</p>
        <button type="submit" class="primary" id="enter" disabled=${isBlocked}>${page.isSigningIn ? "Signing in…" : "Sign in"}</button>
        <button type="button" class="quiet" id="look" disabled=${isBlocked} onClick=${look}>Only look</button>
        <p class="hint">Signed in, you are shown as online while this page is open. Only looking, nobody sees you.</p>
      </form>
    </section>`;
}
