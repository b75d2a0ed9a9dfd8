"""Filling a database with connection records, for the measurement of growth."""

import sqlite3
from contextlib import closing
from pathlib import Path

from mqtt_presence.rules.model import Connection, LastLogin, Reason, State, Status, UserPresence
from mqtt_presence.store.rows import (
    ACTIVITY_FIELDS,
    RECORD_FIELDS,
    USER_FIELDS,
    from_activity,
    from_connection,
    from_user,
)

MAX_OPEN = 100_000
_HOUR = 3_600_000


def populate(path: Path, records: int, at: int) -> int:
    """Insert records of users with two clients, most of them ended when there are more than `MAX_OPEN`.

    Args:
        path: a database that the store has made.
        records: how many.
        at: the login time of the open ones, epoch milliseconds; the `load` of that time addresses them.

    Returns:
        How many are open.

    """
    opened = min(records, MAX_OPEN)
    users = opened // 2
    with closing(sqlite3.connect(path)) as database:
        _insert(
            database,
            "user_states",
            [f.column_name for f in USER_FIELDS],
            (_user(u, at) for u in range(users)),
        )
        made = [_record(i, opened, users, at) for i in range(records)]
        columns = [f.column_name for f in RECORD_FIELDS]
        _insert(database, "connection_records", columns, map(from_connection, made))
        columns = ["id", *(f.column_name for f in ACTIVITY_FIELDS)]
        _insert(database, "pulses", columns, ((i, *from_activity(c)) for i, c in enumerate(made, 1)))
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return opened


def _insert(database: sqlite3.Connection, table: str, columns: list[str], rows: object) -> None:
    marks = ",".join("?" * len(columns))
    with database:
        database.executemany(f"INSERT INTO {table} ({','.join(columns)}) VALUES ({marks})", rows)  # noqa: S608


def _user(number: int, at: int) -> tuple[object, ...]:
    status = Status(
        state=State.ONLINE,
        since=at,
        connections=2,
        last_login=LastLogin(order=at, date=at, user_agent="benchmark"),
    )
    return from_user(UserPresence(user_id=f"user{number}", version=1, last_seen=at), status)


def _record(number: int, opened: int, users: int, at: int) -> Connection:
    user, client = number % users, number // users % 2
    is_open = number < opened
    time = at if is_open else at - _HOUR - number
    return Connection(
        user_id=f"user{user}",
        client_id=f"client{client}",
        connection_id=f"{user}-{client}-{at}" if is_open else f"old-{number}",
        last_seen=time,
        login_time=time,
        login_order=time,
        opened_at=time,
        user_agent="benchmark",
        heartbeats=True,
        idle=False,
        last_activity=time,
        # Not due for long, and not changed by a sign of life: the check finds out that it is later.
        idle_threshold_ms=2 * _HOUR,
        check_at=at + _HOUR if is_open else None,
        logout_time=None if is_open else time + 1,
        reason=None if is_open else Reason.LOST,
    )
