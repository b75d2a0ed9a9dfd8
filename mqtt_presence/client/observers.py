"""Observers of a watcher: callbacks for users that match a predicate, and iterators over all changes."""

import logging
import queue
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

from mqtt_presence.client.status_table import Change
from mqtt_presence.errors import PresenceError
from mqtt_presence.protocol.client_messages import UserStatus

_log = logging.getLogger("mqtt_presence.client")

Predicate = Callable[[UserStatus], bool]
Callback = Callable[[UserStatus], object]
ChangeCallback = Callable[[UserStatus, UserStatus], object]

MAX_PENDING = 100_000
"""The number of changes that an iterator keeps until they are fetched."""


class ChangeSink(Protocol):
    """A receiver of all changes of a watcher."""

    def put(self, change: Change | None) -> None:
        """Append a change, or None for the end. Must not block."""


class Observer:
    """A subscription made by `StatusWatcher.observe`. Ends with `stop`, or as a context manager."""

    def __init__(
        self,
        added: Callback | None,
        changed: ChangeCallback | None,
        removed: Callback | None,
        where: Predicate | None,
        forget: Callable[["Observer"], None],
    ) -> None:
        self._added = added
        self._changed = changed
        self._removed = removed
        self._where = where
        self._forget = forget
        self._matching: set[str] = set()
        self._stopped = False

    def stop(self) -> None:
        """Make no further calls. A callback that runs in another thread still finishes. May be repeated."""
        self._stopped = True
        self._forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def notify(self, change: Change) -> None:
        """Call the callback that fits a change. Exceptions of callbacks are logged, never raised."""
        if self._stopped:
            return
        old, new = change
        before = change.user_id in self._matching
        after = new is not None and self._matches(new)
        try:
            if after and new is not None:
                self._matching.add(change.user_id)
                if not before and self._added is not None:
                    self._added(new)
                elif before and old is not None and self._changed is not None:
                    self._changed(new, old)
            elif before:
                self._matching.discard(change.user_id)
                if old is not None and self._removed is not None:
                    self._removed(old)
        except Exception:  # noqa: BLE001, user code
            _log.exception("a callback of observe() failed for user %r", change.user_id)

    def _matches(self, status: UserStatus) -> bool:
        if self._where is None:
            return True
        try:
            return bool(self._where(status))
        except Exception:  # noqa: BLE001, user code
            _log.exception("the predicate of observe() failed for user %r", status.user_id)
            return False


class Changes(Iterator[Change]):
    """The iterator of `StatusWatcher.changes`: each user's status before and after, in order.

    Ends when the watcher is closed, or when no change arrives within the timeout. Keeps up to 100,000 changes
    until they are fetched.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        # Unlike `queue.Queue`, cannot stay locked by a thread that was interrupted while it waited.
        self._pending: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._overrun = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change:
        """Wait for the next change.

        Raises:
            StopIteration: the watcher was closed, or no change arrived within the timeout.
            PresenceError: changes were fetched too slowly, and some are lost.

        """
        try:
            change = self._pending.get(timeout=self._timeout)
        except queue.Empty:
            raise StopIteration from None
        if change is None:
            self.put(None)  # for the next call
            raise StopIteration
        if self._overrun and self._pending.empty():
            self.put(None)
            raise PresenceError(f"more than {MAX_PENDING} changes were not fetched: some are lost")
        return change

    def put(self, change: Change | None) -> None:
        """Append a change, or None for the end. Never blocks."""
        if self._pending.qsize() > MAX_PENDING:
            self._overrun = True
        else:
            self._pending.put(change)
