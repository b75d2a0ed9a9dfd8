"""A clock that is never set, over restarts: the wall clock without the steps that the bridge has noticed.

Deadlines of alarms and the age of notifications are counted by it: a step of the wall clock, as from 1970, is
no time that has passed. The sum of all steps is kept in the database.
"""

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part
from mqtt_presence.store import Store, Transaction

STEPS = "notify_steps"
"""The name of the sum of all steps in the database, milliseconds."""


class SteadyClock(Part):
    """The steady clock. Any thread may read it.

    Args:
        store: keeps the sum of all steps.
        clock: the bridge's.

    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._steps = 0
        self._saved = 0
        self._base = self._clock.now() - self._monotonic()

    def restore(self, tx: Transaction) -> None:
        """See `Part`. Of parts that use this clock, this one comes first."""
        self._steps = self._saved = int(tx.read_value(STEPS) or 0)
        self._base = self._clock.now() - self._monotonic() - self._steps

    def clock_stepped(self, by_ms: int, now: int) -> None:
        """See `Part`."""
        del now
        self._steps += by_ms

    def step(self, link: Link) -> bool:
        """Store the sum of steps if it has changed."""
        del link
        if self._steps != self._saved and self._store.seat.number == 0:
            with self._store.transaction() as tx:
                tx.write_value(STEPS, str(self._steps))
            self._saved = self._steps
        return True

    def now(self) -> int:
        """Return the time, milliseconds."""
        return self._base + self._monotonic()

    def of(self, time: int) -> int:
        """Return the time by this clock of a time by the wall clock, epoch milliseconds."""
        return time - self._steps

    def _monotonic(self) -> int:
        return int(self._clock.monotonic() * 1000)
