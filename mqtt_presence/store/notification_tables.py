"""The tables of notifications in a transaction: the queue, and the receivers' places in it.

The queue's rows are opaque here. A place is the number of a row and a position in it.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from mqtt_presence.store.alarm_table import AlarmTable

_RECEIVER = (
    "name, next_row, next_position, sending_row, sending_position, generation, attempts, attempted_at, "
    "delay_ms, reason, disabled, delivered, failed, dropped"
)
MAX_FAILURES = 10_000
"""The failures of one receiver that are kept for `notify failed`."""

Place = tuple[int, int]


class ReceiverState(NamedTuple):
    """A receiver's row; see `schema.ReceiverRow`."""

    name: str
    next_row: int
    next_position: int
    sending_row: int | None
    sending_position: int | None
    generation: int
    attempts: int
    attempted_at: int | None
    delay_ms: int
    reason: str | None
    disabled: bool
    delivered: int
    failed: int
    dropped: int

    @property
    def next(self) -> Place:
        """The place of the next notification."""
        return self.next_row, self.next_position

    @property
    def sending(self) -> Place | None:
        """The end of the request on its way; None: there is none."""
        if self.sending_row is None or self.sending_position is None:
            return None
        return self.sending_row, self.sending_position


class Failure(NamedTuple):
    """A row of failures; see `schema.FailureRow`."""

    at: int
    notification_id: str
    user_id: str
    event: str
    attempts: int
    reason: str


_QUEUE_LOCK = 0x6D71_6E71  # an advisory lock of the transaction, with a number of this program


class NotificationTables(AlarmTable):
    """The tables of notifications."""

    # The queue.

    def put_notifications(self, at: int, body: bytes) -> int:
        """Append a row to the queue; return its number, which only grows.

        The numbers are in the order of commits, also of several bridges: a sender goes by them.
        """
        if self._is_postgresql:
            self._select("SELECT pg_advisory_xact_lock(%s)", [_QUEUE_LOCK])
        rows = self._select(
            f"INSERT INTO notifications (at, body) VALUES ({self._mark}, {self._mark}) RETURNING id",
            [at, body],
        )
        return int(rows[0][0])

    def notifications(self, from_row: int, limit: int) -> list[tuple[int, int, bytes]]:
        """Read rows of the queue in their order: number, time and content.

        Args:
            from_row: the first number.
            limit: the greatest number of rows.

        """
        rows = self._select(
            f"SELECT id, at, body FROM notifications WHERE id >= {self._mark} ORDER BY id LIMIT {int(limit)}",
            [from_row],
        )
        return [(row[0], row[1], bytes(row[2])) for row in rows]

    def next_notification_row(self) -> int:
        """Return the number after the last row."""
        return int(self._select("SELECT COALESCE(MAX(id), 0) + 1 FROM notifications", [])[0][0])

    def first_notification_row(self, since: int) -> int:
        """Return the first row that was made at a time, by the steady clock, or later."""
        rows = self._select(f"SELECT MIN(id) FROM notifications WHERE at >= {self._mark}", [since])
        return self.next_notification_row() if rows[0][0] is None else int(rows[0][0])

    def old_notifications(self, before: int, limit: int) -> list[tuple[int, int, bytes]]:
        """Read the oldest rows if they were made before a time; never the last row, whose number counts."""
        rows = self._select(
            f"SELECT id, at, body FROM notifications WHERE id < (SELECT MAX(id) FROM notifications) "
            f"ORDER BY id LIMIT {int(limit)}",
            [],
        )
        return [(row[0], row[1], bytes(row[2])) for row in rows if row[1] < before]

    def delete_notifications(self, up_to: int) -> None:
        """Delete rows up to a number."""
        self._database.execute_sql(f"DELETE FROM notifications WHERE id <= {self._mark}", [up_to])

    # Receivers.

    def receivers(self) -> dict[str, ReceiverState]:
        """Read the states of all receivers by name."""
        return {row[0]: _state(row) for row in self._select(f"SELECT {_RECEIVER} FROM notify_receivers", [])}

    def receiver(self, name: str) -> ReceiverState | None:
        """Read the state of a receiver; None: it has no row."""
        rows = self._select(f"SELECT {_RECEIVER} FROM notify_receivers WHERE name = {self._mark}", [name])
        return _state(rows[0]) if rows else None

    def set_receivers(self, names: Collection[str]) -> None:
        """Give new receivers a place at the end of the queue, and forget those with other names."""
        known = self.receivers()
        begin = self.next_notification_row()
        self._executemany(
            f"INSERT INTO notify_receivers ({_RECEIVER}) VALUES ({self._mark}, {self._mark}, "
            "0, NULL, NULL, 0, 0, NULL, 0, NULL, FALSE, 0, 0, 0)",
            [(name, begin) for name in names if name not in known],
        )
        for name in known.keys() - set(names):
            for table, column in (
                ("notify_receivers", "name"),
                ("notify_held", "receiver"),
                ("notify_failures", "receiver"),
            ):
                self._database.execute_sql(f"DELETE FROM {table} WHERE {column} = {self._mark}", [name])

    def update_receiver(self, name: str, generation: int, **values: Any) -> bool:
        """Set columns of a receiver, unless another process has moved it since.

        Args:
            name: of the receiver.
            generation: under which the receiver was read.
            values: the columns; `delivered`, `failed` and `dropped` are added to.

        Returns:
            Whether the generation is still the same.

        """
        sums = ("delivered", "failed", "dropped")
        sets = [
            f"{column} = {column} + {self._mark}" if column in sums else f"{column} = {self._mark}"
            for column in values
        ]
        rows = self._select(
            f"UPDATE notify_receivers SET {', '.join(sets)} "
            f"WHERE name = {self._mark} AND generation = {self._mark} RETURNING name",
            [*values.values(), name, generation],
        )
        return bool(rows)

    def replay(self, name: str, since: int) -> bool:
        """Move a receiver to the first row made at a time, and enable it; return whether it exists.

        Args:
            name: of the receiver.
            since: by the steady clock, milliseconds.

        """
        self._database.execute_sql(f"DELETE FROM notify_held WHERE receiver = {self._mark}", [name])
        rows = self._select(
            f"UPDATE notify_receivers SET generation = generation + 1, next_row = {self._mark}, "
            "next_position = 0, sending_row = NULL, sending_position = NULL, attempts = 0, "
            "attempted_at = NULL, delay_ms = 0, reason = NULL, disabled = FALSE "
            f"WHERE name = {self._mark} RETURNING name",
            [self.first_notification_row(since), name],
        )
        return bool(rows)

    # Alarms that wait for the end of quiet hours.

    def hold(self, name: str, held: Iterable[tuple[str, bytes]]) -> None:
        """Keep notifications for later, each with the key of its outage."""
        marks = ", ".join([self._mark] * 3)
        self._executemany(
            f"INSERT INTO notify_held (receiver, outage, body) VALUES ({marks})",
            [(name, outage, body) for outage, body in held],
        )

    def held(self, name: str, limit: int) -> list[tuple[int, bytes]]:
        """Read the held notifications of a receiver with their numbers, the oldest first."""
        rows = self._select(
            f"SELECT id, body FROM notify_held WHERE receiver = {self._mark} ORDER BY id LIMIT {int(limit)}",
            [name],
        )
        return [(row[0], bytes(row[1])) for row in rows]

    def held_outages(self, name: str) -> set[str]:
        """Read the keys of the outages of which something is held."""
        rows = self._select(f"SELECT outage FROM notify_held WHERE receiver = {self._mark}", [name])
        return {row[0] for row in rows}

    def count_held(self, name: str) -> int:
        """Return the number of held notifications of a receiver."""
        rows = self._select(f"SELECT COUNT(*) FROM notify_held WHERE receiver = {self._mark}", [name])
        return int(rows[0][0])

    def drop_held(self, name: str, outages: Collection[str]) -> None:
        """Delete what is held of some outages."""
        self._executemany(
            f"DELETE FROM notify_held WHERE receiver = {self._mark} AND outage = {self._mark}",
            [(name, outage) for outage in outages],
        )

    def delete_held(self, numbers: Iterable[int]) -> None:
        """Delete held notifications by their numbers."""
        self._executemany(
            f"DELETE FROM notify_held WHERE id = {self._mark}", [(number,) for number in numbers]
        )

    # Failures.

    def put_failures(self, name: str, failures: Sequence[Failure]) -> None:
        """Record notifications that were given up; of each receiver the latest ones are kept."""
        marks = ", ".join([self._mark] * 7)
        self._executemany(
            "INSERT INTO notify_failures (receiver, at, notification_id, user_id, event, attempts, reason) "
            f"VALUES ({marks})",
            [(name, *failure) for failure in failures],
        )
        self._database.execute_sql(
            f"DELETE FROM notify_failures WHERE receiver = {self._mark} AND id <= (SELECT MAX(id) FROM "
            f"notify_failures WHERE receiver = {self._mark}) - {MAX_FAILURES}",
            [name, name],
        )

    def failures(self, name: str, limit: int) -> list[Failure]:
        """Read the latest failures of a receiver, the newest first."""
        rows = self._select(
            "SELECT at, notification_id, user_id, event, attempts, reason FROM notify_failures "
            f"WHERE receiver = {self._mark} ORDER BY id DESC LIMIT {int(limit)}",
            [name],
        )
        return [Failure(*row) for row in rows]


def _state(row: Sequence[Any]) -> ReceiverState:
    state = ReceiverState(*row)
    return state._replace(disabled=bool(state.disabled))
