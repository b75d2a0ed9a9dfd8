"""The load of databases: the bridge on SQLite, on PostgreSQL, and on PostgreSQL behind a pooler."""

import statistics
import time
from contextlib import ExitStack

import psycopg

from benchmarks import load
from benchmarks.rig import BRIDGE, Rig, Subject
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import Postgres

SQLITE, POSTGRESQL, POOLED = "SQLite", "PostgreSQL", "PostgreSQL, pgbouncer"
SUBJECTS = (SQLITE, POSTGRESQL, POOLED)
USERS = 10_000
ROUNDS = 3  # of heartbeats
_USERS = 'SELECT u.user_id FROM user_states u ORDER BY u.user_id COLLATE "C"'


def databases(name: str) -> dict[str, float]:
    """Logins of newcomers, logins that supersede them, and heartbeats, each of another user, that wait."""
    at = time.time_ns() // 1_000_000
    with Rig() as rig, ExitStack() as server:  # on the broker's core
        direct = None
        if name != SQLITE:
            postgres = server.enter_context(Postgres())
            direct = rig.database = postgres.database()
            if name == POOLED:
                rig.database = server.enter_context(PgBouncer(postgres.port)).url(direct)
        with rig.subject(BRIDGE) as subject:
            figures = {}
            for what, start in (("logins of newcomers/s", at), ("logins that supersede/s", at + 1)):
                figures[what] = USERS / _work_off(subject, load.logins(USERS, 1, start))
            beats = [
                (f"presence/user{u}/client0/activity", b'{"connectionId":"%d-0-%d"}' % (u, at + 1))
                for u in range(USERS)
            ]
            _work_off(subject, beats)  # The first one of each connection changes a record.
            figures["heartbeats/s"] = ROUNDS * USERS / _work_off(subject, beats * ROUNDS)
            if direct is not None:
                figures["locking µs/user"] = _locking_us(direct)
            return figures


def _work_off(subject: Subject, messages: list[tuple[str, bytes]]) -> float:
    return subject.work_off(load.split(messages, 4))[0]


def _locking_us(url: str) -> float:
    """Return the time for the lock of a user's row among all, in the order of names, without the reading."""

    def read(clause: str) -> float:
        with psycopg.connect(url) as connection:
            began = time.perf_counter()
            connection.execute(_USERS + clause).fetchall()
            return time.perf_counter() - began

    differences = [read(" FOR UPDATE OF u") - read("") for _ in range(11)]
    return statistics.median(differences) / USERS * 1e6
