"""The table of outages in a transaction: conditions that hold, raised as alarms or not yet."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import json

from mqtt_presence.store.schema import AlarmRow
from mqtt_presence.store.statements import Statements


class StoredAlarm(NamedTuple):
    """A row of alarms; see `schema.AlarmRow`."""

    condition: str
    subject: str
    since: int
    due_at: int | None
    raised: bool
    times: tuple[int, ...]


_LOCK = 0x6D71_616C  # an advisory lock of the transaction, with a number of this program


class AlarmTable(Statements):
    """The table of outages. One bridge at a time reads alarms and writes what becomes of them."""

    def _lock(self) -> None:
        if self._is_postgresql:
            self._select("SELECT pg_advisory_xact_lock(%s)", [_LOCK])

    def alarms(self, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], StoredAlarm]:
        """Read alarms by condition and subject, to change them."""
        self._lock()
        rows = self._select_each(
            "a.condition, a.subject, a.since, a.due_at, a.raised, a.times",
            "CROSS JOIN notify_alarms a WHERE a.condition = k.column1 AND a.subject = k.column2",
            keys,
        )
        return {(row[0], row[1]): _alarm(row) for row in rows}

    def due_alarms(self, now: int, limit: int) -> list[StoredAlarm]:
        """Read the alarms that are due, to change them, the most overdue first."""
        self._lock()
        rows = self._select(
            "SELECT condition, subject, since, due_at, raised, times FROM notify_alarms "
            f"WHERE due_at <= {self._mark} ORDER BY due_at LIMIT {int(limit)}",
            [now],
        )
        return list(map(_alarm, rows))

    def save_alarms(self, changed: Mapping[tuple[str, str], StoredAlarm | None]) -> None:
        """Write alarms; None deletes."""
        fields = (
            AlarmRow.condition,
            AlarmRow.subject,
            AlarmRow.since,
            AlarmRow.due_at,
            AlarmRow.raised,
            AlarmRow.times,
        )
        self._batches.delete(
            AlarmRow,
            fields[:2],
            [key for key, alarm in sorted(changed.items()) if alarm is None],
        )
        self._batches.upsert(
            AlarmRow,
            fields,
            fields[:2],
            [
                (*key, alarm.since, alarm.due_at, alarm.raised, json.encode(alarm.times).decode())
                for key, alarm in sorted(changed.items())
                if alarm is not None
            ],
        )

    def keep_alarms(self, longest_ms: Mapping[str, int], now: int) -> None:
        """Adapt the alarms of the last run: forget conditions, and cut deadlines that lie too far ahead.

        Args:
            longest_ms: the conditions that count, with the longest time to their deadlines.
            now: by the steady clock, milliseconds.

        """
        self._lock()
        kept = list(longest_ms)
        marks = ", ".join([self._mark] * len(kept))
        where = f" WHERE condition NOT IN ({marks})" if kept else ""
        self._database.execute_sql(f"DELETE FROM notify_alarms{where}", kept)
        self._executemany(
            f"UPDATE notify_alarms SET due_at = {self._mark} WHERE condition = {self._mark} "
            f"AND due_at > {self._mark}",
            [(now + longest, condition, now + longest) for condition, longest in longest_ms.items()],
        )

    def forget_alarms(self, subjects: Iterable[str]) -> None:
        """Delete all alarms of users that were forgotten."""
        self._lock()
        self._batches.delete(AlarmRow, (AlarmRow.subject,), [(subject,) for subject in subjects])

    def next_due_alarm(self) -> int | None:
        """Return the earliest deadline of an alarm, by the steady clock; None: there is none."""
        due: int | None = self._select("SELECT MIN(due_at) FROM notify_alarms", [])[0][0]
        return due

    def online_users(self) -> Iterable[str]:
        """Read the names of all users who are online or idle."""
        return (row[0] for row in self._select("SELECT user_id FROM user_states WHERE online", []))


def _alarm(row: Sequence[Any]) -> StoredAlarm:
    times = json.decode(row[5], type=tuple[int, ...])
    return StoredAlarm(row[0], row[1], row[2], row[3], bool(row[4]), times)
