"""The load of databases: the bridge on SQLite, on PostgreSQL, behind a pooler, and several that share."""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

import psycopg

from benchmarks import load
from benchmarks.rig import BRIDGE, Rig, Subject
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import Postgres, query

SQLITE, POSTGRESQL, POOLED = "SQLite", "PostgreSQL", "PostgreSQL, pgbouncer"
SHARING = {"PostgreSQL, 2 bridges": 2, "PostgreSQL, 4 bridges": 4}
SUBJECTS = (SQLITE, POSTGRESQL, POOLED, *SHARING)
USERS = 10_000
ROUNDS = 3  # of heartbeats
_USERS = 'SELECT u.user_id FROM user_states u ORDER BY u.user_id COLLATE "C"'


def databases(name: str) -> dict[str, float]:
    """Logins of newcomers, logins that supersede them, and heartbeats, each of another user, that wait."""
    bridges = SHARING.get(name, 1)
    with Rig() as rig, ExitStack() as server:  # on the broker's core
        postgres = None
        if name != SQLITE:
            postgres = server.enter_context(Postgres(shared_preload_libraries="pg_stat_statements"))
            rig.database = direct = postgres.database()
            postgres.execute("CREATE EXTENSION pg_stat_statements")
            if name == POOLED:
                rig.database = server.enter_context(PgBouncer(postgres.port)).url(direct)
        options = ("--seats", str(bridges)) if bridges > 1 else ()
        with rig.subject(BRIDGE, *options, processes=bridges) as subject:
            if postgres is None:
                return _measure(subject, None)
            _await_seats(direct, bridges)
            figures = _measure(subject, lambda: _locking_s(postgres))
            return figures | {"a lock in order, µs": _lock_us(direct)}


def _measure(subject: Subject, locking_s: Callable[[], float] | None) -> dict[str, float]:
    at = time.time_ns() // 1_000_000
    beats = [
        (f"presence/user{u}/client0/activity", b'{"connectionId":"%d-0-%d"}' % (u, at + 1))
        for u in range(USERS)
    ]
    figures = {}
    for what, messages in (
        ("newcomers", load.logins(USERS, 1, at)),
        ("superseding logins", load.logins(USERS, 1, at + 1)),
        ("", beats),  # The first one of each connection changes a record.
        ("heartbeats", beats * ROUNDS),
    ):
        before_s = locking_s() if locking_s else 0.0
        took_s, cpu_s = subject.work_off(load.split(messages, 4))
        if what:
            figures[f"{what}/s"] = len(messages) / took_s
            figures[f"{what}: CPU µs"] = cpu_s / len(messages) * 1e6
            if locking_s:
                figures[f"{what}: locking µs"] = (locking_s() - before_s) / len(messages) * 1e6
    return figures


def _lock_us(url: str) -> float:
    """Return the time for the lock of a user's row among all, in the order of names, without the reading."""

    def read(clause: str) -> float:
        with psycopg.connect(url) as connection:
            began = time.perf_counter()
            connection.execute(_USERS + clause).fetchall()
            return time.perf_counter() - began

    differences = [read(" FOR UPDATE OF u") - read("") for _ in range(11)]
    return statistics.median(differences) / USERS * 1e6


def _locking_s(postgres: Postgres) -> float:
    """Return the time that statements with locks have taken, with what they read and their waits."""
    total = (
        "SELECT SUM(total_exec_time) FROM pg_stat_statements WHERE query LIKE '%FOR UPDATE%' "
        "OR query LIKE '%INTO user_states%ORDER BY%'"  # locks users, new ones too
    )
    return float(postgres.execute(total)[0][0] or 0) / 1000


def _await_seats(url: str, count: int) -> None:
    deadline = time.monotonic() + 30
    while query(url, "SELECT COUNT(*) AS n FROM seats WHERE subscribed")[0]["n"] < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not all of {count} seats are held")
        time.sleep(0.1)
