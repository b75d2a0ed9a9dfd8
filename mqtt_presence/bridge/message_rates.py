"""The limit on the rate of one user's messages, and the amnesty in which rates do not count."""

from mqtt_presence.access.buckets import Buckets
from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.config import Limits
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part

TOO_FAST = "too_fast"
WINDOW_S = 60
"""Rates are averages over so many seconds."""


class MessageRates(Part):
    """Counts each user's messages as they arrive.

    Args:
        limits: the largest rate, and the length of the amnesty.
        clock: the bridge's.

    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._clock = clock
        self._amnesty_s = limits.amnesty_s
        self._buckets = Buckets(limits.rate * WINDOW_S, limits.rate) if limits.rate else None
        self.strict_from = 0.0
        """The end of the amnesty, seconds of the monotonic clock."""

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Begin the amnesty: the messages that waited at the broker come now."""
        del link, session_present, contested
        self.strict_from = self._clock.monotonic() + self._amnesty_s

    def admits(self, user_id: str, now_s: float) -> bool:
        """Return whether a message of a user is within the rate."""
        return self._buckets is None or now_s < self.strict_from or self._buckets.take(user_id, now_s)
