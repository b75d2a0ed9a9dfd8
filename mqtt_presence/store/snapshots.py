"""Snapshots of users for comparison: the row and the live connections of one moment, and contradictions."""

from collections.abc import Iterator, Sequence

from mqtt_presence.rules.model import Connection, Key, UserId, UserPresence
from mqtt_presence.store.read_connection import ReadConnection
from mqtt_presence.store.rows import (
    CONNECTION_COLUMNS,
    USER_COLUMNS,
    VERSION_FLOOR,
    to_connection,
    to_presence,
)


class Snapshots(ReadConnection):
    """Reads users together with their live connections."""

    def presences(self, user_ids: Sequence[UserId]) -> dict[UserId, UserPresence]:
        """Read users with their live connections; `status` is None for a user without a row."""
        with self._one_moment():
            return self._presences(user_ids)

    def presences_page(self, *, after: str, limit: int) -> list[UserPresence]:
        """Read a page of users with their live connections, in the order of names.

        Args:
            after: the name that the page begins after.
            limit: the greatest number of users.

        """
        with self._one_moment():
            rows = self._select(
                f"SELECT u.user_id FROM user_states u WHERE u.user_id > {self._mark} "
                f"ORDER BY u.user_id LIMIT {int(limit)}",
                [after],
            )
            return list(self._presences([UserId(row[0]) for row in rows]).values())

    def inconsistent_users(self, among: Sequence[UserId] | None = None) -> set[UserId]:
        """Return the users whose row contradicts itself, and those with live connections but no row.

        Args:
            among: only of these users, which costs in proportion to them; None: of all.

        """
        if among is not None and not among:
            return set()
        users, records = "user_states u", "connection_records c"
        of_user = of_record = ""
        if among is not None:
            users, records = (f"{self._keys(among)} CROSS JOIN {table}" for table in (users, records))
            of_user, of_record = (f"{name}.user_id = k.column1 AND" for name in ("u", "c"))
        contradictory = self._select(
            f"SELECT u.user_id FROM {users} WHERE {of_user} (u.online <> (u.state <> 'offline') "
            "OR (u.idle IS NULL) <> (u.state = 'offline') OR u.idle <> (u.state = 'idle'))",
            among or [],
        )
        rowless = self._select(
            f"SELECT DISTINCT c.user_id FROM {records} WHERE {of_record} c.live "
            "AND NOT EXISTS (SELECT 1 FROM user_states u WHERE u.user_id = c.user_id)",
            among or [],
        )
        return {UserId(row[0]) for row in (*contradictory, *rowless)}

    def value(self, name: str) -> str | None:
        """Return a named value of the bridge."""
        rows = self._select(f"SELECT b.value FROM bridge b WHERE b.name = {self._mark}", [name])
        return str(rows[0][0]) if rows else None

    def _presences(self, user_ids: Sequence[UserId]) -> dict[UserId, UserPresence]:
        if not user_ids:
            return {}
        among = f"IN ({','.join([self._mark] * len(user_ids))})"
        connections: dict[UserId, dict[Key, Connection]] = {user_id: {} for user_id in user_ids}
        for record in self._live_of(user_ids):
            connections[record.user_id][record.client_id, record.connection_id] = record
        rows = self._select(f"SELECT {USER_COLUMNS} FROM user_states u WHERE u.user_id {among}", user_ids)
        users = {row[0]: to_presence(row, connections[row[0]], {}) for row in rows}
        version = int(self.value(VERSION_FLOOR) or 0)
        return {
            user_id: users.get(user_id)
            or UserPresence(user_id=user_id, version=version, connections=connections[user_id])
            for user_id in user_ids
        }

    def _live_of(self, user_ids: Sequence[UserId], condition: str = "") -> Iterator[Connection]:
        """Read the live connections c of users."""
        rows = self._select(
            f"SELECT {CONNECTION_COLUMNS} FROM {self._keys(user_ids)} CROSS JOIN recent_connections c "
            f"WHERE c.live AND c.user_id = k.column1 {condition}",
            user_ids,
        )
        return map(to_connection, rows)
