"""Limits against floods: the rate of one user's messages and records, and the number of users.

Limits that depend on a user's open connections are decided by `rules`.
"""

from mqtt_presence.access.buckets import Buckets
from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.config import Limits
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part
from mqtt_presence.store import Transaction

TOO_FAST = "too_fast"
TOO_MANY_USERS = "too_many_users"
_WINDOW_S = 60


class Limiter(Part):
    """Counts messages, new records and new users.

    Args:
        limits: the largest numbers.
        clock: the bridge's.

    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._clock = clock
        self._amnesty_s = limits.amnesty_s
        self._users = limits.users
        self._rate = Buckets(limits.rate * _WINDOW_S, limits.rate) if limits.rate else None
        self._records = Buckets(limits.records, limits.records / _WINDOW_S) if limits.records else None
        self._strict_from = 0.0
        self._known_users = 0

    def restore(self, tx: Transaction) -> None:
        """Count the users, if their number is limited."""
        if self._users is not None:
            self._known_users = tx.count_users()

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Begin the amnesty: the messages that waited at the broker come now."""
        del link, session_present, contested
        self._strict_from = self._clock.monotonic() + self._amnesty_s

    def admits(self, user_id: str, now_s: float) -> bool:
        """Return whether a message of a user is within the rate."""
        return self._rate is None or now_s < self._strict_from or self._rate.take(user_id, now_s)

    def records_left(self, user_id: str, now_s: float) -> int | None:
        """Return how many new records a user may still have now; None: any number."""
        if self._records is None or now_s < self._strict_from:
            return None
        return self._records.left(user_id, now_s)

    def count_records(self, user_id: str, count: int, now_s: float) -> None:
        """Count new records, once they are committed."""
        if self._records is not None and now_s >= self._strict_from:
            self._records.spend(user_id, count, now_s)

    def count_users(self, count: int) -> None:
        """Count new users, once they are committed."""
        self._known_users += count

    @property
    def users_left(self) -> int | None:
        """How many new users there may still be; None: any number."""
        return None if self._users is None else max(0, self._users - self._known_users)
