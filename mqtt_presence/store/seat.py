"""The seat: one process at a time is the bridge of a database.

On SQLite the holder has a lock on a file beside the database; the kernel releases it when the process ends.
On PostgreSQL the holder has a lease in the row of the seat. Each transaction of the bridge begins by renewing
it, and fails when another process has raised the `epoch`.
"""

import fcntl
import os
import socket
import time
from contextlib import suppress
from typing import Protocol

import msgspec
import peewee

from mqtt_presence.errors import ReplacedError, SeatLostError, SeatTakenError, StoreError
from mqtt_presence.protocol.times import to_iso
from mqtt_presence.store.database import LEASE_MS, sqlstate
from mqtt_presence.store.database_files import identity_of

_RENEW_AFTER_S = 2.0
_CHECK_AGAIN_S = 1.0  # for a deleted lock file, and for a frozen process that keeps the row locked
_LOCK_NOT_AVAILABLE = "55P03"
_SET_BACK = (
    "the database has lost what was committed: it was restored from a backup, or a standby without the last "
    "transactions has become the primary; start the bridge again, then run verify --repair"
)
# The server's clock, because the clocks of two machines differ.
_NOW = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint"


class Holder(msgspec.Struct):
    """The process that holds the seat."""

    holder: str
    since: int
    """Epoch milliseconds."""

    def __str__(self) -> str:
        return f"{self.holder}, since {to_iso(self.since)}"


class Seat(Protocol):
    """The seat in one kind of database."""

    def take(self) -> bool:
        """Try to take the seat; return False while it is not known whether its holder is alive.

        Raises:
            SeatTakenError: its holder is alive.

        """

    @property
    def is_due(self) -> bool:
        """Whether a transaction is needed to keep the seat."""

    def begin(self) -> None:
        """Check, inside a transaction, that the seat is still held.

        Raises:
            SeatLostError: another process has taken the seat.
            ReplacedError: the database is back in an earlier state.

        """

    def committed(self) -> None:
        """Record that the transaction is committed."""

    def release(self) -> None:
        """Release the seat."""


def ourselves() -> Holder:
    """Return the description of this process."""
    return Holder(f"process {os.getpid()} on {socket.gethostname()}", time.time_ns() // 1_000_000)


class Lease:
    """The seat in PostgreSQL: a row, which survives a pooler and a failover.

    Args:
        database: the database, connected before each call.

    """

    def __init__(self, database: peewee.Database) -> None:
        self._database = database
        self._epoch: int | None = None
        self._seen: tuple[int, int] | None = None
        self._renewed_s = 0.0
        self._batch = 0
        """The number of this transaction."""
        self._committed = 0
        """The number of the last committed transaction; a lower number means that the database lost it."""

    def take(self) -> bool:
        """See `Seat`. A holder that renews its lease is alive; the lease of a dead one runs out."""
        if self._epoch is not None:
            return True
        try:
            taken, row = self._try()
        except peewee.OperationalError as error:
            if sqlstate(error) != _LOCK_NOT_AVAILABLE:
                raise
            self._end_frozen()
            return False
        if taken is not None:
            self._epoch, self._renewed_s = taken[0], _moment()
            return True
        holder, since, *seen = row
        if holder is not None and self._seen is not None and self._seen != tuple(seen):
            raise SeatTakenError(f"another process is the bridge of this database: {Holder(holder, since)}")
        self._seen = seen[0], seen[1]
        return False

    def _try(self) -> tuple[tuple[int] | None, tuple[str, int, int, int]]:
        with self._database.atomic():
            self._database.execute_sql(f"SET LOCAL lock_timeout = {_CHECK_AGAIN_S * 1000:.0f}")
            taken = self._database.execute_sql(
                f"UPDATE seats SET holder = %s, since = {_NOW}, epoch = epoch + 1, "
                f"expires_at = {_NOW} + {LEASE_MS} "
                f"WHERE id = 0 AND (expires_at IS NULL OR expires_at < {_NOW}) RETURNING epoch",
                [ourselves().holder],
            ).fetchone()
            return taken, self._row()

    def _end_frozen(self) -> None:
        """End transactions that have kept the row locked for longer than a lease.

        The server ends idle transactions, but not one whose process froze while sending many statements.
        """
        with self._database.atomic():
            self._database.execute_sql(
                "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
                "WHERE l.relation = 'seats'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted "
                "AND l.pid <> pg_backend_pid() "
                f"AND a.xact_start < clock_timestamp() - INTERVAL '{LEASE_MS} milliseconds'"
            )

    @property
    def is_due(self) -> bool:
        """See `Seat`."""
        return self._epoch is not None and _moment() - self._renewed_s > _RENEW_AFTER_S

    def begin(self) -> None:
        """See `Seat`."""
        if self._epoch is None:
            return
        renewed = self._database.execute_sql(
            f"UPDATE seats SET batch = batch + 1, expires_at = {_NOW} + {LEASE_MS} "
            "WHERE id = 0 AND epoch = %s RETURNING batch",
            [self._epoch],
        ).fetchone()
        if renewed is None:
            holder, since, epoch, _ = self._row()
            if epoch < self._epoch:
                raise ReplacedError(_SET_BACK)
            now = "another process" if holder is None else str(Holder(holder, since))
            raise SeatLostError(
                "this process has lost its place as the bridge of this database, because it did nothing for "
                f"{LEASE_MS / 1000:g} s or more; the bridge is now {now}"
            )
        self._batch, self._renewed_s = renewed[0], _moment()
        if self._batch <= self._committed:
            raise ReplacedError(_SET_BACK)

    def committed(self) -> None:
        """See `Seat`."""
        self._committed = self._batch

    def release(self) -> None:
        """See `Seat`."""
        epoch, self._epoch = self._epoch, None
        if epoch is not None:
            self._database.execute_sql(
                "UPDATE seats SET holder = NULL, since = NULL, expires_at = NULL WHERE id = 0 AND epoch = %s",
                [epoch],
            )

    def _row(self) -> tuple[str, int, int, int]:
        read = "SELECT holder, since, epoch, batch FROM seats WHERE id = 0"
        row = self._database.execute_sql(read).fetchone()
        if row is None:
            raise StoreError("the table seats has no row 0: it was deleted")
        return row  # type: ignore[no-any-return]


class FileSeat:
    """The seat of an SQLite database.

    Args:
        file: the database; the lock is on `<file>-lock`.

    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._lock_file = f"{file}-lock"
        self._checked_s = 0.0
        self._lock: int | None = None

    def take(self) -> bool:
        """See `Seat`."""
        while self._lock is None:
            lock = os.open(self._lock_file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held_by = _read_holder(lock)
                os.close(lock)
                raise SeatTakenError(f"another process is the bridge of {self._file}: {held_by}") from None
            if identity_of(self._lock_file) != identity_of(lock):
                os.close(lock)  # The file was deleted in between: a lock on it excludes no other process.
                continue
            with suppress(OSError):  # On a full disk the lock holds without the name.
                os.ftruncate(lock, 0)
                os.pwrite(lock, msgspec.json.encode(ourselves()), 0)
            self._lock = lock
        return True

    @property
    def is_due(self) -> bool:
        """See `Seat`: the kernel keeps the lock."""
        return False

    def committed(self) -> None:
        """See `Seat`."""

    def begin(self) -> None:
        """See `Seat`."""
        if self._lock is None or time.monotonic() - self._checked_s < _CHECK_AGAIN_S:
            return
        self._checked_s = time.monotonic()
        if identity_of(self._lock_file) != identity_of(self._lock):
            self._lock_again()

    def release(self) -> None:
        """See `Seat`."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _lock_again(self) -> None:
        """Lock the new file: a lock on a deleted file excludes no other process."""
        before, self._lock = self._lock, None
        try:
            self.take()
        except SeatTakenError as error:
            raise SeatLostError(f"{self._lock_file} was deleted, and {error}") from error
        finally:
            if before is not None:
                os.close(before)


def _read_holder(lock: int) -> str:
    try:
        return str(msgspec.json.decode(os.pread(lock, 4096, 0), type=Holder))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "a process that has not written its name yet"


def _moment() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # This clock continues while the machine sleeps.
