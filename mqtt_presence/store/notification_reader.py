"""The notifications of a database that a bridge may be using, for commands that only read."""

from collections.abc import Iterator
from contextlib import contextmanager

from mqtt_presence.store.notification_tables import NotificationTables
from mqtt_presence.store.read_connection import ReadConnection


class NotificationReader(ReadConnection):
    """Reads the tables of notifications."""

    @contextmanager
    def tables(self) -> Iterator[NotificationTables]:
        """Read in this block.

        Raises:
            StoreError: the database cannot be read.

        """
        with self._reading():
            yield NotificationTables(self._database, is_postgresql=not self._is_sqlite)
