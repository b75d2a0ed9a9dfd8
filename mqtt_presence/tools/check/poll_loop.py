"""The poll loop: waiting for conditions while one thread serves all connections of a check."""

import select
import time
from collections.abc import Callable

from mqtt_presence.errors import PresenceError
from mqtt_presence.tools.check.probe_client import ProbeClient

ANSWER_S = 3.0
"""Time limit for a message or an answer, seconds."""

_TICK_S = 0.05
_MAX_READS = 200


class InterruptedCheckError(PresenceError):
    """A signal has ended the check."""


class PollLoop:
    """Serves probe clients while a probe waits."""

    def __init__(self) -> None:
        self._clients: list[ProbeClient] = []
        self._is_interrupted = False
        self._is_closing = False

    @property
    def clients(self) -> list[ProbeClient]:
        """The clients that are connected, or connecting."""
        return self._clients

    def add(self, client: ProbeClient) -> None:
        """Serve a client from now on, until its connection ends."""
        self._clients.append(client)

    def interrupt(self) -> None:
        """Make the current wait raise `InterruptedCheckError`; callable in a signal handler."""
        self._is_interrupted = True

    def begin_closing(self) -> None:
        """Ignore interrupts from now on: clearing up takes a bounded time."""
        self._is_closing = True

    def until(self, condition: Callable[[], object], timeout_s: float = ANSWER_S) -> bool:
        """Serve all clients until the condition is true; return False after the timeout.

        Raises:
            InterruptedCheckError: after `interrupt`.

        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            self._serve(min(left_s, _TICK_S))
        return True

    def rest(self, seconds: float) -> None:
        """Serve all clients for this time."""
        self.until(lambda: False, seconds)

    def read_available(self) -> None:
        """Serve all clients once, without waiting."""
        self._serve(0)

    def until_quiet(self, count: Callable[[], int], enough: int, quiet_s: float, timeout_s: float) -> int:
        """Serve all clients until a count is enough or has stopped growing; return the count.

        Args:
            count: returns the current count.
            enough: the count to stop at.
            quiet_s: seconds without growth after which the count is final.
            timeout_s: seconds after which the count is final in any case.

        """
        deadline = time.monotonic() + timeout_s
        last, since = count(), time.monotonic()
        while last < enough and time.monotonic() < deadline and time.monotonic() - since < quiet_s:
            self._serve(_TICK_S)
            now = count()
            if now != last:
                last, since = now, time.monotonic()
        return last

    def _serve(self, timeout_s: float) -> None:
        if self._is_interrupted and not self._is_closing:
            raise InterruptedCheckError("interrupted")
        self._clients = [client for client in self._clients if not client.is_over]
        by_fd = {client.fileno(): client for client in self._clients if not client.is_silent}
        by_fd.pop(-1, None)
        poll = select.poll()
        for fd, client in by_fd.items():
            poll.register(fd, select.POLLIN | (select.POLLOUT if client.wants_to_write else 0))
        buffered = [client for client in by_fd.values() if client.has_buffered]
        for fd, events in poll.poll(0 if buffered else timeout_s * 1000):
            client = by_fd[fd]
            if events & select.POLLOUT:
                client.write()
            if events & ~select.POLLOUT and client not in buffered:
                _read_all(client)
        for client in buffered:
            _read_all(client)
        for client in by_fd.values():
            client.keep_alive()


def _read_all(client: ProbeClient) -> None:
    client.read()
    for _ in range(_MAX_READS):
        if not client.has_buffered:
            return
        client.read()
