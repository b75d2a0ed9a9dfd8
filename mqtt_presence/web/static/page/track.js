/** The line of a user in a timeline, and its scale. */

import {visible} from "./display-names.js";
import {Avatar, Link, Name} from "./parts.js";
import {bars, endOf, marks} from "./timeline.js";
import {dayOf, hourTime} from "./times.js";
import {html, styled} from "./view.js";

/** @typedef {import("./timeline.js").Bar} Bar */

/**
 * The period of the timeline, in epoch milliseconds.
 *
 * @typedef {object} Window
 * @property {number} from
 * @property {number} to
 * @property {number} until the time of the data
 */

/**
 * @typedef {object} Line
 * @property {string} user
 * @property {import("./api.js").ConnectionRecord[] | null} records null until loaded
 * @property {boolean} isCut whether there are older connections
 */

/** The number of lanes; more simultaneous connections share the last one. */
const MOST_LANES = 8;
/** The position from which there is no room for a text to the right. */
const LAST_MARK = 0.9;
const DAY_MS = 86_400_000;
export const BAR_WORDS = {online: "here", idle: "idle", ended: "ended", lost: "lost"};

/** The hours or days above a timeline. @param {{window: Window}} props */
export function Scale({window: {from, to}}) {
  const zone = -new Date(to).getTimezoneOffset() * 60_000;
  const isLong = to - from > 2 * DAY_MS;
  return html`
    <div class="hours" id="hours" aria-hidden="true">
      ${marks(from, to, zone).map(({at, left}) => html`
        <span key=${at} data-last=${left > LAST_MARK ? "" : undefined} ref=${styled({"--left": left})}>
          ${(isLong ? dayOf : hourTime)(new Date(at))}
        </span>`)}
    </div>`;
}

/** The line of a user. @param {{page: import("./page.js").Page, line: Line, window: Window, isAlone?: boolean}} props */
export function Track({page, line: {user, records, isCut}, window: {from, to, until}, isAlone = false}) {
  const placed = bars(records ?? [], from, to, until).map((bar) => ({...bar, lane: Math.min(bar.lane, MOST_LANES - 1)}));
  const lanes = Math.max(1, ...placed.map(({lane}) => lane + 1));
  const who = html`<${Avatar} user=${user} /><${Name} user=${user} />`;
  return html`
    <li class=${isAlone ? "row alone" : "row"}>
      ${!isAlone && html`<${Link} page=${page} class="who" to=${{view: "person", user}}>${who}<//>`}
      <span class="unseen">${records === null ? "" : howMany(records.length, isCut)}</span>
      <ul class="track" aria-busy=${records === null ? "true" : undefined} ref=${styled({"--lanes": lanes})}>
        ${placed.map((bar) => html`<${Span} key=${keyOf(bar.connection)} bar=${bar} />`)}
      </ul>
    </li>`;
}

/** @param {{bar: Bar}} props */
function Span({bar}) {
  const summary = `${visible(bar.connection.clientId)}: ${life(bar)}`;
  const place = styled({"--left": bar.left, "--width": bar.width, "--lane": bar.lane, "--idle-from": bar.idleFrom});
  return html`
    <li class="span" data-state=${bar.state} data-cut=${bar.cut ? "" : undefined} title=${summary} ref=${place}>
      <span class="unseen">${summary}</span>
    </li>`;
}

/** @param {import("./api.js").ConnectionRecord} record */
export const keyOf = ({userId, clientId, connectionId}) => `${userId}/${clientId}/${connectionId}`;

/** @param {Bar} bar */
function life({connection, state}) {
  const {loginTime, logoutTime} = connection;
  const began = hourTime(new Date(Number(loginTime)));
  if (logoutTime === null) return `${BAR_WORDS[state]} since ${began}`;
  return `${began} – ${hourTime(new Date(logoutTime))}, ${endOf(connection)}`;
}

/**
 * @param {number} count
 * @param {boolean} more
 */
const howMany = (count, more) => (more ? `more than ${count} connections` : `${count} connection${count === 1 ? "" : "s"}`);

/** The meaning of the colours. */
export const Legend = () => html`
  <p class="legend" aria-hidden="true">
    <span data-state="online">online</span> <span data-state="idle">idle</span>
    <span data-state="ended">ended</span> <span data-state="lost">lost</span>
  </p>`;
