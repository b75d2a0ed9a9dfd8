"""Who gets what: all sessions, subscriptions and retained messages. It lives on the event loop."""

import asyncio
import logging
from collections import deque
from typing import Final

from mqtt_presence.access.buckets import Buckets
from mqtt_presence.access.passwords import PasswordFile
from mqtt_presence.access.rate_limited_log import RateLimitedLog
from mqtt_presence.access.rights import Grant, grant
from mqtt_presence.embedded.admission import Admission
from mqtt_presence.embedded.config import EmbeddedConfig
from mqtt_presence.embedded.deliveries import Delivery, Message
from mqtt_presence.embedded.retained_search import RetainedMessages
from mqtt_presence.embedded.sessions import QUEUES_LIMIT, Cause, Client, Pool, Session
from mqtt_presence.mqtt.topic_tree import TopicTree
from mqtt_presence.protocol.sizes import MAX_PAYLOAD
from mqtt_presence.protocol.topics import Topics

_log = logging.getLogger("mqtt_presence.embedded")

BACKLOG_LIMIT = 10_000
"""Messages kept while there is no bridge, for the first that subscribes."""
PEERS_LIMIT = 100_000
"""Clients whose address is remembered."""
SESSION_EXPIRY_S = 24 * 3600.0
"""How long the session of an absent client is kept (the bridge's: for ever)."""
SUBSCRIPTIONS_LIMIT = 200_000
"""Topic filters of all clients together."""
SUBSCRIPTIONS_LIMIT_EACH = 1000
"""The same for one session."""
KEPT_LIMIT = 1000
"""Sessions kept for clients that are away."""
KEPT_LIMIT_EACH = 100
"""The same for one user."""
FAIR_SHARE = (2000, 100.0)
"""What one user may add to the bridge's queue while that is more than half full: so many messages at once,
and so many a second. Who floods loses the own messages, not those of the others."""


class Router:
    """All sessions, subscriptions and retained messages of a broker.

    Args:
        config: of the broker.
        passwords: its users; None: there are no passwords.

    """

    def __init__(self, config: EmbeddedConfig, passwords: PasswordFile | None) -> None:
        self.config = config
        complaints = RateLimitedLog(_log)
        self.log: Final = complaints.log
        self.admission = Admission(config, passwords, complaints)
        self.topics = Topics(config.prefix)
        self.sessions: dict[str, Session] = {}
        self.connections: set[Client] = set()
        self.peers: dict[tuple[str, str], str] = {}
        self.closing = False
        self._filters: TopicTree[dict[Session, int]] = TopicTree()
        self.retained: Final = RetainedMessages()
        self._waiting = Pool(QUEUES_LIMIT)
        self._subscriptions = Pool(SUBSCRIPTIONS_LIMIT)
        # What clients said before the bridge first subscribed (both come back after a restart, in any order).
        self._backlog: deque[Message] = deque()
        self._kept: dict[Session, None] = {}
        self._share = Buckets(*FAIR_SHARE)

    def grant(self, user: str, client_id: str) -> Grant:
        """Return what a client may do."""
        return grant(
            self.topics,
            user,
            client_id,
            bridge=user == self.config.bridge_user,
            operator=user in self.config.operators,
        )

    def open(self, user: str, client_id: str, granted: Grant, *, clean: bool) -> tuple[Session, bool]:
        """Return the client's session, and whether it existed; the old connection ends first (§3.1.4)."""
        old = self.sessions.get(client_id)
        if old is not None and old.connection is not None:
            old.connection.end(Cause.TAKEOVER)
            old = self.sessions.get(client_id)
        if old is not None and not clean:
            self._kept.pop(old, None)
            old.grant = granted
            return old, True
        if old is not None:
            self.discard(old)
        session = Session(
            user,
            client_id,
            granted,
            clean=clean,
            bridge=user == self.config.bridge_user,
            waiting=self._waiting,
            give_turn=self.retained.give_turn,
        )
        self.sessions[client_id] = session
        return session, False

    def release(self, session: Session) -> None:
        """Let go of a session whose connection has ended: keep it if it is persistent."""
        session.detach()
        if session.clean:
            self.discard(session)
        elif not session.bridge:
            loop = asyncio.get_running_loop()
            session.expiry = loop.call_later(SESSION_EXPIRY_S, self.discard, session)
            self._kept[session] = None
            self._keep_few(session.user)

    def _keep_few(self, user: str) -> None:
        """Forget the session that was left longest ago, where too many are kept."""
        of_user = [session for session in self._kept if session.user == user]
        if len(of_user) > KEPT_LIMIT_EACH:
            self.log("%d sessions of user=%r are kept: the oldest are forgotten", len(of_user), user)
            self.discard(of_user[0])
        elif len(self._kept) > KEPT_LIMIT:
            self.log("%d sessions are kept: the oldest are forgotten", len(self._kept))
            self.discard(next(iter(self._kept)))

    def discard(self, session: Session) -> None:
        """Forget a session; what the bridge had not committed goes to its next one."""
        self._kept.pop(session, None)
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]
        if session.expiry is not None:
            session.expiry.cancel()
        for topic_filter in list(session.subscriptions):
            self.unsubscribe(session, topic_filter)
        if session.bridge:
            for delivery in (*session.inflight.values(), *session.queue):
                self._take_back(delivery)
        session.drop_queue()

    def _take_back(self, delivery: Delivery) -> None:
        message = delivery.message
        if not delivery.qos or self._is_public(message):
            return
        if message.receipt is not None:
            message.receipt.waiting -= 1
            if message.receipt.waiting:
                return  # another bridge has it
        self.route(message)

    def has_room_for_filter(self, session: Session, more: int) -> bool:
        """Whether a session may have so many topic filters more."""
        if session.bridge:
            return True
        return len(session.subscriptions) + more <= min(SUBSCRIPTIONS_LIMIT_EACH, self._subscriptions.share)

    def subscribe(self, session: Session, topic_filter: str, qos: int) -> None:
        """Let a session have what the filter matches from now on; `replay` sends what was kept."""
        if topic_filter not in session.subscriptions:
            self._subscriptions.used += 1
        levels = topic_filter.split("/")
        sessions = self._filters.get(levels)
        if sessions is None:
            self._filters.put(levels, sessions := {})
        sessions[session] = session.subscriptions[topic_filter] = qos

    def unsubscribe(self, session: Session, topic_filter: str) -> None:
        """Take a filter away. Harmless when the session does not have it."""
        if session.subscriptions.pop(topic_filter, None) is None:
            return
        self._subscriptions.used -= 1
        session.catch_up.cancel(topic_filter)
        levels = topic_filter.split("/")
        sessions = self._filters.get(levels) or {}
        sessions.pop(session, None)
        if not sessions:
            self._filters.put(levels, None)

    def replay(self, session: Session, topic_filter: str, qos: int) -> None:
        """Send the retained messages that a new subscription matches and the client may read (§3.8.4)."""
        self.retained.deliver(session, topic_filter, qos)
        if session.bridge and qos and self._backlog:
            backlog, self._backlog = self._backlog, deque()
            for message in backlog:
                self.route(message)

    def route(self, message: Message) -> bool:
        """Deliver to every session once, at the lower QoS of message and subscription.

        Return False when a message for the bridge is dropped: the publisher gets no acknowledgement.
        """
        targets: dict[Session, int] = {}
        for sessions in self._filters.matching_filters(message.levels):
            for session, qos in sessions.items():
                targets[session] = max(qos, targets.get(session, 0))
        kept = taken_by_bridge = self._is_public(message) or not message.qos
        deliveries = Delivery(message, 0), Delivery(message, min(1, message.qos))
        for session, qos in targets.items():
            if not session.grant.may_read(message.levels):
                continue
            delivery = deliveries[qos]
            taken = self._is_fair(session, message) and session.enqueue(delivery)
            if session.bridge and delivery.qos:
                kept = True  # even when its queue is full: dropped then, and never acknowledged
                if not taken:
                    self._complain_of_loss(session.queued)
                    continue
                taken_by_bridge = True
                if message.receipt is not None:
                    message.receipt.waiting += 1
            elif delivery.qos and not taken and session.connection is not None:
                asyncio.get_running_loop().call_soon(session.connection.end, Cause.SLOW)
        if kept:
            return taken_by_bridge
        if len(self._backlog) < BACKLOG_LIMIT and len(message.payload) <= MAX_PAYLOAD:
            self._backlog.append(message)
            return True
        self._complain_of_loss(len(self._backlog))
        return False

    def _is_fair(self, session: Session, message: Message) -> bool:
        """Tell whether the bridge's queue may take it: nobody may fill up the second half alone."""
        if not session.bridge or message.sender is None or session.queued <= session.limit // 2:
            return True
        return self._share.take(message.sender, asyncio.get_running_loop().time())

    def _complain_of_loss(self, behind: int) -> None:
        self.log(
            "the bridge is %d messages behind or away: messages are dropped, unacknowledged",
            behind,
            level=logging.ERROR,
        )

    def _is_public(self, message: Message) -> bool:
        return not message.topic.startswith(self.topics.presence)

    def remember_peer(self, user: str, client_id: str, address: str) -> None:
        """Keep the addresses of the clients seen last, a bounded number."""
        self.peers.pop((user, client_id), None)
        self.peers[user, client_id] = address
        if len(self.peers) > PEERS_LIMIT:
            del self.peers[next(iter(self.peers))]

    def bridge_is_behind(self) -> bool:
        """Say whether a connected bridge has still something to acknowledge."""
        return any(
            session.bridge and session.connection is not None and (session.queue or session.inflight)
            for session in self.sessions.values()
        )
