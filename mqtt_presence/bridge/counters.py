"""Counters of the bridge's work, and the refusals that the log and operators see, at a bounded rate."""

import logging
import time
from collections import Counter
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.monitoring.metric import Distribution, Histogram, Labels, Metric
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.protocol.topics import VERBS
from mqtt_presence.store import Store, Transaction

log = logging.getLogger(__name__)

_QUIET_S = 10.0
_KEEP_EVERY_S = 10.0
_NAME = "refused"

DEVICE, REPORT, OTHER = "device", "report", "other"
"""The kinds of messages beside the verbs of clients: of devices, reports of the broker, and other topics."""
_KINDS = (*sorted(VERBS), DEVICE, REPORT, OTHER)
REASONS = (
    "bad_name",
    "bad_payload",
    "bad_topic",
    "late_will",
    "name_taken",
    "no_match",
    "overloaded",
    "retained",
    "too_fast",
    "too_large",
    "too_many_connections",
    "too_many_devices",
    "too_many_records",
    "too_many_users",
    "unprocessable",
)
"""The reasons of refusals, which metrics show from the start (docs/protocol.md, "Client messages")."""
IGNORED = ("activity_after_end", "end_after_end", "end_of_nothing", "login_after_end", "sighting_after_end")
_COMMIT_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_BATCH_BOUNDS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)


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
        self.accepted = dict.fromkeys(_KINDS, 0)
        """Messages that were read, by kind. A limit may still refuse some of them at the commit."""
        self.refused_kinds = dict.fromkeys(_KINDS, 0)
        """Messages that were refused when they were read, by kind."""
        self.commit_s = Histogram(_COMMIT_BOUNDS_S)
        self.batch_messages = Histogram(_BATCH_BOUNDS)
        self._logged: dict[str, tuple[float, int]] = {}
        self.last: dict[str, str] = {}
        """The detail of the latest refusal for each reason, until `RefusalTotals` has saved it."""

    def refuse(self, reason: str, detail: str, count: int = 1, *, kind: str | None = None) -> None:
        """Count refused messages; log the first of their kind, and then once in ten seconds at the most.

        Args:
            reason: the name of the counter.
            detail: for the log; it may come from a client, so it is escaped.
            count: the number of messages.
            kind: of the message; None for a refusal that is no message's, or that follows the reading.

        """
        self.refused[reason] += count
        if kind is not None:
            self.refused_kinds[kind] += count
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

    def metrics(self) -> Iterable[Metric | Distribution]:
        """See `Measured`."""
        messages: dict[Labels, int] = {(kind, "accepted"): count for kind, count in self.accepted.items()}
        messages |= {(kind, "refused"): count for kind, count in self.refused_kinds.items()}
        yield Metric(
            "messages",
            "Messages read from the broker, by verb and by whether they were accepted or refused on receipt.",
            is_counter=True,
            labels=("verb", "outcome"),
            values=messages,
        )
        yield _by_reason(
            "refused", "Messages without effect because they are invalid or beyond a limit.",
            dict.fromkeys(REASONS, 0) | dict(self.refused),
        )  # fmt: skip
        yield _by_reason(
            "ignored", "Accepted messages without effect, such as the second end of a connection.",
            {reason: self.ignored[reason] for reason in IGNORED},
        )  # fmt: skip
        yield self.batch_messages.read("batch_messages", "Messages that were committed together.")
        yield self.commit_s.read("commit_seconds", "Time to decide on a batch and to commit it.")


def _by_reason(name: str, text: str, counts: dict[str, int]) -> Metric:
    values: dict[Labels, int] = {(reason,): count for reason, count in counts.items()}
    return Metric(name, text, is_counter=True, labels=("reason",), values=values)


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
        text = tx.read_value(tx.seat_name(_NAME))
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
        tx.write_value(tx.seat_name(_NAME), msgspec.json.encode(self._totals).decode())
