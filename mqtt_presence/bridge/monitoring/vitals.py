"""Vitals: the bridge's signs of its own life, for other threads."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.counters import REPORT, Counters
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.monitoring.metric import Distribution, Metric, gauge
from mqtt_presence.bridge.part import Due, Part
from mqtt_presence.bridge.recovery.progress import Progress
from mqtt_presence.store import Store, Transaction

STUCK_AFTER_S = 30.0
"""A loop without a turn for so long is stuck. The longest work of a turn is a commit on a slow disk."""
CAUGHT_UP_S = 5.0
"""The bridge is ready while its last processed message is no older."""
WRITTEN_S = 5.0
"""A commit proves for so long that the database can be written."""
_TEST = "write_test"
"""The named value that a test of the database writes."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """The conditions under which statuses are up to date; all of them make the bridge ready."""

    broker: bool
    """The broker is connected, and has granted the subscription to the clients' messages."""
    database: bool
    """A commit has just succeeded."""
    caught_up: bool
    """All messages up to a moment ago are processed."""
    repaired: bool
    """No loss of the database is being repaired."""

    @property
    def is_ready(self) -> bool:
        """Whether all conditions hold."""
        return self.broker and self.database and self.caught_up and self.repaired


NOT_READY = Readiness(broker=False, database=False, caught_up=False, repaired=False)


class Vitals(Part):
    """Records the turns of the loop, the connection, the progress and the commits.

    Args:
        store: the database.
        clock: the bridge's.
        progress: how far messages are processed.
        counters: of the bridge's work.
        unacknowledged: returns the number of messages that are not acknowledged to the broker yet.
        is_repairing: returns whether a loss of the database is being repaired.

    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        progress: Progress,
        counters: Counters,
        unacknowledged: Callable[[], int],
        is_repairing: Callable[[], bool],
    ) -> None:
        self._is_repairing = is_repairing
        self._store = store
        self._clock = clock
        self._progress = progress
        self._counters = counters
        self._unacknowledged = unacknowledged
        self._turned_at_s: float | None = None
        """By the monotonic clock; None before the first turn."""
        self._started_at_s = 0.0
        self._is_leaving = False
        self._is_connected = False
        self._is_testing = False
        self._written_at_s = -WRITTEN_S
        self._received = 0
        self._last_message_at = 0
        self.outbox = 0
        """Publications that the broker has not acknowledged."""

    # For the loop.

    def restore(self, tx: Transaction) -> None:
        """See `Part`."""
        del tx
        self._started_at_s = self._clock.monotonic()

    def requested(self, due: Due) -> None:
        """See `Part`."""
        self._is_testing = self._is_testing or due is Due.WRITE_TEST

    def step(self, link: Link) -> bool:
        """Test the database, if the test was requested: only a commit finds a full or read-only disk."""
        del link
        if self._is_testing:
            with self._store.transaction() as tx:
                tx.write_value(_TEST, str(self._clock.now()))
            self._written_at_s = self._clock.monotonic()
            self._is_testing = False
        return not self._is_testing

    def turned(self, link: Link) -> None:
        """See `Part`."""
        self._turned_at_s = self._clock.monotonic()
        self._is_connected = link.is_connected
        self.outbox = link.backlog
        accepted = self._counters.accepted
        received = sum(accepted.values()) - accepted[REPORT]
        if received != self._received:
            self._received = received
            self._last_message_at = self._clock.now()

    def leaving(self, link: Link) -> None:
        """See `Part`."""
        del link
        self._is_leaving = True

    # For other threads.

    @property
    def is_alive(self) -> bool:
        """Whether the loop turns; also true before its first turn: a start may take long."""
        turned_at_s = self._turned_at_s
        return turned_at_s is None or self._clock.monotonic() - turned_at_s < STUCK_AFTER_S

    def behind_ms(self) -> int:
        """Return the age of the moment up to which all messages are processed, at first of the start."""
        until_s = self._progress.until_s or self._started_at_s
        return round((self._clock.monotonic() - until_s) * 1000)

    @property
    def is_written(self) -> bool:
        """Whether a commit has just proved that the database can be written."""
        return self._clock.monotonic() - self._written_at_s < WRITTEN_S

    @property
    def readiness(self) -> Readiness:
        """The conditions that hold now."""
        if self._turned_at_s is None or self._is_leaving:
            return NOT_READY
        now_s, until_s = self._clock.monotonic(), self._progress.until_s
        turns = now_s - self._turned_at_s < CAUGHT_UP_S
        return Readiness(
            broker=turns and self._is_connected and self._progress.is_subscribed,
            database=self.is_written,
            caught_up=until_s > 0 and now_s - until_s < CAUGHT_UP_S,
            repaired=not self._is_repairing(),
        )

    def metrics(self) -> Iterable[Metric | Distribution]:
        """See `Measured`."""
        yield gauge("outbox", "Publications that the broker has not acknowledged.", self.outbox)
        yield gauge(
            "unacknowledged", "Messages that the bridge has not acknowledged yet.", self._unacknowledged()
        )
        is_holder = self._turned_at_s is not None and not self._is_leaving
        yield gauge("seat_held", "1 while this process is the bridge; 0 for its standby.", is_holder)
        yield gauge("broker_connected", "1 while the bridge is connected to the broker.", self._is_connected)
        if self._last_message_at:
            yield gauge(
                "last_message_timestamp_seconds",
                "When the last message of a client or device arrived.",
                self._last_message_at / 1000,
            )
        yield gauge("behind_seconds", "Age of the last processed moment.", self.behind_ms() / 1000)
