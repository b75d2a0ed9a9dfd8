"""The iterator over changes of the watcher for asyncio."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Self

from mqtt_presence.client.loop_calls import LoopCalls
from mqtt_presence.client.observers import MAX_PENDING
from mqtt_presence.client.status_table import Change
from mqtt_presence.errors import PresenceError
from mqtt_presence.protocol.client_messages import UserStatus


class AsyncChanges(AsyncIterator[Change]):
    """The iterator of `StatusWatcher`: each user's status before and after, in order.

    Ends when the watcher is closed. Keeps up to 100,000 changes until they are fetched, beside the users
    that were present at the beginning.

    Args:
        calls: reaches the event loop from the connection's thread.

    """

    def __init__(self, calls: LoopCalls) -> None:
        self._calls = calls
        self._present: deque[UserStatus] = deque()
        self._pending: deque[Change | None] = deque()
        self._ready = asyncio.Event()
        self._is_wake_up_due = False
        self._is_overrun = False

    def begin(self, present: Iterable[UserStatus]) -> None:
        """Set the users that were present at the beginning. Called before the first change is fetched."""
        self._present.extend(present)

    def put(self, change: Change | None) -> None:
        """Append a change, or None for the end. Never blocks. Called in the connection's thread."""
        if len(self._pending) > MAX_PENDING and change is not None:
            self._is_overrun = True
            return
        self._pending.append(change)
        if not self._is_wake_up_due:  # one wake-up for many changes
            self._is_wake_up_due = True
            self._calls.soon(self._wake_up)

    def _wake_up(self) -> None:
        self._is_wake_up_due = False
        self._ready.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        """Wait for the next change.

        Raises:
            StopAsyncIteration: the watcher was closed.
            PresenceError: changes were fetched too slowly, and some are lost.

        """
        if self._present:
            return Change(None, self._present.popleft())
        while not self._pending:
            if self._is_overrun:
                self._pending.append(None)
                raise PresenceError(f"more than {MAX_PENDING} changes were not fetched: some are lost")
            self._ready.clear()
            if not self._pending:
                await self._ready.wait()
        change = self._pending[0]
        if change is None:  # stays, for the next call
            raise StopAsyncIteration
        self._pending.popleft()
        return change
