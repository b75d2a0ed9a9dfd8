"""Queries of the bridge's jobs: due and unconfirmed users, clock steps, retention, forgetting."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import peewee

from mqtt_presence.rules.model import BROKER, ClientId, Connection, ConnectionId, UserId, UserPresence
from mqtt_presence.store.record_history import RecordHistory
from mqtt_presence.store.rows import (
    CONNECTION_COLUMNS,
    USER_COLUMNS,
    to_connection,
    to_presence,
)
from mqtt_presence.store.schema import ActivityRow, ConnectionRow, UserRow


class ImplicitRecord(NamedTuple):
    """An open record that rule I1 opened."""

    user_id: UserId
    client_id: ClientId
    row_id: int
    connection_id: ConnectionId
    network_id: int | None
    address: str | None
    unconfirmed_since: int | None


class Jobs(RecordHistory):
    """The queries of the bridge's jobs in a transaction, in pages of limited size."""

    # Pages of users.

    def users_after(self, user_id: str, limit: int) -> list[UserPresence]:
        """Read a page of users in the order of their names, without their connections."""
        rows = self._select(
            f"SELECT {USER_COLUMNS} FROM users u WHERE u.user_id > {self._mark} "
            f"ORDER BY u.user_id LIMIT {int(limit)}",
            [user_id],
        )
        return [to_presence(row, {}, {}) for row in rows]

    def last_user(self) -> list[UserId]:
        """Return the user whose name sorts last, if there is any."""
        rows = self._select("SELECT user_id FROM user_states ORDER BY user_id DESC LIMIT 1", [])
        return [UserId(row[0]) for row in rows]

    def due_users(self, now: int, limit: int) -> list[UserId]:
        """Return the users with a due deadline (B1, B2, grace), the most overdue first."""
        rows = self._select(
            f"SELECT c.user_id FROM connection_records c WHERE c.check_at <= {self._mark} "
            f"ORDER BY c.check_at LIMIT {int(limit)}",
            [now],
        )
        return list(dict.fromkeys(row[0] for row in rows))

    def unconfirmed_users(self, announced_at: int, after: str, limit: int) -> dict[UserId, bool]:
        """Read a page of users with live connections, in the order of their names, for rule B3.

        Args:
            announced_at: the time of the announcement, epoch milliseconds.
            after: the name that the page begins after.
            limit: the greatest number of users.

        Returns:
            For each user whether an open connection that answers announcements has been silent since.

        """
        is_unconfirmed = f"c.logout_time IS NULL AND c.announce AND c.last_seen < {self._mark}"
        return self._live_users(is_unconfirmed, [announced_at], after, limit)

    def unconfirmed_devices(
        self, restarted_at: int, origins: Collection[str], after: str, limit: int
    ) -> dict[UserId, bool]:
        """Read a page of users with live connections, in the order of their names, for rule B3 of devices.

        Args:
            restarted_at: when the bridge came back to the restarted broker, epoch milliseconds.
            origins: the origins of the records that rule B3 applies to.
            after: the name that the page begins after.
            limit: the greatest number of users.

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
            f"SELECT {CONNECTION_COLUMNS} FROM recent_connections c WHERE c.id IN (SELECT MAX(r.id) "
            f"FROM connection_records r WHERE r.origin IN ({marks}) GROUP BY r.user_id, r.client_id)",
            list(origins),
        )
        return [to_connection(row) for row in rows]

    def implicit_records(self, after: tuple[str, str, int], limit: int) -> list[ImplicitRecord]:
        """Read a page of the open records that rule I1 opened, by user, client and row id.

        Args:
            after: the key that the page begins after.
            limit: the greatest number of records.

        """
        rows = self._select(
            "SELECT c.user_id, c.client_id, c.id, c.connection_id, c.peer, c.ip_addr, c.unconfirmed_since "
            f"FROM recent_connections c WHERE c.live AND c.logout_time IS NULL AND c.origin = {self._mark} "
            f"AND (c.user_id, c.client_id, c.id) > ({self._mark}, {self._mark}, {self._mark}) "
            f"ORDER BY c.user_id, c.client_id, c.id LIMIT {int(limit)}",
            [BROKER, *after],
        )
        return [ImplicitRecord(*row) for row in rows]

    def seat_clients(self) -> list[str]:
        """Read the client ids of all bridges of this database."""
        return [row[0] for row in self._select("SELECT client_id FROM seats", [])]

    def network_connections(self, limit: int) -> list[tuple[UserId, ClientId, int, str | None]]:
        """Read the network connections of open records, the latest login last.

        Returns:
            The user, the client, the id of the network connection and the address.

        """
        rows = self._select(
            "SELECT c.user_id, c.client_id, c.peer, c.ip_addr FROM connection_records c "
            "WHERE c.live AND c.logout_time IS NULL AND c.peer IS NOT NULL "
            f"ORDER BY c.login_time DESC LIMIT {int(limit)}",
            [],
        )
        return [tuple(row) for row in reversed(rows)]

    # Clock steps.

    def has_future_times(self, now: int) -> bool:
        """Return whether a sign of life or an end has a time later than `now`: the clock was set back."""
        # The first query reads a short table, a tenth of a second for a million rows; the second an index.
        has_future_times = bool(
            self._select(f"SELECT 1 FROM pulses WHERE last_seen > {self._mark} LIMIT 1", [now])
            or self._select(
                f"SELECT 1 FROM connection_records WHERE logout_time > {self._mark} LIMIT 1", [now]
            )
        )
        if not self._is_postgresql:  # SQLite has cached the whole table, and few of its pages are read again.
            self._database.execute_sql("PRAGMA shrink_memory")
        return has_future_times

    def live_users(self, after: str, now: int, limit: int) -> dict[UserId, bool]:
        """Read a page of users with live connections, in the order of their names.

        Args:
            after: the name that the page begins after.
            now: the time, epoch milliseconds.
            limit: the greatest number of users.

        Returns:
            For each user whether a live connection has a time later than `now`.

        """
        is_ahead = " OR ".join(
            f"c.{column} > {self._mark}"
            for column in ("last_seen", "last_activity", "opened_at", "logout_time")
        )
        return self._live_users(is_ahead, [now] * 4, after, limit)

    def _live_users(
        self, condition: str, parameters: Sequence[Any], after: str, limit: int
    ) -> dict[UserId, bool]:
        """Read a page of users with live connections c, and whether a condition holds for one of these."""
        rows = self._select(
            f"SELECT c.user_id, MAX(CASE WHEN {condition} THEN 1 ELSE 0 END) FROM recent_connections c "
            f"WHERE c.live AND c.user_id > {self._mark} "
            f"GROUP BY c.user_id ORDER BY c.user_id LIMIT {int(limit)}",
            [*parameters, after],
        )
        return {UserId(row[0]): row[1] == 1 for row in rows}

    def shift_last_seen(
        self, after: tuple[UserId, ClientId, int] | None, by: int, now: int, limit: int
    ) -> tuple[UserId, ClientId, int] | None:
        """Move `last_seen` of a page of open connections forward, so that a clock step is not silence.

        Args:
            after: the user, client and row id that the page begins after; None for the first page.
            by: the clock step, milliseconds.
            now: the latest possible result, epoch milliseconds.
            limit: the greatest number of connections.

        Returns:
            The last connection of the page; None after the last page.

        """
        rows = self._select(
            "SELECT c.user_id, c.client_id, c.id FROM connection_records c "
            "WHERE c.live AND c.logout_time IS NULL "
            f"AND (c.user_id, c.client_id, c.id) > ({self._mark}, {self._mark}, {self._mark}) "
            f"ORDER BY c.user_id, c.client_id, c.id LIMIT {int(limit)}",
            after or ("", "", 0),
        )
        if self._is_postgresql:  # as each transaction that waits for connections
            self._select(
                'SELECT 1 FROM user_states WHERE user_id = ANY(%s) ORDER BY user_id COLLATE "C" FOR UPDATE',
                [sorted({row[0] for row in rows})],
            )
        self._executemany(
            f"UPDATE pulses SET last_seen = CASE WHEN last_seen + {self._mark} < {self._mark} "
            f"THEN last_seen + {self._mark} ELSE {self._mark} END "
            f"WHERE id = {self._mark} AND last_seen < {self._mark}",
            [(by, now, by, now, row[2], now) for row in sorted(rows)],  # in the order of locks
        )
        return (rows[-1][0], rows[-1][1], rows[-1][2]) if len(rows) == limit else None

    # Retention and forgetting.

    def delete_ended(self, before: int, limit: int) -> int:
        """Delete connections that ended before a time, the oldest first; return their number."""
        oldest = (
            ConnectionRow.select(ConnectionRow.id)
            .where((ConnectionRow.logout_time < before) & ConnectionRow.check_at.is_null())
            .order_by(ConnectionRow.logout_time)
            .limit(limit)
        )
        if self._is_postgresql:  # Records that another writer has locked wait for the next time.
            oldest = oldest.for_update(skip_locked=True)
        return self._delete(ConnectionRow.id.in_(oldest))

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
        # In the order of names: otherwise PostgreSQL would pass all rows that the previous pages deleted.
        rows = self._select(
            "SELECT c.client_id, c.connection_id, c.id FROM connection_records c "
            f"WHERE c.user_id = {self._mark} AND NOT c.live "
            f"AND (c.client_id, c.connection_id) > ({self._mark}, {self._mark}) "
            f"ORDER BY c.client_id, c.connection_id LIMIT {int(limit)}",
            [user_id, *after],
        )
        ids = [(row[2],) for row in rows]
        self._batches.delete(ConnectionRow, (ConnectionRow.id,), ids)
        self._batches.delete(ActivityRow, (ActivityRow.id,), ids)
        return [(row[0], row[1]) for row in rows]

    def forget(self, user_id: UserId, *, was_known: bool = True, has_history: bool = True) -> int | None:
        """Delete a user and all records at once; `Store.forget` does so in portions.

        Args:
            user_id: the user.
            was_known: false for a user that this transaction has created.
            has_history: false if the user's history is deleted already. Only recent records come after that.

        Returns:
            The number of records; None if the user is unknown.

        """
        versions = self._lock_user(user_id)
        totals = self._totals_of(user_id)
        records = self._delete(ConnectionRow.user_id == user_id)
        if has_history:
            records += self._count_deleted(
                f"DELETE FROM connection_history WHERE user_id = {self._mark}", [user_id]
            )
        if not versions and not records:
            return None
        self._run(UserRow.delete().where(UserRow.user_id == user_id))
        self._add_to_user_count(-len(versions))
        if was_known:
            self._add_to_forgotten(totals)
        # If the user comes back, the versions go on growing.
        self._raise_version_floor(max(*versions, 0, 0))
        self.put_uncleared(user_id)
        if versions:
            self.log_changes([(user_id,)])
        return records

    def _totals_of(self, user_id: UserId) -> dict[str, int]:
        """Return a user's share of `presence_totals`, by the names of `forgotten_totals`."""
        totals = {
            state: 1
            for (state,) in self._select(
                f"SELECT state FROM user_states WHERE user_id = {self._mark}", [user_id]
            )
        }
        for idle, count in self._select(
            "SELECT p.idle, COUNT(*) FROM connection_records r CROSS JOIN pulses p "
            f"WHERE r.user_id = {self._mark} AND r.live AND p.id = r.id GROUP BY p.idle",
            [user_id],
        ):
            totals["live_connections"] = totals.get("live_connections", 0) + count
            if idle:
                totals["idle_connections"] = count
        return totals

    def _lock_user(self, user_id: UserId) -> list[int]:
        """Lock a user, and return the version if the user exists.

        The bridge locks a user before its records, too. Two transactions with different orders of locks could
        wait for each other.
        """
        known = UserRow.select(UserRow.version).where(UserRow.user_id == user_id)
        return [row.version for row in self._run(known.for_update() if self._is_postgresql else known)]

    def _delete(self, which: peewee.Expression) -> int:
        """Delete connections; return their number."""
        deletion = ConnectionRow.delete().where(which).returning(ConnectionRow.id)
        gone = [(row.id,) for row in self._run(deletion)]
        self._batches.delete(ActivityRow, (ActivityRow.id,), gone)
        return len(gone)
