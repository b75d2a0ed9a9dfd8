"""The monitor: the readings of a bridge, for other threads, from before its start to after its end."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from mqtt_presence.bridge.monitoring.metric import Distribution, Measured, Metric
from mqtt_presence.bridge.monitoring.vitals import NOT_READY, Readiness, Vitals
from mqtt_presence.bridge.part import Due

_LOOK_EVERY_S = 0.01


class Monitor:
    """The metrics of a bridge, and whether it lives and is ready.

    The web server may start before the bridge. Until a bridge is built with this monitor, it has no metrics.
    """

    def __init__(self) -> None:
        self._vitals: Vitals | None = None
        self._request: Callable[[Due], None] = lambda _: None
        self._measured: tuple[Measured, ...] = ()

    def watch(self, request: Callable[[Due], None], vitals: Vitals, *measured: Measured) -> None:
        """Read a bridge from now on.

        Args:
            request: requests a job of the bridge's loop.
            vitals: of the bridge.
            measured: all parts that have metrics; each metric belongs to one of them.

        """
        self._vitals, self._request = vitals, request
        self._measured = (vitals, *measured)

    def add(self, measured: Measured) -> None:
        """Read another part, too."""
        self._measured += (measured,)

    def metrics(self) -> Iterable[Metric | Distribution]:
        """Return all metrics as they are now."""
        for measured in self._measured:
            yield from measured.metrics()

    @property
    def is_alive(self) -> bool:
        """Whether the loop turns, or has not begun."""
        return self._vitals is None or self._vitals.is_alive

    def readiness(self, patience_s: float) -> Readiness:
        """Return which conditions of readiness hold. It may wait, so an event loop calls it in a thread.

        Args:
            patience_s: how long to wait for a test of the database, which the loop does if it needs one.

        """
        if self._vitals is None:
            return NOT_READY
        if not self._vitals.is_written:
            with suppress(OSError):  # the bridge has just ended
                self._request(Due.WRITE_TEST)
            give_up_at_s = time.monotonic() + patience_s
            while not self._vitals.is_written and time.monotonic() < give_up_at_s:
                time.sleep(_LOOK_EVERY_S)
        return self._vitals.readiness
