"""Announcements: asks all clients to log in again; connections of silent clients end (rule B3)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.committer import CHUNK, Committer
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.monitoring.census import Census
from mqtt_presence.bridge.packet_id_journal import PacketIdJournal
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.bridge.recovery.clock_steps import ClockSteps
from mqtt_presence.bridge.recovery.other_seats import OtherSeats
from mqtt_presence.bridge.recovery.progress import Progress
from mqtt_presence.mqtt.messages import Outgoing
from mqtt_presence.protocol.outgoing import encode_announcement
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.events import EndUnconfirmed, Event
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import ANNOUNCED_AT, MUST_ANNOUNCE, Store, Transaction

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 0.5
# A tenth of the logins that a bridge takes in a second (docs/performance.md): other messages come meanwhile.
_ANSWERS_PER_S = 2_000
_LEAST_WITHIN_S = 1.0


class Announced(Struct, frozen=True):
    """Ticket of `bridge/announce`: once the broker has it, every connected client has it."""

    at: int
    """The time of the announcement, epoch milliseconds."""


def answers_within_s(connections: int, seats: int, confirm_within_ms: int) -> float:
    """Return the time over which clients shall spread their answers, seconds; 0: they answer at once.

    A client that takes all of it still has half of the time that rule B3 gives it.

    Args:
        connections: live connections, each of which may answer.
        seats: bridges that share the answers.
        confirm_within_ms: how long clients may take to answer, milliseconds.

    """
    within_s = min(connections / _ANSWERS_PER_S / max(1, seats), confirm_within_ms / 2000)
    return round(within_s, 1) if within_s >= _LEAST_WITHIN_S else 0.0


@dataclass(slots=True)
class _Sent:
    """The announcement that clients are to answer."""

    at: int
    """Its time; steps of the clock shift it, epoch milliseconds."""
    ticket: Announced
    delivered_s: float | None = None
    """The time of the broker's acknowledgement by the monotonic clock, seconds."""


class Announcements(OnCheck):
    """Announces on request, as soon as answers can arrive, and ends silent connections afterwards.

    Args:
        store: keeps the request and the time of the announcement over a restart.
        committer: ends the connections of silent clients.
        topics: the topics under the prefix in use.
        journal: forgotten with the session whose loss is announced.
        clock: the bridge's.
        clock_steps: no announcement is sent while stored times are being shifted.
        progress: silence is judged up to its time.
        others: have requests, too; only the holder of seat 0 announces.
        census: the number of connections that may answer.
        answer_within_ms: how long clients may take to answer, milliseconds.
        again_s: how long to wait after the broker has refused the announcement, seconds.

    """

    def __init__(
        self,
        store: Store,
        committer: Committer,
        topics: Topics,
        journal: PacketIdJournal,
        clock: Clock,
        clock_steps: ClockSteps,
        progress: Progress,
        others: OtherSeats,
        census: Census,
        answer_within_ms: int,
        again_s: float,
    ) -> None:
        super().__init__()
        self._store = store
        self._committer = committer
        self._topics = topics
        self._journal = journal
        self._clock = clock
        self._clock_steps = clock_steps
        self._progress = progress
        self._others = others
        self._census = census
        self._answer_within_ms = answer_within_ms
        self._again_s = again_s
        self.is_requested = False
        self._stored: str | None = None
        """The value of the request in the database."""
        self._ended: str | None = None
        """The value of the request that was announced last."""
        self._not_before_s = 0.0
        self._sent: _Sent | None = None
        self._judged_up_to = ""

    def request(self, reason: str) -> None:
        """Request an announcement; the reason goes into the log."""
        if not self.is_requested:
            log.info("%s: asking all clients to log in again", reason)
        self.is_requested = True

    @property
    def is_complete(self) -> bool:
        """Whether no announcement is wanted, and the answers to the last one are judged."""
        return not self.is_requested and self._sent is None

    def restore(self, tx: Transaction) -> None:
        """Repeat an unfinished announcement: its answers may have arrived or not."""
        if self._others.is_first:
            self._stored = tx.read_value(MUST_ANNOUNCE)
            self.is_requested = self._stored is not None or tx.read_value(ANNOUNCED_AT) is not None

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Announce if the broker has lost the session, and with it the messages that waited."""
        del link, contested
        if self._progress.has_lost_session(session_present=session_present):
            self.request("the broker had no session for the bridge")

    def acknowledged(self, ticket: object, count: int) -> None:
        """See `Part`."""
        del count
        if self._sent is not None and ticket == self._sent.ticket:
            self._sent.delivered_s = self._clock.monotonic()

    def refused(self, message: Outgoing) -> None:
        """See `Part`."""
        if self._sent is not None and message.ticket == self._sent.ticket:
            self._sent = None
            self.is_requested = True
            self._not_before_s = self._clock.monotonic() + self._again_s

    def clock_stepped(self, by_ms: int, now: int) -> None:
        """Shift the time of the announcement with all stored times; after a step back, announce again."""
        del now
        if self._sent is None:
            return
        if by_ms > 0:
            self._sent.at += by_ms
        else:  # the stored times no longer show which clients have answered
            self._sent = None
            self.is_requested = True

    def step(self, link: Link) -> bool:
        """See `Part`."""
        if self.is_requested and self._stored is None:
            with self._store.transaction() as tx:
                tx.request(MUST_ANNOUNCE)
                self._stored = tx.read_value(MUST_ANNOUNCE)
                if not self._others.is_first:
                    tx.clear_redeliveries(self._journal.lost_up_to)
        if not self._others.is_first:
            self.is_requested, self._stored = False, None
            return True
        requested = self._others.values.get(MUST_ANNOUNCE)
        if requested is not None and requested not in (self._stored, self._ended):
            self.request("another bridge has lost its session, or messages")
            self._stored = requested
        if self.is_requested and self._can_send:
            self._send(link)
        return super().step(link)

    @property
    def _can_send(self) -> bool:
        """Whether answers can arrive, and the broker has not just refused the announcement."""
        return (
            self._progress.is_subscribed
            and self._others.facts.are_subscribed
            and not self._clock_steps.is_shifting
            and self._clock.monotonic() >= self._not_before_s
        )

    def _send(self, link: Link) -> None:
        # A step of the clock since the last read is not detected yet. No answer is older, by any clock.
        now = self._clock_steps.now - self._clock_steps.margin_ms
        with self._store.transaction() as tx:
            if self._others.count > 1 and not tx.other_seats().are_subscribed:
                self._not_before_s = self._clock.monotonic() + _LOOK_AGAIN_S
                return  # answers could be lost; that bridge makes its own request, of another value
            tx.write_value(ANNOUNCED_AT, str(now))
            tx.end_request(MUST_ANNOUNCE, self._stored)
            tx.clear_redeliveries(self._journal.lost_up_to)
        self.is_requested, self._ended, self._stored = False, self._stored, None
        self._sent = _Sent(now, Announced(now))
        within_s = answers_within_s(self._census.live_connections, self._others.held, self._answer_within_ms)
        payload = encode_announcement(within_s)
        link.publish([Outgoing(self._topics.bridge_announce, payload, ticket=self._sent.ticket)])

    def check(self, link: Link) -> bool:
        """End, a chunk at a time, the connections of clients that have not answered in time (rule B3)."""
        since = self._deadline_passed_for
        if since is None or not link.is_connected or (self.is_requested and self._others.count > 1):
            self._judged_up_to = ""
            return True
        now = self._clock.now()
        page: dict[UserId, bool] = {}

        def collect(tx: Transaction) -> Mapping[UserId, Sequence[Event]]:
            page.update(tx.unconfirmed_users(since, self._judged_up_to, CHUNK))
            return {
                user_id: (EndUnconfirmed(user_id=user_id, now=now, announced_at=since),)
                for user_id, is_unconfirmed in page.items()
                if is_unconfirmed
            }

        self._committer.run(link, collect)
        is_last = len(page) < CHUNK
        self._judged_up_to = "" if is_last else next(reversed(page))
        if not is_last:
            return False
        with self._store.transaction() as tx:
            tx.write_value(ANNOUNCED_AT, None)
        self._sent = None
        return True

    @property
    def _deadline_passed_for(self) -> int | None:
        """The time of the announcement whose answers are all processed; else None."""
        if self._sent is None or self._sent.delivered_s is None:
            return None
        waited_ms = (self._progress.until_s - self._sent.delivered_s) * 1000
        return self._sent.at if waited_ms > self._answer_within_ms else None
