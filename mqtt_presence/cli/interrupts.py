"""Ending a command that only looks: SIGINT and SIGTERM are how one ends it, and no failure."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """What SIGINT and SIGTERM do: they raise KeyboardInterrupt, but where a loop looks for itself."""

    def __init__(self) -> None:
        self.came = False
        self._is_noted = False

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Have signals do no more than set `came`.

        An exception in the middle of anything may leave a lock of another thread locked, and the end waits
        for that for ever.
        """
        self._is_noted = True
        try:
            yield
        finally:
            self._is_noted = False

    def hear(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        self.came = True
        if not self._is_noted:
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
