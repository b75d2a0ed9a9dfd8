"""Counters of the bridge's work, and the refusals that the log and operators see, at a bounded rate."""

import logging
import time
from collections import Counter

import msgspec
from msgspec import Struct

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.store import Store, Transaction

log = logging.getLogger(__name__)

_QUIET_S = 10.0
_KEEP_EVERY_S = 10.0
_NAME = "refused"


class Refusals(Struct, rename="camel"):
    """The messages refused for one reason, since the database was created."""

    total: int
    last: str
    """The topic or user of the last one, escaped."""
    at: int
    """The time of the last save, epoch milliseconds."""


class Counters:
    """Counts the bridge's work since its start."""

    def __init__(self) -> None:
        self.received = 0
        self.batches = 0
        self.published = 0
        self.refused: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()
        self._logged: dict[str, tuple[float, int]] = {}
        self.last: dict[str, str] = {}
        """The detail of the latest refusal for each reason, until `RefusalTotals` has saved it."""

    def refuse(self, reason: str, detail: str, count: int = 1) -> None:
        """Count refused messages; log the first of their kind, and then once in ten seconds at the most.

        Args:
            reason: the name of the counter.
            detail: for the log; it may come from a client, so it is escaped.
            count: the number of messages.

        """
        self.refused[reason] += count
        self.last[reason] = detail
        logged_at, logged = self._logged.get(reason, (-_QUIET_S, 0))
        if time.monotonic() - logged_at >= _QUIET_S:
            total = self.refused[reason]
            self._logged[reason] = (time.monotonic(), total)
            log.warning(
                "refused reason=%s new=%d total=%d last=%s",
                reason,
                total - logged,
                total,
                ascii(detail[:300]),
            )


class RefusalTotals(OnCheck):
    """Keeps the totals of refusals in the database, for operators and over restarts.

    Args:
        counters: count the refusals.
        store: keeps the totals.
        clock: the bridge's.

    """

    def __init__(self, counters: Counters, store: Store, clock: Clock) -> None:
        super().__init__()
        self._counters = counters
        self._store = store
        self._clock = clock
        self._totals: dict[str, Refusals] = {}
        self._before: dict[str, int] = {}
        self._saved_at = -_KEEP_EVERY_S

    def restore(self, tx: Transaction) -> None:
        """See `Part`."""
        text = tx.read_value(_NAME)
        self._totals = {} if text is None else msgspec.json.decode(text, type=dict[str, Refusals])
        self._before = {reason: refusals.total for reason, refusals in self._totals.items()}

    def check(self, link: Link) -> bool:
        """Save new totals, at most every ten seconds, because each save costs a commit."""
        del link
        if self._counters.last and self._clock.monotonic() - self._saved_at >= _KEEP_EVERY_S:
            self._saved_at = self._clock.monotonic()
            with self._store.transaction() as tx:
                self._save(tx)
            self._counters.last.clear()
        return True

    def finish(self, tx: Transaction) -> None:
        """See `Part`."""
        if self._counters.last:
            self._save(tx)

    def _save(self, tx: Transaction) -> None:
        for reason, detail in self._counters.last.items():
            total = self._before.get(reason, 0) + self._counters.refused[reason]
            self._totals[reason] = Refusals(total, ascii(detail[:300]), self._clock.now())
        tx.write_value(_NAME, msgspec.json.encode(self._totals).decode())
