"""Batches: the oldest pending messages, decided and committed together, then acknowledged."""

import logging
from collections.abc import Sequence
from itertools import islice

from mqtt_presence.bridge.batch_recorder import Batch, BatchRecorder
from mqtt_presence.bridge.committer import Committer
from mqtt_presence.bridge.counters import Counters
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.packet_id_journal import PacketIdJournal
from mqtt_presence.bridge.part import Part
from mqtt_presence.bridge.pending_messages import PendingMessages
from mqtt_presence.errors import ReplacedError, SeatLostError, StoreError
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.activity import is_heartbeat
from mqtt_presence.rules.events import Event, Message
from mqtt_presence.rules.model import Outcome

log = logging.getLogger(__name__)

# Large batches suit heartbeats: each database page is written once per batch. Small batches suit everything
# that is published: the broker works while the bridge goes on. Each of the two takes some 50 ms.
MAX_CHANGES = 1000
"""Messages of one batch other than heartbeats."""
_MAX_BATCH_V311 = 500  # half of a usual receive window: the broker fills one half while the other is decided


class BatchCommit(Part):
    """Commits the pending messages, batch by batch.

    Args:
        pending: has them.
        committer: decides and commits.
        journal: recognises a committed message that the broker sends again.
        recorders: store something of their own with each batch.
        counters: count batches and refusals.
        max_batch: messages of one batch.

    """

    def __init__(
        self,
        pending: PendingMessages,
        committer: Committer,
        journal: PacketIdJournal,
        recorders: Sequence[BatchRecorder],
        counters: Counters,
        max_batch: int,
    ) -> None:
        self._pending = pending
        self._committer = committer
        self._journal = journal
        self._recorders = recorders
        self._counters = counters
        self._max_batch = max_batch
        self._limit = max_batch

    def step(self, link: Link) -> bool:
        """Commit one batch, unless too many publications wait for the broker."""
        if self._pending and not self._pending.is_blocked(link):
            most = self._limit if link.is_mqtt5 else min(self._limit, _MAX_BATCH_V311)
            self._commit(link, self._next(most))
        return not self._pending or self._pending.is_blocked(link)

    def _next(self, most: int) -> Batch:
        batch = Batch()
        may_come_again: list[tuple[Incoming, bool]] = []
        changes = 0
        has_reports = False
        is_repeated = self._journal.is_repeated
        for entry in islice(self._pending.messages, most):
            message, events = entry.message, entry.events
            changes += not (len(events) == 1 and is_heartbeat(events[0]))
            if changes > MAX_CHANGES:
                break
            batch.messages.append(message)
            is_nameless = entry.is_nameless or _is_nameless(events)
            may_come_again.append((message, is_nameless or entry.is_report))
            has_reports = has_reports or entry.is_report
            if is_nameless and is_repeated(message):
                continue
            for event in events:
                batch.events.setdefault(event.user_id, []).append(event)
        batch.has_reports = has_reports
        batch.journal_entry = self._journal.journal_entry(may_come_again)
        return batch

    def _commit(self, link: Link, batch: Batch) -> None:
        def committed(outcomes: Sequence[Outcome]) -> None:
            for recorder in self._recorders:
                recorder.batch_committed(batch, outcomes)
            self._done(link, batch)

        if not batch.events and not batch.has_reports:
            self._committer.confirm()
            self._done(link, batch)
            return
        try:
            step = self._committer.commit(batch, self._recorders, committed)
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
            self._journal.batch_done(batch.journal_entry)
        self._pending.remove(batch.messages)
        self._counters.batches += 1
        self._counters.batch_messages.add(len(batch.messages))
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
