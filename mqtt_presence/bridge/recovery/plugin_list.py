"""The sessions that mosquitto's dynamic-security plugin lists, after lost reports.

The bridge asks about the users of unconfirmed records (I2), some at a time, and asks again while there are
such records. A record ends if none of its user's sessions can be its connection. All others stay as they are.
"""

import logging
import math
import secrets
from collections.abc import Mapping, Sequence

from msgspec import Struct

from mqtt_presence.adapters.brokers import dynamic_security
from mqtt_presence.adapters.brokers.dynamic_security import ANSWERS, QUESTIONS, UserSessions
from mqtt_presence.bridge.broker_connections import BrokerConnections
from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.committer import CHUNK, Committer
from mqtt_presence.bridge.implicit_identity import USERNAME
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.bridge.recovery.implicit_records import (
    FIRST,
    ImplicitRecords,
    Page,
    end_of_page,
    end_of_record,
    key_of,
)
from mqtt_presence.bridge.recovery.progress import Progress
from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.messages import Incoming, Outgoing
from mqtt_presence.rules.events import Event
from mqtt_presence.rules.model import Reason, UserId
from mqtt_presence.store import ImplicitRecord, Transaction

log = logging.getLogger(__name__)
_MOST_USERS = 20
"""Users of one question: the broker compares each of them with all its sessions, and does nothing else."""
_PATIENCE_S = 30.0
AGAIN_S = 600.0
"""Until the next round of questions, seconds."""


class _Question(Struct):
    token: str
    asked_s: float
    after: Page
    """Where the page of records begins."""
    upto: Page
    """Where the next page begins; `FIRST`: this is the last one."""
    records: Mapping[ImplicitRecord, str]
    """The records in doubt, with their users at the broker."""
    users: Sequence[str]
    answer: Mapping[str, UserSessions] | None = None


class PluginList(OnCheck):
    """Asks the plugin about the users of unconfirmed records.

    Args:
        connections: knows the losses, and the broker's names of the users.
        records: marks the records first.
        committer: reads the records, and ends them.
        clock: the bridge's.
        progress: all reports up to its time are processed.
        mode: the setting `implicit`.

    """

    is_of_all = False

    def __init__(
        self,
        connections: BrokerConnections,
        records: ImplicitRecords,
        committer: Committer,
        clock: Clock,
        progress: Progress,
        mode: str,
    ) -> None:
        super().__init__()
        self._connections = connections
        self._records = records
        self._committer = committer
        self._clock = clock
        self._progress = progress
        self._mode = mode
        self._losses = 0
        self._not_before_s = -math.inf
        self._is_running = False
        self._after = FIRST
        self._most_users = _MOST_USERS
        self._question: _Question | None = None
        self._error: str | None = None

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Begin anew: the broker has forgotten the question."""
        del link, session_present, contested
        self._is_running, self._question, self._error = False, None, None
        self._not_before_s = -math.inf

    def handle(self, link: Link, message: Incoming) -> bool:
        """Read an answer."""
        del link
        if message.topic != ANSWERS:
            return False
        question = self._question
        if question is not None:
            if message.oversize:
                self._ask_less(question)
            else:
                try:
                    question.answer = dynamic_security.answer(message.payload, question.token)
                except BrokerError as error:
                    self._error = str(error)
            self._is_due = True
        return True

    def refused(self, message: Outgoing) -> None:
        """Give the round up: the user lacks the right."""
        if message.topic == QUESTIONS and self._question is not None:
            self._error = "the broker does not let this user ask"
            self._is_due = True

    def check(self, link: Link) -> bool:
        """Apply an answer, or ask the next question."""
        if not link.is_connected or (self._question is not None and not self._settle(link, self._question)):
            return True
        if not self._is_running:
            if not self._may_begin():
                return True
            self._losses, self._is_running = self._connections.losses, True
            self._after, self._most_users = FIRST, _MOST_USERS
        self._ask(link)
        return self._question is not None or not self._is_running

    def _settle(self, link: Link, question: _Question) -> bool:
        """Apply the answer; return False while the plugin has time to answer."""
        if self._error is None and question.answer is not None:
            self._apply(link, question, question.answer)
            self._go_on(link, question.upto)
        elif self._error is not None or self._clock.monotonic() > question.asked_s + _PATIENCE_S:
            reason = self._error or "no answer"
            log.warning("mosquitto's dynamic security: %s; next try in %.0f s", reason, AGAIN_S)
            self._go_on(link, FIRST)
        else:
            return False
        self._question = self._error = None
        return True

    def _go_on(self, link: Link, after: Page) -> None:
        self._after = after
        if after == FIRST:
            self._is_running = False
            self._not_before_s = self._clock.monotonic() + AGAIN_S
            if self._question is not None:
                link.unsubscribe(ANSWERS)

    def _apply(self, link: Link, question: _Question, answer: Mapping[str, UserSessions]) -> None:
        """End the records that none of the sessions can belong to, unless a record has changed meanwhile."""
        now = self._clock.now()

        def collect(tx: Transaction) -> Mapping[UserId, Sequence[Event]]:
            events: dict[UserId, list[Event]] = {}
            for record in tx.implicit_records(question.after, CHUNK):
                sessions = answer.get(question.records.get(record, ""))
                if sessions is not None and sessions.proves_end(record.client_id, record.address):
                    events.setdefault(record.user_id, []).append(end_of_record(record, now, Reason.LOST))
            return events

        self._committer.run(link, collect)

    def _may_begin(self) -> bool:
        if not self._records.has_marked or self._progress.until <= (self._connections.lost_at or 0):
            return False
        return self._connections.losses != self._losses or self._clock.monotonic() >= self._not_before_s

    def _ask(self, link: Link) -> None:
        """Ask about the records of the next page, if any of them is in doubt."""
        page: list[ImplicitRecord] = []

        def collect(tx: Transaction) -> Mapping[UserId, Sequence[Event]]:
            page[:] = tx.implicit_records(self._after, CHUNK)
            return {}

        self._committer.run(link, collect)
        records: dict[ImplicitRecord, str] = {}
        users: dict[str, None] = {}
        upto = self._after
        for record in page:
            user = None if record.unconfirmed_since is None else self._broker_user(record)
            if user is not None:
                if user not in users and len(users) == self._most_users:
                    break
                users[user] = None
                records[record] = user
            upto = key_of(record)
        else:
            upto = end_of_page(page)
        if not records:
            self._go_on(link, upto)
            return
        token = secrets.token_hex(8)
        self._question = _Question(token, self._clock.monotonic(), self._after, upto, records, tuple(users))
        link.subscribe(ANSWERS, 0, required=False)
        asked = dynamic_security.question(self._question.users, token)
        link.publish([Outgoing(QUESTIONS, asked, this_connection_only=True)])

    def _broker_user(self, record: ImplicitRecord) -> str | None:
        """Return the broker's name of a record's user; None: unknown."""
        if self._mode == USERNAME:
            return record.user_id
        found = self._connections.current(record.client_id)
        # What an earlier run has stored names the user of the record, which is the client id.
        if found is None or not found.reported_at or found.network_id != record.network_id:
            return None
        return found.user_id

    def _ask_less(self, question: _Question) -> None:
        """Ask about fewer users, as the answer was too large; leave a user out whose answer alone is."""
        if len(question.users) == 1:
            question.answer = {}
        else:
            self._most_users = len(question.users) // 2
            self._question = None
