"""The change log: each change of a user's row, for a while, in the order of commits; written and read here.

A stream of statuses continues from it, after a lost connection or a restart, without a gap.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from mqtt_presence.errors import StoreError
from mqtt_presence.protocol.outgoing import encode_forgotten
from mqtt_presence.protocol.publications import encode_presence
from mqtt_presence.protocol.times import wall_clock
from mqtt_presence.rules.model import UserId, UserPresence
from mqtt_presence.store.pages import Pages
from mqtt_presence.store.rows import to_presence
from mqtt_presence.store.statements import Statements

KEPT_MS: Final = 3_600_000
"""The time for which entries are kept, milliseconds."""
KEPT_BYTES: Final = 16 << 20
"""The size of the kept entries; older ones are deleted before their time."""
LOG_NAME: Final = "change_log"
"""The name of a value of the bridge: a random name of this log, so that no place of another log fits."""
_PORTION: Final = 64
_TRIM_EVERY: Final = 32
_EMPTY: Final = b"\x90"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[list[Any]]).decode


class UserChange:
    """One change of one user, in an entry of the log."""

    __slots__ = ("_bodies", "_row", "user_id")

    def __init__(self, row: Sequence[Any]) -> None:
        self.user_id = UserId(row[0])
        self._row = row
        self._bodies: dict[bool, bytes] = {}

    @property
    def is_forgotten(self) -> bool:
        """Whether the user was forgotten."""
        return len(self._row) == 1

    def body(self, private: bool) -> bytes:
        """Return the status after the change in JSON, or the name of a forgotten user; made once.

        Args:
            private: whether to include addresses and user agents.

        """
        if private not in self._bodies:
            self._bodies[private] = (
                encode_forgotten(self.user_id)
                if self.is_forgotten
                else encode_presence(to_presence(self._row, {}, {}), private=private)
            )
        return self._bodies[private]


class Entry:
    """The changes of one transaction."""

    def __init__(self, number: int, body: bytes) -> None:
        self.number = number
        self.size = len(body)
        self._body = body

    @functools.cached_property
    def changes(self) -> list[UserChange]:
        """The changes in their order."""
        return [UserChange(row) for row in _decode(self._body)]


class ChangeLogWriter(Statements):
    """Writes the log, in the transaction that changes the users."""

    now: Callable[[], int] = staticmethod(wall_clock)
    """Returns the time, epoch milliseconds."""

    def log_changes(self, rows: Sequence[Sequence[Any]]) -> None:
        """Append an entry: rows of `USER_FIELDS`, or of a name alone for a forgotten user."""
        self._append(_encode(rows))

    def trim_change_log(self, now: int) -> int:
        """Delete the oldest entries that are beyond the time or the size, a portion; return their number.

        The newest entry stays. An old one is followed by an empty one first, so that no name stays in a quiet
        database.

        Args:
            now: epoch milliseconds.

        """
        ((newest, total, time),) = self._select(
            "SELECT id, total, time FROM changes ORDER BY id DESC LIMIT 1", []
        )
        if time < now - KEPT_MS and self._select(
            f"SELECT 1 FROM changes WHERE id = {self._mark} AND body <> {self._mark}", [newest, _EMPTY]
        ):
            newest = self._append(_EMPTY)
        oldest = self._select(f"SELECT id, total, time FROM changes ORDER BY id LIMIT {_PORTION}", [])
        obsolete = [
            row[0]
            for row in oldest
            if row[0] < newest and (row[1] < total - KEPT_BYTES or row[2] < now - KEPT_MS)
        ]
        if obsolete:
            self._database.execute_sql(f"DELETE FROM changes WHERE id <= {self._mark}", [obsolete[-1]])
        return len(obsolete)

    def _append(self, body: bytes) -> int:
        # Of two transactions that choose the same id, one waits for the other's commit and tries again.
        # So ids are in the order of commits, without another lock.
        while True:
            appended = self._select(
                f"INSERT INTO changes (id, time, total, body) "
                f"SELECT c.id + 1, {self._cast}, c.total + {self._cast}, {self._mark} FROM changes c "
                "WHERE c.id = (SELECT MAX(id) FROM changes) ON CONFLICT (id) DO NOTHING RETURNING id",
                [self.now(), len(body), body],
            )
            if appended:
                break
            if not self._select("SELECT 1 FROM changes LIMIT 1", []):
                raise StoreError(
                    "the table changes has no row: its last one was deleted; insert (0, 0, 0, '')"
                )
        number = int(appended[0][0])
        if number % _TRIM_EVERY == 0 and body != _EMPTY:
            self.trim_change_log(self.now())
        return number

    @property
    def _cast(self) -> str:
        return f"CAST({self._mark} AS BIGINT)"


class ChangeLogReader(Pages):
    """Reads the log."""

    def change_log_name(self) -> str:
        """Return the random name of this log."""
        rows = self._select(f"SELECT b.value FROM bridge b WHERE b.name = {self._mark}", [LOG_NAME])
        return str(rows[0][0]) if rows else ""

    def newest_entry(self) -> Entry:
        """Return the newest entry."""
        (row,) = self._select("SELECT id, body FROM changes ORDER BY id DESC LIMIT 1", [])
        return Entry(row[0], bytes(row[1]))

    def entries_from(self, number: int, limit: int) -> list[Entry] | None:
        """Read a page of entries, beginning with the one of a number; None: it is not kept any longer."""
        rows = self._select(
            f"SELECT id, body FROM changes WHERE id >= {self._mark} ORDER BY id LIMIT {int(limit)}", [number]
        )
        if not rows or rows[0][0] != number:
            return None
        return [Entry(row[0], bytes(row[1])) for row in rows]

    def changes_and_users(
        self, number: int, most: int, **page: Any
    ) -> tuple[list[Entry], list[UserPresence]] | None:
        """Read entries as `entries_from` does, and, if these are the last ones, users of the same moment.

        Args:
            number: the entry to begin with.
            most: the greatest number of entries.
            page: arguments of `users_page`, or `names` of users.

        """
        with self._one_moment():
            entries = self.entries_from(number, most)
            if entries is None:
                return None
            if len(entries) == most:
                return entries, []
            users = self.users_named(page["names"]) if "names" in page else self.users_page(**page)
            return entries, users
