"""Ending a command that only looks: SIGINT and SIGTERM are how one ends it, and no failure."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_CLOSING_S = 3.0  # the end takes less


class Interrupts:
    """What SIGINT and SIGTERM do: they raise KeyboardInterrupt, once; and again where the end takes long."""

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
    """Leave the block, and only it, on SIGINT or SIGTERM, even if a shell told us to ignore them."""
    interrupts = Interrupts()
    before = {sign: signal.signal(sign, interrupts.hear) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupts
    except KeyboardInterrupt:
        pass
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
