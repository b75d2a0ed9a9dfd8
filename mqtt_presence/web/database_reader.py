"""Database queries of the API: in a thread of their own, one at a time, with a short queue."""

import asyncio
import concurrent.futures
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from mqtt_presence.access.rate_limited_log import RateLimitedLog
from mqtt_presence.errors import PresenceError
from mqtt_presence.store.reader import Reader

_log = RateLimitedLog(logging.getLogger(__name__)).log
T = TypeVar("T")

WAITING: Final = 16
"""Queries in progress or waiting, at most; a page sends one or two."""
KEPT_S: Final = 1.0
"""Seconds for which a connection to PostgreSQL is kept; to open one takes longer than most queries."""
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
        self._kept: Reader | None = None
        self._opened_s = 0.0

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Run a query, and return its result.

        Raises:
            BusyError: too many queries are waiting.
            StoreError: the database cannot be read.
            ConfigError: the database does not exist yet.

        """
        if self._waiting >= WAITING:
            raise BusyError("too many requests wait for the database")
        self._waiting += 1
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._answer, question)
        finally:
            self._waiting -= 1
            if self._kept is not None and not self._waiting:
                loop.call_later(KEPT_S, self._close_when_idle)

    def close(self) -> None:
        """Cancel the waiting queries; a query in progress ends by itself."""
        with suppress(RuntimeError):  # a second call
            self._thread.submit(self._close_kept)
        self._thread.shutdown(wait=False, cancel_futures=False)

    def _answer(self, question: Callable[[Reader], T]) -> T:
        try:
            answer = question(self._reader())
        except PresenceError as error:
            self._close_kept()
            _log("the page cannot read the database: %s", error)
            raise
        except BaseException:
            self._close_kept()
            raise
        if self._kept is not None and not self._kept.is_slow_to_open:
            self._close_kept()
        return answer

    def _reader(self) -> Reader:
        """Return a database connection that is younger than `KEPT_S`."""
        if self._kept is not None and time.monotonic() - self._opened_s > KEPT_S:
            self._close_kept()
        if self._kept is None:
            self._kept = Reader(self._url, patience_s=QUERY_S).__enter__()
            self._opened_s = time.monotonic()
        return self._kept

    def _close_kept(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.__exit__(None, None, None)

    def _close_when_idle(self) -> None:
        if not self._waiting and self._kept is not None:
            with suppress(RuntimeError):  # the server has just ended
                self._thread.submit(self._close_kept)
