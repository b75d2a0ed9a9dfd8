/** The choice of a period: some lengths up to now, or two moments of one's own. */

import {fromField, LENGTHS, toField} from "./ranges.js";
import {html} from "./view.js";

/** @typedef {import("./page.js").Page} Page */

/** @param {{page: Page, range: import("./ranges.js").Range}} props */
export function RangePicker({page, range}) {
  const {router} = page;
  const isFree = range.key === "free";
  const choose = (/** @type {string} */ key) => router.choose({range: key === "24h" ? "" : key, from: "", to: ""});
  const free = () => router.choose({range: "", from: new Date(range.from).toISOString(), to: new Date(range.to).toISOString()});
  // A field that is cleared, to be written anew, keeps the moment.
  const choosePart = (/** @type {string} */ name, /** @type {string} */ time) => time !== "" && router.choose({[name]: time});
  const field = (/** @type {"from" | "to"} */ name, /** @type {string} */ label) => html`
    <label>${label} <input type="datetime-local" id=${`range-${name}`} value=${toField(Date.parse(router.route.query[name] ?? ""))} required
      onChange=${(/** @type {any} */ event) => choosePart(name, fromField(event.currentTarget.value))} /></label>`;
  return html`
    <div class="ranges" role="group" aria-label="Period" id="ranges">
      ${LENGTHS.map(({key, label}) => html`
        <button type="button" key=${key} aria-pressed=${String(range.key === key)} onClick=${() => choose(key)}>${label}</button>`)}
      <button type="button" id="range-free" aria-pressed=${String(isFree)} onClick=${free}>From – to</button>
      ${isFree && html`<div class="free">${field("from", "From")}${field("to", "To")}</div>`}
    </div>`;
}
