"""The store: the bridge's database, with one transaction at a time."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

import peewee

from mqtt_presence.errors import ConfigError, SeatTakenError, SetBackError, StoreError
from mqtt_presence.rules.model import UserId
from mqtt_presence.store.database import (
    LEASE_MS,
    connect,
    is_postgresql,
    store_errors,
)
from mqtt_presence.store.database_clock import DatabaseClock
from mqtt_presence.store.database_files import DatabaseFiles
from mqtt_presence.store.database_loss import DatabaseLoss, note_loss, raise_versions
from mqtt_presence.store.durability import durability_risks
from mqtt_presence.store.file_seat import FileSeat
from mqtt_presence.store.lease import Lease
from mqtt_presence.store.postgresql import Postgresql
from mqtt_presence.store.record_history import START, Place
from mqtt_presence.store.seat import Candidate, Seat, moment
from mqtt_presence.store.transaction import Transaction
from mqtt_presence.store.upgrades import prepare

log = logging.getLogger(__name__)

_SEAT_RETRY_S = 0.2
_STANDBY_RETRY_S = 0.5
_LOG_EVERY_S = 10.0
# Records that `Store.forget` deletes in one transaction: some tens of milliseconds.
FORGET_PORTION = 1000
_ATTEMPTS = 10
_RETRY_S = 0.2

T = TypeVar("T")


class Store:
    """Connection records and users in a database.

    Args:
        url: see `database.connect`.
        candidate: the process that wants a seat; None: under its default name.

    Raises:
        ConfigError: the URL is wrong, or the database cannot have so many seats.

    """

    def __init__(self, url: str, candidate: Candidate | None = None) -> None:
        candidate = candidate or Candidate()
        self._database = connect(url)
        self._is_postgresql = is_postgresql(self._database)
        self._files: DatabaseFiles | None = None
        self.clock = DatabaseClock()
        """The time of the database server; on SQLite that of this machine."""
        self._seat: Seat = Lease(self._database, candidate, self.clock)
        self._not_before_s = 0.0
        self._has_held = False
        self._is_standby = False
        """Whether this process has found another bridge, so that the database was usable."""
        if isinstance(self._database, peewee.SqliteDatabase):
            if candidate.seats > 1:
                raise ConfigError("seats: more than one seat needs PostgreSQL; SQLite can have a standby")
            file = os.path.realpath(self._database.database)
            self._files, self._seat = DatabaseFiles(self._database, file), FileSeat(file, candidate)

    def open(self) -> None:
        """Connect, and bring the schema up to date.

        Raises:
            StoreError: the database cannot be opened.

        """
        prepare(self._database)

    def wait_for_seat(self, give_up: Callable[[], bool]) -> None:
        """Take a seat as `take_seat` does; while other processes hold all of them, wait as their standby.

        Args:
            give_up: returns whether to stop waiting; called several times a second.

        Raises:
            StoreError: the database cannot be opened, and there was no other bridge before.

        """
        holder, next_log_s = "", 0.0
        while not give_up():
            try:
                if moment() >= self._not_before_s:
                    self.take_seat(give_up)
                    self._warn_of_risks()
                    self._has_held = self._is_standby = True
                    return
                self._wait()
            except SeatTakenError as error:
                if str(error) != holder:
                    log.info("waiting as a standby: %s", error)
                self._is_standby, holder = True, str(error)
                self._wait()
            except StoreError as error:
                if not (self._is_standby and error.transient):
                    raise
                if moment() >= next_log_s:
                    next_log_s = moment() + _LOG_EVERY_S
                    log.warning("waiting as a standby: %s", error)
                self._disconnect()
            time.sleep(_STANDBY_RETRY_S)

    def _warn_of_risks(self) -> None:
        """Log once how the database can lose acknowledged messages."""
        if self._has_held:
            return
        with suppress(StoreError), store_errors("read the settings of the database"):
            self._database.connect(reuse_if_open=True)
            for risk in durability_risks(self._database):
                log.warning("the database can lose acknowledged messages: %s", risk)

    def _wait(self) -> None:
        try:
            with store_errors("wait for a seat"):
                if self._is_postgresql:
                    self.open()
                self._seat.wait()
        except StoreError:
            self._disconnect()

    def stand_back(self) -> None:
        """Let other processes take the seat first, for the time of a lease after it is released."""
        self._not_before_s = moment() + LEASE_MS / 1000

    def take_seat(self, give_up: Callable[[], bool] = lambda: False) -> None:
        """Open the database, and become its one bridge until `close`.

        On PostgreSQL this waits until the previous holder is known to be alive or dead: at most one lease.

        Args:
            give_up: returns whether to stop waiting; called several times a second.

        Raises:
            StoreError: the database cannot be opened.
            SeatTakenError: another process is the bridge.

        """
        if not self._is_postgresql:  # First, so that another bridge's schema stays as it is.
            self._try_to_take_seat()
        self.open()
        is_logged = False
        while not give_up() and not self._try_to_take_seat():
            self._is_standby = True
            if not is_logged:
                log.info("another process was the bridge of this database: waiting until its lease is over")
                is_logged = True
            time.sleep(_SEAT_RETRY_S)

    def _try_to_take_seat(self) -> bool:
        with store_errors("open the database"):
            try:
                return self._seat.take()
            except SetBackError:
                self._seat.note_loss()
                return False

    @property
    def seat(self) -> Seat:
        """The seat of this process."""
        return self._seat

    def remove_seat(self) -> bool:
        """Delete the seat of this process; return False if it has publications left to send.

        Raises:
            StoreError: it is not known to be deleted.
            SeatLostError: another process has the seat.

        """
        with self.transaction() as tx:
            return tx.remove_seat()

    def close(self) -> None:
        """Leave the seat, if this store holds it, and disconnect."""
        if self._is_postgresql:
            with suppress(StoreError), store_errors("leave the seat"):
                self._seat.release()
        self._disconnect()
        if not self._is_postgresql:  # Last, because SQLite writes while it is closed.
            self._seat.release()

    def _disconnect(self) -> None:
        if not self._database.is_closed():
            self._database.close()
        if self._files is not None:
            self._files.note_closed()

    @property
    def locks_rows(self) -> bool:
        """Whether other writers may work beside a transaction; SQLite has one writer at a time."""
        return self._is_postgresql

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Begin a transaction; at the end of the block it is committed and on the disk.

        Raises:
            StoreError: the transaction is undone. If it is `transient`, the same work may succeed later.

        """
        try:
            with store_errors("use the database"):
                if self._files is not None:
                    self._files.recover()
                self._database.connect(reuse_if_open=True)
                with self._database.atomic():
                    self._seat.begin()
                    if self._files is not None:
                        self._files.note_opened()
                    transaction = Transaction(self._database, is_postgresql=self._is_postgresql)
                    transaction.now = self.clock.now
                    transaction.seat, transaction.attempt = self._seat.number, self._seat.attempt
                    yield transaction
                    transaction.finish()
                self._require_safe()
                self._seat.committed()
                if self._files is not None:
                    self._files.require_in_place()
        except Exception as error:
            is_conflict = isinstance(error, StoreError) and error.conflict
            if self._is_postgresql and not is_conflict:
                self._disconnect()  # A lost connection would fail every later query.
            if isinstance(error, SetBackError):
                self._note_loss()
            raise

    def write_back(self) -> None:
        """Copy committed pages from SQLite's write-ahead log to the file, as far as readers permit.

        For chores, after each portion but the last: otherwise the commit that fills the log copies thousands
        of pages at once, and messages wait for it.
        """
        if not self._is_postgresql:
            with store_errors("write to the database"):
                self._database.execute_sql("PRAGMA wal_checkpoint(PASSIVE)")

    def _note_loss(self) -> None:
        with store_errors("use the database"):
            self._database.connect(reuse_if_open=True)
            self._seat.note_loss()

    def _require_safe(self) -> None:
        if isinstance(self._database, Postgresql) and self._database.has_unsafe_commit:
            raise StoreError(
                "the database has ended the wait for its synchronous standby: the transaction may be lost, "
                "and counts as uncommitted until a later one is confirmed"
            )

    def note_loss(self, loss: DatabaseLoss) -> None:
        """Store a loss of committed transactions, and have the next bridge repair it."""
        with self.transaction():
            note_loss(self._database, loss)

    def raise_versions(self) -> None:
        """After a loss, raise the versions of all users, in portions; to be done before a bridge publishes.

        Raises:
            StoreError: the versions are not raised, or only those of some users.

        """
        after: str | None = ""
        while after is not None:
            with self.transaction():
                after = raise_versions(self._database, after)

    def was_committed(self, tx: Transaction, attempt: int, number: int) -> bool:
        """Return whether an earlier transaction of this process was committed although its commit failed.

        Args:
            tx: a later transaction; the answer is safe once it is committed.
            attempt: `Transaction.attempt` of the earlier one.
            number: its entry in the outbox.

        """
        known = self._seat.was_committed(attempt)
        return tx.has_outbox(number) if known is None else known

    def forget(self, user_id: UserId, pause: Callable[[float], None] = time.sleep) -> int | None:
        """Delete a user and all records, and record that the retained status must be cleared.

        The ended connections are deleted in portions. After each, the database is free for as long as the
        portion took, so that a bridge can commit. The last transaction deletes the rest and the user: until
        then the user is known, and has lost only history. If the process is killed, `forget` can be repeated.

        Args:
            user_id: the user.
            pause: waits for so many seconds.

        Returns:
            The number of records; None if the user is unknown.

        Raises:
            StoreError: the user is not forgotten; a part of the ended connections may be deleted.

        """
        deleted, after = 0, ("", "")
        while True:
            began = time.monotonic()
            names = self._retry(partial(_delete_ended, user_id=user_id, after=after), pause)
            deleted += len(names)
            if len(names) < FORGET_PORTION:
                break
            self.write_back()
            after = names[-1]
            pause(time.monotonic() - began)
        place: Place | None = START
        while place is not None:
            began = time.monotonic()
            work = partial(_delete_history, user_id=user_id, after=place)
            place, count = self._retry(work, pause)
            deleted += count
            if place is not None:
                self.write_back()
                pause(time.monotonic() - began)
        rest = self._retry(lambda tx: tx.forget(user_id, has_history=False), pause)
        return deleted + (rest or 0) if deleted or rest is not None else None

    def _retry(self, work: Callable[[Transaction], T], pause: Callable[[float], None]) -> T:
        """Do work in a transaction, again if a bridge held the database."""
        for _ in range(_ATTEMPTS - 1):
            try:
                with self.transaction() as tx:
                    return work(tx)
            except StoreError as error:
                if not error.transient:
                    raise
                pause(_RETRY_S)
        with self.transaction() as tx:
            return work(tx)


def _delete_ended(tx: Transaction, user_id: UserId, after: tuple[str, str]) -> list[tuple[str, str]]:
    return tx.delete_ended_of(user_id, after, FORGET_PORTION)


def _delete_history(tx: Transaction, user_id: UserId, after: Place) -> tuple[Place | None, int]:
    return tx.delete_history_of(user_id, after, FORGET_PORTION)
