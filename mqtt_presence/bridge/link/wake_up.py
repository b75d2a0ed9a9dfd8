"""Wake-up: ends a wait for the network, from any thread."""

import select
import socket
from contextlib import suppress
from typing import Any


class WakeUp:
    """A pair of sockets; a byte in one of them ends a wait on the other."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def send(self) -> None:
        """End the current wait or the next one; safe in any thread and in a signal handler."""
        with suppress(OSError):  # a wake-up is already pending, or the socket is closed
            self._sender.send(b"!")

    def wait(self, seconds: float, sock: Any = None, *, writes: bool = False) -> None:
        """Wait for a wake-up, or until a socket has something to read.

        Args:
            seconds: the longest wait.
            sock: the socket; None: only a wake-up ends the wait.
            writes: the wait also ends when the socket can be written to.

        """
        waiter = select.poll()  # `select` takes no file descriptor beyond 1,023
        waiter.register(self._receiver, select.POLLIN)
        if sock is not None:
            waiter.register(sock, select.POLLIN | (select.POLLOUT if writes else 0))
        waiter.poll(1000 * max(0.0, seconds))
        self.clear()

    def clear(self) -> None:
        """Discard the pending wake-ups."""
        with suppress(BlockingIOError):
            while self._receiver.recv(4096):
                pass

    def close(self) -> None:
        """Close both sockets."""
        self._receiver.close()
        self._sender.close()
