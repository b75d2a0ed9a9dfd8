"""Pace: how long the loop waits for messages, and when it tries again after the database has failed."""

import logging
import time

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.errors import StoreError

log = logging.getLogger(__name__)

_IDLE_S = 1.0
_FIRST_S = 0.1
_LONGEST_S = 5.0


class Pace:
    """Works on while there is work; after each failure in a row waits twice as long, 0.1 to 5 seconds.

    Args:
        clock: its monotonic clock counts.

    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._has_work = False
        self._delay_s = 0.0
        self._retry_at = 0.0

    @property
    def is_time(self) -> bool:
        """Whether the delay after the last failure is over."""
        return self._clock.monotonic() >= self._retry_at

    @property
    def wait_s(self) -> float:
        """How long to wait for messages before the next work, seconds."""
        if not self._has_work:
            return _IDLE_S
        return min(_IDLE_S, max(0.0, self._retry_at - self._clock.monotonic()))

    def worked(self, *, has_more: bool) -> None:
        """Record a success, which ends a series of failures, and whether work is left."""
        self._has_work = has_more
        self._delay_s = 0.0

    def failed(self, error: StoreError) -> None:
        """Begin the next delay.

        Raises:
            StoreError: the error, if a later attempt cannot succeed.

        """
        if not error.transient:
            raise error
        self._has_work = True
        if error.conflict:  # with another transaction: the same may succeed at once
            self._delay_s = self._retry_at = 0.0
            log.info("%s; trying again", error)
            return
        self._delay_s = min(_LONGEST_S, max(_FIRST_S, self._delay_s * 2))
        self._retry_at = self._clock.monotonic() + self._delay_s
        log.warning("%s; nothing is lost, next try in %.1f s", error, self._delay_s)

    def sleep_after(self, error: StoreError, give_up_at: float) -> None:
        """Begin the next delay and sleep until it is over.

        Args:
            error: why the last attempt failed.
            give_up_at: no attempt begins later, seconds of the monotonic clock.

        Raises:
            StoreError: the error, if a later attempt cannot succeed or the time is up.

        """
        if self._clock.monotonic() >= give_up_at:
            raise error
        self.failed(error)
        time.sleep(self._delay_s)
