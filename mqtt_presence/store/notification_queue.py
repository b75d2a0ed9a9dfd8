"""The queue of notifications as a sender uses it: by a connection of its own, in short transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import peewee

from mqtt_presence.store.database import connect, is_postgresql, open_connection, store_errors
from mqtt_presence.store.notification_tables import NotificationTables

# The cursor of a receiver may be lost in a power cut: what was delivered is delivered again, under the same
# id. So a write here waits for no disk. Checkpoints are left to the bridge.
_PRAGMAS = {"synchronous": "normal", "wal_autocheckpoint": 0, "cache_size": -2000}
_WAIT_S = 1.0
_PATIENCE_S = 20.0


class NotificationQueue:
    """A sender's connection to the database. One thread uses it.

    Args:
        url: see `database.connect`.

    """

    def __init__(self, url: str) -> None:
        self._database = connect(url, patience_s=_PATIENCE_S)
        self._is_postgresql = is_postgresql(self._database)
        if isinstance(self._database, peewee.SqliteDatabase):
            # mode=rw: a file that was deleted is not made again, which only the bridge may do.
            file = f"{Path(self._database.database).absolute().as_uri()}?mode=rw"
            self._database = peewee.SqliteDatabase(
                file, pragmas=_PRAGMAS, timeout=_WAIT_S, lock_type="IMMEDIATE", uri=True
            )

    @contextmanager
    def transaction(self) -> Iterator[NotificationTables]:
        """Begin a transaction, committed at the end of the block.

        Raises:
            StoreError: the transaction is undone.

        """
        with self._connected(), self._database.atomic():
            yield NotificationTables(self._database, is_postgresql=self._is_postgresql)

    @contextmanager
    def reading(self) -> Iterator[NotificationTables]:
        """Read without holding up the bridge.

        Raises:
            StoreError: the database cannot be read.

        """
        with self._connected():
            if self._is_postgresql:
                with self._database.atomic():
                    yield NotificationTables(self._database, is_postgresql=True)
            else:
                yield NotificationTables(self._database, is_postgresql=False)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Connect; on SQLite for this block only, because the file may be replaced in between."""
        try:
            with store_errors("use the queue of notifications"):
                open_connection(self._database)
                yield
        except BaseException:
            self.close()
            raise
        if not self._is_postgresql:
            self.close()

    def close(self) -> None:
        """Disconnect."""
        if not self._database.is_closed():
            self._database.close()
