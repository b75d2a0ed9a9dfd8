"""Clock steps: notices that the wall clock was set, and makes the stored times fit the new time.

===========  ==========================  ===================================================
the step     before                      after
===========  ==========================  ===================================================
forward      last_seen 12:00, now 12:01  last_seen 13:00, now 13:01: the step is no silence
back         last_seen 12:00, now 11:00  last_seen 11:00, now 11:00: no time lies in the future
===========  ==========================  ===================================================

Both are done a page of connections at a time. The database keeps how far a shift forward has come, so a
restart goes on. A connection that is shifted twice, after an uncertain commit, was at most seen just now.
"""

import logging
from collections.abc import Mapping, Sequence

from msgspec import Struct, json

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.committer import Committer
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part
from mqtt_presence.rules.events import ClockSteppedBack, Event
from mqtt_presence.rules.model import ClientId, UserId
from mqtt_presence.store import Store, Transaction

log = logging.getLogger(__name__)

_NAME = "set_forward"
_CHUNK = 200
"""Users of one step back."""
# Smaller steps are ignored.
_BACK_S = 0.1
_FORWARD_S = 1.0
_OTHER_CLOCKS_MS = 100
"""By how much the clock of another bridge may be behind, milliseconds, after some answers of the database."""


class _Left(Struct):
    by: list[int]
    """Milliseconds: for the round through all open connections that is under way, and for one after it."""
    after: tuple[UserId, ClientId, int] | None = None
    """Where the first round is; None: at its beginning."""


class ClockSteps(Part):
    """Detects steps of the wall clock against the monotonic clock, and shifts stored times.

    Args:
        store: has the connections.
        committer: cuts times that lie in the future.
        clock: the bridge's.
        page: connections of one step forward.

    """

    def __init__(self, store: Store, committer: Committer, clock: Clock, page: int) -> None:
        self._store = store
        self._committer = committer
        self._clock = clock
        self._page = page
        self._behind_s = 0.0
        """How far the wall clock is behind the monotonic clock; only differences mean something."""
        self._forward: list[int] = []
        """Steps that the database does not have yet, milliseconds."""
        self._is_moving_forward = False
        self._is_cutting_back = False
        self._cut_up_to = ""

    @property
    def is_shifting(self) -> bool:
        """Whether some stored times still belong to the old time."""
        return self._is_moving_forward or self._is_cutting_back

    @property
    def is_moving_forward(self) -> bool:
        """Whether some connections look silent only because the clock was set forward."""
        return self._is_moving_forward

    @property
    def now(self) -> int:
        """The wall clock's time as it was set at the last `detect`, epoch milliseconds."""
        return round((self._clock.monotonic() - self._behind_s) * 1000)

    @property
    def margin_ms(self) -> int:
        """By how much a time of this moment may be behind `now`, by the clock of any bridge, milliseconds.

        The error counts twice, because the clock may be corrected by as much before the time is taken.
        """
        return 2 * self._clock.error_ms() + (_OTHER_CLOCKS_MS if self._store.seat.seats > 1 else 0)

    def restore(self, tx: Transaction) -> None:
        """Go on with a shift; notice a clock that was set back while the bridge was away."""
        now = self._clock.now()
        self._behind_s = self._clock.monotonic() - now / 1000
        if tx.seat == 0:  # once for all bridges
            self._is_cutting_back = tx.has_future_times(now)
            self._is_moving_forward = tx.read_value(_NAME) is not None

    def detect(self, now: int, now_s: float) -> int:
        """Return by how much the wall clock was set since the last call, milliseconds; 0: not worth acting.

        Args:
            now: the wall clock's time, epoch milliseconds.
            now_s: the monotonic clock's time, seconds.

        """
        before, self._behind_s = self._behind_s, now_s - now / 1000
        step_s = before - self._behind_s
        return 0 if -_BACK_S <= step_s <= _FORWARD_S else round(step_s * 1000)

    def clock_stepped(self, by_ms: int, now: int) -> None:
        """Begin to shift the stored times."""
        del now
        if self._store.seat.number:
            return
        if by_ms < 0:
            log.warning("the clock was set back by %.1f s", -by_ms / 1000)
            self._cut_up_to = ""
            self._is_cutting_back = True
        else:
            log.warning("the clock was set forward by %.1f s", by_ms / 1000)
            self._forward.append(by_ms)
            self._is_moving_forward = True

    def step(self, link: Link) -> bool:
        """Shift a page of connections."""
        if self._is_cutting_back:
            self._is_cutting_back = not self._cut_back(link)
        if self._is_moving_forward:
            self._is_moving_forward = not self._move_forward()
        return not self.is_shifting

    @property
    def _before_any_answer(self) -> int:
        """A time strictly before the next announcement, and so before any answer, epoch milliseconds."""
        return self._clock.now() - 1 - 2 * self.margin_ms

    def _cut_back(self, link: Link) -> bool:
        now = self._before_any_answer
        page: dict[UserId, bool] = {}

        def collect(tx: Transaction) -> Mapping[UserId, Sequence[Event]]:
            page.update(tx.live_users(self._cut_up_to, now, _CHUNK))
            return {u: (ClockSteppedBack(user_id=u, now=now),) for u, is_ahead in page.items() if is_ahead}

        self._committer.run(link, collect)
        self._cut_up_to = next(reversed(page), "")
        return not page

    def _move_forward(self) -> bool:
        now = self._before_any_answer
        with self._store.transaction() as tx:
            kept = tx.read_value(_NAME)
            left = _Left([]) if kept is None else json.decode(kept, type=_Left)
            begun = 0 if left.after is None else 1
            waiting = sum(left.by[begun:]) + sum(self._forward)
            left.by[begun:] = [waiting] if waiting else []
            if left.by:
                left.after = tx.shift_last_seen(left.after, left.by[0], now, self._page)
                if left.after is None:
                    del left.by[0]
                tx.write_value(_NAME, json.encode(left).decode() if left.by else None)
        self._forward.clear()
        return not left.by
