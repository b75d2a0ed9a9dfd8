"""What strangers can cause to be logged: a line in ten seconds for each kind, with how many were left out."""

import logging
import math
import time
from collections.abc import Callable
from typing import Final

QUIET_S: Final = 10.0
"""How long nothing more is said of a kind."""
_LONGEST: Final = 300
"""Characters of a text that somebody gives; no name that is allowed is so long (contract section 1)."""


class Complaints:
    """Logs refusals and the like, so that no flood of them fills the disk.

    Args:
        log: where to.
        clock: tells the time in seconds; never less than before.

    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._said_at: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def complain(self, kind: str, *about: object, level: int = logging.WARNING) -> None:
        """Log it, or count it for the next line of its kind.

        Args:
            kind: the format, a constant: there are as many kinds as constants.
            about: what is put into it; names in it by `shown`.
            level: of the line.

        """
        now = self._clock()
        if now - self._said_at.get(kind, -math.inf) < QUIET_S:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._said_at[kind] = now
        left_out = self._left_out.pop(kind, 0)
        if left_out:
            self._log.log(level, f"{kind} (and %d more like it before)", *about, left_out)
        else:
            self._log.log(level, kind, *about)


def shown(text: str) -> str:
    """Write a text that somebody has given for the log: in quotes, escaped, and not endless."""
    return ascii(text[:_LONGEST]) + "…" * (len(text) > _LONGEST)
