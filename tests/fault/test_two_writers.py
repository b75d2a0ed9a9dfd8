"""Two who write to one PostgreSQL: they take turns, nothing is lost or double, and neither waits for ever."""

import random
import threading
from typing import Any

import psycopg
import pytest

from mqtt_presence.bridge.batch_recorder import Batch
from mqtt_presence.bridge.clock import SystemClock
from mqtt_presence.bridge.committer import Committer
from mqtt_presence.bridge.config import Limits
from mqtt_presence.bridge.counters import Counters
from mqtt_presence.bridge.limits import Limiter
from mqtt_presence.bridge.message_rates import MessageRates
from mqtt_presence.errors import StoreError
from mqtt_presence.integrations.outputs import Outputs
from mqtt_presence.integrations.presence import PresenceOutput
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.events import Activity, End, Event, Login
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import ClientId, Reason, RuleSettings, UserId
from mqtt_presence.store import Candidate, Store, Transaction
from mqtt_presence.store.alarm_table import StoredAlarm
from mqtt_presence.store.database import store_errors
from tests.support.postgres import Postgres, cursor, query
from tests.support.waiting import until

AT = 1_800_000_000_000


def decider(store: Store) -> Committer:
    clock, topics = SystemClock(), Topics()
    limiter = Limiter(Limits(), MessageRates(Limits(), clock))
    outputs = Outputs([PresenceOutput(topics, private=False)])
    return Committer(
        store, topics, RuleSettings(), limiter, Counters(), clock, outputs, lambda _tx, _last_status: None
    )


def commit(store: Store, events: dict[UserId, list[Event]]) -> None:
    decider(store).commit(Batch(events=events), (), lambda _: None)


def decide(tx: Transaction, event: Event) -> None:
    users = tx.load({event.user_id: [event]})
    tx.save([fold(users[event.user_id], [event], RuleSettings())])


def login(user: str, client: str, now: int = AT) -> Login:
    return Login(user_id=UserId(user), client_id=ClientId(client), connection_id=f"{user}-{client}", now=now)


def is_waiting(database: str) -> bool:
    return bool(query(database, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))


def assert_consistent(database: str) -> None:
    """Each user has the connections of the records, and each open record has its user."""
    wrong = query(
        database,
        "SELECT r.user_id, r.n, u.connections FROM (SELECT user_id, COUNT(*) AS n FROM connections "
        "WHERE logout_time IS NULL GROUP BY user_id) r FULL JOIN users u ON u.user_id = r.user_id "
        "WHERE COALESCE(r.n, 0) <> COALESCE(u.connections, -1)",
    )
    assert wrong == []


@pytest.mark.parametrize("first", ["login", "unseen will", "forgotten again"])
def test_two_who_decide_on_one_newcomer_decide_one_after_the_other(postgres: Postgres, first: str) -> None:
    """There is no row yet that could be locked: the second sees what the first has made of it, if anything."""
    database = postgres.database()
    here, there = Store(database), Store(database)
    here.open()
    alice = UserId("alice")
    end = End(user_id=alice, client_id=ClientId("tv"), connection_id="c", now=AT, reason=Reason.LOST)
    other = threading.Thread(target=commit, args=(there, {alice: [login("alice", "web", AT + 1)]}))
    with here.transaction() as tx:
        decide(tx, end if first == "unseen will" else login("alice", "phone"))
        if first == "forgotten again":
            tx.forget(alice)
        other.start()
        until(lambda: is_waiting(database), "the second waits for the first")
    other.join(20)
    connections = 2 if first == "login" else 1
    users = query(database, "SELECT user_id, connections, version FROM users")
    assert [(u["user_id"], u["connections"]) for u in users] == [("alice", connections)]
    assert users[0]["version"] >= connections
    assert_consistent(database)
    here.close()
    there.close()


@pytest.mark.parametrize(
    ("seats", "sent", "received", "newest"),
    [
        pytest.param(1, (250, 300), (100, 0), "c1", id="a clock ahead, one bridge: the last to come"),
        pytest.param(2, (250, 300), (100, 0), "c2", id="a clock ahead, two bridges"),
        pytest.param(2, (-6_000, -10), (-5_000, 0), "c2", id="the first has waited in a frozen bridge"),
    ],
)
def test_the_clients_clock_decides_between_two_bridges(
    postgres: Postgres, seats: int, sent: tuple[int, int], received: tuple[int, int], newest: str
) -> None:
    """Of two logins of one client, the first is processed last."""
    store = Store(postgres.database(), Candidate("here", seats))
    store.take_seat()
    now = store.clock.now()
    who = {"user_id": UserId("alice"), "client_id": ClientId("phone")}
    first, second = (
        Login(**who, connection_id=f"c{n + 1}", time=now + sent[n], now=now + received[n]) for n in (0, 1)
    )
    alice = UserId("alice")
    for event in (second, first):
        commit(store, {alice: [event]})
    with store.transaction() as tx:
        connections = tx.load({alice: []})[alice].connections
    assert [c.connection_id for c in connections.values() if c.is_open] == [newest]
    store.close()


@pytest.mark.parametrize("connection", ["alice-phone", None])
def test_heartbeats_do_not_wait_for_a_user_who_is_being_changed(
    postgres: Postgres, connection: str | None
) -> None:
    """They hold locks of connections without those of the users: if they waited, a writer could wait for them."""
    database = postgres.database()
    here, there = Store(database), Store(database)
    here.open()
    alice, bob = UserId("alice"), UserId("bob")
    commit(here, {alice: [login("alice", "phone")], bob: [login("bob", "phone")]})

    def heartbeats(now: int) -> dict[UserId, list[Event]]:
        phone = {"client_id": ClientId("phone"), "now": now}
        return {
            alice: [Activity(user_id=alice, connection_id=connection, **phone)],
            bob: [Activity(user_id=bob, connection_id="bob-phone", **phone)],
        }

    commit(here, heartbeats(AT + 1))
    beats = heartbeats(AT + 50)
    other = threading.Thread(target=commit, args=(there, beats))

    def last_seen() -> dict[str, int]:
        rows = query(
            database,
            "SELECT r.user_id, MAX(p.last_seen) AS seen FROM connection_records r "
            "JOIN pulses p ON p.id = r.id GROUP BY r.user_id",
        )
        return {row["user_id"]: row["seen"] for row in rows}

    with here.transaction() as tx:
        tx.load({alice: []})
        other.start()
        until(lambda: last_seen()["bob"] == AT + 50, "bob's heartbeat is committed")
        assert last_seen()["alice"] == AT + 1
    other.join(20)
    assert last_seen() == {"alice": AT + 50, "bob": AT + 50}
    here.close()
    there.close()


def test_an_alarm_that_is_over_is_not_raised_by_another_bridge(postgres: Postgres) -> None:
    """One bridge finds the alarm due; meanwhile the other one processes the message that ends it."""
    database = postgres.database()
    here, there = Store(database), Store(database)
    here.open()
    key = ("offline", "alice")
    with here.transaction() as tx:
        tx.save_alarms({key: StoredAlarm(*key, since=1, due_at=10, raised=False, times=())})
    found: list[bool] = []

    def end() -> None:
        with there.transaction() as tx:
            found.extend(alarm.raised for alarm in tx.alarms([key]).values())
            tx.save_alarms({key: None})

    other = threading.Thread(target=end)
    with here.transaction() as tx:
        (due,) = tx.due_alarms(20, 10)
        other.start()
        until(lambda: is_waiting(database), "the other waits")
        tx.save_alarms({key: due._replace(raised=True, due_at=None)})
    other.join(20)
    with here.transaction() as tx:
        assert (found, tx.alarms([key])) == ([True], {})
    here.close()
    there.close()


def test_who_does_not_become_a_user_leaves_no_row(postgres: Postgres) -> None:
    """A row that was made only to be locked is gone with the transaction."""
    database = postgres.database()
    store = Store(database)
    store.open()
    ghost = UserId("ghost")
    commit(
        store,
        {
            ghost: [
                End(user_id=ghost, client_id=ClientId("tv"), connection_id="c", now=AT, reason=Reason.LOST)
            ]
        },
    )
    assert query(database, "SELECT * FROM user_states") == []
    assert len(query(database, "SELECT * FROM connections")) == 1
    store.close()


class Crowd:
    """Users with several clients, of whom anything may come, in any order."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._now = AT

    def batch(self) -> dict[UserId, list[Event]]:
        """Make a batch of messages about many users: heartbeats of some, more of others."""
        events: dict[UserId, list[Event]] = {}
        for number in self._random.sample(range(40), 25):
            user, client = UserId(f"user-{number}"), ClientId(self._random.choice(("phone", "tv", "web")))
            events[user] = [self._one(user, client)]
        return events

    def _one(self, user: UserId, client: ClientId) -> Event:
        self._now += 1
        name: Any = {"user_id": user, "client_id": client, "now": self._now}
        match self._random.randrange(10):
            case 0 | 1:
                return Login(**name, connection_id=f"id-{self._random.getrandbits(60)}", fresh_id="fresh")
            case 2:
                return End(**name, connection_id=None, reason=Reason.LOST)
            case 3:
                return Activity(**name, connection_id=None, idle=True, fresh_id=str(self._now))
            case _:
                return Activity(**name, connection_id=None, fresh_id=f"beat-{self._random.getrandbits(60)}")


def test_writers_with_mixed_batches_never_lock_each_other_out(postgres: Postgres) -> None:
    """Two with batches about the same users, and one that moves and deletes connections: no deadlock at all."""
    database = postgres.database()
    opened = Store(database)
    opened.open()
    failed: list[BaseException] = []
    done = threading.Event()

    def decide_on_batches(seed: int) -> None:
        store, crowd = Store(database), Crowd(seed)
        try:
            for _ in range(80):
                commit(store, crowd.batch())
        except StoreError as error:
            failed.append(error)
        finally:
            store.close()

    def tidy() -> None:
        store = Store(database)
        try:
            while not done.is_set():
                with store.transaction() as tx:
                    tx.shift_last_seen(None, 1, AT + 10_000, 1000)
                with store.transaction() as tx:
                    tx.delete_ended(AT + 10_000, 5)
        except StoreError as error:
            failed.append(error)
        finally:
            store.close()

    writers = [threading.Thread(target=decide_on_batches, args=(seed,)) for seed in (1, 2)]
    tidying = threading.Thread(target=tidy)
    for thread in (*writers, tidying):
        thread.start()
    for thread in writers:
        thread.join(120)
    done.set()
    tidying.join(20)
    assert not failed, failed
    assert_consistent(database)
    opened.close()


def test_a_deadlock_is_tried_again_on_the_same_connection(postgres: Postgres) -> None:
    """Who locks in another order makes the database choose: the one that gives way keeps its connection."""
    database = postgres.database()
    store = Store(database)
    store.open()
    commit(store, {UserId(name): [login(name, "phone")] for name in ("alice", "bob")})
    lock = "SELECT 1 FROM user_states WHERE user_id = '{}' FOR UPDATE"
    held = threading.Event()

    def lock_the_other_way() -> None:
        with psycopg.connect(database) as other:
            other.execute(
                "SET deadlock_timeout = '60s'"
            )  # so the store's transaction is the one that is undone
            other.execute(lock.format("bob"))
            held.set()
            other.execute(lock.format("alice"))

    thread = threading.Thread(target=lock_the_other_way)
    sessions = []

    def lock_alice_then_bob() -> None:
        with store.transaction() as tx:
            tx._database.execute_sql("SET LOCAL deadlock_timeout = '10ms'")
            sessions.append(tx._select("SELECT pg_backend_pid()", []))
            tx.load({UserId("alice"): [login("alice", "tv")]})
            thread.start()
            assert held.wait(20)
            until(lambda: is_waiting(database), "the other waits for us")
            tx.load({UserId("bob"): [login("bob", "tv")]})

    with pytest.raises(StoreError) as caught:
        lock_alice_then_bob()
    thread.join(20)
    assert caught.value.conflict
    assert caught.value.transient
    with store.transaction() as tx:
        assert tx._select("SELECT pg_backend_pid()", []) == sessions[0]
    store.close()


# What is certain to be the message's fault.


@pytest.mark.parametrize(
    ("statement", "is_input"),
    [
        ("SELECT 1 / 0", True),
        ("SELECT 'x'::int", True),
        ("INSERT INTO bridge (name) VALUES ('x')", True),
        ("SELECT * FROM no_such_table", False),
        ("SELECT no_such_column FROM bridge", False),
        ("SELECT 1 FROM", False),
        ("EXECUTE no_such_statement", False),
        ("PREPARE twice AS SELECT 1; PREPARE twice AS SELECT 1", False),
        ("SET LOCAL transaction_read_only = ON; DELETE FROM bridge", False),
        ("SET LOCAL statement_timeout = 1; SELECT pg_sleep(5)", False),
        ("SELECT pg_terminate_backend(pg_backend_pid())", False),
        ("SET LOCAL ROLE pg_monitor; DELETE FROM bridge", False),
    ],
)
def test_only_the_inputs_own_faults_are_refused(postgres: Postgres, statement: str, is_input: bool) -> None:
    """Data and integrity errors come again with the same input; all others may pass."""
    store = Store(postgres.database())
    store.open()
    with pytest.raises(StoreError) as caught, store.transaction() as tx:
        tx._database.execute_sql(statement)
    assert caught.value.transient is not is_input
    store.close()


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_what_python_refuses_is_the_inputs_fault(postgres: Postgres, value: str) -> None:
    store = Store(postgres.database())
    store.open()
    with pytest.raises(StoreError) as caught, store.transaction() as tx:
        tx.write_value("name", value)
    assert not caught.value.transient
    store.close()


@pytest.mark.parametrize(
    ("statement", "parameters", "is_input"),
    [
        ("INSERT INTO bridge (name) VALUES (?)", ["x"], True),
        ("SELECT ?", [2**80], True),
        ("SELECT ?", ["\ud800"], True),
        ("SELECT ?", [], False),
        ("SELECT * FROM no_such_table", [], False),
    ],
)
def test_only_the_inputs_own_faults_are_refused_by_sqlite(
    sqlite_url: str, statement: str, parameters: list[Any], is_input: bool
) -> None:
    store = Store(sqlite_url)
    store.open()
    with pytest.raises(StoreError) as caught, store.transaction() as tx:
        tx._database.execute_sql(statement, parameters)
    assert caught.value.transient is not is_input
    store.close()


def test_a_want_of_memory_is_nobodys_fault() -> None:
    with pytest.raises(StoreError) as caught, store_errors("use the database"):
        raise MemoryError
    assert caught.value.transient


def test_two_processes_migrate_one_after_the_other(postgres: Postgres) -> None:
    """Two that start at once on an empty database: both find it ready."""
    database = postgres.database()
    failed: list[BaseException] = []

    def start() -> None:
        store = Store(database)
        try:
            store.open()
        except StoreError as error:
            failed.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed, failed
    with cursor(database) as cur:
        cur.execute("SELECT COUNT(*), COUNT(DISTINCT name) FROM schema_migration")
        assert cur.fetchone()[0] > 0


def test_a_batch_reads_no_more_rows_than_it_needs_whatever_the_tables_were(postgres: Postgres) -> None:
    """The statements were used first on empty tables, and then on tables that no ANALYZE has seen."""
    database = postgres.database()
    store = Store(database)
    store.open()
    names = [f"user-{number}" for number in range(2000)]
    for name in names[:20]:
        commit(store, {UserId(name): [login(name, "phone")]})
    for start in range(0, 2000, 500):
        commit(store, {UserId(name): [login(name, "tv")] for name in names[start : start + 500]})
    with store.transaction() as tx:
        for name in names[:100]:
            decide(tx, login(name, "web", AT + 1))
        read = tx._select(
            "SELECT SUM(seq_tup_read), SUM(idx_tup_fetch) FROM pg_stat_xact_user_tables WHERE relname IN "
            "('user_states', 'connection_records', 'pulses')",
            [],
        )
    store.close()
    assert read[0][0] == 0
    assert 0 < read[0][1] < 100 * 100  # with dead versions of rows; all rows are 2,000 for each login
