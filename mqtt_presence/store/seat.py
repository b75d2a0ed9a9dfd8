"""The seat: the place of a bridge at the broker and in the database, held by one process at a time.

A seat has an MQTT client id with its session, an outbox and a journal of packet ids. A process that takes a
seat over goes on with all of them. `lease` has the seats of PostgreSQL, `file_seat` the one of SQLite.
"""

import os
import socket
import time
from typing import Protocol

import msgspec

from mqtt_presence import __version__
from mqtt_presence.protocol.times import to_iso

RENEW_AFTER_S = 2.0
"""A holder renews its seat after this time without a transaction."""


class Holder(msgspec.Struct):
    """The process that holds a seat."""

    holder: str
    since: int
    """Epoch milliseconds."""

    def __str__(self) -> str:
        return f"{self.holder}, since {to_iso(self.since)}"


class Candidate(msgspec.Struct, frozen=True):
    """The process that wants a seat.

    Args:
        node: its name for operators; empty: its process id and its machine.
        seats: the number of seats that the database shall have, if this process takes seat 0.

    """

    node: str = ""
    seats: int = 1

    @property
    def name(self) -> str:
        """The name for operators."""
        return self.node or f"process {os.getpid()} on {socket.gethostname()}"

    @property
    def release(self) -> str:
        """The release of this program."""
        return __version__

    def as_holder(self) -> Holder:
        """Return the description of this process as a holder from now on."""
        return Holder(self.name, time.time_ns() // 1_000_000)


class Seat(Protocol):
    """A seat in one kind of database."""

    number: int
    """The number of the seat, from 0; 0 before `take`."""
    seats: int
    """The number of seats of the database."""
    attempt: int
    """The number of the current transaction in this process."""
    heard_until: int | None
    """Every message that had reached the session by then is processed, epoch milliseconds; None: unknown."""
    subscribed: bool | None
    """Whether the session has subscribed to its part of the messages; None: as stored."""
    is_leaving: bool
    """Whether the seat is being removed, as of some seconds ago."""

    def take(self) -> bool:
        """Try to take a seat; return False while it is not known whether its holder is alive.

        Raises:
            SeatTakenError: the holders of all seats are alive.
            SetBackError: the database is back in an earlier state.

        """

    def wait(self) -> None:
        """Record that this process waits for a seat; called between attempts to take one."""

    @property
    def is_due(self) -> bool:
        """Whether a transaction is needed to keep the seat."""

    @property
    def is_overdue(self) -> bool:
        """Whether another process may have taken the seat, because the last transaction is too long ago."""

    @property
    def has_successor(self) -> bool:
        """Whether another process waited for a seat when this was last asked, some seconds ago."""

    @property
    def is_needed_elsewhere(self) -> bool:
        """Whether this process should leave its seat for one that is being removed, and has no holder."""

    def begin(self) -> None:
        """Check, inside a transaction, that the seat is still held.

        Raises:
            SeatLostError: another process has taken the seat.
            SetBackError: the database is back in an earlier state.

        """

    def committed(self) -> None:
        """Record that the transaction is committed."""

    def was_committed(self, attempt: int) -> bool | None:
        """Return whether an earlier transaction was committed although its commit failed; None: unknown.

        To be asked in a later transaction. The answer is safe once that one is committed: a standby of the
        database has then received both.
        """

    def note_loss(self) -> None:
        """Store the loss of transactions for which `take` or `begin` has raised `SetBackError`."""

    def release(self) -> None:
        """Release the seat, and wait for none any longer."""


def moment() -> float:
    """Return the time of a clock that continues while the machine sleeps, seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
