"""The two local clocks: one to measure with, one that people set."""

import time

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def steady() -> float:
    """Return seconds that only ever grow, whatever happens to the wall clock.

    On Linux they also go on while the machine sleeps; elsewhere a sleep shows as a jump of the wall clock.
    """
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


def wall() -> float:
    """Return the wall clock, epoch seconds."""
    return time.time()
