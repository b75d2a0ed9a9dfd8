"""Waiting for a condition with a deadline; and free ports."""

import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 20.0
_LOOK_EVERY_S = 0.01
_random = random.SystemRandom()  # Hypothesis seeds the other one, with the same number again and again


def until(
    condition: Callable[[], T],
    what: str = "",
    deadline_s: float = DEADLINE_S,
    *,
    every_s: float = _LOOK_EVERY_S,
) -> T:
    """Wait until the condition is true and return what it said; fail when the deadline is over."""
    deadline = time.monotonic() + deadline_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {deadline_s:g} s: {what or condition}")
        time.sleep(every_s)


def free_port() -> int:
    """Find a port on which nobody listens, and which no outgoing connection is given by chance meanwhile."""
    while True:
        port = _random.randrange(12_000, 32_000)  # below what Linux gives to those who do not ask for one
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def listens(port: int) -> bool:
    """Tell whether somebody accepts connections on the loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def now_ms() -> int:
    """Tell the time as the bridge does."""
    return time.time_ns() // 1_000_000
