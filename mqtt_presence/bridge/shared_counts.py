"""Shared counts: with several bridges, each counts again now and then, because the others change counts."""

import math

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.limits import Limiter
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.monitoring.census import Census
from mqtt_presence.bridge.notifications.outages import Outages
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.bridge.recovery.other_seats import OtherSeats
from mqtt_presence.store import Store

_COUNT_EVERY_S = 60.0
_ALARMS_EVERY_S = 10.0


class SharedCounts(OnCheck):
    """Counts users and connections again once a minute, and those of alarms about groups every ten seconds.

    Args:
        store: has them.
        clock: the bridge's.
        others: know whether there are other bridges.
        limiter: limits the number of users.
        census: counts users by state, at the holder of seat 0.
        outages: count the users online, at the holder of seat 0.

    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        others: OtherSeats,
        limiter: Limiter,
        census: Census,
        outages: Outages,
    ) -> None:
        super().__init__()
        self._store = store
        self._clock = clock
        self._others = others
        self._limiter = limiter
        self._census = census
        self._outages = outages
        self._counted_s = self._recounted_s = clock.monotonic()
        self._was_shared = False

    def check(self, link: Link) -> bool:
        """See `OnCheck`."""
        del link
        now_s = self._clock.monotonic()
        is_shared = self._others.count > 1
        if not is_shared and not self._was_shared:
            return True
        if not is_shared:  # the last counts of a bridge that is gone
            self._counted_s = self._recounted_s = -math.inf
        self._outages.next_due = 0  # another bridge may have stored an earlier deadline
        if now_s - self._recounted_s >= _ALARMS_EVERY_S:
            self._recounted_s = now_s
            self._outages.recount()
        if now_s - self._counted_s >= _COUNT_EVERY_S:
            self._counted_s = now_s
            with self._store.transaction() as tx:
                self._limiter.restore(tx)
                if self._others.is_first:
                    self._census.restore(tx)
        self._was_shared = is_shared
        return True
