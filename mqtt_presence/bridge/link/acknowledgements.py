"""Acknowledgements: publications in flight, their largest number, and a broker that stops acknowledging."""

import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from mqtt_presence.bridge.link.batch_client import BatchClient
from mqtt_presence.mqtt.messages import Outgoing

# The largest window of a broker that names one (MQTT 5 §3.2.2.3.3). Its acknowledgements arrive behind the
# messages that it has already sent, and publications beyond the window wait for all of those.
IN_FLIGHT = 20_000
IN_FLIGHT_V311 = 1000
"""In MQTT 3.1.1 a broker does not name its window."""
_MANY_IN_FLIGHT = 100
_TIMEOUT_S = 60.0
_LONGEST_TIMEOUT_S = 3600.0
# After such a pause of the bridge, acknowledgements may have arrived and not been read yet.
_LONG_PAUSE_S = 5.0


def newest_only(messages: Iterable[Outgoing]) -> list[Outgoing]:
    """Drop each retained message that a later message of its topic replaces; the later one gets its ticket.

    For messages that the broker may have already: subscribers must not receive an old status after a new one.
    """
    remaining: list[Outgoing] = []
    older: dict[str, tuple[Any, ...]] = {}
    last: set[str] = set()
    for message in reversed(list(messages)):
        if not message.retain or message.topic not in last:
            remaining.append(message)
            if message.retain:
                last.add(message.topic)
        else:
            replaced = (*message.replaced, message.ticket)
            older[message.topic] = (*replaced, *older.get(message.topic, ()))
    remaining.reverse()
    return [
        replace(m, replaced=(*older[m.topic], *m.replaced)) if m.retain and m.topic in older else m
        for m in remaining
    ]


def tickets(message: Outgoing) -> list[Any]:
    """Return the tickets of a message and of those that it replaces."""
    return [ticket for ticket in (*message.replaced, message.ticket) if ticket is not None]


class Publications:
    """The publications that the broker has not acknowledged: first those in flight, then those that wait."""

    def __init__(self) -> None:
        self.in_flight: dict[int, Outgoing] = {}
        """By packet id, the oldest first."""
        self._waiting: deque[Outgoing] = deque()
        self._window = IN_FLIGHT_V311

    def __len__(self) -> int:
        return len(self._waiting) + len(self.in_flight)

    @property
    def oldest(self) -> Outgoing | None:
        """The publication that has been in flight for longest."""
        return next(iter(self.in_flight.values()), None)

    @property
    def pause_s(self) -> float:
        """How long to let acknowledgements gather before reading, seconds.

        A broker sends each acknowledgement at once. To wake up for each costs more than all other work on it.
        A broker acknowledges about a tenth of the publications in flight during this pause.
        """
        if self._waiting or len(self.in_flight) > _MANY_IN_FLIGHT:
            return 1e-6 * min(1000, len(self.in_flight))
        return 0.0

    def add(self, message: Outgoing) -> None:
        """Add a publication behind all others."""
        self._waiting.append(message)

    def connected(self, window: int) -> None:
        """Begin a connection on which the broker accepts `window` unacknowledged publications."""
        self._window = window

    def disconnected(self) -> None:
        """Put the publications in flight before those that wait, except those about the lost connection."""
        unacknowledged = (m for m in self.in_flight.values() if not m.this_connection_only)
        self._waiting = deque(newest_only((*unacknowledged, *self._waiting)))
        self.in_flight.clear()

    def send(self, client: BatchClient) -> None:
        """Send waiting publications, up to the window."""
        while self._waiting and len(self.in_flight) < self._window:
            self.send_at_once(client, self._waiting.popleft())

    def send_at_once(self, client: BatchClient, message: Outgoing) -> None:
        """Send a publication, even beyond the window."""
        mid = client.queue_publish(message.topic, message.payload, retain=message.retain)
        self.in_flight[mid] = message


class AcknowledgementTimeout:
    """Detects a broker that stops acknowledging: only a new connection allows to send again (MQTT 5 §4.4).

    The timeout doubles with each connection that is ended for it. A connection that outlives it resets it.
    """

    def __init__(self) -> None:
        self._oldest: Outgoing | None = None
        """The oldest publication in flight, if everything that the broker has sent is read."""
        self._deadline = 0.0
        self._checked_at = 0.0
        self.timeout_s = _TIMEOUT_S

    def restart(self) -> None:
        """Begin to wait anew: the acknowledgement may be among the bytes that are not read yet."""
        self._oldest = None

    def is_over(self, oldest: Outgoing | None, connected_at: float) -> bool:
        """Return whether the oldest publication has been unacknowledged for too long.

        Args:
            oldest: in flight.
            connected_at: the begin of the connection, seconds of the monotonic clock.

        """
        now = time.monotonic()
        has_paused = now - self._checked_at > _LONG_PAUSE_S
        self._checked_at = now
        if oldest is None or oldest is not self._oldest or has_paused:
            if now - connected_at > self.timeout_s:
                self.timeout_s = _TIMEOUT_S
            self._oldest, self._deadline = oldest, now + self.timeout_s
        return now > self._deadline

    def extend(self) -> None:
        """Double the timeout for the next connection."""
        self.timeout_s = min(2 * self.timeout_s, _LONGEST_TIMEOUT_S)
