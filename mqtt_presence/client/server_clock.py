"""The server's clock as known by a client: `TimeSync` with real clocks and messages."""

import threading
from collections.abc import Callable

from mqtt_presence.client import clocks
from mqtt_presence.client.time_sync import TimeSync
from mqtt_presence.protocol import client_messages

Clock = Callable[[], float]


class ServerClock:
    """Estimates the server's time with time requests over MQTT. May be used from any thread.

    The best of five round trips counts. The estimate is renewed every ten minutes, and after the local clock
    has jumped by more than five seconds (docs/protocol.md, "Server time").

    Args:
        ask: sends the payload of a time request, which may get lost.
        steady: returns the seconds of a clock that never goes back.
        wall: returns epoch seconds.

    """

    def __init__(
        self, ask: Callable[[bytes], object], *, steady: Clock = clocks.steady, wall: Clock = clocks.wall
    ) -> None:
        self._ask = ask
        self._steady = steady
        self._wall = wall
        self._sync = TimeSync()
        self._changed = threading.Condition()

    @property
    def is_synced(self) -> bool:
        """Whether the server has answered at least once."""
        return self._sync.estimate is not None

    @property
    def offset(self) -> float | None:
        """The seconds by which the server is ahead of the local wall clock; None until synced."""
        estimate = self._sync.estimate
        return None if estimate is None else estimate.at(self._steady()) / 1000 - self._wall()

    @property
    def round_trip(self) -> float | None:
        """The round trip of the estimate, seconds; its error is at most half of it. None until synced."""
        estimate = self._sync.estimate
        return None if estimate is None else estimate.round_trip

    def now(self) -> int:
        """Return the server time in epoch milliseconds; until synced, the local wall clock's time."""
        server = self.at(self._steady())
        return round(self._wall() * 1000) if server is None else server

    def at(self, steady: float) -> int | None:
        """Return the server time at a time of the steady clock, epoch milliseconds; None until synced."""
        estimate = self._sync.estimate
        return None if estimate is None else round(estimate.at(steady))

    def resync(self) -> None:
        """Start a new estimate now."""
        with self._changed:
            self._sync.restart()
            self._poll()

    def wait_synced(self, timeout: float) -> bool:
        """Wait until synced; return False after the timeout.

        Args:
            timeout: seconds.

        """
        with self._changed:
            return self._changed.wait_for(lambda: self._sync.estimate is not None, timeout)

    def tick(self) -> None:
        """Send the next request if it is due. Called about twice a second while connected."""
        with self._changed:
            self._poll()

    def receive(self, payload: bytes) -> None:
        """Process an answer.

        Raises:
            PayloadError: the payload is not a time reply.

        """
        steady = self._steady()
        reply = client_messages.decode_time_reply(payload)
        with self._changed:
            if self._sync.answer(reply.t0, reply.t1, reply.t2, steady):
                self._changed.notify_all()
                self._poll()

    def connection_lost(self) -> None:
        """Start the current estimate again: its requests were lost with the connection."""
        with self._changed:
            self._sync.connection_lost()

    def bridge_appeared(self) -> None:
        """Send a request at once if there is no estimate yet."""
        with self._changed:
            self._sync.bridge_appeared()
            self._poll()

    def _poll(self) -> None:
        t0 = self._sync.poll(self._steady(), self._wall())
        if t0 is not None:
            self._ask(client_messages.encode_time_request(t0))
