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

    def __init__(self, database: peewee.SqliteDatabase, file: Path) -> None:
        self._database = database
        self._file = file
        self._opened: dict[Path, tuple[int, int] | None] = {}

    def note(self) -> None:
        """Remember which files the connection has opened; to be called in a transaction."""
        if not self._opened:
            self._opened = {file: which(file) for file in (beside(self._file, s) for s in _SUFFIXES)}

    def closed(self) -> None:
        """Take note that the connection is closed."""
        self._opened = {}

    def require(self) -> None:
        """Make sure that what is committed is where others find it.

        Raises:
            StoreError: the files are not at their paths any more.

        """
        if not self._are_there():
            raise StoreError(f"the files of the database {self._file} are not at their paths any more")

    def mend(self) -> None:
        """Go on only with what is at the paths.

        What the connection alone has is saved before, into the file of the database, wherever that is now. If
        only the log is gone, the connection is closed, to begin another log.

        Raises:
            StoreError: there is nothing at the path, or others use the database without our log.
            ReplacedError: there is another database.

        """
        if self._are_there():
            return
        is_busy, *_ = self._database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        now = which(self._file)
        if now == self._opened[self._file]:
            log = beside(self._file, "-wal")
            is_others = which(log) not in {None, self._opened[log]} and log.stat().st_size > 0
            if is_busy or is_others:
                raise StoreError(f"{log} was deleted or replaced while another process uses the database")
            self._database.close()
            self.closed()
            return
        if now is None or self._file.stat().st_size == 0:
            raise StoreError(f"the database {self._file} was deleted or moved away: put it back")
        raise ReplacedError(
            f"another file is now at {self._file}: nothing more is acknowledged; "
            "start the bridge again to use that file"
        )

    def _are_there(self) -> bool:
        return all(which(file) == opened for file, opened in self._opened.items())


def which(file: Path | int) -> tuple[int, int] | None:
    """Return what tells a file from others, by its path or descriptor; None: there is none."""
    try:
        found = os.stat(file)  # noqa: PTH116 - pathlib takes no descriptor
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def beside(file: Path, suffix: str) -> Path:
    """Name a file beside another one, as SQLite does."""
    return file.with_name(file.name + suffix)
