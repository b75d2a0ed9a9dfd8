"""The delay before the next attempt to connect; pure, except for its random numbers, which can be given."""

import random
from collections.abc import Callable

STEADY_AFTER_S = 10.0
"""A connection of at least this length counts as a success: after a shorter one the delay still doubles."""


class Backoff:
    """Doubling delays with jitter, so that a thousand clients do not come back in one second.

    Args:
        shortest: the first delay, seconds.
        longest: the longest delay, seconds.
        roll: returns a number from 0 up to 1.
        steady_after: the length of a connection that counts as a success, seconds.

    """

    def __init__(
        self,
        shortest: float,
        longest: float,
        roll: Callable[[], float] = random.random,
        *,
        steady_after: float = STEADY_AFTER_S,
    ) -> None:
        self._shortest = shortest
        self._longest = longest
        self._roll = roll
        self._steady_after = steady_after
        self._attempt = 0

    def next(self, lived: float) -> float:
        """Return the seconds to wait, between half and the whole of the doubled delay.

        Args:
            lived: the length of the connection just lost, seconds; 0: there was none.

        """
        if lived >= self._steady_after:
            self._attempt = 0
        delay = min(self._longest, self._shortest * 2.0 ** min(self._attempt, 30))
        self._attempt += 1
        return delay * (0.5 + self._roll() / 2)
