"""Reads the seats of a database and the processes that wait for one."""

import os

import msgspec

from mqtt_presence.store.file_seat import holder_of
from mqtt_presence.store.read_connection import ReadConnection
from mqtt_presence.store.upgrades import STANDBY_MS

_NOW = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint"


class SeatState(msgspec.Struct, frozen=True, rename="camel"):
    """A seat, or a process that waits for one."""

    seat: int | None
    """The number; None: the process waits."""
    node: str | None
    """The process; None: the seat is vacant."""
    release: str | None
    since: int | None
    """Since when the process holds the seat or waits, epoch milliseconds."""
    behind_ms: int | None
    """Age of the last moment up to which the seat's messages are processed; None: unknown."""
    leaving: bool = False
    """Whether the seat is being removed."""


class SeatReader(ReadConnection):
    """Reads seats; see `ReadConnection` for the arguments."""

    def seats(self) -> list[SeatState]:
        """Read the seats by number, then the waiting processes, the oldest first.

        Of SQLite, only the holder is known: the lock file names it.
        """
        if self._is_sqlite:
            holder = holder_of(os.path.realpath(self._database.database))
            if holder is None:
                return [SeatState(0, None, None, None, None)]
            return [SeatState(0, holder.holder, None, holder.since, None)]
        seats = self._select(
            f"SELECT s.id, h.holder, h.release, h.since, GREATEST(0, {_NOW} - s.heard_until), "
            "COALESCE(s.leaving, FALSE) FROM seats s "
            f"LEFT JOIN seats h ON h.id = s.id AND h.expires_at >= {_NOW} ORDER BY s.id",
            [],
        )
        standbys = self._select(
            "SELECT node, release, since FROM standbys "
            f"WHERE seen_at >= {_NOW} - {STANDBY_MS} ORDER BY since, node",
            [],
        )
        return [
            *(SeatState(*row) for row in seats),
            *(SeatState(None, node, release, since, None) for node, release, since in standbys),
        ]
