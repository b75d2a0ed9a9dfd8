"""The router: all sessions and subscriptions of the broker, and the way of each message to its receivers.

All methods run on the broker's event loop and none of them waits, so each message is routed completely before
the next.
"""

import asyncio
import logging
from collections import deque
from typing import Final

from mqtt_presence.access.buckets import Buckets
from mqtt_presence.access.passwords import PasswordFile
from mqtt_presence.access.rate_limited_log import RateLimitedLog, quoted
from mqtt_presence.access.rights import DeviceTopics, Rights, rights_of
from mqtt_presence.embedded.admission import Admission
from mqtt_presence.embedded.config import EmbeddedConfig
from mqtt_presence.embedded.deliveries import Delivery, Message
from mqtt_presence.embedded.report_publisher import ClientReports
from mqtt_presence.embedded.retained_search import RetainedMessages
from mqtt_presence.embedded.sessions import AttachedConnection, EndCause, Session
from mqtt_presence.embedded.shared_limit import SharedLimit
from mqtt_presence.mqtt.topic_tree import TopicTree
from mqtt_presence.protocol.sizes import MAX_PAYLOAD
from mqtt_presence.protocol.topics import Topics

_log = logging.getLogger("mqtt_presence.embedded")

BACKLOG_LIMIT = 10_000
"""Messages kept while no bridge has a session, for the first one that subscribes."""
ADDRESSES_LIMIT = 100_000
"""Clients whose last address is kept."""
SESSION_EXPIRY_S = 24 * 3600.0
"""Seconds for which the session of an absent client is kept; the bridge's is kept for ever."""
QUEUES_LIMIT = 5_000_000
"""Messages waiting for all clients together, 8 bytes each: all queues share one copy of a message."""
SUBSCRIPTIONS_LIMIT = 200_000
"""Topic filters of all clients together."""
SUBSCRIPTIONS_LIMIT_PER_SESSION = 1000
"""The same for one session."""
ABSENT_SESSIONS_LIMIT = 1000
"""Sessions kept for absent clients."""
ABSENT_SESSIONS_LIMIT_PER_USER = 100
"""The same for one user."""
FAIR_SHARE = (2000, 100.0)
"""Messages that one user may add to a bridge's queue that is half full: at once, and in a second.

A user that floods the bridge loses messages, and the others lose none."""


class Router:
    """Sessions, subscriptions and retained messages of one broker.

    Args:
        config: of the broker.
        passwords: the users; None: there are no passwords.

    """

    def __init__(self, config: EmbeddedConfig, passwords: PasswordFile | None) -> None:
        self.config = config
        limited_log = RateLimitedLog(_log)
        self.log: Final = limited_log.log
        self.admission = Admission(config, passwords, limited_log)
        self.topics = Topics(config.prefix)
        self._devices = None if config.profiles is None else DeviceTopics(self.topics, config.profiles)
        self.sessions: dict[str, Session] = {}
        self.connections: set[AttachedConnection] = set()
        self.addresses: dict[tuple[str, str], str] = {}
        self.is_closing = False
        self._filters: TopicTree[dict[Session, int]] = TopicTree()
        self.retained: Final = RetainedMessages()
        self._queues = SharedLimit(QUEUES_LIMIT)
        self._subscriptions = SharedLimit(SUBSCRIPTIONS_LIMIT)
        # After a restart clients may publish before the bridge has subscribed.
        self._backlog: deque[Message] = deque()
        self._absent: dict[Session, None] = {}
        self._share = Buckets(*FAIR_SHARE)
        self.reports: Final = ClientReports(self.route)

    def rights_of(self, user: str, client_id: str) -> Rights:
        """Return the rights of a client."""
        return rights_of(
            self.topics,
            user,
            client_id,
            bridge=user == self.config.bridge_user,
            operator=user in self.config.operators,
            discovery_prefix=self.config.discovery_prefix,
            devices=self._devices,
        )

    def open(self, user: str, client_id: str, rights: Rights, *, clean: bool) -> tuple[Session, bool]:
        """Return the client's session, and whether it existed; an old connection ends first (§3.1.4)."""
        old = self.sessions.get(client_id)
        if old is not None and old.connection is not None:
            old.connection.end(EndCause.TAKEOVER)
            old = self.sessions.get(client_id)
        if old is not None and not clean:
            self._absent.pop(old, None)
            old.rights = rights
            return old, True
        if old is not None:
            self.discard(old)
        session = Session(
            user,
            client_id,
            rights,
            clean=clean,
            bridge=user == self.config.bridge_user,
            queues=self._queues,
            request_turn=self.retained.request_turn,
        )
        self.sessions[client_id] = session
        return session, False

    def release(self, session: Session) -> None:
        """Keep a persistent session whose connection has ended, and discard one that began clean."""
        session.detach()
        if session.clean:
            self.discard(session)
        elif not session.bridge:
            loop = asyncio.get_running_loop()
            session.expiry = loop.call_later(SESSION_EXPIRY_S, self.discard, session)
            self._absent[session] = None
            self._limit_absent(session.user)

    def _limit_absent(self, user: str) -> None:
        """Discard the session of the client that has been absent longest, if too many are kept."""
        of_user = [session for session in self._absent if session.user == user]
        if len(of_user) > ABSENT_SESSIONS_LIMIT_PER_USER:
            self.log("%d sessions of user=%r are kept: the oldest are forgotten", len(of_user), user)
            self.discard(of_user[0])
        elif len(self._absent) > ABSENT_SESSIONS_LIMIT:
            self.log("%d sessions are kept: the oldest are forgotten", len(self._absent))
            self.discard(next(iter(self._absent)))

    def discard(self, session: Session) -> None:
        """Remove a session; messages that the bridge has not acknowledged go to its next session."""
        self._absent.pop(session, None)
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]
        if session.expiry is not None:
            session.expiry.cancel()
        for topic_filter in list(session.subscriptions):
            self.unsubscribe(session, topic_filter)
        if session.bridge:
            for delivery in (*session.inflight.values(), *session.queue.deliveries):
                self._route_again(delivery)
        session.queue.clear()

    def _route_again(self, delivery: Delivery) -> None:
        message = delivery.message
        if not delivery.qos or self._is_public(message):
            return
        if message.receipt is not None:
            message.receipt.waiting -= 1
            if message.receipt.waiting:
                return  # another bridge has it
        self.route(message)

    def has_room_for_filter(self, session: Session, more: int) -> bool:
        """Return whether a session may have this many more topic filters."""
        if session.bridge:
            return True
        return len(session.subscriptions) + more <= min(
            SUBSCRIPTIONS_LIMIT_PER_SESSION, self._subscriptions.share
        )

    def subscribe(self, session: Session, topic_filter: str, qos: int) -> None:
        """Add a subscription; `replay` then sends the retained messages."""
        if topic_filter not in session.subscriptions:
            self._subscriptions.used += 1
        levels = topic_filter.split("/")
        sessions = self._filters.get(levels)
        if sessions is None:
            self._filters.put(levels, sessions := {})
        sessions[session] = session.subscriptions[topic_filter] = qos

    def unsubscribe(self, session: Session, topic_filter: str) -> None:
        """Remove a subscription. Harmless when the session does not have it."""
        if session.subscriptions.pop(topic_filter, None) is None:
            return
        self._subscriptions.used -= 1
        session.replay.cancel(topic_filter)
        levels = topic_filter.split("/")
        sessions = self._filters.get(levels) or {}
        sessions.pop(session, None)
        if not sessions:
            self._filters.put(levels, None)

    def replay(self, session: Session, topic_filter: str, qos: int) -> None:
        """Send the retained messages that a new subscription matches and the client may read (§3.8.4)."""
        self.retained.deliver(session, topic_filter, qos)
        self.reports.send_list(session, topic_filter, qos)
        if session.bridge and qos and self._backlog:
            backlog, self._backlog = self._backlog, deque()
            for message in backlog:
                self.route(message)

    def route(self, message: Message) -> bool:
        """Deliver a message to each matching session once, at the lower QoS of message and subscription.

        Returns:
            False if the message was for the bridge and is dropped: its publisher gets no acknowledgement.

        """
        targets: dict[Session, int] = {}
        for sessions in self._filters.matching_filters(message.levels):
            for session, qos in sessions.items():
                targets[session] = max(qos, targets.get(session, 0))
        is_settled = is_accepted = self._is_public(message) or not message.qos
        deliveries = Delivery(message, 0), Delivery(message, min(1, message.qos))
        for session, qos in targets.items():
            if not session.rights.may_read(message.levels):
                continue
            delivery = deliveries[qos]
            is_queued = self._is_fair(session, message) and session.enqueue(delivery)
            if session.bridge and delivery.qos:
                is_settled = True  # a bridge is there, even if it drops the message
                if not is_queued:
                    self._log_loss(session.queue.count)
                    continue
                is_accepted = True
                if message.receipt is not None:
                    message.receipt.waiting += 1
            elif delivery.qos and not is_queued and session.connection is not None:
                asyncio.get_running_loop().call_soon(session.connection.end, EndCause.SLOW)
        if is_settled:
            return is_accepted
        if not message.topic.startswith(self.topics.presence):  # of a device, and no bridge waits for it
            if message.receipt is not None:
                message.receipt.release()
            return True
        if len(self._backlog) < BACKLOG_LIMIT and len(message.payload) <= MAX_PAYLOAD:
            self._backlog.append(message)
            return True
        self._log_loss(len(self._backlog))
        return False

    def keep_of_device(self, message: Message) -> None:
        """Keep a retained message of a device, if there is room."""
        if not self.retained.keep_of_device(message):
            topic = quoted(message.topic)
            self.log("too many retained messages of devices: topic=%s is not kept, and perhaps others", topic)

    def _is_fair(self, session: Session, message: Message) -> bool:
        """Return whether the sender may use the bridge's queue, whose second half users share."""
        queue = session.queue
        if not session.bridge or message.sender is None or queue.count <= queue.limit // 2:
            return True
        return self._share.take(message.sender, asyncio.get_running_loop().time())

    def _log_loss(self, behind: int) -> None:
        self.log(
            "the bridge is absent or %d messages behind: messages are dropped and not acknowledged",
            behind,
            level=logging.ERROR,
        )

    def _is_public(self, message: Message) -> bool:
        """Return whether the sender waits for no bridge."""
        return message.receipt is None and not message.topic.startswith(self.topics.presence)

    def remember_address(self, user: str, client_id: str, address: str) -> None:
        """Keep the address of a client; beyond the limit the address kept longest is removed."""
        self.addresses.pop((user, client_id), None)
        self.addresses[user, client_id] = address
        if len(self.addresses) > ADDRESSES_LIMIT:
            del self.addresses[next(iter(self.addresses))]

    def bridge_is_behind(self) -> bool:
        """Return whether a connected bridge has messages left to acknowledge."""
        return any(
            session.bridge and session.connection is not None and (session.queue or session.inflight)
            for session in self.sessions.values()
        )
