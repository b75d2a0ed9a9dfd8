"""One client's connection, from its first packet to its will: what each packet does, and what is sent."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator

from mqtt_presence.access.rate_limited_log import quoted
from mqtt_presence.access.rights import Grant
from mqtt_presence.embedded.connect_request import (
    Connect,
    Refused,
    accepting,
    parse_connect,
    refuse_names,
    refusing,
)
from mqtt_presence.embedded.deliveries import Message, Receipt, new_message
from mqtt_presence.embedded.router import Router
from mqtt_presence.embedded.sessions import Cause, Session
from mqtt_presence.embedded.transports import HANG_UP_S, Transport
from mqtt_presence.errors import PayloadError
from mqtt_presence.mqtt.fields import Cursor
from mqtt_presence.mqtt.framing import Framer, Kind, ProtocolError
from mqtt_presence.mqtt.packets import (
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBREC,
    SUBSCRIBE_REFUSED,
    UNSUBACK,
    id_packet,
    suback_packet,
)
from mqtt_presence.mqtt.return_codes import Refusal
from mqtt_presence.mqtt.topic_filters import is_filter
from mqtt_presence.protocol.client_messages import encode_end
from mqtt_presence.protocol.incoming import connection_id_of
from mqtt_presence.protocol.topics import ACTIVITY, ENDS, LOGIN, LOGOUT, MAX_NAME, WILL

_log = logging.getLogger("mqtt_presence.embedded")

OUTBOX_LIMIT = 64 * 1024
"""Bytes handed to a socket that does not take them; then messages wait in the session's queue."""
PACKET_OVERHEAD = 48
"""Bytes that a packet in the outbox takes beside its own, counted with them."""
TURN_S = 0.002
"""Seconds of packets from one connection, then the other connections have their turn."""
BRIDGE_TURN_S = 0.1
"""The same for the bridge: all that it publishes in one turn leaves in one piece to each subscriber."""
FILTER_LENGTH = 4 * (MAX_NAME + 1)
"""Characters of a topic filter after the prefix: no topic of the contract is longer."""
RECEIVED_LIMIT = 1000
"""QoS 2 messages of one session between PUBREC and PUBREL."""


class ClientConnection:
    """One client's connection, from its first byte to its end.

    Args:
        router: where its messages go and come from.
        transport: what carries it.

    """

    __slots__ = (
        "_flusher",
        "_framer",
        "_heard",
        "_held",
        "_keep_alive",
        "_outbox",
        "_outbox_size",
        "_refused",
        "_router",
        "_spent",
        "_timer",
        "_transport",
        "_turn_s",
        "_will",
        "connection_id",
        "over",
        "present",
        "session",
    )  # fmt: skip

    def __init__(self, router: Router, transport: Transport) -> None:
        self._router = router
        self._transport = transport
        self._framer = Framer(router.config.max_packet_size)
        self._outbox: list[bytes] = []
        self._outbox_size = 0
        self._flusher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._keep_alive = 0.0
        self._heard = 0.0
        self._spent = 0.0
        self._turn_s = TURN_S
        self._held: set[int] = set()
        self._will: Message | None = None
        self._refused = False
        self.session: Session | None = None
        self.over = False
        self.present = False  # it has said something that opens a record (contract L1, A2)
        self.connection_id: str | None = None

    async def run(self) -> None:
        """Serve the connection until it ends."""
        self._router.connections.add(self)
        self._router.admission.arrive(self._transport, self._transport.address)
        packets = self._packets()
        try:
            async with asyncio.timeout(self._router.config.connect_timeout_s):
                kind, _, body = await anext(packets)
            self._router.admission.leave(self._transport)
            if kind == Kind.CONNECT and await self._accept(body):
                async for kind, flags, body in packets:
                    if kind in {Kind.SUBSCRIBE, Kind.UNSUBSCRIBE}:
                        await self._handle_filters(kind, flags, Cursor(body))
                    else:
                        self._handle(kind, flags, Cursor(body))
        except ProtocolError as error:
            self._router.log("closing %s: %s", self, error, level=logging.INFO)
        except (OSError, StopAsyncIteration):
            pass  # gone, or too late with its CONNECT: the end below says what has to be said
        finally:
            self.end(Cause.LOST)
            self._router.admission.leave(self._transport)
            self._router.connections.discard(self)
            await self.hang_up()

    def __str__(self) -> str:
        name = (
            "" if self.session is None else f" user={self.session.user!r} client={self.session.client_id!r}"
        )
        return f"address={self._transport.address}{name}"

    async def _packets(self) -> AsyncIterator[tuple[int, int, bytes]]:
        """Yield packets until the end; after a shutdown began, swallow them."""
        clock = asyncio.get_running_loop().time
        while chunk := await self._transport.receive():
            if self.over and not self._router.closing:
                return
            for packet in () if self.over else self._framer.feed(chunk):
                began = clock()
                yield packet
                self._spent += clock() - began
                # Answers have no queue: a client that does not read them is not heard until it does.
                if self._outbox_size > 2 * OUTBOX_LIMIT and self._flusher is not None:
                    await self._flusher
                await self._end_turn()
                if self.over:
                    break

    async def _end_turn(self) -> None:
        """Let the other connections have their turn once this one has used up its own."""
        if self._spent >= self._turn_s:
            self._spent = 0.0
            await asyncio.sleep(0)

    # CONNECT

    async def _accept(self, body: bytes) -> bool:
        """Answer the CONNECT; True when the session is there (§3.1.4)."""
        connect = parse_connect(body)
        client_id = connect.client_id or (f"auto-{uuid.uuid4().hex}" if connect.clean else "")
        granted = self._router.grant(connect.user, client_id)
        refusal = refuse_names(connect, client_id)
        if refusal is None:
            refusal = await self._router.admission.admit(
                connect.user, connect.password, self._transport.address
            )
        if refusal is None:
            await self._hear_out(client_id)
            refusal = self._refuse_rights(connect, client_id, granted)
        if refusal is not None:
            who = (self, quoted(connect.user), quoted(connect.client_id))
            self._router.admission.log_refusal("%s user=%s client=%s", *who, refused=refusal)
            self.send(refusing(connect, refusal))
            return False
        self._begin(connect, client_id, granted)
        return True

    async def _hear_out(self, client_id: str) -> None:
        """Let the old connection's last bytes in before it is taken over: they were sent earlier."""
        old = self._router.sessions.get(client_id)
        for _ in range(4 if old is not None and old.connection is not None else 0):
            await asyncio.sleep(0)

    def _refuse_rights(self, connect: Connect, client_id: str, granted: Grant) -> Refused | None:
        old = self._router.sessions.get(client_id)
        if self._router.closing:
            return Refused(Refusal.UNAVAILABLE, "the broker stops")
        if old is not None and old.user != connect.user:
            return Refused(Refusal.IDENTIFIER, "the client id belongs to user=%s", (quoted(old.user),))
        if connect.will is not None and not granted.may_publish(connect.will.levels):
            topic = quoted(connect.will.topic)
            return Refused(Refusal.NOT_AUTHORIZED, "its will may not go to topic=%s", (topic,))
        if old is None or old.connection is None:  # else it takes the place of its own
            crowded = self._router.admission.refuse_crowd(connect.user)
            if crowded is not None:
                return Refused(Refusal.UNAVAILABLE, crowded)
        return None

    def _begin(self, connect: Connect, client_id: str, granted: Grant) -> None:
        """From here to the CONNACK nothing waits: no other CONNECT can come between."""
        session, existed = self._router.open(connect.user, client_id, granted, clean=connect.clean)
        self._will = connect.will
        self.session = session
        if session.bridge:
            self._turn_s = BRIDGE_TURN_S
        self._router.admission.count(session.user, 1)
        self._router.remember_peer(connect.user, client_id, self._transport.address)
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

    def _handle(self, kind: int, flags: int, cursor: Cursor) -> None:
        session = self._heard_from()
        if kind == Kind.PUBLISH:
            self._on_publish(session, flags, cursor)
        elif kind == Kind.PUBACK:
            session.acknowledged(cursor.packet_id())
        elif kind == Kind.PINGREQ:
            self.send(PINGRESP)
        elif kind == Kind.DISCONNECT:
            self.end(Cause.DISCONNECT)
        elif kind == Kind.PUBREL and flags == 2:
            packet_id = cursor.packet_id()
            session.received.discard(packet_id)
            self.send(id_packet(PUBCOMP, packet_id))
        else:
            raise ProtocolError(f"packet type {kind} with flags {flags}")

    def _heard_from(self) -> Session:
        """Return the session of the client, and note that the client is alive."""
        if self.session is None:
            raise ProtocolError("no session")
        self._heard = asyncio.get_running_loop().time()
        return self.session

    async def _handle_filters(self, kind: int, flags: int, cursor: Cursor) -> None:
        """Handle a SUBSCRIBE or UNSUBSCRIBE, which may have tens of thousands of filters, in turns."""
        session = self._heard_from()
        if flags != 2:
            raise ProtocolError(f"packet type {kind} with flags {flags}")
        packet_id = cursor.packet_id()
        if not cursor:
            raise ProtocolError("a packet without a filter")
        if kind == Kind.SUBSCRIBE:
            await self._on_subscribe(session, packet_id, cursor)
            return
        async for _ in self._filters_of(cursor):
            self._router.unsubscribe(session, cursor.text())
        self.send(id_packet(UNSUBACK, packet_id))

    async def _filters_of(self, cursor: Cursor) -> AsyncIterator[None]:
        """Step through the filters of a packet, in turns, until its end or that of the connection."""
        clock = asyncio.get_running_loop().time
        while cursor and not self.over:
            began = clock()
            yield
            self._spent += clock() - began
            await self._end_turn()

    async def _on_subscribe(self, session: Session, packet_id: int, cursor: Cursor) -> None:
        """Grant what the client may read, at QoS 1 at most; refuse all else, $share and $SYS too."""
        granted: dict[str, int] = {}
        new = 0
        codes = bytearray()
        async for _ in self._filters_of(cursor):
            topic_filter, qos = cursor.text(), cursor.byte()
            if qos > 2:
                raise ProtocolError(f"SUBSCRIBE at QoS {qos}")
            is_new = topic_filter not in session.subscriptions and topic_filter not in granted
            if not self._may_subscribe(session, topic_filter):
                codes.append(SUBSCRIBE_REFUSED)
                self._router.log("refused to %s: filter=%s", self, quoted(topic_filter), level=logging.INFO)
            elif is_new and not self._router.has_room_for_filter(session, new + 1):
                codes.append(SUBSCRIBE_REFUSED)
                self._router.log("%s has %d subscriptions: no more", self, len(session.subscriptions) + new)
            else:
                new += is_new
                granted[topic_filter] = min(qos, 1)
                codes.append(min(qos, 1))
        if self.over:
            return
        for topic_filter, qos in granted.items():
            self._router.subscribe(session, topic_filter, qos)
        self.send(suback_packet(packet_id, bytes(codes)))
        for topic_filter, qos in granted.items():
            self._router.replay(session, topic_filter, qos)

    def _may_subscribe(self, session: Session, topic_filter: str) -> bool:
        if len(topic_filter) > len(self._router.topics.prefix) + FILTER_LENGTH or not is_filter(topic_filter):
            return False
        return session.grant.may_subscribe(topic_filter.split("/"))

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
        elif qos == 2 and len(session.received) >= RECEIVED_LIMIT:
            raise ProtocolError(f"{RECEIVED_LIMIT} QoS 2 messages without a PUBREL")
        elif not session.grant.may_publish(message.levels):
            self._log_refused(topic)
            self.acknowledge(qos, packet_id)
        elif session.bridge:
            if message.retain:
                self._router.retained.keep(message)
            self._router.route(message)
            self.acknowledge(qos, packet_id)
        else:
            self._note(message)
            if message.levels[-1] not in ENDS:
                message.sender = session.user
            if packet_id:
                self._held.add(packet_id)
                message.receipt = Receipt(self, qos, packet_id)
            if not self._router.route(message):
                self._held.discard(packet_id)

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
            self._router.log("%s may not publish to topic=%s, and perhaps to others", self, quoted(topic))

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
                self._router.log("end of %s: %s", self, cause.value)
            else:
                _log.debug("end of %s: %s", self, cause.value)
            self._router.admission.count(session.user, -1)
            self._say_goodbye(session, cause)
            if cause is not Cause.SHUTDOWN:
                self._router.release(session)
        if cause in (Cause.KEEP_ALIVE, Cause.TAKEOVER, Cause.SLOW):
            self._transport.abort()

    def _say_goodbye(self, session: Session, cause: Cause) -> None:
        """Publish the will; where it does not tell the bridge that the record ended, tell it.

        It names the connection id of the login, so it can hit no later connection. Without one it ends the
        client's open record (contract E2), and cannot hit a later one either: it is in the bridge's queue
        before the client's next CONNECT is answered.
        """
        lost = cause is not Cause.DISCONNECT
        if lost and self._will is not None:
            if session.bridge and self._will.retain:
                self._router.retained.keep(self._will)
            elif not session.bridge:
                self._will.qos = 1  # nobody is online for ever because a device asked for QoS 0
            self._router.route(self._will)
        if self.present and not (lost and self._will_tells()):
            verb = WILL if lost else LOGOUT
            topic = self._router.topics.input(session.user, session.client_id, verb)
            payload = b"" if self.connection_id is None else encode_end(self.connection_id)
            self._router.route(new_message(topic, payload, 1))

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
                await self._transport.close()
        self._transport.abort()
        if self.session is not None and self.session.connection is self:
            self._router.release(self.session)

    # sending

    def has_room(self) -> bool:
        """Say whether the peer takes what it is sent; else the session is told when it does again."""
        return self._outbox_size < OUTBOX_LIMIT

    def send(self, data: bytes) -> None:
        """Send soon: everything of one turn of the loop leaves in one piece."""
        self._outbox.append(data)
        self._outbox_size += len(data) + PACKET_OVERHEAD
        if self._flusher is None:
            self._flusher = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        try:
            while self._outbox:
                data, size = b"".join(self._outbox), self._outbox_size
                self._outbox.clear()
                await self._transport.send(data)
                self._outbox_size -= size
                if self.session is not None and self.session.connection is self:
                    self.session.pump()
                if self._outbox:
                    await asyncio.sleep(0)  # a peer that takes everything at once has its turn, too
        except OSError:
            self._transport.abort()  # the reader sees the end
        finally:
            self._flusher = None
