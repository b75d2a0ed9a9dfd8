"""The other seats: how far they have heard, and their requests to the holder of seat 0.

Several bridges share the clients' messages. The holder of seat 0 does what must be done once for all: it
announces, judges silence, publishes the statuses of all users again, and writes `bridge/state`. The others
leave their requests in the database.
"""

from collections.abc import Iterable

from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.monitoring.metric import Metric, gauge
from mqtt_presence.bridge.part import Due, Part
from mqtt_presence.store import SeatFacts, Store, Transaction

_ALONE = SeatFacts(0, 0, 0, None, True)


class OtherSeats(Part):
    """Reads the state of the other seats with each check.

    Args:
        store: has it.

    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_due = True
        self.facts = _ALONE
        """As of the last check."""
        self.values: dict[str, str] = {}
        """The values that other seats may have written."""

    @property
    def is_first(self) -> bool:
        """Whether this process holds seat 0."""
        return self._store.seat.number == 0

    @property
    def count(self) -> int:
        """The number of all seats, also of those that are being removed."""
        return self._store.seat.seats

    @property
    def staying(self) -> int:
        """The number of seats without those that are being removed."""
        return self.facts.staying + 1

    @property
    def held(self) -> int:
        """The number of those that a process holds, without those that are being removed."""
        return self.facts.held + 1

    def restore(self, tx: Transaction) -> None:
        """See `Part`: the first message on `bridge/state` has the numbers."""
        if self.count > 1 and self.is_first:
            self.facts = tx.other_seats()

    def requested(self, due: Due) -> None:
        """See `Part`."""
        self._is_due = self._is_due or due is Due.CHECK

    def step(self, link: Link) -> bool:
        """See `Part`."""
        del link
        if (self._is_due or self.facts is _ALONE) and self.count > 1 and self.is_first:
            with self._store.transaction() as tx:
                # In this order: a seat that has lost messages says so before it says that it has heard more.
                facts = tx.other_seats()
                self.values = tx.requests()
            self.facts = facts
        elif self.count == 1:
            self.facts = _ALONE
        self._is_due = False
        return True

    def metrics(self) -> Iterable[Metric]:
        """See `Measured`: only the holder of seat 0 knows the other seats."""
        if self.is_first:
            yield gauge("seats", "Bridges that share the clients' messages.", self.staying)
            yield gauge("seats_held", "Seats that a process holds.", self.held)
            yield gauge("seats_leaving", "Seats that are being removed.", self.facts.leaving)
