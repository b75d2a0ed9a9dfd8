/** The view of all users: counts that filter, those who left last, and one table. */

import {FirstDevice} from "./first-device.js";
import {useLoader} from "./loader.js";
import {AsOf, Heads, Link, Name, Search, Someone, sortingOf, StateWord, STATE_WORDS, Time} from "./parts.js";
import {endOf} from "./timeline.js";
import {ago} from "./times.js";
import {lastThere, UserList} from "./user-list.js";
import {html, useMemo, useState} from "./view.js";

/** @typedef {import("./page.js").Page} Page */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./user-list.js").UserStatus} UserStatus */
/** @typedef {import("./user-list.js").Filter} Filter */
/** @typedef {import("./user-list.js").Order} Order */

const STEP = 100;
const MOST_IN_A_NARROW_TILE = 3;
const ENDS_EVERY_MS = 15_000;
const ENDS_AFTER_CHANGE_MS = 700;

/** @type {readonly [Filter, string][]} */
const TILES = [["all", "All"], ["online", STATE_WORDS.online], ["idle", STATE_WORDS.idle], ["offline", STATE_WORDS.offline]];
const ORDERS = /** @type {const} */ (["state", "name", "since", "seen", "connections"]);
const COLUMNS = /** @type {const} */ ([
  ["Name", "name"], ["State", "state"], ["Since", "since"], ["Last seen", "seen"], ["Connections", "connections"],
]);

/** @param {{page: Page, session: Session}} props */
export function PeopleView({page, session}) {
  const {config, router} = page;
  const {q = "", state = "all"} = router.route.query;
  const userList = useMemo(() => new UserList(), [session]);
  const [limit, setLimit] = useState(STEP);
  const filter = TILES.find(([key]) => key === state)?.[0] ?? "all";
  const sorting = sortingOf(page, ORDERS);
  const {users} = session.watcher.getSnapshot();
  const order = /** @type {Order} */ (sorting.order);
  const {shown, matching, counts, leftLast} = userList.select(users, {
    me: session.user, search: q, filter, order, reverse: sorting.reverse, limit,
  });
  const {asOf} = session.live;
  const left = matching - shown.length;
  const isAlone = users.every(({userId}) => userId === session.user);
  return html`
    <section class="view" id="people" aria-labelledby="people-title" data-stale=${asOf === null ? undefined : ""}>
      <div class="head">
        <h2 id="people-title" tabindex="-1">People</h2>
        <${AsOf} id="as-of" at=${asOf} />
        <${Search} page=${page} id="search" label="Search people" />
      </div>
      <${Tiles} page=${page} counts=${counts} filter=${filter} />
      <${LeftLast} page=${page} session=${session} users=${leftLast} />
      <div class="card flush">
        <table class="grid people" id="people-table" role="table">
          <caption class="unseen">All users</caption>
          <${Heads} page=${page} id="people-head" columns=${COLUMNS} sorting=${sorting} first="state" />
          <tbody role="rowgroup" id="people-rows">
            ${shown.map((user) => html`<${Row} key=${user.userId} page=${page} session=${session} user=${user} />`)}
          </tbody>
        </table>
        <p class="empty" id="people-empty" hidden=${matching > 0}>${emptyText(users.length, q, filter)}</p>
        <p class="rest"><button type="button" class="quiet" id="people-more" hidden=${left === 0} onClick=${() => setLimit(limit + STEP)}>
          Show ${Math.min(left, STEP)} more of ${left.toLocaleString()}
        </button></p>
      </div>
      ${isAlone && asOf === null && config !== null && html`<${FirstDevice} config=${config} />`}
    </section>`;
}

/** @param {{page: Page, counts: Record<Filter, number>, filter: Filter}} props */
function Tiles({page, counts, filter}) {
  const {query} = page.router.route;
  const numbers = TILES.map(([key]) => counts[key].toLocaleString());
  const isLong = numbers.some((number) => number.length > MOST_IN_A_NARROW_TILE);
  return html`
    <nav class="tiles" id="tiles" aria-label="Show" data-long=${isLong ? "" : undefined}>
      ${TILES.map(([key, label], index) => html`
        <${Link} page=${page} key=${key} class="tile" data-state=${key} aria-current=${filter === key ? "true" : undefined}
          to=${{view: "people", query: {...query, state: key === "all" ? "" : key}}}>
          <strong>${numbers[index]}</strong><span>${label}</span>
        <//>`)}
    </nav>`;
}

/**
 * Who left last, and, for operators, why.
 *
 * @param {{page: Page, session: Session, users: UserStatus[]}} props
 */
function LeftLast({page, session, users}) {
  const ends = useLoader(page, session, "ends", {
    load: async () => (await session.api.connections({open: false, after: null})).items,
    every: ENDS_EVERY_MS,
    afterChange: ENDS_AFTER_CHANGE_MS,
  }, session.operator === true && users.length > 0 ? "ends" : null);
  if (users.length === 0) return null;
  const now = session.now().getTime();
  const why = (/** @type {string} */ user) => ends.data?.find(({userId}) => userId === user);
  return html`
    <p class="left-last" id="left-last">
      Left last:
      ${users.map((user) => {
        const end = why(user.userId);
        return html`
          <span key=${user.userId}>
            <${Link} page=${page} to=${{view: "person", user: user.userId}}><${Name} user=${user.userId} /><//>
            ${" "}${ago(now - Number(user.since?.getTime()))}${end && html`<span class="why">, ${endOf(end)}</span>`}
          </span>`;
      })}
    </p>`;
}

/** @param {{page: Page, session: Session, user: UserStatus}} props */
function Row({page, session, user}) {
  const mine = user.userId === session.user;
  const now = session.now();
  const seen = lastThere(user);
  return html`
    <tr role="row" class=${mine ? "mine" : ""} data-state=${user.state}>
      <th role="rowheader" scope="row"><${Someone} page=${page} user=${user.userId} mine=${mine} /></th>
      <td role="cell"><${StateWord} state=${user.state} /></td>
      <td role="cell"><${Time} at=${user.since} now=${now} /></td>
      <td role="cell" data-label="Last seen">
        ${user.state === "online" ? html`<span class="state-online">active now</span>` : html`<${Time} at=${seen} now=${now} past />`}
      </td>
      <td role="cell" data-label="Connections"><span class=${user.connections ? "" : "none"}>${user.connections || "–"}</span></td>
    </tr>`;
}

/**
 * @param {number} known
 * @param {string} search
 * @param {Filter} filter
 */
function emptyText(known, search, filter) {
  if (known === 0) return "No users yet.";
  if (search.trim() !== "") return `No ${filter === "all" ? "" : `${filter} `}user matches.`;
  return `No user is ${filter}.`;
}
