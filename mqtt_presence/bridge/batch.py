"""Batches: the oldest pending messages, decided and committed together, then acknowledged."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from mqtt_presence.bridge.committer import Committer
from mqtt_presence.bridge.counters import Counters
from mqtt_presence.bridge.intake import Intake
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part
from mqtt_presence.bridge.redeliveries import JournalEntry, Redeliveries
from mqtt_presence.errors import ReplacedError, SeatLostError, StoreError
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.activity import is_heartbeat
from mqtt_presence.rules.model import Event, Message, Outcome, UserId
from mqtt_presence.store import Transaction

log = logging.getLogger(__name__)

# Large batches suit heartbeats: each database page is written once per batch. Small batches suit everything
# that is published: the broker works while the bridge goes on. Each of the two takes some 50 ms.
MAX_CHANGES = 1000
"""Messages of one batch other than heartbeats."""
_MAX_BATCH_V311 = 500  # half of a usual receive window: the broker fills one half while the other is decided


@dataclass(slots=True)
class Batch:
    """Messages that are committed together."""

    messages: list[Incoming] = field(default_factory=list)
    events: dict[UserId, list[Event]] = field(default_factory=dict)
    journal_entry: JournalEntry | None = None
    """The packet ids by which the messages are recognised if the broker sends them again."""


class BatchRecorder(Protocol):
    """A part that stores something of its own with each batch."""

    def save_batch(self, tx: Transaction, batch: Batch) -> None:
        """Store it, in the batch's transaction."""

    def batch_committed(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Record that the batch is committed."""

    def batch_given_up(self, message: Incoming) -> None:
        """Record that a message cannot be processed and will not come again."""


class Reports(Protocol):
    """Knows which messages are reports of the broker."""

    def is_uncommitted(self, message: Incoming) -> bool:
        """Return whether a message reports a network connection, and is not committed yet."""


class BatchCommit(Part):
    """Commits the pending messages, batch by batch.

    Args:
        intake: has them.
        committer: decides and commits.
        redeliveries: recognise a committed message that the broker sends again.
        recorders: store something of their own with each batch.
        reports: know which messages are uncommitted reports of the broker.
        counters: count batches and refusals.
        max_batch: messages of one batch.

    """

    def __init__(
        self,
        intake: Intake,
        committer: Committer,
        redeliveries: Redeliveries,
        recorders: Sequence[BatchRecorder],
        reports: Reports,
        counters: Counters,
        max_batch: int,
    ) -> None:
        self._intake = intake
        self._committer = committer
        self._redeliveries = redeliveries
        self._recorders = recorders
        self._reports = reports
        self._counters = counters
        self._max_batch = max_batch
        self._limit = max_batch

    def step(self, link: Link) -> bool:
        """Commit one batch, unless too many publications wait for the broker."""
        if self._intake.pending and not self._intake.is_blocked(link):
            most = self._limit if link.is_mqtt5 else min(self._limit, _MAX_BATCH_V311)
            self._commit(link, self._next(most))
        return not self._intake.pending or self._intake.is_blocked(link)

    def _next(self, most: int) -> Batch:
        batch = Batch()
        may_come_again: list[tuple[Incoming, bool]] = []
        changes = 0
        is_uncommitted, is_repeated = self._reports.is_uncommitted, self._redeliveries.is_repeated
        for entry in islice(self._intake.pending, most):
            message, events = entry.message, entry.events
            changes += not (len(events) == 1 and is_heartbeat(events[0]))
            if changes > MAX_CHANGES:
                break
            batch.messages.append(message)
            is_nameless = entry.is_nameless or _is_nameless(events)
            may_come_again.append((message, is_nameless or is_uncommitted(message)))
            if is_nameless and is_repeated(message):
                continue
            for event in events:
                batch.events.setdefault(event.user_id, []).append(event)
        batch.journal_entry = self._redeliveries.journal_entry(may_come_again)
        return batch

    def _commit(self, link: Link, batch: Batch) -> None:
        def save(tx: Transaction) -> None:
            for recorder in self._recorders:
                recorder.save_batch(tx, batch)
            if batch.journal_entry is not None:
                tx.put_redeliveries(batch.journal_entry.number, batch.journal_entry.body)
                tx.clear_redeliveries(batch.journal_entry.obsolete)

        def committed(outcomes: Sequence[Outcome]) -> None:
            for recorder in self._recorders:
                recorder.batch_committed(batch, outcomes)
            self._done(link, batch)

        if not batch.events and not any(map(self._reports.is_uncommitted, batch.messages)):
            self._done(link, batch)
            return
        try:
            step = self._committer.commit(batch.events, save, committed)
        except Exception as error:
            if not _is_of_the_batch(error):
                raise
            if len(batch.messages) > 1:
                # Some message of the batch cannot be processed: halve the batch to find it.
                self._limit = len(batch.messages) // 2
                return
            log.exception("a message cannot be processed")
            self._counters.refuse("unprocessable", f"{batch.messages[0].topic}: {error}")
            for recorder in self._recorders:
                recorder.batch_given_up(batch.messages[0])
            self._done(link, batch)
        else:
            self._committer.complete(link, step)

    def _done(self, link: Link, batch: Batch) -> None:
        self._limit = self._max_batch
        if batch.journal_entry is not None:  # for refused messages too: their packet ids have been used
            self._redeliveries.batch_done(batch.journal_entry)
        self._intake.remove(batch.messages)
        self._counters.batches += 1
        link.ack(batch.messages)
        link.flush()


def _is_of_the_batch(error: Exception) -> bool:
    """Return whether one of the messages is at fault, and would be again."""
    if isinstance(error, StoreError):
        return not error.transient
    return not isinstance(error, SeatLostError | ReplacedError)


def _is_nameless(events: Sequence[Event]) -> bool:
    """Return whether only the packet id distinguishes a message with these events from an equal one."""
    for event in events:  # noqa: SIM110 - a generator for each message costs more
        if isinstance(event, Message) and event.connection_id is None:
            return True
    return False
