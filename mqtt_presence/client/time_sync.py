"""What time it is on the server, from questions and answers. Pure: the local clocks come as arguments.

The estimate is tied to the steady clock, not to the wall clock that people set: server time in milliseconds
is steady seconds times 1000 plus a base. Of several round trips the shortest wins: it bounds the error best.
"""

from typing import NamedTuple

ROUND_TRIPS = 5
ANSWER_TIMEOUT_S = 2.0
RESYNC_S = 600.0
MAX_JUMP_S = 5.0
RETRY_MIN_S = 5.0
RETRY_MAX_S = 60.0
_ROUNDING_S = 0.002
"""t1 and t2 are whole milliseconds."""


class Estimate(NamedTuple):
    """Server time as one round trip saw it."""

    round_trip: float
    """Seconds on the way, without the server's own time."""
    base_ms: float
    """Server time in epoch milliseconds, less steady time in milliseconds."""

    def at(self, steady: float) -> float:
        """Return the server time at a steady time in seconds, epoch milliseconds."""
        return steady * 1000 + self.base_ms


class _Question(NamedTuple):
    t0: int
    asked: float


class TimeSync:
    """Asks in bursts: at first, every ten minutes, after a jump of the wall clock, after no answer at all."""

    def __init__(self) -> None:
        self.estimate: Estimate | None = None
        self._best: Estimate | None = None
        self._settled = False
        """The estimate comes from a whole burst: replace it by a whole burst only."""
        self._left = 0
        self._question: _Question | None = None
        self._due = float("-inf")
        self._lost_bursts = 0
        self._last_t0 = 0
        self._drift: float | None = None

    def poll(self, steady: float, wall: float) -> int | None:
        """Return the t0 of a question to send now, or None. Call it often.

        Args:
            steady: seconds.
            wall: epoch seconds.

        """
        drift = wall - steady
        if self._drift is not None and abs(drift - self._drift) > MAX_JUMP_S:
            self.restart()
        self._drift = drift
        if self._question is not None and steady - self._question.asked >= ANSWER_TIMEOUT_S:
            self._answered(steady)
        if self._left == 0 and steady >= self._due:
            self._left = ROUND_TRIPS
            self._best = None
        if self._left == 0 or self._question is not None:
            return None
        self._last_t0 = max(self._last_t0 + 1, int(steady * 1_000_000))
        self._question = _Question(self._last_t0, steady)
        return self._last_t0

    def answer(self, t0: int, t1: int, t2: int, steady: float) -> bool:
        """Take an answer; False: it answers nothing that was asked (late, repeated, or made up).

        Args:
            t0: of the question.
            t1: when the server received it, epoch milliseconds.
            t2: when the server answered, epoch milliseconds.
            steady: when the answer came, seconds.

        """
        question = self._question
        if question is None or question.t0 != t0:
            return False
        round_trip = steady - question.asked - (t2 - t1) / 1000
        if round_trip < -_ROUNDING_S:
            return False
        base_ms = (t1 + t2) / 2 - (question.asked + steady) / 2 * 1000
        sample = Estimate(max(0.0, round_trip), base_ms)
        if self._best is None or sample.round_trip < self._best.round_trip:
            self._best = sample
        if not self._settled:
            self.estimate = self._best
        self._answered(steady)
        return True

    def _answered(self, steady: float) -> None:
        """One round trip is over, with or without an answer."""
        self._question = None
        self._left -= 1
        if self._left > 0:
            return
        if self._best is None:
            self._due = steady + min(RETRY_MAX_S, RETRY_MIN_S * 2.0 ** min(self._lost_bursts, 10))
            self._lost_bursts += 1
        else:
            self.estimate = self._best
            self._settled = True
            self._due = steady + RESYNC_S
            self._lost_bursts = 0

    def restart(self) -> None:
        """Begin a new burst with the next `poll`; the estimate stays until its first answer."""
        self._question = None
        self._left = 0
        self._due = float("-inf")
        self._settled = False

    def connection_lost(self) -> None:
        """The connection was lost: a burst under way begins again."""
        if self._left > 0:
            self.restart()

    def bridge_appeared(self) -> None:
        """The bridge has just come: if there is no estimate yet, ask at once."""
        if self.estimate is None:
            self._lost_bursts = 0
            self.restart()
