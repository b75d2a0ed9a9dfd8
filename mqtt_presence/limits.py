"""Limits against floods: how much one user may send in a while, and how many users there may be.

Pure: told the time, it never looks. What depends on a user's open connections is decided by `rules`.
"""

from dataclasses import dataclass

TOO_FAST = "too_fast"
TOO_MANY_USERS = "too_many_users"
AMNESTY_S = 600.0
"""How long after a connection with the broker was made rates do not count: what comes then has waited there,
the messages of hours in a few seconds."""
_WINDOW_S = 60
_SWEEP_AT = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What is too much; None: nothing is.

    Args:
        records: new records of a user in a minute.
        rate: messages of a user in a second, as an average over a minute. Ends do not count.
        users: how many there may be.
        amnesty_s: see `AMNESTY_S`.

    """

    records: int | None = None
    rate: int | None = None
    users: int | None = None
    amnesty_s: float = AMNESTY_S


class Buckets:
    """A token bucket for each name. One that is full again is forgotten, so memory is bounded by the traffic.

    Args:
        depth: tokens in a full one.
        per_s: how many come back in a second.

    """

    __slots__ = ("_depth_s", "_full_at", "_most_s", "_step_s", "_sweep_at")

    def __init__(self, depth: int, per_s: float) -> None:
        self._step_s = 1 / per_s
        self._depth_s = depth / per_s
        self._most_s = (depth - 0.5) / per_s  # half a token against the rounding of sums
        # All there is to know of a bucket: when it will be full (the generic cell rate algorithm).
        self._full_at: dict[str, float] = {}
        self._sweep_at = _SWEEP_AT

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, name: str, moment: float) -> bool:
        """Take a token; False: there is none.

        Args:
            name: whose bucket.
            moment: now, seconds; never less than before.

        """
        full_at = self._full_at.get(name, moment)
        if full_at - moment > self._most_s:
            return False
        self._full_at[name] = (max(moment, full_at)) + self._step_s
        if len(self._full_at) >= self._sweep_at:
            self._sweep(moment)
        return True

    def left(self, name: str, moment: float) -> int:
        """Tell how many tokens there are."""
        missing_s = max(0.0, self._full_at.get(name, moment) - moment)
        return max(0, int((self._depth_s - missing_s) / self._step_s + 0.5))

    def spend(self, name: str, tokens: int, moment: float) -> None:
        """Take several, even if there are not so many."""
        if tokens:
            self._full_at[name] = max(self._full_at.get(name, moment), moment) + tokens * self._step_s
            if len(self._full_at) >= self._sweep_at:
                self._sweep(moment)

    def _sweep(self, moment: float) -> None:
        self._full_at = {name: full_at for name, full_at in self._full_at.items() if full_at > moment}
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._full_at))


class Limiter:
    """Keeps account of what users do.

    Args:
        limits: what is too much.

    """

    def __init__(self, limits: Limits) -> None:
        self._amnesty_s = limits.amnesty_s
        self._users = limits.users
        self._rate = Buckets(limits.rate * _WINDOW_S, limits.rate) if limits.rate else None
        self._records = Buckets(limits.records, limits.records / _WINDOW_S) if limits.records else None
        self._strict_from = 0.0
        self._known_users = 0

    @property
    def counts_users(self) -> bool:
        """There is a limit to their number, so it must be told by `users_are`."""
        return self._users is not None

    def connected(self, moment: float) -> None:
        """Take note that what has waited with the broker comes now."""
        self._strict_from = moment + self._amnesty_s

    def admits(self, user_id: str, moment: float) -> bool:
        """Tell whether this message of a user may be looked at."""
        return self._rate is None or moment < self._strict_from or self._rate.take(user_id, moment)

    def records_left(self, user_id: str, moment: float) -> int | None:
        """Tell how many new records a user may still have now; None: any number."""
        if self._records is None or moment < self._strict_from:
            return None
        return self._records.left(user_id, moment)

    def records_made(self, user_id: str, count: int, moment: float) -> None:
        """Take note of new records, once they are committed."""
        if self._records is not None and moment >= self._strict_from:
            self._records.spend(user_id, count, moment)

    def users_are(self, count: int) -> None:
        """Take note of how many users there are."""
        self._known_users = count

    def users_made(self, count: int) -> None:
        """Take note of new users, once they are committed."""
        self._known_users += count

    @property
    def users_left(self) -> int | None:
        """How many new users there may still be; None: any number."""
        return None if self._users is None else max(0, self._users - self._known_users)
