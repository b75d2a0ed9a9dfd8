"""The files of an SQLite database: whether those that are open are still those at their paths.

SQLite writes on into a file that was deleted, moved or replaced, where nobody else finds it.
"""

import os
from pathlib import Path

import peewee

from mqtt_presence.errors import ReplacedError, StoreError

_SUFFIXES = ("", "-wal", "-shm")


class Files:
    """Watches the files of a database while a connection has them open.

    Args:
        database: of SQLite.
        file: its path, without links.

    """

    def __init__(self, database: peewee.SqliteDatabase, file: str) -> None:
        self._database = database
        self._file = file
        self._paths = [file + suffix for suffix in _SUFFIXES]
        self._opened: list[tuple[int, int] | None] = []
        self._are_gone = False

    def note(self) -> None:
        """Remember which files the connection has opened; to be called in a transaction."""
        if not self._opened:
            self._opened = [which(path) for path in self._paths]

    def closed(self) -> None:
        """Take note that the connection is closed."""
        self._opened, self._are_gone = [], False

    def require(self) -> None:
        """Make sure that what is committed is where others find it.

        Raises:
            StoreError: the files are not at their paths any more.

        """
        if self._opened != [which(path) for path in self._paths]:
            self._are_gone = True
            raise StoreError(f"the files of the database {self._file} are not at their paths any more")

    def mend(self) -> None:
        """After that, go on only with what is at the paths.

        What the connection alone has is saved before, into the file of the database, wherever that is now. If
        only the log is gone, the connection is closed, to begin another log.

        Raises:
            StoreError: there is nothing at the path, or others use the database without our log.
            ReplacedError: there is another database.

        """
        if not self._are_gone:
            return
        at_paths = [which(path) for path in self._paths]
        if at_paths == self._opened:
            self._are_gone = False
            return
        is_busy, *_ = self._database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if at_paths[0] == self._opened[0]:
            log = self._paths[1]
            is_others = at_paths[1] not in {None, self._opened[1]} and Path(log).stat().st_size > 0
            if is_busy or is_others:
                raise StoreError(f"{log} was deleted or replaced while another process uses the database")
            self._database.close()
            self.closed()
            return
        if at_paths[0] is None or Path(self._file).stat().st_size == 0:
            raise StoreError(f"the database {self._file} was deleted or moved away: put it back")
        raise ReplacedError(
            f"another file is now at {self._file}: nothing more is acknowledged; "
            "start the bridge again to use that file"
        )


def which(file: str | int) -> tuple[int, int] | None:
    """Return what tells a file from others, by its path or descriptor; None: there is none."""
    try:
        found = os.stat(file)  # noqa: PTH116 - pathlib takes no descriptor
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
