"""The store's promises, the same over SQLite and PostgreSQL."""

import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import peewee
import pytest
from msgspec.structs import replace
from playhouse.migrations import Runner

from mqtt_presence.errors import ConfigError, StoreError
from mqtt_presence.rules.events import Activity, End, Login, NetworkClosed
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import (
    Cause,
    Connection,
    LastLogin,
    Outcome,
    Reason,
    Rule,
    RuleSettings,
    State,
    Status,
    UserPresence,
)
from mqtt_presence.store import Store
from mqtt_presence.store import schema as models
from mqtt_presence.store.batches import PORTION
from mqtt_presence.store.database import MIGRATIONS, connect
from mqtt_presence.store.reader import Reader
from mqtt_presence.store.views import VIEWS
from tests.cases import alone
from tests.support.postgres import Postgres, cursor, query

NOW = 1_800_000_000_000


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    """Open a store on a fresh database."""
    opened = Store(database)
    opened.open()
    yield opened
    opened.close()


def record(user: str = "alice", client: str = "phone", id: str = "c1", **fields: Any) -> Connection:
    fields = {"last_seen": NOW, "login_time": NOW, "login_order": NOW, "opened_at": NOW} | fields
    return Connection(user_id=user, client_id=client, connection_id=id, **fields)


def ended(id: str = "c1", at: int = NOW, reason: Reason = Reason.LOGOUT, **fields: Any) -> Connection:
    return record(id=id, logout_time=at, reason=reason, **fields)


def save(store: Store, *records: Connection, version: int = 1, status: Status | None = None) -> None:
    """Save records, each user with a status."""
    users = dict.fromkeys(r.user_id for r in records)
    with store.transaction() as tx:
        tx.save(
            Outcome(
                user=UserPresence(
                    user_id=user,
                    status=status or Status(state=State.ONLINE, since=NOW),
                    version=version,
                    last_seen=NOW,
                ),
                changed=tuple(r for r in records if r.user_id == user),
                touched=(),
                events=(),
                status_changed=True,
                ignored=(),
            )
            for user in users
        )


def login(
    id: str | None = "c1", client: str = "phone", user: str = "alice", now: int = NOW, **fields: Any
) -> Login:
    return Login(user_id=user, client_id=client, connection_id=id, now=now, fresh_id="fresh", **fields)


def load(store: Store, *events: Any) -> dict[str, UserPresence]:
    by_user: dict[str, list[Any]] = {}
    for event in events:
        by_user.setdefault(event.user_id, []).append(event)
    with store.transaction() as tx:
        return tx.load(by_user)


def columns(database: peewee.Database, table: str) -> list[tuple[Any, ...]]:
    return sorted((c.name, c.data_type.upper(), c.null, c.primary_key) for c in database.get_columns(table))


def indexes(database: peewee.Database, table: str) -> list[tuple[Any, ...]]:
    """Return the indexes beside the primary key, which SQLite does not list for a table without row ids."""
    if isinstance(database, peewee.PostgresqlDatabase):  # peewee does not know those of partitioned tables
        return sorted(
            (tuple(names), is_unique)
            for names, is_unique in database.execute_sql(
                "SELECT ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indexrelid "
                "ORDER BY a.attnum), i.indisunique FROM pg_index i "
                "WHERE i.indrelid = %s::regclass AND NOT i.indisprimary",
                [table],
            )
        )
    key = database.get_primary_keys(table)
    return sorted((tuple(i.columns), i.unique) for i in database.get_indexes(table) if i.columns != key)


# The schema.


def test_migrations_make_the_schema_of_the_models(database: str, tmp_path: Path, request) -> None:
    """The migrations create the columns, types, keys and indexes of the models."""
    migrated = Store(database)
    migrated.open()
    if database.startswith("sqlite"):
        other = connect(f"sqlite:///{tmp_path / 'models.db'}")
    else:
        other = connect(request.getfixturevalue("postgres").database())
    with other.bind_ctx(models.TABLES):
        other.create_tables(models.TABLES)
    try:
        for table in models.TABLES:
            name = table._meta.table_name
            assert columns(migrated._database, name) == columns(other, name)
            assert indexes(migrated._database, name) == indexes(other, name)
    finally:
        other.close()
        migrated.close()


def test_users_are_counted_in_the_index_of_states(database: str, store: Store) -> None:
    """Counts and pages by state and prefix read the index, in the order of code points on both databases."""
    names = ["b", "a", "a-1", "B", "ä", "a\U0010ffff"]
    for name in names:
        save(store, record(user=name))
    save(store, record(user="a-2"), status=Status(state=State.OFFLINE, since=NOW))
    with Reader(database) as reader:
        found = [user.user_id for user in reader.users_page(after=None, limit=9)]
        assert found == sorted([*names, "a-2"])
        some = reader.users_page(after="a", limit=9, prefix="a", states=[State.ONLINE])
        assert [user.user_id for user in some] == ["a-1", "a\U0010ffff"]
        counted = reader.count_by_state(prefix="a")
        assert counted == {State.ONLINE: 3, State.IDLE: 0, State.OFFLINE: 1}
        assert reader.count_by_state(states=[State.OFFLINE], containing="A-") == {State.OFFLINE: 1}
        asked: list[str] = []
        select = reader._select

        def explain(sql: str, parameters: Any) -> list[Any]:
            plan = select(("EXPLAIN " if store.locks_rows else "EXPLAIN QUERY PLAN ") + sql, parameters)
            asked.append(" ".join(str(column) for row in plan for column in row))
            return select(sql, parameters)

        reader._select = explain  # type: ignore[method-assign]
        if store.locks_rows:  # a table of seven rows is read whole otherwise
            reader._database.execute_sql("SET enable_seqscan = off")
        reader.count_by_state(prefix="a")
        reader.users_page(after="a", limit=9, prefix="a")
    assert len(asked) == 6
    assert all("users_by_state" in plan for plan in asked), asked


def test_the_views_are_those_of_the_models(database: str, store: Store) -> None:
    """The views of the migrations are those of the models; `users` has the order of columns that the bridge reads."""
    frozen = [text for path in sorted(MIGRATIONS.glob("0*.py")) if "VIEW = " in (text := path.read_text())][
        -1
    ]
    assert all(view in frozen for view in VIEWS.values())
    save(store, record())
    of_tables = {
        f.column_name
        for table in (models.ConnectionRow, models.ActivityRow)
        for f in table._meta.sorted_fields
    }
    assert set(query(database, "SELECT * FROM connections")[0]) == of_tables
    assert list(query(database, "SELECT * FROM users")[0]) == [
        f.column_name for f in models.UserRow._meta.sorted_fields
    ]


def test_a_database_of_version_1_is_brought_up_to_date(database: str) -> None:
    """Users and their records are the same after the update."""
    first = connect(database)
    Runner(first, directory=str(MIGRATIONS)).up("0001_initial")
    first.execute_sql(
        "INSERT INTO users (user_id, state, online, since, connections, last_seen, version) "
        f"VALUES ('alice', 'offline', {'0' if database.startswith('sqlite') else 'false'}, {NOW}, 0, {NOW}, 7)"
    )
    first.close()
    store = Store(database)
    store.open()
    assert query(database, "SELECT user_id, state, last_seen, version FROM users") == [
        {"user_id": "alice", "state": "offline", "last_seen": NOW, "version": 7}
    ]
    assert load(store, login())["alice"].version == 7
    store.close()


def test_a_login_of_0_1_0_gives_way_to_one_that_arrives_later(database: str) -> None:
    """The logins of 0.1.0 may or may not have had a `time`: the order of arrival decides (L4)."""
    old = connect(database)
    Runner(old, directory=str(MIGRATIONS)).up("0009_redeliveries")
    yes, no = ("1", "0") if database.startswith("sqlite") else ("true", "false")
    old.execute_sql(
        "INSERT INTO connection_records "
        "(user_id, client_id, connection_id, named, login_time, login_order, opened_at, announce, live) "
        f"VALUES ('alice', 'phone', 'c1', {yes}, {NOW}, {NOW}, {NOW}, {no}, {yes})"
    )
    old.execute_sql(
        "INSERT INTO pulses (id, last_seen, heartbeats, reports) "
        f"SELECT id, {NOW}, {no}, {no} FROM connection_records"
    )
    old.close()
    store = Store(database)
    store.open()
    later = Login(
        user_id="alice", client_id="phone", connection_id="c2", now=NOW + 500, time=NOW - 500, fresh_id=None
    )
    with store.transaction() as tx:
        outcome = fold(tx.load({"alice": [later]})["alice"], [later], RuleSettings())
        tx.save([outcome])
    (user,) = load(store, login("c2"), login("c3")).values()
    assert {c.connection_id: c.is_open for c in user.connections.values()} == {"c2": True}
    assert (user.latest_login, user.latest_login_time) == ({"phone": NOW + 1}, {"phone": NOW - 500})
    store.close()


def test_redeliveries_survive_the_update(database: str) -> None:
    """Version 8 had one text with the packet id, the checksum and a number of each message."""
    eighth = connect(database)
    Runner(eighth, directory=str(MIGRATIONS)).up("0008_covered")
    eighth.execute_sql(
        "INSERT INTO bridge (name, value) VALUES ('redeliveries', '[9, [[7, [12, 8]], [1, [34, 9]]]]')"
    )
    eighth.close()
    store = Store(database)
    store.open()
    with store.transaction() as tx:
        ((number, body),) = tx.redeliveries()
        assert (number, msgspec.msgpack.decode(body, type=tuple[int, list[int], dict[int, int]])) == (
            1,
            (2, [], {7: 12, 1: 34}),
        )
        assert tx.read_value("redeliveries") is None
        tx.put_redeliveries(3, b"c")
        tx.put_redeliveries(5, b"e")
        tx.put_redeliveries(5, b"again")
        assert tx.redeliveries()[1:] == [(3, b"c"), (5, b"again")]
        tx.clear_redeliveries(3)
        tx.clear_redeliveries(0)
        assert tx.redeliveries() == [(5, b"again")]
    store.close()


def test_opening_again_changes_no_data(database: str, store: Store) -> None:
    """The migrations are applied once: a second start finds the data of the first."""
    save(store, record())
    store.close()
    again = Store(database)
    again.open()
    assert load(again, login())["alice"].connections["phone", "c1"] == record()
    again.close()


def test_public_columns_are_there_for_sql(store: Store, database: str) -> None:
    """The documented tables and columns have these names; times are epoch milliseconds."""
    save(store, record(user_agent="A", ip_addr="192.0.2.1", meta='{"a":1}'))
    row = query(database, "SELECT * FROM connections")[0]
    public = ("user_id", "client_id", "connection_id", "ip_addr", "user_agent", "login_time", "last_seen", "idle",
              "last_activity", "logout_time", "reason", "meta")  # fmt: skip
    assert [row[name] for name in public] == [
        "alice", "phone", "c1", "192.0.2.1", "A", NOW, NOW, None, None, None, None, '{"a":1}',
    ]  # fmt: skip
    user = query(database, "SELECT * FROM users")[0]
    assert {"user_id", "state", "online", "idle", "since", "last_login", "last_login_ip_addr",
            "last_login_user_agent", "last_activity", "last_seen", "version"} <= user.keys()  # fmt: skip


# Load and save.

FULL = record(
    client_named=False,
    last_seen=NOW + 1,
    login_time=NOW + 2,
    login_order=NOW + 3,
    opened_at=NOW + 4,
    ip_addr="2001:db8::1",
    user_agent="Agent/1.0 \N{GRINNING FACE} 'quoted'",
    idle_threshold_ms=5,
    timeout_ms=6,
    announce=True,
    meta='{"room": "attic"}',
    heartbeats=True,
    reports=True,
    idle=True,
    last_activity=NOW + 7,
    check_at=NOW + 8,
    cause=Cause.KEEP_ALIVE,
    network_id=NOW << 20,
    ended_by_broker=True,
    client_time=NOW + 10,
    origin="profile:tasmota",
    opened_by=Rule.L3,
    ended_by=Rule.B2,
    corrected_by=Rule.E1,
    corrected_at=1_800_000_009_000,
    unconfirmed_since=NOW + 77,
)


@pytest.mark.parametrize("idle", [None, False, True])
@pytest.mark.parametrize("reason", [None, *Reason])
def test_record_comes_back_as_it_was(store: Store, idle: bool | None, reason: Reason | None) -> None:
    """Every field of a connection survives, whatever its value."""
    kept = replace(FULL, idle=idle, reason=reason, logout_time=None if reason is None else NOW + 9)
    save(store, kept)
    assert load(store, login())["alice"].connections == {("phone", "c1"): kept}
    bare = Connection(user_id="alice", client_id="phone", connection_id="c2", last_seen=NOW)
    save(store, bare)
    assert load(store, login("c2"))["alice"].connections["phone", "c2"] == bare


def test_every_field_of_a_record_is_tried() -> None:
    """The record above gives every field a value of its own, so that no column is mixed up unseen."""
    default = Connection(user_id="u", client_id="c", connection_id="i", last_seen=0)
    same = [
        f for f in Connection.__struct_fields__
        if f not in {"logout_time", "reason"} and getattr(FULL, f) == getattr(default, f)
    ]  # fmt: skip
    assert same == []
    numbers = [v for f in Connection.__struct_fields__ if type(v := getattr(FULL, f)) is int]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("state", State)
def test_user_comes_back_as_it_was(store: Store, state: State) -> None:
    """Every field of a status survives."""
    last = LastLogin(order=NOW + 1, date=NOW + 2, ip_addr="192.0.2.1", user_agent="A")
    status = Status(state=state, since=NOW + 3, connections=4, last_activity=NOW + 5, last_login=last)
    user = UserPresence(user_id="alice", status=status, version=7, last_seen=NOW + 6)
    with store.transaction() as tx:
        tx.save([Outcome(user=user, changed=(), touched=(), events=(), status_changed=True, ignored=())])
    assert load(store, login())["alice"] == user
    with store.transaction() as tx:
        assert tx.users_after("", 10) == [user]


def test_saving_again_replaces(store: Store) -> None:
    """Saving a record or a user again replaces the values."""
    save(store, record())
    save(store, ended(), version=2)
    loaded = load(store, login())["alice"]
    assert loaded.version == 2
    assert loaded.connections == {("phone", "c1"): ended()}


OTHER = {
    "last_seen": NOW + 11,
    "login_order": NOW + 2,
    "opened_at": NOW + 3,
    "idle_threshold_ms": None,
    "timeout_ms": None,
    "heartbeats": False,
    "reports": False,
    "idle": None,
    "last_activity": None,
    "logout_time": NOW + 4,
    "check_at": None,
    "client_named": True,
    "login_time": NOW + 5,
    "ip_addr": None,
    "user_agent": "another",
    "announce": False,
    "meta": None,
    "reason": Reason.TIMEOUT,
    "cause": Cause.KICKED,
    "network_id": 12,
    "ended_by_broker": False,
    "client_time": NOW + 6,
    "origin": "login",
}


@pytest.mark.parametrize(
    "fields", [[], *([name] for name in OTHER), list(OTHER)], ids=lambda f: "+".join(f[:2])
)
def test_every_changed_column_of_a_loaded_record_is_written(store: Store, fields: list[str]) -> None:
    """Each changed column is written alone, and all columns together; unchanged columns stay."""
    save(store, FULL, record(id="c2"))
    changed = replace(FULL, **{name: OTHER[name] for name in fields})
    assert (changed == FULL) == (not fields)
    user = UserPresence(
        user_id="alice", status=Status(state=State.ONLINE, since=NOW), version=1, last_seen=NOW
    )
    with store.transaction() as tx:
        tx.load({"alice": [login()]})
        tx.save(
            [
                Outcome(
                    user=user,
                    changed=(changed, record(id="c3")),
                    touched=(),
                    events=(),
                    status_changed=False,
                    ignored=(),
                )
            ]
        )
    with store.transaction() as tx:
        rows = tx._connections("c.user_id = k.column1", [("alice",)])
        live = {
            row[0] for row in tx._select("SELECT r.connection_id FROM connection_records r WHERE r.live", [])
        }
    kept = {c.connection_id: c for c in rows}
    assert kept == {"c1": changed, "c2": record(id="c2"), "c3": record(id="c3")}
    assert live == {c.connection_id for c in kept.values() if c.is_live}


def test_a_touched_record_keeps_the_rest(store: Store) -> None:
    """A touched record is saved with its activity only; the other columns stay."""
    save(store, FULL, record(id="c2"))
    told = {"last_seen": NOW + 20, "heartbeats": False, "reports": False, "idle": False, "last_activity": NOW + 21,
            "check_at": None}  # fmt: skip
    user = UserPresence(
        user_id="alice", status=Status(state=State.ONLINE, since=NOW), version=1, last_seen=NOW + 22
    )
    touched = (replace(FULL, **told, user_agent="is not written"),)
    with store.transaction() as tx:
        tx.load({"alice": [login()]})
        tx.save(
            [Outcome(user=user, changed=(), touched=touched, events=(), status_changed=False, ignored=())]
        )
    loaded = load(store, login())["alice"]
    assert loaded.connections == {("phone", "c1"): replace(FULL, **told), ("phone", "c2"): record(id="c2")}
    assert (loaded.version, loaded.last_seen) == (1, NOW + 22)


def test_heartbeats_load_the_live_connections_of_their_clients(store: Store) -> None:
    """Heartbeats, with or without an id, load live connections: open ones, and those in their grace."""
    save(
        store,
        FULL,
        ended("old"),
        ended("graced", check_at=NOW + 9),
        record(id="p1", client="pad"),
        record(id="c2", user="bob"),
    )
    beats = [
        Activity(user_id="alice", client_id="phone", now=NOW, connection_id=name) for name in ("c1", None)
    ]
    with store.transaction() as tx:
        loaded = tx.load_activity({"alice": beats, "carol": beats[:1]})
    live = [FULL, ended("graced", check_at=NOW + 9)]
    assert loaded == {"alice": {("phone", c.connection_id): alone(c) for c in live}, "carol": {}}


@pytest.mark.parametrize("asked", [1, 2, 3, PORTION - 1, PORTION, PORTION + 1, 2 * PORTION + 1])
def test_any_number_of_users_is_loaded(store: Store, asked: int) -> None:
    """Keys go to the database in padded portions, which does not change the result."""
    everybody = [f"user-{n}" for n in range(2 * PORTION + 2)]
    save(store, *(record(user=user, login_order=NOW + n) for n, user in enumerate(everybody)))
    users = everybody[-asked:]
    beats = {u: [Activity(user_id=u, client_id="phone", now=NOW, connection_id="c1")] for u in users}
    with store.transaction() as tx:
        states = tx.load_activity(beats)
    assert states == {u: {("phone", "c1"): alone(record(user=u, login_order=NOW + n))}
                      for n, u in enumerate(everybody) if u in users}  # fmt: skip
    loaded = load(store, *(login(id="c2", user=u) for u in users), *(login(user=f"new-{u}") for u in users))
    assert {u: list(p.connections) for u, p in loaded.items()} == {
        **{u: [("phone", "c1")] for u in users}, **{f"new-{u}": [] for u in users}
    }  # fmt: skip
    assert {u: p.latest_login for u, p in loaded.items() if p.latest_login} == {
        u: {"phone": NOW + n} for n, u in enumerate(everybody) if u in users
    }


@pytest.mark.parametrize("check_at", [NOW + 70_000, NOW + 80_000, None])
def test_a_heartbeat_saves_activity_and_deadline_only(store: Store, check_at: int | None) -> None:
    """A settled heartbeat writes the activity of its connection, and the deadline if it has changed."""
    kept = replace(FULL, check_at=NOW + 70_000)
    save(store, kept, version=5)
    told = {"last_seen": NOW + 20, "heartbeats": False, "reports": False, "idle": False, "last_activity": NOW + 21,
            "check_at": check_at}  # fmt: skip
    with store.transaction() as tx:
        beat = Activity(user_id="alice", client_id="phone", now=NOW, connection_id="c1")
        (state,) = tx.load_activity({"alice": [beat]})["alice"].values()
        tx.save_activity([replace(state, **told)])
    loaded = load(store, login())["alice"]
    assert loaded.connections == {("phone", "c1"): replace(kept, **told)}
    assert (loaded.version, loaded.last_seen) == (5, NOW + 20)


def test_users_last_seen_is_that_of_the_live_connections(store: Store, database: str) -> None:
    """A sign of life writes only the connection; SQL and the bridge also see it as the user's `last_seen`."""
    save(store, record(), record(id="c2", client="pad"), ended("c3", last_seen=NOW + 90))
    seen = replace(record(), last_seen=NOW + 5)
    user = replace(load(store, login())["alice"], last_seen=NOW + 5, connections={("phone", "c1"): seen})
    with store.transaction() as tx:
        tx.load({"alice": [login()]})
        tx.save(
            [Outcome(user=user, changed=(), touched=(seen,), events=(), status_changed=False, ignored=())]
        )
    assert query(database, "SELECT last_seen FROM users") == [{"last_seen": NOW + 5}]
    assert query(database, "SELECT last_seen FROM user_states") == [{"last_seen": NOW}]
    assert load(store, Login(user_id="alice", client_id="tv", now=NOW))["alice"].last_seen == NOW + 5


def test_a_sign_of_life_beside_all_connections_is_kept(store: Store, database: str) -> None:
    """An ignored message of an ended connection is a sign of life, too."""
    save(store, ended())
    user = load(store, login())["alice"]
    user = replace(user, last_seen=NOW + 7)
    with store.transaction() as tx:
        tx.save([Outcome(user=user, changed=(), touched=(), events=(), status_changed=False, ignored=())])
    assert query(database, "SELECT last_seen FROM users") == [{"last_seen": NOW + 7}]


def test_a_large_batch_is_loaded_and_saved_at_once(store: Store) -> None:
    """A batch may have a thousand users, each with a named record that is no longer live."""
    save(store, *(ended(user=f"u{n}") for n in range(1000)))
    loaded = load(store, *(login(user=f"u{n}") for n in range(1000)))
    assert len(loaded) == 1000
    assert all(len(user.connections) == 1 for user in loaded.values())


def test_load_reads_live_and_named_records(store: Store) -> None:
    """Live records are always loaded, those in their grace too; ended ones only if a message names them."""
    grace = ended("grace", reason=Reason.LOST, check_at=NOW + 5)
    save(store, record(id="open"), grace, ended("named"), ended("other"), record(user="bob", id="open"))
    users = load(
        store, End(user_id="alice", client_id="phone", now=NOW, reason=Reason.LOST, connection_id="named")
    )
    assert users.keys() == {"alice"}
    assert {key[1] for key in users["alice"].connections} == {"open", "grace", "named"}


def test_load_reads_the_latest_record_of_a_closed_network_connection(store: Store) -> None:
    """The broker's report of an end may arrive after the end itself: it belongs to the latest record."""
    save(store, ended("older", login_order=NOW - 1), ended("latest"), ended("alien"))
    save(store, record(client="tablet", id="t"), ended(id="x", user="bob"))
    gone = NetworkClosed(
        user_id="alice", client_id="phone", now=NOW, network_id=1, cause=Cause.CLOSED, reason=Reason.LOST
    )
    found = load(store, gone)["alice"].connections
    assert {key[1] for key in found} == {"latest", "alien", "t"}  # of two logins of one moment, both


def test_network_connections_are_those_of_open_records_the_latest_last(store: Store) -> None:
    """A starting bridge restores network connections from records; of too many, the latest."""
    save(
        store,
        record(id="1", user="alice", network_id=11, login_time=NOW + 2, ip_addr="192.0.2.1"),
        record(id="2", user="bob", network_id=12, login_time=NOW + 1),
        record(id="3", user="carol"),
        ended("4", user="dave", network_id=14),
    )
    with store.transaction() as tx:
        assert tx.network_connections(9) == [("bob", "phone", 12, None), ("alice", "phone", 11, "192.0.2.1")]
        assert tx.network_connections(1) == [("alice", "phone", 11, "192.0.2.1")]


def test_connections_of_version_1_are_brought_up_to_date(database: str) -> None:
    """The records of an older bridge are kept, with the new columns unknown."""
    old = connect(database)
    Runner(old, directory=str(MIGRATIONS)).up("0001_initial")
    assert "cause" not in {column.name for column in old.get_columns("connections")}
    old.execute_sql(
        "INSERT INTO connections (user_id, client_id, connection_id, last_seen, named, login_time, announce, "
        f"heartbeats, reports, live) VALUES ('alice', 'phone', 'c1', {NOW}, true, {NOW}, false, false, false, true)"
    )
    old.close()
    store = Store(database)
    store.open()
    kept = load(store, login())["alice"].connections["phone", "c1"]
    assert (kept.login_time, kept.cause, kept.network_id, kept.ended_by_broker) == (NOW, None, None, False)
    store.close()


def test_load_of_a_stranger_is_empty(store: Store) -> None:
    """An unknown user has no records, and the versions begin at 0."""
    assert load(store, login()) == {"alice": UserPresence(user_id="alice")}


def test_latest_login_is_over_open_and_ended_records(store: Store) -> None:
    """L4 compares with the greatest order of all logins of the client."""
    save(store, record(login_order=NOW + 5), ended("c2", login_order=NOW + 9), ended("c3", login_order=None))
    save(store, record(client="tablet", id="t", login_order=NOW + 50))
    assert load(store, login("new"))["alice"].latest_login == {"phone": NOW + 9}
    assert load(store, login(None))["alice"].latest_login == {"phone": NOW + 9}
    assert load(store, login("new", "unseen"))["alice"].latest_login == {}


def test_latest_login_comes_with_the_time_of_the_same_record(store: Store) -> None:
    """Not with the time of an older record; of two records with the same order, the one with a time counts."""
    save(store, ended("c1", login_order=NOW + 5, client_time=NOW + 5), record(id="c2", login_order=NOW + 9))
    assert load(store, login("new"))["alice"].latest_login_time == {}
    save(store, ended("c3", login_order=NOW + 9, client_time=NOW + 2))
    assert load(store, login("new"))["alice"].latest_login_time == {"phone": NOW + 2}


def test_transaction_is_all_or_nothing(store: Store) -> None:
    """A transaction that fails half way has no effect, and the store works on."""
    with pytest.raises(RuntimeError), store.transaction() as tx:  # noqa: PT012
        tx.write_value("name", "value")
        raise RuntimeError
    with store.transaction() as tx:
        assert tx.read_value("name") is None
        tx.write_value("name", "value")
    with store.transaction() as tx:
        assert tx.read_value("name") == "value"


def test_what_the_database_refuses_is_not_transient(store: Store) -> None:
    """An input that the database refuses differs from a busy database."""
    with pytest.raises(StoreError) as caught, store.transaction() as tx:
        tx._executemany(f"INSERT INTO bridge (name, value) VALUES ({tx._mark}, {tx._mark})", [("a", None)])
    assert caught.value.transient is False
    with pytest.raises(StoreError) as caught, store.transaction() as tx:
        tx._executemany(f"UPDATE outbox SET id = {tx._mark} WHERE id = {tx._mark}", [(2**70, 2**70)])
    assert caught.value.transient is False
    with store.transaction() as tx:
        assert tx.read_value("a") is None


ODD = [
    "",
    "NULL",
    "null",
    " ",
    "a,b",
    '"',
    '""',
    "\\",
    "\\\\",
    '\\"',
    "{}",
    "{a}",
    "a\nb\r\tc",
    "\x01",
    "é😀",
    "%s",
    "k.column1",
]


def test_any_text_is_saved_and_found_in_a_batch(store: Store) -> None:
    """Keys and values of one batch keep each character, whatever a database means by it."""
    users = {f"user-{n}{odd}": record(user=f"user-{n}{odd}", client=odd or "c", id=f"{odd}-{n}", user_agent=odd,
                                      meta=None if n % 3 else odd) for n, odd in enumerate(ODD)}  # fmt: skip
    save(store, *users.values())
    loaded = load(store, *(login(id="new", user=user) for user in users))
    assert {user: list(p.connections.values()) for user, p in loaded.items()} == {
        user: [saved] for user, saved in users.items()
    }


@pytest.mark.parametrize("bad", ["a\0b", "\0", "\ud800"])
def test_a_text_that_cannot_be_saved_is_refused_for_good(store: Store, bad: str) -> None:
    """On PostgreSQL a NUL, on both a lone surrogate: an error of the input, no other name."""
    names = {name: [login(user=name)] for name in ("alice", f"bob{bad}", "carol")}
    if bad.startswith("\ud800") or store.locks_rows:
        with pytest.raises(StoreError) as caught, store.transaction() as tx:
            tx.load(names)
        assert caught.value.transient is False
    else:
        with store.transaction() as tx:
            assert set(tx.load(names)) == set(names)


def test_of_two_rows_with_one_key_the_last_counts(store: Store) -> None:
    """In one batch, as in two."""
    save(store, record())
    first, last = replace(alone(record()), last_seen=NOW + 5), replace(alone(record()), last_seen=NOW + 7)
    with store.transaction() as tx:
        tx.load_activity(
            {"alice": [Activity(user_id="alice", client_id="phone", now=NOW, connection_id="c1")]}
        )
        tx.save_activity([first, last])
    assert load(store, login("new"))["alice"].connections["phone", "c1"].last_seen == NOW + 7


# What is due.


def test_due_users_are_those_with_something_due(store: Store) -> None:
    """Due users come once each, the most overdue first, up to the limit."""
    save(
        store,
        record(user="late", id="1", check_at=NOW - 9),
        record(user="late", id="2", check_at=NOW - 1),
        record(user="now", check_at=NOW),
        record(user="soon", check_at=NOW + 1),
        record(user="never"),
        ended(user="graced", reason=Reason.LOST, check_at=NOW - 5),
    )
    with store.transaction() as tx:
        assert tx.due_users(NOW, 10) == ["late", "graced", "now"]
        assert tx.due_users(NOW, 1) == ["late"]
        assert tx.due_users(NOW - 100, 10) == []


def test_unconfirmed_are_the_open_that_answer_announcements_and_did_not(store: Store) -> None:
    """B3 ends open connections that declared `announce` and have been silent since."""
    save(
        store,
        record(user="silent", id="1", announce=True, last_seen=NOW - 1),
        record(user="silent", id="2", announce=True, last_seen=NOW - 2),
        record(user="faithful", announce=True, last_seen=NOW),
        record(user="simple", last_seen=NOW - 1),
        ended(user="gone", announce=True, last_seen=NOW - 1),
        ended(user="graced", announce=True, last_seen=NOW - 1, reason=Reason.LOST, check_at=NOW + 9),
    )
    with store.transaction() as tx:
        assert tx.unconfirmed_users(NOW, "", 10) == {
            "faithful": False,
            "graced": False,
            "silent": True,
            "simple": False,
        }
        assert tx.unconfirmed_users(NOW, "graced", 1) == {"silent": True}
        assert not any(tx.unconfirmed_users(NOW - 5, "", 10).values())


def test_times_in_the_future_are_found(store: Store) -> None:
    """A sign of life or an end has a time later than the clock."""
    save(store, record(), ended(id="c2", at=NOW - 5, last_seen=NOW - 9))
    with store.transaction() as tx:
        assert not tx.has_future_times(NOW)
        assert tx.has_future_times(NOW - 1)
    save(store, ended(id="c3", at=NOW + 1, last_seen=NOW - 9))
    with store.transaction() as tx:
        assert tx.has_future_times(NOW)
        assert not tx.has_future_times(NOW + 1)


def test_live_users_come_in_pages_with_those_that_have_future_times(store: Store) -> None:
    """After the clock was set back, each future time of a live connection is found; ended ones are left alone."""
    save(
        store,
        record(user="active", last_seen=NOW, last_activity=NOW + 1),
        record(user="ahead", id="1", last_seen=NOW),
        record(user="ahead", id="2", last_seen=NOW + 1),
        record(user="gone", last_seen=NOW + 9, logout_time=NOW + 9, reason=Reason.LOST),
        record(user="graced", last_seen=NOW, logout_time=NOW + 1, reason=Reason.LOST, check_at=NOW + 9),
        record(user="opened", last_seen=NOW, opened_at=NOW + 1),
        record(user="right", last_seen=NOW, last_activity=NOW),
    )
    with store.transaction() as tx:
        assert list(tx.live_users("", NOW, 3).items()) == [
            ("active", True),
            ("ahead", True),
            ("graced", True),
        ]
        assert list(tx.live_users("graced", NOW, 3).items()) == [("opened", True), ("right", False)]
        assert tx.live_users("right", NOW, 3) == {}
        assert set(tx.live_users("", NOW + 1, 10).values()) == {False}


def test_retention_deletes_what_ended_before(store: Store) -> None:
    """Ended records older than the limit go, the oldest first; open ones and those in their grace stay."""
    save(
        store,
        record(id="open", last_seen=NOW - 100),
        ended("graced", NOW - 100, Reason.LOST, check_at=NOW),
        ended("oldest", NOW - 100),
        ended("old", NOW - 50),
        ended("just", NOW - 10),
    )
    with store.transaction() as tx:
        assert tx.delete_ended(NOW - 10, 1) == 1
    assert "oldest" not in ids(store)
    with store.transaction() as tx:
        assert tx.delete_ended(NOW - 10, 100) == 1
        assert tx.delete_ended(NOW - 10, 100) == 0
    assert ids(store) == {"open", "graced", "just"}


def ids(store: Store) -> set[str]:
    with store.transaction() as tx:
        return {row[0] for row in tx._select("SELECT connection_id FROM connections", [])}


def test_open_connections_are_moved_by_pages(store: Store) -> None:
    """`last_seen` moves forward, but not beyond now; later times and ended records stay."""
    by_user = [record(f"user-{n}", last_seen=NOW + 10 * n) for n in range(5)]
    save(store, *by_user, ended("old"), ended("graced", check_at=NOW + 9))
    pages, page = 0, None
    while pages == 0 or page is not None:
        with store.transaction() as tx:
            page = tx.shift_last_seen(page, 15, NOW + 35, 2)
        pages += 1
    assert pages == 3
    with store.transaction() as tx:
        seen = {
            (c.user_id, c.connection_id): c.last_seen - NOW for c in tx._connections("c.id > 0", [("any",)])
        }
    assert seen == {
        ("user-0", "c1"): 15, ("user-1", "c1"): 25, ("user-2", "c1"): 35, ("user-3", "c1"): 35,
        ("user-4", "c1"): 40, ("alice", "old"): 0, ("alice", "graced"): 0,
    }  # fmt: skip


# Forgetting.


def test_forgetting_leaves_a_tombstone_and_the_version(store: Store) -> None:
    """A forgotten user has no records, the status must be cleared, and versions go on growing."""
    save(store, record(), ended("c2"), version=17)
    save(store, record(user="bob"), version=3)
    with store.transaction() as tx:
        assert tx.forget("alice") == 2
        assert tx.forget("stranger") is None
        assert tx.uncleared() == ["alice"]
    assert load(store, login())["alice"] == UserPresence(user_id="alice", version=17)
    assert load(store, login(user="newcomer"))["newcomer"].version == 17
    assert load(store, login(user="bob"))["bob"].version == 3
    with store.transaction() as tx:
        tx.forget("bob")  # of a lesser version: the floor does not sink
        tx.mark_cleared("alice", NOW)
        assert tx.uncleared() == ["bob"]
    assert load(store, login())["alice"].version == 17


def test_a_cleared_status_may_have_to_be_cleared_again(store: Store) -> None:
    """A broker that was killed may have the status again, until enough time has passed."""
    save(store, record(), record(user="bob"))
    with store.transaction() as tx:
        tx.forget("alice")
        tx.mark_cleared("alice", NOW)
        tx.forget_cleared(NOW)
        assert tx.uncleared() == []
        tx.clear_again()
        assert tx.uncleared() == ["alice"]
        tx.mark_cleared("alice", NOW)
        tx.forget("bob")
        tx.forget_cleared(NOW + 1)
        tx.clear_again()
        assert tx.uncleared() == ["bob"]
    save(store, record(user="carol"))
    with store.transaction() as tx:
        tx.forget("carol")
        tx.mark_cleared("carol", NOW)
    save(store, record(user="carol"), version=2)
    with store.transaction() as tx:
        tx.forget("carol")  # again: this one is not cleared yet
        assert sorted(tx.uncleared()) == ["bob", "carol"]


def test_a_user_who_came_back_is_not_cleared(store: Store) -> None:
    """The status of a user who came back must not be cleared."""
    save(store, record())
    with store.transaction() as tx:
        tx.forget("alice")
        tx.forget("alice")
    save(store, record(), version=2)
    with store.transaction() as tx:
        assert tx.returned_users() == ["alice"]
        tx.end_tombstones(["alice"])
        assert tx.returned_users() == tx.uncleared() == []


# What the bridge keeps for itself.


def test_named_values_are_read_as_written(store: Store) -> None:
    """A value stays until it is replaced or deleted."""
    with store.transaction() as tx:
        assert tx.read_value("a") is None
        tx.write_value("a", "1")
        tx.write_value("a", "2")
        tx.write_value("b", "3")
        tx.write_value("b", None)
        tx.write_value("never", None)
        assert (tx.read_value("a"), tx.read_value("b")) == ("2", None)


def test_named_values_are_read_by_the_beginning_of_their_names(store: Store) -> None:
    """A name may have any character, also the wildcards of LIKE."""
    with store.transaction() as tx:
        for name in ("x_ a%", "x_ ä", "x_", "xx a", "X_ b"):
            tx.write_value(name, name)
        assert tx.read_values("x_ ") == {"a%": "x_ a%", "ä": "x_ ä"}


def test_outbox_is_in_order_and_numbers_only_grow(store: Store) -> None:
    """Entries stay in their order until they are cleared; a new id is greater than all others."""
    with store.transaction() as tx:
        first, second = tx.put_outbox(b"\x00one"), tx.put_outbox(b"two\xff")
        assert second > first
        assert tx.outbox() == [(first, b"\x00one"), (second, b"two\xff")]
    with store.transaction() as tx:
        tx.clear_outbox(first)
        assert tx.outbox() == [(second, b"two\xff")]
        tx.clear_outbox(second)
        assert tx.outbox() == []
        third = tx.put_outbox(b"three")
        assert tx.put_outbox(b"four") > third


def test_users_come_in_pages(store: Store) -> None:
    """All users come once, in the order of their names, page by page, offline ones too."""
    names = sorted(["a", "b", "Z", "é", "用户", "a b", "~"], key=lambda n: n.encode())
    save(store, *(record(user=name) for name in names))
    seen: list[str] = []
    with store.transaction() as tx:
        while page := tx.users_after(seen[-1] if seen else "", 2):
            assert len(page) <= 2
            seen += [user.user_id for user in page]
    assert sorted(seen, key=lambda n: n.encode()) == names
    assert len(set(seen)) == len(seen)


def test_two_stores_in_one_process_are_independent(store: Store, tmp_path: Path, postgres: Postgres) -> None:
    """Two stores of different databases do not write into each other's tables."""
    others = [Store(f"sqlite:///{tmp_path / 'other.db'}"), Store(postgres.database())]
    save(store, record(user="here"))
    for number, other in enumerate(others):
        other.open()
        save(other, record(user=f"there{number}"))
    for number, other in enumerate(others):
        with other.transaction() as tx:
            assert [u.user_id for u in tx.users_after("", 9)] == [f"there{number}"]
        other.close()
    with store.transaction() as tx:
        assert [u.user_id for u in tx.users_after("", 9)] == ["here"]


def test_two_stores_on_one_database_take_turns(database: str, store: Store) -> None:
    """Two processes' stores see each other's commits, and neither loses its own."""
    other = Store(database)
    other.open()
    save(store, record(), version=1)
    save(other, ended(), version=2)
    assert load(store, login())["alice"].version == 2
    assert load(store, login())["alice"].connections["phone", "c1"].reason is Reason.LOGOUT
    other.close()


# SQLite alone.


def test_sqlite_file_is_for_its_owner_only(sqlite_url: str, tmp_path: Path) -> None:
    """The file, its log and its index hold addresses and names: only the owner may read them."""
    store = Store(sqlite_url)
    store.open()
    save(store, record())
    files = list(tmp_path.glob("presence.db*"))
    assert len(files) == 3
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}
    store.close()


def test_sqlite_is_durable(sqlite_url: str) -> None:
    """A commit survives a power cut: write-ahead log, synchronous FULL."""
    store = Store(sqlite_url)
    store.open()
    with store.transaction() as tx:
        assert tx._select("PRAGMA journal_mode", []) == [("wal",)]
        assert tx._select("PRAGMA synchronous", []) == [(2,)]
    store.close()


def test_locked_sqlite_is_transient(sqlite_url: str) -> None:
    """A database that another process has locked is a transient error."""
    store = Store(sqlite_url)
    store.open()
    with cursor(sqlite_url) as cur:
        cur.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError) as caught, store.transaction():
            pass
        assert caught.value.transient
        assert "locked" in str(caught.value)
        cur.execute("ROLLBACK")
    save(store, record())
    store.close()


@pytest.mark.parametrize("url", ["mysql://x", "sqlite://", "sqlite:///:memory:", "presence.db", ""])
def test_unusable_url_is_a_config_error(url: str) -> None:
    """A wrong database URL is refused before any file is created."""
    with pytest.raises(ConfigError, match="database"):
        Store(url)


class Plans:
    """Runs the bridge's statements on a large table, and records SQLite's query plan of each."""

    def __init__(self, url: str) -> None:
        self.store = Store(url)
        self.store.open()
        save(
            self.store,
            *(ended(f"old{n}", NOW - n, user=f"u{n % 50}", client=f"c{n % 20}") for n in range(2000)),
            *(record(user=f"u{n}", id=f"new{n}", check_at=NOW + n) for n in range(50)),
        )
        with cursor(url) as cur:
            cur.execute("ANALYZE")
        self.store.close()
        self.statements: list[tuple[str, Any]] = []

    def of(self, work) -> list[str]:
        """Return the plan lines of all statements that the work runs."""
        database = self.store._database
        execute = database.execute_sql

        def noted(sql: str, params: Any = None) -> Any:
            self.statements.append((sql, params or ()))
            return execute(sql, params)

        self.statements.clear()
        with self.store.transaction() as tx:
            database.execute_sql = noted
            try:
                work(tx)
            finally:
                del database.execute_sql
            lines = []
            for sql, params in self.statements:
                lines += [
                    row[3] for row in database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", params).fetchall()
                ]
        assert lines
        return lines


@pytest.fixture
def plans(sqlite_url: str) -> Iterator[Plans]:
    plans = Plans(sqlite_url)
    yield plans
    plans.store.close()


def test_no_work_of_the_bridge_scans_the_records(plans: Plans) -> None:
    """Every statement uses an index: its cost grows with its result, not with the table."""
    batch = {
        f"u{n}": [
            login("unseen", "c1", f"u{n}"),
            End(user_id=f"u{n}", client_id="c2", now=NOW, reason=Reason.LOST, connection_id="old2"),
            login(None, "c3", f"u{n}"),
        ]
        for n in range(20)
    }
    by_index = {
        "load": (lambda tx: tx.load(batch), {"connections_live", "connectionrow_user_id_client_id_connection_id",
                                             "connectionrow_user_id_client_id_login_order"}),
        "heartbeats": (lambda tx: tx.load_activity({f"u{n}": [Activity(user_id=f"u{n}", client_id="c1", now=NOW)] for n in range(20)}),
                       {"COVERING INDEX connections_live (user_id=? AND client_id=?)"}),
        "due": (lambda tx: tx.due_users(NOW, 100), {"connections_due"}),
        "unconfirmed": (lambda tx: tx.unconfirmed_users(NOW, "u3", 100), {"connections_live"}),
        "set back": (lambda tx: tx.live_users("u3", NOW, 100), {"connections_live (user_id>?)"}),
        "retention": (lambda tx: tx.delete_ended(NOW - 1990, 100), {"connections_ended"}),
        "forget": (lambda tx: tx.forget("u7"), set()),
    }  # fmt: skip
    for name, (work, expected) in by_index.items():
        lines = plans.of(work)
        told = "\n".join(lines)
        for line in lines:
            if line.startswith("SCAN"):
                # A walk along a partial index is over what is due or live, not over what exists.
                assert not line.startswith(("SCAN connections", "SCAN c", "SCAN t1")) or "USING" in line, (
                    name,
                    told,
                )
                assert "USING INDEX connectionrow" not in line, (name, told)
        missing = {index for index in expected if index not in told}
        assert not missing, (name, missing, told)
    assert not any("TEMP B-TREE" in line for line in plans.of(lambda tx: tx.live_users("u3", NOW, 100)))
    # What is due is found by a search, and in order: nothing is sorted.
    assert any(line.startswith("SEARCH") for line in plans.of(lambda tx: tx.due_users(NOW, 100)))
    assert not any("TEMP B-TREE" in line for line in plans.of(lambda tx: tx.due_users(NOW, 100)))


# Devices.


def test_latest_records_of_devices(store: Store) -> None:
    """Of each client with such an origin the record that was made last, open or ended."""
    save(
        store,
        ended("c1", user="lamp", origin="profile:tasmota"),
        record(user="lamp", id="c2", origin="profile:tasmota"),
        ended("c3", user="plug", origin="profile:tasmota"),
        record(user="porch", id="c4", origin="profile:esphome"),
        record(user="alice", id="c5", origin="login"),
        record(user="bob", id="c6"),
    )
    with store.transaction() as tx:
        found = tx.latest_of_origins(["profile:tasmota", "profile:wled"])
    assert sorted((r.user_id, r.connection_id, r.is_open) for r in found) == [
        ("lamp", "c2", True),
        ("plug", "c3", False),
    ]


def test_unconfirmed_devices_are_those_of_the_origins(store: Store) -> None:
    """Open records of these origins that were not seen since; paged by user."""
    save(
        store,
        record(user="lamp", id="c1", origin="profile:tasmota", last_seen=NOW - 1),
        record(user="pump", id="c2", origin="profile:tasmota", last_seen=NOW),
        record(user="door", id="c3", origin="profile:zigbee2mqtt", last_seen=NOW - 1),
        record(user="alice", id="c4", origin="login", announce=True, last_seen=NOW - 1),
        ended("c5", user="plug", origin="profile:tasmota"),
    )
    with store.transaction() as tx:
        found = tx.unconfirmed_devices(NOW, ["profile:tasmota", "profile:esphome"], "", 10)
        assert {user for user, is_unconfirmed in found.items() if is_unconfirmed} == {"lamp"}
        assert tx.unconfirmed_devices(NOW, ["profile:tasmota"], "door", 1) == {"lamp": True}


# The pages of the web.


def test_pages_of_the_web_go_by_an_index_and_sort_nothing(sqlite_url: str, plans: Plans) -> None:
    """The cost of a page is that of its rows, because an index finds its beginning."""
    pages = {
        "users": (lambda r: r.users_page(after="u2", limit=10, containing=None), "USING PRIMARY KEY (user_id>?)"),
        "search": (lambda r: r.users_page(after="u2", limit=10, containing="u"), "USING PRIMARY KEY (user_id>?)"),
        "timeline": (lambda r: r.connections_page("u7", since=NOW - 9, until=NOW, before=(NOW, 5), limit=10), "connections_of_user"),
        "first": (lambda r: r.connections_page("u7", since=None, until=None, before=None, limit=10), "connections_of_user"),
        "open": (lambda r: r.open_page(after=("u3", "c1", 7), limit=10), "connections_live"),
        "ended": (lambda r: r.ended_page(before=(NOW, 5), limit=10), "connections_ended"),
    }  # fmt: skip
    with Reader(sqlite_url) as reader:
        execute, said = reader._database.execute_sql, []

        def noted(sql: str, params: Any = None) -> Any:
            said.append((sql, params))
            return execute(sql, params)

        reader._database.execute_sql = noted
        for name, (ask, index) in pages.items():
            said.clear()
            ask(reader)
            (sql, params) = said[0]
            lines = [row[3] for row in execute(f"EXPLAIN QUERY PLAN {sql}", params).fetchall()]
            assert any(index in line for line in lines), (name, lines)
            if name in {"timeline", "first", "ended"}:  # of both tables, merged
                lines = [line for line in lines if line not in {"MERGE (UNION ALL)", "LEFT", "RIGHT"}]
                assert lines[-1].startswith("SEARCH h USING INDEX history_"), (name, lines)
            # `users` is a view: when each was last seen is one more search.
            assert all(line.startswith(("SEARCH", "CORRELATED")) for line in lines), (name, lines)
            assert not any("TEMP B-TREE" in line for line in lines), (name, lines)


def test_a_history_has_the_connections_that_overlap_the_range(store: Store, database: str) -> None:
    """Open at its end, begun before its beginning, ended on its edge: in; ended before, begun after, never begun: out."""

    def at(id: str, began: int | None, over: int | None) -> Connection:
        gone = {} if over is None else {"logout_time": NOW + over, "reason": Reason.LOST}
        begun = None if began is None else NOW + began
        return record(id=id, client=f"client-{id}", login_time=begun, login_order=begun, **gone)

    save(
        store,
        at("before", -9, -6),
        at("edge", -9, -5),
        at("around", -9, 9),
        at("within", -1, 1),
        at("open", -8, None),
        at("begins-last", 5, 6),
        at("after", 6, None),
        at("unknown", None, 0),
        record("bob", id="bobs", login_time=NOW),
    )
    with Reader(database) as reader:
        found = reader.connections_page("alice", since=NOW - 5, until=NOW + 5, before=None, limit=100)
        all_of_it = reader.connections_page("alice", since=None, until=None, before=None, limit=100)
    assert [r.connection_id for _, r in found] == ["begins-last", "within", "open", "around", "edge"]
    assert len(all_of_it) == 7


def test_a_reader_waits_no_longer_than_its_patience(store: Store, database: str) -> None:
    """A statement that takes too long ends with a transient error; the next reader has its whole patience."""
    forever = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n"
        if database.startswith("sqlite")
        else "SELECT pg_sleep(60)"
    )
    began = time.monotonic()
    with Reader(database, patience_s=0.3) as reader, pytest.raises(StoreError) as caught:
        reader._select(forever, [])
    assert caught.value.transient
    assert time.monotonic() - began < 10
    with Reader(database) as reader:
        assert list(reader.users()) == []


@pytest.mark.parametrize("user", ["a%", "_", "\\", "<b>", "a b", "é", ".."])
def test_users_are_found_by_what_their_names_contain(store: Store, database: str, user: str) -> None:
    """Every character stands for itself, also the wildcards of SQL."""
    names = (f"x{user}y", f"X{user.upper()}Y", "other", "axb")
    save(store, *(record(name, id=f"id-{name}") for name in names))
    with Reader(database) as reader:
        found = [u.user_id for u in reader.users_page(after=None, limit=10, containing=user)]
    assert set(found) >= {f"x{user}y"}
    assert set(found) <= {f"x{user}y", f"X{user.upper()}Y"}


def test_opening_a_second_store_keeps_the_locks_of_the_first(sqlite_url: str, tmp_path: Path) -> None:
    """A second store in one process, and a reader in another, do not delete the log of the first."""
    first = Store(sqlite_url)
    first.open()
    with first.transaction() as tx:
        tx.write_value("before", "1")
    second = Store(sqlite_url)
    second.open()
    second.close()
    with first.transaction() as tx:
        tx.write_value("between", "1")
    # Whoever closes last checkpoints, and removes the log: another process must see that it is not the last.
    look = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM bridge').fetchall()"
    subprocess.run([sys.executable, "-c", look, tmp_path / "presence.db"], check=True)
    with first.transaction() as tx:
        tx.write_value("after", "1")
    assert (tmp_path / "presence.db-wal").exists()
    look = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT name FROM bridge').fetchall())"
    seen = subprocess.run(
        [sys.executable, "-c", look, tmp_path / "presence.db"], check=True, capture_output=True, text=True
    )
    assert all(f"'{name}'" in seen.stdout for name in ("before", "between", "after"))
    first.close()


def test_a_lost_postgresql_server_is_detected() -> None:
    """A silent connection ends in seconds, not hours; parameters in the URL take precedence."""
    told = connect("postgresql://u@h/n?tcp_user_timeout=5000").connect_params
    assert told["tcp_user_timeout"] == 5000
    assert (told["keepalives_idle"], told["keepalives_count"]) == (10, 3)
    assert connect("postgresql://u@h/n", patience_s=3).connect_params["tcp_user_timeout"] == 3000


# Whole users, for `verify`.


def test_a_reader_sees_users_as_the_bridge_does(store: Store, database: str) -> None:
    """Rows with live connections, without ended ones; an unknown user has the version of new users."""
    save(store, record(), record(id="c2", client="web", idle=True, last_activity=NOW), version=4)
    save(store, ended(id="c0", client="old"), record("bob"))
    save(store, record("carol"), version=30)
    with store.transaction() as tx:
        tx.forget("carol")
        tx._database.execute_sql("DELETE FROM user_states WHERE user_id = 'bob'")
        kept = tx.load(dict.fromkeys(("bob", "alice", "stranger"), ()))
    with Reader(database) as reader:
        assert reader.presences(["bob", "alice", "stranger"]) == kept
        assert reader.presences_page(after="", limit=5) == [kept["alice"]]
        assert reader.presences_page(after="alice", limit=5) == []
        assert reader.inconsistent_users() == {"bob"}
        assert reader.inconsistent_users(["alice", "bob"]) == {"bob"}
        assert reader.inconsistent_users(["alice"]) == reader.inconsistent_users([]) == set()
    assert kept["stranger"].version == 30
    assert len(kept["alice"].connections) == 2


def test_a_reader_waits_for_no_writer(store: Store, database: str) -> None:
    """Locks of a bridge or of another program do not block a reader."""
    save(store, record())
    with store.transaction() as tx:
        tx.load({"alice": [login()]})
        tx.write_value("something", "uncommitted")
        with Reader(database, patience_s=2) as reader:
            assert [u.user_id for u in reader.presences_page(after="", limit=5)] == ["alice"]
            assert reader.presences(["alice"])["alice"].connections


def test_a_reader_sees_row_and_connections_of_one_moment(store: Store, database: str) -> None:
    """A commit between two of its statements is not seen: the row would not fit the connections."""
    save(store, record(), version=1)
    with Reader(database) as reader:
        select = reader._select

        def late(sql: str, parameters: Any) -> list[Any]:
            rows = select(sql, parameters)
            reader._select = select  # type: ignore[method-assign]
            save(store, record(id="c2", client="web"), version=2)
            return rows

        reader._select = late  # type: ignore[method-assign]
        before = reader.presences(["alice"])["alice"]
        after = reader.presences(["alice"])["alice"]
    assert (before.version, len(before.connections)) == (1, 1)
    assert (after.version, len(after.connections)) == (2, 2)


# Implicit connections.


def test_implicit_records_are_read_in_pages(store: Store, database: str) -> None:
    """Open records that the broker's report opened, each once, by user and client; and the users in doubt."""
    save(
        store,
        record(user="alice", client="a1", origin="broker", network_id=7, ip_addr="192.0.2.1"),
        record(user="alice", client="a2", origin="broker", unconfirmed_since=NOW),
        record(user="alice", client="a3", origin="login"),
        ended("c9", user="bob", client="b1", origin="broker"),
        record(user="bob", client="b2", origin="broker", unconfirmed_since=NOW),
    )
    found, after = [], ("", "", 0)
    with store.transaction() as tx:
        while page := tx.implicit_records(after, 2):
            found += page
            after = (page[-1].user_id, page[-1].client_id, page[-1].row_id)
        assert len(tx.seat_clients()) == 1
    assert [(r.user_id, r.client_id, r.network_id, r.address, r.unconfirmed_since) for r in found] == [
        ("alice", "a1", 7, "192.0.2.1", None),
        ("alice", "a2", None, None, NOW),
        ("bob", "b2", None, None, NOW),
    ]
    with Reader(database) as reader:
        assert reader.unconfirmed_users() == {"bob"}


def test_a_change_log_without_a_row_is_an_error(store: Store) -> None:
    """Somebody has deleted all rows: a change fails at once, and may succeed once a row is there."""
    with store.transaction() as tx:
        tx._database.execute_sql("DELETE FROM changes")
    with pytest.raises(StoreError, match="the table changes has no row") as caught:
        save(store, record())
    assert caught.value.transient
