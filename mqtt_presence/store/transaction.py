"""The bridge's side of the store: load what a batch touches, save what it changed, in one transaction."""

import logging
import operator
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import compress
from typing import Any, TypeVar

import peewee

from mqtt_presence.errors import StoreError
from mqtt_presence.rules.model import (
    GUESSED,
    Activity,
    ActivityState,
    ClientId,
    Connection,
    Event,
    Key,
    Login,
    Message,
    NetworkClosed,
    Outcome,
    UserId,
    UserPresence,
)
from mqtt_presence.store.database import connect, is_postgresql, prepare, said_plainly
from mqtt_presence.store.database_files import Files
from mqtt_presence.store.rows import (
    ACTIVITY_FIELDS,
    CONNECTION_COLUMNS,
    PULSE_COLUMNS,
    RECORD_FIELDS,
    USER_COLUMNS,
    USER_FIELDS,
    VERSION_FLOOR,
    from_activity,
    from_connection,
    from_user,
    names_of,
    to_connection,
    to_presence,
    to_pulse,
)
from mqtt_presence.store.schema import (
    BridgeRow,
    ConnectionRow,
    OutboxRow,
    PulseRow,
    RedeliveryRow,
    TombstoneRow,
    UserRow,
)
from mqtt_presence.store.seat import FileSeat, Lease, Seat

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.2
# Keys that are asked for at once: what is read by them is still in the processor's cache when it is written.
PORTION = 64
# Records that `Store.forget` deletes in one transaction: some tens of milliseconds.
FORGET_PORTION = 1000
_ATTEMPTS = 10
_RETRY_S = 0.2
_USER_COUNT = "user_count"
_KEY = (ConnectionRow.user_id, ConnectionRow.client_id, ConnectionRow.connection_id)
# Locks in their order, whatever the collation of the database.
_USERS = ' ORDER BY u.user_id COLLATE "C" FOR UPDATE OF u'
_CONNECTIONS = ' ORDER BY r.user_id COLLATE "C", r.client_id COLLATE "C", r.id FOR UPDATE OF r, p'

T = TypeVar("T")


class Store:
    """Connection records and users in a database.

    Args:
        url: see `database.connect`.

    """

    def __init__(self, url: str) -> None:
        self._database = connect(url)
        self._is_postgresql = is_postgresql(self._database)
        self._files: Files | None = None
        self._seat: Seat = Lease(self._database)
        if isinstance(self._database, peewee.SqliteDatabase):
            file = os.path.realpath(self._database.database)
            self._files, self._seat = Files(self._database, file), FileSeat(file)

    def open(self) -> None:
        """Connect, and bring the schema up to date.

        Raises:
            StoreError: it cannot be opened.

        """
        prepare(self._database)

    def take_seat(self, give_up: Callable[[], bool] = lambda: False) -> None:
        """Open, and become the one bridge of this database, until `close`.

        Waits on PostgreSQL until it is known whether the holder is alive: at most the time of a lease.

        Args:
            give_up: asked several times a second whether to wait no longer.

        Raises:
            StoreError: it cannot be opened.
            SeatTakenError: another process is the bridge.

        """
        if not self._is_postgresql:  # first: nobody else's schema is changed
            self._try_to_take_seat()
        self.open()
        is_told = False
        while not give_up() and not self._try_to_take_seat():
            if not is_told:
                log.info("another process was the bridge of this database: waiting until its lease is over")
                is_told = True
            time.sleep(_LOOK_EVERY_S)

    def _try_to_take_seat(self) -> bool:
        with said_plainly("open the database"):
            return self._seat.take()

    @property
    def seat_is_due(self) -> bool:
        """Whether the seat is lost unless there is a transaction soon."""
        return self._seat.is_due

    def close(self) -> None:
        """Leave the seat, if we hold it, and disconnect."""
        if self._is_postgresql and not self._database.is_closed():
            with suppress(StoreError), said_plainly("leave the seat"):
                self._seat.release()
        self._disconnect()
        if not self._is_postgresql:  # last: SQLite still writes when it is closed
            self._seat.release()

    def _disconnect(self) -> None:
        if not self._database.is_closed():
            self._database.close()
        if self._files is not None:
            self._files.closed()

    @property
    def locks_rows(self) -> bool:
        """Whether other writers may be at work beside a transaction: SQLite has one writer at a time."""
        return self._is_postgresql

    @contextmanager
    def transaction(self) -> Iterator["Transaction"]:
        """Do all or nothing; committed, and on the disk, when it ends.

        Raises:
            StoreError: nothing of it was done. `transient` tells whether to try the same again.

        """
        try:
            with said_plainly("use the database"):
                if self._files is not None:
                    self._files.mend()
                self._database.connect(reuse_if_open=True)
                with self._database.atomic():
                    self._seat.begin()
                    if self._files is not None:
                        self._files.note()
                    transaction = Transaction(self._database, is_postgresql=self._is_postgresql)
                    yield transaction
                    transaction.finish()
                self._seat.committed()
                if self._files is not None:
                    self._files.require()
        except Exception as error:
            is_conflict = isinstance(error, StoreError) and error.conflict
            if self._is_postgresql and not is_conflict:
                self._disconnect()  # after a lost connection every later query would fail until this
            raise

    def forget(self, user_id: UserId, pause: Callable[[float], None] = time.sleep) -> int | None:
        """Delete a user and all records, and leave a tombstone; return how many records, None for a stranger.

        The ended connections are deleted in portions. After each, the database is free for as long as the
        portion took, so that a bridge can commit. The last transaction deletes the rest and the user: until
        then the user is known, and has lost only history. If the process is killed, `forget` can be repeated.

        Args:
            user_id: the user.
            pause: waits for so many seconds.

        Raises:
            StoreError: the user is not forgotten; a part of the ended connections may be deleted.

        """
        deleted, after = 0, ("", "")
        while True:
            began = time.monotonic()
            names = self._insist(partial(_delete_ended, user_id=user_id, after=after), pause)
            deleted += len(names)
            if len(names) < FORGET_PORTION:
                break
            after = names[-1]
            pause(time.monotonic() - began)
        rest = self._insist(lambda tx: tx.forget(user_id), pause)
        return deleted + (rest or 0) if deleted or rest is not None else None

    def _insist(self, work: Callable[["Transaction"], T], pause: Callable[[float], None]) -> T:
        """Do something in a transaction, again if a bridge was in the way."""
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


class Transaction:
    """What can be done inside `Store.transaction`.

    Rows are locked in one order, so that no two writers wait for each other: users by name, then their live
    connections by user, client and number. Names are in the order of their code points, PostgreSQL's "C".
    """

    def __init__(self, database: peewee.Database, *, is_postgresql: bool) -> None:
        self._database = database
        self._mark = "%s" if is_postgresql else "?"
        self._is_postgresql = is_postgresql
        self._loaded: dict[tuple[str, str, str], tuple[int, ActivityState]] = {}
        """The connections that were read, by their names, with their numbers."""
        self._known: set[str] = set()
        """The users whose rows were read."""
        self._placeholders: set[str] = set()
        """Newcomers' rows that hold nothing yet but the lock: no other transaction ever sees them."""

    def finish(self) -> None:
        """Remove the rows of those who did not become users."""
        self._executemany(
            f"DELETE FROM user_states WHERE user_id = {self._mark}",
            [(user_id,) for user_id in sorted(self._placeholders)],
        )

    # Users and their connections.

    def load_pulses(
        self, beats: Mapping[UserId, Sequence[Activity]]
    ) -> dict[UserId, dict[Key, ActivityState]]:
        """Read what heartbeats may be settled by: the live connections of the clients they came from."""
        clients = {(user_id, beat.client_id) for user_id, of_user in beats.items() for beat in of_user}
        rows = self._select_each(
            # Not of the view: SQLite would take all its columns for wanted, and read the record.
            PULSE_COLUMNS,
            "CROSS JOIN connection_records r CROSS JOIN pulses p WHERE p.id = r.id AND r.live "
            f"AND r.user_id = k.column1 AND r.client_id = k.column2{self._locked(_CONNECTIONS)}",
            sorted(clients),
        )
        pulses: dict[UserId, dict[Key, ActivityState]] = {user_id: {} for user_id in beats}
        for row in rows:
            pulse = to_pulse(row)
            self._loaded[row[0], row[1], row[2]] = row[-1], pulse
            pulses[row[0]][row[1], row[2]] = pulse
        return pulses

    def load(self, events: Mapping[UserId, Sequence[Event]]) -> dict[UserId, UserPresence]:
        """Read what the rules need to decide on these events."""
        user_ids = [(user_id,) for user_id in sorted(events)]
        # First, for it locks them: no other bridge changes what is read of them from now on.
        users = self._lock_users(user_ids) if self._is_postgresql else self._users(user_ids)
        self._known.update(row[0] for row in users)
        connections: dict[UserId, dict[Key, Connection]] = {user_id: {} for user_id in events}
        _file(connections, self._connections("c.live AND c.user_id = k.column1", user_ids))
        events = _unless_all_is_known(events, connections)
        _file(connections, self._named_but_not_live(events, connections))
        _file(connections, self._latest_of_gone(events))
        newest, times = self._newest(events, connections)
        loaded = {
            row[0]: to_presence(row, connections[row[0]], newest.get(row[0], {}), times.get(row[0], {}))
            for row in users
        }
        if len(loaded) < len(connections):
            floor = self._version_floor()
            for user_id, of_user in connections.items():
                if user_id not in loaded:
                    loaded[user_id] = UserPresence(
                        user_id=user_id,
                        version=floor,
                        connections=of_user,
                        newest=newest.get(user_id, {}),
                        newest_time=times.get(user_id, {}),
                    )
        return loaded

    def save(self, outcomes: Iterable[Outcome]) -> None:
        """Write what the rules changed of what this transaction has loaded."""
        users, seen = [], []
        known: list[Connection] = []
        new: list[Connection] = []
        touched: list[ActivityState] = []
        for outcome in outcomes:
            user = outcome.user
            if outcome.status_changed and user.status is not None:
                users.append(from_user(user, user.status))
                self._placeholders.discard(user.user_id)
            elif user.status is not None and _is_seen_beside_its_connections(user):
                seen.append((user.last_seen, user.user_id))
            for record in outcome.changed:
                (known if names_of(record) in self._loaded else new).append(record)
            touched += outcome.touched
        self.touch(touched)
        self._change(known)
        self._add(new)
        self._executemany(self._update(UserRow, (UserRow.last_seen,), (UserRow.user_id,)), seen)
        self._executemany(self._upsert(UserRow, USER_FIELDS, (UserRow.user_id,)), users)
        self._count_more_users(sum(row[0] not in self._known for row in users))

    # Of what was loaded only what has changed is written, found by its number: a part of what all of it
    # costs, most of all where it is in an index.

    def touch(self, pulses: Iterable[ActivityState]) -> None:
        """Write the activity of connections that this transaction has loaded, and nothing else."""
        activities, deadlines = [], []
        for pulse in pulses:
            number, loaded = self._loaded[names_of(pulse)]
            activities.append((*from_activity(pulse), number))
            if pulse.check_at != loaded.check_at:
                deadlines.append((pulse.check_at, number))
        self._executemany(self._update(PulseRow, ACTIVITY_FIELDS, (PulseRow.id,)), activities)
        self._executemany(
            self._update(ConnectionRow, (ConnectionRow.check_at,), (ConnectionRow.id,)), deadlines
        )

    def _change(self, records: Iterable[Connection]) -> None:
        """Write what has changed of connections."""
        changes: dict[tuple[bool, ...], list[tuple[Any, ...]]] = {}
        activities = []
        for record in records:
            number, loaded = self._loaded[names_of(record)]
            assert isinstance(loaded, Connection)
            row = from_connection(record)
            is_changed = tuple(map(operator.ne, row, from_connection(loaded)))
            changes.setdefault(is_changed, []).append((*compress(row, is_changed), number))
            activity = from_activity(record)
            if activity != from_activity(loaded):
                activities.append((*activity, number))
        for is_changed, rows in changes.items():
            fields = tuple(compress(RECORD_FIELDS, is_changed))
            if fields:
                self._executemany(self._update(ConnectionRow, fields, (ConnectionRow.id,)), rows)
        self._executemany(self._update(PulseRow, ACTIVITY_FIELDS, (PulseRow.id,)), activities)

    def _add(self, records: Sequence[Connection]) -> None:
        """Write new connections; should another bridge have been faster, what we know of them."""
        self._executemany(self._upsert(ConnectionRow, RECORD_FIELDS, _KEY), map(from_connection, records))
        self._executemany(self._upsert_pulse(), [(*from_activity(r), *names_of(r)) for r in records])

    def users_after(self, user_id: str, limit: int) -> list[UserPresence]:
        """Read a page of users in the order of their names, without their connections."""
        rows = self._select(
            f"SELECT {USER_COLUMNS} FROM users u WHERE u.user_id > {self._mark} "
            f"ORDER BY u.user_id LIMIT {int(limit)}",
            [user_id],
        )
        return [to_presence(row, {}, {}) for row in rows]

    def known_users(self, user_ids: Iterable[UserId]) -> set[UserId]:
        """Return which of these users there are."""
        keys = [(user_id,) for user_id in user_ids]
        rows = self._select_each("u.user_id", "CROSS JOIN user_states u WHERE u.user_id = k.column1", keys)
        return {UserId(row[0]) for row in rows}

    def last_user(self) -> list[UserId]:
        """Return the user whose name comes last, if there is any."""
        rows = self._select("SELECT user_id FROM user_states ORDER BY user_id DESC LIMIT 1", [])
        return [UserId(row[0]) for row in rows]

    def has_other_users(self) -> bool:
        """Tell whether rows of users were added or removed by anything but this class."""
        return int(self.recall(_USER_COUNT) or 0) != self.count_users()

    def accept_users(self) -> None:
        """Take the rows of users that there are for our own."""
        self.remember(_USER_COUNT, str(self.count_users()))

    def _count_more_users(self, more: int) -> None:
        if more:
            self.remember(_USER_COUNT, str(int(self.recall(_USER_COUNT) or 0) + more))

    def count_users(self) -> int:
        """Tell how many users there are."""
        return int(self._select("SELECT COUNT(*) FROM user_states", [])[0][0])

    def told_connections(self, limit: int) -> list[tuple[UserId, ClientId, int, str | None]]:
        """Read by which of the broker's connections open records came, the latest last."""
        rows = self._select(
            "SELECT c.user_id, c.client_id, c.peer, c.ip_addr FROM connection_records c "
            "WHERE c.live AND c.logout_time IS NULL AND c.peer IS NOT NULL "
            f"ORDER BY c.login_time DESC LIMIT {int(limit)}",
            [],
        )
        return [tuple(row) for row in reversed(rows)]

    # What has become due.

    def due_users(self, now: int, limit: int) -> list[UserId]:
        """Tell whose connections must be looked at (B1, B2, grace), the most overdue first."""
        rows = self._select(
            f"SELECT c.user_id FROM connection_records c WHERE c.check_at <= {self._mark} "
            f"ORDER BY c.check_at LIMIT {int(limit)}",
            [now],
        )
        return list(dict.fromkeys(row[0] for row in rows))

    def unconfirmed_users(self, announced_at: int, after: str, limit: int) -> dict[UserId, bool]:
        """Read a page of users with live connections, in the order of their names, for rule B3.

        Args:
            announced_at: when the clients were asked to log in again, epoch milliseconds.
            after: those that come after this name.
            limit: how many at most.

        Returns:
            Of each whether an open connection that answers announcements has not been seen since.

        """
        is_unconfirmed = f"c.logout_time IS NULL AND c.announce AND c.last_seen < {self._mark}"
        return self._live_users(is_unconfirmed, [announced_at], after, limit)

    def unconfirmed_devices(
        self, restarted_at: int, origins: Collection[str], after: str, limit: int
    ) -> dict[UserId, bool]:
        """Read a page of users with live connections, in the order of their names, for rule B3 of devices.

        Args:
            restarted_at: when the bridge came back to the restarted broker, epoch milliseconds.
            origins: of the records that rule B3 applies to.
            after: those that come after this name.
            limit: how many at most.

        Returns:
            For each user, whether an open record of these origins shows no sign of life since.

        """
        marks = ", ".join([self._mark] * len(origins))
        is_unconfirmed = f"c.logout_time IS NULL AND c.origin IN ({marks}) AND c.last_seen < {self._mark}"
        return self._live_users(is_unconfirmed, [*origins, restarted_at], after, limit)

    def latest_of_origins(self, origins: Collection[str]) -> list[Connection]:
        """Read the latest record of each client whose records have one of these origins."""
        marks = ", ".join([self._mark] * len(origins))
        rows = self._select(
            f"SELECT {CONNECTION_COLUMNS} FROM connections c WHERE c.id IN (SELECT MAX(r.id) "
            f"FROM connection_records r WHERE r.origin IN ({marks}) GROUP BY r.user_id, r.client_id)",
            list(origins),
        )
        return [to_connection(row) for row in rows]

    def lies_ahead(self, now: int) -> bool:
        """Tell whether a sign of life or an end was stamped by a clock that was ahead."""
        # The one goes through a short table, a tenth of a second for a million rows, the other by an index.
        lies_ahead = bool(
            self._select(f"SELECT 1 FROM pulses WHERE last_seen > {self._mark} LIMIT 1", [now])
            or self._select(
                f"SELECT 1 FROM connection_records WHERE logout_time > {self._mark} LIMIT 1", [now]
            )
        )
        if not self._is_postgresql:  # SQLite has kept all of it, mostly what nobody will ask for again
            self._database.execute_sql("PRAGMA shrink_memory")
        return lies_ahead

    def live_users(self, after: str, now: int, limit: int) -> dict[UserId, bool]:
        """Read a page of users with live connections, in the order of their names.

        Args:
            after: those that come after this name.
            now: the time, epoch milliseconds.
            limit: how many at most.

        Returns:
            Of each whether something of its live connections lies ahead of now: the clock was set back.

        """
        ahead = " OR ".join(
            f"c.{column} > {self._mark}"
            for column in ("last_seen", "last_activity", "opened_at", "logout_time")
        )
        return self._live_users(ahead, [now] * 4, after, limit)

    def _live_users(
        self, condition: str, parameters: Sequence[Any], after: str, limit: int
    ) -> dict[UserId, bool]:
        """Read a page of users with live connections c; and of each, whether a condition holds for one."""
        rows = self._select(
            f"SELECT c.user_id, MAX(CASE WHEN {condition} THEN 1 ELSE 0 END) FROM connections c "
            f"WHERE c.live AND c.user_id > {self._mark} "
            f"GROUP BY c.user_id ORDER BY c.user_id LIMIT {int(limit)}",
            [*parameters, after],
        )
        return {UserId(row[0]): row[1] == 1 for row in rows}

    def move_last_seen(
        self, after: tuple[UserId, ClientId, int] | None, by: int, now: int, limit: int
    ) -> tuple[UserId, ClientId, int] | None:
        """Have a page of open connections seen later, as by a clock that was ahead already.

        Args:
            after: those that come after this one, of user, client and number; None: from the first on.
            by: how much later, milliseconds.
            now: but not later than this, epoch milliseconds.
            limit: how many at most.

        Returns:
            The last one of the page; None: there are no more.

        """
        rows = self._select(
            "SELECT c.user_id, c.client_id, c.id FROM connection_records c "
            "WHERE c.live AND c.logout_time IS NULL "
            f"AND (c.user_id, c.client_id, c.id) > ({self._mark}, {self._mark}, {self._mark}) "
            f"ORDER BY c.user_id, c.client_id, c.id LIMIT {int(limit)}",
            after or ("", "", 0),
        )
        self._executemany(
            f"UPDATE pulses SET last_seen = CASE WHEN last_seen + {self._mark} < {self._mark} "
            f"THEN last_seen + {self._mark} ELSE {self._mark} END "
            f"WHERE id = {self._mark} AND last_seen < {self._mark}",
            [(by, now, by, now, row[2], now) for row in sorted(rows)],  # in the order of locks
        )
        return (rows[-1][0], rows[-1][1], rows[-1][2]) if len(rows) == limit else None

    def delete_ended(self, before: int, limit: int) -> int:
        """Delete connections that ended before a time, the oldest first; tell how many."""
        oldest = (
            ConnectionRow.select(ConnectionRow.id)
            .where((ConnectionRow.logout_time < before) & ConnectionRow.check_at.is_null())
            .order_by(ConnectionRow.logout_time)
            .limit(limit)
        )
        if self._is_postgresql:  # what another writer has locked is left for the next time
            oldest = oldest.for_update(skip_locked=True)
        return self._delete(ConnectionRow.id.in_(oldest))

    # Forgetting.

    def delete_ended_of(self, user_id: UserId, after: tuple[str, str], limit: int) -> list[tuple[str, str]]:
        """Delete a page of a user's connections that no longer count, in the order of their names.

        Args:
            user_id: the user.
            after: the client id and connection id that the page begins after.
            limit: the greatest number of connections.

        Returns:
            The client ids and connection ids of the page.

        """
        self._lock_user(user_id)
        # By name rather than just any: PostgreSQL would pass by all that the pages before have deleted.
        rows = self._select(
            "SELECT c.client_id, c.connection_id, c.id FROM connection_records c "
            f"WHERE c.user_id = {self._mark} AND NOT c.live "
            f"AND (c.client_id, c.connection_id) > ({self._mark}, {self._mark}) "
            f"ORDER BY c.client_id, c.connection_id LIMIT {int(limit)}",
            [user_id, *after],
        )
        numbers = [(row[2],) for row in rows]
        self._executemany(f"DELETE FROM connection_records WHERE id = {self._mark}", numbers)
        self._executemany(f"DELETE FROM pulses WHERE id = {self._mark}", numbers)
        return [(row[0], row[1]) for row in rows]

    def forget(self, user_id: UserId) -> int | None:
        """Delete a user and all records at once; see `Store.forget`, which does so in portions.

        Returns:
            How many records; None for a stranger.

        """
        versions = self._lock_user(user_id)
        records = self._delete(ConnectionRow.user_id == user_id)
        if not versions and not records:
            return None
        self._run(UserRow.delete().where(UserRow.user_id == user_id))
        self._count_more_users(-len(versions))
        # Should the user come back, versions go on growing.
        self.remember(VERSION_FLOOR, str(max(self._version_floor(), *versions, 0)))
        fields = (TombstoneRow.user_id, TombstoneRow.buried_at)
        self._executemany(self._upsert(TombstoneRow, fields, fields[:1]), [(user_id, None)])
        return records

    def _lock_user(self, user_id: UserId) -> list[int]:
        """Lock a user, as the bridge does before it touches the records; return the version, if there is one.

        Two transactions that lock users and records in different orders would wait for each other.
        """
        known = UserRow.select(UserRow.version).where(UserRow.user_id == user_id)
        return [row.version for row in self._run(known.for_update() if self._is_postgresql else known)]

    def tombstones(self) -> list[UserId]:
        """Tell whose retained status is still to be cleared; whoever has come back needs none."""
        # Not by IN: SQLite reads all users for that, even if there is no tombstone.
        self._database.execute_sql(
            "DELETE FROM tombstones WHERE EXISTS "
            "(SELECT 1 FROM user_states u WHERE u.user_id = tombstones.user_id)"
        )
        unburied = TombstoneRow.select().where(TombstoneRow.buried_at.is_null())
        return [row.user_id for row in self._run(unburied)]

    def bury(self, user_id: UserId, now: int) -> None:
        """The broker has acknowledged that the retained status of a forgotten user is cleared."""
        self._run(TombstoneRow.update(buried_at=now).where(TombstoneRow.user_id == user_id))

    def exhume(self) -> None:
        """The broker may have lost what it acknowledged: all is to be cleared again."""
        self._run(TombstoneRow.update(buried_at=None).where(TombstoneRow.buried_at.is_null(is_null=False)))

    def forget_buried(self, before: int) -> None:
        """Those who were buried before a time are gone for good."""
        self._run(TombstoneRow.delete().where(TombstoneRow.buried_at < before))

    # What the bridge keeps for itself.

    def client_id(self) -> str:
        """Read the name by which the broker knows the bridge's session."""
        return str(self._select("SELECT client_id FROM seats WHERE id = 0", [])[0][0])

    def recall(self, name: str) -> str | None:
        """Read what was remembered under a name."""
        for row in self._run(BridgeRow.select().where(BridgeRow.name == name)):
            return str(row.value)
        return None

    def recall_all(self, prefix: str) -> dict[str, str]:
        """Read all that was remembered under names that begin so, by what follows."""
        rows = self._run(BridgeRow.select().where(peewee.fn.SUBSTR(BridgeRow.name, 1, len(prefix)) == prefix))
        return {row.name[len(prefix) :]: row.value for row in rows}

    def remember(self, name: str, value: str | None) -> None:
        """Keep a text under a name; None: no longer."""
        if value is None:
            self._database.execute_sql(f"DELETE FROM bridge WHERE name = {self._mark}", [name])
        else:
            self._executemany(
                self._upsert(BridgeRow, (BridgeRow.name, BridgeRow.value), (BridgeRow.name,)),
                [(name, value)],
            )

    # The outbox: what is committed but perhaps not published.

    def put_outbox(self, body: bytes) -> int:
        """Keep what a batch has to publish; returns its number, which only grows."""
        # By hand, like the loading: for a single message peewee would take longer than the database.
        rows = self._select(f"INSERT INTO outbox (body) VALUES ({self._mark}) RETURNING id", [body])
        return int(rows[0][0])

    def outbox(self) -> list[tuple[int, bytes]]:
        """Read all of it, oldest first."""
        return [(row.id, bytes(row.body)) for row in self._run(OutboxRow.select().order_by(OutboxRow.id))]

    def has_outbox(self, number: int) -> bool:
        """Tell whether it is there, and so what was committed with it."""
        return bool(self._select(f"SELECT 1 FROM outbox WHERE id = {self._mark}", [number]))

    def clear_outbox(self, up_to: int) -> None:
        """Remove what the broker has."""
        self._database.execute_sql(f"DELETE FROM outbox WHERE id <= {self._mark}", [up_to])

    # Which committed messages the broker may send again, a line for each batch.

    def put_redeliveries(self, number: int, body: bytes) -> None:
        """Keep a line; the same again if its commit is in doubt."""
        fields = (RedeliveryRow.number, RedeliveryRow.body)
        self._executemany(self._upsert(RedeliveryRow, fields, fields[:1]), [(number, body)])

    def redeliveries(self) -> list[tuple[int, bytes]]:
        """Read all lines in their order."""
        rows = self._select("SELECT number, body FROM redeliveries ORDER BY number", [])
        return [(number, bytes(body)) for number, body in rows]

    def clear_redeliveries(self, up_to: int) -> None:
        """Remove the lines up to a number."""
        if up_to:
            self._database.execute_sql(f"DELETE FROM redeliveries WHERE number <= {self._mark}", [up_to])

    # How.

    def _users(self, user_ids: Collection[tuple[str, ...]]) -> list[Any]:
        """Read users' rows; on PostgreSQL, lock them."""
        return self._select_each(
            USER_COLUMNS,
            f"CROSS JOIN user_states u WHERE u.user_id = k.column1{self._locked(_USERS)}",
            user_ids,
        )

    def _lock_users(self, user_ids: Collection[tuple[str, ...]]) -> list[Any]:
        """Lock users and their live connections, newcomers too; return the rows of those who are users."""
        users: dict[str, Any] = {}
        # Twice at most, but for a user who is forgotten in between.
        while missing := [key for key in user_ids if key[0] not in users]:
            # A newcomer has no row that could be locked, so one is made.
            made = self._each(
                "INSERT INTO user_states (user_id, state, online, connections, version) "
                "SELECT k.column1, '', FALSE, 0, 0 FROM (VALUES {keys}) AS k WHERE k.column1 IS NOT NULL "
                'ORDER BY k.column1 COLLATE "C" ON CONFLICT (user_id) DO NOTHING RETURNING user_id',
                missing,
            )
            self._placeholders.update(row[0] for row in made)
            users |= {row[0]: row for row in self._users(missing)}
        self._select_each(
            "1",
            "CROSS JOIN connection_records r CROSS JOIN pulses p WHERE p.id = r.id AND r.live "
            f"AND r.user_id = k.column1{self._locked(_CONNECTIONS)}",
            user_ids,
        )
        return [row for user_id, row in users.items() if user_id not in self._placeholders]

    def _named_but_not_live(
        self,
        events: Mapping[UserId, Sequence[Event]],
        live: Mapping[UserId, Mapping[Key, Connection]],
    ) -> Iterable[Connection]:
        names = {
            (user_id, event.client_id, event.connection_id)
            for user_id, of_user in events.items()
            for event in of_user
            if isinstance(event, Message)
            and event.connection_id is not None
            and (event.client_id, event.connection_id) not in live[user_id]
        }
        return self._connections(
            "c.user_id = k.column1 AND c.client_id = k.column2 AND c.connection_id = k.column3", names
        )

    def _latest_of_gone(self, events: Mapping[UserId, Sequence[Event]]) -> Iterable[Connection]:
        """Read the latest of a client whose connection the broker says is gone: it may have ended already."""
        clients = {
            (user_id, event.client_id)
            for user_id, of_user in events.items()
            for event in of_user
            if isinstance(event, NetworkClosed)
        }
        return self._connections(
            "c.user_id = k.column1 AND c.client_id = k.column2 AND c.login_order = "
            "(SELECT MAX(n.login_order) FROM connection_records n "
            "WHERE n.user_id = k.column1 AND n.client_id = k.column2)",
            clients,
        )

    def _newest(
        self,
        events: Mapping[UserId, Sequence[Event]],
        connections: Mapping[UserId, Mapping[Key, Connection]],
    ) -> tuple[dict[UserId, dict[ClientId, int]], dict[UserId, dict[ClientId, int]]]:
        """Read the order of the clients' newest connections, and the `time` that their logins told."""
        clients = {
            (user_id, event.client_id)
            for user_id, of_user in events.items()
            for event in of_user
            if isinstance(event, Message) and _needs_newest(event, connections[user_id])
        }
        # Both databases answer MAX by one seek in the index.
        of_client = "FROM connection_records c WHERE c.user_id = k.column1 AND c.client_id = k.column2"
        greatest = f"(SELECT MAX(c.login_order) {of_client})"
        time = f"(SELECT MAX(c.client_time) {of_client} AND c.login_order = {greatest})"
        rows = self._select_each(
            f"k.column1, k.column2, {greatest}, {time}",
            "",
            clients,
        )
        newest: dict[UserId, dict[ClientId, int]] = {}
        times: dict[UserId, dict[ClientId, int]] = {}
        for user_id, client_id, order, time in rows:
            if order is not None:
                newest.setdefault(user_id, {})[client_id] = order
            if time is not None:
                times.setdefault(user_id, {})[client_id] = time
        return newest, times

    def _connections(self, condition: str, keys: Collection[tuple[str, ...]]) -> Iterable[Connection]:
        """Read records c by keys, as what `save` will compare with."""
        records = []
        for row in self._select_each(CONNECTION_COLUMNS, f"CROSS JOIN connections c WHERE {condition}", keys):
            record = to_connection(row)
            records.append(record)
            self._loaded[row[0], row[1], row[2]] = row[-1], record
        return records

    def _select_each(self, columns: str, rest: str, keys: Collection[tuple[str, ...]]) -> list[Any]:
        """Select by keys, whose columns both databases name k.column1, k.column2, …"""
        # CROSS JOIN has SQLite begin with the keys; by `IN (VALUES …)` it would scan the other table.
        return self._each(f"SELECT {columns} FROM (VALUES {{keys}}) AS k {rest}", keys)

    def _each(self, statement: str, keys: Collection[tuple[str, ...]]) -> list[Any]:
        """Execute a statement for keys, and return the rows of all of them.

        In portions of few sizes, filled up with nulls, which equal nothing: so there are few statements, and
        the database knows each of them; to read one of a thousand parameters takes it as long as the answer.

        Args:
            statement: with `{keys}` where the list of keys goes.
            keys: their values.

        """
        keys = list(keys)
        rows: list[Any] = []
        for start in range(0, len(keys), PORTION):
            portion = keys[start : start + PORTION]
            size = 1 << (len(portion) - 1).bit_length()
            marks = f"({','.join([self._mark] * len(portion[0]))})"
            parameters: list[str | None] = [part for key in portion for part in key]
            parameters += [None] * (len(portion[0]) * (size - len(portion)))
            rows += self._select(statement.replace("{keys}", ",".join([marks] * size)), parameters)
        return rows

    def _locked(self, rows: str) -> str:
        """Have no other bridge change what we have read; of SQLite there is one writer as it is."""
        return rows if self._is_postgresql else ""

    def _version_floor(self) -> int:
        return int(self.recall(VERSION_FLOOR) or 0)

    def _select(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        rows: list[Any] = self._database.execute_sql(sql, parameters).fetchall()
        return rows

    def _run(self, query: Any) -> Any:
        # The models are bound to no database: one process may have several stores.
        return query.execute(self._database)

    def _delete(self, which: peewee.Expression) -> int:
        """Delete connections; tell how many."""
        deletion = ConnectionRow.delete().where(which).returning(ConnectionRow.id)
        gone = [(row.id,) for row in self._run(deletion)]
        self._executemany(f"DELETE FROM pulses WHERE id = {self._mark}", gone)
        return len(gone)

    def _executemany(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        # A tenth of what peewee's own ways of writing many rows cost.
        rows = list(rows)
        if rows:
            self._database.cursor().executemany(sql, rows)

    def _upsert_pulse(self) -> str:
        """Write the statement for the rest of a record; by its names: a new one has no number yet."""
        columns = [field.column_name for field in ACTIVITY_FIELDS]
        return (
            f"INSERT INTO pulses (id, {', '.join(columns)}) "
            f"SELECT id, {', '.join([self._mark] * len(columns))} FROM connection_records "
            f"WHERE {self._equal(_KEY, ' AND ')} ON CONFLICT (id) DO UPDATE SET {_excluded(columns)}"
        )

    # Written by hand, for peewee would put the columns into an order of its own.

    def _update(
        self, table: type[peewee.Model], fields: Iterable[peewee.Field], key: Iterable[peewee.Field]
    ) -> str:
        """Write the statement; its parameters are the fields and then the key."""
        name = table._meta.table_name
        return f"UPDATE {name} SET {self._equal(fields, ', ')} WHERE {self._equal(key, ' AND ')}"

    def _upsert(
        self, table: type[peewee.Model], fields: Sequence[peewee.Field], key: Sequence[peewee.Field]
    ) -> str:
        """Write the statement; its parameters are the fields, the key among them."""
        columns = [field.column_name for field in fields]
        names = [field.column_name for field in key]
        return (
            f"INSERT INTO {table._meta.table_name} ({', '.join(columns)}) "
            f"VALUES ({', '.join([self._mark] * len(columns))}) ON CONFLICT ({', '.join(names)}) "
            f"DO UPDATE SET {_excluded(c for c in columns if c not in names)}"
        )

    def _equal(self, fields: Iterable[peewee.Field], between: str) -> str:
        return between.join(f"{field.column_name} = {self._mark}" for field in fields)


def _delete_ended(tx: Transaction, user_id: UserId, after: tuple[str, str]) -> list[tuple[str, str]]:
    return tx.delete_ended_of(user_id, after, FORGET_PORTION)


def _excluded(columns: Iterable[str]) -> str:
    return ", ".join(f"{column} = excluded.{column}" for column in columns)


def _file(connections: Mapping[UserId, dict[Key, Connection]], records: Iterable[Connection]) -> None:
    for record in records:
        connections[record.user_id][record.client_id, record.connection_id] = record


def _is_seen_beside_its_connections(user: UserPresence) -> bool:
    """The last sign of life was none of a connection that is live now, which would tell of it."""
    seen = user.last_seen
    if seen is None:
        return False
    for connection in user.connections.values():
        if connection.last_seen >= seen and connection.is_live:
            return False
    return True


def _unless_all_is_known(
    events: Mapping[UserId, Sequence[Event]], live: Mapping[UserId, Mapping[Key, Connection]]
) -> Mapping[UserId, Sequence[Event]]:
    """Leave out signs of life of open connections: most of what comes, and nothing else bears on them."""
    rest: dict[UserId, list[Event]] = {}
    for user_id, of_user in events.items():
        of_live = live[user_id]
        for event in of_user:
            if isinstance(event, Activity) and event.connection_id is not None:
                known = of_live.get((event.client_id, event.connection_id))
                if known is not None and known.logout_time is None:
                    continue
            rest.setdefault(user_id, []).append(event)
    return rest


def _needs_newest(event: Message, of_user: Mapping[Key, Connection]) -> bool:
    """A login of a record that has had none, and what may reopen one, must know the client's newest."""
    if event.connection_id is None:
        return isinstance(event, Login)
    known = of_user.get((event.client_id, event.connection_id))
    if known is None or known.login_order is None:
        return isinstance(event, Login)
    return known.reason in GUESSED
