"""The rows of the seats of PostgreSQL. Their number follows the setting of the process that takes seat 0.

A seat beyond the number is marked as leaving: its holder reads the messages that are left, and then deletes
the row. The mark is never taken back, because the holder may be about to end the session. If the number is
raised meanwhile, the seat is added again after that, with another client id.
"""

import secrets
from collections.abc import Sequence
from typing import NamedTuple

import peewee

NOW = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint"
"""The server's clock, because the clocks of two machines differ; epoch milliseconds."""
FREE = f"(expires_at IS NULL OR expires_at < {NOW})"
"""The condition of a seat without a holder."""
_REMOVED = "removed_seat"
_KEPT = ("refused", _REMOVED)
"""Values of a removed seat that stay: the total of refused messages, and the numbers below."""


class ListedSeat(NamedTuple):
    """A seat in its row."""

    number: int
    is_leaving: bool
    is_vacant: bool


def read_rows(database: peewee.Database) -> list[ListedSeat]:
    """Read all seats, by number."""
    rows = database.execute_sql(
        f"SELECT id, COALESCE(leaving, FALSE), {FREE} FROM seats ORDER BY id"
    ).fetchall()
    return [ListedSeat(*row) for row in rows]


def adjust(database: peewee.Database, rows: Sequence[ListedSeat], wanted: int) -> list[ListedSeat]:
    """Add the seats that are missing, and mark those beyond the wanted number; return all seats.

    A seat whose holder is in a transaction is marked later: it may be frozen there.

    Args:
        database: in a transaction that has seat 0 locked.
        rows: all seats.
        wanted: the number of seats.

    """
    known = {row.number for row in rows}
    missing = [number for number in range(wanted) if number not in known]
    for number in missing:
        removed = _removed(database, number) or (-1, -1)
        database.execute_sql(
            "INSERT INTO seats (id, client_id, epoch, batch) VALUES (%s, %s, %s, %s)",
            [number, f"bridge-{secrets.token_urlsafe(24)}", *(last + 1 for last in removed)],
        )
    surplus = any(row.number >= wanted and not row.is_leaving for row in rows)
    if surplus:
        database.execute_sql(
            "UPDATE seats SET leaving = TRUE WHERE id IN (SELECT id FROM seats "
            "WHERE id >= %s AND leaving IS NOT TRUE FOR UPDATE SKIP LOCKED)",
            [wanted],
        )
    return read_rows(database) if missing or surplus else list(rows)


def remove_row(database: peewee.Database, number: int) -> None:
    """Delete a seat and what belongs to it, in a transaction of its holder.

    Its last epoch and batch stay: a process that remembers them must not think that the database is set back.
    """
    ((epoch, batch),) = database.execute_sql(
        "SELECT epoch, batch FROM seats WHERE id = %s", [number]
    ).fetchall()
    end = f"@{number}"
    database.execute_sql(
        "DELETE FROM bridge WHERE RIGHT(name, %s) = %s AND name NOT IN (%s, %s)",
        [len(end), end, *(f"{name}{end}" for name in _KEPT)],
    )
    database.execute_sql(
        "INSERT INTO bridge (name, value) VALUES (%s, %s) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [f"{_REMOVED}{end}", f"{epoch} {batch}"],
    )
    database.execute_sql("DELETE FROM seats WHERE id = %s", [number])


def was_removed(database: peewee.Database, number: int, epoch: int) -> bool:
    """Return whether a seat that this process held in an epoch is removed since."""
    removed = _removed(database, number)
    return removed is not None and removed[0] >= epoch


def _removed(database: peewee.Database, number: int) -> tuple[int, int] | None:
    """Return the last epoch and batch of a removed seat; None: it never was removed."""
    rows = database.execute_sql(
        "SELECT value FROM bridge WHERE name = %s", [f"{_REMOVED}@{number}"]
    ).fetchall()
    if not rows:
        return None
    epoch, batch = rows[0][0].split()
    return int(epoch), int(batch)
