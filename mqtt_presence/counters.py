"""Counting what happens, and telling the log of refusals at a bounded rate."""

import logging
import time
from collections import Counter

log = logging.getLogger(__name__)

_QUIET_S = 10.0


class Counters:
    """What the bridge did since its start."""

    def __init__(self) -> None:
        self.received = 0
        self.batches = 0
        self.published = 0
        self.refused: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()
        self._told: dict[str, tuple[float, int]] = {}

    def refuse(self, reason: str, detail: str) -> None:
        """Count a refused message; log the first of its kind, and then one in ten seconds at the most.

        Args:
            reason: what to count it by.
            detail: what the log should say; it may come from a client, so it is escaped.

        """
        self.refused[reason] += 1
        told_at, told = self._told.get(reason, (-_QUIET_S, 0))
        if time.monotonic() - told_at >= _QUIET_S:
            total = self.refused[reason]
            self._told[reason] = (time.monotonic(), total)
            log.warning(
                "refused reason=%s new=%d total=%d last=%s", reason, total - told, total, ascii(detail[:300])
            )
