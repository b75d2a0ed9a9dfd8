"""Progress: the time up to which every message is processed. Silence is judged only up to then.

A sign of life may still wait in the bridge or at the broker, so the clock alone does not show that a client
is silent.
"""

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part


class Progress(Part):
    """Records how far the clients' messages are processed, by both clocks.

    Args:
        clock: the bridge's.
        inputs: the topic filter of the clients' messages.
        settled_s: how long after a connect the broker may take to begin sending old messages, seconds.

    """

    def __init__(self, clock: Clock, inputs: str, settled_s: float) -> None:
        self._clock = clock
        self._inputs = inputs
        self._settled_s = settled_s
        self._settled_from_s = 0.0
        self.is_subscribed = False
        """Whether the broker has granted the subscription to the clients' messages on this connection."""
        self.until = 0
        """By the wall clock, epoch milliseconds; 0: unknown since the clock was set."""
        self.until_s = 0.0
        """The same by the monotonic clock, which is never set, seconds."""

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Subscribe, and wait until the broker has begun to send the messages that waited."""
        del session_present, contested
        self.is_subscribed = False
        self._settled_from_s = self._clock.monotonic() + self._settled_s
        link.subscribe(self._inputs)

    def disconnected(self) -> None:
        """See `Part`."""
        self.is_subscribed = False

    def subscribed(self, topic_filter: str) -> None:
        """See `Part`."""
        self.is_subscribed = self.is_subscribed or topic_filter == self._inputs

    def caught_up(self, until: int, until_s: float) -> None:
        """See `Part`."""
        if self._clock.monotonic() >= self._settled_from_s:
            self.until, self.until_s = until, until_s

    def clock_stepped(self, by_ms: int, now: int) -> None:
        """Judge no silence by the old time."""
        del by_ms, now
        self.until = 0
