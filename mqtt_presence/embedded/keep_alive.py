"""The keep alive of one client (MQTT 3.1.1 §3.1.2.10).

A network connection without a packet for 1.5 times the keep alive is lost.
"""

import asyncio
from collections.abc import Callable

SUSPENSION_S = 1.0
"""Seconds by which a check is late when the broker's own process was suspended."""


class KeepAlive:
    """Watches one network connection.

    Args:
        on_expiry: called when no packet came in time.

    """

    __slots__ = ("_limit_s", "_on_expiry", "_timer", "last_packet_at")

    def __init__(self, on_expiry: Callable[[], None]) -> None:
        self._on_expiry = on_expiry
        self._limit_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.last_packet_at = 0.0
        """When the last packet came, in the event loop's time; the connection sets it."""

    def start(self, keep_alive_s: int) -> None:
        """Begin to watch.

        Args:
            keep_alive_s: of the CONNECT, seconds; 0: the connection is not watched.

        """
        self.last_packet_at = asyncio.get_running_loop().time()
        self._limit_s = keep_alive_s * 1.5
        if keep_alive_s:
            self._schedule()

    def stop(self) -> None:
        """Stop watching. Harmless if it has not begun."""
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        due = self.last_packet_at + self._limit_s
        self._timer = asyncio.get_running_loop().call_at(due, self._check, due)

    def _check(self, due: float) -> None:
        now = asyncio.get_running_loop().time()
        if now - due > SUSPENSION_S:
            self.last_packet_at = now  # clients' packets may wait in the sockets: begin anew
        if now >= self.last_packet_at + self._limit_s:
            self._on_expiry()
        else:
            self._schedule()
