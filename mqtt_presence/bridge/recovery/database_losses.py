"""Database losses: notices that the database is older than the messages on the broker, and shows every loss.

The process that commits notices by itself when the database loses transactions (`store/lease.py`). After a
restart nothing in the process or the database shows that a backup was restored. Then `bridge/health` does: it
is retained, and has the number of the last change that the database had.
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Annotated, NamedTuple

import msgspec

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.monitoring.metric import Distribution, Metric, gauge
from mqtt_presence.bridge.part import Part
from mqtt_presence.errors import SetBackError, StoreError
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.store import DatabaseLoss, DatabasePlace, Store, Transaction

log = logging.getLogger(__name__)

SHOWN_MS = 7 * 24 * 3_600_000
"""For so long `bridge/state` shows a loss."""
_LOOK_EVERY_S = 20.0


_Number = Annotated[int, msgspec.Meta(ge=0)]


class _Health(msgspec.Struct, rename="camel"):
    """What `bridge/health` says of the database."""

    version: _Number
    """Epoch milliseconds, or a little more."""
    changes: _Number = 0
    change_log: str = ""


class _Found(NamedTuple):
    """A loss that a health message shows."""

    changes: int
    """The number of the change that the database lacks."""
    loss: DatabaseLoss


_decode = msgspec.json.Decoder(_Health).decode


class DatabaseLosses(Part):
    """Compares the database with `bridge/health`, and waits for the end of a repair.

    Args:
        store: the database.
        topics: the topics under the prefix in use.
        clock: the bridge's.
        is_repaired: returns whether all statuses are published again, and all clients asked.

    """

    def __init__(self, store: Store, topics: Topics, clock: Clock, is_repaired: Callable[[], bool]) -> None:
        self._store = store
        self._topics = topics
        self._clock = clock
        self._is_repaired = is_repaired
        self._is_asking = True
        """Whether no retained health message has been compared yet."""
        self._found: _Found | None = None
        self._looked_s = 0.0
        self.place: DatabasePlace | None = None
        """The last change of the database, as committed some seconds ago."""
        self._loss: DatabaseLoss | None = None
        self.is_repairing = False
        """Whether a loss is noted, and its repair is not complete."""

    def restore(self, tx: Transaction) -> None:
        """See `Part`."""
        self.place = tx.place()
        self._loss, is_repairing = tx.database_loss()
        self.is_repairing = is_repairing and tx.seat == 0  # its holder repairs

    @property
    def shown(self) -> DatabaseLoss | None:
        """The last loss, for `bridge/state`."""
        loss = self._loss
        return loss if loss is not None and self._clock.now() - loss.noticed_at < SHOWN_MS else None

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Ask for the last health message of the run before."""
        del session_present, contested
        if self._is_asking:
            link.subscribe(self._topics.bridge_health, required=False)

    def handle(self, link: Link, message: Incoming) -> bool:
        """Compare the health message with the database.

        Raises:
            SetBackError: the database is older.

        """
        if message.topic != self._topics.bridge_health:
            return False
        # A message that is not retained may have waited in the session: the last run ended before it
        # unsubscribed. The retained one comes as well.
        if message.retain:
            link.unsubscribe(self._topics.bridge_health)
            self._is_asking = False
        if self.place is not None:
            self._found = self._compare(self.place, message.payload)
        with suppress(StoreError):  # `step` tries again
            self._note()
        return True

    def _compare(self, place: DatabasePlace, payload: bytes) -> _Found | None:
        """Compare a health message of this run or an earlier one; those of this run have no later number."""
        try:
            health = _decode(payload)
        except msgspec.MsgspecError:
            return None
        # Another log of changes is another database; an empty one was made on purpose.
        if health.change_log != place.log or health.changes <= place.changes:
            return None
        now = self._clock.now()
        until = min(health.version, now)
        return _Found(health.changes, DatabaseLoss(now, place.at, until, health.changes - place.changes))

    def _note(self) -> None:
        """Store a loss that was found.

        Raises:
            SetBackError: it is stored; the next bridge repairs it.
            StoreError: it is not stored.

        """
        found = self._found
        if found is None:
            return
        if self._store.seat.number:  # the holder of seat 0 may have published this number just now
            with self._store.transaction() as tx:
                is_known = tx.place().changes >= found.changes
            if is_known:
                self._found = None
                return
        self._store.note_loss(found.loss)
        raise SetBackError(f"{found.loss}; the broker has the number of a later change")

    def step(self, link: Link) -> bool:
        """Store a loss that was found; at seat 0 record how far the database is, and complete a repair."""
        del link
        self._note()
        if self._store.seat.number:
            return True
        if self._clock.monotonic() - self._looked_s > _LOOK_EVERY_S:
            with self._store.transaction() as tx:
                place = tx.place()
            self.place, self._looked_s = place, self._clock.monotonic()
        if self.is_repairing and self._loss is not None and self._is_repaired():
            with self._store.transaction() as tx:
                tx.end_repair(self._loss)
            self.is_repairing = False
            log.warning("the loss of the database is repaired, as far as clients and statuses can show it")
        return True

    def metrics(self) -> Iterable[Metric | Distribution]:
        """See `Measured`."""
        yield gauge(
            "database_repairing", "1 while a loss of the database is being repaired.", self.is_repairing
        )
        yield gauge(
            "database_loss_timestamp_seconds",
            "When a bridge last noticed that the database had lost transactions; 0: never.",
            0 if self._loss is None else self._loss.noticed_at / 1000,
        )
