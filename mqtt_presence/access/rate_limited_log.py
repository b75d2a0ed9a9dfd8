"""What strangers can cause to be logged: a line in ten seconds for each kind, with how many were left out."""

import logging
import math
import threading
import time
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

Kind = TypeVar("Kind", bound=Hashable)

LOG_INTERVAL_S: Final = 10.0
"""How long nothing more is said of a kind."""
_MORE: Final = "(and %d more like it before)"
_LONGEST: Final = 300
"""Characters of a text that somebody gives; no name that is allowed is so long (contract section 1)."""


class Limit(Generic[Kind]):
    """Decides which lines are logged: of each kind one in ten seconds. Any thread may ask.

    Args:
        clock: returns the time in seconds; never less than before.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._logged_at: dict[Kind, float] = {}
        self._left_out: dict[Kind, int] = {}

    def count(self, kind: Kind) -> int | None:
        """Count a line.

        Args:
            kind: there must be a bounded number of kinds.

        Returns:
            How many lines of the kind were left out before this one; None: this one is left out, too.

        """
        now = self._clock()
        with self._lock:
            if now - self._logged_at.get(kind, -math.inf) < LOG_INTERVAL_S:
                self._left_out[kind] = self._left_out.get(kind, 0) + 1
                return None
            self._logged_at[kind] = now
            return self._left_out.pop(kind, 0)


class LibraryLimit(logging.Filter):
    """Limits what libraries log, as `RateLimitedLog` does our own: a peer can cause most of it.

    A kind is the place in the library's code that logs, and the class of the error. The filter belongs to a
    handler: that of a logger would not see the records of the loggers below it.

    Args:
        ours: the name of our own loggers' parent; what they log is not limited.
        clock: as in `Limit`.

    """

    def __init__(self, ours: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._ours = logging.Filter(ours)
        self._limit: Limit[tuple[str, int, type[BaseException] | None]] = Limit(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record is logged, and how many were left out before it."""
        if self._ours.filter(record):
            return True
        error = record.exc_info[0] if record.exc_info else None
        left_out = self._limit.count((record.pathname, record.lineno, error))
        if left_out:
            # Some libraries end a message in a line break, asyncio writes several lines.
            record.msg = f"{record.getMessage().rstrip()} {_MORE % left_out}"
            record.args = ()
        return left_out is not None


class RateLimitedLog:
    """Logs refusals and the like, so that no flood of them fills the disk.

    Args:
        log: where to.
        clock: tells the time in seconds; never less than before.

    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._limit: Limit[str] = Limit(clock)

    def log(self, kind: str, *about: object, level: int = logging.WARNING) -> None:
        """Log it, or count it for the next line of its kind.

        Args:
            kind: the format, a constant: there are as many kinds as constants.
            about: what is put into it; names in it by `quoted`.
            level: of the line.

        """
        left_out = self._limit.count(kind)
        if left_out:
            self._log.log(level, f"{kind} {_MORE}", *about, left_out)
        elif left_out is not None:
            self._log.log(level, kind, *about)


def quoted(text: str) -> str:
    """Write a text that somebody has given for the log: in quotes, escaped, and not endless."""
    return ascii(text[:_LONGEST]) + "…" * (len(text) > _LONGEST)
