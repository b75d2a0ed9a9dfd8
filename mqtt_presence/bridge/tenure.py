"""The tenure: when a process that holds a seat leaves it to another one that waits.

A process that is cut off from the broker has a good lease and does no work. A process that is cut off from
the database may have lost its seat: it must not connect with the client id of the seat again, because the
broker would then end the connection of the new holder.
"""

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.errors import SeatAsideError, SeatGivenUpError, SeatLostError
from mqtt_presence.store import LEASE_MS, Store


class Tenure:
    """Watches both connections of a holder.

    Args:
        store: knows the seat, and whether another process waits for one.
        clock: the bridge's.

    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._connected_s: float | None = None
        """When the link was last connected, or first asked to connect."""

    def check(self, link: Link) -> None:
        """Leave the seat if another process should have it.

        Raises:
            SeatGivenUpError: another process waits, and this one does not reach the broker for a lease.
            SeatAsideError: a seat that is being removed has no holder for a lease, and nobody waits.
            SeatLostError: the lease has run out unrenewed, and another process may have the seat.

        """
        now_s = self._clock.monotonic()
        if link.is_connected or self._connected_s is None:
            self._connected_s = now_s
        seat = self._store.seat
        away_s = now_s - self._connected_s
        if seat.is_overdue and (seat.has_successor or link.was_taken_over):
            raise SeatLostError(
                "the database has not answered for the time of the lease: another process may be the bridge"
            )
        if seat.is_needed_elsewhere and link.is_connected:
            raise SeatAsideError(
                f"a seat that is being removed has no holder: leaving seat {seat.number} for a while, to "
                "read its last messages"
            )
        if away_s > LEASE_MS / 1000 and seat.has_successor:
            self._store.stand_back()
            raise SeatGivenUpError(
                f"the broker is out of reach for {away_s:.0f} s: leaving the place of the bridge to another "
                "process, which waits"
            )
