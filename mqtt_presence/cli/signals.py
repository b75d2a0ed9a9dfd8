"""Signals that end a command in an orderly way: SIGINT, SIGTERM, and SIGHUP when its terminal is closed."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_CLOSING_S = 3.0  # the end takes less


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[tuple[signal.Signals, ...]]:
    """Have a handler called for each signal that ends a command, and yield these signals.

    SIGINT and SIGTERM are handled even if a shell had us ignore them (``mqtt-presence run &``). SIGHUP stays
    ignored if it was (``nohup``). When a terminal is closed, both the kernel and the shell may send SIGHUP:
    the handler is called for the first one only.
    """
    hung_up = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal hung_up
        if number == signal.SIGHUP and hung_up:
            return
        hung_up = hung_up or number == signal.SIGHUP
        handler(number, frame)

    ending = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ending.append(signal.SIGHUP)
    before = {sign: signal.signal(sign, handle) for sign in ending}
    try:
        yield tuple(ending)
    finally:
        for sign, previous in before.items():
            signal.signal(sign, previous)


class Interrupts:
    """What signals do to a command that only reads: they raise KeyboardInterrupt.

    Once, and again where the end takes long.
    """

    def __init__(self) -> None:
        self.came = False
        self._is_noted = False
        self._raise_from_s = 0.0

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Have what is raised by a signal wait until the end of this block; `came` tells of it.

        In the middle of anything it may leave a lock locked that another thread wants, too.
        """
        self._is_noted = True
        try:
            yield
        finally:
            self._is_noted = False
        if self.came:
            self._raise()

    def hear(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        self.came = True
        if not self._is_noted:
            self._raise()

    def _raise(self) -> None:
        if time.monotonic() >= self._raise_from_s:
            self._raise_from_s = time.monotonic() + _CLOSING_S
            raise KeyboardInterrupt


@contextmanager
def until_interrupted() -> Iterator[Interrupts]:
    """Leave the block, and only it, on one of the signals."""
    interrupts = Interrupts()
    with handled(interrupts.hear), suppress(KeyboardInterrupt):
        yield interrupts
