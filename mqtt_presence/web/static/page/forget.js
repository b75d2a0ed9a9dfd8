/** Forgetting a user, for operators, after a confirmation. */

import {visible} from "./display-names.js";
import {html, useRef, useState} from "./view.js";

/** @param {{page: import("./page.js").Page, session: import("./session.js").Session, user: string}} props */
export function Forget({page, session, user}) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [error, setError] = useState("");
  const [isBusy, setIsBusy] = useState(false);
  const forget = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setIsBusy(true);
    setError("");
    try {
      await session.api.forget(user);
      dialog.current?.close();
      page.router.go({view: "people"});
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    }
    setIsBusy(false);
  };
  return html`
    <div class="card operator" id="person-operator">
      <h3>For operators</h3>
      <p class="hint">Forgetting deletes all records of this user and the status. A user who is still connected comes back with the next sign of life.</p>
      <button type="button" class="danger" id="forget" onClick=${() => dialog.current?.showModal()}>Forget this user</button>
      <dialog class="card" id="forget-dialog" aria-labelledby="forget-title" ref=${dialog}>
        <form onSubmit=${forget}>
          <h2 id="forget-title">Forget <bdi>${visible(user)}</bdi>?</h2>
          <p>All records are deleted permanently.</p>
          <p class="error" id="forget-error" role="alert">${error}</p>
          <div class="buttons">
            <button type="button" id="forget-cancel" onClick=${() => dialog.current?.close()}>Cancel</button>
            <button type="submit" class="danger" id="forget-confirm" disabled=${isBusy}>Forget</button>
          </div>
        </form>
      </dialog>
    </div>`;
}
