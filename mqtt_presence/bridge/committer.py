"""From events to what is committed and published: the one way, for messages and for jobs.

Load what the events touch, have the rules decide, save, keep what is to be published, commit; then publish.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

from msgspec.structs import replace

from mqtt_presence.bridge.counters import Counters
from mqtt_presence.bridge.limits import TOO_MANY_USERS, Limiter
from mqtt_presence.bridge.link.link import Link, newest_only
from mqtt_presence.bridge.outbox import LastStatus, Outbox, last_status
from mqtt_presence.errors import StoreError
from mqtt_presence.mqtt.messages import Outgoing
from mqtt_presence.protocol import publications as say
from mqtt_presence.protocol.topics import Topics, is_name
from mqtt_presence.rules.activity import only_heartbeats, settle
from mqtt_presence.rules.fold import LIMITS, fold
from mqtt_presence.rules.model import (
    ActivityState,
    Event,
    Message,
    Outcome,
    RuleSettings,
    UserId,
    UserPresence,
)
from mqtt_presence.store import PORTION, Store, Transaction

CollectEvents: TypeAlias = Callable[[Transaction], Mapping[UserId, Sequence[Event]]]
"""Tells the events; inside the transaction, so that what is due is still due."""
Note: TypeAlias = Callable[[Transaction], None]
"""Writes, inside the transaction, what belongs to a batch of messages."""
AfterCommit: TypeAlias = Callable[[Sequence[Outcome]], None]
"""Told what the rules made of the events, once it is committed."""

Unpublished: TypeAlias = list[tuple[int, list[say.Publication]]]
"""What is committed and perhaps not published, by the number in the outbox."""


@dataclass(slots=True)
class _Decisions:
    """What the rules made of events."""

    outcomes: list[Outcome] = field(default_factory=list)
    newcomers: int = 0
    turned_away: list[tuple[UserId, int]] = field(default_factory=list)
    """New users there was no room for, and how many messages of theirs there were."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done once a transaction is committed."""

    users: int
    """How many the events were about."""
    made: _Decisions
    clearable: int | None
    number: int | None
    """Of the outbox; None: there is nothing to publish."""
    told: list[say.Publication]
    probe: LastStatus | None
    then: AfterCommit


@dataclass(slots=True)
class _Doubt:
    """What a transaction was about to do when it failed."""

    step: Step | None = None


class Committer:
    """Turns events into records, statuses and events for subscribers.

    Args:
        store: where they are kept.
        topics: under which prefix.
        rules: thresholds.
        limiter: what is too much from one user.
        counters: of what was refused and published.
        private: say addresses and user agents in the status.
        remember: writes, with the outbox, what else is known of what the broker has.

    """

    def __init__(
        self,
        store: Store,
        topics: Topics,
        rules: RuleSettings,
        limiter: Limiter,
        counters: Counters,
        *,
        private: bool,
        remember: Callable[[Transaction, LastStatus | None], None],
    ) -> None:
        self._store = store
        self._topics = topics
        self._rules = rules
        self._limiter = limiter
        self._counters = counters
        self._private = private
        self._remember = remember
        self._outbox = Outbox()
        self._doubt: Step | None = None

    def decide(self, link: Link, gather: CollectEvents, then: AfterCommit = lambda _: None) -> int:
        """Commit and complete what a job is about; returns of how many users that was."""
        with self._keeping_doubt() as doubt, self._store.transaction() as tx:
            events = gather(tx)
            step = doubt.step = self._take(tx, events, len(events), then)
        self.complete(link, step)
        return step.users

    def commit(self, events: Mapping[UserId, Sequence[Event]], note: Note, then: AfterCommit) -> Step:
        """Load, decide, save, commit.

        Args:
            events: what has come, by user.
            note: writes what belongs to the batch, in its transaction.
            then: what is to be done at last, when it is committed.

        Returns:
            What is to be done now, by `complete`.

        Raises:
            StoreError: nothing is known to be done. Heartbeats may be, and may be done twice.

        """
        rest = events
        with self._keeping_doubt() as doubt:
            if self._store.locks_rows and any(map(only_heartbeats, events.values())):
                # A transaction of their own: they lock connections without their users.
                with self._store.transaction() as tx:
                    rest = self._settle_heartbeats(tx, events)
                    if not rest:
                        note(tx)
                        doubt.step = self._take(tx, rest, len(events), then)
                if doubt.step is not None:
                    return doubt.step
            with self._store.transaction() as tx:
                if not self._store.locks_rows:
                    rest = self._settle_heartbeats(tx, events)
                doubt.step = self._take(tx, rest, len(events), then)
                note(tx)
        return doubt.step

    @contextmanager
    def _keeping_doubt(self) -> Iterator["_Doubt"]:
        """Remember a step whose commit may be done although its answer was lost."""
        doubt = _Doubt()
        try:
            yield doubt
        except StoreError as error:
            # What has nothing to publish is the same when it is done twice.
            if error.transient and doubt.step is not None and doubt.step.number is not None:
                self._doubt = doubt.step
            raise

    def complete(self, link: Link, step: Step) -> None:
        """Do what a commit allows: account, publish, acknowledge."""
        self._account(step.made)
        if step.clearable is not None:
            self._outbox.cleared(step.clearable)
        if step.number is not None:
            link.publish(self._on_their_way(step.number, step.told, step.probe))
        step.then(step.made.outcomes)

    def settle_doubt(self, link: Link) -> None:
        """Find out whether what failed at its end is done; if not, it will be done from its beginning.

        Raises:
            StoreError: it is still in doubt.

        """
        step = self._doubt
        if step is None or step.number is None:
            return
        with self._store.transaction() as tx:
            is_done = tx.has_outbox(step.number)
        self._doubt = None
        if is_done:
            self.complete(link, step)

    # The outbox.

    def unpublished(self, tx: Transaction) -> Unpublished:
        """Read the outbox that the bridge's last run has left."""
        left = [(number, say.unpack(body)) for number, body in tx.outbox()]
        # A forgotten user's status is cleared: nobody may see it again.
        forgotten = self._statuses_of_forgotten(tx, left)
        return [
            (number, [replace(p, payload=b"") if p.topic in forgotten else p for p in told])
            for number, told in left
        ]

    def publish_again(self, link: Link, unpublished: Unpublished) -> None:
        """Publish it: the events in their order, but of each user's statuses the newest only."""
        messages: list[Outgoing] = []
        for number, told in unpublished:
            messages += self._on_their_way(number, told, last_status(told))
        link.publish(newest_only(messages))

    def _statuses_of_forgotten(self, tx: Transaction, unpublished: Unpublished) -> set[str]:
        """Find the status topics of users who are not there any more."""
        users = {
            topic: user_id
            for topic in {p.topic for _, told in unpublished for p in told if p.retain}
            if (user_id := self._topics.parse_status(topic)) is not None
        }
        known = tx.known_users(users.values())
        return {topic for topic, user_id in users.items() if user_id not in known}

    def delivered(self, number: int, times: int) -> None:
        """The broker has acknowledged so many messages of an outbox number."""
        self._outbox.delivered(number, times)

    def clear_now(self) -> None:
        """Let the store forget what the broker has, without a batch.

        Raises:
            StoreError: it does not yet.

        """
        if self._outbox.clearable is None:
            return
        with self._store.transaction() as tx:
            clearable = self.clear(tx)
        if clearable is not None:
            self._outbox.cleared(clearable)

    def clear(self, tx: Transaction) -> int | None:
        """Let the store forget what the broker has; returns up to where, to be noted after the commit."""
        clearable = self._outbox.clearable
        if clearable is not None:
            tx.clear_outbox(clearable)
            self._remember(tx, self._outbox.probe)
        return clearable

    def _on_their_way(
        self, number: int, told: list[say.Publication], probe: LastStatus | None
    ) -> Iterable[Outgoing]:
        """Wait for the acknowledgements of publications; return the messages to send."""
        self._outbox.add(number, told, probe)
        self._counters.published += len(told)
        return [Outgoing(p.topic, p.payload, p.retain, number) for p in told]

    # How.

    def _take(
        self, tx: Transaction, events: Mapping[UserId, Sequence[Event]], users: int, then: AfterCommit
    ) -> Step:
        made = _Decisions()
        told: list[say.Publication] = []
        probe = number = None
        if events:
            made = self._fold(tx.load(events), events)
            tx.save(made.outcomes)
            told = [
                publication
                for outcome in made.outcomes
                for publication in say.of_outcome(outcome, self._topics, private=self._private)
            ]
            probe = self._probe(made.outcomes)
            if told:
                number = tx.put_outbox(say.pack(told))
        return Step(users, made, self.clear(tx), number, told, probe, then)

    def _settle_heartbeats(
        self, tx: Transaction, events: Mapping[UserId, Sequence[Event]]
    ) -> Mapping[UserId, Sequence[Event]]:
        """Take what can be decided without the rest of the user; return the other events."""
        beats = {user_id: b for user_id, of_user in events.items() if (b := only_heartbeats(of_user))}
        if not beats:
            return events
        rest = dict(events)
        waiting = iter(beats.items())
        while portion := dict(islice(waiting, PORTION)):
            live = tx.load_pulses(portion)
            pulses: list[ActivityState] = []
            for user_id, of_user in portion.items():
                settled = settle(of_user, live[user_id], self._rules)
                if settled is not None:
                    pulses += settled
                    del rest[user_id]
            tx.touch(pulses)
        return rest

    def _fold(
        self, users: Mapping[UserId, UserPresence], events: Mapping[UserId, Sequence[Event]]
    ) -> _Decisions:
        """Have the rules decide, within the limits."""
        moment = time.monotonic()
        made = _Decisions()
        room = self._limiter.users_left
        for user_id, of_user in events.items():
            user = users[user_id]
            if room is not None and user.status is None and made.newcomers >= room:
                messages = sum(isinstance(event, Message) for event in of_user)
                if messages:  # what the broker tells of those who are not here is not refused
                    made.turned_away.append((user_id, messages))
                continue
            left = self._limiter.records_left(user_id, moment)
            outcome = fold(user, of_user, self._rules, left)
            made.newcomers += user.status is None and outcome.user.status is not None
            made.outcomes.append(outcome)
        return made

    def _account(self, made: _Decisions) -> None:
        """Take note of what is committed, and of what was refused."""
        moment = time.monotonic()
        self._limiter.users_made(made.newcomers)
        for user_id, messages in made.turned_away:
            self._counters.refuse(TOO_MANY_USERS, user_id, messages)
        for outcome in made.outcomes:
            if outcome.created:
                self._limiter.records_made(outcome.user.user_id, outcome.created, moment)
            if outcome.ignored:
                self._counters.ignored.update(outcome.ignored)
                for word in LIMITS.intersection(outcome.ignored):
                    self._counters.refuse(word, outcome.user.user_id, outcome.ignored.count(word))

    def _probe(self, outcomes: list[Outcome]) -> LastStatus | None:
        for outcome in reversed(outcomes):
            if outcome.status_changed and is_name(outcome.user.user_id):  # else it is not published
                return LastStatus(self._topics.status(outcome.user.user_id), outcome.user.version)
        return None
