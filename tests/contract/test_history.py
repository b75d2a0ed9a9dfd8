"""The history's promises, the same over SQLite and PostgreSQL: nobody sees that a record has moved."""

import random
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from mqtt_presence.rules.events import Activity, CheckDeadlines, End, Event, Login
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import Connection, Reason, RuleSettings, State, Status
from mqtt_presence.store import START, HistoryBusyError, Store
from mqtt_presence.store.explained_users import read_explanation
from mqtt_presence.store.reader import Reader
from mqtt_presence.store.record_history import NEWEST_MS, RECENT_MS
from mqtt_presence.store.rows import CONNECTION_COLUMNS
from tests.contract.test_store import NOW, record, save
from tests.support.postgres import cursor, query

DAY_MS = 86_400_000
HOUR_MS = DAY_MS // 24
OLD = NOW - RECENT_MS - 1
RULES = RuleSettings(idle_threshold_ms=60_000, expire_after_ms=None, grace_ms=0, max_connections=None)


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    opened = Store(database)
    opened.open()
    yield opened
    opened.close()


def ended(
    id: str, at: int = OLD, reason: Reason = Reason.LOGOUT, order: int | None = None, **fields: Any
) -> Connection:
    login = at - 1000 if order is None else order
    return record(
        id=id, logout_time=at, reason=reason, **{"login_time": login, "login_order": login} | fields
    )


def move(store: Store, now: int = NOW, page: int = 3) -> int:
    """Move all, a page at a time, as the bridge does; return the number of moved records."""
    place, total = START, 0
    while place is not None:
        with store.transaction() as tx:
            place, moved = tx.move_ended(now, place, page)
        total += moved
    return total


def in_history(url: str) -> list[str]:
    return sorted(row["connection_id"] for row in query(url, "SELECT connection_id FROM connection_history"))


def test_what_no_rule_needs_moves(store: Store, database: str) -> None:
    """What has ended for seven days moves; not the newest of a client, what is live, due or its last one of an origin."""
    save(
        store,
        ended("first"),
        ended("second", order=OLD - 10),
        record(id="now"),
        ended("just", NOW - RECENT_MS + 1),
        ended("graced", reason=Reason.LOST, check_at=NOW + 1),
        ended("newest", client="tablet"),
        ended("newest-long-ago", NOW - NEWEST_MS - 1, client="page"),
        ended("silent-long-ago", NOW - NEWEST_MS - 1, Reason.TIMEOUT, client="laptop"),
        ended("sensor-long-ago", NOW - NEWEST_MS - 1, client="sensor", origin="profile:tasmota", login_order=None),
        ended("sensor-before", NOW - NEWEST_MS - 9, client="lamp", origin="profile:tasmota", login_order=None),
        ended("sensor-since", NOW - NEWEST_MS - 5, client="lamp", origin="profile:tasmota", login_order=None),
        ended("by-broker", client="lamp", origin="broker", login_order=None),
        record(id="lamp-now", client="lamp"),
        ended("unseen", login_time=None, login_order=None),
        record(id="phone-again"),
    )  # fmt: skip
    assert move(store) == 6
    assert in_history(database) == [
        "by-broker",
        "first",
        "newest-long-ago",
        "second",
        "sensor-before",
        "unseen",
    ]
    assert move(store) == 0
    (count,) = query(database, "SELECT COUNT(*) AS n FROM connections")
    assert count["n"] == 15
    (pulses,) = query(database, "SELECT COUNT(*) AS n FROM pulses")
    assert pulses["n"] == 9


def test_records_of_a_name_that_is_no_user_stay(store: Store, database: str) -> None:
    """Only a user's row can be locked, so that no other bridge changes a record while it moves."""
    save(store, ended("a", user="bob"), record("bob"))
    with cursor(database) as cur:
        cur.execute("DELETE FROM user_states")
    assert move(store) == 0


# What readers see.


def seen(url: str, page: int) -> list[Any]:
    """Read all that commands, page and API show of connections, with every cursor."""
    found: list[Any] = []
    ranges = [(None, None), (NOW - 30 * DAY_MS, None), (None, NOW - 9 * DAY_MS), (OLD - DAY_MS, NOW - DAY_MS)]
    with Reader(url) as reader:
        found.append(list(reader.users()))
        found.append(list(reader.latest(limit=1000)))
        found.append(list(reader.latest(limit=7, since=NOW - 20 * DAY_MS)))
        found.append(reader.known_users(["alice", "bob", "carol", "nobody"]))  # type: ignore[list-item]
        for since, until in ranges:
            for user in ("alice", "bob"):
                before: tuple[int, int] | None = None
                while rows := reader.connections_page(
                    user, since=since, until=until, before=before, limit=page
                ):
                    found.append(rows)
                    before = rows[-1][1].login_time or 0, rows[-1][0]
            before = None
            while rows := reader.ended_page(before=before, limit=page, since=since, until=until):
                found.append(rows)
                before = rows[-1][1].logout_time or 0, rows[-1][0]
        found.append(reader.open_page(after=None, limit=100))
        found.append(reader.figures(since=NOW - 40 * DAY_MS, until=NOW, moments=50))
        found.append(reader.inconsistent_users())
        found += [read_explanation(reader, user, RULES, 1000) for user in ("alice", "bob")]  # type: ignore[arg-type]
    columns = CONNECTION_COLUMNS.replace("c.", "")
    found.append(sorted(map(repr, query(url, f"SELECT {columns}, live FROM connections"))))
    return found


def crowd(choose: random.Random) -> list[Connection]:
    """Return records with ends and orders of all kinds, and many equal times."""
    made = []
    for number in range(60):
        began = NOW - choose.randrange(0, 120) * DAY_MS // 2
        fields: dict[str, Any] = {
            "login_time": began,
            "login_order": began,
            "client_time": choose.choice([None, began]),
        }
        if choose.random() < 0.1:
            fields |= {"login_time": None, "login_order": None}
        is_open = choose.random() < 0.1
        if not is_open:
            over = min(NOW, began + choose.choice([0, HOUR_MS, 9 * DAY_MS]))
            reason = choose.choice(list(Reason))
            fields |= {"logout_time": over, "reason": reason, "meta": choose.choice([None, '{"a":1}'])}
            fields |= {
                "check_at": choose.choice([None, None, over + 10]),
                "idle": choose.choice([None, True, False]),
            }
        user, client = choose.choice(["alice", "bob"]), choose.choice(["phone", "tablet", f"page-{number}"])
        made.append(record(user, client, f"c{number}", last_seen=began, **fields))
    return made


@pytest.mark.parametrize("seed", range(6))
def test_nobody_sees_that_records_move(store: Store, database: str, seed: int) -> None:
    """Pages with every cursor, users, figures and explanations are the same after each page that moves."""
    choose = random.Random(seed)
    save(store, *crowd(choose), record("carol"))
    page = choose.randrange(1, 9)
    before = seen(database, page)
    place: tuple[int, int] | None = START
    total = 0
    while place is not None:
        with store.transaction() as tx:
            place, moved = tx.move_ended(NOW, place, choose.randrange(1, 25))
        total += moved
        if moved:
            assert seen(database, page) == before
    assert total > 5
    counted = query(
        database,
        "SELECT COUNT(*) AS n, COUNT(DISTINCT id) AS ids FROM "
        "(SELECT id FROM connection_records UNION ALL SELECT id FROM connection_history) AS both_tables",
    )
    assert counted == [{"n": 61, "ids": 61}]


def test_a_cursor_goes_on_where_it_was_when_records_move_between_pages(store: Store, database: str) -> None:
    """Each record comes once, whatever moves while somebody turns the pages."""
    save(store, *(ended(f"c{n:02}", OLD - n * HOUR_MS) for n in range(40)), record(id="now"))
    found, before, ends, end = [], None, [], None
    place: tuple[int, int] | None = START
    with Reader(database) as reader:
        while rows := reader.connections_page("alice", since=None, until=None, before=before, limit=4):
            found += [each.connection_id for _, each in rows]
            before = rows[-1][1].login_time or 0, rows[-1][0]
            rows = reader.ended_page(before=end, limit=4)
            ends += [each.connection_id for _, each in rows]
            end = (rows[-1][1].logout_time or 0, rows[-1][0]) if rows else end
            if place is not None:
                with store.transaction() as tx:
                    place, _ = tx.move_ended(NOW, place, 7)
    assert found == ["now", *(f"c{n:02}" for n in range(40))]
    assert ends == [f"c{n:02}" for n in range(40)]
    assert len(in_history(database)) == 40


# What the rules decide.


def decide(store: Store, events: Sequence[Event], rules: RuleSettings) -> Any:
    """Apply events as the bridge does; return what is published."""
    with store.transaction() as tx:
        users = tx.load({"alice": events})  # type: ignore[dict-item]
        outcome = fold(users["alice"], events, rules)  # type: ignore[index]
        tx.save([outcome])
        return (
            outcome.user.status, outcome.user.version, outcome.user.last_seen, outcome.ignored, outcome.created,
            outcome.status_changed, sorted(map(repr, outcome.events)), sorted(map(repr, outcome.changed)),
        )  # fmt: skip


def any_batches(choose: random.Random) -> Iterator[tuple[int, list[Event]]]:
    """Return batches with days between them; each message is about a connection of the last six days."""
    now, young = NOW, list[tuple[int, str, str]]()
    for number in range(60):
        now += choose.choice([1000, HOUR_MS, DAY_MS, 3 * DAY_MS, 20 * DAY_MS])
        young = [each for each in young if each[0] > now - 6 * DAY_MS]
        events: list[Event] = [CheckDeadlines(user_id="alice", now=now)]  # type: ignore[arg-type]
        for part in range(choose.randrange(1, 4)):
            if not young or choose.random() < 0.5:
                young.append((now, choose.choice(["phone", "tablet"]), f"c{number}-{part}"))
            began, client, name = choose.choice(young)
            named = {
                "user_id": "alice",
                "client_id": client,
                "now": now,
                "connection_id": choose.choice([name, name, name, None]),
            }
            kind = choose.randrange(4)
            if kind == 0:
                events.append(End(reason=choose.choice([Reason.LOGOUT, Reason.LOST]), **named))  # type: ignore[arg-type]
            elif kind == 1:
                events.append(Activity(fresh_id=f"f{number}-{part}", **named))  # type: ignore[arg-type]
            else:
                at = choose.choice([None, began, now])
                timeout = choose.choice([None, HOUR_MS])
                events.append(Login(fresh_id=f"f{number}-{part}", time=at, timeout_ms=timeout, **named))  # type: ignore[arg-type]
        yield now, events


@pytest.mark.parametrize("seed", range(5))
def test_the_rules_decide_the_same_after_moves(
    sqlite_url: str, postgres: Any, store: Store, database: str, seed: int
) -> None:
    """With and without moves each batch has the same outcome, if its messages are at most six days late."""
    unmoved = f"{sqlite_url}-other" if database.startswith("sqlite") else postgres.database()
    other = Store(unmoved)
    other.open()
    choose = random.Random(f"batches {seed}")
    rules = replace(RULES, grace_ms=choose.choice([0, 5000]))
    moved = 0
    for now, events in any_batches(choose):
        assert decide(store, events, rules) == decide(other, events, rules)
        moved += move(store, now, page=choose.randrange(1, 9))
    assert moved > 10
    other.close()
    with Reader(database) as reader, Reader(unmoved) as theirs:
        assert list(reader.latest(limit=1000)) == list(theirs.latest(limit=1000))


def test_a_message_that_is_late_by_more_than_seven_days(store: Store, database: str) -> None:
    """A will leaves an invisible record, an old `time` an ended one; only without a `time` a login opens a ghost."""
    save(
        store,
        ended("cold", OLD, order=OLD - 10, client_time=OLD - 10),
        record(id="now", login_order=NOW - 50, client_time=NOW - 50, login_time=NOW - 50),
        status=Status(state=State.ONLINE, connections=1, since=NOW),
    )
    assert move(store) == 1
    named = {"user_id": "alice", "client_id": "phone", "now": NOW}
    will = End(reason=Reason.LOST, connection_id="cold", **named)
    status, _, _, ignored, *_ = decide(store, [will], RULES)
    assert (status.connections, ignored) == (1, ())
    with Reader(database) as reader:
        assert [c.connection_id for c in reader.history("alice", limit=9)] == ["now", "cold"]
    with cursor(database) as cur:
        cur.execute(
            "DELETE FROM pulses WHERE id IN (SELECT id FROM connection_records WHERE connection_id = 'cold')"
        )
        cur.execute("DELETE FROM connection_records WHERE connection_id = 'cold'")
    repeated = Login(connection_id="cold", time=OLD - 10, fresh_id="f", **named)
    status, *_, events, changed = decide(store, [repeated], RULES)
    assert (status.connections, events) == (1, [])
    assert "SUPERSEDED" in changed[0]
    with Reader(database) as reader:
        assert [c.connection_id for c in reader.history("alice", limit=9) if c.is_open] == ["now"]
    save(store, ended("newest", client="tablet", client_time=OLD - 1000))
    assert move(store) == 0
    again = Login(**named | {"client_id": "tablet"}, connection_id="newest", time=OLD - 1000, fresh_id="f")
    older = Login(**named | {"client_id": "tablet"}, connection_id="older", time=OLD - 2000, fresh_id="f")
    assert decide(store, [again], RULES)[3] == ("login_after_end",)
    *_, events, changed = decide(store, [older], RULES)
    assert events == []
    assert "SUPERSEDED" in changed[0]
    ghost = Login(connection_id="colder", time=None, fresh_id="f", **named)
    status, *_, events, _ = decide(store, [ghost], RULES)
    assert status.connections == 1
    assert len(events) == 2  # it ends the other one


# Retention and forgetting.


def test_retention_deletes_from_the_history_by_pages(store: Store, database: str) -> None:
    """What ended before the limit goes, the oldest first; the rest stays."""
    save(store, *(ended(f"c{n}", OLD - n * 11 * DAY_MS) for n in range(9)), record(id="now"))
    assert move(store) == 9
    limit = OLD - 40 * DAY_MS
    dropped = 0
    with store.transaction() as tx:
        while tx.drop_history(limit):
            dropped += 1
    assert (dropped > 0) is store.locks_rows
    place: tuple[int, int] | None = START
    while place is not None:
        with store.transaction() as tx:
            place = tx.delete_history(limit, place, 2)
    assert in_history(database) == ["c0", "c1", "c2", "c3"]


def test_forget_deletes_the_history(store: Store, database: str) -> None:
    """Records of both tables go, those without a login too; other users keep theirs."""
    save(
        store,
        *(ended(f"c{n}", OLD - n) for n in range(5)),
        ended("unseen", login_time=None, login_order=None),
    )
    save(store, record(id="now"), ended("b1", user="bob"), record("bob", id="b2"))
    assert move(store) == 7
    pauses: list[float] = []
    assert store.forget("alice", pause=pauses.append) == 7  # type: ignore[arg-type]
    assert in_history(database) == ["b1"]
    with Reader(database) as reader:
        assert not reader.has_user("alice")
        assert reader.has_user("bob")
    with store.transaction() as tx:
        assert tx.forget("bob") == 2  # type: ignore[arg-type]
    assert in_history(database) == []


# PostgreSQL's locks and partitions.


@pytest.fixture
def pg(postgres: Any) -> Iterator[tuple[Store, str]]:
    url = postgres.database()
    opened = Store(url)
    opened.open()
    yield opened, url
    opened.close()


def test_each_month_has_a_partition(pg: tuple[Store, str]) -> None:
    """Partitions are made when the first record needs them; a month that is older than `retention` is dropped whole."""
    store, url = pg
    months = [(2026, 12), (2027, 1)]  # NOW is on 2027-01-15
    save(store, ended("a", OLD), ended("b", OLD - 9 * DAY_MS), record(id="now"))
    with store.transaction() as tx:
        assert tx.partitions() == set()
    assert move(store) == 2
    names = {f"connection_history_{year}_{month:02}" for year, month in months}
    with store.transaction() as tx:
        assert tx.partitions() == names
        assert not tx.drop_history(OLD - 9 * DAY_MS)
        assert tx.drop_history(OLD)
        assert tx.partitions() == {max(names)}
    assert in_history(url) == ["a"]
    assert move(store) == 0


def test_a_user_whom_another_bridge_decides_on_is_left_out(pg: tuple[Store, str]) -> None:
    """The move does not wait for locked users, and takes the records of the others."""
    store, url = pg
    save(store, ended("a"), record(id="now"), ended("b", user="bob"), record("bob", id="b2"))
    other = Store(url)
    with other.transaction() as tx:
        tx.load(
            {"alice": [Login(user_id="alice", client_id="phone", now=NOW, connection_id="a", fresh_id="f")]}
        )  # type: ignore[dict-item, arg-type]
        assert move(store) == 1
        assert in_history(url) == ["b"]
    other.close()
    assert move(store) == 1


def test_a_reader_holds_up_no_move_and_only_briefly_a_drop(pg: tuple[Store, str]) -> None:
    """A backup reads for hours: partitions are attached beside it; they are not dropped, and nobody waits."""
    store, url = pg
    save(store, ended("a", OLD - 40 * DAY_MS), ended("b"), record(id="now"))
    assert move(store, OLD - 20 * DAY_MS) == 1
    with cursor(url) as reading:
        reading.execute("SELECT * FROM connections")
        assert move(store) == 1
        with pytest.raises(HistoryBusyError), store.transaction() as tx:
            tx.drop_history(OLD - 10 * DAY_MS)
        with store.transaction() as tx:
            assert tx.delete_history(OLD - 10 * DAY_MS, START, 10) is None
    assert in_history(url) == ["b"]


def test_moves_beside_writers_lose_nothing(pg: tuple[Store, str]) -> None:
    """Another bridge ends, reopens and opens records of the same users meanwhile; each record is there once."""
    store, url = pg
    users = [f"user-{n}" for n in range(8)]
    save(
        store,
        *(ended(f"{user}-{n}", OLD - n, Reason.TIMEOUT, user=user) for user in users for n in range(12)),
    )
    errors: list[BaseException] = []

    def write() -> None:
        choose, other = random.Random(5), Store(url)
        try:
            for n in range(80):
                user, old = choose.choice(users), choose.randrange(12)
                event = Activity(
                    user_id=user, client_id="phone", now=NOW + n, connection_id=f"{user}-{old}", fresh_id="f"
                )  # type: ignore[arg-type]
                with other.transaction() as tx:
                    loaded = tx.load({user: [event]})  # type: ignore[dict-item]
                    tx.save([fold(loaded[user], [event], RULES)])  # type: ignore[index]
        except BaseException as error:  # noqa: BLE001 - for the test to see
            errors.append(error)
        finally:
            other.close()

    writing = threading.Thread(target=write)
    writing.start()
    while writing.is_alive():
        move(store, page=7)
    writing.join()
    assert errors == []
    rows = query(url, "SELECT user_id, COUNT(*) AS n FROM connections WHERE live GROUP BY user_id")
    told = query(url, "SELECT user_id, connections AS n FROM user_states WHERE connections > 0")
    assert sorted(map(str, rows)) == sorted(map(str, told))


# The previous release on this schema.

OF_THE_RELEASE_BEFORE = (
    f"SELECT {CONNECTION_COLUMNS} FROM (VALUES ({{m}}),({{m}})) AS k CROSS JOIN connections c WHERE c.live AND c.user_id = k.column1",
    f"SELECT {CONNECTION_COLUMNS} FROM (VALUES ({{m}}),({{m}})) AS k CROSS JOIN connections c WHERE c.user_id = k.column1 AND c.client_id = 'phone' AND c.connection_id = 'c1'",
)  # fmt: skip


@pytest.mark.parametrize("statement", OF_THE_RELEASE_BEFORE, ids=["live", "by key"])
def test_a_process_of_the_release_before_reads_by_keys(store: Store, database: str, statement: str) -> None:
    """Its statements use the view, and both databases look for the keys in each table."""
    save(
        store,
        *(ended(f"c{n}", OLD - n, user=f"u{n % 9}") for n in range(60)),
        *(record(f"u{n}", id="now") for n in range(9)),
    )
    assert move(store) > 40
    mark = "%s" if store.locks_rows else "?"
    with store.transaction() as tx:
        if store.locks_rows:  # tables of so few rows are read whole otherwise
            tx._database.execute_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN " if store.locks_rows else "EXPLAIN QUERY PLAN "
        plan = tx._select(explain + statement.replace("{m}", mark), ["u1", "u2"])
        rows = tx._select(statement.replace("{m}", mark), ["u1", "u2"])
    lines = "\n".join(str(column) for row in plan for column in row)
    assert "Hash Join" not in lines
    assert "SCAN r" not in lines
    assert "SCAN h" not in lines
    assert len(rows) == (2 if "c.live" in statement else 1)
