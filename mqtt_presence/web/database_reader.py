"""Database queries of the API: in a thread of their own, one at a time, with a short queue."""

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable
from typing import Final, TypeVar

from mqtt_presence.access.rate_limited_log import RateLimitedLog
from mqtt_presence.errors import PresenceError
from mqtt_presence.store.reader import Reader

_log = RateLimitedLog(logging.getLogger(__name__)).log
T = TypeVar("T")

WAITING: Final = 16
"""Queries in progress or waiting, at most; a page sends one or two."""
QUERY_S: Final = 5.0
"""Seconds that a query may take; then the request is answered with 503."""


class BusyError(PresenceError):
    """Too many queries are waiting."""


class DatabaseReader:
    """Reads the database in one thread of its own.

    The thread shares the interpreter with the bridge and the broker. Two threads that convert rows would
    leave them a third of it.

    Args:
        url: the URL of the bridge's database.

    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "web-database")
        self._waiting = 0

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Run a query on a database connection of its own, and return its result.

        Raises:
            BusyError: too many queries are waiting.
            StoreError: the database cannot be read.
            ConfigError: the database does not exist yet.

        """
        if self._waiting >= WAITING:
            raise BusyError("too many requests wait for the database")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Cancel the waiting queries; a query in progress ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _answer(self, question: Callable[[Reader], T]) -> T:
        try:
            with Reader(self._url, patience_s=QUERY_S) as reader:
                return question(reader)
        except PresenceError as error:
            _log("the page cannot read the database: %s", error)
            raise
