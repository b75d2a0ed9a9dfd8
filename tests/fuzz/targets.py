"""What is fuzzed: functions of bytes that find nothing wrong, or fail. Hypothesis and atheris drive the same ones.

A new parser is one more function with `@target`: it must raise nothing but what the parser declares, and
check what comes out by something that does not share the parser's code.
"""

import asyncio
import json
import math
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from amqtt.adapters import BufferReader
from amqtt.errors import MQTTError
from amqtt.mqtt.packet import MQTTFixedHeader
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from mqtt_presence.adapters.brokers.json_events import EmqxEvents, NanomqEvents
from mqtt_presence.adapters.brokers.mosquitto import ERRORS, NOTICES, VERSION, MosquittoLog
from mqtt_presence.adapters.port import Connected, Ended
from mqtt_presence.bridge.broker_connections import BrokerConnections
from mqtt_presence.bridge.implicit_identity import CLIENT_ID, USERNAME, ImplicitIdentity
from mqtt_presence.embedded import EmbeddedConfig
from mqtt_presence.embedded.client_connection import ClientConnection
from mqtt_presence.embedded.router import Router
from mqtt_presence.errors import ConfigError, PayloadError
from mqtt_presence.mqtt.framing import Framer, ProtocolError
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.mqtt.topic_filters import is_filter, matches
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol import client_messages, incoming, outgoing, topics
from mqtt_presence.protocol.times import LATEST, from_iso, to_iso
from mqtt_presence.protocol.topics import Topics, is_name
from mqtt_presence.rules.events import Activity, BrokerReport, End, Login
from mqtt_presence.rules.model import ClientId
from mqtt_presence.settings import parse_seconds
from mqtt_presence.web.allowed_origins import is_host, refuse_host, refuse_origin
from mqtt_presence.web.api import cursors
from mqtt_presence.web.api.connection_resources import ConnectionsQuery
from mqtt_presence.web.api.parameters import ParameterError, explain
from mqtt_presence.web.api.user_resources import UsersQuery
from mqtt_presence.web.config import Token, WebConfig
from mqtt_presence.web.visibility import AccessDecision, Requester, judge

NOW = 1_800_000_000_000
VERBS = ("login", "activity", "logout", "will", "time")
Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}
SEEDS: dict[str, tuple[bytes, ...]] = {}
"""The first inputs, and inputs that found errors."""


def target(*seeds: bytes) -> Callable[[Target], Target]:
    """Register a function as a target."""

    def add(function: Target) -> Target:
        TARGETS[function.__name__] = function
        SEEDS[function.__name__] = seeds
        return function

    return add


# Topics and payloads.


@target(
    b"presence/alice/phone/login",
    b"presence/a/b/c",
    "presence/zo\u00eb/\u202e/will".encode(),
    b"acme/presence/a/b/time",
)
def topic(data: bytes) -> None:
    """A topic is an input of this shape and comes back exactly, or is refused; a status' topic likewise."""
    text = data.decode(errors="surrogateescape")
    for made in (Topics(), Topics("acme/")):
        try:
            name = made.parse_input(text)
        except PayloadError as error:
            assert error.reason == "bad_topic"
            assert error.detail.isascii()
            assert error.detail.isprintable()
        else:
            assert made.input(*name) == text
            assert text.startswith(made.prefix)
            prefix, user, client, verb = text.removeprefix(made.prefix).split("/")
            assert (prefix, verb in VERBS) == ("presence", True)
            for level in (user, client):
                assert 1 <= len(level) <= 128
                level.encode()
                assert not any(c in "/+#" or ord(c) < 32 or 127 <= ord(c) < 160 for c in level)
        user_id = made.parse_status(text)
        assert user_id is None or made.status(user_id) == text


@target(
    b'\0{"connectionId":"c1","time":"2026-11-25T02:53:39.363Z","userAgent":"x","idleThreshold":1.5,"timeout":60,'
    b'"announce":true,"meta":{"a":[1,{"b":null}]}}',
    b'\1{"connectionId":"c1","idle":true,"lastActivity":1795575219363}',
    b'\2{"connectionId":"c1"}',
    b"\3",
    b'\4{"t0":[1.0,"x"]}',
    b'\0{"x":"\xff"}',
    b'\0{"meta":{"\xff":1}}',
    b'\1{"lastActivity":-0.0793}',
)
def payload(data: bytes) -> None:
    """A payload is refused, or each field of the message is allowed by the schema."""
    verb, body = VERBS[data[0] % len(VERBS) if data else 0], data[1:]
    name = topics.Input(topics.UserId("alice"), topics.ClientId("phone"), verb)
    try:
        event = incoming.parse(name, body, NOW)
    except PayloadError as error:
        assert error.reason in {"bad_payload", "too_large"}
        assert body, "an empty payload is always one"
        return
    told = _object(body)
    assert (event.user_id, event.client_id) == ("alice", "phone")
    if isinstance(event, incoming.TimeRequest):
        assert len(event.t0) <= 64
        answer = json.loads(outgoing.encode_time_reply(event, NOW))
        assert _same(answer["t0"], told.get("t0"))
        return
    assert event.connection_id == _text(told, "connectionId", 64)
    if isinstance(event, Login):
        assert event.user_agent == (agent := _text(told, "userAgent")) or "\0" in (agent or "")
        assert event.time == _time(told.get("time"))
        assert event.idle_threshold_ms == _duration(told.get("idleThreshold"))
        assert event.timeout_ms == _duration(told.get("timeout"))
        assert told.get("announce") in (None, event.announce)
        meta = told.get("meta")
        assert (event.meta is None) == (meta is None)
        if event.meta is not None:
            assert isinstance(meta, dict)
            assert len(event.meta.encode()) <= 2048
            assert _same(json.loads(event.meta), meta)
    elif isinstance(event, Activity):
        assert event.idle is told.get("idle")
        assert event.last_activity == _time(told.get("lastActivity"))
    else:
        assert isinstance(event, End)


def _refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def _object(body: bytes) -> dict[str, Any]:
    """Read an object with the standard library, which must accept each accepted payload."""
    if not body:
        return {}
    assert len(body) <= 8192
    read = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    assert isinstance(read, dict)
    return read


def _text(told: dict[str, Any], name: str, most: int = 8192) -> str | None:
    text = told.get(name)
    if text is None:
        return None
    assert isinstance(text, str)
    text.encode()
    if name == "connectionId":
        assert 1 <= len(text) <= most
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)
    return text


def _time(told: object) -> int | None:
    if told is None:
        return None
    assert type(told) in (int, float, str), told
    if isinstance(told, str):
        moment = datetime.fromisoformat(told)
        assert moment.tzinfo is not None
        return math.floor(round(moment.timestamp() * 1e6) / 1000)
    assert 0 <= told < LATEST + 1
    return math.floor(told)


def _duration(told: object) -> int | None:
    if told is None or told == 0:
        assert told is not False
        return None
    assert type(told) in (int, float), told
    assert 0 < told <= 315_360_000
    return max(1, round(told * 1000))


def _same(one: object, other: object) -> bool:
    return json.dumps(one) == json.dumps(other)


@target(
    b'{"userId":"alice","state":"online","online":true,"connections":1,"version":3}',
    b'{"state":"online","version":1,"startedAt":"2026-11-25T02:53:39.136Z"}',
    b'{"t0":17,"t1":1795575219363,"t2":1795575219364}',
)
def subscriber(data: bytes) -> None:
    """A status or event that a subscriber reads has valid fields, or is refused: any publisher may have written it."""
    for read in (
        lambda: client_messages.decode_status("alice", data),
        lambda: client_messages.decode_bridge_state(data),
        lambda: client_messages.decode_time_reply(data),
    ):
        try:
            said = read()
        except PayloadError:
            continue
        if isinstance(said, client_messages.UserStatus):
            assert said.user_id == "alice"
            assert said.version >= 0
            assert said.connections >= 0


# Small parsers.


@target(b"2026-11-25T02:53:39.363Z", b"1970-01-01", b"20261125T00+00", b"9999-12-31T23:59:59.999-23:59")
def iso_time(data: bytes) -> None:
    """A time is refused, or can be written again."""
    try:
        millis = from_iso(data.decode(errors="replace"))
    except ValueError:
        return
    assert from_iso(to_iso(millis)) == millis


@target(b"90", b"90s", b"1.5m", b"-1", b"500ms", b"1e3")
def duration(data: bytes) -> None:
    """A duration is refused, or is a number of seconds."""
    try:
        value = parse_seconds(data.decode(errors="replace"))
    except ValueError:
        return
    assert isinstance(value, float)


@target(
    b"mqtts://al%2Fice:s3cret@[::1]:1883",
    b"ws://h/x",
    b"mqtt://a:s3cret/x@h",
    b"mqtt://a:s3cret@h:99999",
    b'mqtts://al%2FicE"883',
    b"mqtts://h%4Fst",
    b"mqtts://t@[::]:s3cret@[:1",
)
def broker_url(data: bytes) -> None:
    """A URL is refused, or read and written again; neither result shows the password."""
    text = data.decode(errors="replace")
    secret = "s3cret" in text
    try:
        url = BrokerUrl.parse(text)
    except ConfigError as error:
        assert not secret or "s3cret" not in str(error) or text.index("s3cret") < max(text.find("://"), 0)
        assert error.__cause__ is None
        return
    again = BrokerUrl.parse(str(url))
    assert (again.scheme, again.host, again.port, again.path, again.username) == (
        url.scheme, url.host, url.port, url.path, url.username,
    )  # fmt: skip
    if url.password == "s3cret" and "s3cret" not in f"{url.username}{url.host}{url.path}":
        assert "s3cret" not in f"{url!r}{url}"


@target(b"status/+\nstatus/alice", b"#\na/b", b"a/#\na", b"+/+\n/")
def topic_filter(data: bytes) -> None:
    """A filter matches as a naive implementation of MQTT 3.1.1 §4.7 does."""
    wanted, _, name = data.decode(errors="replace").partition("\n")
    if not is_filter(wanted) or not name or "+" in name or "#" in name:
        return
    assert matches(wanted.split("/"), name.split("/")) == _matches(wanted, name)


def _matches(wanted: str, name: str) -> bool:
    if wanted == "#":
        return True
    first, more, rest = wanted.partition("/")
    level, name_more, name_rest = name.partition("/")
    if first not in ("+", level):
        return False
    if not more:
        return not name_more
    if rest == "#":
        return True
    return bool(name_more) and _matches(rest, name_rest)


# The embedded broker.


def _packet(head: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes((head, len(body))) + body


_CONNECT = _packet(0x10, b"\0\x04MQTT\x04\x82\0\x3c\0\x05phone\0\x05alice")
_WILL = b"\0\x19presence/alice/phone/will\0\x01w"


@target(
    b"\0" + _CONNECT,
    b"\0" + _packet(0x10, b"\0\x04MQTT\x04\x86\0\x3c\0\x05phone" + _WILL + b"\0\x05alice"),
    b"\0" + _packet(0x10, b"\0\x04MQTT\x05\x02\0\x3c\0\0\x05phone"),
    b"\1" + _packet(0x32, b"\0\x1apresence/alice/phone/login\0\x01{}") + b"\xe0\0",
    b"\1" + _packet(0x30, b"\0\x0cstatus/alicex") + b"\xc0\0",
    b"\1" + _packet(0x34, b"\0\x1apresence/alice/phone/login\0\x01{}") + b"\x62\x02\0\x01",
    b"\1" + _packet(0x82, b"\0\x01\0\x08status/+\x01\0\x01#\0") + _packet(0xA2, b"\0\x02\0\x08status/+"),
    b"\1\x40\x02\0\x01",
    b"\1\x30\xff\xff\xff\xff\x01",
)
def broker_connection(data: bytes) -> None:
    """For any bytes from a client no error is raised, only its own topics are routed, and answers are packets."""
    logged_in = bool(data) and data[0] % 2 == 1
    transport = _MemoryTransport([*((_CONNECT,) if logged_in else ()), data[1:]])
    routed = _LOOP.run_until_complete(_serve(transport))
    names = [n for n in routed if n.startswith("presence/")]
    assert routed == names
    for name in names:
        prefix, _user, _client, verb = name.split("/")
        assert (prefix, verb in VERBS) == ("presence", True)
        if logged_in:
            assert name.startswith("presence/alice/phone/")
    _LOOP.run_until_complete(_check_packets(b"".join(transport.sent)))


_LOOP = asyncio.new_event_loop()


class _MemoryTransport:
    address = "127.0.0.1"

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = [chunk for chunk in chunks if chunk]
        self.sent: list[bytes] = []

    async def receive(self) -> bytes:
        return self._chunks.pop(0) if self._chunks else b""

    async def send(self, data: bytes) -> None:
        self.sent.append(data)

    async def close(self) -> None:
        pass

    def abort(self) -> None:
        self._chunks.clear()


async def _serve(transport: _MemoryTransport) -> list[str]:
    """Serve one client while the bridge is absent; return the topics of the bridge's messages."""
    router = Router(EmbeddedConfig(bridge_password="x"), None)
    bridge, _ = router.open("bridge", "b", router.rights_of("bridge", "b"), clean=False)
    for wanted in ("presence/#", "status/#"):
        router.subscribe(bridge, wanted, 1)
    await ClientConnection(router, transport).run()
    router.admission.close()
    for session in router.sessions.values():
        if session.expiry is not None:
            session.expiry.cancel()
    return [delivery.message.topic for delivery in bridge.queue.deliveries]


async def _check_packets(data: bytes) -> None:
    """Read the packets with another library; a broker may send each of them."""
    reader = BufferReader(data)
    while (header := await MQTTFixedHeader.from_stream(reader)) is not None:
        assert header.packet_type in (2, 4, 5, 7, 9, 11, 13), data
        assert len(await reader.read(header.remaining_length)) == header.remaining_length, data


@target(
    b"\x01" + _CONNECT + b"\xc0\0",
    b"\x03\x30\x80\x80\x01" + b"x" * 20,
    b"\x02\x30\xff\xff\xff\xff\x01",
    b"\x05\x30\xff\xff\xff\x7f\xc0\0",
)
def packet_stream(data: bytes) -> None:
    """Another library finds the same packets in a stream, in chunks of any size."""
    size, stream = (data[0] or 1, data[1:]) if data else (1, b"")
    framer, found = Framer(), []
    with suppress(ProtocolError):
        for start in range(0, len(stream), size):
            found += framer.feed(stream[start : start + size])
    assert found == _LOOP.run_until_complete(_packets_by_amqtt(stream))


async def _packets_by_amqtt(stream: bytes) -> list[tuple[int, int, bytes]]:
    reader, found = BufferReader(stream), []
    with suppress(MQTTError):
        while (header := await MQTTFixedHeader.from_stream(reader)) is not None:
            body = await reader.read(header.remaining_length)
            if len(body) < header.remaining_length:
                break
            found.append((header.packet_type, header.flags, bytes(body)))
    return found


# What brokers say of their connections.

_LINES = {
    "2.0": ("New client connected from {a}:5555 as {c} (p2, c1, k60, u'{u}').", "Client {c} disconnected."),
    "2.1": (
        "New client connected from {a}:5555 as {c} (p4, c1, k60, u'{u}').",
        "Client {c} [{a}:5555] disconnected: exceeded timeout.",
    ),
}


@target(
    b"alice\nphone",
    b"bob\nal9 (p2, c1, k60, u'bob').",
    b"u\nx [1.2.3.4:5] disconnected.",
    b"a\nb as c",
    b"u'), u'v\nNew client connected from 1.2.3.4:5 as x",
)
def log_line(data: bytes) -> None:
    """No choice of names makes a log line concern another client or user."""
    user, _, client = data.decode(errors="replace").partition("\n")
    for dialect, lines in _LINES.items():
        source = MosquittoLog()
        source.dialect = dialect
        for line in lines:
            said = line.format(a="192.0.2.7", c=client, u=user)
            told = source.read(NOTICES, f"1795575219: {said}".encode())
            if isinstance(told, Connected):
                assert (told.client_id, told.user_id, told.address) == (client, user, "192.0.2.7")
            elif isinstance(told, Ended):
                assert told.client_id == client
                assert told.user_id in (None, user)
            elif is_name(client) and is_name(user) and f"{client}{user}".isalnum():
                raise AssertionError("a plain line is understood")


# All lines of mosquitto in which a client's words appear, and a stranger can have printed for any id.
_LINES_OF_CLIENTS = (
    "New client connected from {a}:5555 as {c} (p2, c1, k60, u'{u}').",
    "New client connected from {a}:5555 as {c} (p2, c1, k60).",
    "Client {c} disconnected.",
    "Client {c} closed its connection.",
    "Client {c} has exceeded timeout, disconnecting.",
    "Client {c} been disconnected by administrative action.",
    "Client {c} disconnected, not authorised.",
    "Client {c} disconnected due to protocol error.",
    "Client {c} [{a}:5555] disconnected: exceeded timeout.",
    "Client {c} [{a}:5555] disconnected: session taken over.",
    "Client {c} [{a}:5555] disconnected: not authorised.",
    "Client {c} negotiated TLSv1.3 cipher TLS_AES_256_GCM_SHA384",
    "Bad socket read/write on client {c}: Invalid arguments provided.",
    "Outgoing messages are being dropped for client {c}.",
    "New bridge connected from {a}:5555 as {c} (p2, c1, k60, u'{u}').",
    "Denied PUBLISH from {c} (d0, q0, r0, m0, '{u}', ... (0 bytes))",
)
_VICTIM = "New client connected from 192.0.2.1:5555 as phone (p2, c1, k60, u'alice')."


@target(
    b"alice\nphone",
    b"mallory\nphone (p2, c1, k60, u'alice').",
    b"x') (p2, c1, k60, u'alice\nphone",
    b"mallory\nphone [192.0.2.1:5555]",
    b"mallory\nx: New client connected from 192.0.2.9:1 as phone (p2, c1, k60, u'alice",
    b"u\nNew client connected from 192.0.2.9:5 as bob (p2, c1, k60",
)
def implicit_line(data: bytes) -> None:
    """Where connects count by themselves, no names of one client open or end anything for another one."""
    user, _, client = data.decode(errors="replace").partition("\n")
    if client == "phone":
        return  # with the id itself, it takes the connection over
    for mode in (USERNAME, CLIENT_ID):
        for dialect in ("2.0", "2.1", None):
            source = BrokerConnections(None, "mosquitto", identity=ImplicitIdentity(mode))  # type: ignore[arg-type]
            source.dialect.stored = dialect
            source._source.dialect = dialect  # type: ignore[union-attr]
            read(source, NOTICES, _VICTIM)
            victim = source.current(ClientId("phone"))
            assert victim is not None
            for line in (one for one in _LINES_OF_CLIENTS if _is_of_dialect(one, dialect)):
                for topic_of_log in (NOTICES, ERRORS):
                    for event in read(source, topic_of_log, line.format(a="192.0.2.7", c=client, u=user)):
                        assert event.client_id == client
                        assert event.user_id in {user, client}
            taken = f"Client {client} already connected, closing old connection."
            assert all(event.client_id == client for event in read(source, ERRORS, taken))
            assert source.current(ClientId("phone")) == victim
            known = set(source._table.current)
            assert known <= {"phone", client}, known
            if client in known:
                found = source._table.current[ClientId(client)]
                assert found.user_id in {user, None}
                counted = source.identity.user_of(found, ClientId(client))  # type: ignore[union-attr]
                assert counted in {None, user if mode == USERNAME else client}


def _is_of_dialect(line: str, dialect: str | None) -> bool:
    """Return whether a version writes such a line: only 2.1 has the address in the line of an end."""
    is_end = line.startswith("Client {c}") and "TLS" not in line
    return dialect is None or not is_end or ("[" in line) == (dialect == "2.1")


def read(source: BrokerConnections, topic_of_log: str, line: str) -> list[BrokerReport]:
    """Have a line read as mosquitto prints it, cut at the end of its buffer."""
    payload = f"1795575219: {line}".encode()[:999]
    return list(source.read(Incoming(topic_of_log, payload, 0, False, False, 0, 1), NOW))


_EVENTS = ("$SYS/brokers/x/clients/a/connected", "$SYS/brokers/x/clients/a/disconnected")


@target(
    b"New client connected from 1.2.3.4:5 as a (p2, c1, k60, u'b').",
    b'{"clientid":"a","username":"b","connected_at":5,"ipaddress":"1.2.3.4"}',
    b'{"clientid":"a","username":"b","connected_at":5,"reason":"tcp_closed"}',
    b"mosquitto version 2.0.11",
)
def source_message(data: bytes) -> None:
    """No message raises an error, on any topic and in any dialect, and its names are valid."""
    for make in (MosquittoLog, EmqxEvents, NanomqEvents):
        for dialect in (None, "2.0", "2.1"):
            for name in (NOTICES, ERRORS, VERSION, *make().filters, *_EVENTS):
                source = make()
                source.dialect = dialect
                told = source.read(name, data)
                assert told is None or is_name(told.client_id)
                assert told is None or told.user_id is None or is_name(told.user_id)


# The page.


@target(
    b"limit=5&after=YWxpY2U&before=1.2&from=2026-11-25T00:00:00Z&q=x",
    b"after=3.YWxpY2U",
    b"after=1.2&after=1.2",
)
def page_parameters(data: bytes) -> None:
    """A query is read or refused, and an accepted cursor is one that a page has written."""
    given = dict(parse_qsl(data.decode(errors="replace"), keep_blank_values=True))
    for kind in (UsersQuery, ConnectionsQuery):
        try:
            kind.model_validate(given)
        except ValidationError as error:
            wrong: Any = RequestValidationError([e | {"loc": ("query", *e["loc"])} for e in error.errors()])
            assert explain(wrong, ("after",))
    for read, write in (
        (cursors.after_name, cursors.name_cursor),
        (cursors.after_client, lambda found: cursors.client_cursor(*found)),
        (cursors.after_pair, lambda found: cursors.pair_cursor(*found)),
    ):
        for text in given.values():
            try:
                found = read("after", text)
            except ParameterError as error:
                assert str(error).isprintable()
                continue
            assert found == read("after", write(found))


@target(b"Bearer 0123456789abcdef", b"Basic YWxpY2U6cmlnaHQ=", b"basic  YWxpY2U6", b"Bearer ", b"Basic \xff")
def page_authorization(data: bytes) -> None:
    """Only the token itself makes a visitor from another machine an operator."""
    token = "0123456789abcdef"
    config = WebConfig("sqlite:///x.db", open=False, operators=frozenset({"alice"}), tokens=(Token(token),))
    header = data.decode("latin-1")
    judged = judge(config, Requester("192.0.2.7", "1.1", {"host": "127.0.0.1:8080", "authorization": header}))
    if judged is AccessDecision.OPERATOR:
        scheme, _, shown = header.partition(" ")
        assert (scheme.lower(), shown.strip()) == ("bearer", token)


@target(
    b"http://127.0.0.1:8080", b"https://presence.example", b"null", b"http://[", b"http://127.0.0.1:8080@evil"
)
def page_origin(data: bytes) -> None:
    """A page is accepted from the server's own origin or a configured one, and from no similar origin."""
    origin = data.decode("latin-1")
    config = WebConfig(
        "sqlite:///x.db", open=True, origins=frozenset({"https://presence.example"}), insecure=True
    )
    refused = refuse_origin(config, "127.0.0.1:8080", origin)
    ours = {"http://127.0.0.1:8080", "https://127.0.0.1:8080", "https://presence.example"}
    assert (refused is None) == (origin.lower() in ours)


@target(b"127.0.0.1:8080", b"localhost", b"[::1]:8080", b"[", b"evil.example", b"127.0.0.1:x", b"a@127.0.0.1")
def page_host(data: bytes) -> None:
    """Any Host header is read without an error, and a visitor from another machine is never local."""
    host = data.decode("latin-1")
    config = WebConfig("sqlite:///x.db", open=True)
    assert (refuse_host(config, host) is None) <= is_host(host)
    assert judge(config, Requester("192.0.2.7", "1.1", {"host": host})) is AccessDecision.FORBIDDEN
    verdict = judge(config, Requester("127.0.0.1", "1.1", {"host": host}))
    assert verdict is AccessDecision.FORBIDDEN or not host.isalpha() or host.lower() == "localhost"
