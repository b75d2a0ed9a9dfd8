"""How long to wait before the next attempt to connect. Pure but for the dice, which can be given."""

import random
from collections.abc import Callable

STEADY_AFTER_S = 10.0
"""A connection that lasted this long counts as a success; a shorter one (somebody takes our id) not."""


class Backoff:
    """Doubling delays with jitter, so that a thousand clients do not come back in one second.

    Args:
        shortest: the first delay, seconds.
        longest: no delay is longer, seconds.
        roll: returns a number from 0 up to 1.

    """

    def __init__(self, shortest: float, longest: float, roll: Callable[[], float] = random.random) -> None:
        self._shortest = shortest
        self._longest = longest
        self._roll = roll
        self._attempt = 0

    def next(self, lived: float) -> float:
        """Return the seconds to wait, between half and the whole of the doubled delay.

        Args:
            lived: how long the connection just lost had been up, seconds; 0 when it never was.

        """
        if lived >= STEADY_AFTER_S:
            self._attempt = 0
        delay = min(self._longest, self._shortest * 2.0 ** min(self._attempt, 30))
        self._attempt += 1
        return delay * (0.5 + self._roll() / 2)
