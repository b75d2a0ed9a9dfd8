"""The bridge's clocks: the wall clock, which people set, and the monotonic clock, which only grows."""

import time
from typing import Protocol

from mqtt_presence.protocol.times import wall_clock


class Clock(Protocol):
    """Returns the time; given to each part of the bridge, so that a test can move it."""

    def now(self) -> int:
        """Return the wall clock's time, epoch milliseconds."""

    def monotonic(self) -> float:
        """Return the monotonic clock's time, seconds; only differences mean something."""

    def error_ms(self) -> int:
        """Return by how much `now` may be ahead of the clock of the database, or behind it, milliseconds."""


class SystemClock:
    """The machine's clocks."""

    now = staticmethod(wall_clock)
    monotonic = staticmethod(time.monotonic)

    def error_ms(self) -> int:
        """Return 0: this is the clock of all processes of the machine."""
        return 0
