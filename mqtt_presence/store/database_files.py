"""The files of an SQLite database: whether the open files are still at their paths.

SQLite goes on writing into a file that was deleted, moved or replaced, where no other process finds it.
"""

import os
from pathlib import Path

import peewee

from mqtt_presence.errors import ReplacedError, StoreError

_SUFFIXES = ("", "-wal", "-shm")


class DatabaseFiles:
    """Compares the files that a connection has open with the files at their paths.

    Args:
        database: the SQLite database.
        file: the path of its file, without symbolic links.

    """

    def __init__(self, database: peewee.SqliteDatabase, file: str) -> None:
        self._database = database
        self._file = file
        self._paths = [file + suffix for suffix in _SUFFIXES]
        self._opened: list[tuple[int, int] | None] = []
        self._are_replaced = False

    def note_opened(self) -> None:
        """Record which files the connection has opened; to be called in a transaction."""
        if not self._opened:
            self._opened = [identity_of(path) for path in self._paths]

    def note_closed(self) -> None:
        """Record that the connection is closed."""
        self._opened, self._are_replaced = [], False

    def require_in_place(self) -> None:
        """Check that other processes find the committed data: the open files are at their paths.

        Raises:
            StoreError: the files are no longer at their paths.

        """
        if self._opened != [identity_of(path) for path in self._paths]:
            self._are_replaced = True
            raise StoreError(f"the files of the database {self._file} are not at their paths any more")

    def recover(self) -> None:
        """After `require_in_place` has failed, continue only with the files at the paths.

        First the log is written into the file of the database, wherever that file is now. If only the log was
        removed, the connection is closed, and the next one begins another log.

        Raises:
            StoreError: the path has no file, or other processes use the database with another log.
            ReplacedError: the path has another database.

        """
        if not self._are_replaced:
            return
        at_paths = [identity_of(path) for path in self._paths]
        if at_paths == self._opened:
            self._are_replaced = False
            return
        is_busy, *_ = self._database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if at_paths[0] == self._opened[0]:
            log = self._paths[1]
            is_others = at_paths[1] not in {None, self._opened[1]} and Path(log).stat().st_size > 0
            if is_busy or is_others:
                raise StoreError(f"{log} was deleted or replaced while another process uses the database")
            self._database.close()
            self.note_closed()
            return
        if at_paths[0] is None or Path(self._file).stat().st_size == 0:
            raise StoreError(f"the database {self._file} was deleted or moved away: put it back")
        raise ReplacedError(
            f"another file is now at {self._file}: nothing more is acknowledged; "
            "start the bridge again to use that file"
        )


def identity_of(file: str | int) -> tuple[int, int] | None:
    """Return the device and inode of a file, by its path or descriptor; None if there is no file."""
    try:
        found = os.stat(file)  # noqa: PTH116 - pathlib takes no descriptor
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
