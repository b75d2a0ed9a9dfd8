"""The rows that queries visit, in small and in large databases; counted in steps and rows, not in seconds."""

import json
from collections.abc import Callable
from contextlib import suppress
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, Self

import pytest

from mqtt_presence.rules.events import Activity, End, Login
from mqtt_presence.rules.model import Reason, State
from mqtt_presence.store import Store
from mqtt_presence.store import reader as reading
from mqtt_presence.store import store as writing
from mqtt_presence.store.database import is_postgresql
from mqtt_presence.store.reader import Reader
from mqtt_presence.store.transaction import Transaction
from tests.support.crowded import NOW, Crowd
from tests.support.postgres import Postgres, cursor, query

FEW, MANY = 1_500, 15_000
PAGE = 20

DAY_MS = 86_400_000
PAST = [NOW - month * 31 * DAY_MS for month in range(3)]

USERS = ["clients", "records", "user-7", "user-70"]
READS: dict[str, Callable[[Reader], Any]] = {
    "history, many clients": lambda r: list(r.history("clients", limit=PAGE)),
    "history, many records": lambda r: list(r.history("records", limit=PAGE)),
    "users": lambda r: list(islice(r.users(), PAGE)),
    "users that are here": lambda r: list(islice(r.users(State.ONLINE), PAGE)),
    "users that have left": lambda r: list(islice(r.users(State.OFFLINE), PAGE)),
    "users, a pattern": lambda r: list(r.users(State.OFFLINE, matching="user-1234")),
    "known_users": lambda r: r.known_users([*USERS, "stranger"]),
    "uncleared": lambda r: r.uncleared([*USERS, "stranger"]),
    "matching_names": lambda r: next(r.matching_names("user-1*")),
    "users_page": lambda r: r.users_page(after="user-2", limit=PAGE, containing=None),
    "users_page, a search": lambda r: r.users_page(after="user-2", limit=PAGE, containing="er"),
    "users_page, a state": lambda r: r.users_page(after="user-2", limit=PAGE, states=[State.ONLINE]),
    "users_page, a prefix": lambda r: r.users_page(after=None, limit=PAGE, prefix="user-7", states=[State.OFFLINE]),
    "users_named": lambda r: r.users_named([*USERS, "stranger"]),
    "ended_page, a range": lambda r: r.ended_page(before=None, limit=PAGE, since=NOW - 30, until=NOW - 2),
    "connections_page": lambda r: r.connections_page("records", since=NOW - 9, until=NOW - 2, before=None, limit=5),
    "connections_page, many clients": lambda r: r.connections_page("clients", since=None, until=None, before=(NOW - 50, 1 << 40), limit=PAGE),
    "open_page": lambda r: r.open_page(after=("user-2", "", 0), limit=PAGE),
    "ended_page": lambda r: r.ended_page(before=(NOW - 30, 1 << 40), limit=PAGE),
    "history, all of it old": lambda r: list(r.history("past", limit=PAGE)),
    "connections_page, all of it old": lambda r: r.connections_page("past", since=None, until=None, before=(NOW - 50, 1 << 40), limit=PAGE),
    "ended_page, all of it old": lambda r: r.ended_page(before=(NOW - 20 * DAY_MS, 1 << 40), limit=PAGE),
    "open_connections": lambda r: next(r.open_connections()),
    "presences": lambda r: r.presences(USERS),
    "presences_page": lambda r: r.presences_page(after="user-2", limit=PAGE),
    "inconsistent_users": lambda r: r.inconsistent_users(USERS),
}  # fmt: skip


def events(*of_user: Any) -> dict[str, list[Any]]:
    return {event.user_id: [event] for event in of_user}


def login(user: str, client: str) -> Login:
    return Login(user_id=user, client_id=client, connection_id="new", now=NOW, fresh_id="fresh")


def end(user: str, client: str) -> End:
    return End(user_id=user, client_id=client, now=NOW, reason=Reason.LOST, connection_id="c5")


WORK: dict[str, Callable[[Transaction], Any]] = {
    "load": lambda tx: tx.load(events(login("clients", "page-7"), end("records", "phone-5"), login("user-7", "phone"))),
    "load_activity": lambda tx: tx.load_activity(events(*(Activity(user_id=u, client_id="phone", now=NOW) for u in USERS))),
    "users_after": lambda tx: tx.users_after("user-2", PAGE),
    "due_users": lambda tx: tx.due_users(NOW, PAGE),
    "unconfirmed_users": lambda tx: tx.unconfirmed_users(NOW - 99_999, "user-2", PAGE),
    "live_users": lambda tx: tx.live_users("user-2", NOW, PAGE),
    "shift_last_seen": lambda tx: tx.shift_last_seen(("user-2", "", 0), 5, NOW, PAGE),
    "delete_ended": lambda tx: tx.delete_ended(NOW - 1, PAGE),
    "delete_ended_of, many clients": lambda tx: tx.delete_ended_of("clients", ("page-5", ""), PAGE),
    "delete_ended_of, many records": lambda tx: tx.delete_ended_of("records", ("phone-1", "c2"), PAGE),
    "forget": lambda tx: tx.forget("user-70"),
    "move_ended": lambda tx: tx.move_ended(NOW + 8 * DAY_MS, (NOW - 700, 0), PAGE),
    "delete_history": lambda tx: tx.delete_history(NOW - 30 * DAY_MS, (NOW - 62 * DAY_MS - 100, 0), PAGE),
    "delete_history_of": lambda tx: tx.delete_history_of("past", (NOW - 300, 0), PAGE),
    "uncleared": lambda tx: tx.uncleared(),
}  # fmt: skip
"""The work of the bridge for a message, and in one step of a job."""


class NothingChangedError(Exception):
    """Rolls a transaction back."""


class Visits:
    """Counts the rows that the statements of a database object visit.

    SQLite: steps of its machine. PostgreSQL: rows that the nodes of the plan return or turn away.
    """

    def __init__(self, database: Any) -> None:
        self._database = database
        self._execute = database.execute_sql
        self._is_postgresql = is_postgresql(database)
        self.count = 0
        self.statements: list[str] = []

    def __enter__(self) -> Self:
        self._database.execute_sql = self._visit
        if not self._is_postgresql:
            self._database.connection().set_progress_handler(self._step, 1)
        return self

    def __exit__(self, *_: object) -> None:
        del self._database.execute_sql
        if not self._is_postgresql:
            self._database.connection().set_progress_handler(None, 1)

    def _step(self) -> int:
        self.count += 1
        return 0

    def _visit(self, sql: str, params: Any = None) -> Any:
        self.statements.append(sql)
        if self._is_postgresql and sql.split(maxsplit=1)[0] in {"SELECT", "DELETE", "UPDATE"}:
            asked = f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}"
            if sql.startswith("SELECT"):
                (plan,) = self._execute(asked, params).fetchone()
                plan = json.loads(plan) if isinstance(plan, str) else plan
                self.count += rows_of(plan[0]["Plan"])
        return self._execute(sql, params)


def rows_of(plan: dict[str, Any]) -> int:
    """Return the number of rows that the nodes of a plan have visited."""
    own = sum(plan.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Join Filter", "Index Recheck"))
    return int((plan["Actual Rows"] + own) * plan["Actual Loops"]) + sum(map(rows_of, plan.get("Plans", [])))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def crowds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two databases, with few rows and with many."""
    if request.param == "sqlite":
        directory: Path = tmp_path_factory.mktemp("crowds")
        urls = tuple(f"sqlite:///{directory / name}.db" for name in ("few", "many"))
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        urls = (postgres.database(), postgres.database())
    for url, size in zip(urls, (FEW, MANY), strict=True):
        store = Store(url)
        store.open()
        Crowd(url, size)
        if store.locks_rows:
            with store.transaction() as tx:
                tx._make_partitions(PAST)
        store.close()
        fill_history(url)
    return urls[0], urls[1]


def fill_history(url: str) -> None:
    """Give the user ``past`` as many records in the history as ``records`` has elsewhere, and others one each."""
    columns = "client_id, connection_id, named, login_time, login_order, opened_at, announce, reason, last_seen, heartbeats, reports"
    with cursor(url) as cur:
        for number, user in enumerate(("'past'", "'past-' || id")):
            cur.execute(
                f"INSERT INTO connection_history (id, user_id, logout_time, {columns}) SELECT id + {10**6 * (1 + number)}, {user}, "
                f"logout_time - (id % 3) * {31 * DAY_MS}, {columns} FROM recent_connections "
                f"WHERE user_id = 'records' AND logout_time IS NOT NULL"
            )
    with cursor(url) as cur:
        cur.execute("ANALYZE")


def is_bounded(few: int, many: int) -> bool:
    """Allow for a deeper index and for pages that begin elsewhere, but not for ten times as many visits."""
    return many <= 2 * few + 200


@pytest.mark.parametrize("name", READS)
def test_a_look_visits_what_it_shows(
    crowds: tuple[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten times as many clients, records and users: the same number of rows is visited."""
    monkeypatch.setattr(reading, "_PAGE", PAGE)
    counts = []
    for url in crowds:
        with Reader(url) as reader, Visits(reader._database) as visits:
            READS[name](reader)
        counts.append(visits.count)
        assert len(visits.statements) <= 6, visits.statements
    assert is_bounded(*counts), (counts, visits.statements)


@pytest.mark.parametrize("name", WORK)
def test_work_of_the_bridge_visits_what_it_is_about(crowds: tuple[str, str], name: str) -> None:
    """Ten times as many clients, records and users: a message and a job's step visit the same number of rows."""
    counts = []
    for url in crowds:
        store = Store(url)
        with suppress(NothingChangedError), store.transaction() as tx:
            with Visits(store._database) as visits:
                WORK[name](tx)
            raise NothingChangedError
        store.close()
        counts.append(visits.count)
    assert is_bounded(*counts), (counts, visits.statements)


def test_what_is_read_whole_is_read_in_pages(
    crowds: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No statement returns more than a page, and none runs before its page is needed."""
    held: list[int] = []
    select = Reader._select

    def counted(self: Reader, sql: str, parameters: Any) -> list[Any]:
        rows = select(self, sql, parameters)
        held.append(len(rows))
        return rows

    monkeypatch.setattr(Reader, "_select", counted)
    with Reader(crowds[0]) as reader:
        for walk, total in (
            (reader.users(), FEW + 2),
            (reader.users(State.ONLINE), FEW // 10),
            (reader.history("clients", limit=10**6), FEW),
            (reader.history("records", limit=FEW), FEW),
        ):
            held.clear()
            assert sum(1 for _ in islice(walk, 1)) == 1
            assert len(held) <= 2
            assert 1 + sum(1 for _ in walk) == total
            assert max(held) <= reading._PAGE


def test_users_come_by_state_and_name_and_once(crowds: tuple[str, str]) -> None:
    """Page after page, without a gap between two pages."""
    with Reader(crowds[0]) as reader:
        found = [(u.status.state, u.user_id) for u in reader.users() if u.status]
        online = [u.user_id for u in reader.users(State.ONLINE)]
    assert found == sorted(set(found), key=lambda one: (one[0] is State.OFFLINE, one[1].encode()))
    assert online == [user for state, user in found if state is State.ONLINE]


@pytest.mark.parametrize("pattern", ["*", "user-1*", "*9", "user-?[05]", "[ru]*", "user-7", "rec*rds", "Z*"])
@pytest.mark.parametrize("state", [None, State.ONLINE])
def test_users_that_match_are_those_of_all_that_match(
    crowds: tuple[str, str], pattern: str, state: State | None
) -> None:
    """In the same order, whatever part of the pattern the database compares."""
    with Reader(crowds[0]) as reader:
        found = list(reader.users(state, matching=pattern))
        of_all = [user for user in reader.users(state) if fnmatchcase(user.user_id, pattern)]
    assert found == of_all
    assert found or state is not None or pattern == "Z*"


def test_history_is_in_the_order_of_logins(crowds: tuple[str, str]) -> None:
    """Over all clients and pages; `since` compares the end, and open connections are always included."""
    with Reader(crowds[0]) as reader:
        times = [record.login_time or 0 for record in reader.history("clients", limit=10**6)]
        late = list(reader.history("records", limit=10**6, since=NOW - 700))
    assert times == sorted(times, reverse=True)
    assert len(times) == FEW
    assert len(late) == 700 + 3
    assert sum(record.is_open for record in late) == 3


def test_forgetting_lets_others_commit(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two portions another process commits messages, of the same user too; in the end no record is left."""
    monkeypatch.setattr(writing, "FORGET_PORTION", 100)
    store, bridge = Store(database), Store(database)
    store.open()
    Crowd(database, 250)
    left: list[int] = []

    def commit(_: float) -> None:
        with bridge.transaction() as tx:
            assert tx.load(events(login("records", "phone-5"), login("user-7", "phone")))
            tx.write_value("heard", str(len(left)))
        (count,) = query(database, "SELECT COUNT(*) AS n FROM connection_records WHERE user_id = 'records'")
        (known,) = query(database, "SELECT state FROM user_states WHERE user_id = 'records'")
        left.append(count["n"])
        assert known["state"] == "online"

    assert store.forget("records", pause=commit) == 253
    assert left == [153, 53]
    for table in ("connection_records", "user_states"):
        assert query(database, f"SELECT 1 FROM {table} WHERE user_id = 'records'") == []
    assert query(database, "SELECT user_id FROM tombstones") == [{"user_id": "records"}]
    (pulses,) = query(
        database,
        "SELECT COUNT(*) AS n FROM pulses p WHERE NOT EXISTS (SELECT 1 FROM connection_records c WHERE c.id = p.id)",
    )
    assert pulses["n"] == 0
    assert store.forget("records", pause=commit) is None
    store.close()
    bridge.close()
