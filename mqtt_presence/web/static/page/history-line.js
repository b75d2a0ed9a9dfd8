/** The line of a user in the timeline, and the rows of the same data as text. */

import {h, setAttribute, setText, setVariables} from "./dom.js";
import {KeyedList} from "./keyed-list.js";
import {visible} from "./display-names.js";
import {avatar, name} from "./user-display.js";
import {bars, endOf} from "./timeline.js";
import {duration, hourTime, moment} from "./times.js";

/** @typedef {import("./timeline.js").Bar} Bar */

/**
 * @typedef {object} Line
 * @property {string} user
 * @property {import("./api.js").ConnectionRecord[] | null} records null until loaded
 * @property {boolean} isCut whether there are older connections
 */

/** The number of lanes; more simultaneous connections share the last one. */
const MOST_LANES = 8;
const BAR_WORDS = {online: "here", idle: "idle", ended: "ended", lost: "lost"};

/**
 * @param {string} user
 * @param {() => import("./history-view.js").Window} window returns the period of the timeline
 */
export function makeLine(user, window) {
  const track = h("ul", {class: "track"});
  const summary = h("span", {class: "unseen"});
  const link = h("a", {class: "who", href: `#history/${encodeURIComponent(user)}`}, avatar(user), name(user));
  const element = h("li", {class: "row"}, link, summary, track);
  const list = new KeyedList(track, keyOf, makeBar);
  return {
    element,
    /** @param {Line} line */
    update: ({records, isCut}) => {
      const {from, to, until} = window();
      const placed = bars(records ?? [], from, to, until).map((bar) => ({...bar, lane: Math.min(bar.lane, MOST_LANES - 1)}));
      setAttribute(track, "aria-busy", records === null ? "true" : null);
      setVariables(track, {"--lanes": Math.max(1, ...placed.map(({lane}) => lane + 1))});
      setText(summary, records === null ? "" : howMany(records.length, isCut));
      list.show(placed);
    },
  };
}

/** @param {Bar} bar */
const keyOf = ({connection: {clientId, connectionId}}) => `${clientId}/${connectionId}`;

/**
 * @param {number} count
 * @param {boolean} more
 */
const howMany = (count, more) => (more ? `more than ${count} connections` : `${count} connection${count === 1 ? "" : "s"}`);

/** @param {Bar} first */
function makeBar({connection}) {
  const element = h("li", {class: "span"}, h("span", {class: "unseen"}));
  const text = /** @type {HTMLElement} */ (element.firstElementChild);
  return {
    element,
    /** @param {Bar} bar */
    update: (bar) => {
      setAttribute(element, "data-state", bar.state);
      setAttribute(element, "data-cut", bar.cut);
      setVariables(element, {"--left": bar.left, "--width": bar.width, "--lane": bar.lane, "--idle-from": bar.idleFrom});
      const summary = `${visible(connection.clientId)}: ${life(bar)}`;
      setText(text, summary);
      setAttribute(element, "title", summary);
    },
  };
}

/** @param {Bar} bar */
function life({connection, state}) {
  const {loginTime, logoutTime} = connection;
  const began = hourTime(new Date(Number(loginTime)));
  if (logoutTime === null) return `${BAR_WORDS[state]} since ${began}`;
  return `${began} – ${hourTime(new Date(logoutTime))}, ${endOf(connection)}`;
}

/**
 * Make a row of a table with the data of a bar.
 *
 * @param {Bar} bar
 * @param {Date} now
 * @param {Date} until the time of the data
 */
export function makeRow({connection, state}, now, until) {
  const {clientId, loginTime, logoutTime} = connection;
  const began = new Date(Number(loginTime));
  const ended = logoutTime === null ? null : new Date(logoutTime);
  const shown = state === "ended" || state === "lost" ? "offline" : state;
  return h(
    "tr",
    {role: "row"},
    h("th", {role: "rowheader", scope: "row", class: "code"}, h("bdi", {}, visible(clientId))),
    h("td", {role: "cell", "data-label": "From"}, moment(began, now)),
    h("td", {role: "cell", "data-label": "To"}, ended === null ? "–" : moment(ended, now)),
    h("td", {role: "cell", "data-label": "For"}, duration((ended ?? until).getTime() - began.getTime())),
    h("td", {role: "cell", "data-label": "State"}, h("span", {class: "state", "data-state": shown}, ended === null ? BAR_WORDS[state] : endOf(connection))),
  );
}
