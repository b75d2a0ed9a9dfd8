"""Retention: deletes connections that ended longer ago than `retention`, and old changes in the log."""

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Due, OnCheck, Part
from mqtt_presence.store import Store

_MAX_DELETED = 1000
"""Connections of one step: messages wait no longer than it takes."""
_TRIM_EVERY_S = 60.0


class Retention(Part):
    """Deletes old connections, a page at a time.

    Args:
        store: has the connections.
        clock: the bridge's.
        retention_ms: how long ended connections are kept, milliseconds; None: for ever.

    """

    def __init__(self, store: Store, clock: Clock, retention_ms: int | None) -> None:
        self._store = store
        self._clock = clock
        self._retention_ms = retention_ms
        self._is_due = False

    def requested(self, due: Due) -> None:
        """See `Part`."""
        if due is Due.RETENTION and self._retention_ms is not None:
            self._is_due = True

    def step(self, link: Link) -> bool:
        """See `Part`."""
        del link
        if self._is_due and self._retention_ms is not None:
            with self._store.transaction() as tx:
                deleted = tx.delete_ended(self._clock.now() - self._retention_ms, _MAX_DELETED)
            self._is_due = deleted > 0
        return not self._is_due


class ChangeLogRetention(OnCheck):
    """Deletes old entries of the change log, a portion at a time, also while no status changes.

    Args:
        store: has the log.
        clock: the bridge's.

    """

    def __init__(self, store: Store, clock: Clock) -> None:
        super().__init__()
        self._store = store
        self._clock = clock
        self._trimmed_s = clock.monotonic()

    def check(self, link: Link) -> bool:
        """See `OnCheck`."""
        del link
        if self._clock.monotonic() - self._trimmed_s < _TRIM_EVERY_S:
            return True
        with self._store.transaction() as tx:
            deleted = tx.trim_change_log(self._clock.now())
        if not deleted:
            self._trimmed_s = self._clock.monotonic()
        return not deleted
