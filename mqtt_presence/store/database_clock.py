"""The clock of a database server: the one clock of all bridges that use it.

Each transaction of a bridge brings the time of the server. The difference between that time and the monotonic
clock of this machine is kept from the answer with the shortest round trip. So the wall clock of this machine
is never asked, and may be set.
"""

import time

from mqtt_presence.protocol.times import wall_clock

_FORGET_S = 60.0
"""A better answer counts for so long: two quartz clocks drift by some milliseconds in that time."""
_TOLERANCE_S = 0.1
"""A larger difference between two answers, beyond their round trips, is a step of the server's clock."""


class DatabaseClock:
    """The time of the server; before its first answer that of this machine."""

    def __init__(self) -> None:
        self._offset_s: float | None = None
        """The server's time less the monotonic time, seconds."""
        self._error_s = 0.0
        """The largest error of the offset: half of the round trip."""
        self._sampled_s = 0.0

    def now(self) -> int:
        """Return the server's time, epoch milliseconds."""
        if self._offset_s is None:
            return wall_clock()
        return round((time.monotonic() + self._offset_s) * 1000)

    monotonic = staticmethod(time.monotonic)

    def sample(self, server_ms: int, asked_s: float, answered_s: float) -> None:
        """Learn from an answer of the server.

        Args:
            server_ms: its time, epoch milliseconds.
            asked_s: when it was asked, by the monotonic clock, seconds.
            answered_s: when the answer came, likewise.

        """
        error_s = (answered_s - asked_s) / 2
        offset_s = server_ms / 1000 - (asked_s + error_s)
        if self._offset_s is not None:
            is_step = abs(offset_s - self._offset_s) > error_s + self._error_s + _TOLERANCE_S
            if not is_step and error_s > self._error_s and answered_s - self._sampled_s < _FORGET_S:
                return
        self._offset_s, self._error_s, self._sampled_s = offset_s, error_s, answered_s
