"""The embedded broker: MQTT 3.1.1 fit for presence on one machine; the only module that imports amqtt.

amqtt brings the listeners and their life cycle. What happens on a connection is our own: amqtt's flows (a
task for every packet, queues between them) lose the order and the acknowledgements that presence lives on,
so one reader for each connection handles packets as they came, and all between two reads is synchronous.
``tests/embedded/test_counterexamples.py`` shows each scenario failing on plain amqtt.
"""

import asyncio
import concurrent.futures
import contextlib
import enum
import hmac
import json
import logging
import resource
import socket
import ssl
import struct
import threading
import urllib.parse
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from amqtt.broker import Broker
from amqtt.contexts import ListenerType
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as websocket_serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from mqtt_presence.access import Grant, grant, is_filter
from mqtt_presence.complaints import Complaints, shown
from mqtt_presence.errors import BrokerError, ConfigError
from mqtt_presence.gate import Doorstep, Guesses
from mqtt_presence.limits import Buckets
from mqtt_presence.listening import cannot_listen, is_loopback, listen
from mqtt_presence.passwords import PasswordFile, add_user, remove_user
from mqtt_presence.topics import ACTIVITY, ENDS, LOGIN, LOGOUT, WILL, Topics, is_name, require_name

__all__ = ["EmbeddedBroker", "EmbeddedConfig", "Pipe", "add_user", "remove_user"]

AMQTT_VERSION: Final = "0.12.1"
if version("amqtt") != AMQTT_VERSION:
    raise ImportError(
        f"the embedded broker repairs amqtt {AMQTT_VERSION}, but {version('amqtt')} is installed:"
        f" pip install amqtt=={AMQTT_VERSION}"
    )

_LOG = logging.getLogger(__name__)
# A stranger's junk is no error of ours: with a traceback for each a port scan would fill the disk.
_WEBSOCKET_LOG = logging.getLogger(f"{__name__}.websocket")
_WEBSOCKET_LOG.addFilter(lambda record: record.getMessage() != "opening handshake failed")

T = TypeVar("T")

WINDOW = 1000
"""QoS 1 messages sent to one session and not yet acknowledged; it bounds the bridge's rate (design)."""
QUEUE_LIMIT = 10_000
"""Messages waiting for one client, retained ones to a new subscription not counted."""
BRIDGE_QUEUE_LIMIT = 100_000
"""The same for the bridge; what is dropped is not acknowledged."""
QUEUE_BYTES = 16 << 20
"""The same in bytes of payload, for the bridge too. Beyond it a client that does not take its QoS 1 messages
is disconnected (a new subscription brings it up to date; a gap would leave it wrong for ever); for one that
is away the newest are dropped."""
BACKLOG_LIMIT = 10_000
"""Messages kept while there is no bridge, for the first that subscribes."""
PEERS_LIMIT = 100_000
"""Clients whose address is remembered."""
OUTBOX_LIMIT = 1 << 20
"""Bytes handed to a socket that does not take them; then messages wait in the session's queue."""
FRAME_SIZE = 1 << 16
"""Bytes in a WebSocket frame: some clients take no more than 1 MiB."""
SESSION_EXPIRY_S = 24 * 3600.0
"""How long the session of an absent client is kept (the bridge's: for ever)."""
DRAIN_S = 5.0
"""How long a stop waits for the bridge to acknowledge the last wills."""
HANG_UP_S = 1.0
"""How long a closing connection may take to read what is still for it."""
CLIENTS_LIMIT = 10_000
"""Clients connected at once; fewer where the system allows fewer open files."""
SPARE_FILES = 100
"""Open files that are no clients' connections."""
WAITING_LIMIT = 1000
"""Connections that have not sent their CONNECT."""
WAITING_LIMIT_EACH = 200
"""The same of one address."""
VERIFYING_LIMIT = 2000
"""Passwords that wait to be verified."""
KEPT_LIMIT = 1000
"""Sessions kept for clients that are away."""
KEPT_LIMIT_EACH = 100
"""The same for one user."""
SUBSCRIPTIONS_LIMIT = 1000
"""Topic filters of one session."""
FAIR_SHARE = (2000, 100.0)
"""What one user may add to the bridge's queue while that is more than half full: so many messages at once,
and so many a second. Who floods loses the own messages, not those of the others."""
LOGIN_LIMIT = 8 * 1024
"""The longest payload the bridge accepts (contract section 1)."""


# --- what the rest of the package sees -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EmbeddedConfig:
    """Settings of the embedded broker.

    Args:
        host: the address to listen on.
        port: the TCP port; 0 takes any free one.
        ws_port: the WebSocket port; None listens on none, 0 takes any free one.
        prefix: what stands before every topic (contract section 1).
        open: let anyone in under the name they give, without a password.
        insecure: allow ``open`` beyond loopback.
        password_file: the users and their passwords, needed unless ``open``.
        operators: the users who may read ``events/#``.
        bridge_user: the name the bridge logs in with.
        bridge_password: the secret it must always give; empty: nobody can log in as the bridge.
        connect_timeout_s: seconds a new connection has for its CONNECT.
        max_packet_size: the largest packet taken, in bytes; a longer one ends the connection.
        max_connections: clients of one user connected at once; None: any number.

    """

    host: str = "127.0.0.1"
    port: int = 1883
    ws_port: int | None = None
    prefix: str = ""
    open: bool = True
    insecure: bool = False
    password_file: Path | None = None
    operators: frozenset[str] = frozenset()
    bridge_user: str = "bridge"
    bridge_password: str = field(default="", repr=False)
    connect_timeout_s: float = 10.0
    max_packet_size: int = 256 * 1024
    max_connections: int | None = None


class EmbeddedBroker:
    """An MQTT 3.1.1 broker on an event loop of its own, in a background thread."""

    def __init__(self, config: EmbeddedConfig) -> None:
        self.config = config
        self._sockets: list[socket.socket] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._broker: _PresenceBroker | None = None
        self._stopping: asyncio.Event | None = None
        self._ports: list[int] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start listening; return when clients can connect.

        Raises:
            ConfigError: a setting is wrong, or would open the broker to the network without passwords.
            BrokerError: a port cannot be had, e.g. because another program has it.

        """
        if self._thread is not None:
            raise BrokerError("the embedded broker is running already")
        passwords = _check(self.config)
        self._sockets = _bind(self.config)
        self._ports = [sock.getsockname()[1] for sock in self._sockets]
        ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        serve = partial(self._serve, passwords, ready)
        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name="mqtt-broker", daemon=True)
        self._thread.start()
        try:
            ready.result()
        except Exception as error:
            self._thread.join()
            self._close()
            raise BrokerError(f"the embedded broker cannot start: {error}") from error

    def drain(self, timeout_s: float = DRAIN_S) -> None:
        """End every connection but the bridge's: wills go out, and the bridge gets the time to commit them.

        No new client is let in. What the old ones say is not heard any more, but until ``stop`` they still
        get what is sent to them: the last statuses, the bridge's offline. Returns when the bridge has
        acknowledged everything, or is not there, or after the timeout. Not for the bridge's own thread.
        """
        if self._loop is None or self._broker is None:
            return
        drained = asyncio.run_coroutine_threadsafe(self._broker.drain(timeout_s), self._loop)
        drained.result(timeout_s + HANG_UP_S)

    def stop(self) -> None:
        """Drain, close every connection, stop the thread. Harmless when stopped already."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        with contextlib.suppress(concurrent.futures.TimeoutError):
            self.drain()
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._close()

    @property
    def port(self) -> int:
        """The TCP port that clients connect to."""
        return self._ports[0] if self._ports else self.config.port

    @property
    def ws_port(self) -> int | None:
        """The WebSocket port, None when there is none."""
        return self._ports[1] if len(self._ports) > 1 else self.config.ws_port

    def peer_address(self, user_id: str, client_id: str) -> str | None:
        """Return the address from which this user's client is, or was last, connected. Safe in any thread."""
        broker = self._broker
        return None if broker is None else broker.hub.peers.get((user_id, client_id))

    def submit(self, work: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
        """Run a coroutine on the broker's loop, e.g. a server whose WebSockets go to `serve`.

        Args:
            work: it must end before `stop`.

        Raises:
            BrokerError: the broker does not run.

        """
        if self._loop is None:
            work.close()
            raise BrokerError("the embedded broker does not run")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def serve(self, pipe: "Pipe") -> None:
        """Serve an MQTT client that came in elsewhere, until its end. On the broker's loop only (`submit`).

        Args:
            pipe: its connection.

        """
        if self._broker is not None:
            await _Connection(self._broker.hub, pipe).run()

    async def authenticate(self, user: str, password: str, address: str) -> bool:
        """Say whether a client with this name and password would be let in. On the broker's loop only.

        Never the bridge, and nobody while the broker is open: then a name proves nothing. Wrong passwords
        count together with those of clients from the same address.
        """
        broker, config = self._broker, self.config
        if broker is None or config.open:
            return False
        if user == config.bridge_user or not is_name(user):
            refused: _Refused | None = _Refused(_Refusal.BAD_NAME, "nobody of that name can be let in")
        else:
            refused = await broker.hub.admit(user, password.encode(), address)
        if refused is None:
            return True
        broker.hub.complain_of_refusal(
            "at the page address=%s user=%s", address, shown(user), refused=refused
        )
        return False

    async def _serve(self, passwords: PasswordFile | None, ready: concurrent.futures.Future[None]) -> None:
        try:
            broker = _PresenceBroker(_Hub(self.config, passwords), self._sockets)
            await broker.start()
        except Exception as error:  # noqa: BLE001 - whatever amqtt raises goes to the caller of start()
            ready.set_exception(error)
            return
        self._broker, self._loop, self._stopping = broker, asyncio.get_running_loop(), asyncio.Event()
        ready.set_result(None)
        await self._stopping.wait()
        await broker.hang_up()
        await broker.shutdown()
        broker.hub.close()

    def _close(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._thread = self._loop = self._stopping = None


def _check(config: EmbeddedConfig) -> PasswordFile | None:
    """Refuse settings that cannot work or would surprise; return the password file if there is one."""
    Topics(config.prefix)
    require_name("bridge_user", config.bridge_user)
    if config.open and not config.insecure and not is_loopback(config.host):
        raise ConfigError(
            f"host={config.host!r} is reachable from other machines and open=True asks no password of anyone:"
            " set a password_file and open=False, or insecure=True if that is what you want"
        )
    if config.open:
        return None
    if config.password_file is None:
        raise ConfigError("open=False needs a password_file (mqtt-presence passwd <user> writes one)")
    passwords = PasswordFile(config.password_file)
    passwords.load()
    return passwords


def _room() -> tuple[int, int]:
    """Tell how many may wait at the door, and how many be in: what the system allows in open files.

    Without a bound of our own `accept` would fail one day, for the bridge too.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return WAITING_LIMIT, CLIENTS_LIMIT
    waiting = min(WAITING_LIMIT, files // 4)
    return waiting, max(1, min(CLIENTS_LIMIT, files - waiting - SPARE_FILES))


def _bind(config: EmbeddedConfig) -> list[socket.socket]:
    """Bind here, in the caller's thread: a port in use is the caller's to hear of, in one sentence."""
    sockets: list[socket.socket] = []
    for setting, port in (("port", config.port), ("ws_port", config.ws_port)):
        if port is None:
            continue
        try:
            sockets.append(listen(config.host, port))
        except (OSError, OverflowError) as error:
            for sock in sockets:
                sock.close()
            raise BrokerError(cannot_listen(config.host, setting, port, error)) from error
    return sockets


# --- packets (MQTT 3.1.1 §2 and §3) --------------------------------------------------------------


class _Kind(enum.IntEnum):
    CONNECT = 1
    PUBLISH = 3
    PUBACK = 4
    PUBREL = 6
    SUBSCRIBE = 8
    UNSUBSCRIBE = 10
    PINGREQ = 12
    DISCONNECT = 14


class _Refusal(enum.IntEnum):
    """CONNACK return codes (§3.2.2.3)."""

    VERSION = 1
    IDENTIFIER = 2
    UNAVAILABLE = 3
    BAD_NAME = 4
    NOT_AUTHORIZED = 5


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why somebody is not let in.

    Args:
        code: what the client is told.
        why: what the log is told; a format, and a constant (`Complaints.complain`).
        about: what is put into it.

    """

    code: _Refusal
    why: str
    about: tuple[object, ...] = ()


_PROTOCOL_LEVEL: Final = 4
_PROTOCOL_LEVEL_5: Final = 5
_CONNACK_5_UNSUPPORTED: Final = b"\x20\x03\x00\x84\x00"
"""To a version 5 CONNECT, in its own format (MQTT 5 §3.1.2.2): clients report "unsupported version"."""
_PINGRESP: Final = b"\xd0\x00"
_SUBSCRIBE_REFUSED: Final = 0x80


class _ProtocolError(Exception):
    """The client broke the protocol: the connection is closed (§4.8), its will goes out."""


class _Framer:
    """Cuts a byte stream into packets: (kind, flags, body)."""

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, chunk: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Take what the socket brought, yield the packets that are complete."""
        buffer = self._buffer
        buffer += chunk
        at = 0
        while (frame := self._frame(at)) is not None:
            start, end = frame
            if end > len(buffer):
                break
            yield buffer[at] >> 4, buffer[at] & 15, bytes(buffer[start:end])
            at = end
        del buffer[:at]

    def _frame(self, at: int) -> tuple[int, int] | None:
        """Return where the body of the packet at this place begins and ends, None if not yet known."""
        length = 0
        for count, byte in enumerate(self._buffer[at + 1 : at + 5]):
            length |= (byte & 0x7F) << 7 * count
            if not byte & 0x80:
                start = at + count + 2
                if start + length - at > self._limit:
                    raise _ProtocolError(f"a packet of {length} bytes is over max_packet_size={self._limit}")
                return start, start + length
        if len(self._buffer) >= at + 5:
            raise _ProtocolError("the remaining length is malformed")
        return None


class _Cursor:
    """Reads the fields of a packet; whatever is short or ill-formed is a protocol error."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, length: int) -> bytes:
        self._at += length
        if self._at > len(self._data):
            raise _ProtocolError("the packet is shorter than its fields")
        return self._data[self._at - length : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.take(2))

    def blob(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        """Read a string: UTF-8, no NUL (§1.5.3)."""
        try:
            text = self.blob().decode()
        except UnicodeDecodeError as error:
            raise _ProtocolError("a string is not UTF-8") from error
        if "\0" in text:
            raise _ProtocolError("a string contains NUL")
        return text

    def packet_id(self) -> int:
        packet_id = self.number()
        if not packet_id:
            raise _ProtocolError("packet id 0")
        return packet_id

    def rest(self) -> bytes:
        return self._data[self._at :]


@dataclass(frozen=True, slots=True)
class _Connect:
    level: int
    clean: bool = True
    keep_alive_s: int = 0
    client_id: str = ""
    will: "_Message | None" = None
    user: str = ""
    password: bytes | None = None


def _parse_connect(body: bytes) -> _Connect:
    """Read a CONNECT (§3.1); of another protocol version only which one it is."""
    cursor = _Cursor(body)
    name, level = cursor.text(), cursor.byte()
    if name not in ("MQTT", "MQIsdp"):
        raise _ProtocolError(f"protocol {shown(name)}")
    if name != "MQTT" or level != _PROTOCOL_LEVEL:
        return _Connect(level)
    flags, keep_alive_s, client_id = cursor.byte(), cursor.number(), cursor.text()
    will_qos = flags >> 3 & 3
    if flags & 1 or will_qos == 3 or (flags & 0x38 and not flags & 4) or (flags & 0x40 and not flags & 0x80):
        raise _ProtocolError(f"CONNECT flags {flags:#04x}")
    will = None
    if flags & 4:
        topic, payload = cursor.text(), cursor.blob()
        will = _message(topic, payload, will_qos, retain=bool(flags & 0x20))
    user = cursor.text() if flags & 0x80 else ""
    password = cursor.blob() if flags & 0x40 else None
    if cursor:
        raise _ProtocolError("CONNECT has bytes left over")
    return _Connect(level, bool(flags & 2), keep_alive_s, client_id, will, user, password)


def _short(kind: int, packet_id: int) -> bytes:
    """Build a packet that has only an id: PUBACK, PUBREC, PUBCOMP, UNSUBACK."""
    return struct.pack("!BBH", kind, 2, packet_id)


_PUBACK, _PUBREC, _PUBCOMP, _UNSUBACK = 0x40, 0x50, 0x70, 0xB0


def _publish(message: "_Message", packet_id: int, *, retain: bool, dup: bool) -> bytes:
    topic = message.topic.encode()
    size = 2 + len(topic) + (2 if packet_id else 0) + len(message.payload)
    head = bytearray((0x30 | (2 if packet_id else 0) | (8 if dup else 0) | retain,))
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    head += struct.pack("!H", len(topic)) + topic
    if packet_id:
        head += struct.pack("!H", packet_id)
    return bytes(head) + message.payload


# --- messages, sessions, who gets what -----------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Message:
    topic: str
    levels: tuple[str, ...]
    payload: bytes
    qos: int
    retain: bool = False
    receipt: "_Receipt | None" = None
    sender: str | None = None
    """The user who published it; None: the bridge, a will, or the broker itself."""


def _message(topic: str, payload: bytes, qos: int, *, retain: bool = False) -> _Message:
    """Make a message of a topic name (§4.7.3); delivery is at QoS 1 at most."""
    if not topic or "+" in topic or "#" in topic:
        raise _ProtocolError(f"topic name {shown(topic)}")
    return _Message(topic, tuple(topic.split("/")), payload, min(qos, 1), retain)


class _Receipt:
    """An acknowledgement held back until every bridge session that got the message has acknowledged it.

    The bridge acknowledges after its commit, so the publisher's PUBACK means kept (contract section 5).
    """

    __slots__ = ("_connection", "_packet_id", "_qos", "waiting")

    def __init__(self, connection: "_Connection", qos: int, packet_id: int) -> None:
        self._connection = connection
        self._qos = qos
        self._packet_id = packet_id
        self.waiting = 0

    def committed(self) -> None:
        self.waiting -= 1
        if self.waiting == 0:
            self._connection.acknowledge(self._qos, self._packet_id)


@dataclass(slots=True, eq=False)
class _Delivery:
    message: _Message
    qos: int
    retain: bool = False


class _Session:
    """What the broker remembers of a client: its subscriptions and what it has still to get, in order."""

    __slots__ = (
        "_next_id", "bridge", "clean", "client_id", "connection", "expiry", "grant", "inflight", "limit",
        "queue", "queued", "queued_bytes", "received", "subscriptions", "user",
    )  # fmt: skip

    def __init__(self, user: str, client_id: str, granted: Grant, *, clean: bool, bridge: bool) -> None:
        self.user = user
        self.client_id = client_id
        self.grant = granted
        self.clean = clean
        self.bridge = bridge
        self.limit = BRIDGE_QUEUE_LIMIT if bridge else QUEUE_LIMIT
        self.connection: _Connection | None = None
        self.expiry: asyncio.TimerHandle | None = None
        self.subscriptions: dict[str, int] = {}
        self.queue: deque[_Delivery] = deque()
        self.queued = 0
        self.queued_bytes = 0
        self.inflight: dict[int, _Delivery] = {}
        self.received: set[int] = set()  # QoS 2 ids between PUBREC and PUBREL (§4.3.3)
        self._next_id = 0

    def enqueue(self, delivery: _Delivery) -> bool:
        """Take a message for delivery; False when it is dropped: QoS 0 to an absent client, or too many."""
        full = self.queued >= self.limit or self.queued_bytes > QUEUE_BYTES
        if full or (self.connection is None and not delivery.qos):
            return False
        self.append(delivery)
        self.pump()
        return True

    def append(self, delivery: _Delivery) -> None:
        self.queue.append(delivery)
        self._count(delivery, 1)

    def _count(self, delivery: _Delivery, sign: int) -> None:
        if not delivery.retain:  # a list of all users is one subscription, however many they are
            self.queued += sign
            self.queued_bytes += sign * len(delivery.message.payload)

    def pump(self) -> None:
        """Send what may be sent. QoS 0 keeps its place in the queue: nothing overtakes a login."""
        connection, queue = self.connection, self.queue
        while connection is not None and queue and connection.has_room():
            delivery = queue[0]
            packet_id = 0
            if delivery.qos:
                if len(self.inflight) >= WINDOW:
                    return
                packet_id = self._free_id()
                self.inflight[packet_id] = delivery
            queue.popleft()
            self._count(delivery, -1)
            connection.send(_publish(delivery.message, packet_id, retain=delivery.retain, dup=False))

    def acknowledged(self, packet_id: int) -> None:
        """Forget a message that the client has."""
        delivery = self.inflight.pop(packet_id, None)
        if delivery is not None and self.bridge and delivery.message.receipt is not None:
            delivery.message.receipt.committed()
        self.pump()

    def attach(self, connection: "_Connection") -> None:
        """Send again what was not acknowledged, in order, then go on (§4.4)."""
        self.connection = connection
        if self.expiry is not None:
            self.expiry.cancel()
        for packet_id, delivery in self.inflight.items():
            connection.send(_publish(delivery.message, packet_id, retain=delivery.retain, dup=True))
        self.pump()

    def detach(self) -> None:
        self.connection = None
        waiting, self.queue = self.queue, deque()
        self.queued = self.queued_bytes = 0
        for delivery in waiting:
            if delivery.qos:
                self.append(delivery)

    def _free_id(self) -> int:
        while True:
            self._next_id = self._next_id % 0xFFFF + 1
            if self._next_id not in self.inflight:
                return self._next_id


class _Tree(Generic[T]):
    """Values by topic or filter, level by level: a lookup walks only the branches that can match."""

    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Tree[T]] = {}
        self.value: T | None = None

    def get(self, levels: Sequence[str]) -> T | None:
        node: _Tree[T] | None = self
        for level in levels:
            node = node.children.get(level) if node is not None else None
        return None if node is None else node.value

    def put(self, levels: Sequence[str], value: T | None) -> None:
        """Set a value; None takes it away, with the branches that are empty then."""
        path = [self]
        for level in levels:
            path.append(path[-1].children.setdefault(level, _Tree()))
        path[-1].value = value
        for level, parent, node in zip(reversed(levels), reversed(path[:-1]), reversed(path), strict=False):
            if node.value is not None or node.children:
                break
            del parent.children[level]

    def filters_for(self, topic: Sequence[str], at: int = 0) -> Iterator[T]:
        """Yield the values whose filters match a topic."""
        if (rest := self.children.get("#")) is not None and rest.value is not None:
            yield rest.value
        if at == len(topic):
            if self.value is not None:
                yield self.value
            return
        for level in (topic[at], "+"):
            if (child := self.children.get(level)) is not None:
                yield from child.filters_for(topic, at + 1)

    def topics_for(self, topic_filter: Sequence[str], at: int = 0) -> Iterator[T]:
        """Yield the values whose topics a filter matches."""
        level = topic_filter[at] if at < len(topic_filter) else None
        if level in (None, "#") and self.value is not None:
            yield self.value
        if level is None:
            return
        if level in ("+", "#"):
            for child in self.children.values():
                yield from child.topics_for(topic_filter, at + (level == "+"))
        elif (only := self.children.get(level)) is not None:
            yield from only.topics_for(topic_filter, at + 1)


class _Hub:
    """All sessions, subscriptions and retained messages; lives on the event loop."""

    def __init__(self, config: EmbeddedConfig, passwords: PasswordFile | None) -> None:
        self.config = config
        self.passwords = passwords
        self.topics = Topics(config.prefix)
        self.sessions: dict[str, _Session] = {}
        self.connections: set[_Connection] = set()
        self.peers: dict[tuple[str, str], str] = {}
        self.closing = False
        self._filters: _Tree[dict[_Session, int]] = _Tree()
        self._retained: _Tree[_Message] = _Tree()
        # What clients said before the bridge first subscribed (both come back after a restart, in any order).
        self._backlog: deque[_Message] = deque()
        self._verifier = concurrent.futures.ThreadPoolExecutor(2, "mqtt-password")  # argon2: 64 MiB each
        self.complain: Final = Complaints(_LOG).complain
        waiting, self._most_clients = _room()
        self.doorstep: Doorstep[_Visitor] = Doorstep(waiting, min(waiting, WAITING_LIMIT_EACH))
        self._guesses = Guesses()
        self._verifying = 0
        self._clients_of: Counter[str] = Counter()
        self._clients = 0
        self._kept: dict[_Session, None] = {}
        self._share = Buckets(*FAIR_SHARE)

    def close(self) -> None:
        """Let the threads go."""
        self._verifier.shutdown(wait=False)

    # Who may come in.

    def arrive(self, visitor: "_Visitor", address: str) -> None:
        """Let a connection wait until it says who it is."""
        unwelcome = self.doorstep.enter(visitor, address)
        if unwelcome is not None:
            self.complain("%d connections wait without a CONNECT: the oldest are closed", len(self.doorstep))
            unwelcome.abort()

    async def admit(self, user: str, password: bytes | None, address: str) -> _Refused | None:
        """Verify a password, but not for whoever has guessed too often; tell why not."""
        loop = asyncio.get_running_loop()
        # Nobody can guess the bridge's secret, so no guesses keep the bridge out; nor who was let in before.
        if user == self.config.bridge_user or self._remembers(user, password or b""):
            right = await self.authenticate(user, password)
            return None if right else _Refused(_Refusal.NOT_AUTHORIZED, "wrong password")
        if not self._guesses.may_try(user, address, loop.time()):
            self.complain("too many wrong passwords from address=%s, the last for user=%r", address, user)
            return _Refused(_Refusal.UNAVAILABLE, "not looked at, too many wrong passwords from there")
        if self._verifying >= VERIFYING_LIMIT:
            self.complain("%d passwords wait to be verified: more are refused", self._verifying)
            return _Refused(_Refusal.UNAVAILABLE, "not looked at, too many logins at once")
        self._verifying += 1
        self._guesses.begin(user, address, loop.time())
        try:
            right = await self.authenticate(user, password)
        finally:
            self._verifying -= 1
        if right:
            self._guesses.right(user, address, loop.time())
            return None
        self._guesses.wrong(address, loop.time())
        return _Refused(_Refusal.NOT_AUTHORIZED, "wrong password")

    def _remembers(self, user: str, password: bytes) -> bool:
        if self.passwords is None:
            return True
        try:
            self.passwords.load()
        except ConfigError:
            return False  # `authenticate` will say so
        return self.passwords.remembers(user, password)

    def refuse_crowd(self, user: str) -> str | None:
        """Tell why there is no room for another connection of this user; the bridge always has some."""
        if user == self.config.bridge_user:
            return None
        if self._clients >= self._most_clients:
            self.complain("%d clients are connected: no more are let in", self._clients)
            return "too many clients"
        most = self.config.max_connections
        if most is not None and self._clients_of[user] >= most:
            self.complain("%d clients of user=%r are connected: no more are let in", most, user)
            return "too many clients of this user"
        return None

    def count(self, user: str, step: int) -> None:
        """Take note of a client that has come or gone; the bridge takes nobody's place."""
        if user == self.config.bridge_user:
            return
        self._clients += step
        self._clients_of[user] += step
        if not self._clients_of[user]:
            del self._clients_of[user]

    async def authenticate(self, user: str, password: bytes | None) -> bool:
        """Say whether this is who it says; touches no session."""
        if user == self.config.bridge_user:
            secret = self.config.bridge_password.encode()
            return bool(secret) and hmac.compare_digest(secret, password or b"")
        if self.passwords is None:
            return True
        try:
            self.passwords.load()
            text = (password or b"").decode()
        except UnicodeDecodeError:
            return False
        except ConfigError as error:
            self.complain("nobody can log in: %s", error, level=logging.ERROR)
            return False
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._verifier, self.passwords.verify, user, text)

    def grant(self, user: str, client_id: str) -> Grant:
        return grant(
            self.topics,
            user,
            client_id,
            bridge=user == self.config.bridge_user,
            operator=user in self.config.operators,
        )

    def open(self, user: str, client_id: str, granted: Grant, *, clean: bool) -> tuple[_Session, bool]:
        """Return the client's session, and whether it existed; the old connection ends first (§3.1.4)."""
        old = self.sessions.get(client_id)
        if old is not None and old.connection is not None:
            old.connection.end(_Cause.TAKEOVER)
            old = self.sessions.get(client_id)
        if old is not None and not clean:
            self._kept.pop(old, None)
            old.grant = granted
            return old, True
        if old is not None:
            self.discard(old)
        session = _Session(user, client_id, granted, clean=clean, bridge=user == self.config.bridge_user)
        self.sessions[client_id] = session
        return session, False

    def release(self, session: _Session) -> None:
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
            self.complain("%d sessions of user=%r are kept: the oldest are forgotten", len(of_user), user)
            self.discard(of_user[0])
        elif len(self._kept) > KEPT_LIMIT:
            self.complain("%d sessions are kept: the oldest are forgotten", len(self._kept))
            self.discard(next(iter(self._kept)))

    def discard(self, session: _Session) -> None:
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

    def _take_back(self, delivery: _Delivery) -> None:
        message = delivery.message
        if not delivery.qos or self._is_public(message):
            return
        if message.receipt is not None:
            message.receipt.waiting -= 1
            if message.receipt.waiting:
                return  # another bridge has it
        self.route(message)

    def subscribe(self, session: _Session, topic_filter: str, qos: int) -> None:
        levels = topic_filter.split("/")
        sessions = self._filters.get(levels)
        if sessions is None:
            self._filters.put(levels, sessions := {})
        sessions[session] = session.subscriptions[topic_filter] = qos

    def unsubscribe(self, session: _Session, topic_filter: str) -> None:
        if session.subscriptions.pop(topic_filter, None) is None:
            return
        levels = topic_filter.split("/")
        sessions = self._filters.get(levels) or {}
        sessions.pop(session, None)
        if not sessions:
            self._filters.put(levels, None)

    def replay(self, session: _Session, topic_filter: str, qos: int) -> None:
        """Send the retained messages that a new subscription matches and the client may read (§3.8.4)."""
        for message in self._retained.topics_for(topic_filter.split("/")):
            if session.grant.may_read(message.levels):
                session.append(_Delivery(message, min(message.qos, qos), retain=True))
        session.pump()
        if session.bridge and qos and self._backlog:
            backlog, self._backlog = self._backlog, deque()
            for message in backlog:
                self.route(message)

    def retain(self, message: _Message) -> None:
        """Keep the message for later subscribers; an empty one forgets (§3.3.1.3)."""
        self._retained.put(message.levels, message if message.payload else None)

    def route(self, message: _Message) -> None:
        """Deliver to every session once, at the lower QoS of message and subscription."""
        targets: dict[_Session, int] = {}
        for sessions in self._filters.filters_for(message.levels):
            for session, qos in sessions.items():
                targets[session] = max(qos, targets.get(session, 0))
        kept = self._is_public(message) or not message.qos
        for session, qos in targets.items():
            if not session.grant.may_read(message.levels):
                continue
            delivery = _Delivery(message, min(qos, message.qos))
            taken = self._is_fair(session, message) and session.enqueue(delivery)
            if session.bridge and delivery.qos:
                kept = True  # even when its queue is full: dropped then, and never acknowledged
                if not taken:
                    self._complain_of_loss(session.queued)
                elif message.receipt is not None:
                    message.receipt.waiting += 1
            elif delivery.qos and not taken and session.connection is not None:
                asyncio.get_running_loop().call_soon(session.connection.end, _Cause.SLOW)
        if kept:
            return
        if len(self._backlog) < BACKLOG_LIMIT and len(message.payload) <= LOGIN_LIMIT:
            self._backlog.append(message)
        else:
            self._complain_of_loss(len(self._backlog))

    def _is_fair(self, session: _Session, message: _Message) -> bool:
        """Tell whether the bridge's queue may take it: nobody may fill up the second half alone."""
        if not session.bridge or message.sender is None or session.queued <= session.limit // 2:
            return True
        return self._share.take(message.sender, asyncio.get_running_loop().time())

    def _complain_of_loss(self, behind: int) -> None:
        self.complain(
            "the bridge is %d messages behind or away: messages are dropped, unacknowledged",
            behind,
            level=logging.ERROR,
        )

    def complain_of_refusal(self, whom: str, *who: object, refused: _Refused) -> None:
        """Log who was not let in, and why."""
        self.complain(f"refused {whom}: {refused.why}", *who, *refused.about, level=logging.INFO)

    def _is_public(self, message: _Message) -> bool:
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


# --- one network connection ----------------------------------------------------------------------


class _Cause(enum.Enum):
    """Why a connection ends."""

    DISCONNECT = "disconnected"
    LOST = "connection lost"
    KEEP_ALIVE = "nothing heard for 1.5 times its keep alive"
    TAKEOVER = "the client connected again"
    SHUTDOWN = "the broker stops"
    SLOW = "it does not take its messages"


class _Visitor(Protocol):
    """Somebody at the door."""

    def abort(self) -> None:
        """Close at once."""


class Pipe(_Visitor, Protocol):
    """A TCP connection or a WebSocket: bytes in, bytes out.

    It raises nothing but OSError, and for what breaks the protocol _ProtocolError.
    """

    address: str

    async def receive(self) -> bytes:
        """Return what came, nothing when it is over."""

    async def send(self, data: bytes) -> None:
        """Send, and wait while the peer takes nothing."""

    async def close(self) -> None:
        """Send what is left, then close."""


class _Connection:
    """One client's connection, from its first byte to its end."""

    __slots__ = (
        "_flusher", "_framer", "_heard", "_held", "_hub", "_keep_alive", "_outbox", "_outbox_size", "_pipe",
        "_refused", "_timer", "_will", "connection_id", "over", "present", "session",
    )  # fmt: skip

    def __init__(self, hub: _Hub, pipe: Pipe) -> None:
        self._hub = hub
        self._pipe = pipe
        self._framer = _Framer(hub.config.max_packet_size)
        self._outbox: list[bytes] = []
        self._outbox_size = 0
        self._flusher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._keep_alive = 0.0
        self._heard = 0.0
        self._held: set[int] = set()
        self._will: _Message | None = None
        self._refused = False
        self.session: _Session | None = None
        self.over = False
        self.present = False  # it has said something that opens a record (contract L1, A2)
        self.connection_id: str | None = None

    async def run(self) -> None:
        """Serve the connection until it ends."""
        self._hub.connections.add(self)
        self._hub.arrive(self._pipe, self._pipe.address)
        packets = self._packets()
        try:
            async with asyncio.timeout(self._hub.config.connect_timeout_s):
                kind, _, body = await anext(packets)
            self._hub.doorstep.leave(self._pipe)
            if kind == _Kind.CONNECT and await self._accept(body):
                async for kind, flags, body in packets:
                    self._handle(kind, flags, body)
        except _ProtocolError as error:
            self._hub.complain("closing %s: %s", self, error, level=logging.INFO)
        except (OSError, StopAsyncIteration):
            pass  # gone, or too late with its CONNECT: the end below says what has to be said
        finally:
            self.end(_Cause.LOST)
            self._hub.doorstep.leave(self._pipe)
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
        connect = _parse_connect(body)
        client_id = connect.client_id or (f"auto-{uuid.uuid4().hex}" if connect.clean else "")
        granted = self._hub.grant(connect.user, client_id)
        refusal = _refuse_names(connect, client_id)
        if refusal is None:
            refusal = await self._hub.admit(connect.user, connect.password, self._pipe.address)
        if refusal is None:
            await self._hear_out(client_id)
            refusal = self._refuse_rights(connect, client_id, granted)
        if refusal is not None:
            who = (self, shown(connect.user), shown(connect.client_id))
            self._hub.complain_of_refusal("%s user=%s client=%s", *who, refused=refusal)
            five = refusal.code is _Refusal.VERSION and connect.level == _PROTOCOL_LEVEL_5
            self.send(_CONNACK_5_UNSUPPORTED if five else bytes((0x20, 2, 0, refusal.code)))
            return False
        self._begin(connect, client_id, granted)
        return True

    async def _hear_out(self, client_id: str) -> None:
        """Let the old connection's last bytes in before it is taken over: they were sent earlier."""
        old = self._hub.sessions.get(client_id)
        for _ in range(4 if old is not None and old.connection is not None else 0):
            await asyncio.sleep(0)

    def _refuse_rights(self, connect: _Connect, client_id: str, granted: Grant) -> _Refused | None:
        old = self._hub.sessions.get(client_id)
        if self._hub.closing:
            return _Refused(_Refusal.UNAVAILABLE, "the broker stops")
        if old is not None and old.user != connect.user:
            return _Refused(_Refusal.IDENTIFIER, "the client id belongs to user=%s", (shown(old.user),))
        if connect.will is not None and not granted.may_publish(connect.will.levels):
            topic = shown(connect.will.topic)
            return _Refused(_Refusal.NOT_AUTHORIZED, "its will may not go to topic=%s", (topic,))
        if old is None or old.connection is None:  # else it takes the place of its own
            crowded = self._hub.refuse_crowd(connect.user)
            if crowded is not None:
                return _Refused(_Refusal.UNAVAILABLE, crowded)
        return None

    def _begin(self, connect: _Connect, client_id: str, granted: Grant) -> None:
        """From here to the CONNACK nothing waits: no other CONNECT can come between."""
        session, existed = self._hub.open(connect.user, client_id, granted, clean=connect.clean)
        self._will = connect.will
        self.session = session
        self._hub.count(session.user, 1)
        self._hub.remember_peer(connect.user, client_id, self._pipe.address)
        self.send(bytes((0x20, 2, existed, 0)))
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
            self.end(_Cause.KEEP_ALIVE)
        else:
            self._timer = loop.call_at(due, self._check_alive, due)

    # packets after the CONNECT

    def _handle(self, kind: int, flags: int, body: bytes) -> None:
        session = self.session
        if session is None:
            raise _ProtocolError("no session")
        self._heard = asyncio.get_running_loop().time()
        cursor = _Cursor(body)
        if kind == _Kind.PUBLISH:
            self._on_publish(session, flags, cursor)
        elif kind == _Kind.PUBACK:
            session.acknowledged(cursor.packet_id())
        elif kind == _Kind.PINGREQ:
            self.send(_PINGRESP)
        elif kind == _Kind.DISCONNECT:
            self.end(_Cause.DISCONNECT)
        elif kind in (_Kind.PUBREL, _Kind.SUBSCRIBE, _Kind.UNSUBSCRIBE) and flags == 2:
            self._on_two(session, kind, cursor)
        else:
            raise _ProtocolError(f"packet type {kind} with flags {flags}")

    def _on_two(self, session: _Session, kind: int, cursor: _Cursor) -> None:
        """Handle the packets whose flags must be 2 (§2.2.2)."""
        packet_id = cursor.packet_id()
        if kind == _Kind.PUBREL:
            session.received.discard(packet_id)
            self.send(_short(_PUBCOMP, packet_id))
        elif kind == _Kind.SUBSCRIBE:
            self._on_subscribe(session, packet_id, cursor)
        else:
            while cursor:
                self._hub.unsubscribe(session, cursor.text())
            self.send(_short(_UNSUBACK, packet_id))

    def _on_subscribe(self, session: _Session, packet_id: int, cursor: _Cursor) -> None:
        """Grant what the client may read, at QoS 1 at most; refuse all else, $share and $SYS too."""
        granted: dict[str, int] = {}
        codes = bytearray()
        while cursor:
            topic_filter, qos = cursor.text(), cursor.byte()
            if qos > 2:
                raise _ProtocolError(f"SUBSCRIBE at QoS {qos}")
            crowded = len(session.subscriptions.keys() | granted.keys()) >= SUBSCRIPTIONS_LIMIT
            if crowded and topic_filter not in session.subscriptions:
                codes.append(_SUBSCRIBE_REFUSED)
                self._hub.complain("%s has %d subscriptions: no more", self, SUBSCRIPTIONS_LIMIT)
            elif is_filter(topic_filter) and session.grant.may_subscribe(topic_filter.split("/")):
                granted[topic_filter] = min(qos, 1)
                codes.append(min(qos, 1))
            else:
                codes.append(_SUBSCRIBE_REFUSED)
                self._hub.complain("refused to %s: filter=%s", self, shown(topic_filter), level=logging.INFO)
        if not codes:
            raise _ProtocolError("SUBSCRIBE without a filter")
        for topic_filter, qos in granted.items():
            self._hub.subscribe(session, topic_filter, qos)
        self.send(struct.pack("!BBH", 0x90, 2 + len(codes), packet_id) + bytes(codes))
        for topic_filter, qos in granted.items():
            self._hub.replay(session, topic_filter, qos)

    def _on_publish(self, session: _Session, flags: int, cursor: _Cursor) -> None:
        """Route a message; a forbidden one is acknowledged and goes nowhere (§3.3.5)."""
        qos = flags >> 1 & 3
        if qos == 3:
            raise _ProtocolError("PUBLISH at QoS 3")
        topic, packet_id = cursor.text(), cursor.packet_id() if qos else 0
        message = _message(topic, cursor.rest(), qos, retain=bool(flags & 1))
        if packet_id in self._held:
            return  # sent again while its acknowledgement is held: it is in the bridge's queue already
        if qos == 2 and packet_id in session.received:
            self.send(_short(_PUBREC, packet_id))
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
                message.receipt = _Receipt(self, qos, packet_id)
            self._hub.route(message)

    def acknowledge(self, qos: int, packet_id: int) -> None:
        """Tell the publisher that its message is taken care of, unless the publisher is gone."""
        self._held.discard(packet_id)
        if qos == 1:
            self.send(_short(_PUBACK, packet_id))
        elif qos == 2 and self.session is not None:
            self.session.received.add(packet_id)
            self.send(_short(_PUBREC, packet_id))

    def _log_refused(self, topic: str) -> None:
        """Log once for each connection: a client cannot fill the disk."""
        if not self._refused:
            self._refused = True
            _LOG.warning("%s may not publish to topic=%s; further ones are not logged", self, shown(topic))

    def _note(self, message: _Message) -> None:
        """Remember what the bridge will know this connection by."""
        verb = message.levels[-1]
        if verb not in (LOGIN, ACTIVITY):
            return
        with contextlib.suppress(ValueError):  # the bridge will refuse it, and open no record
            named = _connection_id(message.payload)
            if verb == LOGIN or not self.present:
                self.connection_id = named
            self.present = True

    # the end

    def end(self, cause: _Cause) -> None:
        """End the connection for everyone else, at once; the socket follows."""
        if self.over:
            return
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
        session = self.session
        if session is not None:
            level = logging.WARNING if cause is _Cause.SLOW else logging.DEBUG
            _LOG.log(level, "end of %s: %s", self, cause.value)
            self._hub.count(session.user, -1)
            self._say_goodbye(session, cause)
            if cause is not _Cause.SHUTDOWN:
                self._hub.release(session)
        if cause in (_Cause.KEEP_ALIVE, _Cause.TAKEOVER, _Cause.SLOW):
            self._pipe.abort()

    def _say_goodbye(self, session: _Session, cause: _Cause) -> None:
        """Publish the will; where it does not tell the bridge that the record ended, tell it.

        It names the connection id of the login, so it can hit no later connection. Without one it ends the
        client's open record (contract E2), and cannot hit a later one either: it is in the bridge's queue
        before the client's next CONNECT is answered.
        """
        lost = cause is not _Cause.DISCONNECT
        if lost and self._will is not None:
            if session.bridge and self._will.retain:
                self._hub.retain(self._will)
            elif not session.bridge:
                self._will.qos = 1  # nobody is online for ever because a device asked for QoS 0
            self._hub.route(self._will)
        if self.present and not (lost and self._will_tells()):
            verb = WILL if lost else LOGOUT
            topic = self._hub.topics.input(session.user, session.client_id, verb)
            payload = b"" if self.connection_id is None else _payload(self.connection_id)
            self._hub.route(_message(topic, payload, 1))

    def _will_tells(self) -> bool:
        """Say whether the will ends the record of this connection (contract E1, E2)."""
        if self._will is None or self._will.levels[-1] not in (WILL, LOGOUT):
            return False
        try:
            return _connection_id(self._will.payload) in (None, self.connection_id)
        except ValueError:
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


def _refuse_names(connect: _Connect, client_id: str) -> _Refused | None:
    if connect.level != _PROTOCOL_LEVEL:
        why = "protocol level %d, only MQTT 3.1.1 (4) is spoken here"
        return _Refused(_Refusal.VERSION, why, (connect.level,))
    if not is_name(connect.user):
        return _Refused(_Refusal.BAD_NAME, "a user name of 1 to 128 characters without / + # is needed")
    if not is_name(client_id):
        return _Refused(_Refusal.IDENTIFIER, "a client id of 1 to 128 characters without / + # is needed")
    return None


def _connection_id(payload: bytes) -> str | None:
    """Return the connectionId of a payload (contract section 2); ValueError when it is refused."""
    if not payload:
        return None
    if len(payload) > LOGIN_LIMIT:
        raise ValueError("too long")
    try:
        fields = json.loads(payload)
    except RecursionError as error:
        raise ValueError("too deep") from error
    named = fields.get("connectionId") if isinstance(fields, dict) else 0
    if named is not None and not (isinstance(named, str) and 0 < len(named) <= 64):
        raise ValueError("not a connection id")
    return named


def _payload(connection_id: str) -> bytes:
    return json.dumps({"connectionId": connection_id}).encode()


# --- where amqtt comes in ------------------------------------------------------------------------


class _TcpPipe:
    __slots__ = ("_reader", "_writer", "address")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.address = _address(writer.get_extra_info("peername"))

    async def receive(self) -> bytes:
        return await self._reader.read(1 << 16)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    def abort(self) -> None:
        self._writer.transport.abort()


class _WebSocketPipe:
    __slots__ = ("_websocket", "address")

    def __init__(self, websocket: ServerConnection) -> None:
        self._websocket = websocket
        self.address = _address(websocket.remote_address)

    async def receive(self) -> bytes:
        data: bytes | str = b""
        try:
            while not data:
                data = await self._websocket.recv()
        except ConnectionClosed:
            return b""
        if isinstance(data, str):
            raise _ProtocolError("a text frame [MQTT-6.0.0-1]")
        return data

    async def send(self, data: bytes) -> None:
        try:
            for at in range(0, len(data), FRAME_SIZE):  # a packet may span frames [MQTT-6.0.0-2]
                await self._websocket.send(data[at : at + FRAME_SIZE])
        except ConnectionClosed as error:
            raise ConnectionResetError("the WebSocket is closed") from error

    async def close(self) -> None:
        await self._websocket.close()

    def abort(self) -> None:
        self._websocket.transport.abort()


class _WebSocket(ServerConnection):
    """A WebSocket that waits at the door from its first byte on."""

    def __init__(self, hub: _Hub, *what: Any, **how: Any) -> None:
        super().__init__(*what, **how)
        self._hub = hub

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._hub.arrive(self, _address(transport.get_extra_info("peername")))
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()
        super().connection_lost(exc)

    def leave(self) -> None:
        self._hub.doorstep.leave(self)

    def abort(self) -> None:
        self.transport.abort()


def _address(peer: Any) -> str:
    """Return the address alone; one of IPv4 as such on a socket that takes both."""
    return str(peer[0]).removeprefix("::ffff:") if peer else ""


class _PresenceBroker(Broker):  # type: ignore[misc] # amqtt ships no type information
    """amqtt's broker, with its listeners on sockets bound beforehand and every connection handed to ours."""

    def __init__(self, hub: _Hub, sockets: Sequence[socket.socket]) -> None:
        self.hub = hub
        self._bound = dict(zip(("default", "ws"), sockets, strict=False))
        kinds = {"default": "tcp", "ws": "ws"}
        listeners = {name: {"type": kinds[name], "bind": "127.0.0.1:0"} for name in self._bound}
        super().__init__({"listeners": listeners, "plugins": {}})

    async def _create_server_instance(
        self, listener_name: str, listener_type: ListenerType, *_unused: str | int | ssl.SSLContext | None
    ) -> Any:
        sock = self._bound[listener_name]
        if listener_type == ListenerType.TCP:
            return await asyncio.start_server(self._serve_stream, sock=sock)
        return await websocket_serve(
            self._serve_websocket,
            sock=sock,
            subprotocols=[Subprotocol("mqtt")],
            process_request=self._refuse_foreign_page,
            compression=None,  # 50 KiB a connection, for messages of a hundred bytes
            logger=_WEBSOCKET_LOG,
            create_connection=partial(_WebSocket, self.hub),  # type: ignore[arg-type] # called, that is all
            max_size=self.hub.config.max_packet_size,
            open_timeout=self.hub.config.connect_timeout_s,
            close_timeout=HANG_UP_S,
        )

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _Connection(self.hub, _TcpPipe(reader, writer)).run()

    async def _serve_websocket(self, websocket: ServerConnection) -> None:
        if isinstance(websocket, _WebSocket):
            websocket.leave()  # and now waits as any other
        await _Connection(self.hub, _WebSocketPipe(websocket)).run()

    def _refuse_foreign_page(self, connection: ServerConnection, request: Request) -> Response | None:
        """Keep pages of other sites out of an open broker on this machine: a browser would let them in."""
        origin = request.headers.get("Origin")
        config = self.hub.config
        if origin is None or not config.open or not is_loopback(config.host):
            return None
        if is_loopback(urllib.parse.urlsplit(origin).hostname):
            return None
        return connection.respond(HTTPStatus.FORBIDDEN, "Only pages of this machine may connect.\n")

    async def drain(self, timeout_s: float) -> None:
        """Do what ``EmbeddedBroker.drain`` says."""
        self.hub.closing = True
        for server in self._servers.values():
            if isinstance(server.instance, asyncio.Server):
                server.instance.close()
            else:
                server.instance.close(close_connections=False)
        for connection in list(self.hub.connections):
            if connection.session is None or not connection.session.bridge:
                connection.end(_Cause.SHUTDOWN)
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self.hub.bridge_is_behind() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # an event would cost a look at every acknowledgement
        if self.hub.bridge_is_behind():
            _LOG.error("the bridge has not acknowledged the last messages within %s s", timeout_s)

    async def hang_up(self) -> None:
        """Close what is still open, the bridge's connection last of all."""
        for connection in list(self.hub.connections):
            connection.end(_Cause.SHUTDOWN)
        await asyncio.gather(*(connection.hang_up() for connection in list(self.hub.connections)))
