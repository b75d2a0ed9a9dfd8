"""The committer: from events to committed and published outcomes; the one way, for messages and for jobs.

Load the records that the events touch, apply the rules, save, store the publications, commit; then publish.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from msgspec.structs import replace

from mqtt_presence.bridge.batch_recorder import Batch, BatchRecorder
from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.commit_doubt import CommitDoubt
from mqtt_presence.bridge.commit_result import AfterCommit, Committed, Decisions, OutcomeRecorder, Recorded
from mqtt_presence.bridge.counters import Counters
from mqtt_presence.bridge.heartbeats import settle
from mqtt_presence.bridge.limits import TOO_MANY_USERS, Limiter
from mqtt_presence.bridge.link.acknowledgements import newest_only
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.outbox import LastStatus, Outbox, last_status
from mqtt_presence.bridge.part import CommitObserver, Part
from mqtt_presence.bridge.present_statuses import PresentStatuses
from mqtt_presence.integrations.outputs import Outputs
from mqtt_presence.mqtt.messages import Outgoing
from mqtt_presence.protocol.publications import Publication, pack, unpack
from mqtt_presence.protocol.topics import Topics, is_name
from mqtt_presence.rules.activity import only_heartbeats
from mqtt_presence.rules.capacity import LIMITS
from mqtt_presence.rules.events import Event, Message, NetworkOpened
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import Outcome, RuleSettings, UserId, UserPresence
from mqtt_presence.store import Store, Transaction

CHUNK = 200
"""Users of one step of a job: messages wait no longer than it takes."""

CollectEvents: TypeAlias = Callable[[Transaction], Mapping[UserId, Sequence[Event]]]
"""Collects the events inside the transaction, so that due rows cannot change in between."""
_CLOCK_TOLERANCE_MS = 1_000
"""Several bridges may process a client's messages in any order, by clocks that differ a little. Clients keep
theirs by the bridge's time or by NTP; both are better than this."""
Restored: TypeAlias = list[tuple[int, list[Publication]]]
"""Publications of an earlier run by their number in the outbox."""


class Committer(Part):
    """Turns events into records, statuses and events for subscribers.

    Args:
        store: the database.
        topics: the topics under the prefix in use.
        rules: thresholds.
        limiter: refuses users and records beyond the limits.
        counters: count refusals and publications.
        clock: the bridge's.
        outputs: write the publications of an outcome.
        on_clear: called when publications leave the outbox, with the last status among them.
        recorder: stores something of its own with every outcome.
        observers: get the outcomes of each commit.
        on_commit: called after statuses may have changed; returns at once.

    """

    def __init__(
        self,
        store: Store,
        topics: Topics,
        rules: RuleSettings,
        limiter: Limiter,
        counters: Counters,
        clock: Clock,
        outputs: Outputs,
        on_clear: Callable[[Transaction, LastStatus | None], None],
        recorder: OutcomeRecorder | None = None,
        observers: Sequence[CommitObserver] = (),
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._topics = topics
        self._rules_alone = rules
        self._rules_shared = replace(rules, clock_tolerance_ms=_CLOCK_TOLERANCE_MS)
        self._limiter = limiter
        self._counters = counters
        self._clock = clock
        self._outputs = outputs
        self._on_clear = on_clear
        self._recorder = recorder
        self._observers = observers
        self._on_commit = on_commit
        self._present = PresentStatuses(topics, outputs)
        self._outbox = Outbox(topics, lambda: self.is_alone)
        self._doubt = CommitDoubt(store)
        self._restored: Restored = []

    # As a part of the bridge.

    def restore(self, tx: Transaction) -> None:
        """Read the publications of the last run that the broker did not acknowledge."""
        left = [(number, unpack(body)) for number, body in tx.outbox()]
        # Another bridge may have published since: retained messages follow the database as it is now.
        topics = {p.topic for _, publications in left for p in publications if p.retain}
        present = self._present.of_topics(tx, topics)
        self._restored = [
            (number, [replace(p, payload=present.get(p.topic, p.payload)) for p in publications])
            for number, publications in left
        ]

    def step(self, link: Link) -> bool:
        """Publish the restored publications; resolve an uncertain commit."""
        if self._restored:
            messages: list[Outgoing] = []
            for number, publications in self._restored:
                messages += self._outgoing(number, publications, last_status(publications, self._topics))
            link.publish(newest_only(messages))
            self._restored = []
        done = self._doubt.resolve()
        if done is not None:
            self.complete(link, done)
        if self._outbox.look_in_s(self._clock.monotonic()) <= 0:
            self.clear_now(link)
        return True

    def wait_s(self) -> float:
        """See `Part`: the look after the acknowledgement does not wait for the next message."""
        return max(0.0, self._outbox.look_in_s(self._clock.monotonic()))

    def acknowledged(self, ticket: object, count: int) -> None:
        """See `Part`."""
        if isinstance(ticket, int):
            self._outbox.delivered(ticket, count)

    def refused(self, message: Outgoing) -> None:
        """Count a refused publication as delivered; `RetainedStatuses` publishes refused statuses later."""
        self.acknowledged(message.ticket, 1)

    def finish(self, tx: Transaction) -> None:
        """Remove acknowledged publications from the outbox; newer versions wait there for the next run."""
        self._put(tx, [])

    # For messages and jobs.

    def run(self, link: Link, collect: CollectEvents, after: AfterCommit = lambda _: None) -> int:
        """Commit and complete the events of a job; return the number of users.

        Args:
            link: publishes.
            collect: see `CollectEvents`.
            after: called last.

        Raises:
            StoreError: no event is known to be committed.

        """
        with self._doubt.attempt() as attempt, self._store.transaction() as tx:
            events = collect(tx)
            done = attempt.done = self._decide(tx, events, len(events), after)
        self.complete(link, done)
        return done.users

    def commit(self, batch: Batch, recorders: Sequence[BatchRecorder], after: AfterCommit) -> Committed:
        """Load, decide, save, commit.

        Args:
            batch: messages and their events.
            recorders: store something of their own with it.
            after: called by `complete`, last.

        Returns:
            The argument for `complete`.

        Raises:
            StoreError: no event is known to be committed. Heartbeats may be committed, and may be repeated.

        """
        events: Mapping[UserId, Sequence[Event]] = batch.events
        rest = events
        has_heartbeats = any(map(only_heartbeats, events.values()))
        with self._timed(), self._doubt.attempt() as attempt:
            if has_heartbeats and self._store.locks_rows:
                # A transaction of their own: they lock connections without their users.
                with self._store.transaction() as tx:
                    rest = settle(tx, events, self._rules)
                    if not rest:
                        _save_batch(tx, batch, recorders)
                        attempt.done = self._decide(tx, rest, len(events), after)
                if attempt.done is not None:
                    return attempt.done
            with self._store.transaction() as tx:
                if has_heartbeats and not self._store.locks_rows:
                    rest = settle(tx, events, self._rules)
                attempt.done = self._decide(tx, rest, len(events), after)
                _save_batch(tx, batch, recorders)
        return attempt.done

    def confirm(self) -> None:
        """Commit without content, before repeated messages are acknowledged.

        On PostgreSQL their effect may be visible before the standby has it. This commit waits for both.

        Raises:
            StoreError: the effect may still be lost.

        """
        if self._store.locks_rows:
            with self._store.transaction():
                pass

    def publish(self, link: Link, make: Callable[[Transaction], Recorded]) -> None:
        """Commit and publish messages that belong to no outcome.

        Args:
            link: publishes.
            make: makes the messages inside the transaction, and stores what belongs to them.

        Raises:
            StoreError: nothing is known to be committed.

        """
        with self._doubt.attempt() as attempt, self._store.transaction() as tx:
            made, recorded = make(tx)
            publications = list(made)
            number, clearable = self._put(tx, publications)
            done = attempt.done = Committed(
                0, Decisions(), clearable, number, publications, None, lambda _: None, recorded, tx.attempt
            )
        self.complete(link, done)

    def complete(self, link: Link, done: Committed) -> None:
        """Count, publish, and let the caller acknowledge."""
        done.recorded()
        self._count_results(done.decisions)
        if done.clearable is not None:
            self._outbox.cleared(done.clearable)
        if done.number is not None:
            link.publish(self._outgoing(done.number, done.publications, done.last_status))
            self._on_commit()
        done.after(done.decisions.outcomes)

    def clear_now(self, link: Link) -> None:
        """Remove acknowledged publications from the outbox without a batch.

        Raises:
            StoreError: they are not removed.

        """
        if self._outbox.clearable is None:
            return
        self.publish(link, lambda _: ([], _nothing))

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Measure a transaction that is committed."""
        began_s = self._clock.monotonic()
        yield
        self._counters.commit_s.add(self._clock.monotonic() - began_s)

    # The outbox.

    def _put(self, tx: Transaction, publications: list[Publication]) -> tuple[int | None, int | None]:
        """Put publications into the store, and remove acknowledged ones.

        Args:
            tx: of the store.
            publications: of this transaction; newer versions of acknowledged statuses are added in front.

        Returns:
            The number of the publications in the outbox, and up to which number others were removed.

        """
        clearable = self._outbox.clearable
        if clearable is not None:
            publications[:0] = self._present.newer(tx, self._outbox.statuses)
        # Before the removal: SQLite gives a number again once the table is empty.
        number = tx.put_outbox(pack(publications)) if publications else None
        if clearable is not None:
            tx.clear_outbox(clearable)
            self._on_clear(tx, self._outbox.last_status)
        return number, clearable

    def publish_present(self, link: Link, user_ids: Collection[UserId]) -> None:
        """Publish the retained messages of users as they should be now.

        Raises:
            StoreError: nothing is known to be committed.

        """

        def make(tx: Transaction) -> Recorded:
            present = self._present.of_users(tx, user_ids)
            return [Publication(topic, payload, retain=True) for topic, payload in present.items()], _nothing

        self.publish(link, make)

    @property
    def is_alone(self) -> bool:
        """Whether there is no other bridge."""
        return self._store.seat.seats == 1

    @property
    def _rules(self) -> RuleSettings:
        return self._rules_alone if self.is_alone else self._rules_shared

    def _outgoing(
        self, number: int, publications: list[Publication], last: LastStatus | None
    ) -> Iterable[Outgoing]:
        """Record that acknowledgements are due; return the messages to send."""
        self._outbox.add(number, publications, last)
        self._counters.published += len(publications)
        return [Outgoing(p.topic, p.payload, p.retain, number) for p in publications]

    # Decisions.

    def _decide(
        self, tx: Transaction, events: Mapping[UserId, Sequence[Event]], users: int, after: AfterCommit
    ) -> Committed:
        decisions = Decisions()
        publications: list[Publication] = []
        last = None
        recorded = _nothing
        if events:
            decisions = self._fold(tx.load(events), events)
            tx.save(decisions.outcomes)
            publications = [
                publication
                for outcome in decisions.outcomes
                for publication in self._outputs.publications(outcome)
            ]
            if self._recorder is not None:
                more, recorded = self._recorder.record(tx, decisions.outcomes)
                publications += more
            last = self._last_status(decisions.outcomes)
        number, clearable = self._put(tx, publications)
        return Committed(users, decisions, clearable, number, publications, last, after, recorded, tx.attempt)

    def _fold(
        self, users: Mapping[UserId, UserPresence], events: Mapping[UserId, Sequence[Event]]
    ) -> Decisions:
        """Apply the rules, within the limits."""
        now_s = self._clock.monotonic()
        decisions = Decisions()
        room, rules = self._limiter.users_left, self._rules
        present = None if self.is_alone else self._clock.now()
        for user_id, of_user in events.items():
            user = users[user_id]
            if room is not None and user.status is None and decisions.new_users >= room:
                messages = sum(isinstance(event, Message | NetworkOpened) for event in of_user)
                if messages:  # a report of the broker about a stranger is not refused
                    decisions.refused_users.append((user_id, messages))
                continue
            left = self._limiter.records_left(user_id, now_s)
            outcome = fold(user, of_user, rules, left, present)
            decisions.new_users += user.status is None and outcome.user.status is not None
            decisions.outcomes.append(outcome)
        return decisions

    def _count_results(self, decisions: Decisions) -> None:
        """Count committed and refused messages."""
        now_s = self._clock.monotonic()
        for observer in self._observers:
            observer.committed(decisions.outcomes)
        self._limiter.count_users(decisions.new_users)
        for user_id, messages in decisions.refused_users:
            self._counters.refuse(TOO_MANY_USERS, user_id, messages)
        for outcome in decisions.outcomes:
            if outcome.created:
                self._limiter.count_records(outcome.user.user_id, outcome.created, now_s)
            if outcome.ignored:
                self._counters.ignored.update(outcome.ignored)
                for word in LIMITS.intersection(outcome.ignored):
                    self._counters.refuse(word, outcome.user.user_id, outcome.ignored.count(word))

    def _last_status(self, outcomes: list[Outcome]) -> LastStatus | None:
        for outcome in reversed(outcomes):
            if outcome.status_changed and is_name(outcome.user.user_id):  # others are not published
                return LastStatus(self._topics.status(outcome.user.user_id), outcome.user.version)
        return None


def _nothing() -> None:
    """Do nothing: no recorder has recorded anything."""


def _save_batch(tx: Transaction, batch: Batch, recorders: Sequence[BatchRecorder]) -> None:
    """Store the records of parts that belong to a batch of messages, and the packet ids of the messages."""
    for recorder in recorders:
        recorder.save_batch(tx, batch)
    if batch.journal_entry is not None:
        tx.put_redeliveries(batch.journal_entry.number, batch.journal_entry.body)
        tx.clear_redeliveries(batch.journal_entry.obsolete)
