"""One client's connection, from its first packet to its will: what each packet does, and what is sent."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator

from mqtt_presence.access import Grant, is_filter
from mqtt_presence.complaints import shown
from mqtt_presence.embedded.connect import (
    Connect,
    Refusal,
    Refused,
    accepting,
    parse_connect,
    refuse_names,
    refusing,
)
from mqtt_presence.embedded.hub import Hub
from mqtt_presence.embedded.messages import Message, Receipt, new_message
from mqtt_presence.embedded.packets import (
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBREC,
    SUBSCRIBE_REFUSED,
    UNSUBACK,
    Cursor,
    Framer,
    Kind,
    ProtocolError,
    id_packet,
    suback_packet,
)
from mqtt_presence.embedded.pipes import HANG_UP_S, Pipe
from mqtt_presence.embedded.sessions import Cause, Session
from mqtt_presence.errors import PayloadError
from mqtt_presence.payloads import connection_id_of
from mqtt_presence.topics import ACTIVITY, ENDS, LOGIN, LOGOUT, WILL
from mqtt_presence.wire import encode_end

_log = logging.getLogger("mqtt_presence.embedded")

OUTBOX_LIMIT = 1 << 20
"""Bytes handed to a socket that does not take them; then messages wait in the session's queue."""
SUBSCRIPTIONS_LIMIT = 1000
"""Topic filters of one session."""


class Connection:
    """One client's connection, from its first byte to its end.

    Args:
        hub: where its messages go and come from.
        pipe: what carries it.

    """

    __slots__ = (
        "_flusher", "_framer", "_heard", "_held", "_hub", "_keep_alive", "_outbox", "_outbox_size", "_pipe",
        "_refused", "_timer", "_will", "connection_id", "over", "present", "session",
    )  # fmt: skip

    def __init__(self, hub: Hub, pipe: Pipe) -> None:
        self._hub = hub
        self._pipe = pipe
        self._framer = Framer(hub.config.max_packet_size)
        self._outbox: list[bytes] = []
        self._outbox_size = 0
        self._flusher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._keep_alive = 0.0
        self._heard = 0.0
        self._held: set[int] = set()
        self._will: Message | None = None
        self._refused = False
        self.session: Session | None = None
        self.over = False
        self.present = False  # it has said something that opens a record (contract L1, A2)
        self.connection_id: str | None = None

    async def run(self) -> None:
        """Serve the connection until it ends."""
        self._hub.connections.add(self)
        self._hub.entrance.arrive(self._pipe, self._pipe.address)
        packets = self._packets()
        try:
            async with asyncio.timeout(self._hub.config.connect_timeout_s):
                kind, _, body = await anext(packets)
            self._hub.entrance.leave(self._pipe)
            if kind == Kind.CONNECT and await self._accept(body):
                async for kind, flags, body in packets:
                    self._handle(kind, flags, body)
        except ProtocolError as error:
            self._hub.complain("closing %s: %s", self, error, level=logging.INFO)
        except (OSError, StopAsyncIteration):
            pass  # gone, or too late with its CONNECT: the end below says what has to be said
        finally:
            self.end(Cause.LOST)
            self._hub.entrance.leave(self._pipe)
            self._hub.connections.discard(self)
            await self.hang_up()

    def __str__(self) -> str:
        name = (
            "" if self.session is None else f" user={self.session.user!r} client={self.session.client_id!r}"
        )
        return f"address={self._pipe.address}{name}"

    async def _packets(self) -> AsyncIterator[tuple[int, int, bytes]]:
        """Yield packets until the end; after a shutdown began, swallow them."""
        while chunk := await self._pipe.receive():
            if self.over and not self._hub.closing:
                return
            for packet in () if self.over else self._framer.feed(chunk):
                yield packet
                if self.over:
                    break
            # Answers have no queue to wait in: who does not take them is not heard until it does.
            if self._outbox_size > 2 * OUTBOX_LIMIT and self._flusher is not None:
                await self._flusher

    # CONNECT

    async def _accept(self, body: bytes) -> bool:
        """Answer the CONNECT; True when the session is there (§3.1.4)."""
        connect = parse_connect(body)
        client_id = connect.client_id or (f"auto-{uuid.uuid4().hex}" if connect.clean else "")
        granted = self._hub.grant(connect.user, client_id)
        refusal = refuse_names(connect, client_id)
        if refusal is None:
            refusal = await self._hub.entrance.admit(connect.user, connect.password, self._pipe.address)
        if refusal is None:
            await self._hear_out(client_id)
            refusal = self._refuse_rights(connect, client_id, granted)
        if refusal is not None:
            who = (self, shown(connect.user), shown(connect.client_id))
            self._hub.entrance.complain_of_refusal("%s user=%s client=%s", *who, refused=refusal)
            self.send(refusing(connect, refusal))
            return False
        self._begin(connect, client_id, granted)
        return True

    async def _hear_out(self, client_id: str) -> None:
        """Let the old connection's last bytes in before it is taken over: they were sent earlier."""
        old = self._hub.sessions.get(client_id)
        for _ in range(4 if old is not None and old.connection is not None else 0):
            await asyncio.sleep(0)

    def _refuse_rights(self, connect: Connect, client_id: str, granted: Grant) -> Refused | None:
        old = self._hub.sessions.get(client_id)
        if self._hub.closing:
            return Refused(Refusal.UNAVAILABLE, "the broker stops")
        if old is not None and old.user != connect.user:
            return Refused(Refusal.IDENTIFIER, "the client id belongs to user=%s", (shown(old.user),))
        if connect.will is not None and not granted.may_publish(connect.will.levels):
            topic = shown(connect.will.topic)
            return Refused(Refusal.NOT_AUTHORIZED, "its will may not go to topic=%s", (topic,))
        if old is None or old.connection is None:  # else it takes the place of its own
            crowded = self._hub.entrance.refuse_crowd(connect.user)
            if crowded is not None:
                return Refused(Refusal.UNAVAILABLE, crowded)
        return None

    def _begin(self, connect: Connect, client_id: str, granted: Grant) -> None:
        """From here to the CONNACK nothing waits: no other CONNECT can come between."""
        session, existed = self._hub.open(connect.user, client_id, granted, clean=connect.clean)
        self._will = connect.will
        self.session = session
        self._hub.entrance.count(session.user, 1)
        self._hub.remember_peer(connect.user, client_id, self._pipe.address)
        self.send(accepting(session_present=existed))
        session.attach(self)
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        if connect.keep_alive_s:
            self._keep_alive = connect.keep_alive_s * 1.5
            self._timer = loop.call_later(self._keep_alive, self._check_alive, self._heard + self._keep_alive)

    def _check_alive(self, due: float) -> None:
        """End a connection that has said nothing for 1.5 times its keep alive (§3.1.2.10)."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now - due > 1.0:
            self._heard = now  # the broker itself was stopped meanwhile: everyone gets another turn
        due = self._heard + self._keep_alive
        if now >= due:
            self.end(Cause.KEEP_ALIVE)
        else:
            self._timer = loop.call_at(due, self._check_alive, due)

    # packets after the CONNECT

    def _handle(self, kind: int, flags: int, body: bytes) -> None:
        session = self.session
        if session is None:
            raise ProtocolError("no session")
        self._heard = asyncio.get_running_loop().time()
        cursor = Cursor(body)
        if kind == Kind.PUBLISH:
            self._on_publish(session, flags, cursor)
        elif kind == Kind.PUBACK:
            session.acknowledged(cursor.packet_id())
        elif kind == Kind.PINGREQ:
            self.send(PINGRESP)
        elif kind == Kind.DISCONNECT:
            self.end(Cause.DISCONNECT)
        elif kind in (Kind.PUBREL, Kind.SUBSCRIBE, Kind.UNSUBSCRIBE) and flags == 2:
            self._on_two(session, kind, cursor)
        else:
            raise ProtocolError(f"packet type {kind} with flags {flags}")

    def _on_two(self, session: Session, kind: int, cursor: Cursor) -> None:
        """Handle the packets whose flags must be 2 (§2.2.2)."""
        packet_id = cursor.packet_id()
        if kind == Kind.PUBREL:
            session.received.discard(packet_id)
            self.send(id_packet(PUBCOMP, packet_id))
        elif kind == Kind.SUBSCRIBE:
            self._on_subscribe(session, packet_id, cursor)
        else:
            while cursor:
                self._hub.unsubscribe(session, cursor.text())
            self.send(id_packet(UNSUBACK, packet_id))

    def _on_subscribe(self, session: Session, packet_id: int, cursor: Cursor) -> None:
        """Grant what the client may read, at QoS 1 at most; refuse all else, $share and $SYS too."""
        granted: dict[str, int] = {}
        known = set(session.subscriptions)
        codes = bytearray()
        while cursor:
            topic_filter, qos = cursor.text(), cursor.byte()
            if qos > 2:
                raise ProtocolError(f"SUBSCRIBE at QoS {qos}")
            if len(known) >= SUBSCRIPTIONS_LIMIT and topic_filter not in known:
                codes.append(SUBSCRIBE_REFUSED)
                self._hub.complain("%s has %d subscriptions: no more", self, SUBSCRIPTIONS_LIMIT)
            elif is_filter(topic_filter) and session.grant.may_subscribe(topic_filter.split("/")):
                known.add(topic_filter)
                granted[topic_filter] = min(qos, 1)
                codes.append(min(qos, 1))
            else:
                codes.append(SUBSCRIBE_REFUSED)
                self._hub.complain("refused to %s: filter=%s", self, shown(topic_filter), level=logging.INFO)
        if not codes:
            raise ProtocolError("SUBSCRIBE without a filter")
        for topic_filter, qos in granted.items():
            self._hub.subscribe(session, topic_filter, qos)
        self.send(suback_packet(packet_id, bytes(codes)))
        for topic_filter, qos in granted.items():
            self._hub.replay(session, topic_filter, qos)

    def _on_publish(self, session: Session, flags: int, cursor: Cursor) -> None:
        """Route a message; a forbidden one is acknowledged and goes nowhere (§3.3.5)."""
        qos = flags >> 1 & 3
        if qos == 3:
            raise ProtocolError("PUBLISH at QoS 3")
        topic, packet_id = cursor.text(), cursor.packet_id() if qos else 0
        message = new_message(topic, cursor.rest(), qos, retain=bool(flags & 1))
        if packet_id in self._held:
            return  # sent again while its acknowledgement is held: it is in the bridge's queue already
        if qos == 2 and packet_id in session.received:
            self.send(id_packet(PUBREC, packet_id))
        elif not session.grant.may_publish(message.levels):
            self._log_refused(topic)
            self.acknowledge(qos, packet_id)
        elif session.bridge:
            if message.retain:
                self._hub.retain(message)
            self._hub.route(message)
            self.acknowledge(qos, packet_id)
        else:
            self._note(message)
            if message.levels[-1] not in ENDS:
                message.sender = session.user
            if packet_id:
                self._held.add(packet_id)
                message.receipt = Receipt(self, qos, packet_id)
            self._hub.route(message)

    def acknowledge(self, qos: int, packet_id: int) -> None:
        """Tell the publisher that its message is taken care of, unless the publisher is gone."""
        self._held.discard(packet_id)
        if qos == 1:
            self.send(id_packet(PUBACK, packet_id))
        elif qos == 2 and self.session is not None:
            self.session.received.add(packet_id)
            self.send(id_packet(PUBREC, packet_id))

    def _log_refused(self, topic: str) -> None:
        """Log the first of a connection, as far as others have left room."""
        if not self._refused:
            self._refused = True
            self._hub.complain("%s may not publish to topic=%s, and perhaps to others", self, shown(topic))

    def _note(self, message: Message) -> None:
        """Remember what the bridge will know this connection by."""
        verb = message.levels[-1]
        if verb not in (LOGIN, ACTIVITY):
            return
        with contextlib.suppress(PayloadError):  # the bridge will refuse it, and open no record
            named = connection_id_of(message.payload)
            if verb == LOGIN or not self.present:
                self.connection_id = named
            self.present = True

    # the end

    def end(self, cause: Cause) -> None:
        """End the connection for everyone else, at once; the socket follows."""
        if self.over:
            return
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
        session = self.session
        if session is not None:
            if cause is Cause.SLOW:
                self._hub.complain("end of %s: %s", self, cause.value)
            else:
                _log.debug("end of %s: %s", self, cause.value)
            self._hub.entrance.count(session.user, -1)
            self._say_goodbye(session, cause)
            if cause is not Cause.SHUTDOWN:
                self._hub.release(session)
        if cause in (Cause.KEEP_ALIVE, Cause.TAKEOVER, Cause.SLOW):
            self._pipe.abort()

    def _say_goodbye(self, session: Session, cause: Cause) -> None:
        """Publish the will; where it does not tell the bridge that the record ended, tell it.

        It names the connection id of the login, so it can hit no later connection. Without one it ends the
        client's open record (contract E2), and cannot hit a later one either: it is in the bridge's queue
        before the client's next CONNECT is answered.
        """
        lost = cause is not Cause.DISCONNECT
        if lost and self._will is not None:
            if session.bridge and self._will.retain:
                self._hub.retain(self._will)
            elif not session.bridge:
                self._will.qos = 1  # nobody is online for ever because a device asked for QoS 0
            self._hub.route(self._will)
        if self.present and not (lost and self._will_tells()):
            verb = WILL if lost else LOGOUT
            topic = self._hub.topics.input(session.user, session.client_id, verb)
            payload = b"" if self.connection_id is None else encode_end(self.connection_id)
            self._hub.route(new_message(topic, payload, 1))

    def _will_tells(self) -> bool:
        """Say whether the will ends the record of this connection (contract E1, E2)."""
        if self._will is None or self._will.levels[-1] not in (WILL, LOGOUT):
            return False
        try:
            return connection_id_of(self._will.payload) in (None, self.connection_id)
        except PayloadError:
            return False

    async def hang_up(self) -> None:
        """Close the socket, after what is still to be sent if the peer takes it."""
        with contextlib.suppress(OSError):  # TimeoutError is one too
            async with asyncio.timeout(HANG_UP_S):
                if self._flusher is not None:
                    await self._flusher
                await self._pipe.close()
        self._pipe.abort()
        if self.session is not None and self.session.connection is self:
            self._hub.release(self.session)

    # sending

    def has_room(self) -> bool:
        """Say whether the peer takes what it is sent; else the session is told when it does again."""
        return self._outbox_size < OUTBOX_LIMIT

    def send(self, data: bytes) -> None:
        """Send soon: everything of one turn of the loop leaves in one piece."""
        self._outbox.append(data)
        self._outbox_size += len(data)
        if self._flusher is None:
            self._flusher = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        try:
            while self._outbox:
                data, size = b"".join(self._outbox), self._outbox_size
                self._outbox.clear()
                await self._pipe.send(data)
                self._outbox_size -= size
                if self.session is not None and self.session.connection is self:
                    self.session.pump()
        except OSError:
            self._pipe.abort()  # the reader sees the end
        finally:
            self._flusher = None
