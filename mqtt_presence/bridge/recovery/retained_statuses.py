"""Making the broker's retained statuses true again after it may have lost some.

A broker that was restarted has lost nothing, the last changes, or everything. So one look tells: if it still
has the status whose publication it acknowledged last, the witness, it has all (`LastStatus`). If not, or without a
witness, all users are published again, a page at a time, and a restart in between begins anew. So they are a
while after the broker has refused some, for want of a right or of room: one of them alone could come behind
what is newer. Afterwards one status is published with a new version, as the next witness: the broker may have
had the others before.
"""

import logging
import time

import msgspec
from msgspec import Struct

from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.outbox import LastStatus
from mqtt_presence.mqtt.messages import Incoming, Outgoing
from mqtt_presence.protocol import publications as say
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import Store, Transaction

log = logging.getLogger(__name__)

_PAGE = 200
_ANSWER_S = 10.0
_AGAIN_S = 10.0  # the first time; then it is twice as long each time
_AGAIN_AT_MOST_S = 3600.0
_PROBE = "probe"
_MARK = "republishing"


class Again(Struct, frozen=True):
    """Ticket of a status that is published again."""

    run: int
    """Which time that all are."""


class RetainedStatuses:
    """What is known about the retained statuses that the broker has.

    Args:
        topics: where they are.

    """

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._probe: LastStatus | None = None
        self._asking: LastStatus | None = None
        self._answer_until = 0.0
        self._page_after: str | None = None
        self._run = 0
        self._unacknowledged = 0
        """Statuses that this run has published."""
        self._must_renew = False
        self._has_news = False
        self._again_at: float | None = None
        self._again_s = _AGAIN_S
        self._may_be_marked = False
        """The database says that not all is known to be published."""
        self.is_subscribed = False
        """The broker has granted the subscription to the clients' messages on this connection."""

    def has_a_page(self, link: Link) -> bool:
        """There are users left to publish again, and the link has room for them."""
        return self._page_after is not None and link.is_connected and link.backlog <= _PAGE

    @property
    def _is_unsure(self) -> bool:
        """The broker is not known to have all that it acknowledged."""
        return self._asking is not None or self._again_at is not None or self._is_republishing

    @property
    def _is_republishing(self) -> bool:
        return self._page_after is not None or self._unacknowledged > 0

    # What must survive a restart.

    def restore(self, tx: Transaction) -> None:
        """Read what was known when the bridge was last running."""
        probe = tx.recall(_PROBE)
        if probe is not None:
            self._probe = msgspec.json.decode(probe, type=LastStatus)
            user_id = self._topics.parse_status(self._probe.topic)
            if user_id is None or not tx.known_users([user_id]):
                self._probe = None  # the user was forgotten meanwhile, or the prefix is another one
        if tx.has_other_users():
            tx.remember(_MARK, "1")
            tx.accept_users()
        if tx.recall(_MARK) is not None:
            self._may_be_marked = True
            self.republish_all()

    def remember(self, tx: Transaction, probe: LastStatus | None) -> None:
        """Keep, with what has left the outbox, which status the broker took last, and whether it has all."""
        if self._is_republishing or self._must_renew:
            probe = None  # acknowledged before all the others were: it proves nothing of them
        if self._is_unsure:
            self._mark(tx)
        if probe is not None:  # also if it is that of before, which may not have been committed
            self._probe = probe
            tx.remember(_PROBE, msgspec.json.encode(probe).decode())

    def forget(self, tx: Transaction, user_id: UserId) -> None:
        """Ask no more for the status of a user who is forgotten; another one must be asked for."""
        # Also if there is none any more: that may not have been committed.
        if self._probe is None or self._probe.topic == self._topics.status(user_id):
            self.drop_witness(tx)
            self._must_renew = True

    def _mark(self, tx: Transaction) -> None:
        self._may_be_marked = True
        tx.remember(_MARK, "1")

    # The witness.

    @property
    def has_no_witness(self) -> bool:
        """There is none, and the next status that the broker acknowledges is one."""
        return self._probe is None and not self._must_renew and not self._is_unsure

    @property
    def must_renew(self) -> bool:
        """It is time to publish a status with a new version, so that there is a witness."""
        return self._must_renew and not self._is_unsure

    def drop_witness(self, tx: Transaction) -> None:
        """Ask for the one there was no more."""
        self._probe = None
        tx.remember(_PROBE, None)

    def renewed(self) -> None:
        """Take note that a status with a new version is committed and on its way, if there is a user."""
        self._must_renew = False

    # The question: does the broker still have the last one?

    def disconnected(self) -> None:
        """Take note that nothing can be asked or answered."""
        self.is_subscribed = False
        self._asking = None

    def connected(self, link: Link) -> None:
        """Subscribe, and ask."""
        self.disconnected()
        self._again_s = _AGAIN_S
        link.subscribe(self._topics.inputs)
        self._asking = self._probe
        if self._asking is None:
            self.republish_all()
        else:
            self._answer_until = time.monotonic() + _ANSWER_S
            link.subscribe(self._asking.topic)
            # Our own birth is retained there: when it comes, the answer to the first question would have.
            link.subscribe(self._topics.bridge_state)

    def is_behind(self) -> None:
        """Wait for the answer from now on: it comes behind what has waited with the broker."""
        if self._asking is not None:
            self._answer_until = time.monotonic() + _ANSWER_S

    def subscribed(self, topic_filter: str) -> None:
        """Take note of what the broker granted."""
        if topic_filter == self._topics.inputs:
            self.is_subscribed = True

    def heard(self, link: Link, message: Incoming) -> bool:
        """Take a message that is none of the clients'; tell whether it was one."""
        topic = message.topic
        if topic != self._topics.bridge_state and self._topics.parse_status(topic) is None:
            return False
        asking = self._asking
        if asking is None:
            link.unsubscribe(topic)  # left over from a question that a restart cut short
        elif topic == asking.topic and message.retain and say.version_of(message.payload) >= asking.version:
            self._answered(link, asking)
        elif topic == self._topics.bridge_state and message.retain:
            self._lost_some(link, asking)
        return True

    def _answered(self, link: Link, asking: LastStatus) -> None:
        link.unsubscribe(asking.topic)
        link.unsubscribe(self._topics.bridge_state)
        self._asking = None

    def _lost_some(self, link: Link, asking: LastStatus) -> None:
        self._answered(link, asking)
        log.warning("the broker has lost retained statuses, and perhaps more: publishing all of them again")
        self._has_news = True
        self.republish_all()

    def has_news_of_a_loss(self) -> bool:
        """Tell, once, that the broker has lost something."""
        has_news, self._has_news = self._has_news, False
        return has_news

    # The remedy.

    def republish_all(self) -> None:
        """Begin to publish all users again."""
        self._page_after = ""
        self._run += 1
        self._unacknowledged = 0

    def taken(self, ticket: Again, times: int) -> None:
        """The broker has acknowledged so many statuses that were published again, or refused them."""
        if ticket.run == self._run:
            self._unacknowledged -= times

    def refused(self) -> None:
        """Begin it in a while: the broker has not taken a status."""
        if self._again_at is None:
            self._again_at = time.monotonic() + self._again_s
            self._again_s = min(2 * self._again_s, _AGAIN_AT_MOST_S)

    def republish(self, store: Store, link: Link, private: bool) -> None:
        """Publish the next page of users again, if it is needed and the link has room."""
        if self._asking is not None and link.is_connected and time.monotonic() > self._answer_until:
            self._lost_some(link, self._asking)
        if self._again_at is not None and time.monotonic() > self._again_at:
            self._again_at = None
            self.republish_all()
        self._keep_mark(store)
        if self._page_after is None or not self.has_a_page(link):
            return
        with store.transaction() as tx:
            users = tx.users_after(self._page_after, _PAGE)
        if not users:
            if self._page_after:
                log.info("all statuses are published again")
            self._page_after = None
            self._must_renew = True
            return
        if self._page_after == "":
            log.info("publishing the statuses of all users again: the broker may lack some")
        told = [
            say.of_status(u, u.status, self._topics, private=private) for u in users if u.status is not None
        ]
        self._unacknowledged += len(told)
        link.publish(Outgoing(p.topic, p.payload, p.retain, Again(self._run)) for p in told)
        self._page_after = users[-1].user_id

    def _keep_mark(self, store: Store) -> None:
        """Note in the database that not all is known to be published, or that it is."""
        is_needed = self._again_at is not None or self._is_republishing
        if is_needed and not self._may_be_marked:
            with store.transaction() as tx:
                self._mark(tx)
        elif self._may_be_marked and not self._is_unsure and not self._must_renew:
            with store.transaction() as tx:
                tx.remember(_MARK, None)
            self._may_be_marked = False
