"""Retention: moves old records to the history, and deletes those that ended longer ago than `retention`.

The same for the change log, which keeps the changes of an hour.
"""

import logging
import math
from collections.abc import Callable

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Due, OnCheck, Part
from mqtt_presence.errors import StoreError
from mqtt_presence.store import START, HistoryBusyError, Place, Store, Transaction

log = logging.getLogger(__name__)

_STEP_S = 0.02
"""How long a step may take: messages wait no longer."""
_LEAST, _MOST = 25, 1000
"""Records of one step; the number follows the speed of the database."""
_AGAIN_S = 60.0
_TRIM_EVERY_S = 60.0


class Retention(Part):
    """Deletes and moves old records, a page at a time, with a rest after each page.

    An error of the database holds up this work only: the messages may do without it.

    Args:
        store: has the connections.
        clock: the bridge's.
        retention_ms: how long ended connections are kept, milliseconds; None: for ever.

    """

    is_of_all = False

    def __init__(self, store: Store, clock: Clock, retention_ms: int | None) -> None:
        self._store = store
        self._clock = clock
        self._retention_ms = retention_ms
        self._work: list[Callable[[Transaction], bool]] = []
        """The rest of the work; each returns whether it is done."""
        self._place = START
        self._limit = _LEAST
        self._rest_until_s = 0.0

    def requested(self, due: Due) -> None:
        """See `Part`."""
        if due is Due.RETENTION and not self._work:
            self._work = [self._move]
            if self._retention_ms is not None:
                self._work = [self._delete_recent, self._drop_history, self._delete_history, self._move]

    def wait_s(self) -> float:
        """Return the rest that is left, seconds; see `Part`."""
        return max(0.0, self._rest_until_s - self._clock.monotonic()) if self._work else math.inf

    def step(self, link: Link) -> bool:
        """Delete or move one page. True during a rest, too: `wait_s` says when there is work again."""
        del link
        if not self._work or self.wait_s() > 0:
            return True
        began = self._clock.monotonic()
        place = self._place
        try:
            with self._store.transaction() as tx:
                is_done = self._work[0](tx)
            if not is_done:
                self._store.write_back()
        except HistoryBusyError:
            self._place = place
            if self._work[0] == self._drop_history:  # what it would drop is deleted record by record
                self._work.pop(0)
            else:
                log.info("another session uses the history: moving records again in %d s", _AGAIN_S)
                self._rest_until_s = began + _AGAIN_S
            return True
        except StoreError as error:
            self._place = place
            log.warning("%s; old records wait, next try in %d s", error, _AGAIN_S)
            self._rest_until_s = began + _AGAIN_S
            return True
        if is_done:
            self._work.pop(0)
            self._place = START
        took_s = self._clock.monotonic() - began
        if took_s > _STEP_S:
            self._limit = max(_LEAST, self._limit // 2)
        elif took_s < _STEP_S / 2:
            self._limit = min(_MOST, self._limit * 2)
        self._rest_until_s = began + 2 * took_s
        return took_s > 0 or not self._work

    def _delete_recent(self, tx: Transaction) -> bool:
        return tx.delete_ended(self._oldest, self._limit) == 0

    def _drop_history(self, tx: Transaction) -> bool:
        return not tx.drop_history(self._oldest)

    def _delete_history(self, tx: Transaction) -> bool:
        return self._go_on(tx.delete_history(self._oldest, self._place, self._limit))

    def _move(self, tx: Transaction) -> bool:
        return self._go_on(tx.move_ended(self._clock.now(), self._place, self._limit)[0])

    def _go_on(self, place: Place | None) -> bool:
        self._place = place or START
        return place is None

    @property
    def _oldest(self) -> int:
        assert self._retention_ms is not None
        return self._clock.now() - self._retention_ms


class ChangeLogRetention(OnCheck):
    """Deletes old entries of the change log, a portion at a time, also while no status changes.

    Args:
        store: has the log.
        clock: the bridge's.

    """

    is_of_all = False

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
