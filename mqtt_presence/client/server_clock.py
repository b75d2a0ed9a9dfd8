"""The clock of the server as a client sees it: `TimeSync` with real clocks and messages."""

import threading
from collections.abc import Callable

from mqtt_presence.client import clocks
from mqtt_presence.client.time_sync import TimeSync
from mqtt_presence.protocol import client_messages

Clock = Callable[[], float]


class ServerClock:
    """Server time, kept in step over MQTT: best of five round trips, again every ten minutes and after a jump
    of the local clock by more than five seconds (contract section 4). May be used from any thread.

    Args:
        ask: sends the payload of a time request; it may get lost.
        steady: seconds that only grow.
        wall: epoch seconds.

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
        """The server has answered at least once."""
        return self._sync.estimate is not None

    @property
    def offset(self) -> float | None:
        """How far the server is ahead of the local wall clock, seconds; None: not synced."""
        estimate = self._sync.estimate
        return None if estimate is None else estimate.at(self._steady()) / 1000 - self._wall()

    @property
    def round_trip(self) -> float | None:
        """The round trip the estimate rests on, seconds: it errs by half of it at most. None: not synced."""
        estimate = self._sync.estimate
        return None if estimate is None else estimate.round_trip

    def now(self) -> int:
        """Return the server time, epoch milliseconds; the local wall clock until synced."""
        server = self.at(self._steady())
        return round(self._wall() * 1000) if server is None else server

    def at(self, steady: float) -> int | None:
        """Return the server time at a moment of the steady clock, epoch milliseconds; None: not synced."""
        estimate = self._sync.estimate
        return None if estimate is None else round(estimate.at(steady))

    def resync(self) -> None:
        """Ask again now."""
        with self._changed:
            self._sync.restart()
            self._poll()

    def wait_synced(self, timeout: float) -> bool:
        """Wait until synced; False: not in time.

        Args:
            timeout: seconds.

        """
        with self._changed:
            return self._changed.wait_for(lambda: self._sync.estimate is not None, timeout)

    def tick(self) -> None:
        """Ask if it is time to. Called about twice a second while connected."""
        with self._changed:
            self._poll()

    def receive(self, payload: bytes) -> None:
        """Take an answer.

        Raises:
            PayloadError: it is none.

        """
        steady = self._steady()
        reply = client_messages.decode_time_reply(payload)
        with self._changed:
            if self._sync.answer(reply.t0, reply.t1, reply.t2, steady):
                self._changed.notify_all()
                self._poll()

    def connection_lost(self) -> None:
        """The connection was lost, and with it the answers under way."""
        with self._changed:
            self._sync.connection_lost()

    def bridge_appeared(self) -> None:
        """The bridge has just come."""
        with self._changed:
            self._sync.bridge_appeared()
            self._poll()

    def _poll(self) -> None:
        t0 = self._sync.poll(self._steady(), self._wall())
        if t0 is not None:
            self._ask(client_messages.encode_time_request(t0))
