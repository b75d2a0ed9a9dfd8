/** The history of all users, for operators: figures, users online over time, a line for each user. */

import {ApiError} from "./api.js";
import {Chart} from "./chart.js";
import {CsvButton} from "./csv-button.js";
import {useLoader} from "./loader.js";
import {AsOf, Search, sorted, sortingOf} from "./parts.js";
import {RangePicker} from "./range-picker.js";
import {rangeOf} from "./ranges.js";
import {Legend, Scale, Track} from "./track.js";
import {html, useState} from "./view.js";

/** @typedef {import("./page.js").Page} Page */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./track.js").Line} Line */

const STEP = 25;
/** Simultaneous requests for users. */
const AT_ONCE = 2;
const ASK_EVERY_MS = 30_000;
/** The HTTP status for an unknown user. */
const NOT_FOUND = 404;
const ORDERS = /** @type {const} */ (["name", "latest", "drops"]);
const ORDER_WORDS = {name: "Name", latest: "Latest", drops: "Connections"};

/** @typedef {{search: string, limit: number, query: import("./route.js").Query}} Question */

/** @param {{page: Page, session: Session}} props */
export function HistoryView({page, session}) {
  const {query} = page.router.route;
  const [limit, setLimit] = useState(STEP);
  const now = session.now().getTime();
  const range = rangeOf(query, now);
  const {from = "", to = "", range: key = "", q = ""} = query;
  const period = {range: key, from, to};
  const loader = useLoader(page, session, "history", {
    load: (/** @type {Question} */ question, asked, keep, isOld) => loadLines(session, question, asked, keep, isOld),
    every: ASK_EVERY_MS,
  }, {search: q.trim(), limit, query: period}, JSON.stringify(period));
  const figures = useLoader(page, session, "figures", {
    load: (/** @type {import("./route.js").Query} */ question, asked) => session.api.figures(rangeOf(question, asked.getTime())),
    every: ASK_EVERY_MS,
  }, period, JSON.stringify(period));
  const {lines = [], isMore = false} = loader.data ?? {};
  const window = {from: range.from, to: range.to, until: Math.min(range.to, loader.asOf?.getTime() ?? now)};
  const {order, reverse} = sortingOf(page, ORDERS);
  const ordered = order === "name" ? (reverse ? lines.toReversed() : lines) : sorted(lines, order === "latest" ? latestOf : countOf, reverse);
  return html`
    <section class="view" id="history" aria-labelledby="history-title" data-stale=${loader.asOf === null ? undefined : ""}>
      <div class="head">
        <h2 id="history-title" tabindex="-1">The ${range.label}</h2>
        <${AsOf} id="history-as-of" at=${loader.asOf} />
        <${Search} page=${page} id="history-search" label="Search users" />
      </div>
      <div class="head">
        <${RangePicker} page=${page} range=${range} />
        <${CsvButton} session=${session} range=${range} user="" />
      </div>
      <p class="error" id="history-error" role="status">${loader.error || figures.error}</p>
      <${FiguresCard} figures=${figures.data} now=${session.now()} />
      <div class="card timeline" id="timeline">
        <div class="head">
          <${Legend} />
          <div class="ranges" role="group" aria-label="Sort by">
            ${ORDERS.map((each) => html`
              <button type="button" key=${each} aria-pressed=${String(order === each)}
                onClick=${() => page.router.choose({sort: order === each && !reverse ? `-${each}` : each === "name" ? "" : each})}>
                ${ORDER_WORDS[each]}${order === each && (reverse ? " ↑" : " ↓")}
              </button>`)}
          </div>
        </div>
        <${Scale} window=${window} />
        <ol class="lines" id="lines">
          ${ordered.map((/** @type {Line} */ line) => html`<${Track} key=${line.user} page=${page} line=${line} window=${window} />`)}
        </ol>
        <p class="empty" id="history-empty" hidden=${lines.length > 0 || loader.data === null}>${q.trim() === "" ? "No users yet." : "No user matches."}</p>
        <p class="rest"><button type="button" class="quiet" id="history-more" hidden=${!isMore} onClick=${() => setLimit(limit + STEP)}>Show more</button></p>
      </div>
    </section>`;
}

/** @param {Line} line */
const latestOf = ({records}) =>
  records?.reduce((/** @type {number | null} */ latest, {logoutTime, lastSeen}) => Math.max(latest ?? 0, logoutTime === null ? Infinity : (lastSeen ?? logoutTime)), null) ?? null;

/** @param {Line} line */
const countOf = ({records}) => records?.length ?? null;

/** @param {{figures: import("./api.js").Figures | null, now: Date}} props */
function FiguresCard({figures, now}) {
  if (figures === null) return null;
  const totals = /** @type {const} */ ([["Users", figures.users], ["Connections", figures.connections], ["Drops", figures.drops]]);
  return html`
    <div class="card figures" id="figures">
      <dl class="totals">${totals.map(([word, number]) => html`<div key=${word}><dt>${word}</dt><dd>${number.toLocaleString()}</dd></div>`)}</dl>
      <div><h3 class="hint">Users online</h3><${Chart} points=${figures.points} now=${now} /></div>
    </div>`;
}

/**
 * Load the users that match, then the connections of each.
 *
 * @param {Session} session
 * @param {Question} question
 * @param {Date} asked
 * @param {(data: {lines: Line[], isMore: boolean}) => void} keep
 * @param {() => boolean} isOld returns whether a later question has been asked
 */
async function loadLines({api}, {search, limit, query}, asked, keep, isOld) {
  const {from, to} = rangeOf(query, asked.getTime());
  /** @type {Line[]} */
  const lines = [];
  /** @type {string | null} */
  let after = null;
  do {
    /** @type {import("./api.js").Page<string>} */
    const page = await api.users({search, after, limit: STEP});
    lines.push(...page.items.map((user) => ({user, records: null, isCut: false})));
    after = page.next;
  } while (after !== null && lines.length < limit);
  const data = {lines, isMore: after !== null};
  keep(data);
  const waiting = [...lines];
  const work = async () => {
    for (let line = waiting.shift(); line !== undefined && !isOld(); line = waiting.shift()) {
      Object.assign(line, await loadLine(api, line.user, from, to));
      keep(data);
    }
  };
  try {
    await Promise.all(Array.from({length: AT_ONCE}, work));
  } finally {
    waiting.length = 0; // after a failure, the other requests are not needed
  }
  return data;
}

/**
 * @param {import("./api.js").Api} api
 * @param {string} user
 * @param {number} from
 * @param {number} to
 */
async function loadLine(api, user, from, to) {
  try {
    const {items, next} = await api.history({user, from: new Date(from), to: new Date(to)});
    return {records: items, isCut: next !== null};
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== NOT_FOUND) throw error;
    return {records: [], isCut: false}; // forgotten meanwhile
  }
}
