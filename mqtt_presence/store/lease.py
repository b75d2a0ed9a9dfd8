"""The seats of PostgreSQL: rows, which survive a pooler and a failover.

A holder has a lease in the row of its seat. Each of its transactions begins by renewing it, and fails when
another process has raised the `epoch`. So a seat can be taken from any holder whose lease has run out.
"""

import logging

import peewee

from mqtt_presence.errors import SeatLostError, SeatTakenError, SetBackError, StoreError
from mqtt_presence.store.database import LEASE_MS
from mqtt_presence.store.database_clock import DatabaseClock
from mqtt_presence.store.database_loss import DATABASE_LOSS, CommitMemory, DatabaseLoss, is_noted, note_loss
from mqtt_presence.store.seat import RENEW_AFTER_S, Candidate, Holder, moment
from mqtt_presence.store.seat_rows import FREE, NOW, ListedSeat, adjust, read_rows, was_removed
from mqtt_presence.store.upgrades import STANDBY_MS

log = logging.getLogger(__name__)

_KEPT_MS = 3_600_000
_KEPT_RESULTS = 100
_LOSS = f"(SELECT value FROM bridge WHERE name = '{DATABASE_LOSS}')"


class Lease:
    """A seat.

    Args:
        database: the database, connected before each call.
        candidate: this process.
        clock: learns the server's time.

    """

    def __init__(self, database: peewee.Database, candidate: Candidate, clock: DatabaseClock) -> None:
        self._database = database
        self._candidate = candidate
        self._clock = clock
        self.number = 0
        self.seats = candidate.seats
        self.heard_until: int | None = None
        self.subscribed: bool | None = None
        self.is_leaving = False
        self.attempt = 0
        self._batch = 0
        """The number of the current transaction in the row of the seat."""
        self._results: dict[int, bool] = {}
        """Of the transactions whose commits failed: whether they were committed."""
        self._epoch: int | None = None
        self._since: int | None = None
        """When this process took the seat: a database that has lost this may give its epoch away again."""
        self._loss: str | None = None
        """The last loss of the database that was stored when this process took the seat."""
        self._unnoted: DatabaseLoss | None = None
        self._memory = CommitMemory()
        self._first_looks: dict[int, tuple[int, int]] = {}
        """Epoch and batch of each seat when this process first looked."""
        self._alive: set[int] = set()
        """The seats whose holders have renewed their leases since."""
        self._renewed_s = self._asked_s = self._waited_s = 0.0
        self._has_successor = False
        self._needed_since_s: float | None = None
        """Since when a seat that leaves needs a holder, and this process is the one to take it."""
        self._committed = 0
        """The number of the last committed transaction; a lower number means that the database lost it."""

    # Taking a seat.

    def take(self) -> bool:
        """See `Seat`. A holder that renews its lease is alive; the lease of a dead one runs out."""
        if self._epoch is not None:
            return True
        with self._database.atomic():
            self._decide()
            # A seat that leaves first: silence is not judged before its last message is read.
            taken = self._database.execute_sql(
                f"UPDATE seats SET holder = %s, since = {NOW}, release = %s, epoch = epoch + 1, "
                "found_batch = batch, "
                f"expires_at = {NOW} + {LEASE_MS} WHERE id = ("
                f"SELECT id FROM seats WHERE {FREE} "
                "ORDER BY COALESCE(leaving, FALSE) DESC, id LIMIT 1 FOR UPDATE SKIP LOCKED) "
                "RETURNING id, epoch, batch, (SELECT COUNT(*) FROM seats), since, "
                f"{_LOSS}, COALESCE(leaving, FALSE)",
                [self._candidate.name, self._candidate.release],
            ).fetchone()
            if taken is not None:
                self._database.execute_sql("DELETE FROM standbys WHERE node = %s", [self._candidate.name])
                self._compare(taken[0], taken[2])
        if taken is None:
            return self._look_at_holders()
        self.number, self._epoch, self._batch, self.seats, self._since, self._loss, self.is_leaving = taken
        self.heard_until = self.subscribed = self._needed_since_s = None
        self._committed = self._batch
        self._first_looks, self._alive = {}, set()
        self._renewed_s = self._asked_s = moment()
        return True

    def _decide(self) -> None:
        """Set the number of seats, if seat 0 is free: of different settings, that of its holder counts."""
        is_free = self._database.execute_sql(
            f"SELECT 1 FROM seats WHERE id = 0 AND {FREE} FOR UPDATE SKIP LOCKED"
        ).fetchone()
        rows = read_rows(self._database)
        if is_free or not rows:
            adjust(self._database, rows, self._candidate.seats)

    def _look_at_holders(self) -> bool:
        """Raise `SeatTakenError` once all holders have shown that they are alive; else return False."""
        rows = self._database.execute_sql(
            f"SELECT id, holder, since, epoch, batch, expires_at < {NOW}, {_LOSS} FROM seats ORDER BY id"
        ).fetchall()
        if not rows:
            raise StoreError("the table seats has no row: they were deleted")
        if any(row[5] for row in rows):
            self._end_frozen()
            return False
        for number, _, _, epoch, batch, _, loss in rows:
            self._compare(number, batch)
            self._memory.saw(number, batch, self._clock.now())
            self._loss = loss
            if self._first_looks.setdefault(number, (epoch, batch)) != (epoch, batch):
                self._alive.add(number)
        if self._alive.issuperset(row[0] for row in rows):
            holders = [Holder(row[1] or "a process", row[2] or 0) for row in rows]
            if len(holders) == 1:
                raise SeatTakenError(f"another process is the bridge of this database: {holders[0]}")
            raise SeatTakenError(f"all {len(holders)} seats are held: {'; '.join(map(str, holders))}")
        return False

    def _end_frozen(self) -> None:
        """End transactions that have kept the row of a seat locked for longer than a lease.

        The server ends idle transactions, but not one whose process froze while sending many statements. One
        that waits for a synchronous standby is not ended: then it would be visible, and might still be lost.
        """
        with self._database.atomic():
            self._database.execute_sql(
                "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
                "WHERE l.relation = 'seats'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted "
                "AND l.pid <> pg_backend_pid() AND a.wait_event IS DISTINCT FROM 'SyncRep' "
                f"AND a.xact_start < clock_timestamp() - INTERVAL '{LEASE_MS} milliseconds'"
            )

    def wait(self) -> None:
        """See `Seat`."""
        if moment() - self._waited_s < RENEW_AFTER_S:
            return
        self._waited_s = moment()
        with self._database.atomic():
            self._database.execute_sql(
                f"INSERT INTO standbys (node, release, since, seen_at) VALUES (%s, %s, {NOW}, {NOW}) "
                "ON CONFLICT (node) DO UPDATE SET release = excluded.release, seen_at = excluded.seen_at, "
                f"since = CASE WHEN standbys.seen_at < excluded.seen_at - {STANDBY_MS} "
                "THEN excluded.since ELSE standbys.since END",
                [self._candidate.name, self._candidate.release],
            )
            self._database.execute_sql(f"DELETE FROM standbys WHERE seen_at < {NOW} - {_KEPT_MS}")

    # Holding it.

    @property
    def is_due(self) -> bool:
        """See `Seat`."""
        # The holder of seat 0 judges silence by what all seats have heard, so it should not wait for that.
        after_s = RENEW_AFTER_S if self.seats == 1 else RENEW_AFTER_S / 2
        return self._epoch is not None and moment() - self._renewed_s > after_s

    @property
    def is_overdue(self) -> bool:
        """See `Seat`."""
        return self._epoch is not None and moment() - self._renewed_s > LEASE_MS / 1000

    @property
    def has_successor(self) -> bool:
        """See `Seat`."""
        return self._has_successor

    def begin(self) -> None:
        """See `Seat`."""
        if self._epoch is None:
            return
        began_s = self._clock.monotonic()
        renewed = self._database.execute_sql(
            f"UPDATE seats SET batch = batch + 1, expires_at = {NOW} + {LEASE_MS}, "
            "heard_until = COALESCE(%s, heard_until), subscribed = COALESCE(%s, subscribed) "
            f"WHERE id = %s AND epoch = %s AND since = %s RETURNING batch, {NOW}, {_LOSS}",
            [self.heard_until, self.subscribed, self.number, self._epoch, self._since],
        ).fetchone()
        if renewed is None:
            self._lost()
        if self._batch != self._committed:  # the transaction before was not committed, or its answer is lost
            self._results = {
                **dict(list(self._results.items())[-_KEPT_RESULTS:]),
                self.attempt: renewed[0] > self._batch,
            }
        self.attempt += 1
        self._compare(self.number, renewed[0] - 1)
        self._batch, server_ms, loss = renewed
        self._clock.sample(server_ms, began_s, self._clock.monotonic())
        self._renewed_s = moment()
        if loss != self._loss:
            if loss is None:
                self._compare(self.number, self._batch, is_certain=True)
            raise SetBackError("another process has noticed that the database has lost transactions")
        if self._renewed_s - self._asked_s > RENEW_AFTER_S:
            self._asked_s = self._renewed_s
            self._look()

    def _look(self) -> None:
        """Look at the seats and at the processes that wait, inside a transaction of the holder."""
        rows = read_rows(self._database)
        if self.number == 0:
            rows = adjust(self._database, rows, self._candidate.seats)
        self.seats = len(rows)
        self.is_leaving = any(row.is_leaving for row in rows if row.number == self.number)
        ((self._has_successor,),) = self._database.execute_sql(
            f"SELECT EXISTS (SELECT 1 FROM standbys WHERE seen_at > {NOW} - {STANDBY_MS})"
        ).fetchall()
        if self._has_successor or not self._is_next_to_help(rows):
            self._needed_since_s = None
        elif self._needed_since_s is None:
            self._needed_since_s = self._renewed_s

    def _is_next_to_help(self, rows: list[ListedSeat]) -> bool:
        """Return whether a seat that leaves is vacant, and this process has the last of the other seats."""
        held = [row.number for row in rows if not (row.is_leaving or row.is_vacant)]
        return any(row.is_leaving and row.is_vacant for row in rows) and held[-1:] == [self.number]

    @property
    def is_needed_elsewhere(self) -> bool:
        """See `Seat`."""
        return self._needed_since_s is not None and moment() - self._needed_since_s > LEASE_MS / 1000

    def _lost(self) -> None:
        row = self._database.execute_sql(
            "SELECT holder, since, epoch, batch, found_batch FROM seats WHERE id = %s", [self.number]
        ).fetchone()
        epoch = self._epoch or 0
        if row is None and was_removed(self._database, self.number, epoch):
            raise SeatLostError(f"seat {self.number} is removed, by another process")
        if row is None or row[2] < epoch:
            self._compare(self.number, -1 if row is None else row[3], is_certain=True)
            return
        is_next = row[2] <= epoch + 1  # later holders have found the batches of other processes
        self._compare(self.number, row[4] if is_next and row[4] is not None else row[3])
        now = "another process" if row[0] is None else str(Holder(row[0], row[1]))
        raise SeatLostError(
            "this process has lost its place as the bridge of this database, because it did nothing for "
            f"{LEASE_MS / 1000:g} s or more; the bridge is now {now}"
        )

    def _compare(self, number: int, batch: int, *, is_certain: bool = False) -> None:
        """Compare a seat with the transactions that this process has seen committed.

        Args:
            number: of the seat.
            batch: the number of its last transaction in the database.
            is_certain: the row itself shows that the database is back in an earlier state.

        Raises:
            SetBackError: transactions are lost.

        """
        now = self._clock.now()
        loss = self._memory.lost(number, batch, now) or (DatabaseLoss(now) if is_certain else None)
        if loss is not None:
            self._unnoted = loss
            raise SetBackError(f"{loss}; the last one of seat {number} had a greater number than {batch}")

    def note_loss(self) -> None:
        """See `Seat`."""
        loss = self._unnoted
        if loss is None:
            return
        with self._database.atomic():
            ((noted,),) = self._database.execute_sql(f"SELECT {_LOSS}").fetchall()
            if not is_noted(noted, since=loss.until or self._since or 0):  # else by another process
                note_loss(self._database, loss)
                log.error("%s; its repair begins", loss)
        self._unnoted = None
        self._memory.forget()

    def committed(self) -> None:
        """See `Seat`."""
        self._committed = self._batch
        self._memory.saw(self.number, self._batch, self._clock.now())

    def was_committed(self, attempt: int) -> bool | None:
        """See `Seat`. The number of each transaction in the row exceeds that of the last committed one."""
        return self._results.get(attempt)

    def release(self) -> None:
        """See `Seat`."""
        epoch, self._epoch = self._epoch, None
        self._has_successor = self.is_leaving = False
        self._needed_since_s = None
        if self._database.is_closed():
            return
        if epoch is not None:
            self._database.execute_sql(
                "UPDATE seats SET holder = NULL, since = NULL, expires_at = NULL "
                "WHERE id = %s AND epoch = %s AND since = %s",
                [self.number, epoch, self._since],
            )
        elif self._waited_s:
            self._waited_s = 0.0
            self._database.execute_sql("DELETE FROM standbys WHERE node = %s", [self._candidate.name])
