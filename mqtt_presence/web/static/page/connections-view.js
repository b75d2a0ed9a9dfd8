/** The view of all connections, for operators: the open ones, and the ended ones on request. */

import {agent, visible} from "./display-names.js";
import {useLoader} from "./loader.js";
import {AsOf, Heads, Search, Someone, sorted, sortingOf} from "./parts.js";
import {keyOf} from "./track.js";
import {endOf, stateOf} from "./timeline.js";
import {ago, exactly, moment} from "./times.js";
import {html, useState} from "./view.js";

/** @typedef {import("./api.js").ConnectionRecord} ConnectionRecord */
/** @typedef {import("./page.js").Page} Page */
/** @typedef {import("./session.js").Session} Session */

const STEP = 100;
/** Milliseconds from a change of a status to the next request, which serves many changes. */
const SOON_MS = 700;
const ASK_AT_LEAST_EVERY_MS = 15_000;

const ORDERS = /** @type {const} */ (["user", "client", "seen", "ip", "agent", "since"]);
const COLUMNS = /** @type {const} */ ([
  ["User", "user"], ["Client", "client"], ["Last seen", "seen"], ["IP", "ip"], ["User agent", "agent"], ["Since", "since"],
]);

/** @type {Record<string, (record: ConnectionRecord) => string | number | null>} */
const VALUES = {
  client: ({clientId}) => clientId,
  seen: (record) => (stateOf(record) === "online" ? Infinity : lastSeen(record)),
  ip: ({ipAddr}) => ipAddr,
  agent: ({userAgent}) => userAgent && agent(userAgent),
  since: ({loginTime}) => loginTime,
};

/** @param {{page: Page, session: Session}} props */
export function ConnectionsView({page, session}) {
  const {q = "", ended = ""} = page.router.route.query;
  const [limit, setLimit] = useState(STEP);
  const [minimum, setMinimum] = useState(STEP);
  const sorting = sortingOf(page, ORDERS);
  const loader = useLoader(page, session, "connections", {
    load: (/** @type {{ended: boolean, minimum: number}} */ question) => loadPages(session, question),
    every: ASK_AT_LEAST_EVERY_MS,
    afterChange: SOON_MS,
  }, {ended: ended !== "", minimum});
  const [records, isMore] = loader.data ?? [[], false];
  const search = q.trim().toLowerCase();
  const found = records.filter((record) => textOf(record).includes(search));
  const valueOf = VALUES[sorting.order];
  const ordered = valueOf === undefined ? (sorting.reverse ? found.toReversed() : found) : sorted(found, valueOf, sorting.reverse);
  const isRest = found.length > limit;
  const more = () => {
    if (!isRest) setMinimum(records.length + STEP);
    setLimit(limit + STEP);
  };
  return html`
    <section class="view" id="connections" aria-labelledby="connections-title" data-stale=${loader.asOf === null ? undefined : ""}>
      <div class="head">
        <h2 id="connections-title" tabindex="-1">Connections</h2>
        <${AsOf} id="connections-as-of" at=${loader.asOf} />
        <label class="check"><input id="ended" type="checkbox" checked=${ended !== ""}
          onChange=${(/** @type {any} */ event) => page.router.choose({ended: event.currentTarget.checked ? "1" : ""})} /> Include ended ones</label>
        <${Search} page=${page} id="connections-search" label="Search connections" />
      </div>
      <p class="error" id="connections-error" role="status">${loader.error}</p>
      <div class="card flush">
        <table class="grid connections" role="table">
          <caption class="unseen">Connections</caption>
          <${Heads} page=${page} columns=${COLUMNS} sorting=${sorting} first="user" />
          <tbody role="rowgroup" id="connections-rows">
            ${ordered.slice(0, limit).map((/** @type {ConnectionRecord} */ record) => html`<${Row} key=${keyOf(record)} page=${page} record=${record} now=${session.now()} />`)}
          </tbody>
        </table>
        <p class="empty" id="connections-empty" hidden=${found.length > 0 || loader.data === null}>${emptyText(records.length, isMore)}</p>
        <p class="rest"><button type="button" class="quiet" id="connections-more" hidden=${!isRest && !isMore} onClick=${more}>
          ${isRest || search === "" ? "Show more" : "Search further"}
        </button></p>
      </div>
    </section>`;
}

/**
 * Load the open connections, then the ended ones.
 *
 * @param {Session} session
 * @param {{ended: boolean, minimum: number}} question
 * @returns {Promise<[ConnectionRecord[], boolean]>} the connections, and whether there are more
 */
async function loadPages({api}, {ended, minimum}) {
  /** @type {ConnectionRecord[]} */
  const records = [];
  for (const open of ended ? [true, false] : [true]) {
    /** @type {string | null} */
    let after = null;
    do {
      if (records.length >= minimum) return [records, true];
      /** @type {import("./api.js").Page<ConnectionRecord>} */
      const page = await api.connections({open, after});
      records.push(...page.items);
      after = page.next;
    } while (after !== null);
  }
  return [records, false];
}

/**
 * The time of the last activity of an idle connection, of the end of an ended one, else of the last sign of life.
 *
 * @param {ConnectionRecord} record
 */
const lastSeen = ({logoutTime, idle, lastActivity, lastSeen: seen}) =>
  logoutTime !== null ? (seen ?? logoutTime) : idle ? (lastActivity ?? seen) : seen;

/**
 * When a connection was there last, as text.
 *
 * @param {{record: ConnectionRecord, now: Date}} props
 */
export function Seen({record, now}) {
  const state = stateOf(record);
  if (state === "online") return html`<span class="state-online">active now</span>`;
  const at = lastSeen(record);
  if (at === null) return html`<span class="none">–</span>`;
  return html`<span class=${state === "idle" ? "state-idle" : ""} title=${exactly(new Date(at))}>
    ${state === "idle" && "idle, "}${ago(now.getTime() - at)}</span>`;
}

/** @param {{page: Page, record: ConnectionRecord, now: Date}} props */
function Row({page, record, now}) {
  const {userId, clientId, connectionId, ipAddr, userAgent, loginTime, logoutTime, unconfirmed} = record;
  const state = stateOf(record);
  return html`
    <tr role="row" data-state=${state === "online" || state === "idle" ? state : "offline"}>
      <th role="rowheader" scope="row"><${Someone} page=${page} user=${userId} /></th>
      <td role="cell" data-label="Client" class="code" title=${`client ${visible(clientId)}, connection ${visible(connectionId)}`}>
        <bdi>${visible(clientId)}</bdi>${unconfirmed && html`<abbr title="unconfirmed: it may have ended unnoticed">?</abbr>`}
        <small>${visible(connectionId)}</small>
      </td>
      <td role="cell" data-label="Last seen" class="nowrap"><${Seen} record=${record} now=${now} /></td>
      <td role="cell" data-label="IP" class="code nowrap">${visible(ipAddr ?? "–")}</td>
      <td role="cell" data-label="User agent" title=${userAgent && visible(userAgent)}><bdi>${agent(userAgent ?? "–")}</bdi></td>
      <td role="cell" data-label="Since" class="nowrap">
        <span>${loginTime === null ? "?" : moment(new Date(loginTime), now)}</span>
        ${logoutTime !== null && html`<small class="end">${moment(new Date(logoutTime), now)} ${endOf(record)}</small>`}
      </td>
    </tr>`;
}

/**
 * @param {number} loaded
 * @param {boolean} isMore
 */
function emptyText(loaded, isMore) {
  if (loaded === 0) return "There are no connections.";
  if (isMore) return `No match among the first ${loaded.toLocaleString()}.`;
  return "No connection matches.";
}

/** @param {ConnectionRecord} record */
const textOf = ({userId, clientId, connectionId, ipAddr, userAgent}) =>
  `${userId}\n${clientId}\n${connectionId}\n${ipAddr ?? ""}\n${userAgent ?? ""}`.toLowerCase();
