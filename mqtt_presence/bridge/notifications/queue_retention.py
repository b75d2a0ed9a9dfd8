"""Retention of the queue: deletes notifications older than `notify_keep`, and counts those not delivered."""

import logging
import math

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.notifications.senders import Senders
from mqtt_presence.bridge.notifications.steady_clock import SteadyClock
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.integrations.notifications.notification import Place, unpack
from mqtt_presence.store import Store

log = logging.getLogger(__name__)

_EVERY_S = 60.0
_PAGE = 200


class QueueRetention(OnCheck):
    """Deletes old rows of the queue, a page at a time.

    Args:
        store: has the queue.
        senders: of the receivers.
        steady: the clock of the queue.
        clock: the bridge's.
        keep_ms: how long notifications are kept, milliseconds.

    """

    is_of_all = False

    def __init__(
        self, store: Store, senders: Senders, steady: SteadyClock, clock: Clock, keep_ms: int
    ) -> None:
        super().__init__()
        self._store = store
        self._senders = senders
        self._steady = steady
        self._clock = clock
        self._keep_ms = keep_ms
        self._next_s = 0.0

    def check(self, link: Link) -> bool:
        """See `OnCheck`."""
        del link
        if self._clock.monotonic() < self._next_s:
            return True
        dropped: dict[str, int] = {}
        with self._store.transaction() as tx:
            rows = tx.old_notifications(self._steady.now() - self._keep_ms, _PAGE)
            if rows:
                states = tx.receivers()
                for sender in self._senders.senders:
                    name = sender.receiver.name
                    state = states.get(name)
                    if state is None or state.disabled or state.next_row > rows[-1][0]:
                        continue
                    dropped[name] = sum(
                        after > Place(*state.next) and sender.receiver.takes(queued.notification)
                        for number, _, body in rows
                        for after, queued in unpack(number, body)
                    )
                    tx.update_receiver(name, state.generation, dropped=dropped[name])
                tx.delete_notifications(rows[-1][0])
        for sender in self._senders.senders:
            count = dropped.get(sender.receiver.name, 0)
            if count:
                log.warning(
                    "notify %s: dropped %d notifications that waited longer than notify_keep",
                    sender.receiver.name,
                    count,
                )
                sender.queued(None, -count)
        if len(rows) < _PAGE:
            # Without receivers no row is added.
            self._next_s = self._clock.monotonic() + _EVERY_S if self._senders.senders else math.inf
        return len(rows) < _PAGE
