"""The seat of an SQLite database: a lock on a file beside it.

The kernel releases the lock when the process ends. A process that is frozen keeps it. So a waiting process
asks for signs of life: while another one waits, the holder touches its lock file. If the holder does not for
a lease, the waiting process replaces the file, inside a write transaction. Each transaction of a holder
begins with a look whether the lock file is still its own.
"""

import fcntl
import os
import sqlite3
import time
from contextlib import closing, suppress

import msgspec

from mqtt_presence.errors import SeatLostError, SeatTakenError
from mqtt_presence.store.database import LEASE_MS
from mqtt_presence.store.database_files import identity_of
from mqtt_presence.store.seat import RENEW_AFTER_S, Candidate, Holder, moment

_BUSY_S = 0.2
_LOOK_S = 0.01


class FileSeat:
    """The seat.

    Args:
        file: the database. The holder has a lock on `<file>-lock`, waiting processes share one on
            `<file>-standby`.
        candidate: this process.

    """

    number = attempt = 0
    seats = 1
    is_leaving = is_needed_elsewhere = False
    heard_until: int | None = None
    subscribed: bool | None = None

    def __init__(self, file: str, candidate: Candidate) -> None:
        self._file = file
        self._lock_file = f"{file}-lock"
        self._standby_file = f"{file}-standby"
        self._candidate = candidate
        self._lock: int | None = None
        self._waiting: int | None = None
        """The shared lock of a process that waits."""
        self._asked_s = 0.0
        """When a waiting process was last looked for, or the lock file last touched."""
        self._has_successor = False
        self._sign: tuple[object, float] | None = None
        """The last sign of life of the holder, and when this process first saw it."""

    def take(self) -> bool:
        """See `Seat`."""
        attempts = 2  # `holder_of` may have the lock for an instant
        while self._lock is None:
            lock = os.open(self._lock_file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held_by = _read_holder(lock)
                is_frozen = self._is_frozen(lock)
                os.close(lock)
                if is_frozen and self._replace():
                    continue
                if attempts := attempts - 1:
                    time.sleep(_LOOK_S)
                    continue
                raise SeatTakenError(f"another process is the bridge of {self._file}: {held_by}") from None
            if identity_of(self._lock_file) != identity_of(lock):
                os.close(lock)  # The file was deleted in between: a lock on it excludes no other process.
                continue
            self._hold(lock)
        return True

    def _hold(self, lock: int) -> None:
        with suppress(OSError):  # On a full disk the lock holds without the name.
            os.ftruncate(lock, 0)
            os.pwrite(lock, msgspec.json.encode(self._candidate.as_holder()), 0)
        self._lock, self._asked_s = lock, moment()
        self._stop_waiting()

    def wait(self) -> None:
        """See `Seat`."""
        if self._waiting is None:
            self._waiting = os.open(self._standby_file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._waiting, fcntl.LOCK_SH)  # The holder has it for an instant at the most.

    def _stop_waiting(self) -> None:
        self._sign = None
        if self._waiting is not None:
            os.close(self._waiting)
            self._waiting = None

    def _is_frozen(self, lock: int) -> bool:
        """Return whether the holder shows no sign of life for a lease, although this process waits."""
        sign = identity_of(lock), os.fstat(lock).st_mtime_ns
        if self._waiting is None or self._sign is None or self._sign[0] != sign:
            self._sign = None if self._waiting is None else (sign, moment())
            return False
        return moment() - self._sign[1] > LEASE_MS / 1000

    def _replace(self) -> bool:
        """Replace the lock file of a frozen holder; return False while its transaction is under way."""
        with closing(sqlite3.connect(self._file, timeout=_BUSY_S, isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")  # The holder looks at the lock file inside a transaction.
            except sqlite3.OperationalError:
                return False
            with suppress(FileNotFoundError):
                os.unlink(self._lock_file)  # noqa: PTH108 - all of this file works on descriptors and names
            database.execute("ROLLBACK")
        return True

    @property
    def is_due(self) -> bool:
        """See `Seat`: a waiting process must see signs of life, and a thawed one may have lost the seat."""
        if self._lock is None or moment() - self._asked_s < RENEW_AFTER_S:
            return False
        was_frozen = moment() - self._asked_s > LEASE_MS / 2000
        self._asked_s = moment()
        self._has_successor = self._is_awaited()
        return was_frozen or self._has_successor

    @property
    def is_overdue(self) -> bool:
        """See `Seat`: without the database this process still has the lock."""
        return False

    @property
    def has_successor(self) -> bool:
        """See `Seat`."""
        return self._has_successor

    def _is_awaited(self) -> bool:
        try:
            standby = os.open(self._standby_file, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(standby, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(standby)
        return False

    def begin(self) -> None:
        """See `Seat`."""
        if self._lock is None:
            return
        if identity_of(self._lock_file) != identity_of(self._lock):
            self._lock_again()
        elif self._has_successor:
            with suppress(OSError):
                os.utime(self._lock)

    def committed(self) -> None:
        """See `Seat`."""

    def was_committed(self, attempt: int) -> bool | None:
        """See `Seat`: the database does not count transactions."""
        del attempt
        return None

    def note_loss(self) -> None:
        """See `Seat`: the database does not count transactions."""

    def release(self) -> None:
        """See `Seat`."""
        self._stop_waiting()
        self._has_successor = False
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _lock_again(self) -> None:
        """Lock the new file: a lock on a deleted file excludes no other process."""
        before, self._lock = self._lock, None
        try:
            self.take()
        except SeatTakenError as error:
            raise SeatLostError(f"{self._lock_file} was replaced, and {error}") from error
        finally:
            if before is not None:
                os.close(before)


def holder_of(file: str) -> Holder | None:
    """Return the process that holds the seat of an SQLite database; None: no process does."""
    try:
        lock = os.open(f"{file}-lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _decode(lock) or Holder("a process that has not written its name yet", 0)
    finally:
        os.close(lock)
    return None


def _decode(lock: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(lock, 4096, 0), type=Holder)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _read_holder(lock: int) -> str:
    holder = _decode(lock)
    return "a process that has not written its name yet" if holder is None else str(holder)
