"""The two local clocks: a steady clock to measure with, and the wall clock, which can be set."""

import time

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def steady() -> float:
    """Return the seconds of a clock that never goes back, even when the wall clock is set.

    On Linux this clock also runs while the machine sleeps. Elsewhere, the wall clock jumps after a sleep.
    """
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


def wall() -> float:
    """Return the wall clock's time in epoch seconds."""
    return time.time()
