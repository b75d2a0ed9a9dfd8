"""The history: records that ended long ago. They move here from the tables that the bridge works on.

A record moves once it has ended more than `RECENT_MS` ago, unless it is the newest of its client: the rules
may need that one for a message that comes now (`needs`). So the tables of the bridge stay small, whatever the
retention.
"""

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any, TypeAlias

import peewee

from mqtt_presence.protocol.times import LATEST
from mqtt_presence.rules.model import GUESSED, UserId
from mqtt_presence.store.bridge_tables import BridgeTables
from mqtt_presence.store.database import sqlstate
from mqtt_presence.store.rows import HISTORY_LONGEST
from mqtt_presence.store.schema import HistoryRow

RECENT_MS = 7 * 86_400_000
"""How long every ended record stays with the bridge, milliseconds."""
NEWEST_MS = 90 * 86_400_000
"""How long the newest record of a client stays there after a certain end, milliseconds. A browser has a new
client id for each page, so it would leave all its records there."""

START = (-1, -1)
"""The place before all records."""
Place: TypeAlias = tuple[int, int]
"""The place of a record in its order: a time and the row id."""

_LAST_ID = (1 << 63) - 1
_LOCK_MS = 20
"""How long a change of partitions waits for readers; meanwhile other readers wait for it."""
_LOCK_NOT_AVAILABLE = "55P03"
_TABLE = "connection_history"
_OURS = re.compile(rf"{_TABLE}_\d{{4}}_\d{{2}}", re.ASCII)
_COLUMNS = ", ".join(field.column_name for field in HistoryRow._meta.sorted_fields)


class HistoryBusyError(Exception):
    """Another session uses the history, so that its partitions cannot be changed now."""


class RecordHistory(BridgeTables):
    """Moves records to the history, and deletes old ones, in pages of limited size."""

    def move_ended(self, now: int, after: Place, limit: int) -> tuple[Place | None, int]:
        """Move the records of a page that ended long ago and are not needed any more.

        Args:
            now: the time, epoch milliseconds.
            after: the end and row id that the page begins after, in the order of ends.
            limit: the greatest number of records to look at.

        Returns:
            The place of the last record, None after the last page; and the number of moved records.

        Raises:
            HistoryBusyError: a partition is missing, and cannot be created now.

        """
        rows = self._select(
            f"SELECT r.logout_time, r.id, r.user_id, {self._is_done()} FROM connection_records r "
            f"WHERE r.logout_time < {self._mark} AND (r.logout_time, r.id) > ({self._mark}, {self._mark}) "
            f"ORDER BY r.logout_time, r.id LIMIT {int(limit)}",
            [*self._times(now), now - RECENT_MS, *after],
        )
        done = [row for row in rows if row[3]]
        if self._is_postgresql and done:
            free = self._lock_free_users({row[2] for row in done})
            done = [row for row in done if row[2] in free]
            self._make_partitions(row[0] for row in done)
        moved = self._move([row[1] for row in done], now)
        return (rows[-1][0], rows[-1][1]) if len(rows) == limit else None, moved

    def drop_history(self, before: int) -> bool:
        """Drop the oldest partition whose records all ended before a time; return False if there is none.

        Raises:
            HistoryBusyError: there is one, and it cannot be dropped now.

        """
        if not self._is_postgresql:
            return False
        for name in sorted(self.partitions()):
            if _bounds(name)[1] <= before:
                self._change_partitions(f"DROP TABLE {name}")
                return True
        return False

    def delete_history(self, before: int, after: Place, limit: int) -> Place | None:
        """Delete a page of the history that ended before a time, in the order of ends.

        Args:
            before: the time, epoch milliseconds.
            after: the end and row id that the page begins after. PostgreSQL passes deleted rows otherwise.
            limit: the greatest number of records.

        Returns:
            The place of the last record; None after the last page.

        """
        return self._delete_page("TRUE", "logout_time", [], after, before, limit)[0]

    def delete_history_of(self, user_id: UserId, after: Place, limit: int) -> tuple[Place | None, int]:
        """Delete a page of a user's history, in the order of logins; with the last page what has none.

        Returns:
            The place of the last record, None after the last page; and the number of deleted records.

        """
        of_user = f"user_id = {self._mark}"
        last, deleted = self._delete_page(of_user, "login_time", [user_id], after, LATEST + 1, limit)
        if last is None:  # records of which only the end is known have no place
            sql = f"DELETE FROM {_TABLE} WHERE {of_user} AND login_time IS NULL"
            deleted += self._count_deleted(sql, [user_id])
        return last, deleted

    def partitions(self) -> set[str]:
        """Return the names of the partitions by months, on PostgreSQL."""
        rows = self._select(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            f"WHERE i.inhparent = '{_TABLE}'::regclass",
            [],
        )
        return {row[0] for row in rows if _OURS.fullmatch(row[0])}

    def _is_done(self) -> str:
        """Return the SQL of whether no rule needs a record r; `_times` has its parameters."""
        mark, same = self._mark, "IS NOT DISTINCT FROM" if self._is_postgresql else "IS"
        # Not by EXISTS: PostgreSQL might read a table whole for that.
        first = "LIMIT 1) IS NOT NULL"
        of_client = (
            "(SELECT 1 FROM connection_records n "
            "WHERE n.user_id = r.user_id AND n.client_id = r.client_id AND"
        )
        newer_login = f"{of_client} n.login_order > r.login_order {first}"
        newer_record = f"{of_client} n.id > r.id AND n.origin {same} r.origin {first}"
        is_device = "SUBSTR(COALESCE(r.origin, ''), 1, 8) = 'profile:'"
        guessed = ", ".join(f"'{reason.value}'" for reason in GUESSED)
        return (
            f"(NOT r.live AND r.check_at IS NULL AND r.logout_time < {mark} "
            # The bridge locks users before it changes ended records, and so does the move.
            f"AND (SELECT 1 FROM user_states u WHERE u.user_id = r.user_id {first} AND CASE "
            # An end without a login does not open any more (E1).
            "WHEN r.login_time IS NULL THEN TRUE "
            # After a certain end, all but a device stays away, or comes with another connection id.
            f"WHEN r.logout_time < {mark} AND COALESCE(r.reason, '') NOT IN ({guessed}) "
            f"AND NOT {is_device} THEN TRUE "
            # A device goes on with its newest record (S3).
            f"WHEN {is_device} THEN {newer_record} AND (r.login_order IS NULL OR {newer_login}) "
            # The latest login of a client decides on others (L3, L4, G1).
            f"WHEN r.login_order IS NOT NULL THEN {newer_login} "
            # Without a login: its client's newest record, if there was no login since, may reopen (A3).
            f"ELSE {of_client} n.login_order > r.login_time {first} OR {newer_record} END)"
        )

    @staticmethod
    def _times(now: int) -> list[int]:
        return [now - RECENT_MS, now - NEWEST_MS]

    def _lock_free_users(self, user_ids: Collection[str]) -> set[str]:
        """Lock those of the users that no other transaction has locked; never wait."""
        rows = self._select(
            'SELECT u.user_id FROM user_states u WHERE u.user_id = ANY(%s) ORDER BY u.user_id COLLATE "C" '
            "FOR UPDATE SKIP LOCKED",
            [sorted(user_ids)],
        )
        return {row[0] for row in rows}

    def _move(self, ids: Collection[int], now: int) -> int:
        """Move records by their row ids, except those that are needed again; return their number."""
        if not ids:
            return 0
        rows = self._select(
            f"INSERT INTO {_TABLE} ({_COLUMNS}) SELECT {_COLUMNS} FROM recent_connections r "
            f"WHERE {self._among('r.id', ids)} AND {self._is_done()} RETURNING id, logout_time - login_time",
            [*self._values(ids), *self._times(now)],
        )
        moved = [row[0] for row in rows]
        if moved:
            longest = max((row[1] for row in rows if row[1] is not None), default=0)
            if longest > int(self.read_value(HISTORY_LONGEST) or -1):
                self.write_value(HISTORY_LONGEST, str(longest))
            for table in ("pulses", "connection_records"):
                self._database.execute_sql(
                    f"DELETE FROM {table} WHERE {self._among('id', moved)}", self._values(moved)
                )
        return len(moved)

    def _among(self, column: str, ids: Collection[int]) -> str:
        if self._is_postgresql:
            return f"{column} = ANY(%s)"
        return f"{column} IN ({','.join('?' * len(ids))})"

    def _values(self, ids: Collection[int]) -> list[Any]:
        return [list(ids)] if self._is_postgresql else list(ids)

    def _delete_page(
        self, scope: str, column: str, parameters: list[Any], after: Place, before: int, limit: int
    ) -> tuple[Place | None, int]:
        """Delete a page in the order of a time and the row id: from a place on, and before a time."""
        # By a range: for a list of keys PostgreSQL might read whole partitions. One bound at each end: of two
        # SQLite might choose the wider one for the index.
        mark = self._mark
        place = f"({column}, id) > ({mark}, {mark})"
        rows = self._select(
            f"SELECT {column}, id FROM {_TABLE} WHERE {scope} AND {place} AND {column} < {mark} "
            f"ORDER BY {column}, id LIMIT 1 OFFSET {int(limit) - 1}",
            [*parameters, *after, before],
        )
        last = (rows[0][0], rows[0][1]) if rows else None
        end = (before - 1, _LAST_ID) if last is None else last
        deleted = self._count_deleted(
            f"DELETE FROM {_TABLE} WHERE {scope} AND {column} >= {mark} AND {place} "
            f"AND {column} <= {mark} AND ({column}, id) <= ({mark}, {mark})",
            [*parameters, after[0], *after, end[0], *end],
        )
        return last, deleted

    def _count_deleted(self, sql: str, parameters: Collection[Any]) -> int:
        return int(self._database.execute_sql(sql, parameters).rowcount)

    # Partitions. A new one is made beside the table and then attached, and there is no default partition: so
    # readers, a backup among them, need not wait (PostgreSQL, ALTER TABLE ... ATTACH PARTITION).

    def _make_partitions(self, times: Iterable[int]) -> None:
        """Create the missing partitions for records that ended at some times."""
        names = {_partition(time) for time in times}
        for name in sorted(names - self.partitions()) if names else ():
            begin, end = _bounds(name)
            self._change_partitions(
                f"CREATE TABLE {name} (LIKE {_TABLE} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
                f"ALTER TABLE {_TABLE} ATTACH PARTITION {name} FOR VALUES FROM ({begin}) TO ({end})",
            )

    def _change_partitions(self, *statements: str) -> None:
        """Execute statements that lock the table, unless others use it."""
        try:
            with self._database.atomic():
                self._database.execute_sql(f"SET LOCAL lock_timeout = {_LOCK_MS}")
                for statement in statements:
                    self._database.execute_sql(statement)
                self._database.execute_sql("SET LOCAL lock_timeout TO DEFAULT")
        except peewee.OperationalError as error:
            if sqlstate(error) != _LOCK_NOT_AVAILABLE:
                raise
            raise HistoryBusyError from error


def _partition(time: int) -> str:
    """Return the name of the partition for records that ended at a time, epoch milliseconds."""
    at = datetime.fromtimestamp(time / 1000, UTC)
    return f"{_TABLE}_{at.year:04}_{at.month:02}"


def _bounds(name: str) -> tuple[int, int]:
    """Return the times between which the records of a partition ended, epoch milliseconds."""
    year, month = map(int, name.rsplit("_", 2)[1:])
    following = (year + 1, 1) if month == 12 else (year, month + 1)
    begin, end = (datetime(*at, 1, tzinfo=UTC) for at in ((year, month), following))
    return round(begin.timestamp()) * 1000, round(end.timestamp()) * 1000
