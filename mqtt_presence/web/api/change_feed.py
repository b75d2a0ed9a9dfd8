"""The change feed: the newest entries of the change log, read once for all streams of a server."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from mqtt_presence.store.change_log import Entry
from mqtt_presence.store.reader import Reader
from mqtt_presence.web.database_reader import DatabaseReader

ENTRIES: Final = 32
"""Entries in one read."""
KEPT_BYTES: Final = 4 << 20
"""The size of the entries in memory; a stream that is further behind reads for itself."""
POLL_S: Final = 1.0
"""Seconds after which the log is read without a sign: other processes write it, too (`forget`)."""
TURNS: Final = 4
"""Queries of streams in progress or waiting; the others come after them."""
PACE_S: Final = 0.05
"""Seconds between two reads: a stream needs no more than twenty pictures a second."""

T = TypeVar("T")


class ChangeFeed:
    """Hands the entries of the change log to streams.

    Args:
        database: reads the log.

    """

    def __init__(self, database: DatabaseReader) -> None:
        self._database = database
        self._turns = asyncio.Semaphore(TURNS)
        self._entries: deque[Entry] = deque()
        self._size = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sign = asyncio.Event()
        self._reading = asyncio.Lock()
        self._read_s = 0.0
        self._is_dirty = True
        self._waiting = 0
        self.is_closed = False

    def notify(self) -> None:
        """Give the sign that the log may have new entries. From any thread; returns at once."""
        self._is_dirty = True
        loop = self._loop
        if loop is not None and self._waiting:
            with suppress(RuntimeError):  # the loop has just ended
                loop.call_soon_threadsafe(self._sign.set)

    def close(self) -> None:
        """End all streams. From any thread."""
        self.is_closed = True
        self.notify()

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Run a query for a stream: a few at a time, so that requests find room between them.

        Raises:
            BusyError: too many queries are waiting.
            StoreError: the database cannot be read.
            ConfigError: the database does not exist.

        """
        async with self._turns:
            return await self._database.ask(question)

    async def after(self, number: int) -> Sequence[Entry] | None:
        """Return entries after one, none if there are none yet; None: that entry is not kept any longer.

        Raises:
            PresenceError: see `ask`.

        """
        known = self._known_after(number)
        if known == [] and self._must_read():
            async with self._reading:
                known = self._known_after(number)
                if known == [] and self._must_read():
                    if not await self._read_on():
                        return None
                    known = self._known_after(number)
        if known is not None:
            return known
        found = await self._entries_from(number)
        if found is None:
            return None
        if not self._entries or self._entries[-1].number < found[-1].number:
            self._entries.clear()
            self._size = 0
            self._is_dirty = True
            self._extend(found)
        return found[1:]

    async def wait(self, timeout_s: float) -> None:
        """Wait for the sign, or for the next poll, or until the time is over."""
        self._loop = asyncio.get_running_loop()
        self._waiting += 1
        if self._is_dirty:
            self._sign.set()
        try:
            async with asyncio.timeout(min(timeout_s, POLL_S)):
                await self._sign.wait()
                await asyncio.sleep(self._read_s + PACE_S - time.monotonic())
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1

    def _known_after(self, number: int) -> list[Entry] | None:
        """Return the entries in memory after one; None: others are between. Numbers have no gap."""
        if not self._entries or not self._entries[0].number - 1 <= number <= self._entries[-1].number:
            return None
        return [entry for entry in self._entries if entry.number > number]

    def _must_read(self) -> bool:
        return self._is_dirty or time.monotonic() - self._read_s >= POLL_S

    async def _read_on(self) -> bool:
        """Read the entries after the last one; return False if that one is not kept any longer."""
        self._is_dirty = False
        self._sign.clear()
        try:
            found = await self._entries_from(self._entries[-1].number)
        except BaseException:
            self._is_dirty = True
            raise
        self._read_s = time.monotonic()
        if found is None:
            self._entries.clear()
            return False
        self._is_dirty = self._is_dirty or len(found) == ENTRIES
        self._extend(found[1:])
        return True

    async def _entries_from(self, number: int) -> list[Entry] | None:
        return await self.ask(lambda reader: reader.entries_from(number, ENTRIES))

    def _extend(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._entries.append(entry)
            self._size += entry.size
        while len(self._entries) > 1 and self._size > KEPT_BYTES:
            self._size -= self._entries.popleft().size
