"""Retained statuses: makes the broker's copies true again after it may have lost some.

With the statuses, the retained messages of other outputs are published again.

A restarted broker still has all statuses, or all but the last changes, or none. One probe is enough: if the
broker still has the status that it acknowledged last, the *witness*, it has all of them. Without it, or
without a witness, the bridge publishes all users again, a page at a time; a restart meanwhile begins anew.
The same full republish follows, after a delay, when the broker refuses a status: sending one status again
could overtake a newer one. Afterwards one status is published with a new version, as the next witness,
because the broker may have had the others before.
"""

import logging
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.committer import Committer
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.outbox import LastStatus
from mqtt_presence.bridge.part import Part
from mqtt_presence.bridge.recovery.other_seats import OtherSeats
from mqtt_presence.bridge.recovery.second_looks import SecondLooks
from mqtt_presence.integrations.outputs import Outputs
from mqtt_presence.mqtt.messages import Incoming, Outgoing
from mqtt_presence.protocol.publications import version_of
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.events import Event, Renew
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import MUST_REPUBLISH, Store, Transaction

log = logging.getLogger(__name__)

_PAGE = 200
_ANSWER_S = 10.0
_LONGEST_RETRY_S = 3600.0
_WITNESS = "probe"


class Republished(Struct, frozen=True):
    """Ticket of a status that is published again."""

    run: int
    """The number of the full republish."""


class _Retry:
    """A delay before the next full republish; doubled each time, until the next connect.

    Args:
        first_s: the first delay, seconds.

    """

    def __init__(self, first_s: float) -> None:
        self._first_s = self._delay_s = first_s
        self._at: float | None = None

    @property
    def is_pending(self) -> bool:
        """Whether a delay has begun."""
        return self._at is not None

    def begin(self, now_s: float) -> None:
        """Begin a delay, if none has begun."""
        if self._at is None:
            self._at = now_s + self._delay_s
            self._delay_s = min(2 * self._delay_s, _LONGEST_RETRY_S)

    def is_over(self, now_s: float) -> bool:
        """Return, once for each delay, whether it is over."""
        if self._at is None or now_s <= self._at:
            return False
        self._at = None
        return True

    def reset(self) -> None:
        """Begin with the first delay again."""
        self._delay_s = self._first_s


class RetainedStatuses(Part):
    """Compares the broker's retained statuses with the database, and republishes them.

    Args:
        store: has the users.
        committer: gives a status a new version.
        topics: the topics under the prefix in use.
        clock: the bridge's.
        outputs: write the retained messages of a user.
        again_s: how long to wait after the broker has refused a status, seconds; doubled each time.
        others: other bridges; the holder of seat 0 publishes for all, on their request.
        is_loss_normal: the broker keeps no statuses from one start to the next.
        is_cluster: the broker has several nodes: one look that finds nothing proves no loss.

    """

    def __init__(
        self,
        store: Store,
        committer: Committer,
        topics: Topics,
        clock: Clock,
        outputs: Outputs,
        others: OtherSeats,
        *,
        again_s: float,
        is_loss_normal: bool = False,
        is_cluster: bool = False,
    ) -> None:
        self._store = store
        self._committer = committer
        self._topics = topics
        self._clock = clock
        self._outputs = outputs
        self._others = others
        self._must_request = False
        """This bridge must have the holder of seat 0 publish all statuses."""
        self._mark_value: str | None = None
        self._ended_value: str | None = None
        self._witness_name = _WITNESS
        self._retry = _Retry(again_s)
        self._is_loss_normal = is_loss_normal
        self._looks = SecondLooks(is_cluster=is_cluster)
        self._witness: LastStatus | None = None
        self._asked_for: LastStatus | None = None
        self._answer_until = 0.0
        self._page_after: str | None = None
        self._run = 0
        self._was_alone = False  # statuses of this full republish were sent without a look
        self._unacknowledged = 0
        """Statuses of this full republish that the broker has not acknowledged."""
        self._must_renew = False
        self._has_news_of_a_loss = False
        self._may_be_marked = False
        """The database may have the mark of an incomplete full republish."""

    def _has_a_page(self, link: Link) -> bool:
        """Return whether users are left to publish again, and the link has room for a page."""
        return self._page_after is not None and link.is_connected and link.backlog <= _PAGE

    @property
    def _is_unsure(self) -> bool:
        """Whether the broker may lack a status that it acknowledged."""
        is_asking = self._asked_for is not None or self._looks.is_pending
        return is_asking or self._retry.is_pending or self._is_republishing

    @property
    def _is_republishing(self) -> bool:
        return self._page_after is not None or self._unacknowledged > 0

    # The database.

    def restore(self, tx: Transaction) -> None:
        """See `Part`."""
        self._witness_name = tx.seat_name(_WITNESS)
        witness = tx.read_value(self._witness_name)
        if witness is not None:
            self._witness = msgspec.json.decode(witness, type=LastStatus)
            user_id = self._topics.parse_status(self._witness.topic)
            if user_id is None or not tx.known_users([user_id]):
                self._witness = None  # the user was forgotten meanwhile, or the prefix has changed
        if not self._others.is_first:
            return
        if tx.has_other_users():
            tx.request(MUST_REPUBLISH)
            tx.accept_users()
        self._mark_value = tx.read_value(MUST_REPUBLISH)
        if self._mark_value is not None:
            self._may_be_marked = True
            self._republish_all()

    def request(self, tx: Transaction) -> None:
        """Have all retained messages published again; a restart does not cut this short."""
        self._mark(tx)
        self._republish_all()

    @property
    def is_probing(self) -> bool:
        """Whether the broker has not yet sent the witness, or the state of the bridge without it."""
        return self._asked_for is not None

    @property
    def is_complete(self) -> bool:
        """Whether the broker has every retained message, and the database says so."""
        return not (self._may_be_marked or self._is_unsure or self._must_renew)

    def save_witness(self, tx: Transaction, witness: LastStatus | None) -> None:
        """Store the last status that left the outbox, unless it proves too little about the others.

        Args:
            tx: removes publications from the outbox.
            witness: the last status among them; None: there is none.

        """
        if self._is_republishing or self._must_renew:
            witness = None  # it was acknowledged before all the others were
        if self._is_unsure:
            if not self._others.is_first:
                return  # the older witness proves less, and is asked for again after a restart
            self._mark(tx)
        if witness is not None:  # the same again, too: its commit may have failed
            self._witness = witness
            tx.write_value(self._witness_name, msgspec.json.encode(witness).decode())

    def forget(self, tx: Transaction, user_id: UserId) -> None:
        """Replace the witness if it is the status of a forgotten user."""
        # Without a witness, too: the commit that removed it may have failed.
        if self._witness is None or self._witness.topic == self._topics.status(user_id):
            self._drop_witness(tx)
            self._must_renew = True

    def _mark(self, tx: Transaction) -> None:
        self._may_be_marked = True
        if self._mark_value is None:
            tx.request(MUST_REPUBLISH)
            self._mark_value = tx.read_value(MUST_REPUBLISH)

    def _drop_witness(self, tx: Transaction) -> None:
        self._witness = None
        tx.write_value(self._witness_name, None)

    # The probe: does the broker still have the witness?

    def disconnected(self) -> None:
        """See `Part`."""
        self._asked_for = None
        self._looks.cancel()

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Ask for the witness; republish without one, or if another bridge may have published."""
        self._retry.reset()
        self._looks.begin(session_present=session_present)
        self._asked_for = self._witness
        if contested or (self._asked_for is None and self._others.is_first):
            self._republish_all()
        self._ask(link)

    def _ask(self, link: Link) -> None:
        if self._asked_for is not None:
            self._answer_until = self._clock.monotonic() + _ANSWER_S
            link.subscribe(self._asked_for.topic)
            # The bridge's own state is retained there: it arrives after the answer to the first subscription.
            link.subscribe(self._topics.bridge_state)

    def fell_behind(self) -> None:
        """Wait longer for the answer: it arrives behind the messages that waited at the broker."""
        if self._asked_for is not None:
            self._answer_until = self._clock.monotonic() + _ANSWER_S

    def handle(self, link: Link, message: Incoming) -> bool:
        """Read the answer: the witness, or the bridge's own state without it."""
        topic = message.topic
        if topic != self._topics.bridge_state and self._topics.parse_status(topic) is None:
            return False
        asked_for = self._asked_for
        if asked_for is None:
            link.unsubscribe(topic)  # from a probe that a restart cut short
        elif topic == asked_for.topic and message.retain and version_of(message.payload) >= asked_for.version:
            self._end_probe(link, asked_for)
        elif topic == self._topics.bridge_state and message.retain:
            self._found_a_loss(link, asked_for)
        return True

    def _end_probe(self, link: Link, asked_for: LastStatus) -> None:
        link.unsubscribe(asked_for.topic)
        link.unsubscribe(self._topics.bridge_state)
        self._asked_for = None

    def _found_a_loss(self, link: Link, asked_for: LastStatus) -> None:
        self._end_probe(link, asked_for)
        if self._looks.missed(self._clock.monotonic()):
            return
        user_id = self._topics.parse_status(asked_for.topic)
        if not self._others.is_first and user_id is not None:
            with self._store.transaction() as tx:
                if not tx.known_users([user_id]):  # forgotten by the holder of seat 0
                    self._drop_witness(tx)
                    return
        if self._is_loss_normal:
            log.info("publishing the statuses of all users to the broker, which begins without them")
        else:
            log.warning(
                "the broker has lost retained statuses, and perhaps more: publishing all of them again"
            )
        self._has_news_of_a_loss = True
        self._republish_all()

    def has_news_of_a_loss(self) -> bool:
        """Return, once for each loss, whether the broker has lost retained statuses."""
        has_news, self._has_news_of_a_loss = self._has_news_of_a_loss, False
        return has_news

    # The republish.

    def _republish_all(self) -> None:
        if not self._others.is_first:
            self._must_request = True
            return
        self._page_after = ""
        self._run += 1
        self._unacknowledged, self._was_alone = 0, False

    def acknowledged(self, ticket: object, count: int) -> None:
        """See `Part`."""
        if isinstance(ticket, Republished) and ticket.run == self._run:
            self._unacknowledged -= count

    def refused(self, message: Outgoing) -> None:
        """Republish after a delay if the broker has refused a retained message of an output."""
        self.acknowledged(message.ticket, 1)
        if message.retain and isinstance(message.ticket, int | Republished):
            self._retry.begin(self._clock.monotonic())

    def step(self, link: Link) -> bool:
        """Publish the next page of users, or provide a witness, where needed."""
        now_s = self._clock.monotonic()
        if self._asked_for is not None and link.is_connected and now_s > self._answer_until:
            self._found_a_loss(link, self._asked_for)
        if link.is_connected and self._looks.is_due(now_s):
            self._asked_for = self._witness
            self._ask(link)
        if self._retry.is_over(now_s):
            self._republish_all()
        if not self._others.is_first:
            self._request_republish()
            self._provide_witness(link)
            return True
        requested = self._others.values.get(MUST_REPUBLISH)
        if requested is not None and requested not in (self._mark_value, self._ended_value):
            self._mark_value, self._may_be_marked = requested, True
            self._republish_all()
        if self._was_alone and self._is_republishing and self._others.count > 1:
            self._republish_all()  # statuses on their way may arrive after newer ones of a new bridge
        self._save_mark()
        if self._page_after is not None and self._has_a_page(link):
            self._publish_page(link, self._page_after)
        self._provide_witness(link)
        return not self._has_a_page(link)

    def _publish_page(self, link: Link, after: str) -> None:
        with self._store.transaction() as tx:
            users = tx.users_after(after, _PAGE)
        if not users:
            if after:
                log.info("all statuses are published again")
            self._page_after = None
            self._must_renew = True
            return
        if after == "":
            log.info("publishing the statuses of all users again: the broker may lack some")
        self._page_after = users[-1].user_id
        if self._others.count > 1:  # a newer status of another bridge may be on its way
            self._committer.publish_present(link, [user.user_id for user in users])
            return
        messages = [
            Outgoing(p.topic, p.payload, p.retain, Republished(self._run))
            for user in users
            for p in self._outputs.retained(user)
        ]
        self._unacknowledged += len(messages)
        self._was_alone = True
        link.publish(messages)

    def _save_mark(self) -> None:
        """Store whether a full republish is incomplete."""
        is_needed = self._retry.is_pending or self._is_republishing
        if is_needed and not self._may_be_marked:
            with self._store.transaction() as tx:
                self._mark(tx)
        elif self._may_be_marked and not self._is_unsure and not self._must_renew:
            with self._store.transaction() as tx:
                tx.end_request(MUST_REPUBLISH, self._mark_value)
            self._may_be_marked = False
            self._mark_value, self._ended_value = None, self._mark_value

    def _request_republish(self) -> None:
        if self._must_request:
            with self._store.transaction() as tx:
                tx.request(MUST_REPUBLISH)
            self._must_request = False

    def _provide_witness(self, link: Link) -> None:
        """Publish one status with a new version, or store the next acknowledged one at once."""
        if self._is_unsure:
            return
        if self._must_renew:

            def collect(tx: Transaction) -> Mapping[UserId, Sequence[Event]]:
                self._drop_witness(tx)
                now = self._clock.now()
                return {user_id: (Renew(user_id=user_id, now=now),) for user_id in tx.last_user()}

            self._committer.run(link, collect, lambda _: self._renewed())
        elif self._witness is None:
            self._committer.clear_now(link)

    def _renewed(self) -> None:
        self._must_renew = False
