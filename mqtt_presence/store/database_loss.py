"""Losses of the database: transactions that were committed, and that the database has no longer.

A standby without the last transactions became the primary, or a backup was restored. Then subscribers have
seen versions that the database does not know. So the loss is stored, with a version above all of them, before
a bridge publishes again.
"""

import secrets
from collections import deque
from typing import Any, NamedTuple

import msgspec
import peewee

from mqtt_presence.protocol.times import to_iso
from mqtt_presence.store.change_log import LOG_NAME
from mqtt_presence.store.rows import VERSION_FLOOR

DATABASE_LOSS = "database_loss"
"""The name of the value that has the last loss."""
_REPAIRED = "database_loss_repaired"
_RAISED_TO = "versions_raised_to"
_GAP = 1 << 20
"""More than the versions of one user in any time that a database may lose."""
_PORTION = 5_000
_SAMPLE_MS = 1_000
_SAMPLES = 3_600
# The requests to ask all clients to log in again, and to publish all statuses again.
_REQUESTS = ("must_announce", "republishing")


class DatabaseLoss(msgspec.Struct, frozen=True, rename="camel"):
    """What is known of a loss. Times are epoch milliseconds."""

    noticed_at: int
    after: int | None = None
    """All that was committed until then is still there; None: unknown."""
    until: int | None = None
    """When the last lost transaction was committed, at the earliest; None: unknown."""
    transactions: int | None = None
    """The number of lost transactions of the bridge that noticed; None: unknown."""
    least_version: int = 0
    """Greater than each version that may have been published before."""

    def __str__(self) -> str:
        lost = "an unknown number of" if self.transactions is None else f"{self.transactions:,}"
        after = "" if self.after is None else f" after {to_iso(self.after)}"
        until = "" if self.until is None else f" until {to_iso(self.until)}"
        return (
            f"the database has lost {lost} committed transactions, from the time{after}{until}: a standby "
            "without them has become the primary, or a backup was restored"
        )


class DatabasePlace(NamedTuple):
    """The last change of a user's row in the database."""

    log: str
    """The random name of the log of changes."""
    changes: int
    """The number of the change in this log."""
    at: int
    """Epoch milliseconds."""


class CommitMemory:
    """The numbers of the last transactions that this process has seen committed, seat by seat."""

    def __init__(self) -> None:
        self._seen: dict[int, deque[tuple[int, int]]] = {}

    def saw(self, seat: int, batch: int, now: int) -> None:
        """Record the number of a seat's last committed transaction, and the time, epoch milliseconds."""
        samples = self._seen.setdefault(seat, deque(maxlen=_SAMPLES))
        if len(samples) > 1 and samples[-1][1] - samples[-2][1] < _SAMPLE_MS:
            samples.pop()  # the newest one, and one for each second before
        samples.append((batch, now))

    def lost(self, seat: int, batch: int, now: int) -> DatabaseLoss | None:
        """Return what is lost if the last transaction of a seat has this number; None: none is.

        Args:
            seat: the number of the seat.
            batch: the number that the database has.
            now: epoch milliseconds.

        """
        samples = self._seen.get(seat)
        if not samples or samples[-1][0] <= batch:
            return None
        after = max((at for number, at in samples if number <= batch), default=None)
        return DatabaseLoss(now, after, samples[-1][1], samples[-1][0] - batch)

    def forget(self) -> None:
        """Begin anew: the loss is stored."""
        self._seen.clear()


def read_loss(database: peewee.Database) -> DatabaseLoss | None:
    """Read the last loss, inside a transaction."""
    value = _read(database, DATABASE_LOSS)
    return None if value is None else msgspec.json.decode(value, type=DatabaseLoss)


def is_noted(value: str | None, *, since: int) -> bool:
    """Return whether a stored loss is a new one. A database that is set back may have an older one.

    Args:
        value: as stored; None: there is none.
        since: the last moment before the loss, epoch milliseconds.

    """
    return value is not None and msgspec.json.decode(value, type=DatabaseLoss).noticed_at > since


def note_loss(database: peewee.Database, loss: DatabaseLoss) -> None:
    """Store a loss, and have it repaired by the next bridge, inside a transaction.

    Streams of statuses begin anew, because their places are of entries that are lost.
    """
    rows = database.execute_sql("SELECT MAX(version) FROM user_states").fetchall()
    known = (rows[0][0], _read(database, VERSION_FLOOR), _read(database, _RAISED_TO))
    least = max(int(version or 0) for version in known) + _GAP
    noted = msgspec.structs.replace(loss, least_version=least)
    _write(database, DATABASE_LOSS, msgspec.json.encode(noted).decode())
    _write(database, VERSION_FLOOR, str(least))
    _write(database, LOG_NAME, secrets.token_hex(8))
    for name in _REQUESTS:
        _write(database, name, secrets.token_hex(8))


def raise_versions(database: peewee.Database, after: str) -> str | None:
    """Raise the versions of a portion of users above those that may have been published before a loss.

    Args:
        database: inside a transaction.
        after: the last user of the portion before.

    Returns:
        The last user of this portion; None: no user is left.

    """
    loss = read_loss(database)
    if loss is None or int(_read(database, _RAISED_TO) or 0) >= loss.least_version:
        return None
    mark = database.param
    is_postgresql = isinstance(database, peewee.PostgresqlDatabase)
    rows = database.execute_sql(
        f"SELECT user_id FROM user_states WHERE user_id > {mark} ORDER BY user_id LIMIT {_PORTION}", [after]
    ).fetchall()
    if not rows:
        _write(database, _RAISED_TO, str(loss.least_version))
        return None
    last = str(rows[-1][0])
    if is_postgresql:  # in the order of all locks of users, whatever the collation of the database
        database.execute_sql(
            "SELECT 1 FROM user_states WHERE user_id > %s AND user_id <= %s "
            'ORDER BY user_id COLLATE "C" FOR UPDATE',
            [after, last],
        )
    database.execute_sql(
        f"UPDATE user_states SET version = {mark} "
        f"WHERE user_id > {mark} AND user_id <= {mark} AND version < {mark}",
        [loss.least_version, after, last, loss.least_version],
    )
    return last


def read_place(database: peewee.Database) -> DatabasePlace:
    """Read the place of the database, inside a transaction."""
    ((number, at),) = database.execute_sql("SELECT id, time FROM changes ORDER BY id DESC LIMIT 1").fetchall()
    return DatabasePlace(_read(database, LOG_NAME) or "", number, at)


def is_repaired(database: peewee.Database, loss: DatabaseLoss) -> bool:
    """Return whether the repair of a loss is complete, inside a transaction."""
    return bool(_read(database, _REPAIRED) == str(loss.noticed_at))


def end_repair(database: peewee.Database, loss: DatabaseLoss) -> None:
    """Store that the repair of a loss is complete, inside a transaction."""
    _write(database, _REPAIRED, str(loss.noticed_at))


def _read(database: peewee.Database, name: str) -> Any:
    rows = database.execute_sql(f"SELECT value FROM bridge WHERE name = {database.param}", [name]).fetchall()
    return rows[0][0] if rows else None


def _write(database: peewee.Database, name: str, value: str) -> None:
    database.execute_sql(
        f"INSERT INTO bridge (name, value) VALUES ({database.param}, {database.param}) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [name, value],
    )
