"""The clock of a database server: the one clock of all bridges that use it.

Each transaction of a bridge brings the time of the server. The difference between that time and the monotonic
clock of this machine is kept from the answer that bounds it best: the one with the shortest round trip, if it
is not old. So the wall clock of this machine is never asked, and may be set.
"""

import math
import time

from mqtt_presence.protocol.times import wall_clock

_DRIFT = 0.0005
"""An answer is worse by so many seconds for each second of its age: ntpd slews a clock no faster."""
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
        return round((self.monotonic() + self._offset_s) * 1000)

    monotonic = staticmethod(time.monotonic)

    def error_ms(self) -> int:
        """Return by how much `now` may be wrong, milliseconds."""
        return math.ceil(self._error_at(self.monotonic()) * 1000)

    def _error_at(self, now_s: float) -> float:
        return self._error_s + (now_s - self._sampled_s) * _DRIFT if self._offset_s is not None else 0.0

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
            known_error_s = self._error_at(answered_s)
            is_step = abs(offset_s - self._offset_s) > error_s + known_error_s + _TOLERANCE_S
            if not is_step and error_s > known_error_s:
                return
        self._offset_s, self._error_s, self._sampled_s = offset_s, error_s, answered_s
