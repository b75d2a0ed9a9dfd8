"""Limits against floods: the rate of one user's new records, and the number of users.

Limits that depend on a user's open connections are decided by `rules`; `message_rates` limits messages.
"""

from mqtt_presence.access.buckets import Buckets
from mqtt_presence.bridge.config import Limits
from mqtt_presence.bridge.message_rates import WINDOW_S, MessageRates
from mqtt_presence.bridge.part import Part
from mqtt_presence.store import Transaction

TOO_MANY_USERS = "too_many_users"


class Limiter(Part):
    """Counts new records and new users as they are committed.

    Args:
        limits: the largest numbers.
        rates: know the amnesty.

    """

    def __init__(self, limits: Limits, rates: MessageRates) -> None:
        self._rates = rates
        self._users = limits.users
        self._records = Buckets(limits.records, limits.records / WINDOW_S) if limits.records else None
        self._known_users = 0

    def restore(self, tx: Transaction) -> None:
        """Count the users, if their number is limited."""
        if self._users is not None:
            self._known_users = tx.count_users()

    def records_left(self, user_id: str, now_s: float) -> int | None:
        """Return how many new records a user may still have now; None: any number."""
        if self._records is None or now_s < self._rates.strict_from:
            return None
        return self._records.left(user_id, now_s)

    def count_records(self, user_id: str, count: int, now_s: float) -> None:
        """Count new records, once they are committed."""
        if self._records is not None and now_s >= self._rates.strict_from:
            self._records.spend(user_id, count, now_s)

    def count_users(self, count: int) -> None:
        """Count new users, once they are committed."""
        self._known_users += count

    @property
    def users_left(self) -> int | None:
        """How many new users there may still be; None: any number."""
        return None if self._users is None else max(0, self._users - self._known_users)
