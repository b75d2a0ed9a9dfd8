/** A person's page: a summary for everybody; devices, history and the end of the records for operators. */

import {CsvButton} from "./csv-button.js";
import {Forget} from "./forget.js";
import {Seen} from "./connections-view.js";
import {agent, visible} from "./display-names.js";
import {useLoader} from "./loader.js";
import {Unlock} from "./locked.js";
import {AsOf, Avatar, Heads, Link, sorted, sortingOf, StateWord, Time} from "./parts.js";
import {devices, dropsADay, timeOnline} from "./presence-figures.js";
import {RangePicker} from "./range-picker.js";
import {rangeOf} from "./ranges.js";
import {bars, endOf} from "./timeline.js";
import {BAR_WORDS, keyOf, Legend, Scale, Track} from "./track.js";
import {duration, exactly, moment} from "./times.js";
import {lastThere} from "./user-list.js";
import {html} from "./view.js";
import {WhyPanel} from "./why-panel.js";

/** @typedef {import("./api.js").ConnectionRecord} ConnectionRecord */
/** @typedef {import("./page.js").Page} Page */
/** @typedef {import("./session.js").Session} Session */

const ASK_EVERY_MS = 15_000;
const AFTER_CHANGE_MS = 700;
const WEEK_MS = 7 * 86_400_000;

/** @param {{page: Page, session: Session, user: string}} props */
export function PersonView({page, session, user}) {
  const status = session.watcher.get(user);
  const isOperator = session.operator === true;
  const week = useLoader(page, session, "week", {
    load: (/** @type {string} */ name, now) => session.api.history({user: name, from: new Date(now.getTime() - WEEK_MS), to: now}),
    every: ASK_EVERY_MS,
    afterChange: AFTER_CHANGE_MS,
  }, isOperator ? user : null, user);
  const asOf = isOperator ? week.asOf : session.live.asOf;
  return html`
    <section class="view person" id="person" aria-labelledby="person-title" data-state=${status?.state ?? "offline"}
      data-stale=${asOf === null ? undefined : ""}>
      <div class="head">
        <${Link} page=${page} to=${{view: "people", query: page.router.last.people}} id="everyone">People<//>
        <h2 id="person-title" tabindex="-1"><${Avatar} user=${user} /> <bdi>${visible(user)}</bdi></h2>
        ${user === session.user && html`<span class="tag">you</span>`}
        <${AsOf} id="person-as-of" at=${asOf} />
      </div>
      <${Summary} session=${session} status=${status ?? null} week=${week.data} />
      ${isOperator
        ? html`<${ForOperators} page=${page} session=${session} user=${user} week=${week} />`
        : html`<${Unlock} page=${page} session=${session} />`}
    </section>`;
}

/**
 * @param {{session: Session, status: import("./user-list.js").UserStatus | null,
 *   week: import("./api.js").Page<ConnectionRecord> | null}} props
 */
function Summary({session, status, week}) {
  const now = session.now();
  if (status === null && week === null) return html`<div class="card"><p class="hint" id="person-unknown">This user has no status.</p></div>`;
  return html`
    <div class="card">
      <dl class="summary" id="summary">
        ${status !== null && html`
          <${Fact} word="State"><${StateWord} state=${status.state} /><//>
          <${Fact} word="For"><${Time} at=${status.since} now=${now} /><//>
          <${Fact} word="Last seen">
            ${status.state === "online" ? html`<span class="state-online">active now</span>` : html`<${Time} at=${lastThere(status)} now=${now} past />`}
          <//>
          <${Fact} word="Last login"><${Time} at=${status.lastLogin?.date ?? null} now=${now} past /><//>
          <${Fact} word="Connections">${status.connections}<//>`}
        ${week !== null && html`<${WeekFacts} week=${week} now=${now.getTime()} />`}
      </dl>
    </div>`;
}

/** @param {{word: string, children?: unknown}} props */
const Fact = ({word, children}) => html`<div><dt>${word}</dt><dd>${children}</dd></div>`;

/** @param {{week: import("./api.js").Page<ConnectionRecord>, now: number}} props */
function WeekFacts({week: {items, next}, now}) {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  // Of a user with very many connections, only the latest are loaded: they cover less than a week.
  const from = next === null ? now - WEEK_MS : Math.max(now - WEEK_MS, Number(items.at(-1)?.loginTime));
  const drops = dropsADay(items, from, now);
  return html`
    <${Fact} word="Online today">${from <= midnight ? "" : "at least "}${duration(timeOnline(items, midnight, now))}<//>
    <${Fact} word="Drops a day"><span title="Connections that ended without a logout, in the last seven days">${drops < 10 ? drops.toFixed(1) : Math.round(drops)}</span><//>`;
}

/** @param {{page: Page, session: Session, user: string, week: import("./loader.js").Loader<string, import("./api.js").Page<ConnectionRecord>>}} props */
function ForOperators({page, session, user, week}) {
  const {query} = page.router.route;
  const now = session.now().getTime();
  const range = rangeOf(query, now);
  const {from = "", to = "", range: key = ""} = query;
  const question = {user, query: {range: key, from, to}};
  const loader = useLoader(page, session, "person", {
    load: (/** @type {{user: string, query: import("./route.js").Query}} */ asks, asked) => {
      const period = rangeOf(asks.query, asked.getTime());
      return session.api.history({user: asks.user, from: new Date(period.from), to: new Date(period.to)});
    },
    every: ASK_EVERY_MS,
    afterChange: AFTER_CHANGE_MS,
  }, question, JSON.stringify(question));
  const window = {from: range.from, to: range.to, until: Math.min(range.to, loader.asOf?.getTime() ?? now)};
  const line = {user, records: loader.data?.items ?? null, isCut: loader.data?.next !== null};
  return html`
    <${WhyPanel} page=${page} session=${session} user=${user} />
    <h3>Devices <span class="hint">of the last 7 days</span></h3>
    <p class="error" id="person-error" role="status">${week.error || loader.error}</p>
    <${Devices} page=${page} records=${week.data?.items ?? null} now=${session.now()} />
    <div class="head">
      <h3>The ${range.label}</h3>
      <${RangePicker} page=${page} range=${range} />
      <${CsvButton} session=${session} range=${range} user=${user} />
    </div>
    <div class="card timeline" id="timeline">
      <${Legend} />
      <${Scale} window=${window} />
      <ol class="lines" id="lines"><${Track} page=${page} line=${line} window=${window} isAlone /></ol>
    </div>
    <${Records} page=${page} line=${line} window=${window} />
    <${Forget} key=${user} page=${page} session=${session} user=${user} />`;
}

const DEVICE_ORDERS = /** @type {const} */ (["seen", "client", "address", "agent", "end"]);
const DEVICE_COLUMNS = /** @type {const} */ ([
  ["Client", "client"], ["Last seen", "seen"], ["Address", "address"], ["User agent", "agent"], ["End", "end"],
]);
/** @type {Record<string, (record: ConnectionRecord) => string | null>} */
const DEVICE_VALUES = {
  client: ({clientId}) => clientId,
  address: ({ipAddr}) => ipAddr,
  agent: ({userAgent}) => userAgent && agent(userAgent),
  end: (record) => (record.logoutTime === null ? null : endOf(record)),
};

/** The clients with their latest connection. @param {{page: Page, records: ConnectionRecord[] | null, now: Date}} props */
function Devices({page, records, now}) {
  if (records === null) return html`<div class="card"><p class="hint">Loading…</p></div>`;
  const sorting = sortingOf(page, DEVICE_ORDERS, "devices");
  const valueOf = DEVICE_VALUES[sorting.order];
  const latest = devices(records);
  const found = valueOf === undefined ? (sorting.reverse ? latest.toReversed() : latest) : sorted(latest, valueOf, sorting.reverse);
  return html`
    <div class="card flush">
      <table class="grid line" role="table">
        <caption class="unseen">Devices</caption>
        <${Heads} page=${page} columns=${DEVICE_COLUMNS} sorting=${sorting} first="seen" name="devices" />
        <tbody role="rowgroup" id="devices">
          ${found.map((record) => html`
            <tr role="row" key=${record.clientId}>
              <th role="rowheader" scope="row" class="code"><bdi>${visible(record.clientId)}</bdi>
                ${record.unconfirmed && html`<abbr title="unconfirmed: it may have ended unnoticed">?</abbr>`}</th>
              <td role="cell" data-label="Last seen"><${Seen} record=${record} now=${now} /></td>
              <td role="cell" data-label="Address" class="code">${visible(record.ipAddr ?? "–")}</td>
              <td role="cell" data-label="User agent" title=${record.userAgent && visible(record.userAgent)}><bdi>${agent(record.userAgent ?? "–")}</bdi></td>
              <td role="cell" data-label="End">${record.logoutTime === null ? "–" : endOf(record)}</td>
            </tr>`)}
        </tbody>
      </table>
      <p class="empty" hidden=${found.length > 0}>No device in the last 7 days.</p>
    </div>`;
}

const ORDERS = /** @type {const} */ (["from", "to", "for", "client", "state"]);
const COLUMNS = /** @type {const} */ ([["Client", "client"], ["From", "from"], ["To", "to"], ["For", "for"], ["State", "state"]]);

/** The connections of the period. @param {{page: Page, line: import("./track.js").Line, window: import("./track.js").Window}} props */
function Records({page, line: {records, isCut}, window: {from, to, until}}) {
  if (records === null) return null;
  const sorting = sortingOf(page, ORDERS);
  const length = (/** @type {ConnectionRecord} */ {loginTime, logoutTime}) => (logoutTime ?? until) - Number(loginTime);
  /** @type {Record<string, (bar: import("./timeline.js").Bar) => string | number | null>} */
  const values = {
    from: ({connection}) => connection.loginTime,
    to: ({connection}) => connection.logoutTime ?? Infinity,
    for: ({connection}) => length(connection),
    client: ({connection}) => connection.clientId,
    state: ({state, connection}) => (connection.logoutTime === null ? BAR_WORDS[state] : endOf(connection)),
  };
  const found = sorted(bars(records, from, to, until), values[sorting.order] ?? (() => null), sorting.reverse);
  const now = new Date(to);
  return html`
    <div class="card flush" id="line-detail">
      <table class="grid line" role="table">
        <caption class="unseen">Connections of the period</caption>
        <${Heads} page=${page} columns=${COLUMNS} sorting=${sorting} first="from" />
        <tbody role="rowgroup" id="line-rows">
          ${found.map(({connection, state}) => html`
            <tr role="row" key=${keyOf(connection)}>
              <th role="rowheader" scope="row" class="code"><bdi>${visible(connection.clientId)}</bdi></th>
              <td role="cell" data-label="From" title=${exactly(new Date(Number(connection.loginTime)))}>${moment(new Date(Number(connection.loginTime)), now)}</td>
              <td role="cell" data-label="To">${connection.logoutTime === null ? "–" : moment(new Date(connection.logoutTime), now)}</td>
              <td role="cell" data-label="For">${duration(length(connection))}</td>
              <td role="cell" data-label="State">
                <${StateWord} state=${state === "online" || state === "idle" ? state : "offline"}>
                  ${connection.logoutTime === null ? BAR_WORDS[state] : endOf(connection)}
                <//>
              </td>
            </tr>`)}
        </tbody>
      </table>
      <p class="empty" id="line-empty" hidden=${found.length > 0}>No connection in this period.</p>
      <p class="empty" id="line-cut" hidden=${!isCut}>Older connections are not shown; CSV has them.</p>
    </div>`;
}
