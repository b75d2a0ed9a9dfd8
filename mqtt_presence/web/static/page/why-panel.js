/** Why a person is in a state: the records with their rules and deadlines, for operators; loaded when it is opened. */

import {visible} from "./display-names.js";
import {useLoader} from "./loader.js";
import {exactly, moment} from "./times.js";
import {html, useState} from "./view.js";

/** @typedef {import("./api.js").Explanation} Explanation */
/** @typedef {Explanation["records"][number]} ExplainedRecord */
/** @typedef {ExplainedRecord["past"][number]} Step */

const ASK_EVERY_MS = 15_000;
const AFTER_CHANGE_MS = 700;

/** @type {Record<string, string>} */
const CHANGES = {opened: "Opened", reopened: "Reopened", idle: "Idle", ended: "Ended", corrected: "End corrected"};
/** @type {Record<string, string>} */
const DUE = {idle: "Becomes idle", ended: "Ends", graceEnds: "Stops counting"};
/** @type {Record<string, string>} */
const DEADLINES = {
  B1: "without activity",
  B2: "without a sign of life",
  B3: "without an answer to the announcement",
  D17: "at the end of the grace",
  I2: "without a report of the broker about it",
};
/** @type {Record<string, string>} */
const TRIGGERS = {
  login: "a login",
  activity: "an activity message",
  logout: "a logout",
  will: "a will",
  brokerReport: "a report of the broker",
  check: "a check of the bridge",
  deviceMessage: "a message of the device",
  gateway: "its gateway is gone",
};

/** @param {{page: import("./page.js").Page, session: import("./session.js").Session, user: string}} props */
export function WhyPanel({page, session, user}) {
  const [isOpen, setOpen] = useState(false);
  const loader = useLoader(page, session, "why", {
    load: (/** @type {string} */ name) => session.api.why(name),
    every: ASK_EVERY_MS,
    afterChange: AFTER_CHANGE_MS,
  }, isOpen ? user : null, user);
  const toggle = (/** @type {{currentTarget: HTMLDetailsElement}} */ {currentTarget}) => setOpen(currentTarget.open);
  return html`
    <details class="card why" id="why" onToggle=${toggle}>
      <summary>Why this state?</summary>
      <p class="error" role="status">${loader.error}</p>
      ${isOpen && loader.data?.records.map((record) => html`<${Reasons} record=${record} now=${session.now()} key=${keyOf(record)} />`)}
    </details>`;
}

/** @param {ExplainedRecord} record */
const keyOf = ({clientId, connectionId}) => JSON.stringify([clientId, connectionId]);

/** @param {{record: ExplainedRecord, now: Date}} props */
const Reasons = ({record, now}) => html`
  <h4><bdi class="code">${visible(record.clientId)}</bdi> <span class="hint">${stateOf(record)}</span></h4>
  <ul>
    ${record.past.map((step) => html`<li><${At} at=${step.at} now=${now} /> ${past(record, step)}</li>`)}
    <li><${At} at=${record.lastSeen} now=${now} /> Last sign of life</li>
    ${record.due.map((step) => html`<li><${At} at=${step.at} now=${now} /> ${named(DUE, step)}: ${DEADLINES[step.rule ?? ""]}</li>`)}
  </ul>`;

/** @param {{at: number | null, now: Date}} props */
const At = ({at, now}) => (at === null ? "–" : html`<time title=${exactly(new Date(at))}>${moment(new Date(at), now)}</time>`);

/** @param {ExplainedRecord} record */
export const stateOf = ({open, counts, idle}) => (open ? (idle === true ? "open, idle" : "open") : counts ? "ended, in its grace" : "ended");

/**
 * Return the text of a change: the rule, the trigger, and for the last end its reason.
 *
 * @param {ExplainedRecord} record
 * @param {Step} step
 */
export function past(record, step) {
  const isEnd = step.change === "ended" || step.change === "corrected";
  const causes = [record.reason, record.cause].filter((word) => word !== null).join(", ");
  const reason = isEnd && step === record.past.at(-1) && causes !== "" ? ` (${causes})` : "";
  const trigger = TRIGGERS[step.trigger];
  return `${named(CHANGES, step)}${trigger === undefined ? "" : `: ${trigger}`}${reason}`;
}

/**
 * @param {Record<string, string>} words
 * @param {Step} step
 */
const named = (words, {change, rule}) => `${words[change] ?? change}${rule === null ? "" : ` by ${rule}`}`;
