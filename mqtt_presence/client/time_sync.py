"""Estimate of the server's time from time requests and replies. Pure: the local clocks are arguments.

The estimate refers to the steady clock, since the wall clock may be set: the server time in milliseconds is
steady seconds times 1000 plus a base. The shortest of several round trips counts: its error is smallest.
"""

from typing import NamedTuple

ROUND_TRIPS = 5
ANSWER_TIMEOUT_S = 2.0
RESYNC_S = 600.0
MAX_JUMP_S = 5.0
RETRY_MIN_S = 5.0
RETRY_MAX_S = 60.0
_ROUNDING_S = 0.002
"""Tolerance for t1 and t2, which are whole milliseconds."""


class Estimate(NamedTuple):
    """The server time according to one round trip."""

    round_trip: float
    """The seconds spent on the network, without the server's processing time."""
    base_ms: float
    """The server time in epoch milliseconds minus the steady time in milliseconds."""

    def at(self, steady: float) -> float:
        """Return the server time at a steady time in seconds, epoch milliseconds."""
        return steady * 1000 + self.base_ms


class _Request(NamedTuple):
    t0: int
    sent_at: float


class TimeSync:
    """Plans bursts of requests: at the start, every ten minutes, after a clock jump or a failed burst."""

    def __init__(self) -> None:
        self.estimate: Estimate | None = None
        self._best: Estimate | None = None
        self._settled = False
        """Whether the estimate comes from a complete burst; only another complete burst replaces it then."""
        self._remaining = 0
        self._request: _Request | None = None
        self._due = float("-inf")
        self._failed_bursts = 0
        self._last_t0 = 0
        self._drift: float | None = None

    def poll(self, steady: float, wall: float) -> int | None:
        """Return the t0 of a request to send now, or None. Must be called often.

        Args:
            steady: seconds.
            wall: epoch seconds.

        """
        drift = wall - steady
        if self._drift is not None and abs(drift - self._drift) > MAX_JUMP_S:
            self.restart()
        self._drift = drift
        if self._request is not None and steady - self._request.sent_at >= ANSWER_TIMEOUT_S:
            self._finish_round_trip(steady)
        if self._remaining == 0 and steady >= self._due:
            self._remaining = ROUND_TRIPS
            self._best = None
        if self._remaining == 0 or self._request is not None:
            return None
        self._last_t0 = max(self._last_t0 + 1, int(steady * 1_000_000))
        self._request = _Request(self._last_t0, steady)
        return self._last_t0

    def answer(self, t0: int, t1: int, t2: int, steady: float) -> bool:
        """Process a reply; return False if it fits no open request (late, repeated or forged).

        Args:
            t0: the t0 of the request.
            t1: when the server received it, epoch milliseconds.
            t2: when the server replied, epoch milliseconds.
            steady: when the reply arrived, seconds.

        """
        request = self._request
        if request is None or request.t0 != t0:
            return False
        round_trip = steady - request.sent_at - (t2 - t1) / 1000
        if round_trip < -_ROUNDING_S:
            return False
        base_ms = (t1 + t2) / 2 - (request.sent_at + steady) / 2 * 1000
        sample = Estimate(max(0.0, round_trip), base_ms)
        if self._best is None or sample.round_trip < self._best.round_trip:
            self._best = sample
        if not self._settled:
            self.estimate = self._best
        self._finish_round_trip(steady)
        return True

    def _finish_round_trip(self, steady: float) -> None:
        """Finish a round trip, with or without a reply."""
        self._request = None
        self._remaining -= 1
        if self._remaining > 0:
            return
        if self._best is None:
            self._due = steady + min(RETRY_MAX_S, RETRY_MIN_S * 2.0 ** min(self._failed_bursts, 10))
            self._failed_bursts += 1
        else:
            self.estimate = self._best
            self._settled = True
            self._due = steady + RESYNC_S
            self._failed_bursts = 0

    def restart(self) -> None:
        """Start a new burst with the next `poll`; the estimate stays until the first reply."""
        self._request = None
        self._remaining = 0
        self._due = float("-inf")
        self._settled = False

    def connection_lost(self) -> None:
        """Start an unfinished burst again."""
        if self._remaining > 0:
            self.restart()

    def bridge_appeared(self) -> None:
        """Start a burst at once if there is no estimate yet."""
        if self.estimate is None:
            self._failed_bursts = 0
            self.restart()
