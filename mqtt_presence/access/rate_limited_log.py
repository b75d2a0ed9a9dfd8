"""Rate limits for log lines that strangers can cause: one line of each kind in ten seconds, with a count."""

import logging
import math
import threading
import time
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

Kind = TypeVar("Kind", bound=Hashable)

LOG_INTERVAL_S: Final = 10.0
"""Seconds between two lines of a kind."""
_MORE: Final = "(and %d more like it before)"
_LONGEST: Final = 300
"""Characters of a client's text in a line; every valid name is shorter (docs/protocol.md, "Topics")."""


class LineLimit(Generic[Kind]):
    """Decides which lines are logged: one of each kind in ten seconds. Any thread may call it.

    Args:
        clock: returns the time in seconds, which never decreases.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._logged_at: dict[Kind, float] = {}
        self._left_out: dict[Kind, int] = {}

    def count(self, kind: Kind) -> int | None:
        """Count a line.

        Args:
            kind: of the line; the number of kinds must be bounded.

        Returns:
            The number of lines of the kind left out before this one; None if this line is left out too.

        """
        now = self._clock()
        with self._lock:
            if now - self._logged_at.get(kind, -math.inf) < LOG_INTERVAL_S:
                self._left_out[kind] = self._left_out.get(kind, 0) + 1
                return None
            self._logged_at[kind] = now
            return self._left_out.pop(kind, 0)


class LibraryLimit(logging.Filter):
    """Limits the log lines of libraries, most of which a client or a broker can cause.

    A kind is the place in the library's code that logs, and the class of the error. The filter belongs to a
    handler, because a logger's filter does not see the records of the loggers below it.

    Args:
        own: the name of the parent of this package's loggers, which are not limited here.
        clock: as in `LineLimit`.

    """

    def __init__(self, own: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._own = logging.Filter(own)
        self._limit: LineLimit[tuple[str, int, type[BaseException] | None]] = LineLimit(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged; add the number of records left out before it."""
        if self._own.filter(record):
            return True
        error = record.exc_info[0] if record.exc_info else None
        left_out = self._limit.count((record.pathname, record.lineno, error))
        if left_out:
            # Some libraries end a message with a line break, and asyncio writes several lines.
            record.msg = f"{record.getMessage().rstrip()} {_MORE % left_out}"
            record.args = ()
        return left_out is not None


class RateLimitedLog:
    """Writes rate-limited lines, so that a flood of refusals does not fill the disk.

    Args:
        log: the logger.
        clock: returns the time in seconds, which never decreases.

    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._limit: LineLimit[str] = LineLimit(clock)

    def log(self, kind: str, *values: object, level: int = logging.WARNING) -> None:
        """Log a line, or count it for the next line of its kind.

        Args:
            kind: a constant format; each constant is a kind.
            values: the values for the format; names from clients through `quoted`.
            level: of the line.

        """
        left_out = self._limit.count(kind)
        if left_out:
            self._log.log(level, f"{kind} {_MORE}", *values, left_out)
        elif left_out is not None:
            self._log.log(level, kind, *values)


def quoted(text: str) -> str:
    """Return a client's text for the log: in quotes, escaped, and cut to a limit."""
    return ascii(text[:_LONGEST]) + "…" * (len(text) > _LONGEST)
