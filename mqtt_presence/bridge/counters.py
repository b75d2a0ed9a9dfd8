"""Counting what happens, and telling log and operators of refusals at a bounded rate."""

import logging
import time
from collections import Counter

import msgspec
from msgspec import Struct

log = logging.getLogger(__name__)

_QUIET_S = 10.0
_KEEP_EVERY_S = 10.0


class Refusals(Struct, rename="camel"):
    """What was refused for one reason, since the database was made."""

    total: int
    last: str
    """What the last one was about: a topic or a user, escaped."""
    at: int
    """When it was noted, epoch milliseconds."""


class Counters:
    """What the bridge did since its start."""

    def __init__(self) -> None:
        self.received = 0
        self.batches = 0
        self.published = 0
        self.refused: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()
        self._told: dict[str, tuple[float, int]] = {}
        self._last: dict[str, str] = {}
        self._kept: dict[str, Refusals] = {}
        self._before: dict[str, int] = {}
        self._kept_at = -_KEEP_EVERY_S

    def refuse(self, reason: str, detail: str, count: int = 1) -> None:
        """Count refused messages; log the first of their kind, and then once in ten seconds at the most.

        Args:
            reason: what to count them by.
            detail: what the log should say; it may come from a client, so it is escaped.
            count: how many there are.

        """
        self.refused[reason] += count
        self._last[reason] = detail
        told_at, told = self._told.get(reason, (-_QUIET_S, 0))
        if time.monotonic() - told_at >= _QUIET_S:
            total = self.refused[reason]
            self._told[reason] = (time.monotonic(), total)
            log.warning(
                "refused reason=%s new=%d total=%d last=%s", reason, total - told, total, ascii(detail[:300])
            )

    # What is kept in the database, over restarts.

    def restore(self, text: str | None) -> None:
        """Read what was kept."""
        self._kept = {} if text is None else msgspec.json.decode(text, type=dict[str, Refusals])
        self._before = {reason: kept.total for reason, kept in self._kept.items()}

    def news(self, moment: float, now: int, *, at_once: bool = False) -> str | None:
        """Write what is to be kept; None: nothing new, or it is too soon. Say `kept` once it is.

        Args:
            moment: now, seconds of the monotonic clock.
            now: now, epoch milliseconds.
            at_once: do not wait: it is the end.

        """
        if not self._last or (moment - self._kept_at < _KEEP_EVERY_S and not at_once):
            return None
        self._kept_at = moment
        for reason, detail in self._last.items():
            total = self._before.get(reason, 0) + self.refused[reason]
            self._kept[reason] = Refusals(total, ascii(detail[:300]), now)
        return msgspec.json.encode(self._kept).decode()

    def kept(self) -> None:
        """Take note that the news is committed."""
        self._last.clear()
