"""Reading the database for the API: away from the loop, one question at a time, few waiting."""

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable
from typing import Final, TypeVar

from mqtt_presence.access.rate_limited_log import RateLimitedLog
from mqtt_presence.errors import PresenceError
from mqtt_presence.store.reader import Reader

_complain = RateLimitedLog(logging.getLogger(__name__)).log
T = TypeVar("T")

WAITING: Final = 16
"""Questions that wait at a time; a page asks one or two."""
PATIENCE_S: Final = 5.0
"""How long an answer may take; then whoever asked is told to come again."""
COMPLAIN_S: Final = 10.0


class BusyError(PresenceError):
    """Too many questions wait already."""


class DatabaseReader:
    """The database, read in a thread of its own.

    One thread, because it shares the interpreter with the bridge and the broker: two that convert rows at
    the same time would take two thirds of it from them.

    Args:
        url: of the bridge's database.

    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "web-database")
        self._waiting = 0

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Ask, with a connection of its own, and return the answer.

        Raises:
            BusyError: too many wait.
            StoreError: the database cannot be read.
            ConfigError: there is none yet.

        """
        if self._waiting >= WAITING:
            raise BusyError("too many requests wait for the database")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Answer nothing more; what is being read ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _answer(self, question: Callable[[Reader], T]) -> T:
        try:
            with Reader(self._url, patience_s=PATIENCE_S) as reader:
                return question(reader)
        except PresenceError as error:
            _complain("the page cannot be answered: %s", error)
            raise
